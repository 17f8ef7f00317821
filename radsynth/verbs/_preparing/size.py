"""The size that all images are brought to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from radsynth.errors import SettingsError
from radsynth.io._geometry import even_size
from radsynth.verbs._preparing.patches import LARGEST

Size = tuple[int, ...]
Spacing = tuple[float, ...] | None


def size_of(asked: Size | None, fit: str, sizes: Sequence[Size], spacings: Sequence[Spacing] = ()) -> Size:
    """The size that images of these sizes and spacings (mm) get, as asked or automatic; SettingsError where dimensions
    do not agree."""
    dimensions = len(sizes[0])
    # Patches are of the images' own pixels, which the others are not where these are longer one way.
    size = asked or automatic_size(sizes, () if fit == "patches" else spacings)
    if fit == "patches" and asked is None:
        size = tuple(min(side, LARGEST[len(size)]) for side in size)
    if len(size) != dimensions:
        raise SettingsError(f"prepare.size={list(size)} has {len(size)} numbers, but the data is {dimensions}-D"
                            f"{' (data.plane=volume keeps volumes whole)' if len(size) == 3 else ''}.")
    return size


def automatic_size(sizes: Sequence[Size], spacings: Sequence[Spacing] = ()) -> Size:
    """The median of each side, of squares or cubes as fine as the finest side's pixels, rounded up to a multiple of 16
    (up to 48: of 8): the median image is only padded."""
    known = [spacing for spacing in spacings if spacing and len(spacing) == len(sizes[0])]
    steps = tuple(median(step) for step in zip(*known, strict=True)) if known else None
    sides = even_size(tuple(math.ceil(median(side)) for side in zip(*sizes, strict=True)), steps)
    return tuple(max(8, (step := 16 if side > 48 else 8) * math.ceil(side / step)) for side in sides)
