"""What the manifest and the table say: labels, counts, and nothing about patients."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image

from radsynth.image import ImageSpec
from radsynth.verbs.prepare import prepare
from tests.prepare.records import Prepare, picture, record


def test_the_names_of_labels_travel_with_the_values_that_occur(from_records: Prepare) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:], mask[:10] = 3, 7
    masked = replace(record(0, picture(0, (40, 40)).replace(mask=mask)), mask_names={1: "nothing", 3: "liver"})
    spec = from_records([masked], "named", size=[40, 40]).spec
    assert spec.mask_values == (0, 3, 7) and spec.mask_names == ("background", "liver", "label 7")
    assert [spec.label_name(value) for value in (3, 7, 9)] == ["liver", "label 7", "label 9"]
    assert from_records([masked], "off", size=[40, 40], masks="off").spec.mask_names == ()
    assert from_records([masked], "instances", size=[40, 40], masks="instances").spec.mask_names == ()
    assert ImageSpec.from_json(spec.to_json()) == spec


def test_labels_are_in_order_and_may_be_missing(from_records: Prepare) -> None:
    records = [record(n, label=label) for n, label in enumerate(("10", "9", None, "9"))]
    prepared = from_records(records, size=[8, 8])
    assert prepared.spec.labels == ("9", "10") and [row.label for row in prepared.rows] == [1, 0, -1, 0]


def test_no_patient_travels_and_the_salt_is_forgotten(from_records: Prepare, tmp_path: Path) -> None:
    records = [record(n) for n in range(6)]
    first, second = from_records(records, "a", size=[8, 8]), from_records(records, "b", size=[8, 8])
    assert first.manifest.data_hash == second.manifest.data_hash
    assert not {row.patient for row in first.rows} & {row.patient for row in second.rows}, "another salt in each folder"
    for path in (tmp_path / "a").rglob("*"):
        assert path.is_dir() or (b"Doe" not in path.read_bytes() and b"file0" not in path.read_bytes()), path
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "manifest.json", "records.csv", "rejected.csv", "shards"]  # fmt: skip


def test_the_manifest_is_plain_json_that_says_what_is_there(from_records: Prepare) -> None:
    prepared = from_records([record(n, label="x") for n in range(10)], size=[12, 16])
    document = json.loads((prepared.folder / "manifest.json").read_text())
    assert document["spec"]["size"] == [12, 16] and document["counts"] == {"train": 7, "validation": 1, "test": 2}
    assert document["spec"]["virtual"] is False and len(document["data_hash"]) == 64


def test_a_path_and_words_in_place_of_settings(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for k in range(6):
        ramp = (np.arange(20 * 24).reshape(20, 24) * (k + 1) % 256).astype(np.uint8)
        PIL.Image.fromarray(ramp).save(tmp_path / "scans" / f"patient{k}.png")
    made = prepare(tmp_path / "scans", tmp_path / "out", overrides=["prepare.size=[16, 16]"], workers=1)
    assert made.spec.size == (16, 16) and len(made.rows) == 6
