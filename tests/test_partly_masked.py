"""Data in which only some images have masks: what is prepared, how it is split, and who must not mistake no mask for an
empty one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from radsynth.arrays import NO_MASK, Prepared
from radsynth.batch import Batch
from radsynth.errors import DataError, SettingsError
from radsynth.image import ImageSpec
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.tasks._again import masked_to_draw_again
from radsynth.tasks._partners import Partners
from radsynth.verbs._pairs import document, paired, registration
from radsynth.verbs._usefulness.sources import real
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare

Make = Callable[..., Path]
Unmask = Callable[[Path, Iterable[int]], Prepared]


def write(root: Path, images: Iterable[str], masks: Iterable[str] = (), value: int = 2) -> Path:
    """Noise as images/NAME.png, and masks/NAME.png of 0 and `value`."""
    for number, name in enumerate(images):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([number, *name.encode()]).integers(0, 255, (16, 16), np.uint8)
        Pillow.fromarray(noise).save(root / "images" / f"{name}.png")
    for name in masks:
        (root / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.eye(16, dtype=np.uint8) * value).save(root / "masks" / f"{name}.png")
    return root


def prepared_of(source: Path, out: Path, *overrides: str) -> Prepared:
    return prepare(source, out, overrides=("data.kind=folder", "prepare.size=[16,16]", *overrides), workers=1)


def task_of(kind: str, *overrides: str, spec: ImageSpec) -> Any:
    settings = resolve(overrides=(f"task.kind={kind}", *overrides), sections=("task", "model"))
    return build(settings, spec)


def test_images_without_masks_are_kept_only_when_asked_for(tmp_path: Path) -> None:
    names = [f"patient{k}_a" for k in range(12)]
    source = write(tmp_path / "scans", names, names[:3])
    usual = prepared_of(source, tmp_path / "usual")
    assert len(usual.rows) == 3 and not usual.spec.partly_masked and usual.spec.mask_classes == 3
    assert "data.unmasked=keep" in (tmp_path / "usual" / "rejected.csv").read_text()
    both = prepared_of(source, tmp_path / "both", "data.unmasked=keep", "prepare.shard=4")
    every = np.arange(12)
    assert len(both.rows) == 12 and both.spec.partly_masked and both.spec.label_values == (0, 2)
    masked = both.masked(every)
    masks = both.masks(every)
    assert masked.sum() == 3 and (masks[~masked] == NO_MASK).all()
    assert all(np.array_equal(mask, 2 * np.eye(16)) for mask in masks[masked])
    assert {both.rows[k].split for k in every[masked]} == {"train", "validation", "test"}, "each split has a mask"
    counts = {split: len(both.indices(split)) for split in ("train", "validation", "test")}
    assert counts["train"] >= 6 and min(counts.values()) >= 2
    assert prepared_of(source, tmp_path / "both", "data.unmasked=keep", "prepare.shard=4").rows == both.rows
    off = prepared_of(source, tmp_path / "off", "data.unmasked=keep", "prepare.masks=off")
    assert len(off.rows) == 12 and off.spec.mask_classes == 0 and not off.spec.partly_masked
    whole = prepared_of(write(tmp_path / "whole", names, names), tmp_path / "all", "data.unmasked=keep")
    assert not whole.spec.partly_masked and whole.masked(every).all()


def test_an_empty_mask_is_not_no_mask(tmp_path: Path) -> None:
    names = [f"patient{k}" for k in range(4)]
    prepared = []
    for folder, empty in (("with", names[3:]), ("without", [])):
        source = write(tmp_path / folder, names, names[:3])
        write(source, (), empty, value=0)
        prepared.append(prepared_of(source, tmp_path / f"{folder}.out", "data.unmasked=keep"))
    known, unknown = prepared
    assert not known.spec.partly_masked and (known.masks(np.arange(4))[3] == 0).all()
    assert unknown.spec.partly_masked and (unknown.masks(np.arange(4))[3] == NO_MASK).all()
    assert known.manifest.data_hash != unknown.manifest.data_hash


def test_unlabelled_folders_keep_their_official_split_and_the_copy_with_a_mask_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "scans"
    for split, masks in (("train", ["p1", "p2"]), ("test", ["p4"])):
        write(source / split, ["p1", "p2", "p3"] if split == "train" else ["p4", "p5"], masks)
    (source / "train" / "images" / "a0.png").write_bytes((source / "train" / "images" / "p1.png").read_bytes())
    prepared = prepared_of(source, tmp_path / "out", "data.unmasked=keep")
    assert [(row.split, row.masked) for row in prepared.rows] == [
        ("test", 1), ("test", 0), ("train", 1), ("train", 1), ("train", 0)]
    assert prepared.manifest.duplicates == 1 and "a0.png" in (tmp_path / "out" / "rejected.csv").read_text()


def test_extra_images_need_no_masks_where_others_need_none(tmp_path: Path) -> None:
    names = [f"patient{k}" for k in range(6)]
    source, pool = write(tmp_path / "scans", names, names[:4]), write(tmp_path / "pool", ["x", "y"])
    kept = prepared_of(source, tmp_path / "kept", "data.unmasked=keep", f"prepare.extra={pool}")
    assert len(kept.rows) == 8 and sum(row.masked for row in kept.rows) == 4
    assert [(row.split, row.masked) for row in kept.rows][6:] == [("train", 0)] * 2
    usual = prepared_of(source, tmp_path / "usual", f"prepare.extra={pool}")
    assert len(usual.rows) == 4, "as before"
    many = write(tmp_path / "many", [f"x{k}" for k in range(20)])
    real = prepared_of(source, tmp_path / "real", f"prepare.extra={many}")
    assert len(real.rows) == 4 and real.spec.label_values, "what is added does not outvote the data's own masks"
    assert (tmp_path / "real" / "rejected.csv").read_text().count("it has no mask") == 22


def test_inspect_tells_how_many_have_none(tmp_path: Path) -> None:
    names = [f"patient{k:03d}" for k in range(150)]
    source = write(tmp_path / "scans", names, names[140:142])
    settings = resolve({"data": {"kind": "folder", "path": str(source), "unmasked": "keep"}})
    found = inspect(source, settings=settings)
    assert (found.n_images, found.unmasked, found.masks) == (150, 148, (0, 2))
    assert found.masked_patients == found.fingerprint.masked == 2
    assert "148 of 150 images have none" in found.text()
    usual = inspect(source)
    assert (usual.n_images, usual.unmasked) == (2, 0) and "data.unmasked=keep" in usual.text()


def test_tasks_that_need_a_mask_for_every_image_say_so() -> None:
    spec = ImageSpec(size=(16, 16), mask_classes=3, partly_masked=True)
    for kind, more in (("semantic", ()), ("synthesis", ("task.masks=true",))):
        with pytest.raises(SettingsError, match=r"some images of this data have none.*data\.unmasked"):
            task_of(kind, *more, spec=spec)


def test_registration_compares_labels_where_both_have_a_mask(make_prepared: Make, without_masks: Unmask) -> None:
    folder = make_prepared(12, (16, 16), mask_classes=2)
    np.save(folder / "shards" / "00000.masks.npy", np.ones((12, 16, 16), np.uint8))
    data = without_masks(folder, [1, 2])
    task = task_of("register", spec=data.spec)
    task.partners = Partners(data, data.indices("train"), 1)
    chosen = np.array([1, 4, 5, 7])
    batch = Batch(images=torch.from_numpy(data.images(chosen)), masks=torch.from_numpy(data.masks(chosen)), seed=0,
                  items=(0, 1, 2, 3), rows=tuple(chosen.tolist()))
    rows = task.partners.of(chosen, batch.lots("partner", 1)[:, 0])
    moving, fixed = task._pair(batch)
    known = data.masked(rows) & data.masked(chosen)
    assert 0 < known.sum() < 4, "the test needs both kinds of pairs"
    for images in (moving, fixed):
        assert images[:, 1:].flatten(1).any(1).tolist() == known.tolist()


def test_labels_of_registered_pairs_count_where_both_have_some() -> None:
    moving, fixed = np.ones((3, 8, 8), np.int64), np.ones((3, 8, 8), np.int64)
    moving[0], fixed[1] = NO_MASK, NO_MASK
    fields = {"this run": np.zeros((3, 2, 8, 8), np.float32)}
    overlap, = registration._overlap(fields, (moving, fixed), 2, same_patient=False)
    assert np.isnan(overlap.values["this run"]).tolist() == [True, True, False]
    images = np.full((3, 1, 8, 8), -1, np.float32)
    images[:, :, :2] = 1
    truths = np.zeros((3, 2, 8, 8), np.float32)
    truths[:, 0, 2:] = 3  # an error of 3 pixels where the image is dark
    error = registration._target_error(fields, truths, images, (moving, fixed), None).values["this run"]
    assert error.tolist() == pytest.approx([2.25, 0, 2.25]), "without a mask bright pixels are landmarks"
    fixed[2] = 0
    error = registration._target_error(fields, truths, images, (moving, fixed), None).values["this run"]
    assert error.tolist() == pytest.approx([2.25, 0, 0]), "with an empty mask, too: such a pair was left out"


def test_results_and_usefulness_are_measured_on_images_with_masks(make_prepared: Make, without_masks: Unmask) -> None:
    folder = make_prepared(24, (16, 16), mask_classes=3)
    np.save(folder / "shards" / "00000.masks.npy", np.ones((24, 16, 16), np.uint8))
    data = without_masks(folder, [0, 1, 3])
    rows, split = document.held_out(data, 100, 0, masked=True)
    assert split == "test" and rows.tolist() == [6, 9, 12, 15, 18, 21]
    every = data.indices("test")
    unseen = np.zeros(len(every), bool)
    labels = {name: np.ones((len(every), 16, 16), np.uint8) for name in ("this run", "the true images")}
    found = {one.name: one.values["this run"] for one in paired._segmented(labels, every, data, unseen)}
    assert set(found) == {"segmented_dice_1", "segmented_hausdorff_95_1"}, "label 2 is stored without a meaning"
    assert np.isnan(found["segmented_dice_1"]).tolist() == [True, True] + [False] * 6
    used = real(data, "test", "segmentation")
    assert (used.examples.masks == 1).all() and used.patients == 6
    for row in every:
        data.rows[row] = data.rows[row].__class__(**{**vars(data.rows[row]), "masked": 0})
    with pytest.raises(DataError, match="fewer than two images with masks"):
        document.held_out(data, 100, 0, masked=True)
    assert paired._segmented(labels, every, data, unseen) == []


def test_half_of_what_training_sees_has_a_mask(make_prepared: Make, without_masks: Unmask) -> None:
    folder = make_prepared(60, (16, 16), mask_classes=2)
    np.save(folder / "shards" / "00000.masks.npy", np.zeros((60, 16, 16), np.uint8))
    data = without_masks(folder, range(8, 60))
    again = masked_to_draw_again(data, 0.5)
    assert again is not None and data.masked(again.rows).all()
    chosen = data.indices("train")[np.arange(400) % 40]
    batch = Batch(images=torch.from_numpy(data.images(chosen)), masks=torch.from_numpy(data.masks(chosen)), seed=0,
                  items=tuple(range(400)))
    mixed = again.mixed_in(batch)
    assert mixed.masks is not None
    known = (mixed.masks[:, 0, 0] != NO_MASK).float()
    assert known.mean() == pytest.approx(0.5, abs=0.05)
    assert known.reshape(-1, 8).sum(1).min() >= 2, "every small batch has some"
    assert masked_to_draw_again(data, 0.1) is None
    with pytest.raises(DataError, match="no training image has a mask"):
        masked_to_draw_again(without_masks(folder, range(60)), 0.5)
