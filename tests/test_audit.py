"""The audit: planted copies are found, a clean generator passes, thresholds are what they promise."""

from __future__ import annotations

import csv
import json
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError, SettingsError
from radsynth.metrics._privacy_attacks import Scores, Threshold, strength, threshold
from radsynth.metrics._privacy_copies import Whitening, _coarse, aligned, likeness, nearest_rows, prints
from radsynth.metrics._resampling import share_of
from radsynth.metrics.neighbours import NUMBERS
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.verbs._auditing.attacks import Side, _judged
from radsynth.verbs._auditing.copies import Copies
from radsynth.verbs._auditing.copy_filter import CopyFilter
from radsynth.verbs._auditing.words import verdict
from radsynth.verbs.audit import Settings, audit
from radsynth.verbs.generate import generate, sample
from radsynth.verbs.train import train
from radsynth.verbs.utility import utility
from tests.phantoms import phantoms

FAST = Settings(images=200, pairs=4)


def planted(images: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Copies: shifted by up to 2 pixels, half of them flipped, other contrast and brightness, slight noise."""
    generator, made = np.random.default_rng(seed), []
    for image in images[:, 0]:
        for axis in range(image.ndim):
            edges = [(2, 2) if k == axis else (0, 0) for k in range(image.ndim)]
            image = np.take(np.pad(image, edges, mode="edge"),
                            np.arange(image.shape[axis]) + generator.integers(0, 5), axis)
        image = np.flip(image, -1) if generator.random() < 0.5 else image
        made.append(image * generator.uniform(0.75, 1.25) + generator.uniform(-0.1, 0.1)
                    + 0.02 * generator.normal(size=image.shape))
    return np.clip(np.asarray(made), -1, 1)[:, None].astype(np.float32)


@pytest.mark.parametrize("size", [(32, 32), (12, 16, 16)], ids=["2-D", "3-D"])
def test_planted_copies_are_found_at_under_one_percent_false_alarms(size: tuple[int, ...]) -> None:
    training, held_out, clean = phantoms(300, 1, size), phantoms(300, 2, size), phantoms(300, 3, size)
    whitening = Whitening.of(training)
    known = prints(training, whitening)
    limit = threshold(likeness(prints(held_out, whitening), known)[0], np.arange(300), 0.0075).likeness
    found, where = likeness(prints(planted(training[:60], 4), whitening), known)
    assert (found > limit).mean() >= 0.95
    assert (where == np.arange(60)).mean() >= 0.95
    assert (likeness(prints(clean, whitening), known)[0] > limit).mean() < 0.02  # 300 images: 1 % is 3


def test_likeness_is_one_for_the_same_image_and_does_not_know_contrast() -> None:
    images = phantoms(40, 1)
    whitening = Whitening.of(images)
    (first,), other = whitening(images[:1])[0], whitening(0.5 * images[:1] - 0.2)[0]
    assert float(aligned(first, first[None])[0]) == pytest.approx(1, abs=1e-5)
    assert float(aligned(first, other)[0]) == pytest.approx(1, abs=1e-4)
    assert float(aligned(first, torch.flip(first, (1,))[None])[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", [(48, 48), (20, 24, 24)], ids=["2-D", "3-D"])
def test_likeness_does_not_know_noise(size: tuple[int, ...]) -> None:
    """Images of a few flat pieces: the plain correlation tells which share of the whitened energy is noise."""
    pieces = gaussian_filter(np.random.default_rng(1).normal(size=(60, 1, *size)), (0, 0, *[4] * len(size)))
    images = np.sign(pieces).astype(np.float32)
    whitening = Whitening.of(images)
    known = prints(images, whitening)
    noise = 0.2 * np.random.default_rng(2).normal(size=images.shape).astype(np.float32)
    noisy = prints(images + noise, whitening)
    plain = [float(aligned(torch.from_numpy(one), torch.from_numpy(other)[None])[0])
             for one, other in zip(noisy.white, known.white, strict=True)]
    if len(size) == 2:  # small volumes have few blocks without an edge: less is taken off than there is
        share = np.median(1 - np.square(plain))
        assert np.median(noisy.noise - known.noise) == pytest.approx(share, rel=0.15)
    found, where = likeness(noisy, known)
    assert (where == np.arange(60)).all() and np.median(np.abs(1 - found)) < 0.8 * np.median(1 - np.asarray(plain))


def test_prints_are_put_where_they_stay_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held until the end and put together then, those of 70,000 images took twice their 2 GB."""
    made, alive = list[weakref.ref[NDArray[np.float32]]](), list[int]()

    def noted(white: torch.Tensor) -> NDArray[np.float32]:
        found = _coarse(white)
        made.append(weakref.ref(found))
        alive.append(sum(one() is not None for one in made))
        return found

    monkeypatch.setattr("radsynth.metrics._privacy_copies._coarse", noted)
    images = np.tile(phantoms(50, 1), (8, 1, 1, 1))
    found = prints(images, Whitening.of(images))
    assert len(alive) == 7 and max(alive) <= 2
    assert all(array.shape[0] == 400 and np.allclose(array[:50], array[-50:], atol=1e-5)
               for array in (found.white, found.noise, *found.quick))


def test_likeness_equals_plain_correlation_at_the_best_shift() -> None:
    whitening = Whitening.of(phantoms(40, 1))
    one, other = whitening(phantoms(2, 5))[0]
    both = (one != 0).float()  # the same border is left out of each
    best = -1.0
    for flip in ((), (1,), (2,), (1, 2)):
        for shift in ((a, b) for a in range(-4, 5) for b in range(-4, 5)):
            moved, there = (torch.roll(torch.flip(x, flip), shift, (1, 2)) for x in (one, both))
            norms = (moved * both).norm() * (other * there).norm()
            best = max(best, float((moved * other).sum() / norms))
    assert float(aligned(one, other[None])[0]) == pytest.approx(best, abs=1e-4)


def test_faiss_finds_what_the_exact_search_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    rows = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    exact = nearest_rows(rows[:50], rows, 5)[1]
    monkeypatch.setattr("radsynth.metrics._privacy_copies.EXACT", 0)
    quick = nearest_rows(rows[:50], rows, 5)[1]
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(exact, quick, strict=True)]) > 0.9


