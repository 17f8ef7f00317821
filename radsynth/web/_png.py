"""PNG files for the pages. Those of a study are alike in everything but the image: size, depth, length in bytes."""

from __future__ import annotations

import io
import zlib

import numpy as np
from numpy.typing import NDArray

from radsynth.verbs._grid import shades
from radsynth.verbs._report.pictures import flat

SIDE = 512
"""Images are enlarged here, not by the browser, so that every reader sees the same: longest side in pixels, about."""
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def picture(image: NDArray[np.float32], side: int = SIDE, ends: tuple[float, float] = (-1.0, 1.0), *,
            smooth: bool = True) -> bytes:
    """One image (c, *space), black to white at `ends`, as PNG, enlarged by a whole factor with Lanczos' kernel.

    smooth: False repeats pixels instead, for masks
    """
    from PIL import Image as Pillow

    found = Pillow.fromarray(flat(shades(image, ends)))
    factor = max(1, side // max(found.size))
    if factor > 1:
        kernel = Pillow.Resampling.LANCZOS if smooth else Pillow.Resampling.NEAREST
        found = found.resize((found.width * factor, found.height * factor), kernel)
    buffer = io.BytesIO()
    found.save(buffer, format="PNG")
    return buffer.getvalue()


def of_equal_length(files: list[bytes]) -> list[bytes]:
    """The same images with a chunk of zeros before the end, so that the length in bytes does not tell them apart."""
    assert all(file.endswith(END) for file in files)
    longest = max(map(len, files))
    return [file[:-len(END)] + _chunk(longest - len(file)) + END for file in files]


def _chunk(zeros: int) -> bytes:
    """A chunk that readers of PNG skip (ancillary, private)."""
    data = b"raDp" + b"\x00" * zeros
    return zeros.to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
