"""NaN: around what is shown it is background, in every format; anywhere else it is a fault."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from radsynth import io
from radsynth.errors import RejectedFile
from radsynth.io._not_finite import without_nan
from tests.io.files import one, refused


def test_nan_around_the_body_is_background_and_inside_a_fault() -> None:
    values = np.full((2, 6, 8), 5.0, np.float32)
    assert without_nan(values)[1] is False
    values[0, :, :2] = values[0, 0] = np.nan
    found, filled = without_nan(values)
    assert filled and found.dtype == np.float32
    assert (found[0, :, :2] == 0).all() and (found[0, 1:, 2:] == 5).all() and (found[1] == 5).all()
    values[1, 3, 3] = -1000
    assert without_nan(values)[0][0, 0, 0] == -1000, "as air is in Hounsfield units"
    values[1, 2:4, 4] = np.nan
    with pytest.raises(RejectedFile, match="2 of its 96 pixels are NaN"):
        without_nan(values)
    values[1, 2:4, 4] = np.inf
    with pytest.raises(RejectedFile, match="2 of its 96 pixels are infinite"):
        without_nan(values)
    with pytest.raises(RejectedFile, match="all its pixels are NaN"):
        without_nan(np.full((1, 3, 3), np.nan))
    assert without_nan(np.array([[[np.nan, 1.0]]]))[1] is True, "a single row"


@pytest.mark.parametrize("ending", [".nii.gz", ".npy", ".npz", ".mha", ".tiff"])
def test_every_format_with_fractions_takes_it(tmp_path: Path, ending: str) -> None:
    values, path = np.random.default_rng(0).normal(100, 9, (5, 12, 10)).astype(np.float32), tmp_path / f"a{ending}"
    values[:, :3] = np.nan
    for place, fault in (((2, 6, 5), "in the midst of others"), (None, "")):
        given = values.copy()
        if place:
            given[place] = np.nan
        save(path, given)
        if fault:
            refused(path, fault)
        else:
            image = one(path)
            assert image.filled and (image.pixels == 0).sum() == 5 * 3 * 10 and image.pixels.max() > 100
    labels = np.where(np.isnan(values), np.nan, 1).astype(np.float32)
    save(path, labels)
    assert sorted(np.unique(io.read_mask(path).pixels)) == [0, 1]


def save(path: Path, values: np.ndarray) -> None:
    if path.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([-1.0, -1, 1, 1])), path)
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, image=values)
    elif path.suffix == ".mha":
        itk = pytest.importorskip("SimpleITK")
        itk.WriteImage(itk.GetImageFromArray(values), str(path))
    else:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, values)
