"""PNG, JPEG and TIFF, grey or RGB, 8 or 16 bits (TIFF also floating point and stacks of pages, which are volumes).

Transparency that hides something, palettes and CMYK are rejected: each has more than one reading. Masks may use
palettes.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo, putchunk

from radsynth.errors import CannotHold, DataError, RejectedFile
from radsynth.image import GREY, RGB, Image, bits_of
from radsynth.io import Header, Provenance, _tiff, check_labels
from radsynth.io._decoding import decode
from radsynth.io._limits import check_file
from radsynth.io._not_finite import without_nan
from radsynth.io._pillow import bits, check_readable, opened, orientation
from radsynth.io._synthetic import KEY, Marked, mark, parse_mark, store, texts, write_whole

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def sniff(path: Path, head: bytes) -> bool:
    """The content begins as PNG, JPEG or TIFF do."""
    return head.startswith(PNG) or head.startswith(JPEG) or head[:4] in _tiff.MAGIC


def header(path: Path) -> Header:
    """Size, depth and channels; spacing and modality only where radsynth wrote the file."""
    if _is_tiff(path):
        size, channels, dtype, description, _ = _tiff.describe(path)
        return _header(size, channels, bits_of(dtype), parse_mark(description))
    with opened(path) as picture:
        check_readable(picture)
        size = (picture.height, picture.width)
        if orientation(picture) >= 5:
            size = size[::-1]
        channels = 3 if picture.mode in ("RGB", "RGBA") else 1
        return _header(size, channels, bits(path, picture), parse_mark(picture.info.get(KEY)))


def _header(size: tuple[int, ...], channels: int, bits: int, marked: Marked | None) -> Header:
    if marked is None:
        return Header(format="picture", size=size, channels=channels, bits=bits)
    return marked.header("picture", size, channels)


def read(path: Path, frame: int = 0) -> Image:
    """Pixels as stored, (1 or 3, rows, columns) or (1 or 3, pages, rows, columns)."""
    assert frame == 0
    found, marked, depth = _pixels(path)
    pixels, filled = without_nan(found)
    if marked is None:
        return Image(pixels=pixels, bits=depth, channels=GREY if len(pixels) == 1 else RGB, filled=filled)
    return Image(
        pixels=marked.real(pixels),
        modality=marked.modality,
        units=marked.units,
        bits=marked.bits,
        spacing=marked.spacing if len(marked.spacing or ()) == pixels.ndim - 1 else None,
        affine=marked.affine,
        channels=marked.channels if len(marked.channels) == len(pixels) else (GREY if len(pixels) == 1 else RGB),
    )


def _pixels(path: Path) -> tuple[NDArray[Any], Marked | None, int]:
    if _is_tiff(path):
        pixels, description, depth = _tiff.pixels(path)
        return pixels, parse_mark(description), depth
    with opened(path) as picture:
        check_readable(picture)
        depth, marked = bits(path, picture), parse_mark(picture.info.get(KEY))
    values, _ = decode("picture", path, mask=False)
    return (values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)), marked, depth


def read_mask(path: Path) -> Image:
    """Label values (1, *space): numbers or palette indices as stored; of 0 and 255 alone, or of a JPEG, 0 and 1."""
    if _is_tiff(path):
        values = without_nan(_tiff.pixels(path)[0][:1])[0][0]
    else:
        values, _ = decode("picture", path, mask=True)
        if values.ndim == 3:
            if (values != values[..., :1]).any():
                raise RejectedFile("the mask has colours: it must hold one label number a pixel")
            values = values[..., 0]
        with open(path, "rb") as file:
            values = values > 127 if file.read(len(JPEG)) == JPEG else values
    if values.dtype != bool and set(np.unique(values).tolist()) <= {0, 255}:
        values = values > 0
    check_labels(values)
    return Image(pixels=values.astype(np.uint8)[None])


def write(image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
    """PNG with text entries, or TIFF (one page a slice) with an image description, by the path's ending.

    DataError for a volume as PNG, for other than one or three channels, and for JPEG, which would change the values.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending in (".tif", ".tiff"):
        return _tiff.write(image, path, provenance)
    if ending != ".png":
        raise DataError(f"{path.name}: pictures are written as .png or .tiff (JPEG would change the values)")
    if image.pixels.ndim != 3:
        raise CannotHold(f"{path.name}: PNG holds single images. Choose TIFF, NIfTI, DICOM or NPZ")
    if len(image.pixels) not in (1, 3):
        raise CannotHold(f"{path.name}: PNG holds one or three channels, not {len(image.pixels)}. Choose NIfTI or NPZ")
    stored = store(image, span=provenance.span)
    text = PngInfo()
    for key, value in {**texts(provenance), KEY: mark(image, provenance, stored)}.items():
        text.add_text(key, value)
    values = np.ascontiguousarray(stored.values[0] if len(stored.values) == 1 else np.moveaxis(stored.values, 0, -1))
    if values.ndim == 3 and values.dtype == np.uint16:
        return write_whole(path, lambda temporary: _write_deep_colour(values, temporary, text))
    picture = Pillow.fromarray(values)
    return write_whole(path, lambda temporary: picture.save(temporary, format="PNG", pnginfo=text))


def _write_deep_colour(values: NDArray[np.uint16], path: Path, text: PngInfo) -> None:
    """(rows, columns, 3) as 16-bit colour PNG, which Pillow does not write. Each row is the step from the one above."""
    rows = values.astype(">u2").view(np.uint8).reshape(len(values), -1)
    steps = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    filtered = np.insert(steps, 0, 2, axis=1)  # filter type 2: up
    with open(path, "wb") as file:
        file.write(PNG)
        putchunk(file, b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0))
        for kind, content, *_ in text.chunks:
            putchunk(file, kind, content)
        putchunk(file, b"IDAT", zlib.compress(filtered.tobytes()))
        putchunk(file, b"IEND")


def example(folder: Path) -> list[Path]:
    """An 8-bit PNG, a 16-bit PNG, an RGB PNG, a JPEG and a TIFF stack, as other programs write them."""
    import tifffile

    ramp = np.arange(20 * 24).reshape(20, 24)
    pictures = {
        "grey.png": Pillow.fromarray((ramp % 256).astype(np.uint8)),
        "deep.png": Pillow.fromarray((ramp * 100).astype(np.uint16)),
        "colour.png": Pillow.fromarray(np.stack([ramp % 256, ramp % 7, ramp % 100], axis=-1).astype(np.uint8)),
        "grey.jpg": Pillow.fromarray((ramp % 256).astype(np.uint8)),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    tifffile.imwrite(
        folder / "stack.tiff", np.stack([ramp, ramp + 1, ramp + 2]).astype(np.uint16), photometric="minisblack"
    )
    return [*(folder / name for name in pictures), folder / "stack.tiff"]


def _is_tiff(path: Path) -> bool:
    check_file(path)
    with open(path, "rb") as file:
        return file.read(4) in _tiff.MAGIC
