"""DICOM series with conversions of them beside: one patient must not count as two, and the refusal says why."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radsynth import io
from radsynth.datasets import folder
from radsynth.errors import DataError
from radsynth.image import Image
from radsynth.settings import resolve
from radsynth.verbs._inspecting.page import problems
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from tests.folder.examples import PROVENANCE, ct_series


def convert(series: Path, target: Path, description: str = "") -> None:
    """As dcm2niix does, with its JSON file where the series has a description."""
    image = io.read(series)
    assert isinstance(image, list)
    target.parent.mkdir(parents=True, exist_ok=True)
    io.write(image[0], target, provenance=PROVENANCE)
    plain = nibabel.load(target)  # without what radsynth says in it of modality and units
    nibabel.save(nibabel.Nifti1Image(np.asarray(plain.dataobj), plain.affine), target)
    if description:
        said = {"ConversionSoftware": "dcm2niix", "SeriesDescription": description}
        (target.parent / (target.name.removesuffix(".nii.gz") + ".json")).write_text(json.dumps(said))


def refusal(path: Path, out: Path) -> str:
    with pytest.raises(DataError, match="mixes 2 groups") as error:
        prepare(folder.Settings(path=path), out, settings=resolve())
    assert str(error.value) in inspect(path).mixed
    return str(error.value)


@pytest.mark.parametrize("place", ["a/scan.nii.gz", "a/nii/scan.nii.gz", "nifti/scan.nii.gz", "scan.nii.gz"])
def test_a_file_of_a_series_grid_beside_it_is_named(place: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    ct_series(data / "a")
    convert(data / "a", data / place)
    told = refusal(data, tmp_path / "out")
    assert f"1 times a NIfTI file looks like a conversion of a DICOM series of the same data (such as {place}: " in told
    assert "it has the grid of a/" in told and "data.only=" in told
    only = r"^(?!.*\.nii)"
    assert only in told
    assert not inspect(folder.Settings(path=data, only=only)).mixed


def test_a_json_file_tells_of_a_series_elsewhere_and_other_scans_are_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ct_series(data / "p1" / "dicom")
    other = Image(pixels=np.random.default_rng(0).integers(0, 900, (1, 6, 9, 8)).astype(np.int16), modality="OT",
                  spacing=(3.0, 2.0, 2.0))
    (data / "p1" / "nifti").mkdir()
    io.write(other, data / "p1" / "nifti" / "other.nii.gz", provenance=PROVENANCE)
    convert(data / "p1" / "dicom", data / "far" / "p9" / "scan.nii.gz")
    convert(data / "p1" / "dicom", data / "p2" / "scan.nii.gz")
    assert "conversion" not in refusal(data, tmp_path / "out"), "other patients' scans of the same protocol"
    description = inspect(data).series
    [name] = description
    convert(data / "p1" / "dicom", data / "far" / "p9" / "scan.nii.gz", name)
    assert f"(such as far/p9/scan.nii.gz: its JSON file names the series {name})" in refusal(data, tmp_path / "out")


def test_where_settings_make_them_alike_it_is_still_told_without_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    """A NIfTI that says its modality and units itself, as radsynth's own do."""
    ct_series(tmp_path / "scans" / "a")
    image = io.read(tmp_path / "scans" / "a")
    assert isinstance(image, list)
    io.write(image[0], tmp_path / "scans" / "mine.nii.gz", provenance=PROVENANCE)
    found = inspect(tmp_path / "scans")
    [(note, count)] = [(note, count) for note, count in found.notes.items() if "conversion" in note]
    assert not found.mixed and count == 1 and "1 x a NIfTI file looks like a conversion" in found.text()
    assert "mine" not in note, "run folders keep notes"
    assert not any("conversion" in problem for problem in problems(found)), "of a run, prepare says it once"
    capsys.readouterr()
    prepare(tmp_path / "scans", tmp_path / "out")
    said = capsys.readouterr().err
    assert said.count("mind: 1 x a NIfTI file looks like a conversion of a DICOM series") == 1 and "mine" not in said
    prepare(folder.Settings(path=tmp_path / "scans", only=r"\.nii"), tmp_path / "one", settings=resolve())
    assert "conversion" not in capsys.readouterr().err


def test_real_conversions_are_named(shared_data: Path, tmp_path: Path) -> None:
    if not shutil.which("dcm2niix"):
        pytest.skip("dcm2niix is not installed")
    data = tmp_path / "data"
    shutil.copytree(shared_data / "brain_dicom", data)
    subprocess.run(["dcm2niix", "-z", "y", data], check=True, capture_output=True)
    subprocess.run(["dcm2niix", "-z", "y", "-d", "9", data], check=True, capture_output=True)
    told = refusal(data, tmp_path / "out")
    assert "times a NIfTI file looks like" in told and "its JSON file names the series" in told
