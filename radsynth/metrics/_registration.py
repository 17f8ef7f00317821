"""Numbers of registrations: folding, distance from the true warp, and overlap of warped labels.

Displacements are (n, d, *space) in pixels, as `radsynth.tasks._warp` has them. Pure functions of arrays.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radsynth.metrics._overlap import Labels, dice

Field = NDArray[np.float32]


SLAB = 2**20
"""Pixels whose Jacobians are computed at once, so that the memory of large volumes is bounded."""


# det(dT/dp) of T(p) = p + u(p), by central differences (one-sided at the border)
def jacobian_determinants(displacements: Field) -> NDArray[np.float64]:
    """(n, *space) how much larger the warp makes each place; 1 changes nothing, below 0 space is folded over."""
    dimensions, field = displacements.shape[1], displacements.astype(np.float64)
    slopes = [np.gradient(field, axis=axis) if field.shape[axis] > 1 else np.zeros_like(field)
              for axis in range(2, field.ndim)]
    matrices = np.stack(slopes, axis=-1)  # (n, d, *space, d): component, place, axis of the difference
    matrices = np.moveaxis(matrices, 1, -2) + np.eye(dimensions)
    return np.asarray(np.linalg.det(matrices))


def folding(displacements: Field) -> NDArray[np.float64]:
    """(n,) shares of the pixels where the warp folds space: its Jacobian determinant is not above 0."""
    side, axes = displacements.shape[2], tuple(range(1, displacements.ndim - 1))
    step = max(1, SLAB // math.prod(displacements.shape[3:]))
    folded = np.zeros(len(displacements))
    for start in range(0, side, step):
        before = min(start, 1)  # a neighbour on either side: differences are those of the whole
        part = jacobian_determinants(displacements[:, :, start - before:start + step + 1])[:, before:before + step]
        folded += (part <= 0).sum(axis=axes)
    return folded / math.prod(displacements.shape[2:])


def target_registration_error(displacements: Field, truths: Field, inside: NDArray[np.bool_],
                              spacing: ArrayLike | None = None) -> NDArray[np.float64]:
    """(n,) mean distances between the found and the true places of the pixels `inside` (n, *space).

    spacing: mm along each axis of space, of all images or (n, axes) of each, or None for pixels; NaN for an image with
    no pixel inside
    """
    steps = np.broadcast_to(1.0 if spacing is None else np.asarray(spacing, np.float64), truths.shape[:2])
    off = (displacements - truths) * steps.reshape(*truths.shape[:2], *[1] * (truths.ndim - 2))
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
