"""Patients are split once and whole; extra images are for training alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from radsynth.errors import DataError, SettingsError
from radsynth.verbs._scarce import untaught
from radsynth.verbs.prepare import prepare
from tests.prepare.records import Prepare, fails, picture, record


def test_patients_are_split_whole_by_class_and_seed(from_records: Prepare) -> None:
    records = [record(n, patient=f"p{n // 3}", label="rare" if n // 3 % 5 == 0 else "usual") for n in range(300)]
    prepared = from_records(records, size=[8, 8])
    assert prepared.manifest.patients == {"train": 70, "validation": 15, "test": 15}
    splits: dict[str, set[str]] = {}
    for row in prepared.rows:
        splits.setdefault(row.patient, set()).add(row.split)
    assert len(splits) == 100 and all(len(found) == 1 for found in splits.values())
    rare = {
        split: len({r.patient for r in prepared.rows if r.split == split and r.label == 0})
        for split in ("train", "test")
    }
    assert rare == {"train": 14, "test": 3} and prepared.spec.labels == ("rare", "usual")
    again, other = (
        from_records(records, "again", size=[8, 8]),
        from_records(records, "other", size=[8, 8], split_seed=1),
    )
    assert (
        [row.split for row in again.rows] == [row.split for row in prepared.rows] != [row.split for row in other.rows]
    )


@pytest.mark.parametrize("patients, wanted", [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_few_patients_still_reach_every_split(patients: int, wanted: tuple[int, ...], from_records: Prepare) -> None:
    prepared = from_records([record(n) for n in range(patients)], size=[8, 8])
    assert tuple(prepared.manifest.patients.values()) == wanted


def test_shares_that_leave_nothing_leave_nobody(from_records: Prepare) -> None:
    """1 - 0.7 - 0.3 is a little more than 0 in floating point."""
    prepared = from_records([record(n) for n in range(10)], size=[8, 8], train=0.7, validation=0.3)
    assert prepared.manifest.patients == {"train": 7, "validation": 3, "test": 0}


@pytest.mark.parametrize("seed", range(6))
def test_every_class_has_training_images(seed: int, from_records: Prepare) -> None:
    """The last of 18 patients in order falls into the test."""
    records = [record(n, patient=f"p{n // 2}", label="rare" if n // 2 == 7 else "common") for n in range(36)]
    prepared = from_records(records, size=[8, 8], split_seed=seed)
    assert prepared.training_labels() == {"common": 22, "rare": 2}
    assert prepared.manifest.patients == {"train": 12, "validation": 3, "test": 3}, "another took the place"


@pytest.mark.parametrize("seed", range(4))
def test_patients_of_a_class_are_brought_without_emptying_a_split(seed: int, from_records: Prepare) -> None:
    singles = [record(n, label=f"class {n}") for n in range(9)]
    found = from_records(singles, size=[8, 8], split_seed=seed).manifest.patients
    assert found == {"train": 7, "validation": 1, "test": 1}
    masked = [record(n, picture(n).replace(mask=np.eye(20, dtype=np.uint8)), label="c") for n in range(4)]
    bare = [replace(record(n, label="rare" if n == 4 else "c"), unmasked=True) for n in range(4, 22)]
    prepared = from_records([*masked, *bare], "both", size=[8, 8], split_seed=seed)
    assert prepared.training_labels()["rare"] == 1
    with_masks = prepared.masked(np.arange(22))
    assert {row.split for row, own in zip(prepared.rows, with_masks, strict=True) if own} == {
        "train", "validation", "test"}


def test_a_class_without_training_images_is_told(from_records: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    records = [record(n, label=("common", "rare")[n == 0], split=("train", "test")[n < 3]) for n in range(12)]
    for _ in range(2):  # made, and found finished
        assert from_records(records, size=[8, 8]).training_labels() == {"common": 9, "rare": 0}
        said = capsys.readouterr().err
        assert "no training image is of the class rare: it is not learned" in said
        assert "prepare.official=false" in said
    from_records(records, "anew", size=[8, 8], official=False)
    assert "no training image" not in capsys.readouterr().err


def test_of_many_classes_without_training_images_the_first_are_named() -> None:
    """Labels of several findings make hundreds of classes."""
    told = untaught({"common": 9, **{f"class {n:03}": 0 for n in range(300)}})
    assert "of the classes class 000, class 001, " in told and "class 007 and 292 more: they are not learned" in told
    assert len(told) < 500


def test_classes_of_few_training_images_are_told(from_records: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["common"] * 21 + ["rare"] * 3
    from_records([record(n, label=label, split="train") for n, label in enumerate(labels)], size=[8, 8])
    assert "mind: 1 of the 2 classes has 20 training images or fewer" in (said := capsys.readouterr().err)
    assert "among the others: rare (3). A table of labels" in said and "no training image" not in said
    from_records([record(n, label=label, split="test") for n, label in enumerate(labels)], "test", size=[8, 8])
    assert "mind" not in capsys.readouterr().err, "nothing is to be learned"


def test_classes_that_a_task_does_not_learn_are_not_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(24):
        path = tmp_path / "in" / ("common" if n < 21 else "rare") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(picture(n).pixels[0]).save(path)
    for kind, told in (("synthesis", True), ("cycle", True), ("restore", False)):
        prepare(tmp_path / "in", tmp_path / kind, workers=1, overrides=(
            f"task.kind={kind}", "prepare.size=[8,8]", "prepare.train=1", "prepare.validation=0"))
        assert ("mind: 1 of the 2 classes has 20 training images" in capsys.readouterr().err) == told, kind


def test_an_official_split_is_kept(from_records: Prepare) -> None:
    records = [record(n, split=("train", "test")[n % 2], patient=f"p{n % 6}") for n in range(12)]
    prepared = from_records(records, size=[8, 8])
    assert [row.split for row in prepared.rows] == ["train", "test"] * 6
    torn = [*records, record(12, split="test", patient="p0")]
    for more, reason in (((), r"One patient is in two official splits, as file000 \(train\) and file012 \(test\) show"),
                         ((record(13, split="train", patient="p1"),), "2 patients are in two official splits")):
        with pytest.raises(DataError, match=reason):  # before anything is read
            from_records([replace(one, load=partial(fails, AssertionError())) for one in (*torn, *more)], "torn")
    assert sum(from_records(torn, "anew", size=[8, 8], official=False).manifest.counts.values()) == 13


def test_extra_images_are_of_the_datas_classes(from_records: Prepare, tmp_path: Path) -> None:
    """`generate` writes a class as a folder, whose name may hold no slash: it would be a class of its own."""
    for k, name in enumerate(("rare_one/0.png", "rare_one/1.png", "strange/2.png", "3.png")):
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(picture(100 + k).pixels[0]).save(tmp_path / "made" / name)
    (tmp_path / "made" / "rare_one" / "4.png").write_text("no picture")
    real = [record(n, label=("common", "rare/one")[n % 2]) for n in range(10)]
    prepared = from_records(real, "classes", size=[20, 20], extra=str(tmp_path / "made"))
    assert prepared.spec.labels == ("common", "rare/one") and len(prepared.rows) == 12
    assert prepared.labels(np.array([10, 11])).tolist() == [1, 1]
    table = (prepared.folder / "rejected.csv").read_text()
    assert prepared.manifest.rejected == 3 and "extra/strange/2.png,its class strange is none of the data's" in table
    assert "extra/3.png" in table and "extra/rare_one/4.png" in table, "they are none of the data's own files"
    shutil.rmtree(tmp_path / "made" / "rare_one")
    with pytest.raises(DataError, match=r"no image that can be used; 3\.png: it has no class"):
        from_records(real, "none", size=[20, 20], extra=str(tmp_path / "made"))
    bare = from_records([record(n) for n in range(10)], "bare", size=[20, 20], extra=str(tmp_path / "made"))
    assert bare.spec.labels == () and {row.label for row in bare.rows} == {-1}


def test_extra_images_are_for_training_alone_whatever_the_split(from_records: Prepare, tmp_path: Path) -> None:
    more = tmp_path / "made"
    for kind in ("images", "masks"):
        (more / kind).mkdir(parents=True)
        for k in range(5):
            values = picture(100 + k).pixels[0] if kind == "images" else np.full((20, 20), 2, np.uint8)
            PIL.Image.fromarray(values).save(more / kind / f"{k}.png")
    real = [record(n, picture(n).replace(mask=np.eye(20, dtype=np.uint8))) for n in range(10)]
    for official in (True, False):
        prepared = from_records(real, f"both{official}", size=[20, 20], extra=str(more), official=official)
        made = (prepared.stored(np.arange(15), "masks") == 2).all((1, 2))
        assert made.sum() == 5 and {prepared.rows[k].split for k in np.flatnonzero(made)} == {"train"}
        assert prepared.manifest.counts["test"] > 0 and prepared.spec.mask_classes == 3
        assert prepared.manifest.added == {"images": 5, "patients": 5}
    assert from_records(real, "alone", size=[20, 20]).manifest.added == {}
    with pytest.raises(SettingsError, match="does not exist"):
        from_records(real, "none", size=[20, 20], extra=str(tmp_path / "nothing"))


def test_a_folder_named_extra_holds_images_like_any_other(from_records: Prepare) -> None:
    own = [replace(record(n, split="test"), source=f"extra/{n}.png") for n in range(20)]
    assert from_records(own, size=[20, 20], official=False).manifest.counts["train"] == 14
