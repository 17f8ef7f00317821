"""The anatomy check: what segmenters find in what was given must be found in what was made, lesions above all."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from radsynth.arrays import NO_MASK, Prepared
from radsynth.image import Image
from radsynth.io import write
from radsynth.settings import read_yaml, resolve
from radsynth.tasks import build
from radsynth.tasks._tissues import thresholds, tissues
from radsynth.verbs._applying.anatomy import Anatomy, learn_anatomy, read_anatomy
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._pairs.paired import evaluate_pairs
from radsynth.verbs.apply import apply
from radsynth.verbs.report import report
from radsynth.verbs.train import train
from tests.discs import prepared_discs
from tests.written import FROM

Make = Callable[..., Path]
SMALL = ("task.kind=translate", "task.adversarial=0", "model.width=8", "model.halvings=1", "train.batch=8",
         "train.previews=1", "train.precision=32-true", "train.rate=0.003", "train.beta1=0.9")
SETTINGS = resolve(overrides=(*SMALL, "train.images=1600"))
SIDE = 24


class Thresholds:
    """Calls everything above 0 a lesion, everything above -0.5 a head."""

    may_lack = False

    def network_of(self, stack: NDArray[np.float32], target: str) -> NDArray[np.float32]:
        return (stack[:, :1] > -0.5).astype(np.float32) + (stack[:, :1] > 0)


class Everywhere:
    """Calls everything a head."""

    may_lack = False

    def network_of(self, stack: NDArray[np.float32], target: str) -> NDArray[np.float32]:
        return np.ones_like(stack[:, :1])


def heads(n: int) -> NDArray[np.uint8]:
    """Label maps (n, rows, columns): 1 a head, 2 a lesion in it, in every second one."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    masks = []
    for k in range(n):
        lesion = np.hypot(rows - rng.integers(8, 16), columns - rng.integers(8, 16)) < 3.5 * (k % 2)
        masks.append((np.hypot(rows - 12, columns - 12) < 10) * (1 + lesion))
    return np.stack(masks).astype(np.uint8)


def prepared_heads(root: Path, healed: bool = False, with_masks: bool = True) -> Path:
    """Two registered channels of heads; `healed` leaves the lesions out of the second."""
    more = {"mask_classes": 3} if with_masks else {}
    folder = prepared_discs(root, 64, (SIDE, SIDE), channels=("t1", "flair"), **more)
    masks, rng = heads(64), np.random.default_rng(1)
    shown = np.minimum(masks, 1) if healed else masks
    images = np.stack([np.array([5, 120, 230])[masks], np.array([5, 80, 220])[shown]], axis=1)
    np.save(folder / "shards" / "00000.images.npy", (images + rng.integers(0, 20, images.shape)).astype(np.uint8))
    if with_masks:
        np.save(folder / "shards" / "00000.masks.npy", masks)
    return folder


