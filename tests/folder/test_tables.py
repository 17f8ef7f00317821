"""Tables of labels and patients as data sets have them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from radsynth import io
from radsynth.errors import DataError, SettingsError
from tests.folder.examples import ct_series, found, picture, reasons


def test_a_table_gives_labels_and_patients(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"x/{number}.png", number)
    (tmp_path / "labels.csv").write_text("file,label,patient\nx/0.png,ill,A1\n1.png,well, a1\n2,ill,B\n")
    records, rejected = found(tmp_path)
    assert [(record.label, record.patient) for record in records] == [("ill", "a1"), ("well", "a1"), ("ill", "b")]
    assert list(reasons(rejected)) == ["x/3.png"] and "no line" in reasons(rejected)["x/3.png"], "the table is used"
    with pytest.raises(DataError, match=r"data\.labels=foldrs: there is no such file\. It takes auto"):
        found(tmp_path, labels="foldrs")
    (tmp_path / "wrong.csv").write_text("name,class\n")
    with pytest.raises(DataError, match="needed are file, label"):
        found(tmp_path, labels=str(tmp_path / "wrong.csv"))
    (tmp_path / "twice.csv").write_text("file,label\n0.png,a\n0.png,b\n")
    with pytest.raises(DataError, match=r"two different lines.*keep the right one"):
        found(tmp_path, labels=str(tmp_path / "twice.csv"))


def test_lines_that_fit_no_image_are_told(tmp_path: Path) -> None:
    for name in ("a", "b", "C"):
        picture(tmp_path / f"x/{name}.png", ord(name))
    ct_series(tmp_path / "ct", count=2)
    series = "ct/0001.dcm,ill\nct/0002.dcm,ill\n"
    (tmp_path / "labels.csv").write_text(f"file,label\na.png,ill\nx/b.png,ill\nC,ill\n{series}")
    assert not found(tmp_path)[1], "every line fits, both of a series, too"
    (tmp_path / "labels.csv").write_text(f"file,label\na.png,ill\nx/b.png,ill\nc.png,ill\nd.png,ill\n{series}")
    told = {line.path: line for line in found(tmp_path)[1]}
    assert set(told) == {"labels.csv", "x/C.png"} and told["labels.csv"].skipped
    assert told["labels.csv"].reason == ("2 of its 6 lines fit no image, the first 'c.png'; c.png and the file x/C.png "
                                         "differ in capitals alone, which count")
    (tmp_path / "labels.csv").write_text("patient,label\n0,ill\nnobody,well\n")
    reason = reasons(found(tmp_path)[1])["labels.csv"]
    assert reason.startswith("2 of its 2 lines fit no image")


def test_lines_of_rejected_files_are_not_said_to_fit_no_image(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"x/{number}.png", number)
    (tmp_path / "x/empty.png").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("file,label\n0.png,ill\n1.png,ill\n2.png,well\nempty,well\n")
    assert list(reasons(found(tmp_path)[1])) == ["x/empty.png"]


def test_findings_that_labels_name_are_numbers_on_request(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "labels.csv").write_text("file,label,age\n0.png,Mass|Effusion,3\n1.png,Mass,4\n2.png,No Finding,5\n"
                                         "3.png,,6\n")
    records, rejected = found(tmp_path, conditions=("Effusion", "Mass", "age"))
    assert [(record.label, dict(record.conditions)) for record in records] == [
        (None, {"Effusion": 1.0, "Mass": 1.0, "age": 3.0}), (None, {"Effusion": 0.0, "Mass": 1.0, "age": 4.0}),
        (None, {"Effusion": 0.0, "Mass": 0.0, "age": 5.0})]
    assert "no number for Effusion, Mass" in reasons(rejected)["3.png"]
    records, _ = found(tmp_path, conditions=("age",))
    assert [record.label for record in records] == ["Mass|Effusion", "Mass", "No Finding"]


def test_columns_of_which_a_line_has_one_are_classes(tmp_path: Path) -> None:
    """ISIC's ground truth: a column of 0.0 and 1.0 for each diagnosis."""
    for number in range(3):
        picture(tmp_path / f"ISIC_{number}.jpg", number)
    table = tmp_path / "truth.csv"
    given: dict[str, Any] = {"labels": str(table), "columns": ("file=image",)}
    head = "image,age, MEL,NV,DF"
    table.write_text(f"{head}\nISIC_0,60,1.0,0.0,0.0\nISIC_1,,0.0,1.0,0.0\nISIC_2,1,1,0,0.0\n,,,,\n")
    assert [record.label for record in found(tmp_path, **given)[0]] == ["MEL", "NV", "MEL"]
    records = found(tmp_path, **given, conditions=("NV",))[0]
    assert [(record.label, record.conditions["NV"]) for record in records] == [(None, 0), (None, 1), (None, 0)]
    assert [record.label for record in found(tmp_path, **given, conditions=("age",))[0]] == ["MEL", "MEL"]
    for line in ("ISIC_2,1,1,1,0", "ISIC_2,1,0,0,0", "ISIC_2,1,1,0,0.5"):
        table.write_text(f"{head}\nISIC_0,60,1.0,0.0,0.0\n{line}\n")
        if line.endswith("0.5"):  # the others are classes of their own
            assert found(tmp_path, **given)[0][0].label == "MEL"
        else:
            with pytest.raises(DataError, match=r"needed are file, label"):
                found(tmp_path, **given)


