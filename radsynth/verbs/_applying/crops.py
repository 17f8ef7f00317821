"""Images larger than those that a run has learned from, checked crop by crop, because what is usual was measured so.

A finding is a small part of a large image: of all its pixels together no percentile would tell that it got lost.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from radsynth.verbs._applying.doubts import MEAN, Doubts
from radsynth.verbs._preparing.patches import FLAT, grid

Images = NDArray[np.float32]


def by_crops(images: Images, frame: tuple[int, ...], measure: Callable[[Images], Doubts]) -> Doubts:
    """Numbers (n,) of images (n, c, *space), which are no smaller than `frame`, by those of their crops.

    measure: the numbers (k,) of the crops (k, c, *frame) of one image
    """
    found = [of_image(measure(crops_of(image, frame))) for image in images]
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def crops_of(image: Images, frame: tuple[int, ...]) -> Images:
    """(k, c, *frame) of (c, *space): where `prepare` cuts them, without those that show nothing (of an image that shows
    nothing anywhere, all)."""
    corners = grid(image.shape[1:], frame)
    every = np.stack([image[(slice(None), *(slice(a, a + side) for a, side in zip(corner, frame, strict=True)))]
                      for corner in corners])
    spans = np.ptp(every.reshape(len(every), -1), axis=1)
    shows = spans >= FLAT * np.ptp(image)
    return every[shows] if shows.any() else every


def of_image(crops: Doubts) -> dict[str, float]:
    """One image's numbers by those (k,) of its crops: the largest, because damage is in one place; of MEAN the mean."""
    def one(name: str, values: NDArray[np.float64]) -> float:
        known = values[np.isfinite(values)]
        if not len(known):
            return np.nan
        return float(known.mean() if name == MEAN else known.max())

    return {name: one(name, values) for name, values in crops.items()}
