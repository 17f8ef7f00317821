"""Overlap of label maps: Dice (1945) and the 95th percentile of the Hausdorff distance (Huttenlocher et al. 1993).

One number an image and label, by hand so that spacing and empty labels are treated in one way in 2-D and 3-D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.integer[Any]]


# 2 |A and B| / (|A| + |B|)
def dice(results: Labels, truths: Labels, values: Sequence[int]) -> NDArray[np.float64]:
    """(n, values) Dice of label maps (n, *space), 1 for equal ones; NaN where neither map has the label."""
    axes = tuple(range(1, truths.ndim))
    scores = []
    for value in values:
        ours, true = results == value, truths == value
        total = ours.sum(axes) + true.sum(axes)
        both = (ours & true).sum(axes)
        scores.append(np.where(total > 0, 2 * both / np.maximum(total, 1), np.nan))
    return np.asarray(np.stack(scores, axis=1), np.float64)


def hausdorff_95(results: Labels, truths: Labels, values: Sequence[int], spacing: ArrayLike | None = None,
                 ) -> NDArray[np.float64]:
    """(n, values) 95th percentile of distances between the borders of label maps (n, *space), the larger of both ways.

    spacing: mm along each axis of space, of all images or (n, axes) of each, or None for pixels. A label that only one
    map has counts as the diagonal of the image, the worst there can be; NaN where neither map has it.
    """
    return np.array([
        [_hausdorff(result == value, true == value, mm, diagonal) for value in values]
        for result, true, mm, diagonal in zip(results, truths, _steps(truths, spacing), diagonals(truths, spacing),
                                              strict=True)
    ]).reshape(len(truths), len(values))


def diagonals(truths: Labels, spacing: ArrayLike | None = None) -> NDArray[np.float64]:
    """(n,) the largest distance that two pixels of an image can have; arguments as `hausdorff_95`."""
    return np.asarray(np.linalg.norm((np.array(truths.shape[1:]) - 1) * _steps(truths, spacing), axis=1))


def _steps(truths: Labels, spacing: ArrayLike | None) -> NDArray[np.float64]:
    return np.broadcast_to(1.0 if spacing is None else np.asarray(spacing, np.float64),
                           (len(truths), truths.ndim - 1))


def _hausdorff(ours: NDArray[np.bool_], true: NDArray[np.bool_], steps: NDArray[np.float64], diagonal: float) -> float:
    from scipy.ndimage import distance_transform_edt

    if not ours.any() and not true.any():
        return float("nan")
    if not ours.any() or not true.any():
        return float(diagonal)
    borders = [_border(ours), _border(true)]
    far = [distance_transform_edt(~border, sampling=steps) for border in borders]
    return float(max(np.percentile(far[1][borders[0]], 95), np.percentile(far[0][borders[1]], 95)))


def _border(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the object with a neighbour outside of it; beyond the image is outside."""
    from scipy.ndimage import binary_erosion

    return np.asarray(inside & ~binary_erosion(inside))