@pytest.fixture(scope="module")
def translators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs: "honest", and "healer", whose second channel was robbed of its lesions; neither looks at
    masks.
    """
    root = tmp_path_factory.mktemp("translators")
    for name in ("honest", "healer"):
        train(prepared_heads(root / f"{name} data", healed=name == "healer"), root / name, settings=SETTINGS)
    return root


def test_differences_are_regions_not_borders() -> None:
    before = (np.where(heads(2) == 2, 0.5, np.where(heads(2) == 1, -0.2, -1)))[:, None].astype(np.float32)
    healed, moved = before.copy(), np.roll(before, 1, axis=3)
    healed[before > 0] = -0.2
    check = Anatomy(Thresholds(), Thresholds())
    places, share = check.differences(before, healed)
    assert share[0] == 0 and share[1] > 3, "the second one has a lesion"
    assert (heads(2)[places] == 2).all()
    assert check.differences(before, moved)[1].max() == 0, "a border that moves by a pixel is no region"
    assert check.differences(before, before)[1].max() == 0


def test_images_that_lack_a_given_channel_set_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the patients have no T1, in which alone the segmenter of what is given sees anything."""
    folder = prepared_discs(tmp_path, 64, (SIDE, SIDE), channels=("t1", "t2", "flair"), mask_classes=3)
    masks = heads(64)
    images = np.stack([np.array(shades, np.uint8)[masks] for shades in ([5, 120, 230], [5, 90, 180], [5, 80, 220])], 1)
    images[::2, 0] = 0
    np.save(folder / "shards" / "00000.images.npy", images)
    np.save(folder / "shards" / "00000.masks.npy", masks)
    settings = resolve(overrides=(*SMALL, "train.images=16", "task.outputs=[flair]", "task.missing=0.3"))
    train(folder, tmp_path / "run", settings=settings)
    check = Anatomy(Thresholds(), Everywhere())
    monkeypatch.setattr("radsynth.verbs._applying.applier.read_anatomy", lambda run, task, open: check)
    prepared = Prepared(folder)
    document = evaluate_pairs(tmp_path / "run", prepared, out=tmp_path / "run")
    held_out = prepared.indices("test")
    applier = Applier(tmp_path / "run")
    given = prepared.images(held_out)[:, :2]
    made = applier.network_of(given, "")
    places, share = check.differences(given, made)
    lack = held_out % 2 == 0
    assert 2 < lack.sum() < len(held_out) - 2
    assert np.isnan(share[lack]).all() and np.isfinite(share[~lack]).all() and not places[lack].any()
    assert document["pairs"]["images"] == len(held_out), "the other numbers are of all"
    assert document["limits"]["anatomy"] == pytest.approx(np.percentile(share[~lack], 99)) and share[~lack].max() < 90
    assert np.isfinite(document["doubts"]["order"]["anatomy"])
    found = next(one for one in document["pairs"]["numbers"] if one["name"] == "segmented_dice_1")
    seen = next(line["value"] for line in found["methods"] if line["method"] == "the given images")
    assert seen == 1, "where T1 is given, the segmenter of what is given finds every head"


def test_a_removed_lesion_is_seen_where_a_given_channel_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                                   ) -> None:
    """The segmenter of what is given learns to go without, as the run does: lesions are in T1 and in T2."""
    folder = prepared_discs(tmp_path, 64, (SIDE, SIDE), channels=("t1", "t2", "flair"), mask_classes=3)
    masks, rng = heads(64), np.random.default_rng(1)
    shades = np.array(([5, 120, 230], [5, 140, 60], [5, 80, 220]))
    images = np.stack([shade[masks] for shade in shades], 1) + rng.integers(0, 20, (64, 3, SIDE, SIDE))
    np.save(folder / "shards" / "00000.images.npy", images.astype(np.uint8))
    np.save(folder / "shards" / "00000.masks.npy", masks)
    data = Prepared(folder)
    settings = resolve(overrides=(*SMALL, "train.images=1600", "task.outputs=[flair]", "task.missing=0.4"))
    task = build(settings, data.spec)
    learn_anatomy(tmp_path, data, task, settings, 0.9)
    said = capsys.readouterr().err
    assert said.index("a segmenter of what is given") < said.index("a segmenter of what is made"), "not two runs more"
    learn_anatomy(tmp_path, data, task, settings, 0.9)
    assert "a segmenter" not in capsys.readouterr().err, "they were learned before"
    missing = {side: read_yaml(tmp_path / "anatomy" / side / "settings.yaml")["task"]["missing"]
               for side in ("given", "made")}
    assert missing == {"given": 0.4, "made": 0.0}, "there is one channel that is made, and it is there"
    check, rows = read_anatomy(tmp_path, task, Applier), data.indices("test")
    assert check
    facts = tmp_path / "anatomy" / "made" / "generator.json"
    facts.rename(tmp_path / "facts")  # written last: `run` is at work or was stopped, and `apply` refused to work
    assert read_anatomy(tmp_path, task, Applier) is None
    (tmp_path / "facts").rename(facts)
    ill, real = (masks[rows] == 2).any((1, 2)), data.images(rows)
    healed = np.where(masks[rows][:, None] == 2, -0.3, real[:, 2:]).astype(np.float32)
    for blank in (None, 0, 1):
        given = real[:, :2].copy()
        if blank is not None:
            given[:, blank] = -1
        honest, wrong = (check.differences(given, made)[1] for made in (real[:, 2:], healed))
        assert (wrong[ill] > 5 * honest.mean() + 2).all() and np.array_equal(wrong[~ill], honest[~ill]), blank


