"""inspect: the counts are right, problems are said, the page is one file, and many files are looked at quickly."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.data import get_testdata_file

from radsynth import io
from radsynth.datasets import Rejected, folder
from radsynth.errors import DataError
from radsynth.settings import read_yaml, resolve
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from tests.folder.examples import ct_series


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes, three patients, two equal files, one file that is none, one text."""
    data = tmp_path / "data"
    for number, name in enumerate(("ill/patient1_a", "ill/patient1_b", "well/patient2_a", "well/patient3_a")):
        path = data / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).integers(10, 200, (20 + number, 16), np.uint8)
        Pillow.fromarray(values).save(path)
    shutil.copy(data / "ill/patient1_a.png", data / "well/patient9_a.png")
    (data / "ill/<script>.png").write_bytes(b"GIF89a")
    (data / "notes.txt").write_text("hello")
    return data


def test_it_counts_what_is_there(pictures: Path) -> None:
    found = inspect(pictures)
    assert (found.kind, found.n_images, found.n_patients, found.labels) == ("folder", 5, 4, {"ill": 2, "well": 3})
    assert (found.modality, found.channels, found.bits, found.units, found.dimensions) == ("OT", 1, 8, "stored", 2)
    assert found.median_size == (21, 16) and found.spacing is None and found.formats == {"picture": 5}
    assert found.sizes["20 x 16"] == 2 and found.masks == ()
    assert found.masked_patients == 0
    assert [line.path for line in found.rejected] == ["ill/<script>.png"] and len(found.skipped) == 1
    assert found.duplicates == (("ill/patient1_a.png", "well/patient9_a.png"),)
    assert found.intensity is not None and (found.intensity.low, found.intensity.high) == (10, 199)
    assert sum(found.intensity.counts) == sum(20 * 16 + number * 16 for number in (0, 1, 2, 3, 0))
    assert found.fingerprint.size == (21, 16) and found.planned[0]["setting"] == "prepare.size"


def test_ct_without_air_is_told_unless_a_window_is_chosen_for_it(tmp_path: Path) -> None:
    for number in range(2):
        values = np.arange(144, dtype=np.uint16).reshape(12, 12) * 20 + number
        Pillow.fromarray(values).save(tmp_path / f"patient{number}.png")

    def told(*words: str) -> bool:
        given = resolve(overrides=["data.kind=folder", f"data.path={tmp_path}", *words])
        return "none lies below 0" in inspect(tmp_path, settings=given).text()

    assert told("data.modality=CT") and told("prepare.intensity=window")
    assert not (told() or told("data.modality=CT", "prepare.window=[0, 3000]")
                or told("data.modality=CT", "prepare.intensity=percentiles"))


def test_some_images_without_air_among_ct_are_told(tmp_path: Path) -> None:
    """AMOS22 has MR beside CT under one modality, mapped as CT without a word; then the number was no JSON."""
    for number, lowest in enumerate((-1000, -1000, 0)):
        values = np.arange(600, dtype=np.int16).reshape(12, 10, 5) + np.int16(lowest)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{number}.nii.gz")
    given = resolve(overrides=["data.kind=folder", f"data.path={tmp_path}", "data.modality=CT"])
    told = inspect(tmp_path, settings=given, out=tmp_path / "out").text()
    assert "5 x values" in told and "these may be no CT" in told and "prepare.window" not in told
    assert '": 5' in (tmp_path / "out" / "inspection.json").read_text(encoding="utf-8")
    (tmp_path / "2.nii.gz").unlink()
    assert "none lies below 0" not in inspect(tmp_path, settings=given).text()


def test_every_kind_of_images_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radsynth.verbs.inspect.SAMPLE", 2)  # 64, of which 64 numbers of channels are not more
    for channels in range(1, 5):
        image = nibabel.Nifti1Image(np.arange(50 * channels, dtype=np.int16).reshape(5, 5, 2, 1, channels), np.eye(4))
        nibabel.save(image, tmp_path / f"{channels}.nii.gz")
    given = resolve(overrides=["data.kind=folder", f"data.path={tmp_path}"])
    assert "(4 images sampled)" in inspect(tmp_path, settings=given).text()


