"""From a file's own voxel axes to ours: (slice, row, column) stepping towards the head, the back and the left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's millimetres (right, front, head) to DICOM's (left, back, head), and back."""


def reorient(
    array: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64], tuple[float, float, float]]:
    """Permute and flip a volume, without resampling, so that its axes come closest to (head, back, left).

    array: (column, row, slice) in its file's own sense; affine: its index -> LPS mm
    Returns the array as (slice, row, column), the affine of (column, row, slice) index -> LPS mm, and the spacing in mm
    along (slice, row, column).
    """
    order, flips = axes_towards_left_back_head(affine)
    turned = np.zeros((4, 4))
    turned[3, 3] = 1
    turned[:3, 3] = affine[:3, 3]
    array = array.transpose(order)
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        step = affine[:3, source]
        if flip:
            array = np.flip(array, axis)
            turned[:3, 3] += step * (array.shape[axis] - 1)
            step = -step
        turned[:3, axis] = step
    spacing = np.linalg.norm(turned[:3, :3], axis=0)
    return array.transpose(2, 1, 0), turned, (float(spacing[2]), float(spacing[1]), float(spacing[0]))


def axes_towards_left_back_head(affine: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which of the array's axes runs closest to left, back and head, and whether it runs the other way."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    weights = np.abs(directions)
    order = [-1, -1, -1]
    for _ in range(3):
        patient, own = np.unravel_index(int(np.argmax(weights)), (3, 3))
        order[int(patient)] = int(own)
        weights[patient, :] = -1
        weights[:, own] = -1
    flips = [bool(directions[patient, own] < 0) for patient, own in enumerate(order)]
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def usable(affine: NDArray[np.float64]) -> bool:
    """Finite, and no axis of length zero or in the plane of the others."""
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool((lengths > 1e-6).all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)


def default_affine(size: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """An axial grid centred on the origin, for an image of known spacing and unknown place: index -> LPS mm."""
    space = (1, *size) if len(size) == 2 else size
    steps = (spacing[0], *spacing) if len(spacing) == 2 else spacing
    affine = np.diag([steps[2], steps[1], steps[0], 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * step for n, step in zip(space[::-1], steps[::-1], strict=True)]
    return affine


def modality_of(values: NDArray[Any]) -> tuple[str, str]:
    """(modality, units) of a volume whose format does not say: CT when it has air and tissue in Hounsfield units."""
    sample = values.ravel()[:: max(1, values.size // 100_000)]
    air = np.mean((sample >= -1100) & (sample <= -900))
    tissue = np.mean((sample >= -200) & (sample <= 300))
    deepest = float(sample.min())
    if -3100 <= deepest <= -900 and air > 0.05 and tissue > 0.05 and float(sample.max()) < 40_000:
        return "CT", "HU"
    return "OT", "stored"