def rows_of(run: Path, scans: Path, out: Path) -> dict[int, dict[str, str]]:
    """What `apply` says of every scan, by its number."""
    apply(run, scans, out)
    with (out / "samples.csv").open(encoding="utf-8", newline="") as file:
        return {int(Path(row["source"]).stem): row for row in csv.DictReader(file)}


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "classes of intensity"])
def test_a_translation_that_removes_lesions_is_flagged_and_an_honest_one_is_not(
    translators: Path, tmp_path: Path, masks: bool
) -> None:
    """One domain is robbed of its lesions: the network that learns from it heals everybody, and the check says so."""
    honest, healer = (shutil.copytree(translators / name, tmp_path / name) for name in ("honest", "healer"))
    real = Prepared(prepared_heads(tmp_path, with_masks=masks))
    task = build(SETTINGS, real.spec)
    learn_anatomy(honest, real, task, SETTINGS, 0.9)
    document = evaluate_pairs(honest, real, out=honest)
    numbers = {number["name"]: {line["method"]: line["value"] for line in number["methods"]}
               for number in document["pairs"]["numbers"]}
    if masks:
        assert numbers["segmented_dice_2"]["the true images"] > 0.7, "the segmenter works, else nothing follows"
        assert numbers["segmented_dice_2"]["the given images"] > 0.7, "lesions are as bright there"
        assert numbers["segmented_dice_2"]["this run"] > 0.6 and "segmented_hausdorff_95_2" in numbers
    else:
        assert not any("dice" in name for name in numbers), "without true labels there is nothing to measure"
    assert set(document["limits"]) == {"edges", "uncertainty", "anatomy"}
    judged = {line["method"] for number in document["pairs"]["numbers"] for line in number["methods"] if "gain" in line}
    assert judged == {"intensity regression"}, "the true images are no method to be beaten"
    pictures = np.load(honest / "pictures" / "doubts.npy")
    assert pictures.shape[1:] == (2 + len(document["limits"]), 3, SIDE, SIDE)
    assert document["doubts"]["images"] == 22 and document["doubts"]["flagged"] == 0, "so few set the largest as limit"
    assert document["doubts"]["of_flagged"] is None and document["doubts"]["of_others"] > 0
    page = report(honest).read_text()
    assert all(words in page for words in ("Doubts", "Rank correlation of each check"))
    section = page[page.index('<h2 id="pairs">'):page.index('<h2 id="doubts">')]
    assert "from t1 to flair" in section and section.index("<figure") < section.index("<table"), "images come first"

    shutil.copytree(honest / "anatomy", healer / "anatomy")  # segmenters of real images, and what is usual for those
    (healer / "results.json").write_text(json.dumps({"limits": document["limits"]}))
    assert read_anatomy(healer, task, lambda run: Thresholds()) is not None
    scans, ill, healthy = np.array([5, 120, 230], np.uint8)[heads(8)], (1, 3, 5), (0, 2)
    for k in (*ill, *healthy):
        write(Image(pixels=scans[k][None] + np.uint8(10), channels=("t1",)), tmp_path / "scans" / f"{k}.npz",
              provenance=FROM)
    right, wrong = (rows_of(run, tmp_path / "scans", tmp_path / f"{run.name} out") for run in (honest, healer))
    for k in ill:
        assert "anatomy" in wrong[k]["flagged"].split(), wrong[k]
        assert "anatomy" not in right[k]["flagged"].split(), right[k]
        assert float(wrong[k]["anatomy"]) > 5 * float(right[k]["anatomy"])
    assert not any("anatomy" in wrong[k]["flagged"] for k in healthy), "the healthy lose nothing"


def test_labels_are_compared_where_images_were_cut_to_whole_coarse_pixels(make_prepared: Make, tmp_path: Path) -> None:
    folder, run = make_prepared(24, (22, 22), mask_classes=3), tmp_path / "run"
    np.save(folder / "shards" / "00000.masks.npy", heads(24)[:, :22, :22])
    data = Prepared(folder)
    settings = resolve(overrides=("task.kind=restore", "task.factor=4", *SMALL[2:], "train.images=16"))
    train(data.folder, run, settings=settings)
    task = build(settings, data.spec)
    learn_anatomy(run, data, task, settings, 1)
    found = {number["name"] for number in evaluate_pairs(run, data, out=run)["pairs"]["numbers"]}
    assert "segmented_dice_2" in found  # 22 pixels a side are 20 of the results


