"""Real files all the way: inspect, prepare, a short training, generate in their own format, read by other programs.

Needs real images beside the repository (see conftest.shared_data); pydicom's test files come with pydicom.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

import radsynth
from radsynth import io
from radsynth.arrays import Prepared
from radsynth.image import Image
from radsynth.io._geometry import LPS_OF_RAS
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.shorthand import read_budget
from radsynth.verbs.generate import generate
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
COUNT = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """A real data set, how it is used, and what must be found in it. path: below the real images, or pydicom's."""

    path: str
    words: tuple[str, ...]
    format: str
    images: int
    patients: int
    modality: str = "OT"
    units: str = "stored"
    budget: str = "2000img"


CASES = {
    "hippocampus slices": Case(path="hippocampus", words=("prepare.size=[40,40]", "data.modality=MR"), format="nifti",
                               images=9270, patients=260, modality="MR"),
    "hippocampus volumes": Case(path="hippocampus", words=("data.plane=volume", "prepare.size=[32,32,32]",
                                "data.only=_0[0-4]", "data.modality=MR"), format="nifti", images=31, patients=31,
                                modality="MR", budget="200img"),
    "brain series": Case(path="brain_dicom", words=("data.only=FLAIR", "prepare.size=[64,64]"), format="dicom",
                         images=22, patients=1, modality="MR"),
    "MedNIST": Case(path="mednist_64.npz", words=("prepare.size=[32,32]",), format="npz", images=12_000,
                    patients=12_000),
    "PneumoniaMNIST": Case(path="pneumoniamnist.npz", words=("prepare.size=[28,28]",), format="npz", images=5856,
                           patients=5856),
    "pydicom MR": Case(path="pydicom", words=("data.only=98892003/MR", "data.incomplete=slices",
                       "prepare.size=[64,64]"), format="dicom", images=17, patients=1, modality="MR"),
    "pydicom CT": Case(path="pydicom", words=("data.only=CT_small|77654033/CT2", "data.incomplete=slices",
                       "prepare.size=[64,64]"), format="dicom", images=5, patients=2, modality="CT", units="HU"),
    "pydicom colour": Case(path="pydicom", words=("data.only=examples_ybr_color", "prepare.size=[32,48]"),
                           format="dicom", images=30, patients=1, modality="US"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_real_files_go_all_the_way(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    case = CASES[name]
    if case.path == "pydicom":
        data = Path(str(get_testdata_file("CT_small.dcm"))).parent
    else:
        data = request.getfixturevalue("shared_data") / case.path
    kind = "medmnist" if data.suffix == ".npz" else "folder"
    settings = resolve({"data": {"kind": kind, "path": str(data)}}, read_budget(case.budget),
                       overrides=[*case.words, "train.previews=0"])
    found = inspect(data, settings=settings, out=tmp_path / "look")
    assert (found.n_images, found.n_patients, found.modality) == (case.images, case.patients, case.modality)
    assert (tmp_path / "look" / "inspect.html").read_text(encoding="utf-8").count("data:image/png") > 3
    prepared = prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1)
    spec = prepared.spec
    assert (spec.format, spec.modality, spec.units) == (case.format, case.modality, case.units)
    train(prepared.folder, tmp_path / "run", settings=settings)
    assert RunFolder(tmp_path / "run").load_weights()[1]["model"]
    generate(tmp_path / "run", tmp_path / "out", count=COUNT)
    check_npz(tmp_path / "out", prepared) if case.format == "npz" else check_files(tmp_path / "out", prepared, tmp_path)


def check_npz(out: Path, prepared: Prepared) -> None:
    """As numpy alone reads it: MedMNIST's layout in the sources' own range, a label for each image."""
    with np.load(out / "synthetic.npz", allow_pickle=False) as archive:
        images, labels = archive["train_images"], archive["train_labels"]
        assert images.dtype == np.uint8 and images.shape == (COUNT, *prepared.spec.size) and np.ptp(images) > 100
        assert labels.shape == (COUNT, 1) and tuple(archive["classes"]) == prepared.spec.labels


def check_files(out: Path, prepared: Prepared, tmp_path: Path) -> None:
    """Every file or series: other programs find the values and the grid that radsynth reads."""
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK (extra itk) is not installed")
    intensity = prepared.intensity
    paths = sorted((out / "images").iterdir())
    assert len(paths) == COUNT
    for number, path in enumerate(paths):
        image = radsynth.read(path)
        assert isinstance(image, Image) and np.ptp(image.pixels) > (intensity.high - intensity.low) / 10
        assert image.pixels.min() >= np.floor(intensity.low) and image.pixels.max() <= np.ceil(intensity.high)
        assert image.space == prepared.spec.size
        if image.spacing is None or prepared.spec.spacing is None:
            assert image.spacing is prepared.spec.spacing
        else:
            assert image.spacing == pytest.approx(prepared.spec.spacing, rel=1e-4)
        found = itk.ReadImage(str(path))
        if image.pixels.ndim == 4:  # a volume lies in its file as those do that it was learned from
            found = itk.DICOMOrient(found, "LPS")
        same_values(image, itk.GetArrayFromImage(found))
        assert found.GetSpacing()[:2] == pytest.approx(image.spacing[:-3:-1] if image.spacing else (1, 1), rel=1e-4)
        if path.name.endswith(".nii.gz"):
            other: Any = nibabel.load(path)
            if image.pixels.ndim == 4:
                have, ours = nibabel.io_orientation(other.affine), nibabel.orientations.axcodes2ornt("LPS")
                other = other.as_reoriented(nibabel.orientations.ornt_transform(have, ours))
            same_values(image, np.asarray(other.dataobj).T)
            if image.affine is not None and image.pixels.ndim == 4:
                assert LPS_OF_RAS @ other.affine == pytest.approx(image.affine, abs=1e-3)
        else:
            check_dicom(path, image, tmp_path / f"nii{number}")


def same_values(image: Image, values: np.ndarray) -> None:
    """values: ([slices,] rows, columns[, 3]), or with an axis of one slice before."""
    colour = len(image.pixels) == 3
    mine = np.moveaxis(image.pixels, 0, -1) if colour else image.pixels[0]
    assert np.array_equal(values.reshape(mine.shape), mine)


def check_dicom(path: Path, image: Image, scratch: Path) -> None:
    dataset = pydicom.dcmread(path)
    assert dataset.SyntheticData == "YES" and dataset.Modality == image.modality
    if image.affine is not None:
        assert [float(v) for v in dataset.ImagePositionPatient] == pytest.approx(image.affine[:3, 3], abs=1e-3)
    if shutil.which("dciodvfy"):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60).stderr.splitlines()
        assert not [line for line in said if line.startswith("Error") and "(0x0008,0x001c)" not in line]
    if shutil.which("dcm2niix"):
        scratch.mkdir()
        shutil.copy(path, scratch / "a.dcm")
        subprocess.run(["dcm2niix", "-z", "n", "-f", "a", str(scratch)], check=True, capture_output=True, timeout=60)
        made: Any = nibabel.load(scratch / "a.nii")
        values = np.asarray(made.dataobj)
        planes = [values] if values.dtype.fields is None else [values[name] for name in "RGB"]
        mine = np.sort(image.pixels.reshape(len(planes), -1), axis=1)
        assert np.array_equal(np.sort(np.stack(planes).reshape(len(planes), -1), axis=1), mine), "the same values"
        assert io.header(path).size == image.space
