"""What cannot be used is a line with its reason, or one clear error."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from radsynth.datasets import EmptySlice, Record
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image
from tests.prepare.records import Prepare, everything, fails, picture, record, rejections, with_header


def test_bad_images_are_rejected_with_their_reason_and_the_rest_goes_on(from_records: Prepare) -> None:
    nan = np.full((1, 8, 8), np.nan, np.float32)
    half = np.random.default_rng(0).random((1, 8, 8)).astype(np.float32) + 5
    half[0, :4] = np.nan
    bad = [
        record(0, Image(pixels=np.full((1, 8, 8), 7, np.uint8))),
        record(1, Image(pixels=nan, bits=32)),
        record(2, partial(fails, RejectedFile("the file is cut off"))),
        record(3, partial(fails, KeyError("odd"))),
        record(4, picture(4, (4, 8, 8))),
        record(5, partial(fails, EmptySlice("background"))),
        record(6, picture(6, channels=("a", "b"))),
    ]
    good = [record(n) for n in range(10, 13)]
    prepared = from_records(with_header(bad + good), size=[8, 8])
    found = rejections(prepared)
    words = ("value 7", "no finite value", "cut off", "KeyError", "3 dimensions", None, "2 channels")
    assert list(found) == ["file000", "file001", "file002", "file003", "file004", "file006"]
    assert all(word in found[f"file{n:03d}"] for n, word in enumerate(words) if word)
    assert len(prepared.rows) == 3 and prepared.manifest.rejected == 6 and prepared.manifest.left_out == 1
    patched = from_records([record(20, Image(pixels=half, bits=32))], "nan", size=[8, 8])
    assert (everything(patched)[0, 0, :4] == 0).all(), "what a scanner did not see is background"


def test_copies_are_found_within_and_between_patients(from_records: Prepare) -> None:
    records = [record(0), record(1), record(2, picture(0), patient="Doe^Jane0"), record(3, picture(1)), record(4)]
    prepared = from_records(records, size=[20, 20])
    found = rejections(prepared)
    assert len(prepared.rows) == 3 and prepared.manifest.duplicates == 2 and prepared.manifest.rejected == 0
    assert "another patient" not in found["file002"] and "another patient" in found["file003"]
    assert len(np.unique(everything(prepared).reshape(3, -1), axis=0)) == 3


def test_images_without_a_mask_among_those_with_one(from_records: Prepare) -> None:
    def masked(n: int) -> Record:
        return record(n, picture(n).replace(mask=np.eye(20, dtype=np.uint8)))

    background = record(3, partial(fails, EmptySlice("background")))
    most = from_records(with_header([masked(0), masked(1), record(2), background]), "most", size=[20, 20])
    assert len(most.rows) == 2 and most.spec.mask_classes == 2 and most.manifest.left_out == 1
    assert list(rejections(most)) == ["file002"] and "no mask" in rejections(most)["file002"]
    few = from_records([masked(0), record(1), record(2)], "few", size=[20, 20])
    assert len(few.rows) == 3 and few.spec.mask_classes == 0 and not list(few.folder.rglob("*.masks.npy"))
    off = from_records([masked(0), masked(1), record(2)], "off", size=[20, 20], masks="off")
    assert len(off.rows) == 3 and off.spec.mask_classes == 0


def test_a_label_value_of_one_patient_alone_is_rejected_among_many(from_records: Prepare,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    def masked(n: int, label: int) -> Record:
        return record(n, picture(n).replace(mask=label * np.eye(20, dtype=np.uint8)))

    many = [*(masked(n, 1 + n % 2) for n in range(20)), masked(20, 117)]
    found = from_records(many, "many", size=[20, 20])
    assert len(found.rows) == 20 and found.spec.mask_values == (0, 1, 2)
    assert list(rejections(found)) == ["file020"]
    assert "value 117, as none of the other 20 patients has (they have 0, 1, 2)" in rejections(found)["file020"]
    assert from_records(many, "all", size=[20, 20], masks="all").spec.mask_values == (0, 1, 2, 117)
    assert "label value" not in capsys.readouterr().err, "rejected, or said to be meant"
    assert from_records(many[2:], "few", size=[20, 20]).spec.mask_values == (0, 1, 2, 117), "19 patients are few"
    said = " ".join(capsys.readouterr().err.split())
    assert "of 19 patients with masks only one has the label value 117 (first in that of file020)" in said


def test_data_that_cannot_be_used_as_a_whole_is_one_clear_error(from_records: Prepare, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image that can be used") as empty:
        from_records([record(0, partial(fails, RejectedFile("cut off")))], "empty")
    assert "file000: cut off" in str(empty.value) and not (tmp_path / "empty").exists()
    with pytest.raises(DataError, match=r"0 were rejected or skipped, 1 are background by data\.minimum_foreground"):
        from_records(with_header([record(0, partial(fails, EmptySlice("dark")))]), "dark")
    mixed = [record(0), record(1, picture(1, modality="MR", bits=12)), record(2, picture(2, channels=("a", "b", "c")))]
    with pytest.raises(DataError, match="3 groups") as groups:
        from_records(mixed, "mixed")
    assert "1 image: 2-D, MR, 1 channel" in str(groups.value) and "file002" in str(groups.value)
    with pytest.raises(DataError, match="strict"):
        from_records([record(0), record(1, Image(pixels=np.zeros((1, 8, 8), np.uint8)))], "strict", strict=True)
    made = from_records([record(0), record(1, Image(pixels=np.zeros((1, 8, 8), np.uint8)))], "strict")
    assert made.manifest.rejected == 1, "what was made in vain is used"
    with pytest.raises(DataError, match=r"1 file cannot be used.*rejected\.csv"):
        from_records([record(0), record(1, Image(pixels=np.zeros((1, 8, 8), np.uint8)))], "strict", strict=True)
    with pytest.raises(DataError, match=r"become one grey in the window 0 to 1e\+300.*narrower prepare\.window"):
        from_records([record(0)], "wide", intensity="window", window=[0, 1e300])
    with pytest.raises(SettingsError, match="2-D"):
        from_records([record(0)], "volume", size=[8, 8, 8])
    with pytest.raises(SettingsError, match=r"prepare.train.*prepare.window"):
        from_records([record(0)], "settings", train=0.9, validation=0.2, window=[10, -10])