def test_too_few_are_refused_with_the_number_needed() -> None:
    few = Scores(values=np.arange(5.0), patients=np.arange(5))
    with pytest.raises(DataError, match="at least 20"):
        strength(few, few)
    with pytest.raises(DataError, match="at least 133 held-out"):
        threshold(np.arange(132.0), np.arange(132), 0.0075)
    with pytest.raises(DataError, match="of one patient"):
        threshold(np.arange(133.0), np.zeros(133, dtype=np.int64), 0.0075)
    assert threshold(np.arange(133.0), np.arange(133), 0.0075).likeness == 132


def test_a_threshold_from_few_unseen_images_is_drawn_itself() -> None:
    """Honest generators must not be told to be copying: of 133 unseen images the largest sets the threshold."""
    generator = np.random.default_rng(0)
    alarms, refusals, truth = 0, 0, []
    for _ in range(2000):
        limit = threshold(generator.random(133), np.arange(133), 0.0075)
        count = int((generator.random(500) > limit.likeness).sum())
        truth.append(count)
        text, passed = told(limit, count, 500)
        alarms += text.startswith("Do not release")
        refusals += text.startswith("No verdict on copies") and passed is None
    assert alarms <= 0.04 * 2000 and refusals > 0
    for count in (1, 5, 12):
        assert limit.chance(count, 500) == pytest.approx(np.mean(np.asarray(truth) >= count), abs=0.04)
    assert limit.chance(0, 500) == 1 and limit.chance(400, 500) < 1e-9


def told(limit: Threshold, count: int, of: int) -> tuple[str, bool | None]:
    return verdict(Copies(count=count, share=share_of(count, of), threshold=limit.likeness, expected=limit.expected,
                          by="", nearness=[], chance=limit.chance(count, of), pairs=[]), [], [])


