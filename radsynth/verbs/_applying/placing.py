"""Where the pixels of one image lie in another, by headers and after a warp, and what is found there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.image import Image

Array = NDArray[np.float32]
TOGETHER = 2**21
"""Pixels whose places are computed at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Placing:
    """Where a pixel of the fixed image lies in the moving one before any warp, in pixels: matrix @ index + offset."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]


def placings(moving: Image, fixed: Image, moving_name: str, fixed_name: str) -> list[Placing]:
    """The ways to lay a moving image on a fixed one by their headers: by their positions, and middle on middle.

    Positions of different patients mean little, those of one patient a lot. RejectedFile, with both names, when nothing
    is known of the pixels' size and the images differ in size.
    """
    dimensions = len(fixed.space)
    middles = [(np.asarray(image.space) - 1) / 2 for image in (moving, fixed)]
    if moving.affine is not None and fixed.affine is not None:
        both = np.linalg.inv(moving.affine) @ fixed.affine  # index to index, (column, row, slice, 1)
        matrix, offset = both[:dimensions, :dimensions][::-1, ::-1], both[:dimensions, 3][::-1]
        return [Placing(matrix=matrix, offset=offset),
                Placing(matrix=matrix, offset=middles[0] - matrix @ middles[1])]
    if moving.spacing is not None and fixed.spacing is not None:
        matrix = np.diag(np.asarray(fixed.spacing) / np.asarray(moving.spacing))
        return [Placing(matrix=matrix, offset=middles[0] - matrix @ middles[1])]
    if moving.space != fixed.space:
        sizes = [" x ".join(map(str, image.space)) for image in (moving, fixed)]
        raise RejectedFile(
            f"{moving_name} has {sizes[0]} pixels and {fixed_name} {sizes[1]}, and the headers do not say how large a "
            "pixel is: give images of one size, or files that say it")
    return [Placing(matrix=np.eye(dimensions), offset=np.zeros(dimensions))]


def sampled(pixels: NDArray[Any], placing: Placing, space: tuple[int, ...], displacement: Array | None = None, *,
            order: int = 1, edge: bool = False) -> Array:
    """(c, *space of the fixed image): pixels (c, *own space) where the fixed image's pixels lie, after a displacement.

    Linear between pixels, or the nearest one's value for order 0. Outside, half a pixel beyond the middles of the
    outermost pixels, lies the channel's lowest value (for order 0 the background's), or with `edge` the border's.
    """
    from scipy.ndimage import map_coordinates

    made, last = np.empty((len(pixels), *space), np.float32), np.asarray(pixels.shape[1:]) - 1
    lowest = [0.0 if order == 0 else float(channel.min()) for channel in pixels]
    for part, places in parts_of(space, displacement):
        flat = placing.matrix.astype(np.float32) @ places.reshape(len(space), -1)
        there = (flat + placing.offset.astype(np.float32)[:, None]).reshape(places.shape)
        beyond = [(place < -0.5) | (place > end + 0.5) for place, end in zip(there, last, strict=True)]
        for channel, result, outside in zip(pixels, made, lowest, strict=True):
            map_coordinates(channel, there, order=order, mode="nearest", output=result[part], prefilter=False)
            if not edge:
                result[part][np.any(beyond, axis=0)] = outside
    return made


def parts_of(space: tuple[int, ...], displacement: Array | None = None) -> Iterator[tuple[slice, Array]]:
    """Parts along the first axis, and indices (d, *part) of their pixels, displaced; for bounded memory."""
    step = max(1, TOGETHER // math.prod(space[1:]))
    for start in range(0, space[0], step):
        part = slice(start, min(start + step, space[0]))
        places = np.indices((part.stop - start, *space[1:]), dtype=np.float32)
        places[0] += start
        if displacement is not None:
            places += displacement[:, part]
        yield part, places
