"""Preparing: what is written is true, whole, reproducible and says nothing about patients."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from radsynth.arrays import IntensityMap, Prepared
from radsynth.datasets import EmptySlice, Record, folder
from radsynth.errors import DataError, FolderError, RadsynthError, RejectedFile, SettingsError
from radsynth.image import Image, ImageSpec
from radsynth.io import Header
from radsynth.settings import Resolved
from radsynth.verbs._preparing.chunks import cut, together
from radsynth.verbs._preparing.ranges import percentiles
from radsynth.verbs.prepare import automatic_size, prepare

Prepare = Callable[..., Prepared]


def picture(number: int, space: tuple[int, ...] = (20, 20), **fields: Any) -> Image:
    """Noise that only `number` decides."""
    channels = fields.get("channels", ("grey",))
    top = 2 ** min(fields.get("bits", 8), 16) - 1
    pixels = np.random.default_rng(number).integers(0, top + 1, (len(channels), *space))
    return Image(pixels=pixels.astype(np.uint16 if top > 255 else np.uint8), **fields)


def given(image: Image) -> Image:
    return image


def fails(error: BaseException) -> Image:
    raise error


def dies() -> Image:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def record(number: int, image: Image | Callable[[], Image] | None = None, **fields: Any) -> Record:
    load = image if callable(image) else partial(given, image) if image is not None else partial(picture, number)
    return Record(**{"source": f"file{number:03d}", "patient": f"Doe^Jane{number}", "load": load, **fields})


@pytest.fixture
def from_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepare records that a test made up: (records, name of the folder, workers, settings of `prepare`)."""

    def make(records: Sequence[Record], name: str = "out", workers: int = 1, **options: Any) -> Prepared:
        module = SimpleNamespace(records=lambda settings, rejected: iter(records))
        monkeypatch.setattr("radsynth.verbs.prepare.dataset", lambda kind: module)
        return prepare(
            folder.Settings(path=tmp_path), tmp_path / name, settings=with_options(**options), workers=workers
        )

    return make


def with_header(records: Sequence[Record]) -> list[Record]:
    """Records of 2-D pictures that say what they are, so that nothing is loaded before the shards are made."""
    header = Header(format="picture", size=(20, 20))
    return [Record(**{**vars(record), "header": header}) for record in records]


def with_options(**options: Any) -> Resolved:
    return Resolved(0, {"prepare": options}, {})


def rejections(prepared: Prepared) -> dict[str, str]:
    with (prepared.folder / "rejected.csv").open(encoding="utf-8", newline="") as file:
        return {line["path"]: line["reason"] for line in csv.DictReader(file)}


def everything(prepared: Prepared) -> np.ndarray:
    return prepared.stored(np.arange(len(prepared.rows)))


# What is written


