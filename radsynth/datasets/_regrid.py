"""One image on the grid of another, by where their headers say that they lie. Nothing is registered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radsynth.datasets._volumes import SAME_PLACE, corners, distance
from radsynth.errors import RejectedFile
from radsynth.image import Image

PROBES = 24
"""Points along each axis that are asked whether another image reaches them."""


def onto(image: Image, fixed: Image, name: str, other: str, labels: bool = False) -> Image:
    """`image` on the grid of `fixed`: as it is where both are the same, else interpolated linearly, outside its lowest.

    name, other: of both, for messages; labels: the nearest pixel's value instead. RejectedFile when they differ in
    size and a place is unknown, when they have no place in common, and for labels of the same size whose header says
    nothing of their place.
    """
    known = image.affine is not None and fixed.affine is not None
    if image.space == fixed.space and distance(image, fixed) <= SAME_PLACE:
        return image
    if not known or len(image.space) != len(fixed.space):
        sizes = ["x".join(map(str, one.space)) for one in (image, fixed)]
        raise RejectedFile(f"{name} has {sizes[0]} pixels and {other} {sizes[1]}, and their headers do not say how one "
                           "lies on the other: give files on one grid, or with their place")
    assert image.affine is not None and fixed.affine is not None
    if labels and image.space == fixed.space and _says_nothing(image.affine, image.space):
        raise RejectedFile(f"{name} has the size of {other}, but by its header pixels of 1 mm that begin at 0, which "
                           f"programs write where they know no place: copy the header of {other} if it is on its grid")
    from scipy.ndimage import affine_transform, gaussian_filter

    n = len(fixed.space)
    both = np.linalg.inv(image.affine) @ fixed.affine  # index to index, (column, row, slice, 1)
    matrix, offset = both[:n, :n][::-1, ::-1], both[:n, 3][::-1]
    if not _meet(matrix, offset, image.space, fixed.space):
        raise RejectedFile(f"{name} lies beside {other}, says their headers: they have no place in common")
    # A coarser grid sees what is finer than its pixels as an average: a Gaussian of the same width at half its height.
    coarser = np.linalg.norm(matrix, axis=1)
    blur = [step / 2.35 if step > 1.2 and not labels else 0.0 for step in coarser]
    moved = []
    for channel in image.pixels.astype(np.float32):
        smooth = gaussian_filter(channel, blur, mode="nearest") if any(blur) else channel
        moved.append(affine_transform(smooth, matrix, offset, fixed.space, order=0 if labels else 1,
                                      cval=0.0 if labels else float(channel.min())))
    pixels = np.stack(moved)
    if image.pixels.dtype.kind != "f":
        pixels = np.rint(pixels)
    return fixed.replace(pixels=pixels.astype(image.pixels.dtype), modality=image.modality, units=image.units,
                         bits=image.bits, channels=image.channels, window=image.window, mask=None)


def _says_nothing(affine: NDArray[np.float64], space: tuple[int, ...]) -> bool:
    """Whether a place is the one that files have by default: pixels of 1 mm, the first one at 0."""
    steps, ends = np.linalg.norm(affine[:3, :3], axis=0), corners(affine, space)
    return bool(np.allclose(steps, 1) and np.abs(ends).max(0).min() < 1e-3)


def _meet(matrix: NDArray[np.float64], offset: NDArray[np.float64], space: tuple[int, ...], fixed: tuple[int, ...],
          ) -> bool:
    """Whether any of some points of the grid `fixed` lies within `space`, which matrix and offset lead to."""
    axes = [np.linspace(0, side - 1, min(side, PROBES)) for side in fixed]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(len(fixed), -1)
    there, last = matrix @ points + offset[:, None], np.array(space)[:, None] - 0.5
    return bool(((there >= -0.5) & (there <= last)).all(axis=0).any())
