"""TIFF: grey or RGB, 8, 16 or 32 bits, one image or one stack of pages, turned as its tag says.

Its pixels are decoded in the child.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from radsynth.errors import CannotHold, RejectedFile
from radsynth.image import Image, bits_of
from radsynth.io import Provenance
from radsynth.io._decoding import decode
from radsynth.io._limits import check_size, unusable
from radsynth.io._pillow import GREY_MODES, ORIENTATION, upright
from radsynth.io._synthetic import as_whole_numbers, mark, store, write_whole

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PLAIN = ("NONE", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS")
"""Compressions for which tifffile needs no further library; Pillow decodes the others (LZW, JPEG)."""


def describe(path: Path) -> tuple[tuple[int, ...], int, np.dtype[Any], str, bool]:
    """(size, channels, dtype, description, is white zero?) from the headers of all pages."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages.first
            return (*_layout(file), page.description, page.photometric.name == "MINISWHITE")
    except Exception as error:
        raise unusable(error, "the TIFF") from None


def _layout(file: Any) -> tuple[tuple[int, ...], int, np.dtype[Any]]:
    """(size once turned, channels, dtype) of the only series of a TIFF, checked against the limits."""
    page = file.pages.first
    check_size((page.imagelength, page.imagewidth), channels=page.samplesperpixel, itemsize=8)
    series = file.series[0]
    axes, shape = series.axes, tuple(series.shape)
    if len(file.series) > 1:
        raise RejectedFile(
            f"its {len(file.series)} groups of pages differ in size or kind; one image or one stack is read"
        )
    channels = shape[-1] if axes.endswith("S") else 1
    size = shape[:-1] if axes.endswith("S") else shape
    if len(axes.removesuffix("S")) not in (2, 3) or "YX" not in axes or channels not in (1, 3) or axes[0] == "S":
        raise RejectedFile(f"its axes are {axes} with sizes {shape}; (pages,) rows, columns (, 3 colours) are read")
    if page.photometric.name not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR") or page.extrasamples:
        raise RejectedFile(f"its colours are {page.photometric.name} or it has transparency; grey and RGB are read")
    if series.dtype is None or series.dtype.kind not in "uif" or page.bitspersample not in (8, 16, 32, 64):
        raise RejectedFile(f"its pixels are {page.bitspersample}-bit {series.dtype}; 8, 16 and 32 bits are read")
    check_size(size, channels=channels, itemsize=series.dtype.itemsize)
    if _orientation(page) >= 5:
        size = (*size[:-2], size[-1], size[-2])
    return size, channels, series.dtype


def _orientation(page: Any) -> int:
    """How a page is to be turned, 1 to 8; 1, as it is, where its tag says nothing of the standard's."""
    found = page.tags.valueof(ORIENTATION, 1)
    return int(found) if found in range(1, 9) else 1


def pixels(path: Path) -> tuple[NDArray[Any], str, int]:
    """((1 or 3, [pages,] rows, columns) with more for brighter, description, bits)."""
    size, channels, dtype, description, white_is_zero = describe(path)
    values, _ = decode("tiff", path)
    try:
        values = values.reshape(*size, channels)
    except ValueError:
        raise RejectedFile(f"its pixels have the shape {values.shape}, its header says {size}") from None
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    values = values.astype(np.float32) if values.dtype.kind == "f" else values
    if white_is_zero:
        values = np.iinfo(values.dtype).max - values if values.dtype.kind == "u" else -values
    return np.moveaxis(values, -1, 0), description, bits_of(dtype)


def pages(path: str) -> NDArray[Any]:
    """All pages as stored but for their turn, in the child."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        _layout(file)
        first: Any = file.pages.first
        if first.compression.name in PLAIN:
            values = np.asarray(file.series[0].asarray(maxworkers=1))
            return upright(values, _orientation(first), rows=file.series[0].axes.index("Y"))
        inverted = first.photometric.name == "MINISWHITE" and first.bitspersample == 8  # by Pillow itself
        dtype = file.series[0].dtype
    with Pillow.open(path, formats=("TIFF",)) as picture:
        found = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            check_size((picture.height, picture.width), channels=len(picture.getbands()), itemsize=4)
            if picture.mode != "RGB" and picture.mode not in GREY_MODES:
                raise RejectedFile(f"its pixels are of Pillow's mode {picture.mode}; grey and RGB are read")
            values = np.array(picture)  # which Pillow has turned
            found.append(255 - values if inverted else values)
    values = np.stack(found)
    if values.itemsize < dtype.itemsize:
        raise RejectedFile(f"it is compressed by {first.compression.name}, in which only 8 of its "
                           f"{8 * dtype.itemsize} bits of colour are read. Save it without compression, or by deflate")
    return values


def write(image: Image, path: Path, provenance: Provenance) -> list[Path]:
    """One page a slice, marked in the image description. DataError for other than one or three channels."""
    import tifffile

    if len(image.pixels) not in (1, 3):
        raise CannotHold(f"{path.name}: TIFF is written with one or three channels, not {len(image.pixels)}. Choose "
                        "NIfTI or NPZ")
    stored = as_whole_numbers(store(image, floats=True), signed=image.pixels.dtype.kind == "i")
    values = stored.values[0] if len(stored.values) == 1 else np.moveaxis(stored.values, 0, -1)
    colours = "minisblack" if len(stored.values) == 1 else "rgb"
    text = mark(image, provenance, stored)
    return write_whole(
        path,
        lambda temporary: tifffile.imwrite(
            temporary,
            np.ascontiguousarray(values),
            photometric=colours,
            description=text,
            metadata=None,
            software="radsynth",
            compression="zlib",
        ),
    )
