"""Volumes as slices for networks of 2-D images, and small ones in the frame of the training."""

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


def framed(stack: NDArray[np.float32], frame: tuple[int, ...]) -> NDArray[np.float32]:
    """(n, c, *space) in network values, in the middle of background where smaller than `frame`, as `prepare` lays it.

    Networks have learned from such images, and what is usual of them was measured on such: shares of all pixels.
    """
    gaps = [max(0, want - have) for want, have in zip(frame, stack.shape[2:], strict=True)]
    sides = [(gap // 2, gap - gap // 2) for gap in gaps]
    return np.pad(stack, [(0, 0), (0, 0), *sides], constant_values=-1) if any(gaps) else stack


def unframed(made: NDArray[Any], space: tuple[int, ...], finer: tuple[int, ...]) -> NDArray[Any]:
    """What lies in the middle of a result (n, ..., *space): that of an image (*space) before `framed`, finer."""
    gaps = [(side - have * f) // f // 2 * f for side, have, f in
            zip(made.shape[-len(space):], space, finer, strict=True)]
    sides = [slice(gap, gap + have * f) for gap, have, f in zip(gaps, space, finer, strict=True)]
    return made[(*[slice(None)] * (made.ndim - len(space)), *sides)]