def test_copies_that_may_be_chance_are_told_as_what_they_are() -> None:
    """8 planted copies among 504 images, all of them found, were "no more than among unseen patients' images"."""
    limit = Threshold(likeness=0.99, expected=0.0046, independent=216)
    more, usual, none = (told(limit, count, 504)[0] for count in (8, 2, 0))
    assert more.startswith("Not clearly more aligned copies were found than among unseen patients' images")
    for text, count in ((more, 8), (usual, 2)):
        assert f"{count} images are beyond" in text and f"in {100 * limit.chance(count, 504):.0f} of 100 audits" in text
    assert usual.startswith("No more aligned") and none.startswith("No more aligned") and "beyond" not in none


def test_a_threshold_without_clusters_is_the_order_statistic() -> None:
    values = np.random.default_rng(1).random(400)
    limit = threshold(values, np.arange(400), 0.0075)
    assert limit.likeness == np.sort(values)[-3]  # 0.0075 of 401 places
    assert (limit.expected, limit.independent) == (pytest.approx(3 / 401), 400)


def test_a_threshold_from_few_patients_with_many_images_knows_how_rough_it_is() -> None:
    """Slices of one patient are alike: the largest likenesses are of one, and another's exceed them more often."""
    generator = np.random.default_rng(2)

    def slices(patients: int) -> NDArray[np.float64]:
        return np.asarray(generator.normal(size=(patients, 1)) + generator.normal(size=(patients, 20))).ravel()

    true, expected, alarms, caught = [], [], 0, 0
    for _ in range(300):
        limit = threshold(slices(20), np.repeat(np.arange(20), 20), 0.0075)
        made = slices(2000)
        count = int((made > limit.likeness).sum() * 2000 / len(made))  # of 2,000 images of as many patients
        true.append(count / 2000)
        expected.append(limit.expected)
        alarms += told(limit, count, 2000)[1] is False
        caught += told(limit, count + 200, 2000)[1] is False
    assert np.mean(expected) == pytest.approx(np.mean(true), abs=0.002)
    assert alarms <= 0.05 * 300, "counted by images it is 13 %"
    assert caught >= 0.95 * 300


@pytest.fixture
def run(make_prepared: Callable[..., Path], tmp_path: Path) -> Path:
    """A run folder whose data are phantoms: 300 for training, 150 held out."""
    folder = make_prepared(450, (32, 32), name="run/data")
    pictures = np.rint((phantoms(450, 0) + 1) * 127.5).astype(np.uint8)
    np.save(folder / "shards" / "00000.images.npy", pictures)
    overrides = ("model.kind=dcgan", "model.width=8", "model.discriminator_norm=none", "train.batch=8",
                 "train.images=64", "train.previews=0")
    train(folder, tmp_path / "run", settings=resolve(overrides=overrides))
    return tmp_path / "run"


def write_synthetic(folder: Path, images: NDArray[np.float32]) -> Path:
    folder.mkdir()
    stored = np.rint((images[:, 0] + 1) * 127.5).astype(np.uint8)
    np.savez_compressed(folder / "synthetic.npz", train_images=stored, train_labels=np.zeros((len(stored), 1)))
    return folder


def test_a_clean_generator_passes_and_a_copying_one_does_not(run: Path, tmp_path: Path) -> None:
    clean = audit(run, write_synthetic(tmp_path / "clean", phantoms(100, 9)), settings=FAST)
    assert clean.passed and clean.copies is not None and clean.copies.count <= 3, clean.verdict
    assert "not known to be of this run's generator" in clean.verdict
    assert {attack.name for attack in clean.attacks} == {"membership_nearness", "membership_calibrated",
                                                         "membership_discriminator"}
    assert "one image" in clean.refused[0]["reason"]  # every patient has one image: nothing to link
    prepared = Prepared(run / "data")
    copied = planted(prepared.images(prepared.indices("train")[:100]), 1)
    folder = write_synthetic(tmp_path / "copied", copied)
    weights = json.loads((run / "generator.json").read_text())["sha256"]
    (folder / "generate.json").write_text(json.dumps({"weights": weights}))
    (folder / "samples.csv").write_text("file,index,seed,label\nsynthetic.npz,0,0,\n")
    found = audit(run, folder, settings=FAST)
    assert "not known" not in found.verdict
    assert found.passed is False and found.copies is not None and found.copies.share.value >= 0.95
    assert "Do not release" in found.verdict
    titles = {line["attack"] for line in found.table()["numbers"]} | {number.title for number in NUMBERS}
    assert {"Aligned copies", "Outright copies"} <= titles and "Copies" not in titles, "two rules"
    document = json.loads((run / "audit.json").read_text())
    assert document["limits"] and document["context"]["held_out_images"] == 150
    assert len(document["copies"]["pairs"]) == 4 and document["copies"]["pairs"][0]["copy"]
    assert np.load(run / "pictures" / "audit_pairs.npy").shape == (4, 2, 1, 32, 32)


