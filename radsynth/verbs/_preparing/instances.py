"""Masks in which every thing has its own number, as classes: inside and border (Wang et al. 2018, boundary maps)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INSIDE, BORDER = 1, 2


def inside_and_border(numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(*space) numbers of things, 0 for none: INSIDE of a thing, BORDER where a neighbour along an axis is of another
    thing or of none. The image's own edge is no border."""
    from skimage.segmentation import find_boundaries

    borders = find_boundaries(numbers, connectivity=1, mode="inner")
    return np.where(numbers == 0, 0, np.where(borders, BORDER, INSIDE)).astype(np.uint8)
