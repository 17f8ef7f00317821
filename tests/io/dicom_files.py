"""pydicom's own test files, some with something changed, and a series that radsynth wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from radsynth import io
from radsynth.image import Image

PROVENANCE = io.Provenance(model="r3gan", weights="cd" * 32, seed=1, index=2, window=(-160, 240))


def shipped(name: str) -> Path:
    path = get_testdata_file(name)
    assert path is not None, name
    return Path(str(path))


Edit = Callable[[Dataset], None]


def edited(name: str, target: Path, edit: Edit) -> Path:
    """A copy of one of pydicom's files with something changed."""
    dataset = pydicom.dcmread(shipped(name))
    edit(dataset)
    dataset.save_as(target)
    return target


def series(folder: Path, count: int = 6) -> list[Path]:
    """A CT volume of `count` slices, 2 mm apart, each with its own values."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = (np.arange(count)[:, None, None] * 50 + np.arange(12 * 10).reshape(12, 10)).astype(np.int16)[None]
    image = Image(pixels=pixels, modality="CT", units="HU", bits=12, spacing=(2.0, 0.7, 0.8))
    return io.write(image, folder / "series", provenance=PROVENANCE, format="dicom")
