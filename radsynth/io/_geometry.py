"""From a file's own voxel axes to ours: (slice, row, column) stepping towards the head, the back and the left."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.image import Layout
from radsynth.io import SAME

LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's millimetres (right, front, head) to DICOM's (left, back, head), and back."""


SHEARED = 1.0
"""Degrees by which two axes may miss the right angle."""

SAME_DIRECTION = 0.002
"""Largest difference between unit vectors that count as one direction: a tenth of a degree."""


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


def layout(affine: NDArray[np.float64], thin: int | None = None) -> Layout:
    """How a file's axes lie in the volume that `reorient` makes of it, or in its single slice across axis `thin`, which
    `cut` makes of that."""
    (columns, rows, slices), (left, back, head) = axes_towards_left_back_head(affine)
    if thin == 1:
        return (columns, slices, rows), (left, not head, back)
    if thin == 2:
        return (rows, slices, columns), (back, not head, left)
    return (columns, rows, slices), (left, back, head)


def as_laid(array: NDArray[Any], affine: NDArray[np.float64], laid: Layout) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """(column, row, slice, ...) and index -> LPS mm along the axes of the file that `layout` was found for."""
    order, flips = laid
    affine = affine.copy()
    for axis in (axis for axis, flip in enumerate(flips) if flip):
        array = np.flip(array, axis)
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
    back = np.argsort(order).tolist()
    return array.transpose(*back, *range(3, array.ndim)), affine[:, [*back, 3]]


def axes_towards_left_back_head(affine: NDArray[np.float64]) -> Layout:
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


def cut(volume: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Slice `index` of a volume (c, slices, rows, columns), head or front up: (c, rows, columns)."""
    slab = np.take(volume, index, axis=axis + 1)
    return np.asarray(slab if axis == 0 else slab[:, ::-1])


def cut_affine(affine: NDArray[np.float64], space: tuple[int, ...], axis: int, index: int) -> NDArray[np.float64]:
    """(column, row, slice) index of what `cut` gives -> LPS mm, from the volume's affine and size."""
    left, back, head = (affine[:3, number] for number in range(3))
    across, down, through = {0: (left, back, head), 1: (left, -head, back), 2: (back, -head, left)}[axis]
    turned = np.eye(4)
    turned[:3, 0], turned[:3, 1], turned[:3, 2] = across, down, through
    top = np.zeros(3) if axis == 0 else head * (space[0] - 1)
    turned[:3, 3] = affine[:3, 3] + top + through * index
    return turned


def single_slice(space: tuple[int, ...]) -> int | None:
    """The axis of a volume (slices 0, rows 1, columns 2) that is one slice alone; None when none is."""
    thin = [axis for axis, size in enumerate(space) if size == 1]
    return thin[0] if thin else None


def even_size(size: tuple[int, ...], spacing: tuple[float, ...] | None) -> tuple[int, ...]:
    """The size that an image has in squares or cubes as wide as its finest pixels; spacing: mm, None means square."""
    steps = spacing or (1.0,) * len(size)
    if max(steps) <= (1 + SAME) * min(steps):
        return size
    return tuple(round(side * step / min(steps)) for side, step in zip(size, steps, strict=True))


def in_proportion(size: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """A size of the same proportions whose longest side is about so long, in multiples of 8, at least 16."""
    scale = longest / max(size)
    return tuple(max(16, 8 * math.ceil(round(side * scale) / 8)) for side in size)


def usable(affine: NDArray[np.float64]) -> bool:
    """Finite, and no axis of length zero or in the plane of the others."""
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool((lengths > 1e-6).all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)


def leaning(affine: NDArray[np.float64]) -> tuple[str, ...]:
    """What to say where the axes are not perpendicular, as of a tilted gantry."""
    units = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    least = float(np.degrees(np.arccos(np.abs(units.T @ units - np.eye(3)).max().clip(0, 1))))
    return () if least >= 90 - SHEARED else (f"its axes lean by {90 - least:.1f} degrees (a tilted gantry?): images "
                                             "are taken as if they did not, as sheared as they are",)


def default_affine(size: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """An axial grid centred on the origin, for an image of known spacing and unknown place: index -> LPS mm."""
    space = (1, *size) if len(size) == 2 else size
    steps = (spacing[0], *spacing) if len(spacing) == 2 else spacing
    affine = np.diag([steps[2], steps[1], steps[0], 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * step for n, step in zip(space[::-1], steps[::-1], strict=True)]
    return affine


def directions_of(affine: NDArray[np.float64]) -> tuple[float, ...]:
    """The unit vectors of the steps along column, row and slice, nine numbers in LPS."""
    units = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return tuple(np.round(units.T, 6).ravel().tolist())


def common_directions(found: Iterable[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    """The directions that images share; None when one is unknown or they lie in different planes.

    Equal ones are kept as they are. Those that only lean differently become the patient's own axes next to them.
    """
    each = set(found)
    if not each or None in each:
        return None
    known = np.array([directions for directions in each if directions is not None]).reshape(-1, 3, 3)
    if np.abs(known - known[0]).max() < SAME_DIRECTION:
        return tuple(known[0].ravel().tolist())
    nearest = np.array([_along_axes(directions) for directions in known])
    return tuple(nearest[0].ravel().tolist()) if (nearest == nearest[0]).all() else None


def _along_axes(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each of the three unit vectors (rows) turned to the patient's axis next to it, no axis taken twice."""
    affine = np.eye(4)
    affine[:3, :3] = directions.T
    order, flips = axes_towards_left_back_head(affine)
    axes = np.zeros((3, 3))
    for patient, (own, flip) in enumerate(zip(order, flips, strict=True)):
        axes[own, patient] = -1.0 if flip else 1.0
    return axes


def placed(size: tuple[int, ...], spacing: tuple[float, ...], directions: tuple[float, ...]) -> NDArray[np.float64]:
    """A grid of these directions (as of `directions_of`) centred on the origin: index -> LPS mm."""
    affine = default_affine(size, spacing)
    turned = np.eye(4)
    turned[:3, :3] = np.array(directions).reshape(3, 3).T
    return np.asarray(turned @ affine)


def modality_of(values: NDArray[Any]) -> tuple[str, str]:
    """(modality, units) of a volume whose format does not say: CT when it has air and tissue in Hounsfield units."""
    sample = values.ravel()[:: max(1, values.size // 100_000)]
    air = np.mean((sample >= -1100) & (sample <= -900))
    tissue = np.mean((sample >= -200) & (sample <= 300))
    deepest = float(sample.min())
    if -3100 <= deepest <= -900 and air > 0.05 and tissue > 0.05 and float(sample.max()) < 40_000:
        return "CT", "HU"
    return "OT", "stored"