def test_arrays_are_bit_identical_for_any_number_of_workers(from_records: Prepare) -> None:
    mixed = [picture(n, (20 + n % 7, 31 - n % 5), bits=12, spacing=(1.0, 0.5 + n / 40)) for n in range(40)]
    records = [record(n, image, patient=f"p{n // 4}", label="ab"[n % 8 // 4]) for n, image in enumerate(mixed)]
    one, two, three = (from_records(records, str(n), workers=n, shard=8, size=[16, 24]) for n in (1, 2, 3))
    assert one.manifest == two.manifest == three.manifest
    np.testing.assert_array_equal(everything(one), everything(three))
    assert len({row.shard for row in one.rows}) == 5
    assert [(r.split, r.label, r.row, r.low) for r in one.rows] == [(r.split, r.label, r.row, r.low) for r in two.rows]


def test_eight_bit_pictures_stay_as_they_are(from_records: Prepare) -> None:
    prepared = from_records([record(n) for n in range(5)], size=[20, 20])
    expected = np.stack([picture(n).pixels for n in range(5)])
    np.testing.assert_array_equal(everything(prepared), expected)
    assert (prepared.intensity.method, prepared.intensity.levels, prepared.spec.bits) == ("bits", 255, 8)


def test_sixteen_bits_survive_from_a_png(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    values = np.random.default_rng(0).integers(0, 3900, (4, 24, 24), dtype=np.uint16)
    for number, image in enumerate(values):
        PIL.Image.fromarray(image).save(source / f"{number}.png")
    prepared = prepare(folder.Settings(path=source), tmp_path / "out", settings=with_options(size=[24, 24]), workers=1)
    np.testing.assert_array_equal(everything(prepared)[:, 0], values)
    assert prepared.intensity.levels == 4095, "12 bits in 16 fill the network's range"
    back = prepared.intensity.decode(prepared.images(np.arange(4)))
    np.testing.assert_allclose(back[:, 0], values, atol=0.01)


def test_hounsfield_units_come_back_within_half_a_step(from_records: Prepare) -> None:
    values = np.random.default_rng(0).integers(-1024, 1501, (3, 1, 32, 32)).astype(np.int16)
    records = [record(n, Image(pixels=v, modality="CT", units="HU", bits=16)) for n, v in enumerate(values)]
    prepared = from_records(records, size=[32, 32])
    back = prepared.intensity.decode(prepared.images(np.arange(3)))
    step = (1500 + 1024) / 65535
    assert prepared.intensity.method == "window" and everything(prepared).dtype == np.uint16
    assert np.abs(back - values).max() <= step / 2 + 2e-4, "half a step and float32's own rounding"


def test_the_slices_of_a_volume_share_their_range_and_volumes_do_not(from_records: Prepare) -> None:
    def slice_of(volume: int, number: int) -> Record:
        pixels = np.random.default_rng(volume * 9 + number).integers(0, 100 * (volume + 1) * (number + 1), (1, 16, 16))
        image = Image(pixels=pixels.astype(np.uint16), modality="MR", bits=12)
        return record(
            volume * 9 + number, image, patient="one", files=(f"{__file__}", str(volume))[:1], label=str(volume)
        )

    records = [slice_of(0, number) for number in range(4)]
    records += [Record(**{**vars(slice_of(1, number)), "patient": "two"}) for number in range(4)]
    prepared = from_records(records, size=[16, 16], shard=3)
    ranges = [(row.low, row.high) for row in prepared.rows]
    assert len(set(ranges)) == 2 and len(set(ranges[:4])) == 1
    expected = np.percentile(np.stack([r.load().pixels for r in records[:4]]), (0.5, 99.5))
    np.testing.assert_allclose(ranges[0], expected)
    assert prepared.intensity.high == np.median([high for _, high in ranges])
    assert everything(prepared)[:4].max() == 65535 and everything(prepared)[0].max() < 30000, "slice 0 is the darkest"


def test_each_channel_of_mr_fills_the_range(from_records: Prepare) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (2, 16, 16)).astype(np.uint16) * np.array(
        [[[1]], [[30]]], np.uint16
    )
    image = Image(pixels=pixels, modality="MR", bits=12, channels=("t1", "t2"))
    stored = everything(from_records([record(0, image)], size=[16, 16]))[0]
    assert stored[0].max() == stored[1].max() == 65535 and stored.min() == 0


@pytest.mark.parametrize(
    "space, spacing", [((30, 90), (3.0, 1.0)), ((60, 30), (0.7, 1.4)), ((12, 60, 60), (5.0, 1.0, 1.0))]
)
def test_images_are_never_stretched(space: tuple[int, ...], spacing: tuple[float, ...], from_records: Prepare) -> None:
    """A ball in mm is a ball in pixels, whatever the pixels were."""
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(space, spacing, strict=True)), indexing="ij")
    radius = 0.4 * min(n * s for n, s in zip(space, spacing, strict=True))
    ball = np.clip((radius - np.sqrt(sum(axis**2 for axis in axes))) + 0.5, 0, 1)
    image = Image(pixels=(ball[None] * 255).astype(np.uint8), spacing=spacing, mask=(ball > 0.5).astype(np.uint8))
    prepared = from_records([record(0, image)], size=[32] * len(space))
    for kind in ("images", "masks"):
        shown = prepared.stored(np.arange(1), kind).reshape((32,) * len(space))
        inside = shown > shown.max() / 2
        widths = [
            int(inside.any(axis=tuple(a for a in range(len(space)) if a != axis)).sum()) for axis in range(len(space))
        ]
        assert max(widths) - min(widths) <= 1, (kind, widths)
        diameter = 2 * radius / prepared.spec.spacing[0]
        assert abs(widths[0] - diameter) <= 1.5 and len(set(prepared.spec.spacing)) == 1


def test_background_is_added_and_borders_are_cut_evenly(from_records: Prepare) -> None:
    image = Image(pixels=np.full((1, 10, 20), 200, np.uint8))
    image.pixels[0, 0, 0] = 201
    padded = everything(from_records([record(0, image)], "pad", size=[20, 20]))[0, 0]
    assert (padded[:5] == 0).all() and (padded[15:] == 0).all() and (padded[5:15] >= 200).all()
    image.pixels[0, :, 10] = 90
    cropped = everything(from_records([record(0, image)], "crop", size=[10, 10], fit="crop"))[0, 0]
    assert (cropped[:, 5] == 90).all() and cropped.min() == 90 and (cropped[:, 0] == 200).all()
    small = everything(from_records([record(0, image)], "small", size=[40, 40]))[0, 0]
    large = everything(from_records([record(0, image)], "large", size=[40, 40], enlarge=True))[0, 0]
    assert (small > 0).sum() == 200 and (large > 0).sum() == 800


def test_fine_patterns_do_not_alias(from_records: Prepare) -> None:
    stripes = np.indices((64, 64)).sum(axis=0)[None] % 2 * 255
    shown = everything(from_records([record(0, Image(pixels=stripes.astype(np.uint8)))], size=[24, 24]))
    assert np.ptp(shown[..., 2:-2, 2:-2].astype(int)) < 40, "a checkerboard finer than the pixels becomes grey"


def test_masks_follow_the_majority(from_records: Prepare) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:] = 3
    mask[8:20, 4:16] = 1
    mask[30, 30] = 2
    prepared = from_records([record(0, picture(0, (40, 40)).replace(mask=mask))], size=[10, 10])
    shown = prepared.stored(np.arange(1), "masks")[0]
    np.testing.assert_array_equal(shown, mask[1::4, 1::4])
    assert prepared.spec.mask_classes == 4


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