def test_held_out_images_are_no_synthetic_ones(run: Path, tmp_path: Path) -> None:
    prepared = Prepared(run / "data")
    unseen = prepared.images(np.concatenate([prepared.indices(split) for split in ("validation", "test")])[:60])
    with pytest.raises(DataError, match="60 of 60 synthetic images are, pixel for pixel, among the real images"):
        audit(run, write_synthetic(tmp_path / "unseen", unseen), settings=FAST)


def test_without_checkpoint_or_data_it_is_said(run: Path, tmp_path: Path) -> None:
    made = write_synthetic(tmp_path / "made", phantoms(60, 9))
    shutil.rmtree(run / "checkpoints")
    refused = audit(run, made, settings=FAST).refused
    assert any("no checkpoint any more" in line["reason"] for line in refused)
    (run / "settings.yaml").rename(tmp_path / "settings.yaml")
    with pytest.raises(FolderError, match=r"run does not say .*settings\.yaml cannot be read: No such file.* a copy"):
        audit(run, tmp_path / "nothing", settings=FAST)
    (run / "data" / "manifest.json").rename(tmp_path / "away.json")
    with pytest.raises(FolderError, match="prepared data"):
        audit(run, made)


@pytest.mark.parametrize("more", [("task.kind=semantic", "model.width=8"), ("task.masks=true", "model.kind=mlp")])
def test_a_discriminator_of_images_with_masks_is_asked_about_both(
    more: tuple[str, ...], make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_prepared(n=24, mask_classes=2, mask_values=(0, 1))
    images = np.load(data / "shards" / "00000.images.npy")
    np.save(data / "shards" / "00000.masks.npy", (images[:, 0] > 100).astype(np.uint8))
    train(data, tmp_path / "run", settings=resolve(overrides=(*more, "train.batch=8", "train.images=16",
                                                              "train.previews=0")))
    prepared, rows = Prepared(data), np.arange(24)
    logits = _judged(RunFolder(tmp_path / "run"), Side(prepared=prepared, rows=rows, patients=rows))
    assert logits.shape == (24,) and np.isfinite(logits).all() and logits.std() > 0
    np.save(data / "shards" / "00000.masks.npy", np.zeros(images[:, 0].shape, np.uint8))
    other = _judged(RunFolder(tmp_path / "run"), Side(prepared=Prepared(data), rows=rows, patients=rows))
    assert not np.allclose(logits, other), "the masks count"


def test_without_synthetic_images_it_is_said_what_makes_some(run: Path) -> None:
    with pytest.raises(FolderError, match=r"no synthetic images to audit.* generate "):
        audit(run, settings=FAST)


def test_a_run_from_image_to_image_has_nothing_to_audit_or_to_learn_from(
    make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    """It was sent to `generate`, which refuses it."""
    data = make_prepared(n=24, size=(16, 16), labels=("a", "b"))
    train(data, tmp_path / "run", settings=resolve(overrides=(
        "task.kind=restore", "model.width=4", "train.batch=8", "train.images=8", "train.previews=0")))
    shutil.copytree(data, tmp_path / "run" / "data")
    for verb, words in ((audit, "show the patients whose images were given"), (utility, "images that you name")):
        with pytest.raises(SettingsError, match=f"makes images from images: .*{words}"):
            verb(tmp_path / "run")


def test_without_unseen_patients_there_is_no_verdict(run: Path, tmp_path: Path) -> None:
    table = run / "data" / "records.csv"
    table.write_text(table.read_text().replace("test,", "train,"))
    made = phantoms(60, 9)
    prepared = Prepared(run / "data")
    made[57] = planted(prepared.images(prepared.own("train")[8:9]), 1)[0]
    found = audit(run, write_synthetic(tmp_path / "made", made), settings=replace(FAST, synthetic_images=58, seed=3))
    assert found.passed is None and found.copies is None and found.verdict.startswith("No verdict")
    assert "Look at the closest pairs" in found.verdict
    pair = json.loads((run / "audit.json").read_text())["closest"][0]
    assert (pair["synthetic"], pair["training"]) == (57, prepared.own("train")[8]), "as in samples.csv"
    assert pair["likeness"] > 0.8 and set(pair) == {"synthetic", "training", "likeness"}
    assert np.load(run / "pictures" / "audit_pairs.npy").shape == (4, 2, 1, 32, 32)
    blind = audit(run, tmp_path / "made", settings=replace(FAST, real_pictures=False))
    assert "Look at" not in blind.verdict and not list((run / "pictures").glob("audit*"))
    assert "at least 133 held-out images are needed, there are 0" in found.refused[0]["reason"]
    assert "(half of them for the control), there are 450 and 0. Prepare" in found.refused[1]["reason"]
    lines = [line.split(",") for line in table.read_text().splitlines()]
    of_one = [lines[0], *([*line[:2], "p", *line[3:]] for line in lines[1:])]
    table.write_text("\n".join(map(",".join, of_one)) + "\n")
    assert "there are 1 and 0. Prepare" in audit(run, tmp_path / "made", settings=FAST).refused[1]["reason"]


def test_patients_are_counted_before_images_are_drawn_and_after(run: Path, tmp_path: Path) -> None:
    table = run / "data" / "records.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    for n, line in enumerate(lines[1:]):  # 30 patients in training, of whom two have nearly all images
        line[0], line[2] = ("train", f"p{max(n - 300, n % 2)}") if n < 330 else ("test", f"q{n}")
    table.write_text("\n".join(map(",".join, lines)) + "\n")
    found = audit(run, write_synthetic(tmp_path / "made", phantoms(60, 9)), settings=FAST)
    reason = next(line["reason"] for line in found.refused if line["name"] == "reidentification")
    assert "there are 30 and 120; the 120 and 120 images that were drawn of them are of " in reason


def test_the_copy_filter_draws_copies_again(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = sample(run, 20, seed=1)
    monkeypatch.setattr(CopyFilter, "copies", lambda self, images: np.isclose(images, whole[3]).all((1, 2, 3)))
    made = generate(run, tmp_path / "made", count=20, format="npz", seed=1, copy_filter=True)
    with (made.folder / "samples.csv").open(newline="", encoding="utf-8") as file:
        assert [row["redrawn"] for row in csv.DictReader(file)] == ["0"] * 3 + ["1"] + ["0"] * 16
    record = json.loads((made.folder / "copy_filter.json").read_text())
    assert record["rejected"] == 1 and record["kept"] == 20
    filtered, _ = sample(run, 20, seed=1, copy_filter=True)
    others = np.delete(np.arange(20), 3)
    assert np.array_equal(filtered[others], whole[others]) and not np.array_equal(filtered[3], whole[3])
    fewer, _ = sample(run, 5, seed=1, copy_filter=True)
    assert np.array_equal(fewer, filtered[:5])
    monkeypatch.setattr(CopyFilter, "copies", lambda self, images: np.ones(len(images), bool))
    with pytest.raises(DataError, match="makes copies"):
        sample(run, 5, seed=1, copy_filter=True)


def test_the_filter_knows_copies_and_needs_its_data(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared(run / "data")
    copied, others = planted(prepared.images(prepared.indices("train")[:40]), 2), phantoms(100, 9)
    for most, used in ((5000, len(prepared.own("validation", "test"))), (150, 150)):
        monkeypatch.setattr("radsynth.verbs._auditing.copy_filter.HELD_OUT", most)
        knows = CopyFilter(run / "data", "data")
        assert knows.rule()["held_out_images"] == used
        assert knows.copies(copied).mean() >= 0.95 and knows.copies(others).mean() <= 0.03
    with pytest.raises(FolderError, match="copy filter needs"):
        CopyFilter(tmp_path / "nowhere", "data")
    with pytest.raises(FolderError, match="not the data"):
        CopyFilter(run / "data", "another")