def test_volumes_that_are_ct_by_their_values_are_prepared_as_ct(tmp_path: Path) -> None:
    """NIfTI does not say what it is: what `inspect` calls Hounsfield units has to stay such."""
    body = np.full((12, 14, 6), -1000, np.int16)
    body[3:9, 3:10] = 40 + np.arange(7, dtype=np.int16)[:, None]
    for number in range(3):
        nibabel.save(nibabel.Nifti1Image(body + np.int16(number), np.eye(4)), tmp_path / f"{number}.nii.gz")
    data = {"data": {"kind": "folder", "path": str(tmp_path)}}
    found = inspect(tmp_path, out=tmp_path / "look")
    planned = {choice["setting"]: choice["value"] for choice in found.planned}
    assert planned["data.modality"] == "CT" and found.modality == "CT" and found.mapping == "window"
    assert found.spec is not None and (found.spec.modality, found.spec.units) == ("CT", "HU")
    settings = resolve(read_yaml(tmp_path / "look" / "settings.yaml"), data)
    prepared = prepare(settings.section("data"), tmp_path / "prepared", settings=settings, workers=1)
    assert (prepared.spec.modality, prepared.spec.units, prepared.intensity.method) == ("CT", "HU", "window")
    for told in ("MR", "CT"):
        given = resolve(data, overrides=[f"data.modality={told}"])
        assert not inspect(tmp_path, settings=given).ct_by_values
    made = io.Provenance(model="sngan", weights="", seed=0, index=0)  # which says that it is CT
    io.write(io.read(tmp_path / "0.nii.gz"), tmp_path / "made" / "a.nii.gz", provenance=made)  # type: ignore[arg-type]
    given = resolve(data, overrides=["data.only=^[0-9]", f"prepare.extra={tmp_path / 'made'}"])
    added = inspect(tmp_path, settings=given)
    assert added.added and added.ct_by_values and not added.mixed
    shutil.rmtree(tmp_path / "made")
    (tmp_path / "2.nii.gz").unlink()
    nibabel.save(nibabel.Nifti1Image(body[3:9, 3:10], np.eye(4)), tmp_path / "2.nii.gz")
    text = inspect(tmp_path).text()
    assert "data.modality=CT says that all are CT" in text and "data.modality = CT" not in text


def masked(folder: Path, masks: dict[str, list[int]]) -> str:
    """What is said of 12 pictures with masks of stripes that have these values in turn, by the ends of their names."""
    rng = np.random.default_rng(0)
    for number in range(12):
        path = folder / f"patient{number}.png"
        folder.mkdir(exist_ok=True)
        Pillow.fromarray(rng.integers(0, 255, (20, 20), np.uint8)).save(path)
        for end, highest in masks.items():
            values = np.arange(20) % (highest[number % len(highest)] + 1)
            Pillow.fromarray(np.tile(values, (20, 1)).astype(np.uint8)).save(folder / f"patient{number}{end}.png")
    return inspect(folder).text()


def test_masks_that_can_be_meant_in_two_ways_are_said_with_the_other_way(tmp_path: Path) -> None:
    together, numbered = "12 x several masks of one image", "12 x a mask whose values are 1 to n"
    assert together in masked(tmp_path / "together", {"_mask_1": [1], "_mask_2": [1]})
    assert together not in masked(tmp_path / "parts", {"_mask_1": [1], "_mask_2": [2]})
    assert numbered in masked(tmp_path / "cells", {"_mask": [3, 7, 9, 5]})
    for name, highest in (("classes", [3]), ("brats", [1, 2, 3]), ("two", [2, 5])):
        assert numbered not in masked(tmp_path / name, {"_mask": highest}), name
    settings = resolve(overrides=["data.kind=folder", f"data.path={tmp_path / 'cells'}", "prepare.masks=instances"])
    assert numbered not in inspect(tmp_path / "cells", settings=settings).text()