def test_colour_is_kept_or_made_grey(from_records: Prepare) -> None:
    colour = Image(
        pixels=np.stack([np.full((8, 8), v, np.uint8) for v in (250, 100, 0)]), channels=("red", "green", "blue")
    )
    colour.pixels[:, 0, 0] = 0
    assert from_records([record(0, colour)], "rgb", size=[8, 8]).spec.channels == ("red", "green", "blue")
    grey = from_records([record(0, colour), record(1, picture(1, (8, 8)))], "grey", size=[8, 8], channels="grey")
    assert grey.spec.channels == ("grey",) and everything(grey)[0, 0, 4, 4] == round(0.2126 * 250 + 0.7152 * 100)
    shares = colour.replace(pixels=np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8), bits=32)
    assert len(np.unique(shares.grey().pixels)) == 64, "floating point is not rounded to black and white"
    named = from_records([record(0, colour.replace(channels=("a", "b", "c")))], "named", size=[8, 8], channels="grey")
    assert named.spec.channels == ("grey",), "three channels of any names, as groups of images are told apart"


def test_the_automatic_size_is_the_medians() -> None:
    assert automatic_size([(28, 28)] * 3) == (32, 32)
    assert automatic_size([(512, 400), (500, 390), (4000, 3000)]) == (512, 400)
    assert automatic_size([(35, 50, 36)]) == (40, 64, 40)


# Patients, labels, splits


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


