"""Numbers of registrations: folding, distance from the true warp, and overlap of warped labels.

Displacements are (n, d, *space) in pixels, as `radsynth.tasks._warp` has them. Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics._overlap import Labels, dice

Field = NDArray[np.float32]


# det(dT/dp) of T(p) = p + u(p), by central differences (one-sided at the border)
def jacobian_determinants(displacements: Field) -> NDArray[np.float64]:
    """(n, *space) how much larger the warp makes each place; 1 changes nothing, below 0 space is folded over."""
    dimensions = displacements.shape[1]
    slopes = [np.gradient(displacements.astype(np.float64), axis=axis) for axis in range(2, displacements.ndim)]
    matrices = np.stack(slopes, axis=-1)  # (n, d, *space, d): component, place, axis of the difference
    matrices = np.moveaxis(matrices, 1, -2) + np.eye(dimensions)
    return np.asarray(np.linalg.det(matrices))


def folding(displacements: Field) -> NDArray[np.float64]:
    """(n,) shares of the pixels where the warp folds space: its Jacobian determinant is not above 0."""
    found = jacobian_determinants(displacements) <= 0
    return np.asarray(found.mean(axis=tuple(range(1, found.ndim))))


def target_registration_error(displacements: Field, truths: Field, inside: NDArray[np.bool_],
                              spacing: Sequence[float] | None = None) -> NDArray[np.float64]:
    """(n,) mean distances between the found and the true places of the pixels `inside` (n, *space).

    spacing: mm along each axis of space, or None for pixels; NaN for an image with no pixel inside
    """
    steps = np.ones(truths.shape[1]) if spacing is None else np.asarray(spacing, np.float64)
    off = (displacements - truths) * steps.reshape(1, -1, *[1] * (truths.ndim - 2))
    distances = np.linalg.norm(off, axis=1)
    return np.asarray([far[where].mean() if where.any() else np.nan
                       for far, where in zip(distances, inside, strict=True)], np.float64)


def label_overlap(warped: Labels, fixed: Labels, moving: Labels, classes: int) -> NDArray[np.float64]:
    """(n,) mean Dice of warped and fixed label maps over the labels above 0 that moving and fixed maps both have.

    A label that one of the two patients lacks cannot be aligned and does not count; NaN where none is left.
    """
    scores = dice(warped, fixed, range(1, classes))
    axes = tuple(range(1, fixed.ndim))
    both = np.stack([(fixed == value).any(axes) & (moving == value).any(axes) for value in range(1, classes)], axis=1)
    total = np.where(both, scores, 0).sum(axis=1)
    return np.asarray(np.where(both.any(axis=1), total / np.maximum(both.sum(axis=1), 1), np.nan))
