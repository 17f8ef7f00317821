"""DICOM series: sorted by position, turned, split, checked for what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from radsynth import io
from radsynth.errors import RejectedFile
from radsynth.io._dicom_header import instance
from radsynth.io._dicom_series import arrange, read_series
from tests.io.dicom_files import series


def change(path: Path, **fields: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def fault(files: list[Path]) -> str | None:
    [found], _ = arrange(instance(path) for path in files)
    return found.fault


def test_a_series_is_sorted_by_position_whatever_its_names_say(tmp_path: Path) -> None:
    files = series(tmp_path)
    expected = read_series(tuple(map(str, files)))
    order = [3, 0, 5, 1, 4, 2]
    for number, path in enumerate(files):
        path.rename(path.with_name(f"{order[number]}.ima"))
        change(path.with_name(f"{order[number]}.ima"), InstanceNumber=order[number])
    [volume] = io.read(tmp_path / "series")  # type: ignore[misc]  # a folder gives a list
    assert np.array_equal(volume.pixels, expected.pixels) and volume.space == (6, 12, 10)
    assert volume.pixels[0, :, 0, 0].tolist() == [0, 50, 100, 150, 200, 250]
    assert volume.spacing == pytest.approx((2.0, 0.7, 0.8)) and np.array_equal(volume.affine, expected.affine)


def test_a_sagittal_series_is_turned_towards_head_back_left(tmp_path: Path) -> None:
    files = series(tmp_path)
    for number, path in enumerate(files):  # columns to the back, rows to the feet, slices to the right
        change(path, ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=[-2.0 * number, 5, 7])
    [found], _ = arrange(instance(path) for path in files)
    volume = read_series(found.files)
    assert found.header.size == volume.space == (12, 10, 6) and found.planar == 2
    assert volume.spacing == pytest.approx((0.7, 0.8, 2.0)) and found.header.spacing == pytest.approx(volume.spacing)
    assert volume.affine is not None and (np.diag(volume.affine)[:3] > 0).all()
    slices, rows, columns = 1, 3, 4
    place = volume.affine @ [columns, rows, slices, 1]
    number, row, column = round(-place[0] / 2), round((7 - place[2]) / 0.7), round((place[1] - 5) / 0.8)
    assert volume.pixels[0, slices, rows, columns] == number * 50 + row * 10 + column


def test_missing_doubled_and_sheared_slices_are_told(tmp_path: Path) -> None:
    files = series(tmp_path)
    assert fault(files) is None
    assert "missing" in (fault(files[:2] + files[3:]) or "")
    shutil.copy(files[1], tmp_path / "again.dcm")
    change(tmp_path / "again.dcm", SOPInstanceUID=generate_uid())
    assert "at the place of another" in (fault([*files, tmp_path / "again.dcm"]) or "")
    for number, path in enumerate(files):
        change(path, ImagePositionPatient=[0, 0.5 * number, 2 * number])
    assert "tilted by 14.0 degrees" in (fault(files) or "")
    with pytest.raises(RejectedFile, match="tilted"):
        read_series(tuple(map(str, files)))


def test_two_orientations_and_a_localizer_are_split(tmp_path: Path) -> None:
    files = series(tmp_path)
    for path in files[3:]:
        change(path, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    change(files[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found, copies = arrange(instance(path) for path in files)
    assert sorted(len(member.files) for member in found) == [1, 2, 3] and not copies


def test_the_same_instance_twice_is_used_once(tmp_path: Path) -> None:
    files = series(tmp_path)
    shutil.copy(files[2], tmp_path / "copy.dcm")
    [found], copies = arrange(instance(path) for path in [*files, tmp_path / "copy.dcm"])
    assert len(found.files) == 6 and found.fault is None
    assert [(Path(path).name, Path(first)) for path, first in copies] == [("copy.dcm", files[2])]


def test_slices_of_one_identifier_are_told_apart_by_their_places(tmp_path: Path) -> None:
    """Software that removes names gives some series one instance's identifier."""
    files = series(tmp_path)
    for path in files:
        change(path, SOPInstanceUID="1.2.3")
    shutil.copy(files[2], tmp_path / "copy.dcm")
    [found], copies = arrange(instance(path) for path in [*files, tmp_path / "copy.dcm"])
    assert len(found.files) == 6 and found.fault is None and len(copies) == 1
    assert read_series(found.files).space[0] == 6


def test_patients_with_the_same_uids_are_not_mixed(tmp_path: Path) -> None:
    """Software that removes names gives many patients one series, or even one instance."""
    first, second = series(tmp_path / "a", 3), series(tmp_path / "b", 3)
    for one_of, other in zip(first, second, strict=True):
        shutil.copy(one_of, other)
        change(other, PatientID="another")
    volumes, copies = arrange(instance(path) for path in [*first, *second])
    assert [len(volume.files) for volume in volumes] == [3, 3] and not copies
    assert len({volume.header.patient for volume in volumes}) == 2 and not any(volume.fault for volume in volumes)


def test_patients_are_the_same_whatever_blanks_and_case(tmp_path: Path) -> None:
    files = series(tmp_path)
    change(files[0], PatientID="Smith-7 ")
    change(files[1], PatientID="SMITH-7")
    assert io.header(files[0]).patient == io.header(files[1]).patient == "smith-7"


def test_real_series(shared_data: Path) -> None:
    volumes = io.read(shared_data / "brain_dicom")
    assert isinstance(volumes, list) and [volume.space for volume in volumes] == [(22, 320, 280)] * 4
    assert all(volume.spacing == pytest.approx((6.5, 0.6875, 0.6875), rel=1e-3) for volume in volumes)
