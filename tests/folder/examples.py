"""Folders of pictures, volumes and series, and what the data set `folder` finds in them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image as Pillow

from radsynth import io
from radsynth.datasets import Record, Rejected, folder
from radsynth.image import Image

PROVENANCE = io.Provenance(model="mlp", weights="", seed=0, index=0)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 255, size, np.uint8)).save(path)
    return path


def volume(path: Path, size: tuple[int, int, int] = (6, 7, 8), spacing: tuple[float, float, float] = (1, 1, 1),
           start: tuple[float, float, float] = (0, 0, 0)) -> Path:
    """NIfTI in (column, row, slice) order, columns to the left, rows to the back, slices to the head, from `start`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(0).integers(50, 255, size, np.uint8)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1])
    affine[:3, 3] = start
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def ct_series(path: Path, count: int = 5, seed: int = 0) -> list[Path]:
    pixels = np.random.default_rng(seed).integers(-900, 900, (1, count, 9, 8)).astype(np.int16)
    image = Image(pixels=pixels, modality="CT", units="HU", bits=12, spacing=(3.0, 1.0, 1.0))
    origin = io.Provenance(model="mlp", weights="", seed=seed, index=0)
    return io.write(image, path, provenance=origin, format="dicom")


def found(path: Path, **settings: object) -> tuple[list[Record], list[Rejected]]:
    rejected: list[Rejected] = []
    records = list(folder.records(folder.Settings(path=path, **settings), rejected))  # type: ignore[arg-type]
    return records, rejected


def reasons(rejected: list[Rejected]) -> dict[str, str]:
    return {line.path: line.reason for line in rejected}
