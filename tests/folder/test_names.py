"""What the names of folders and files say: classes, splits, patients, visits."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from radsynth.datasets import folder as module
from radsynth.datasets._layout import UNTOLD
from radsynth.errors import DataError, SettingsError
from radsynth.settings import resolve
from tests.folder.examples import ct_series, found, picture, reasons, volume


def test_sub_folders_of_pictures_are_classes_and_order_is_fixed(tmp_path: Path) -> None:
    for number, name in enumerate(("b/2.png", "a/deep/1.png", "a/0.png")):
        picture(tmp_path / name, number)
    picture(tmp_path / "overview.png")
    (tmp_path / "readme.txt").write_text("hello")
    records, rejected = found(tmp_path)
    assert [(record.source, record.label) for record in records] == [
        ("a/0.png", "a"), ("a/deep/1.png", "a"), ("b/2.png", "b"),
    ]  # fmt: skip
    assert len({record.patient for record in records}) == 3
    assert "no label" in reasons(rejected)["overview.png"]
    assert [line.path for line in rejected if line.skipped] == ["readme.txt"]
    assert records[0].load().space == (12, 10) and records[0].header is not None
    assert [record.label for record in found(tmp_path, labels="none")[0]] == [None] * 4


def test_records_travel_to_other_processes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    volume(tmp_path / "v.nii.gz")
    for record in found(tmp_path)[0]:
        assert np.array_equal(pickle.loads(pickle.dumps(record)).load().pixels, record.load().pixels)


def test_one_folder_is_no_class_and_wrappers_are_looked_through(tmp_path: Path) -> None:
    picture(tmp_path / "data/all/1.png")
    picture(tmp_path / "data/all/2.png", 1)
    assert {record.label for record in found(tmp_path)[0]} == {None}
    picture(tmp_path / "data/other/3.png", 2)
    assert {record.label for record in found(tmp_path)[0]} == {"all", "other"}


def test_train_val_test_folders_are_an_official_split(tmp_path: Path) -> None:
    for number, name in enumerate(("train/ill/1.png", "train/well/2.png", "val/ill/3.png", "test/well/4.png")):
        picture(tmp_path / name, number)
    records, _ = found(tmp_path)
    assert [(record.split, record.label) for record in records] == [
        ("test", "well"), ("train", "ill"), ("train", "well"), ("validation", "ill"),
    ]  # fmt: skip


@pytest.mark.parametrize("beside", ["chest_xray/train/ill/5.png", "examples.png"])
def test_splits_beside_others_are_no_classes(beside: str, tmp_path: Path) -> None:
    for number, name in enumerate(("train/ill/1.png", "train/well/2.png", "test/ill/3.png", beside)):
        picture(tmp_path / name, number)
    with pytest.raises(DataError, match=r"folders test, train, which are no classes.*: (chest_xray|images)\. Move"):
        found(tmp_path)
    assert {record.split for record in found(tmp_path, only="(train|test)/.*/[123]")[0]} == {"train", "test"}
    assert len(found(tmp_path, labels="none")[0]) == 4


def test_folders_that_name_patients_are_no_classes(tmp_path: Path) -> None:
    for number, name in enumerate(("patient001/1.png", "patient001/2.png", "Patient002/1.png")):
        picture(tmp_path / name, number)
    records, _ = found(tmp_path)
    assert [(record.label, record.patient) for record in records] == [
        (None, "patient002"), (None, "patient001"), (None, "patient001"),
    ]  # fmt: skip


@pytest.mark.parametrize("names", [
    ("002_S_0413/MPRAGE/2006-05-02/I4001/ADNI_002_S_0413_MR_br_raw_1.nii", "002_S_0413/MPRAGE/2007/I4002/ADNI_2.nii"),
    ("OAS1_0001_MR1/RAW/OAS1_0001_MR1_mpr-1.nii.gz", "OAS1_0001_MR2/PROCESSED/OAS1_0001_MR2_mpr-2.nii.gz"),
    ("OAS30001_MR_d0129/anat1/a.nii.gz", "OAS30001_MR_d0757/anat2/b.nii.gz"),
    ("IXI002-Guys-0828-T1.nii.gz", "IXI002-Guys-0828-T2.nii.gz"),
])
def test_public_data_sets_name_their_patients(names: tuple[str, str], tmp_path: Path) -> None:
    for name in (*names, *(name.replace("2", "9").replace("01", "07") for name in names)):
        volume(tmp_path / name)
    records, _ = found(tmp_path)
    assert len({record.source.partition("#")[0] for record in records}) == 4
    assert len({record.patient for record in records}) == 2


@pytest.mark.parametrize("names", [
    ("p10/p10000032/s50414267/a.png", "p10/p10000032/s53189527/b.png", "p11/p11000011/s51029426/c.png"),
    ("video000/frame_0000.png", "video000/frame_0001.png", "video001/frame_0000.png"),
    ("TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif", "TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_12.tif",
     "TCGA_DU_8165_19970205/TCGA_DU_8165_19970205_1.tif"),
])
def test_folders_of_patients_and_films_are_no_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    for number, name in enumerate(names):
        picture(tmp_path / name, number)
    records, _ = found(tmp_path)
    assert {record.label for record in records} == {None} and len({record.patient for record in records}) == 2


def test_retinas_of_oct2017_name_their_patients_in_classes(tmp_path: Path) -> None:
    for number, name in enumerate(("CNV/CNV-1016042-1", "CNV/CNV-1016042-22", "NORMAL/NORMAL-1016042-1",
                                   "NORMAL/NORMAL-12494-3")):
        picture(tmp_path / f"{name}.jpeg", number)
    records, _ = found(tmp_path)
    assert [(record.label, record.patient) for record in records] == [
        ("CNV", "1016042"), ("CNV", "1016042"), ("NORMAL", "1016042"), ("NORMAL", "12494")]


def test_films_of_chestxray14_name_their_patients_and_dates_are_none(tmp_path: Path) -> None:
    for number, name in enumerate(("00000013_026", "00000013_027", "00030805_000", "20190301_001", "20190301_002",
                                   "00000013_1", "00040000_000", "scan_00000013_000")):
        picture(tmp_path / f"images_00{number % 2 + 1}" / "images" / f"{name}.png", number)
    assert sorted(record.patient.rpartition("/")[2] for record in found(tmp_path)[0]) == [
        "00000013", "00000013", "00000013_1.png", "00030805", "00040000_000.png", "20190301_001.png",
        "20190301_002.png", "scan_00000013_000.png"]


def test_more_folders_than_there_can_be_classes_are_patients_and_portions_are_nothing(tmp_path: Path) -> None:
    for number in range(101):
        for part in range(2):
            picture(tmp_path / "many" / f"TCGA_{number}" / f"{part}.png", 2 * number + part)
    records, _ = found(tmp_path / "many")
    assert len(records) == 202 and len({record.patient for record in records}) == 101
    assert {record.label for record in records} == {None}
    for name in ("images_00{}/images", "HAM10000_images_part_{}", "Training Batch {}"):
        for number in range(4):
            picture(tmp_path / name[:3] / name.format(number % 2) / f"{number}.png", number)
        assert {record.label for record in found(tmp_path / name[:3])[0]} == {None}


def test_a_pattern_of_ones_own_finds_patients(tmp_path: Path) -> None:
    for number, name in enumerate(("90000013_026.png", "90000013_027.png", "90000014_000.png")):
        picture(tmp_path / name, number)
    assert len({record.patient for record in found(tmp_path)[0]}) == 3
    assert len({record.patient for record in found(tmp_path, patient_pattern=r"(?P<patient>\d{8})_")[0]}) == 2
    for wrong in ("(", r"\d+"):
        with pytest.raises(SettingsError, match="patient_pattern"):
            found(tmp_path, patient_pattern=wrong)


def test_a_pattern_of_ones_own_counts_more_than_what_files_say(tmp_path: Path) -> None:
    """Software that removes names gives all patients one Patient ID."""
    for number in (1, 2):
        for path in ct_series(tmp_path / f"patient{number}", seed=number):
            dataset = pydicom.dcmread(path)
            dataset.PatientID = "ANONYMOUS"
            dataset.save_as(path)

    def patients(**given: str) -> set[str]:
        return {record.patient for record in found(tmp_path, **given)[0]}

    assert patients() == patients(patient_pattern="(?P<patient>nobody)") == {"anonymous"}
    assert patients(patient_pattern=r"patient(?P<patient>\d)") == {"1", "2"}


def test_images_in_whose_name_a_pattern_of_ones_own_finds_nobody_are_told(tmp_path: Path) -> None:
    picture(tmp_path / "11_a.png"), picture(tmp_path / "x.png", 1)

    def notes(**given: str) -> list[tuple[str, ...]]:
        return [record.header.notes for record in found(tmp_path, **given)[0] if record.header]

    assert notes(patient_pattern=r"(?P<patient>\d+)_") == [(), (UNTOLD,)]
    assert notes() == notes(patient_pattern="") == [(), ()]


@pytest.mark.parametrize(("told", "code"), [("ct", "CT"), ("MRI", "MR"), ("Pet", "PT"), ("", "")])
def test_a_modality_is_taken_as_people_write_it(told: str, code: str, tmp_path: Path) -> None:
    assert module.Settings(path=tmp_path, modality=told).modality == code
    with pytest.raises(SettingsError, match=r'data\.modality: given "no code": it is no DICOM code of a modality'):
        resolve(overrides=["data.kind=folder", f"data.path={tmp_path}", "data.modality=no code"])


def test_a_modality_is_told_only_of_files_that_say_none(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    shutil.copy(str(pydicom.data.get_testdata_file("CT_small.dcm")), tmp_path / "b.dcm")
    records, _ = found(tmp_path, modality="MR")
    assert [record.load().modality for record in records] == ["MR", "CT"]
    assert [record.header.modality for record in records if record.header] == ["MR", "CT"]


def test_only_and_modality(tmp_path: Path) -> None:
    picture(tmp_path / "T1/a.png")
    picture(tmp_path / "T2/a.png", 1)
    [record], _ = found(tmp_path, only="^T1/", modality="MR")
    assert record.source == "T1/a.png" and record.load().modality == "MR"


def test_visits_are_of_the_patient_whose_folder_they_lie_in(tmp_path: Path) -> None:
    names = ("P1/visit1", "P1/visit2", "P2/2019-03-01", "P2/2020-03-01", "site/scan1", "site/scan2", "baseline")
    for number, name in enumerate(names):
        (tmp_path / name).mkdir(parents=True)
        values = np.full((6, 6, 4), number, np.int16)
        values[0] = 99
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / name / "t1.nii.gz")
    records, _ = found(tmp_path, plane="volume")
    assert [record.patient for record in records] == ["P1", "P1", "P2", "P2", "baseline", "site/scan1", "site/scan2"]


def test_volumes_in_folders_of_few_belong_to_one_patient(tmp_path: Path) -> None:
    for name in ("x1/t1.nii.gz", "x1/t2.nii.gz", "x2/t1.nii.gz"):
        volume(tmp_path / name)
    assert {record.patient for record in found(tmp_path)[0]} == {"x1", "x2"}


def test_the_folder_of_a_class_is_no_patient(tmp_path: Path) -> None:
    for name in ("ill/1", "ill/2", "ill/P3/pre", "ill/P3/post", "well/4", "well/baseline/5"):
        volume(tmp_path / f"{name}.nii.gz")
    records = found(tmp_path, labels="folders", plane="volume")[0]
    assert {record.source.split(".")[0]: (record.label, record.patient.split(".")[0]) for record in records} == {
        "ill/1": ("ill", "ill/1"), "ill/2": ("ill", "ill/2"), "ill/P3/pre": ("ill", "ill/P3"),
        "ill/P3/post": ("ill", "ill/P3"), "well/4": ("well", "well/4"),
        "well/baseline/5": ("well", "well/baseline/5")}  # fmt: skip
    assert {record.patient for record in found(tmp_path)[0]} == {"ill", "ill/P3", "well"}


def test_the_folder_of_a_class_that_a_table_names_is_no_patient(tmp_path: Path) -> None:
    files = ("Ill/1", "Ill/2", "Ill/P3/pre", "Ill/P3/post", "well/4", "well/5")
    for name in files:
        volume(tmp_path / f"{name}.nii.gz")
    lines = "".join(f"{name}.nii.gz,{name.split('/')[0].lower()}\n" for name in files)
    (tmp_path / "labels.csv").write_text("file,label\n" + lines, encoding="utf-8")
    records = found(tmp_path, plane="volume")[0]
    assert {record.source.split(".")[0]: record.patient.split(".")[0] for record in records} == {
        "Ill/1": "Ill/1", "Ill/2": "Ill/2", "Ill/P3/pre": "Ill/P3", "Ill/P3/post": "Ill/P3", "well/4": "well/4",
        "well/5": "well/5"}  # fmt: skip
    assert {record.label for record in records} == {"ill", "well"}


def test_the_folder_of_a_split_is_no_patient(tmp_path: Path) -> None:
    for name in ("train/1", "train/2", "train/P3/pre", "train/P3/post", "Val/4", "test/test/5", "test/test/6"):
        volume(tmp_path / f"{name}.nii.gz")
    records = found(tmp_path, plane="volume")[0]
    assert len({record.patient for record in records}) == 6
    assert {record.split for record in records} == {"train", "validation", "test"}
    for folder in ("train", "other"):
        volume(tmp_path / "site" / folder / "1.nii.gz")
        volume(tmp_path / "site" / folder / "2.nii.gz")
    assert {record.patient for record in found(tmp_path / "site")[0]} == {"train", "other"}, "no split is there"


def test_the_decathlon_layout(shared_data: Path) -> None:
    records, rejected = found(shared_data / "hippocampus", plane="volume")
    assert len(records) == 260 and len({record.patient for record in records}) == 260
    assert reasons(rejected)["labels/hippocampus_010.nii.gz"] == "a mask without an image of its name"
    mask = records[0].load().mask
    assert mask is not None and set(np.unique(mask)) == {0, 1, 2}


def test_other_versions_of_the_scans_in_bids_are_left_out_unless_they_are_given(tmp_path: Path) -> None:
    """What fMRIPrep made of a scan was learned beside it, as another of its patient's."""
    scan, made = "sub-1/anat/sub-1_T1w.nii.gz", "fmriprep/sub-1/anat/sub-1_desc-preproc_T1w.nii.gz"
    for name in (scan, f"derivatives/{made}", f"sourcedata/{scan}"):
        volume(tmp_path / "bids" / name)
    records, rejected = found(tmp_path / "bids", plane="whole")
    assert [record.source for record in records] == [scan]
    told = reasons(rejected)
    assert told.keys() == {"derivatives", "sourcedata"} and "give its own path" in told["derivatives"]
    assert "copy masks that are to be used beside their scans" in told["derivatives"]
    assert [record.source for record in found(tmp_path / "bids/derivatives", plane="whole")[0]] == [made]
    volume(tmp_path / "others/derivatives/a.nii.gz")
    assert len(found(tmp_path / "others")[0])