def test_an_official_split_is_kept(from_records: Prepare) -> None:
    records = [record(n, split=("train", "test")[n % 2], patient=f"p{n % 6}") for n in range(12)]
    prepared = from_records(records, size=[8, 8])
    assert [row.split for row in prepared.rows] == ["train", "test"] * 6
    torn = [*records, record(12, split="test", patient="p0")]
    with pytest.raises(DataError, match="two official splits"):
        from_records(torn, "torn", size=[8, 8])
    assert sum(from_records(torn, "anew", size=[8, 8], official=False).manifest.counts.values()) == 13


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


# What cannot be used


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


def test_a_label_value_of_one_patient_alone_is_rejected_among_many(from_records: Prepare) -> None:
    def masked(n: int, label: int) -> Record:
        return record(n, picture(n).replace(mask=label * np.eye(20, dtype=np.uint8)))

    many = [*(masked(n, 1 + n % 2) for n in range(20)), masked(20, 117)]
    found = from_records(many, "many", size=[20, 20])
    assert len(found.rows) == 20 and found.spec.mask_values == (0, 1, 2)
    assert list(rejections(found)) == ["file020"]
    assert "value 117, as none of the other 20 patients has (they have 0, 1, 2)" in rejections(found)["file020"]
    assert from_records(many, "all", size=[20, 20], masks="all").spec.mask_values == (0, 1, 2, 117)
    assert from_records(many[2:], "few", size=[20, 20]).spec.mask_values == (0, 1, 2, 117), "19 patients are few"


