"""PNG and JPEG as Pillow opens them: what is refused, and the pixels of the rest (decoded in the child).

Pillow keeps 8 of the 16 bits of colour PNG: it is asked twice, for the high and for the low bytes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from radsynth.errors import RejectedFile
from radsynth.io._limits import check_file, check_size, unusable

GREY_MODES = {"L": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32, "F": 32}
REFUSED = {
    "1": "it has one bit a pixel: such a picture is read as a mask only",
    "P": "it has a palette: its numbers are names of colours. Save it as grey or RGB",
    "PA": "it has a palette and transparency. Save it as grey or RGB",
    "CMYK": "its colours are for printing (CMYK). Save it as RGB",
}
OPAQUE = ("LA", "RGBA")
"""Modes with a transparency channel, which has one reading where it hides nothing, as many programs write it."""
DEPTH = 24
"""The byte of a PNG that holds its bits a sample."""
ORIENTATION = 0x0112
"""The tag of EXIF and TIFF that says how a picture is to be turned."""


def opened(path: Path | str) -> Pillow.Image:
    """The picture before its pixels are decoded, its size checked. RejectedFile for a header that lies."""
    check_file(Path(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, and of damaged EXIF, which Pillow looks at, too
            picture = Pillow.open(path, formats=("PNG", "JPEG"))
    except Pillow.DecompressionBombError:
        raise RejectedFile("its header says more pixels than the limit: it may be a decompression bomb") from None
    except Pillow.UnidentifiedImageError:
        raise RejectedFile("its header is damaged: no PNG or JPEG could be opened") from None
    except Exception as error:
        raise unusable(error, "the picture") from None
    check_size((picture.height, picture.width), channels=len(picture.getbands()), itemsize=4)
    return picture


def check_readable(picture: Pillow.Image) -> None:
    """RejectedFile for every picture that has more than one reading, as far as its header says."""
    if picture.mode in REFUSED:
        raise RejectedFile(REFUSED[picture.mode])
    if picture.mode not in ("RGB", *OPAQUE, *GREY_MODES):
        raise RejectedFile(f"its pixels are of Pillow's mode {picture.mode}; grey and RGB are read")
    if "transparency" in picture.info:
        raise RejectedFile("it marks one value as transparent. Save it without transparency")


def bits(path: Path | str, picture: Pillow.Image) -> int:
    """Bits a sample: 8, 16 or 32. RejectedFile for 16 bits beside transparency, of which Pillow keeps 8."""
    if picture.format == "PNG" and picture.mode in ("RGB", *OPAQUE):
        with open(path, "rb") as file:
            depth = file.read(DEPTH + 1)[DEPTH]
        if depth == 16 and picture.mode in OPAQUE:
            raise RejectedFile("it has 16 bits and a transparency channel. Save it without one")
        return depth
    return GREY_MODES.get(picture.mode, 8)


def orientation(picture: Pillow.Image) -> int:
    """How an opened PNG or JPEG is to be turned, 1 to 8 as in EXIF; 1, as it is, also where its EXIF is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if picture.format == "JPEG":
                exif = picture.getexif()
            else:  # of which Pillow would decode the pixels first
                exif = Pillow.Exif()
                exif.load(picture.info.get("exif") or b"")
            found = exif.get(ORIENTATION, 1)
    except Exception:  # of many kinds, of text that anybody may have written
        return 1
    return found if found in range(1, 9) else 1


def upright(values: NDArray[Any], orientation: int, rows: int = 0) -> NDArray[Any]:
    """Pixels turned as viewers show them. orientation: as in EXIF; rows: the axis of rows, before that of columns."""
    if orientation >= 5:
        values = values.swapaxes(rows, rows + 1)
    if orientation in (3, 4, 7, 8):
        values = np.flip(values, rows)
    return np.flip(values, rows + 1) if orientation in (2, 3, 6, 7) else values


def pixels(path: Path | str, *, mask: bool = False) -> NDArray[Any]:
    """(rows, columns[, 3]) as stored, turned as EXIF says; the palette's numbers and single bits of a `mask`, too."""
    with opened(path) as picture:
        if not mask:
            check_readable(picture)
        turn = orientation(picture)
        if not mask and bits(path, picture) == 16 and picture.mode == "RGB":
            return upright(_deep_colour(path), turn)
        plain = not mask or picture.mode in ("1", "L", "P", *GREY_MODES)
        values = upright(np.array(picture if plain else picture.convert("RGB")), turn)
        return values if mask or picture.mode not in OPAQUE else _without_transparency(values)


def _without_transparency(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, columns, 2 or 4) without the last channel; RejectedFile where that hides something."""
    if (values[..., -1] != 255).any():
        raise RejectedFile("its transparency channel hides some of its pixels. Save it without one")
    return values[..., 0] if values.shape[-1] == 2 else values[..., :3]


def _deep_colour(path: Path | str) -> NDArray[np.uint16]:
    """(rows, columns, 3) of a 16-bit colour PNG."""
    halves = []
    for order in ("RGB;16B", "RGB;16L"):  # PNG is big-endian: read as little-endian, the low byte is what is kept
        with opened(path) as picture:
            picture.tile = [tile._replace(args=order) for tile in picture.tile]  # type: ignore[attr-defined]
            halves.append(np.array(picture, dtype=np.uint16))
    return np.asarray(halves[0] << 8 | halves[1], dtype=np.uint16)
