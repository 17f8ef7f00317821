"""How much of what two images show lies at the same place before they are registered: a warp moves nothing far."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.verbs._applying.placing import Placing

FOREGROUND = 0.1
"""Of its intensity range, a pixel that is brighter shows something."""
ENDS = 0.01
"""Share of the foreground that lies outside of its box at either end of each axis: noise, a table."""
HARDLY = 0.5
"""Share of the smaller box below which images are flagged. Of images of one kind, middle on middle, fewer than one pair
in a hundred has less (hippocampus, hearts, virtual brains, six kinds of MedNIST), blank images left aside."""

Box = NDArray[np.float64]


def box(channels: NDArray[Any], ranges: NDArray[np.float64]) -> Box | None:
    """(2, d) lowest and highest edge, in pixels, of what an image (c, *space) shows in any channel; None: nothing.

    ranges: (c, 2) of the channels
    """
    seen = np.zeros(channels.shape[1:], bool)
    for channel, (low, high) in zip(channels, ranges.tolist(), strict=True):
        seen |= channel > low + FOREGROUND * (high - low)
    if not seen.any():
        return None
    edges = []
    for axis in range(seen.ndim):
        below = np.cumsum(seen.sum(tuple(other for other in range(seen.ndim) if other != axis)))
        first, last = np.searchsorted(below, [ENDS * below[-1], (1 - ENDS) * below[-1]])
        edges.append((first - 0.5, last + 0.5))
    return np.array(edges).T


def overlap(moving: Box | None, fixed: Box | None, placing: Placing) -> float:
    """Share of the smaller box that lies in the other one as the images are placed; 0 where one shows nothing."""
    if moving is None or fixed is None:
        return 0.0
    corners = np.array(list(product(*fixed.T))).T
    there = placing.matrix @ corners + placing.offset[:, None]
    placed = np.stack([there.min(1), there.max(1)])
    both = (np.minimum(moving[1], placed[1]) - np.maximum(moving[0], placed[0])).clip(0)
    smaller = min(math.prod(one[1] - one[0]) for one in (moving, placed))
    return float(math.prod(both) / smaller)