def test_without_pairs_labels_are_sought_in_what_was_given_and_in_what_was_made(make_prepared: Make, tmp_path: Path,
                                                                                ) -> None:
    """Two classes of different brightness, lesions in half of each; the network is all but untrained."""
    data = make_prepared(64, (SIDE, SIDE), labels=("t1", "flair"), mask_classes=3)
    masks, second = heads(64)[np.arange(64) // 2], (np.arange(64) % 2)[:, None, None]
    shades = np.where(second, np.array([5, 80, 220])[masks], np.array([5, 120, 230])[masks])[:, None]
    noise = np.random.default_rng(1).integers(0, 20, shades.shape)
    np.save(data / "shards" / "00000.images.npy", (shades + noise).astype(np.uint8))
    np.save(data / "shards" / "00000.masks.npy", masks)
    settings = resolve(overrides=("task.kind=cycle", "task.domains=[t1,flair]", *SMALL[2:], "train.images=16"))
    train(data, tmp_path / "run", settings=settings)
    prepared = Prepared(data)
    task = build(settings, prepared.spec)
    learn_anatomy(tmp_path / "run", prepared, task, settings, 100)
    assert read_yaml(tmp_path / "run/anatomy/given/settings.yaml")["task"]["deform"] == 0.03, "they are few patients"
    document = evaluate_pairs(tmp_path / "run", prepared, out=tmp_path / "run")
    numbers = {one["name"]: {line["method"]: line for line in one["methods"]} for one in document["findings"]}
    assert set(numbers["segmented_dice_2"]) == {"this run", "the given images"}
    assert numbers["segmented_dice_2"]["the given images"]["value"] > 0.6 and "segmented_invented_2" in numbers
    assert not any("gain" in line for methods in numbers.values() for line in methods.values())
    page = report(tmp_path / "run").read_text()
    assert '<h2 id="findings">' in page and "Is everything still there" in page and "Usefulness" not in page
    assert "From t1 to flair" in page or "From flair to t1" in page


@pytest.mark.parametrize("kind, share", [("translate", 0.0), ("cycle", 0.5)], ids=["no share", "no pairs, no masks"])
def test_there_are_no_segmenters_without(kind: str, share: float, make_prepared: Make, tmp_path: Path) -> None:
    more = {"channels": ("t1", "flair")} if kind == "translate" else {"labels": ("t1", "flair")}
    data = Prepared(make_prepared(16, (SIDE, SIDE), **more))
    settings = resolve(overrides=(f"task.kind={kind}", *SMALL[2:], "train.images=8"))
    task = build(settings, data.spec)
    learn_anatomy(tmp_path / "run", data, task, settings, share)
    assert read_anatomy(tmp_path / "run", task, lambda run: Thresholds()) is None


def test_classes_of_intensity_are_those_of_the_image_smoothed(tmp_path: Path) -> None:
    data = Prepared(prepared_heads(tmp_path, with_masks=False))
    limits = thresholds(data, 1, 3)
    assert len(limits) == 2 and list(limits) == sorted(limits)
    found, lesion = tissues(torch.from_numpy(data.images(np.array([1]))), 1, limits).numpy(), heads(64)[1] == 2
    assert (found[0][ndimage.binary_erosion(lesion)] == 2).all()
    assert (found[0][~ndimage.binary_dilation(heads(64)[1] > 0)] == 0).all()
    np.save(data.folder / "shards" / "00000.images.npy", np.zeros((64, 2, SIDE, SIDE), np.uint8))
    assert len(thresholds(Prepared(data.folder), 0, 4)) == 0


def test_images_that_lack_the_channel_have_no_classes_of_intensity(tmp_path: Path) -> None:
    folder = prepared_heads(tmp_path, with_masks=False)
    whole = thresholds(Prepared(folder), 1, 3)
    stored = np.load(folder / "shards" / "00000.images.npy")
    stored[::2, 1] = 0
    np.save(folder / "shards" / "00000.images.npy", stored)
    data = Prepared(folder)
    limits = thresholds(data, 1, 3)
    assert limits.tolist() == pytest.approx(whole.tolist(), abs=0.1)
    found = tissues(torch.from_numpy(data.images(np.arange(2))), 1, limits)
    assert (found[0] == NO_MASK).all() and set(found[1].unique().tolist()) == {0, 1, 2}
