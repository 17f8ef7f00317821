"""The data set `folder`: classes, splits, masks, patients, planes, archives, and everything that must be refused."""

from __future__ import annotations

import io as streams
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.uid import generate_uid

from radsynth import io
from radsynth.datasets import EmptySlice, Record, Rejected, folder, recognise
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image

PROVENANCE = io.Provenance(model="mlp", weights="", seed=0, index=0)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 255, size, np.uint8)).save(path)
    return path


def volume(path: Path, size: tuple[int, int, int] = (6, 7, 8), spacing: tuple[float, float, float] = (1, 1, 1)) -> Path:
    """NIfTI in (column, row, slice) order, columns to the left, rows to the back, slices to the head."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(0).integers(50, 255, size, np.uint8)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-spacing[0], -spacing[1], spacing[2], 1])), path)
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


def test_folders_that_name_patients_are_no_classes(tmp_path: Path) -> None:
    for number, name in enumerate(("patient001/1.png", "patient001/2.png", "Patient002/1.png")):
        picture(tmp_path / name, number)
    records, _ = found(tmp_path)
    assert [(record.label, record.patient) for record in records] == [
        (None, "patient002"), (None, "patient001"), (None, "patient001"),
    ]  # fmt: skip


def test_more_folders_than_there_can_be_classes_are_patients_and_portions_are_nothing(tmp_path: Path) -> None:
    for number in range(101):
        for part in range(2):
            picture(tmp_path / "many" / f"TCGA_{number}" / f"{part}.png", 2 * number + part)
    records, _ = found(tmp_path / "many")
    assert len(records) == 202 and len({record.patient for record in records}) == 101
    assert {record.label for record in records} == {None}
    for number in range(4):
        picture(tmp_path / "portions" / f"images_00{number % 2}" / "images" / f"{number}.png", number)
    assert {record.label for record in found(tmp_path / "portions")[0]} == {None}


def test_a_pattern_of_ones_own_finds_patients(tmp_path: Path) -> None:
    for number, name in enumerate(("00000013_026.png", "00000013_027.png", "00000014_000.png")):
        picture(tmp_path / name, number)
    assert len({record.patient for record in found(tmp_path)[0]}) == 3
    assert len({record.patient for record in found(tmp_path, patient_pattern=r"(?P<patient>\d{8})_")[0]}) == 2
    for wrong in ("(", r"\d+"):
        with pytest.raises(SettingsError, match="patient_pattern"):
            found(tmp_path, patient_pattern=wrong)


def test_a_table_gives_labels_and_patients(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"x/{number}.png", number)
    (tmp_path / "labels.csv").write_text("file,label,patient\nx/0.png,ill,A1\n1.png,well, a1\n2,ill,B\n")
    records, rejected = found(tmp_path)
    assert [(record.label, record.patient) for record in records] == [("ill", "a1"), ("well", "a1"), ("ill", "b")]
    assert list(reasons(rejected)) == ["x/3.png"] and "no line" in reasons(rejected)["x/3.png"], "the table is used"
    (tmp_path / "wrong.csv").write_text("name,class\n")
    with pytest.raises(DataError, match="needed are file, label"):
        found(tmp_path, labels=str(tmp_path / "wrong.csv"))
    (tmp_path / "twice.csv").write_text("file,label\n0.png,a\n0.png,b\n")
    with pytest.raises(DataError, match="two different lines"):
        found(tmp_path, labels=str(tmp_path / "twice.csv"))


def test_a_line_that_fits_files_of_two_folders_labels_none(tmp_path: Path) -> None:
    for number, name in enumerate(("a/1.png", "b/1.png", "b/2.png", "c/3.png", "d/3.png")):
        picture(tmp_path / name, number)
    (tmp_path / "labels.csv").write_text("file,label\n1.png,ill\n2.png,well\nc/3.png,ill\nd/3.png,well\n")
    records, rejected = found(tmp_path)
    assert [(record.source, record.label) for record in records] == [
        ("b/2.png", "well"), ("c/3.png", "ill"), ("d/3.png", "well")]
    assert list(reasons(rejected)) == ["a/1.png", "b/1.png"] and "no line of its own" in reasons(rejected)["a/1.png"]


def test_tables_as_data_sets_have_them(tmp_path: Path) -> None:
    for number, name in enumerate(("train/p1/study1/view.png", "train/p1/study2/view.png", "train/p2/study1/view.png")):
        picture(tmp_path / name, number)
    table = tmp_path / "entries.csv"
    table.write_text("Path,Finding,Patient ID\n" + "".join(
        f"CheXpert/train/{path},{finding},{patient}\n" for path, finding, patient in (
            ("p1/study1/view.png", "none", 7), ("p1/study2/view.png", "Oedema", 7), ("p2/study1/view.png", "none", 8))))
    columns = ("file=Path", "label = finding", "patient=Patient ID")
    records, rejected = found(tmp_path, labels=str(table), columns=columns)
    assert not rejected
    assert [(one.label, one.patient) for one in records] == [("none", "7"), ("Oedema", "7"), ("none", "8")]
    with pytest.raises(DataError, match="columns Path, Finding, Patient ID; needed are file, label"):
        found(tmp_path, labels=str(table), columns=columns[:1])
    reason = reasons(found(tmp_path)[1])["entries.csv"]
    assert "not used" in reason and "Path, Finding, Patient ID" in reason and str(tmp_path) not in reason
    with pytest.raises(DataError, match=r"no column 'Findings' \(did you mean Finding"):
        found(tmp_path, labels=str(table), columns=("label=Findings",))
    for wrong in ("Path", "path=Path", "file="):
        with pytest.raises(SettingsError, match="file=NAME"):
            found(tmp_path, labels=str(table), columns=(wrong,))


def test_a_table_of_patients_counts_for_all_their_files(tmp_path: Path) -> None:
    for number, name in enumerate(("sub-01/a.png", "sub-01/b.png", "sub-02/a.png", "sub-03/a.png")):
        picture(tmp_path / name, number)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t61\tF\nsub-02\tn/a\tM\n")
    records, rejected = found(tmp_path, labels=str(tmp_path / "participants.tsv"), conditions=("age",),
                              columns=("patient=participant_id", "label=sex"))
    assert [(one.patient, one.label, dict(one.conditions)) for one in records] == [("sub-01", "F", {"age": 61.0})] * 2
    assert "no number for age" in reasons(rejected)["sub-02/a.png"] and "no line" in reasons(rejected)["sub-03/a.png"]


def test_runs_that_lie_below_their_data_are_left_out(tmp_path: Path) -> None:
    for number, name in enumerate(("a/0.png", "b/1.png", "runs/new/previews/0.png", "runs/old/synthetic/images/0.png",
                                   "prepared/shards/0.png", "more/images/0.png")):
        picture(tmp_path / name, number)
    for name in ("runs/new/plan.json", "runs/new/inspection.json", "runs/old/spec.json", "runs/old/settings.yaml",
                 "prepared/manifest.json"):
        (tmp_path / name).write_text("{}")
    records, rejected = found(tmp_path, labels="none")
    assert [record.source for record in records] == ["a/0.png", "b/1.png", "more/images/0.png"]
    assert list(reasons(rejected)) == ["prepared", "runs/new", "runs/old"] and all(line.skipped for line in rejected)


def test_an_image_without_a_label_where_others_have_one_is_rejected(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "labels.csv").write_text("file,label,dose\n0.png,ill,1\n1.png,,2\n2.png,well,3\n")
    records, rejected = found(tmp_path)
    assert [record.label for record in records] == ["ill", "well"] and "has no label" in reasons(rejected)["1.png"]
    (tmp_path / "labels.csv").write_text("file,label,dose\n0.png,,1\n1.png,,2\n2.png,,3\n")
    assert [record.label for record in found(tmp_path, conditions=("dose",))[0]] == [None] * 3


def test_zeros_that_a_spreadsheet_drops_do_not_part_a_patient_from_their_line(tmp_path: Path) -> None:
    for number, name in enumerate(("0012/a.png", "0007/a.png", "7/a.png", "07/b.png")):
        picture(tmp_path / name, number)
    pattern, columns = r"(?P<patient>\d+)/", ("patient=ID", "label=sex")
    (tmp_path / "patients.csv").write_text("ID;sex\r\n12;F\r\n7;M\r\n07;F\r\n", encoding="utf-8-sig")
    records, rejected = found(tmp_path, labels=str(tmp_path / "patients.csv"), columns=columns, patient_pattern=pattern)
    assert {(one.patient, one.label) for one in records} == {("12", "F"), ("7", "M"), ("07", "F")}
    assert list(reasons(rejected)) == ["0007/a.png"], "7 and 07 differ, so neither stands for 0007"
    (tmp_path / "patients.xlsx").write_bytes(b"PK")
    assert "CSV UTF-8" in reasons(found(tmp_path)[1])["patients.xlsx"]


@pytest.mark.parametrize("turned", [False, True])
def test_lines_of_single_dicom_files_label_these_slices(tmp_path: Path, turned: bool) -> None:
    files = ct_series(tmp_path / "CT", count=5)
    if turned:  # rows run to the front, so that the sorted files run from head to feet
        for path in files:
            dataset = pydicom.dcmread(path)
            dataset.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
            dataset.save_as(path)
    names = sorted(path.name for path in (tmp_path / "CT").iterdir())
    table = tmp_path / "slices.csv"
    table.write_text("file;label;dose\n" + "".join(f"{name};{'low' if k < 2 else 'high'};{k},5\n"
                                                  for k, name in enumerate(names[:4])))
    chosen: dict[str, object] = {"labels": str(table), "minimum_foreground": 0, "conditions": ("dose", "position")}
    records, rejected = found(tmp_path / "CT", **chosen)
    reason = "it has no line of its own in the table of labels"
    assert [line.reason for line in rejected] == [reason], "only one of five slices"
    stored = {name: io.read(tmp_path / "CT" / name).pixels for name in names}
    for record in records:
        name = next(name for name in names if np.array_equal(stored[name][0], record.load().pixels[0, ::-1])
                    or np.array_equal(stored[name], record.load().pixels))
        place = names.index(name)
        assert record.label == ("low" if place < 2 else "high") and record.conditions["dose"] == place + 0.5
        assert record.conditions["position"] == place / 4, "among all slices"
    for plane in ("coronal", "volume"):
        records, rejected = found(tmp_path / "CT", labels=str(table), plane=plane)
        assert not records and "different lines for the files of this series" in rejected[0].reason
    table.write_text("file;label\n" + "".join(f"{name};same\n" for name in names))
    assert len(found(tmp_path / "CT", labels=str(table), plane="volume")[0]) == 1


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


def test_several_masks_of_an_image_are_parts_of_one(tmp_path: Path) -> None:
    picture(tmp_path / "benign (1).png")
    picture(tmp_path / "benign (2).png", 1)
    for name, rows in (("benign (1)_mask", slice(0, 2)), ("benign (1)_mask_1", slice(4, 6)),
                       ("benign (2)_mask", slice(0, 3))):
        values = np.zeros((12, 10), np.uint8)
        values[rows] = 255
        Pillow.fromarray(values).save(tmp_path / f"{name}.png")
    records, rejected = found(tmp_path)
    assert not rejected and [len(record.masks) for record in records] == [2, 1]
    mask = records[0].load().mask
    assert mask is not None and set(np.flatnonzero(mask.any(1))) == {0, 1, 4, 5} and mask.max() == 1
    assert found(tmp_path, mask_names=("1=lesion", "2 = cyst"))[0][0].mask_names == {1: "lesion", 2: "cyst"}
    for wrong in ("lesion", "x=lesion", "256=lesion", "1="):
        with pytest.raises(SettingsError, match=r"data\.mask_names"):
            found(tmp_path, mask_names=(wrong,))


def test_a_table_of_another_language_is_read_and_never_passed_over_in_silence(tmp_path: Path) -> None:
    for name in ("P1/0.png", "P2/1.png"):
        picture(tmp_path / name, int(name[-5]))
    table = "file,label,patient\nP1/0.png,krank,J\u00f6rg\nP2/1.png,gesund,Eva\n"
    for sign in (";", "\t"):
        (tmp_path / "labels.csv").write_text(table.replace(",", sign), encoding="utf-8-sig")
        records, _ = found(tmp_path)
        assert [(record.label, record.patient) for record in records] == [("krank", "j\u00f6rg"), ("gesund", "eva")]
    (tmp_path / "labels.csv").write_text(table, encoding="latin-1")
    line = found(tmp_path)[1][-1]
    assert line.path == "labels.csv" and not line.skipped and str(tmp_path) not in line.reason
    assert "not taken as the table of labels" in line.reason and "UTF-8" in line.reason


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("imagesTr/a_0000.png", "labelsTr/a.png"),
        ("a.png", "a_mask.png"),
        ("ill/images/a.png", "ill/masks/a_seg.png"),
        ("images/ill/a.png", "labels/ill/a.png"),
    ],
)
def test_masks_are_found_beside_images(image: str, mask: str, tmp_path: Path) -> None:
    picture(tmp_path / image)
    (tmp_path / mask).parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.eye(12, 10, dtype=np.uint8) * 255).save(tmp_path / mask)
    [record], rejected = found(tmp_path)
    assert record.source == image and not rejected and record.label is None
    loaded = record.load()
    assert loaded.mask is not None and np.array_equal(loaded.mask, np.eye(12, 10))


def test_masks_without_images_and_images_without_masks_are_told(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/b.png", "imagesTs/t.png", "masks/a.png", "masks/c.png"):
        picture(tmp_path / name)
    records, rejected = found(tmp_path)
    assert [record.source for record in records] == ["images/a.png"]
    assert "no mask" in reasons(rejected)["images/b.png"] and "without an image" in reasons(rejected)["masks/c.png"]
    assert {line.path for line in rejected if line.skipped} == {"masks/c.png", "imagesTs/t.png"}


def test_a_mask_that_does_not_fit_rejects_its_image(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "masks/a.png", size=(5, 5))
    volume(tmp_path / "images/v.nii")
    volume(tmp_path / "masks/v.nii", spacing=(1, 1, 2))
    records, _ = found(tmp_path, plane="auto")
    for record, reason in ((records[0], "has the size"), (records[-1], "mm off.*its spacing is 2 x 1 x 1 mm")):
        with pytest.raises(RejectedFile, match=reason):
            record.load()


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


def test_constant_images_are_rejected(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((9, 9), 7, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(RejectedFile, match="all its pixels have the value 7"):
        found(tmp_path)[0][0].load()


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


def test_copies_of_an_instance_and_strange_objects_are_counted(tmp_path: Path) -> None:
    files = ct_series(tmp_path / "s")
    shutil.copy(files[0], tmp_path / "s/again.dcm")
    shutil.copy(str(pydicom.data.get_testdata_file("rtplan.dcm")), tmp_path / "plan.dcm")
    records, rejected = found(tmp_path)
    assert len(records) == 5 and all(line.skipped for line in rejected)
    assert "second copy" in rejected[-1].reason and "without pictures" in reasons(rejected)["plan.dcm"]


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


def test_strange_names_links_and_loops_survive(tmp_path: Path) -> None:
    picture(tmp_path / "ünï\ncode/bild 1.png")
    picture(tmp_path / os.fsdecode(b"\xff\xfe.png"), 1)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    records, rejected = found(tmp_path, labels="none")
    assert len(records) == 2 and "ünï\ncode/bild 1.png" in {record.source for record in records}
    for record in records:
        assert record.load().space == (12, 10)
        record.source.encode("utf-8")
    assert "links back" in reasons(rejected)["loop"]
    assert "not a regular file" in reasons(rejected)["gone.png"] == reasons(rejected)["pipe.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_a_line(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "closed").mkdir(mode=0)
    assert "cannot be opened" in reasons(found(tmp_path)[1])["closed/"]


def test_nothing_usable_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        found(tmp_path / "nowhere")
    with pytest.raises(DataError, match="it is empty"):
        found(tmp_path)
    (tmp_path / "a.png").write_bytes(b"GIF89a...")
    with pytest.raises(DataError, match=r"a\.png: its name ends in \.png, but its content is a GIF"):
        found(tmp_path)


def test_a_missing_extra_costs_the_file_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from radsynth.io import _dicom_pixels

    shutil.copy(str(pydicom.data.get_testdata_file("SC_rgb_jpeg_gdcm.dcm")), tmp_path / "a.dcm")
    monkeypatch.setattr(_dicom_pixels, "has_gdcm", lambda: False)
    with pytest.raises(RejectedFile, match=r"radsynth\[gdcm\]"):
        found(tmp_path)[0][0].load()


def test_frames_are_images_of_one_patient(tmp_path: Path) -> None:
    shutil.copy(str(pydicom.data.get_testdata_file("examples_ybr_color.dcm")), tmp_path / "a.dcm")
    records, _ = found(tmp_path)
    assert len(records) == 30 and len({record.patient for record in records}) == 1
    assert records[29].load().space == (240, 320)


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


# Archives


def zipped(path: Path, *names: str, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def test_archives_are_read_like_folders(tmp_path: Path) -> None:
    picture(tmp_path / "in/a/1.png")
    picture(tmp_path / "in/b/2.png", 1)
    for form in ("zip", "tar", "gztar"):
        archive = Path(shutil.make_archive(str(tmp_path / f"data-{form}"), form, tmp_path / "in"))
        assert recognise(archive) == "folder"
        records, _ = found(archive)
        assert [(record.source, record.label) for record in records] == [("a/1.png", "a"), ("b/2.png", "b")]
        assert records[1].load().space == (12, 10)
        assert found(archive)[0][0].files == records[0].files, "unpacked once"


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil.png", "..\\evil.png"])
def test_archives_that_climb_out_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="outside the folder"):
        found(zipped(tmp_path / "a.zip", "good.png", name))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, streams.BytesIO(b"x"))
    with pytest.raises(DataError, match="outside the folder"):
        found(tmp_path / "a.tar")
    assert not list(tmp_path.parent.glob("evil*"))


def test_archives_with_links_are_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link.png")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "link")
    for name in ("a.zip", "a.tar"):
        with pytest.raises(DataError, match="link or a device"):
            found(tmp_path / name)


def test_archive_bombs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bomb"):
        found(zipped(tmp_path / "a.zip", "a.png", content=bytes(10**7)))
    (tmp_path / "zeros.png").write_bytes(bytes(10**7))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "zeros.png", "zeros.png")
    with pytest.raises(DataError, match="bomb"):
        found(tmp_path / "a.tar.gz")


def test_a_damaged_archive_is_one_clear_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "a.png", content=os.urandom(5000))
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        found(path)


def test_the_decathlon_layout(shared_data: Path) -> None:
    records, rejected = found(shared_data / "hippocampus", plane="volume")
    assert len(records) == 260 and len({record.patient for record in records}) == 260
    assert reasons(rejected)["labels/hippocampus_010.nii.gz"] == "a mask without an image of its name"
    mask = records[0].load().mask
    assert mask is not None and set(np.unique(mask)) == {0, 1, 2}
