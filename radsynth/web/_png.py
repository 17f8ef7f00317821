"""PNG files for the pages. Those of a study are alike in everything but the image: size, depth, length in bytes."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from radsynth.image import ImageSpec
from radsynth.verbs._grid import apart, shades
from radsynth.verbs._report.pictures import flat

SIDE = 512
"""Images are enlarged here, not by the browser, so that every reader sees the same: longest side in pixels, about."""
WIDE = 672
"""The same of several slices or channels in a row: as wide as the readers' page."""
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def picture(image: NDArray[np.float32], side: int = SIDE, ends: tuple[float, float] = (-1.0, 1.0), *,
            spacing: Sequence[float] | None = None, smooth: bool = True, colour: bool = True,
            text: Mapping[str, str] | None = None) -> bytes:
    """One image (c, *space), black to white at `ends`, as PNG, enlarged by a whole factor with Lanczos' kernel.

    spacing: of a volume, as in `flat`; colour: three channels are one
    smooth: False repeats pixels instead, for masks; text: entries of the file, never for one of a study
    """
    return enlarged(flat(shades(image, ends), spacing, smooth=smooth, colour=colour), side, smooth=smooth, text=text)


def enlarged(shown: NDArray[np.uint8], side: int, *, smooth: bool = True, text: Mapping[str, str] | None = None,
             ) -> bytes:
    """Display values (rows, columns[, 3]) as PNG; the rest as of `picture`."""
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    found = Pillow.fromarray(shown)
    factor = max(1, side // max(found.size))
    if factor > 1:
        kernel = Pillow.Resampling.LANCZOS if smooth else Pillow.Resampling.NEAREST
        found = found.resize((found.width * factor, found.height * factor), kernel)
    buffer = io.BytesIO()
    entries = PngInfo()
    for key, value in (text or {}).items():
        entries.add_text(key, value)
    found.save(buffer, format="PNG", pnginfo=entries)
    return buffer.getvalue()


def layout(spec: ImageSpec) -> str:
    """What stands in one picture, in words, where it is not one grey or coloured image; "" where it is."""
    return apart(spec.dimensions, spec.channels)


def of_equal_length(files: list[bytes]) -> list[bytes]:
    """The same images with a chunk of zeros before the end, so that the length in bytes does not tell them apart."""
    assert all(file.endswith(END) for file in files)
    longest = max(map(len, files))
    return [file[:-len(END)] + _chunk(longest - len(file)) + END for file in files]


def _chunk(zeros: int) -> bytes:
    """A chunk that readers of PNG skip (ancillary, private)."""
    data = b"raDp" + b"\x00" * zeros
    return zeros.to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