def test_the_table_of_a_pull_is_no_table_of_labels(tmp_path: Path) -> None:
    picture(tmp_path / "0.png", 0)
    for name in ("pull.csv", "mine.csv"):
        (tmp_path / name).write_text("where,study,file,result\n")
    (tmp_path / "samples.csv").write_text("file,index,seed,label\n")
    _, rejected = found(tmp_path)
    assert "pull.csv" not in reasons(rejected)
    assert all(f"data.labels=PATH/{name}" in reasons(rejected)[name] for name in ("mine.csv", "samples.csv"))
    (tmp_path / "generate.json").write_text("{}")
    assert list(reasons(found(tmp_path)[1])) == ["mine.csv"]


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


def test_a_table_of_one_split_leaves_none(tmp_path: Path) -> None:
    """CheXpert's train.csv says nothing of the images in valid: training images alone would be held against nothing."""
    for number, name in enumerate(("train/p1/view.png", "train/p2/view.png", "valid/p3/view.png")):
        picture(tmp_path / name, number)
    table = tmp_path / "train.csv"
    table.write_text("file,label\ntrain/p1/view.png,a\ntrain/p2/view.png,b\n")
    records, rejected = found(tmp_path, labels=str(table))
    assert [record.split for record in records] == [None, None] and "no line" in reasons(rejected)["valid/p3/view.png"]
    table.write_text(table.read_text() + "valid/p3/view.png,a\n")
    assert [record.split for record in found(tmp_path, labels=str(table))[0]] == ["train", "train", "validation"]


def test_a_line_of_a_folder_counts_for_the_files_in_it(tmp_path: Path) -> None:
    """MIMIC-CXR's table of findings has a line a study, without the letter of the study's folder."""
    for number, name in enumerate(("p10/p10000032/s50414267/a", "p10/p10000032/s50414267/b",
                                   "p10/p10000032/s53189527/a", "p11/p11000011/s50000001/a", "p11/loose/1/c")):
        picture(tmp_path / f"files/{name}.png", number)
    table = tmp_path / "chexpert.csv"
    table.write_text("subject_id,study_id,Edema\n10000032,50414267,1.0\n10000032,53189527,0.0\n11000011,50000001,1.0\n")
    records, rejected = found(tmp_path, labels=str(table), columns=("file=study_id", "label=Edema"))
    assert [(record.label, record.patient) for record in records] == [
        ("1.0", "p10000032"), ("1.0", "p10000032"), ("0.0", "p10000032"), ("1.0", "p11000011")]
    assert list(reasons(rejected)) == ["files/p11/loose/1/c.png"]
    table.write_text("file,label\np10/p10000032,ill\np11000011,well\nb,sick\n")
    assert [record.label for record in found(tmp_path, labels=str(table))[0]] == ["ill", "sick", "ill", "well"], (
        "a file's own line counts more than that of its folder")


