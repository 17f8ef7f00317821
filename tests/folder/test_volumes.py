"""Volumes, DICOM series and frames: planes, empty slices, patients, incomplete and mixed series."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid

from radsynth.datasets import EmptySlice, contrasts
from radsynth.datasets.folder import Settings
from radsynth.errors import DataError, SettingsError
from radsynth.io import metaimage
from radsynth.verbs._inspecting.duplicates import equal_files
from radsynth.verbs._preparing.options import Settings as Prepare
from radsynth.verbs._preparing.source import source_hash
from tests.folder.examples import ct_series, found, reasons, volume


def test_dicom_files_are_chosen_by_their_series_description(tmp_path: Path) -> None:
    for number, words in enumerate(("Topogramm", "Schädel nativ", "Schädel KM")):
        for path in ct_series(tmp_path / f"SE{number}", count=3, seed=number):
            dataset = pydicom.dcmread(path)
            dataset.SpecificCharacterSet, dataset.SeriesDescription = "ISO_IR 192", words
            dataset.save_as(path)
    records, rejected = found(tmp_path, series="(?i)NATIV")
    assert not rejected and len(records) == 3 and all(record.source.startswith("SE1/") for record in records)
    with pytest.raises(DataError, match=r"There are: .*Schädel nativ"):
        found(tmp_path, series="venös")
    with pytest.raises(SettingsError, match=r"data\.series is no regular expression"):
        found(tmp_path, series="(")


@pytest.mark.parametrize(("told", "words"), [
    ([{"EchoTime": 20, "EchoNumbers": 1}, {"EchoTime": 90, "EchoNumbers": 2}], ["echo 20 ms", "echo 90 ms"]),
    ([{"EchoNumbers": 1}, {"EchoNumbers": 2}], ["echo 1", "echo 2"]),
    ([{"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}], ["b 0", "b 800"]),
    ([{0x00190010: ("LO", "SIEMENS MR HEADER"), 0x0019100C: ("IS", b)} for b in (50, 800)], ["b 50", "b 800"]),
    ([{0x00430010: ("LO", "GEMS_PARM_01"), 0x00431039: ("IS", [b, 8, 0, 0])} for b in (0, 1000000700)],
     ["b 0", "b 700"]),
    ([{0x00190010: ("LO", "SIEMENS MR HEADER"), 0x0019100C: ("UN", b)} for b in (b"50", b"800 ")], ["b 50", "b 800"]),
    ([{"ImageType": ["ORIGINAL", "PRIMARY", part]} for part in "MP"], ["ORIGINAL/PRIMARY/M", "ORIGINAL/PRIMARY/P"]),
])
def test_sorts_of_picture_in_one_series_can_be_chosen(
    tmp_path: Path, told: list[dict[str | int, object]], words: list[str]
) -> None:
    """Echoes had one description and were learned as one kind without a word; a series with b-values was rejected."""
    for place, path in enumerate(ct_series(tmp_path / "S")):
        dataset = pydicom.dcmread(path)
        dataset.Modality, dataset.SeriesDescription = "MR", "Both"
        for number, attributes in enumerate(told):
            for name, value in attributes.items():
                if isinstance(name, str):
                    setattr(dataset, name, value)
                else:
                    dataset.add_new(name, *value)  # type: ignore[misc]
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.PixelData = np.full((9, 8), 10 * place + number, "<u2").tobytes()
            dataset.save_as(path.with_name(f"{place}-{number}"))
        path.unlink()
    both, rejected = found(tmp_path, plane="volume")
    assert not rejected and [record.header and record.header.series for record in both] == [
        f"Both, {sort}" for sort in words]
    (second,), _ = found(tmp_path, plane="volume", series=f"{words[1]}$")
    assert second.load().pixels[0, :, 0, 0].tolist() == pytest.approx([10 * place + 1 - 1024 for place in range(5)])
    wanted = tuple(f"{name}={sort}" for name, sort in zip("ab", words, strict=True))
    (pair,) = contrasts.records(contrasts.Settings(path=tmp_path, plane="volume", contrasts=wanted), [])
    assert np.array_equal(np.diff(pair.load().pixels, axis=0), np.ones((1, 5, 9, 8)))


def test_localizers_are_left_out_unless_they_are_all(tmp_path: Path) -> None:
    """They were learned as slices among others, without a word where descriptions were removed."""
    slices, scouts = ct_series(tmp_path / "P1/A", count=3), ct_series(tmp_path / "P1/B", count=2, seed=1)
    for path in scouts:
        dataset = pydicom.dcmread(path)
        dataset.ImageType, dataset.SeriesDescription = ["ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"], "Topogram"
        dataset.save_as(path)
    records, rejected = found(tmp_path)
    assert {record.files[0] for record in records} == {str(slices[0])} and len(records) == 3
    assert {line.path for line in rejected if line.skipped and "localizer" in line.reason} == {
        path.relative_to(tmp_path).as_posix() for path in scouts}
    assert len(found(tmp_path, series="Topogram")[0]) == 2 and len(found(tmp_path / "P1/B")[0]) == 2


@pytest.mark.parametrize("slices_first", [True, False])
def test_time_points_in_one_series_are_volumes_of_their_own(tmp_path: Path, slices_first: bool) -> None:
    """A cine series of single files was rejected: its slices are at the place of another."""
    for place, path in enumerate(ct_series(tmp_path / "S", count=4)):
        dataset = pydicom.dcmread(path)
        for time in range(3):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.InstanceNumber = 4 * time + place if slices_first else 3 * place + time
            dataset.SeriesDescription = "Cine"
            dataset.PixelData = np.full((9, 8), 10 * time + place, "<u2").tobytes()
            dataset.save_as(path.with_name(f"{(time + place) % 3}-{place}"))
        path.unlink()
    records, rejected = found(tmp_path, plane="volume")
    assert not rejected and sorted((record.header.series or "", record.load().pixels[0, :, 0, 0].tolist())
                                   for record in records if record.header) == [
        (f"Cine, {time + 1} of 3 at each place", [10 * time + place - 1024 for place in range(4)])
        for time in range(3)]
    (tmp_path / "S" / "0-0").unlink()
    assert "are at the place of another" in found(tmp_path)[1][0].reason


def test_volumes_become_slices_of_a_plane_or_stay_whole(tmp_path: Path) -> None:
    data = np.asanyarray(nibabel.load(volume(tmp_path / "v.nii.gz", spacing=(1, 1, 1.2))).dataobj)
    axial, coronal, sagittal = (found(tmp_path, plane=plane)[0] for plane in ("auto", "coronal", "sagittal"))
    assert (len(axial), len(coronal), len(sagittal)) == (8, 7, 6)
    assert len({record.patient for record in axial}) == 1 and axial[3].source == "v.nii.gz#axial0003"
    assert np.array_equal(axial[3].load().pixels[0], data[:, :, 3].T)
    assert np.array_equal(coronal[2].load().pixels[0], data[:, 2, ::-1].T), "head up"
    assert np.array_equal(sagittal[1].load().pixels[0], data[1, :, ::-1].T), "head up, front left"
    assert coronal[2].load().spacing == pytest.approx((1.2, 1)) and coronal[2].header is not None
    assert coronal[2].header.size == coronal[2].load().space == (8, 6)
    affine = sagittal[1].load().affine
    assert affine is not None and affine @ [0, 0, 0, 1] == pytest.approx([1, 0, 7 * 1.2, 1])
    [whole] = found(tmp_path, plane="volume")[0]
    assert whole.load().space == (8, 7, 6)


def test_auto_takes_the_coarsest_axis(tmp_path: Path) -> None:
    volume(tmp_path / "v.nii.gz", spacing=(4, 1, 1))
    assert "#sagittal" in found(tmp_path)[0][0].source


def test_empty_slices_at_the_ends_are_left_out(tmp_path: Path) -> None:
    data = np.zeros((20, 20, 9), np.uint8)
    data[5:15, 5:15, 2:4] = data[5:15, 5:15, 6:8] = 200
    data[0, 0] = 3
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "v.nii")

    def kept(**settings: object) -> list[int]:
        numbers = []
        for number, record in enumerate(found(tmp_path, **settings)[0]):
            try:
                record.load()
                numbers.append(number)
            except EmptySlice:
                continue
        return numbers

    assert kept() == [2, 3, 4, 5, 6, 7]
    assert kept(minimum_foreground=0.0) == list(range(9))


def test_dicom_series_are_volumes_of_their_patient(tmp_path: Path) -> None:
    ct_series(tmp_path / "p1/s1")
    ct_series(tmp_path / "p2/s1", count=4, seed=1)
    records, rejected = found(tmp_path)
    assert len(records) == 9 and not rejected
    assert len({record.patient for record in records}) == 2 and {record.label for record in records} == {None}
    image = records[0].load()
    assert (image.space, image.units, image.modality) == ((9, 8), "HU", "CT")
    assert [record.load().space for record in found(tmp_path, plane="volume")[0]] == [(5, 9, 8), (4, 9, 8)]


def test_an_incomplete_series_is_rejected_or_used_slice_by_slice(tmp_path: Path) -> None:
    files = ct_series(tmp_path / "s")
    files[2].unlink()
    ct_series(tmp_path / "t", seed=1)
    records, rejected = found(tmp_path)
    assert len(records) == 5
    assert "missing" in rejected[0].reason and "data.incomplete=slices" in rejected[0].reason
    records, rejected = found(tmp_path, incomplete="slices")
    assert len(records) == 9 and not rejected and records[0].load().space == (9, 8)
    assert len(found(tmp_path, incomplete="slices", plane="volume")[0]) == 1


@pytest.mark.parametrize(("stored", "place"), [("native", 2), ("RLE", 2), ("RLE", 4)])
def test_a_slice_that_is_cut_short_costs_itself_where_the_others_may_stand_alone(
    tmp_path: Path, stored: str, place: int
) -> None:
    files = ct_series(tmp_path / "s")
    cut = files[place]
    for path in files if stored == "RLE" else ():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    assert len(found(tmp_path)[0]) == 5
    cut.write_bytes(cut.read_bytes()[:-40])
    ct_series(tmp_path / "t", count=3, seed=1)
    for incomplete in ("reject", "slices"):
        records, rejected = found(tmp_path, incomplete=incomplete)
        torn = incomplete == "reject" and place == 2  # the last slice leaves a whole volume
        assert len(records) == (3 if torn else 7) and len(rejected) == 1 + torn
        assert "cut short" in reasons(rejected)[cut.relative_to(tmp_path).as_posix()]
        assert f"; fetch {cut.name} again" in rejected[-1].reason or not torn
    assert all(record.load().space == (9, 8) for record in records)
    cut.write_bytes(b"")
    assert place == 4 or f"; fetch {cut.name} again" in found(tmp_path)[1][-1].reason, "of no byte"


@pytest.mark.parametrize("name", ["IM{:06d}", "1.2.840.113619.{}", "{:03d}"])
def test_a_slice_of_no_byte_is_a_fault_though_its_name_promises_nothing(tmp_path: Path, name: str) -> None:
    for number, path in enumerate(ct_series(tmp_path / "s")):
        path.rename(path.with_name(name.format(number)))
    lost = tmp_path / "s" / name.format(2)
    lost.write_bytes(b"")
    for marker in ("s/DONE", "s/.hidden", "007"):  # no slice is called so, or lies there
        (tmp_path / marker).write_bytes(b"")
    records, rejected = found(tmp_path)
    assert not records and {line.path for line in rejected if line.skipped} == {"s/DONE", "s/.hidden", "007"}
    lines = {line.path: line.reason for line in rejected if not line.skipped}
    assert lines.pop(f"s/{lost.name}").startswith("the file is empty (0 bytes), and is called as the DICOM files")
    assert all(f"; fetch {lost.name} again" in reason for reason in lines.values()) and lines


def test_copies_of_an_instance_and_strange_objects_are_counted(tmp_path: Path) -> None:
    files = ct_series(tmp_path / "s")
    shutil.copy(files[0], tmp_path / "s/again.dcm")
    shutil.copy(str(pydicom.data.get_testdata_file("rtplan.dcm")), tmp_path / "plan.dcm")
    records, rejected = found(tmp_path)
    assert len(records) == 5 and all(line.skipped for line in rejected)
    assert rejected[-1].reason.endswith(f" of s/{files[0].name}")
    assert "without pictures" in reasons(rejected)["plan.dcm"]


def test_a_file_with_the_pixels_of_a_header_is_used_with_it(tmp_path: Path) -> None:
    """x.raw beside x.mhd, whose header is often that of another patient's, too."""
    for number in (1, 2):
        (tmp_path / f"P{number}").mkdir()
        for file in metaimage.example(tmp_path / f"P{number}")[::2]:
            file.unlink()
        (tmp_path / f"P{number}/two.raw").write_bytes(np.full(5 * 8 * 6, number, "<i2").tobytes())
    records, rejected = found(tmp_path, plane="volume")
    assert [[Path(file).name for file in record.files] for record in records] == [["two.mhd", "two.raw"]] * 2
    assert not rejected and not equal_files(records)
    before = source_hash(Settings(path=tmp_path), Prepare(), records)
    os.utime(tmp_path / "P2/two.raw", ns=(1, 1))
    assert source_hash(Settings(path=tmp_path), Prepare(), records) != before
    shutil.copytree(tmp_path / "P1", tmp_path / "P3")
    (tmp_path / "P3/two.mhd").rename(tmp_path / "P3/t1.mhd")
    shutil.copy(tmp_path / "P3/t1.mhd", tmp_path / "P3/t2.mhd")
    rejected = []
    (record,) = contrasts.records(contrasts.Settings(path=tmp_path / "P3", plane="volume"), rejected)
    assert [Path(file).name for file in record.files] == ["t1.mhd", "two.raw", "t2.mhd"] and not rejected


def test_mixed_orientations_are_split(tmp_path: Path) -> None:
    for path in ct_series(tmp_path / "s", count=6)[3:]:
        dataset = pydicom.dcmread(path)
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [z, y, x]
        dataset.SOPInstanceUID = generate_uid()
        dataset.save_as(path)
    records, rejected = found(tmp_path)
    assert len(records) == 6 and not rejected
    assert {record.source.partition("#")[2][:5] for record in records} == {"axial", "sagit"}


def test_frames_are_images_of_one_patient(tmp_path: Path) -> None:
    shutil.copy(str(pydicom.data.get_testdata_file("examples_ybr_color.dcm")), tmp_path / "a.dcm")
    records, _ = found(tmp_path)
    assert len(records) == 30 and len({record.patient for record in records}) == 1
    assert records[29].load().space == (240, 320)