def test_label_maps_among_the_images_are_told(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for k in range(6):
        for name, values in (("ct", draw.integers(0, 255, (16, 16))), ("roi", draw.integers(0, 3, (16, 16)))):
            Pillow.fromarray(values.astype(np.uint8)).save(tmp_path / f"p{k}_{name}.png")
    told = "x at most 16 different values, all whole numbers, among the sampled images"
    assert f"6 {told}" in inspect(tmp_path).text()
    chosen = resolve({"data": {"kind": "folder", "path": str(tmp_path), "only": "ct"}})
    assert told not in inspect(tmp_path, settings=chosen).text()


def test_labels_of_several_findings_are_said_with_what_to_do(pictures: Path) -> None:
    files = [path.name for path in sorted(pictures.rglob("patient*.png"))]
    names = ("Mass|Effusion", "None", "None", "Mass|Effusion|Hernia", "Mass|Hernia")
    lines = ["file,label", *(f"{file},{name}" for file, name in zip(files, names, strict=True))]
    (pictures / "labels.csv").write_text("\n".join(lines))
    said = inspect(pictures).text()
    assert "each of the 4 combinations would be a class" in said and "4 findings are Mass (3), " in said
    assert "data.conditions=[Mass, Effusion]" in said and ", values as stored" in said


def test_classes_of_too_few_images_are_named_with_what_to_do(tmp_path: Path) -> None:
    def said(**counts: int) -> str:
        data = tmp_path / "-".join(map(str, counts.values()))
        data.mkdir()
        names = [name.replace("_and_", "|") for name, count in counts.items() for _ in range(count)]
        for number in range(len(names)):
            values = np.random.default_rng(number).integers(10, 200, (16, 16), np.uint8)
            Pillow.fromarray(values).save(data / f"{number}.png")
        (data / "labels.csv").write_text("\n".join(["file,label", *(f"{n}.png,{one}" for n, one in enumerate(names))]))
        return inspect(data).text()

    some = said(Mass=21, Mass_and_Hernia=1, Hernia=20)
    assert "each of the 3 combinations would be a class" in some
    assert "2 of the 3 classes have 20 images or fewer" in some and "Mass|Hernia (1), Hernia (20)" in some
    assert "among the others: Hernia (3). A table of labels" in said(Mass=21, Hernia=3)
    assert "images or fewer" not in said(Mass=20, Hernia=3), "all are few, which is another matter"
    np.savez(tmp_path / "npz.npz", images=np.random.default_rng(0).integers(0, 255, (24, 16, 16), np.uint8),
             labels=np.arange(24) < 3)
    text = inspect(tmp_path / "npz.npz").text()
    assert "images or fewer" in text and "data.labels" not in text, "only folders take tables"


def test_what_prepare_refuses_is_said_before(pictures: Path) -> None:
    shutil.copy(str(get_testdata_file("CT_small.dcm")), pictures / "ct.dcm")
    words = ["data.kind=folder", f"data.path={pictures}", "data.labels=none"]
    found = inspect(pictures, settings=resolve(overrides=words))
    assert not found.planned and found.fingerprint.images == 6
    said = found.text()
    assert "prepare and run will refuse this" in said and "5 images: 2-D, OT" in said and "1 image: 2-D, CT" in said
    assert "would choose" not in said and "ct.dcm" not in json.dumps(found.without_names().to_json())
    with pytest.raises(DataError, match="The data mixes 2 groups"):
        prepare(folder.Settings(path=pictures, labels="none"), pictures.parent / "out", settings=resolve())
    assert inspect(pictures, settings=resolve(overrides=[*words, r"data.only=\.png$"])).planned


def test_grey_that_is_stored_as_colour_is_learned_as_grey(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        grey = np.kron(rng.integers(0, 255, (4, 4)), np.ones((8, 8))).astype(np.uint8)
        shown = grey if number % 3 else np.stack([grey] * 3, axis=-1)
        Pillow.fromarray(shown).save(tmp_path / f"{number}.{'jpg' if number % 2 else 'png'}")
    look = inspect(tmp_path)
    assert look.grey_in_colour and not look.mixed and look.fingerprint.channels == 1
    assert {"setting": "prepare.channels", "value": "grey"}.items() <= look.planned[0].items()
    assert "1, stored as colour" in look.text()
    Pillow.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    assert not inspect(tmp_path).grey_in_colour and "prepare.channels=grey" in inspect(tmp_path).mixed


def test_one_picture_among_many_that_is_stored_as_colour_is_seen(tmp_path: Path) -> None:
    """ChestX-ray14 has a few of four channels among its grey ones: no sample of all images would show them."""
    for number in range(100):
        grey = np.random.default_rng(number).integers(0, 255, (8, 8), dtype=np.uint8)
        Pillow.fromarray(grey).convert("RGBA" if number == 5 else "L").save(tmp_path / f"{number:03d}.png")
    look = inspect(tmp_path)
    assert look.grey_in_colour and not look.mixed


def test_data_with_nothing_wrong_is_not_warned_of(tmp_path: Path) -> None:
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 255, (20, 16), dtype=np.uint8)
        Pillow.fromarray(noise).save(tmp_path / f"{number}.png")
    lines = inspect(tmp_path).text().splitlines()
    assert "  nothing is wrong" in lines and not any("!" in line for line in lines)


def test_an_image_of_another_scale_is_told(tmp_path: Path) -> None:
    for number in range(5):
        values = np.random.default_rng(number).integers(10, 400, (20, 16)) * (100 if number == 3 else 1)
        Pillow.fromarray(values.astype(np.uint16)).save(tmp_path / f"{number}.png")
    assert any("images differ in scale" in line for line in inspect(tmp_path).text().splitlines())
    (tmp_path / "3.png").unlink()
    assert "differ in scale" not in inspect(tmp_path).text()


def test_bone_beside_water_is_no_other_scale(tmp_path: Path) -> None:
    """99 % of a slice of lung and soft tissue may lie below 20 HU, of one with bone below 1,000."""
    for number in range(5):
        values = np.full((12, 14, 6), -1000, np.int16)
        values[3:9, 3:10] = 900 if number == 3 else np.arange(14, 21)[:, None]
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{number}.nii.gz")
    assert "differ in scale" not in inspect(tmp_path).text()


def test_images_of_devices_with_other_bit_depths_are_told(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (8, 12, 12), dtype=np.uint16)
    for number, one in enumerate(values):
        Pillow.fromarray(one * (16 if number % 2 else 1)).save(tmp_path / f"{number}.png")
    found = inspect(tmp_path)
    assert any("prepare.intensity=percentiles" in line for line in found.text().splitlines())
    told = inspect(tmp_path, settings=resolve({"data": {"kind": "folder", "path": str(tmp_path)}},
                                              overrides=["prepare.intensity=percentiles"]))
    assert "images differ in scale" not in told.text()


def test_it_is_plain_json_and_plain_words(pictures: Path) -> None:
    found = inspect(pictures)
    assert json.loads(json.dumps(found.to_json()))["labels"] == {"ill": 2, "well": 3}
    text = found.text()
    for part in (
        "5 images of 4 patients",
        "ill (2), well (3)",
        "content is a GIF",
        "1 file with the content of another",
        "radsynth run would",
    ):
        assert part in text, text


def test_the_page_is_one_file_and_escapes_names(pictures: Path, tmp_path: Path) -> None:
    inspect(pictures, out=tmp_path / "out")
    page = (tmp_path / "out" / "inspect.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and page.count("data:image/png;base64,") == 5
    document = json.loads((tmp_path / "out" / "inspection.json").read_text(encoding="utf-8"))
    assert document["n_images"] == 5 and "pictures" not in document


def test_what_run_would_choose_is_a_file_of_settings(pictures: Path, tmp_path: Path) -> None:
    found = inspect(pictures, out=tmp_path / "out")
    chosen = read_yaml(tmp_path / "out" / "settings.yaml")
    assert {f"{s}.{key}": value for s, part in chosen.items() for key, value in part.items()} == {
        choice["setting"]: choice["value"] for choice in found.planned}
    resolve(chosen, sections=("prepare", "train", "task", "model", "augment"))  # and all of them are allowed


def test_what_is_given_is_told_in_place_of_what_the_plan_had(pictures: Path) -> None:
    words = (f"data.path={pictures}", r"data.only=\.png$", "data.kind=folder", "train.rate=0.25", "prepare.size=[16,8]")
    planned = {choice["setting"]: choice for choice in inspect(pictures, settings=resolve(overrides=words)).planned}
    assert planned["train.rate"]["value"] == 0.25
    assert planned["train.rate"]["reason"].startswith("As asked for. The plan had")
    assert planned["prepare.size"]["value"] == [16, 8] and planned["prepare.size"]["reason"] == "As asked for."


def test_the_plan_is_that_of_the_task_and_the_network_that_are_asked_for(pictures: Path) -> None:
    def chosen(*words: str) -> dict[str, Any]:
        settings = resolve(overrides=[f"data.path={pictures}", "data.kind=folder", *words])
        return {choice["setting"]: choice["value"] for choice in inspect(pictures, settings=settings).planned}

    restore = chosen("task.kind=restore", "train.seconds=60")
    assert restore["task.kind"] == "restore" and restore["train.seconds"] == 60 and "task.loss" not in restore
    assert chosen()["model.kind"] == "sngan" and chosen("model.kind=r3gan")["model.kind"] == "r3gan"


def test_the_rejected_files_are_a_table_that_no_spreadsheet_runs(pictures: Path, tmp_path: Path) -> None:
    (pictures / "=cmd.png").write_bytes(b"")
    inspect(pictures, out=tmp_path / "out")
    with (tmp_path / "out" / "rejected.csv").open(encoding="utf-8", newline="") as file:
        lines = {line["path"]: (line["reason"], line["skipped"]) for line in csv.DictReader(file)}
    assert lines["'=cmd.png"][0] == "the file is empty (0 bytes)" and lines["notes.txt"][1] == "yes"
    assert "content is a GIF" in lines["ill/<script>.png"][0] and lines["ill/<script>.png"][1] == "no"


def test_settings_say_how_to_look(pictures: Path) -> None:
    settings = resolve({"data": {"kind": "folder", "path": str(pictures)}}, overrides=["data.only=^ill/"])
    assert inspect(pictures, settings=settings).n_images == 2
    assert inspect(folder.Settings(path=pictures, labels="none")).labels == {}


def test_nothing_to_look_at_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        inspect(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no image that can be used"):
        inspect(tmp_path)


def test_many_files_are_looked_at_quickly(tmp_path: Path) -> None:
    """10,000 PNG files are promised in 20 s on two cores; 1,000 in 6 s of computing leave room for a busy machine."""
    for number in range(1000):
        Pillow.fromarray(np.full((16, 16), number % 251, np.uint8) + np.eye(16, dtype=np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    start = time.process_time()
    assert inspect(folder.Settings(path=tmp_path)).n_images == 1000
    assert time.process_time() - start < 6


def test_many_kinds_of_scan_are_told(tmp_path: Path) -> None:
    """Of more than 20 nothing was said, though they make the poorest generator."""
    for number, path in enumerate(ct_series(tmp_path / "S", count=21)):
        dataset = pydicom.dcmread(path)
        dataset.SeriesDescription, dataset.SeriesInstanceUID = f"Kind {number:02}", f"1.2.{number}"
        dataset.save_as(path)
    assert "several kinds of scan are mixed (Kind 00 (1), Kind 01 (1)" in inspect(tmp_path).text()


def test_real_data(shared_data: Path) -> None:
    found = inspect(shared_data / "brain_dicom")
    assert (found.n_images, found.n_patients, found.modality, found.median_size) == (88, 1, "MR", (320, 280))
    assert len(found.series) == 4 and "several kinds of scan are mixed (T1post (22), T1pre_reg" in found.text()
    volumes = inspect(folder.Settings(path=shared_data / "hippocampus", plane="volume"))
    assert (volumes.n_images, volumes.dimensions, volumes.masks) == (260, 3, (0, 1, 2))
    assert volumes.masked_patients == 260


def test_a_series_that_cannot_be_used_is_not_called_a_file(tmp_path: Path) -> None:
    ct_series(tmp_path / "whole")
    ct_series(tmp_path / "torn", seed=1)[2].unlink()
    (tmp_path / "notes.txt").touch()
    text = inspect(tmp_path).text()
    assert "! 1 file or series rejected:" in text and "torn/" in text and "a series of 4 files" in text
    assert "! 1 file or series not used: notes.txt" in text
    with pytest.raises(DataError, match="1 file or series cannot be used"):
        prepare(folder.Settings(path=tmp_path), tmp_path / "out", settings=resolve(overrides=("prepare.strict=true",)))


def test_reasons_why_files_are_not_used_are_put_together_and_none_is_hidden(pictures: Path) -> None:
    (pictures / "mine.csv").write_text("name,class\n")
    for number in range(3):
        (pictures / f"note{number}.txt").touch()
    copies = [Rejected(path=f"b{number}", reason=f"a copy (the same) of a{number}", skipped=True) for number in (0, 1)]
    found = inspect(pictures)
    found = replace(found, skipped=(*found.skipped, *copies))
    text = found.text()
    unread = sum("of no format" in line.reason for line in found.skipped)
    assert f"{unread} x it is of no format that radsynth reads; 2 x a copy (the same) of a0, or alike; " in text
    assert "; mine.csv: a table" in text
    many = tuple(Rejected(path=str(k), reason=f"reason {k}", skipped=True) for k in range(9))
    assert "9 files not used: 0: reason 0; " in (text := replace(found, skipped=many).text())
    assert "5: reason 5; 3 for other reasons (--out writes them all" in text


def test_nan_around_what_is_shown_is_told(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in "abc":
        values = draw.normal(100, 9, (20, 20)).astype(np.float32)
        if name != "c":
            values[:4] = np.nan
        np.save(tmp_path / f"{name}.npy", values)
    found = inspect(tmp_path)
    assert found.n_images == 3 and not found.rejected
    assert [count for note, count in found.notes.items() if note.startswith("NaN around what is shown")] == [2]