def test_a_folder_of_several_patients_has_no_line_of_its_own(tmp_path: Path) -> None:
    for patient in (1, 2):
        picture(tmp_path / f"patient{patient}/study1/view1.png", patient)
    (tmp_path / "labels.csv").write_text("file,label\nstudy1,ill\n,well\n")
    assert not found(tmp_path)[0], "which study is meant, nobody knows; a line that names nothing fits nothing"


def test_a_table_tells_the_official_split(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / f"{number}.png", number)
    table = tmp_path / "split.csv"
    table.write_text("dicom_id,subject_id,split\n0,7,train\n1,7,train\n2,8,validate\n3,9,test\n")
    columns = ("file=dicom_id", "patient=subject_id")
    assert [(record.patient, record.split) for record in found(tmp_path, labels=str(table), columns=columns)[0]] == [
        ("7", "train"), ("7", "train"), ("8", "validation"), ("9", "test")]
    table.write_text("dicom_id,subject_id,split\n0,7,1\n1,7,1\n2,8,2\n3,9,3\n")
    assert {record.split for record in found(tmp_path, labels=str(table), columns=columns)[0]} == {None}, (
        "a column that is only called so may be something else")
    with pytest.raises(DataError, match=r"has '1' in its column 'split'; a split is train, validation or test"):
        found(tmp_path, labels=str(table), columns=(*columns, "split=split"))


def test_a_packed_table_says_so(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    table = tmp_path / "labels.csv.gz"
    table.write_bytes(gzip.compress(b"file,label\na.png,ill\n"))
    with pytest.raises(DataError, match=r"it is packed \(gzip\): unpack it"):
        found(tmp_path, labels=str(table))


def test_a_table_of_patients_counts_for_all_their_files(tmp_path: Path) -> None:
    for number, name in enumerate(("sub-01/a.png", "sub-01/b.png", "sub-02/a.png", "sub-03/a.png")):
        picture(tmp_path / name, number)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t61\tF\nsub-02\tn/a\tM\n")
    records, rejected = found(tmp_path, labels=str(tmp_path / "participants.tsv"), conditions=("age",),
                              columns=("patient=participant_id", "label=sex"))
    assert [(one.patient, one.label, dict(one.conditions)) for one in records] == [("sub-01", "F", {"age": 61.0})] * 2
    assert "no number for age" in reasons(rejected)["sub-02/a.png"] and "no line" in reasons(rejected)["sub-03/a.png"]


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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_a_table_of_any_spreadsheet_is_read(encoding: str, tmp_path: Path) -> None:
    for name in ("P1/0.png", "P2/1.png"):
        picture(tmp_path / name, int(name[-5]))
    table = "file,label,patient\r\nP1/0.png,krank,J\u00f6rg\r\nP2/1.png,gesund,Eva\r\n"
    for sign, first in ((",", ""), (";", ""), ("\t", ""), ("|", "sep=|\r\n")):
        (tmp_path / "labels.csv").write_bytes((first + table.replace(",", sign)).encode(encoding))
        records, rejected = found(tmp_path)
        assert [(record.label, record.patient) for record in records] == [("krank", "j\u00f6rg"), ("gesund", "eva")]
        told = reasons(rejected)
        assert list(told) == ([] if encoding != "cp1252" else ["labels.csv"]), sign
        assert all("not UTF-8" in reason and "J\u00f6rg" in reason for reason in told.values())
    (tmp_path / "labels.csv").rename(tmp_path / "other.csv")
    assert "columns (file, label, patient)" in reasons(found(tmp_path)[1])["other.csv"]


@pytest.mark.parametrize(("content", "reason"), [
    (b"file,label\nP1/0.png,\x8d\x81\n", "cannot be read as a label table"),  # Japanese, of no mark
    (b"value,name\n1,liver\n", "columns value, name; needed are file, label"),
    (b"", "columns none"),
])
def test_a_table_in_the_root_that_cannot_be_used_is_an_error_and_never_passed_over(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    for name in ("P1/0.png", "P2/1.png"):
        picture(tmp_path / name, int(name[-5]))
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"{reason}.*[^.]\. The file is .*data\.labels=none to go on without it"):
        found(tmp_path)
    assert [record.label for record in found(tmp_path, labels="folders")[0]] == ["P1", "P2"]
    assert [record.label for record in found(tmp_path, labels="none")[0]] == [None, None]
