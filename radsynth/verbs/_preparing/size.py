"""The size that all images are brought to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from radsynth.errors import SettingsError
from radsynth.verbs._preparing.patches import LARGEST


def size_of(asked: tuple[int, ...] | None, fit: str, sizes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The size that images of these sizes get, as asked or automatic; SettingsError where dimensions do not agree."""
    size, dimensions = asked or automatic_size(sizes), len(sizes[0])
    if fit == "patches" and asked is None:
        size = tuple(min(side, LARGEST[len(size)]) for side in size)
    if len(size) != dimensions:
        raise SettingsError(f"prepare.size={list(size)} has {len(size)} numbers, but the data is {dimensions}-D"
                            f"{' (data.plane=volume keeps volumes whole)' if len(size) == 3 else ''}.")
    return size


def automatic_size(sizes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The median of each side, rounded up to a multiple of 16 (up to 48: of 8): the median image is only padded."""
    sides = [median(side) for side in zip(*sizes, strict=True)]
    return tuple(max(8, (step := 16 if side > 48 else 8) * math.ceil(side / step)) for side in sides)
