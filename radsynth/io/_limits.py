"""What an untrusted file may cost: checked against its header before anything is allocated."""

from __future__ import annotations

import math
from pathlib import Path

from radsynth.errors import RejectedFile

MAX_PIXELS = 80_000_000
"""Pixels of one picture or slice; the largest mammograms have 30 million. Below Pillow's own warning at 89 million."""

MAX_VOXELS = 600_000_000
"""Voxels of one volume: 512 x 512 x 2288."""

MAX_BYTES = 4 * 2**30
"""Bytes of one decoded image, and of the file that holds it."""

MAX_HEADER = 16 * 2**20
"""Bytes of a header with all its text, pixels apart."""

MAX_FRAMES = 20_000
"""Frames or pages in one file."""

MAX_RATIO = 500
"""Expansion of one compressed entry (deflate ends at 1032; label maps reach 300), asked only above MIN_RATIO_BYTES."""

MIN_RATIO_BYTES = 8 * 2**20


def check_size(size: tuple[int, ...], *, channels: int = 1, itemsize: int = 1, frames: int = 1) -> None:
    """RejectedFile unless an image of this `size` (rows, columns) or (slices, rows, columns) is within the limits."""
    shape = " x ".join(str(n) for n in size)
    if not size or min(size) < 1 or frames < 1:
        raise RejectedFile(f"it has no pixels: its header says {shape or 'nothing'} with {frames} frames")
    if size[-1] * size[-2] > MAX_PIXELS:
        raise RejectedFile(f"its header says {shape} pixels; the limit is {MAX_PIXELS:,} for one picture or slice")
    if math.prod(size) > MAX_VOXELS:
        raise RejectedFile(f"its header says {shape} voxels; the limit is {MAX_VOXELS:,} for one volume")
    if frames > MAX_FRAMES:
        raise RejectedFile(f"its header says {frames:,} frames; the limit is {MAX_FRAMES:,}")
    if math.prod(size) * channels * itemsize > MAX_BYTES:
        raise RejectedFile(f"its header says {shape} with {channels} channels, more than {MAX_BYTES:,} bytes decoded")


def check_file(path: Path) -> int:
    """The file's size in bytes; RejectedFile when it is empty or too large."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RejectedFile(f"it cannot be opened: {error.strerror}") from None
    if size == 0:
        raise RejectedFile("the file is empty (0 bytes)")
    if size > MAX_BYTES:
        raise RejectedFile(f"the file has {size:,} bytes; the limit is {MAX_BYTES:,}")
    return size


def unusable(error: BaseException, what: str) -> RejectedFile:
    """Any failure of a library while it read a file, as one short line."""
    if isinstance(error, RejectedFile):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    return RejectedFile(f"{what} cannot be read: {text[:300]}")
