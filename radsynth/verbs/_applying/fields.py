"""What a registration found, as NIfTI that other programs read: warped labels, displacement fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.image import Image
from radsynth.io._geometry import LPS_OF_RAS, as_laid
from radsynth.io._synthetic import write_whole
from radsynth.verbs._applying.placing import Array, Placing, parts_of


def write_labels(path: Path, labels: NDArray[np.uint8], fixed: Image) -> None:
    """Label values (*space) as NIfTI on the grid of the fixed image."""
    _write_nifti(path, labels if labels.ndim == 3 else labels[None], fixed, "radsynth: labels warped, derived")


def write_field(path: Path, displacement: Array, placing: Placing, moving: Image, fixed: Image) -> None:
    """A displacement (d, *space) in pixels as a NIfTI vector image (x, y, z, 1, 3) that ITK and ANTs read.

    Vectors are in mm towards left, back and head (LPS), from the fixed image's places to the moving one's; in pixels
    (column, row, slice) where the size of a pixel is not known. Where only one image has a place, the moving one is
    taken to lie where it was put.
    """
    vectors = np.empty((3, *fixed.space), np.float32)
    for (part, moved), (_, places) in zip(parts_of(fixed.space, displacement), parts_of(fixed.space), strict=True):
        if moving.affine is None or fixed.affine is None:
            there = _positions(moved, _affine(fixed))
        else:
            flat = placing.matrix @ moved.reshape(len(moved), -1) + placing.offset[:, None]
            there = _positions(flat.reshape(moved.shape), moving.affine)
        vectors[:, part] = there - _positions(places, _affine(fixed))
    vectors = vectors[:, None] if vectors.ndim == 3 else vectors
    _write_nifti(path, vectors.transpose(3, 2, 1, 0)[:, :, :, None, :], fixed,
                 "radsynth: displacement, LPS mm, derived", vectors=True)


def _positions(places: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Indices (d, *space), (slice,) row, column, as positions (3, *space) in LPS mm."""
    flat = places[::-1].reshape(len(places), -1)
    positions = affine[:3, :len(places)] @ flat + affine[:3, 3:]
    return np.asarray(positions.reshape(3, *places.shape[1:]))


def _affine(fixed: Image) -> NDArray[np.float64]:
    """(column, row, slice, 1) to LPS mm; without a place the first pixel is at 0, without spacing pixels are 1 mm."""
    if fixed.affine is not None:
        return fixed.affine
    steps = (fixed.spacing or (1.0,) * len(fixed.space))[::-1]
    return np.diag([*steps, *(1.0,) * (4 - len(steps))])


def _write_nifti(path: Path, values: NDArray[Any], fixed: Image, description: str, vectors: bool = False) -> None:
    import nibabel

    values, affine = values if vectors else values.transpose(2, 1, 0), _affine(fixed)
    if fixed.laid is not None:
        values, affine = as_laid(values, affine, fixed.laid)
    if fixed.flat and not vectors:
        values = values[..., 0]
    nifti = nibabel.Nifti1Image(values, LPS_OF_RAS @ affine)
    nifti.header["descrip"] = description.encode()
    nifti.header.set_xyzt_units("mm")
    if vectors:
        nifti.header.set_intent("vector")
    write_whole(path, lambda temporary: nibabel.save(nifti, temporary))
