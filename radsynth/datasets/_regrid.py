"""One image on the grid of another, by where their headers say that they lie. Nothing is registered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import MissingExtra, RejectedFile
from radsynth.image import GREY, Image
from radsynth.io import read_mask

SAME_PLACE = 0.1
"""mm by which corners of two images of one size may lie apart that count as on one grid."""

PROBES = 24
"""Points along each axis that are asked whether another image reaches them."""


def mask_on(path: Path, fixed: Image, other: str, what: str = "mask") -> Image:
    """The label values of a file on the grid of `fixed`, as `onto` has them.

    other: the name of `fixed`, what: the file's part, for messages. RejectedFile as `onto`, and for an unreadable file.
    """
    from radsynth.io._dicom_structures import holds_structures, labels_on

    name = f"its {what} {path.name}"
    if holds_structures(path):
        labels, regridded = labels_on([path], None, fixed)
        return fixed.replace(pixels=labels[None], channels=GREY, units="stored", bits=8, window=None, mask=None,
                             regridded=regridded)
    try:
        mask = read_mask(path)
    except (RejectedFile, MissingExtra) as error:
        raise RejectedFile(f"{name}: {error}") from None
    return onto(mask, fixed, name, other, labels=True)


def onto(image: Image, fixed: Image, name: str, other: str, labels: bool = False) -> Image:
    """`image` on the grid of `fixed`: as it is where both are the same, else interpolated linearly, outside its lowest.

    name, other: of both, for messages; labels: the nearest pixel's value instead. RejectedFile when they are not on one
    grid and a place is unknown, when they have no place in common, and for labels where a header says nothing of the
    place.
    """
    if image.space == fixed.space and distance(image, fixed) <= SAME_PLACE:
        return image
    sizes = ["x".join(map(str, one.space)) for one in (image, fixed)]
    if image.affine is None or fixed.affine is None or len(image.space) != len(fixed.space):
        raise RejectedFile(f"{name} has {sizes[0]} pixels and {other} {sizes[1]}, and their headers do not say how one "
                           "lies on the other: give files on one grid, or with their place")
    vague = [one for one, found in ((name, image), (other, fixed)) if _says_nothing(found)] if labels else []
    if vague:
        raise RejectedFile(f"{name} ({sizes[0]} pixels) and {other} ({sizes[1]}) are not on one grid, and the header "
                           f"of {vague[0]} has pixels of 1 mm that begin at 0, which programs write where they know no "
                           "place: give both the same header if they are on one grid, else with their place")
    from scipy.ndimage import affine_transform, gaussian_filter

    n = len(fixed.space)
    both = np.linalg.inv(image.affine) @ fixed.affine  # index to index, (column, row, slice, 1)
    if not _meet(both, image.space, fixed.space):
        raise RejectedFile(f"{name} lies beside {other}, say their headers: they do not show the same place")
    matrix, offset = both[:n, :n][::-1, ::-1], both[:n, 3][::-1]
    # A coarser grid sees what is finer than its pixels as an average: a Gaussian of the same width at half its height.
    coarser = np.linalg.norm(matrix, axis=1)
    blur = [step / 2.35 if step > 1.2 and not labels else 0.0 for step in coarser]
    # An outermost pixel reaches half a step beyond its middle, and places of two headers differ in their last digits.
    within = affine_transform(np.ones(image.space, bool), matrix, offset, fixed.space, order=0, mode="grid-constant")
    moved = []
    for channel in image.pixels.astype(np.float32):
        smooth = gaussian_filter(channel, blur, mode="nearest") if any(blur) else channel
        moved.append(affine_transform(smooth, matrix, offset, fixed.space, order=0 if labels else 1, mode="nearest"))
        moved[-1][~within] = 0.0 if labels else channel.min()
    pixels = np.stack(moved)
    if image.pixels.dtype.kind != "f":
        pixels = np.rint(pixels)
    return fixed.replace(pixels=pixels.astype(image.pixels.dtype), modality=image.modality, units=image.units,
                         bits=image.bits, channels=image.channels, window=image.window, lossy=image.lossy, mask=None,
                         regridded=True, filled=image.filled)


def distance(one: Image, other: Image) -> float:
    """mm between the corners of two images of one size, the furthest pair; 0 when the place of either is unknown."""
    if one.affine is None or other.affine is None:
        return 0.0
    return float(np.abs(_corners(one) - _corners(other)).max())


def _corners(image: Image) -> NDArray[np.float64]:
    """(3, 8) LPS mm: the middles of the outermost pixels of a grid whose place is known."""
    assert image.affine is not None
    last = np.array([*image.space[::-1], 1][:3]) - 1
    return np.asarray(image.affine[:3, :3] @ (np.indices((2, 2, 2)).reshape(3, -1) * last[:, None])
                      + image.affine[:3, 3:])


def _says_nothing(image: Image) -> bool:
    """Whether a place is the one that files have by default: pixels of 1 mm, the first one at 0."""
    assert image.affine is not None
    steps = np.linalg.norm(image.affine[:3, :3], axis=0)
    return bool(np.allclose(steps, 1) and np.abs(_corners(image)).max(0).min() < 1e-3)


def _meet(both: NDArray[np.float64], space: tuple[int, ...], fixed: tuple[int, ...]) -> bool:
    """Whether any of some points of the grid `fixed` lies within the grid `space`, and slices lie in one plane.

    both: (column, row, slice, 1) index of `fixed` -> that of `space`
    """
    sizes, reached = (np.array([*sides[::-1], 1][:3]) for sides in (fixed, space))
    axes = [np.linspace(0, side - 1, min(side, PROBES)) for side in sizes]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    there = both[:3, :3] @ points + both[:3, 3:]
    inside = (there >= -0.5) & (there <= reached[:, None] - 0.5)
    in_plane = len(fixed) == 3 or bool(inside[2].all())  # a slice is one pixel thick
    return in_plane and bool(inside.all(axis=0).any())