def test_data_that_cannot_be_used_as_a_whole_is_one_clear_error(from_records: Prepare, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image that can be used") as empty:
        from_records([record(0, partial(fails, RejectedFile("cut off")))], "empty")
    assert "file000: cut off" in str(empty.value) and not (tmp_path / "empty").exists()
    mixed = [record(0), record(1, picture(1, modality="MR", bits=12)), record(2, picture(2, channels=("a", "b", "c")))]
    with pytest.raises(DataError, match="3 groups") as groups:
        from_records(mixed, "mixed")
    assert "1 image: 2-D, MR, 1 channel" in str(groups.value) and "file002" in str(groups.value)
    with pytest.raises(DataError, match="strict"):
        from_records([record(0), record(1, Image(pixels=np.zeros((1, 8, 8), np.uint8)))], "strict", strict=True)
    with pytest.raises(SettingsError, match="2-D"):
        from_records([record(0)], "volume", size=[8, 8, 8])
    with pytest.raises(SettingsError, match=r"prepare.train.*prepare.window"):
        from_records([record(0)], "settings", train=0.9, validation=0.2, window=[10, -10])


# Restarting


def test_a_finished_folder_is_returned_at_once_and_others_are_refused(from_records: Prepare, tmp_path: Path) -> None:
    records = [record(n) for n in range(4)]
    first = from_records(records, size=[8, 8])
    written = (first.folder / "manifest.json").stat().st_mtime_ns
    again = from_records([Record(**{**vars(r), "load": dies}) for r in records], size=[8, 8])
    assert again.manifest == first.manifest and (again.folder / "manifest.json").stat().st_mtime_ns == written
    for options, others in (({"size": [10, 10]}, records), ({"size": [8, 8]}, records[:3])):
        with pytest.raises(FolderError, match="other files or with other settings"):
            from_records(others, **options)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(FolderError, match="not empty"):
        from_records(records, "photos", size=[8, 8])
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot be used"):
        from_records(records, "file", size=[8, 8])


def test_an_unfinished_folder_goes_on_with_the_same_source_and_begins_anew_with_another(
    from_records: Prepare, tmp_path: Path
) -> None:
    records = with_header([record(n) for n in range(12)])
    whole = from_records(records, "whole", size=[8, 8], shard=4)
    broken = [*records[:8], *with_header([record(n, partial(fails, KeyboardInterrupt())) for n in range(8, 12)])]
    with pytest.raises(RadsynthError, match="goes on from there"):
        from_records(broken, size=[8, 8], shard=4)
    out = tmp_path / "out"
    assert not (out / "manifest.json").exists()
    with pytest.raises(FolderError, match="not a complete prepared folder"):
        Prepared(out)
    times = {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("*.npy")}
    assert sorted(times) == ["00000.images.npy", "00001.images.npy"]
    (out / "shards" / "00001.images.npy").write_bytes(b"damaged")
    (out / "shards" / ".00002.images.npy.77.part").touch()
    done = from_records(records, size=[8, 8], shard=4)
    assert done.manifest == whole.manifest
    assert (out / "shards" / "00000.images.npy").stat().st_mtime_ns == times["00000.images.npy"], "kept"
    np.testing.assert_array_equal(everything(done), everything(whole))
    assert not [path for path in out.rglob("*") if path.suffix in (".part",) or path.name == "begun.json"]

    with pytest.raises(RadsynthError):
        from_records(broken, "two", size=[8, 8], shard=4)
    other = from_records(records[:6], "two", size=[10, 10], shard=4)
    assert len(other.rows) == 6 and len(list((other.folder / "shards").iterdir())) == 2


def slow(number: int) -> Image:
    time.sleep(0.02)
    return picture(number)


def test_kill_9_leaves_nothing_running_and_the_same_command_finishes(from_records: Prepare, tmp_path: Path) -> None:
    records = with_header([record(n, partial(slow, n)) for n in range(64)])
    options = {"size": [16, 16], "shard": 8, "workers": 2}
    out = tmp_path / "out"
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            from_records(records, **options)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 60
    while not list(out.glob("shards/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not (out / "manifest.json").exists(), "it was killed too late to show anything"
    while members(child):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)
    finished = [path.with_suffix(".images.npy") for path in out.glob("shards/*.json")]
    kept = {path: path.stat().st_mtime_ns for path in finished}
    done = from_records(records, **options)
    assert done.manifest == from_records(records, "whole", **options).manifest
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "finished shards are kept"


def members(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def test_a_killed_worker_is_an_error_that_says_what_to_do(from_records: Prepare) -> None:
    records = [record(n) for n in range(8)] + [record(9, dies)]
    with pytest.raises(RadsynthError, match="worker processes was killed"):
        from_records(with_header(records), workers=2, size=[8, 8], shard=3)


def test_few_images_still_make_work_for_several_workers(from_records: Prepare) -> None:
    prepared = from_records([record(n) for n in range(64)], size=[8, 8])
    assert len({row.shard for row in prepared.rows}) == 4, "shards of 16, though 256 would be allowed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder in which little can be written, and a call that lifts the limit: a 1 MB tmpfs, else a limit on files."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield place, lambda: subprocess.run(["mount", "-o", "remount,size=16M", str(place)], check=True) and None
        subprocess.run(["umount", str(place)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    yield place, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def counted(log: Path, volume: int, index: int) -> Image:
    """A slice of a volume of HU that is decoded once in a process, as `load_slice` does; each decoding is a line."""
    if _decoded.get("volume") != (os.getpid(), volume):
        with log.open("a", encoding="ascii") as file:
            file.write(f"{volume}\n")
        _decoded["volume"] = (os.getpid(), volume)
    return picture(1000 * volume + index, bits=12, modality="CT", units="HU")


_decoded: dict[str, tuple[int, int]] = {}


@pytest.mark.parametrize("workers", [1, 2])
def test_no_volume_is_decoded_twice(workers: int, from_records: Prepare, tmp_path: Path) -> None:
    header = Header(format="dicom", size=(20, 20), modality="CT", units="HU", bits=12)
    log, files = tmp_path / "log", [tmp_path / f"v{volume}" for volume in range(5)]
    for file in files:
        file.touch()
    records = [
        record(40 * volume + index, partial(counted, log, volume, index), patient=f"p{volume}", files=(str(file),),
               header=header)
        for volume, file in enumerate(files) for index in range(40)
    ]  # fmt: skip
    prepared = from_records(records, workers=workers, shard=16, size=[20, 20])
    assert len(prepared.rows) == 200 and {row.shard for row in prepared.rows} == set(range(15))
    assert sorted(log.read_text(encoding="ascii").split()) == list("01234")


def test_frames_of_one_file_are_shared_out(from_records: Prepare) -> None:
    header = Header(format="npz", size=(20, 20), frames=200)
    records = [record(n, patient="a", files=("stack.npz",), header=header) for n in range(200)]
    chunks = cut(records, plan=SimpleNamespace(size=(20, 20), channels=1, intensity=IntensityMap(
        method="bits", low=0, high=255, levels=255)), most=256)  # type: ignore[arg-type]
    assert [len(chunk) for chunk in chunks] == [16] * 12 + [8]
    assert together(range(13), chunks) == [[n] for n in range(13)]


def test_percentiles_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float32):
        for number in range(50):
            values = rng.integers(0, 100, rng.integers(1, 300)) * (1 if number % 2 else 20000)
            values = (values - 50).astype(dtype)
            for wanted in ((0.5, 99.5), (0.0, 100.0), (13.1, 52.3)):
                wide = values if dtype == np.float32 else values.astype(np.int64)  # numpy's steps overflow in 8 bits
                np.testing.assert_array_equal(percentiles(values, wanted), np.percentile(wide, wanted))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_a_clear_error_and_no_half_shard(
    workers: int, small_disk: tuple[Path, Callable[[], None]], from_records: Prepare
) -> None:
    place, make_room = small_disk
    records = [record(n, picture(n, (100, 100))) for n in range(200)]
    options = {"size": [100, 100], "shard": 16}
    with pytest.raises(FolderError, match="Free some space") as error:
        from_records(records, str(place / "out"), workers=workers, **options)
    assert str(place) in str(error.value)
    for path in (place / "out" / "shards").glob("*.npy"):
        assert np.load(path).shape == (16, 1, 100, 100), "what has its final name is whole"
    make_room()
    done = from_records(records, str(place / "out"), workers=workers, **options)
    assert done.manifest.data_hash == from_records(records, "elsewhere", **options).manifest.data_hash


def test_extra_images_are_of_the_datas_classes(from_records: Prepare, tmp_path: Path) -> None:
    """`generate` writes a class as a folder, whose name may hold no slash: it would be a class of its own."""
    for k, name in enumerate(("rare_one/0.png", "rare_one/1.png", "strange/2.png", "3.png")):
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(picture(100 + k).pixels[0]).save(tmp_path / "made" / name)
    real = [record(n, label=("common", "rare/one")[n % 2]) for n in range(10)]
    prepared = from_records(real, "classes", size=[20, 20], extra=str(tmp_path / "made"))
    assert prepared.spec.labels == ("common", "rare/one") and len(prepared.rows) == 12
    assert prepared.labels(np.array([10, 11])).tolist() == [1, 1]
    table = (prepared.folder / "rejected.csv").read_text()
    assert "its class strange is none of the data's" in table and "3.png" in table
    bare = from_records([record(n) for n in range(10)], "bare", size=[20, 20], extra=str(tmp_path / "made"))
    assert bare.spec.labels == () and {row.label for row in bare.rows} == {-1}


def test_the_manifest_is_plain_json_that_says_what_is_there(from_records: Prepare) -> None:
    prepared = from_records([record(n, label="x") for n in range(10)], size=[12, 16])
    document = json.loads((prepared.folder / "manifest.json").read_text())
    assert document["spec"]["size"] == [12, 16] and document["counts"] == {"train": 7, "validation": 1, "test": 2}
    assert document["spec"]["virtual"] is False and len(document["data_hash"]) == 64


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
    with pytest.raises(DataError, match="does not exist"):
        from_records(real, "none", size=[20, 20], extra=str(tmp_path / "nothing"))


def test_a_path_and_words_in_place_of_settings(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for k in range(6):
        ramp = (np.arange(20 * 24).reshape(20, 24) * (k + 1) % 256).astype(np.uint8)
        PIL.Image.fromarray(ramp).save(tmp_path / "scans" / f"patient{k}.png")
    made = prepare(tmp_path / "scans", tmp_path / "out", overrides=["prepare.size=[16, 16]"], workers=1)
    assert made.spec.size == (16, 16) and len(made.rows) == 6
