"""Volumes as slices for networks of 2-D images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOGETHER = 16
"""Slices of a volume that are done at once."""


def cut(volume: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """(c, *space) as (1, c, *space), or as the slices (n, c, rows, columns) across an axis, head up as in training."""
    if axis is None:
        return volume[None]
    slices: NDArray[np.float32] = np.moveaxis(volume, axis + 1, 0)
    return slices if axis == 0 else slices[:, :, ::-1]


def join(stack: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """The inverse of `cut`."""
    whole: NDArray[Any] = stack[0] if axis is None else np.moveaxis(
        stack if axis == 0 else stack[:, :, ::-1], 0, axis + 1)
    return whole


def within(numbers: tuple[Any, ...], axis: int | None) -> tuple[Any, ...]:
    """Of the axes of space those within a slice; all without slices."""
    return tuple(number for place, number in enumerate(numbers) if place != axis)
