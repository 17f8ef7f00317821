"""Usefulness: scores and intervals against closed forms and scikit-learn, fair arms, findings in plain words."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from radsynth.arrays import Prepared
from radsynth.device import here
from radsynth.errors import DataError, FolderError, SettingsError
from radsynth.metrics import _utility as scores
from radsynth.verbs._usefulness.sources import Real, real, some_patients
from radsynth.verbs._usefulness.training import Examples, Recipe, _Drawer, _parts, augment, fit, predict
from radsynth.verbs._usefulness.words import points, sentences, verdict
from radsynth.verbs.utility import Settings, utility

LABELS = ("small", "large")
ONE = np.ones((1, 40))


def test_scores_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    rng = np.random.default_rng(0)
    labels, owners = rng.integers(0, 3, 200), rng.integers(0, 40, 200)
    probabilities = rng.dirichlet((1, 1, 1), 200)
    probabilities[np.arange(200), labels] += 0.3
    found = scores.sensitivities(probabilities, labels, owners, ONE)
    assert scores.over_classes(found)[0] == pytest.approx(balanced_accuracy_score(labels, probabilities.argmax(1)))
    areas = scores.areas_under_curves(probabilities, labels, owners, ONE)[0]
    for label in range(3):
        assert areas[label] == pytest.approx(roc_auc_score(labels == label, probabilities[:, label]))


def test_areas_of_many_images_take_no_memory_of_pairs() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels, owners = rng.dirichlet((1, 1), 6000), np.arange(6000) % 2, rng.integers(0, 40, 6000)
    tracemalloc.start()
    scores.areas_under_curves(probabilities, labels, owners, ONE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6, "a number a pair is 72 MB here, and 2 GB for 30,000 images"


def test_weights_count_a_patient_as_often_as_it_was_drawn() -> None:
    rng = np.random.default_rng(1)
    labels, owners = np.tile([0, 1], 30), np.repeat(np.arange(20), 3)
    probabilities = rng.dirichlet((1, 1), 60)
    drawn = rng.integers(0, 20, 20)
    weights = np.bincount(drawn, minlength=20)[None].astype(float)
    rows = np.concatenate([np.flatnonzero(owners == patient) for patient in drawn])
    plain = np.ones((1, 20))
    for score in (scores.sensitivities, scores.areas_under_curves):
        weighted = score(probabilities, labels, owners, weights)
        repeated = score(probabilities[rows], labels[rows], np.zeros(len(rows), np.int64), plain[:, :1])
        assert weighted == pytest.approx(repeated)


def test_dice_joins_the_slices_of_a_patient() -> None:
    truth, predicted = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)
    truth[0, :2], predicted[0, 1:3] = 1, 1  # 8 and 8 pixels, 4 in common
    truth[1, 0], predicted[1, 0] = 1, 1  # 4 in common, the same patient
    predicted[2] = 1  # another patient, without the class: left out
    found = scores.dice_of_patients(predicted, truth, np.asarray([0, 0, 1]), 2)
    assert found[0, 0] == pytest.approx(2 * (4 + 4) / (16 + 8)) and np.isnan(found[1, 0])
    assert scores.mean_of_patients(found, np.ones((1, 2)))[0, 0] == pytest.approx(found[0, 0])


def test_intervals_of_paired_differences_cover_zero() -> None:
    """Two arms with the same expectation, correlated by patient and by seed: about 95 of 100 intervals hold 0."""
    covered = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        patients, seeds = 60, 6
        ease = rng.normal(size=(1, patients))

        def arm(rng: np.random.Generator = rng, ease: NDArray[np.float64] = ease, patients: int = patients,
                seeds: int = seeds) -> NDArray[np.float64]:
            own = rng.normal(size=(1, patients)) * 0.5 + rng.normal(size=(seeds, 1)) * 0.1
            return 1 / (1 + np.exp(-ease - own - rng.normal(size=(seeds, patients)) * 0.5))

        chosen = scores.draws(patients, seeds, 200, trial)
        means = [scores.over_seeds(np.stack([scores.mean_of_patients(row[:, None], chosen.patients) for row in one]),
                                   chosen) for one in (arm(), arm())]
        found = scores.estimate((means[0] - means[1])[:, 0], patients, -1.0)
        covered += found.low <= 0 <= found.high
    assert 180 <= covered <= 199, covered


def test_where_all_patients_are_alike_the_interval_is_that_of_a_count() -> None:
    """100 % of 40 patients, or the same ones right twice: no draw differs, and yet others may be wrong."""
    labels = np.tile([0, 1], 40)
    right = np.eye(2)[labels]
    chosen = scores.draws(40, 2, 200, 0)
    found = scores.sensitivities(right, labels, np.repeat(np.arange(40), 2), chosen.patients)
    replicates = scores.over_seeds(np.stack([found, found]), chosen)[:, 0]
    limit = 0.025 ** (1 / 40)  # Clopper and Pearson's lower limit of 40 of 40
    all_right = scores.estimate(replicates, 40)
    assert (all_right.value, all_right.high) == (1, 1) and all_right.low == pytest.approx(limit)
    none_right = scores.estimate(1 - replicates, 40)
    assert (none_right.value, none_right.low) == (0, 0) and none_right.high == pytest.approx(1 - limit)
    same = scores.estimate(replicates - replicates, 40, -1.0)
    assert (same.low, same.high) == pytest.approx((limit - 1, 1 - limit))


def test_shares_of_patients_are_nested_and_keep_every_class() -> None:
    labels = np.repeat([0, 0, 0, 1], 30)
    found = Real(examples=Examples(images=np.zeros((120, 1, 8, 8), np.float32), labels=labels),
                 owners=np.arange(120) // 3)
    few, more = some_patients(found, 0.1, 5), some_patients(found, 0.3, 5)
    assert set(few.owners) <= set(more.owners) and few.patients == 4 and more.patients == 12
    assert set(few.examples.labels) == {0, 1} and len(few.examples) == 12, "patients stay whole"
    assert set(some_patients(found, 0.1, 6).owners) != set(few.owners)
    assert set(some_patients(found, 0.001, 5).examples.labels) == {0, 1}, "of every class one patient at least"


def test_memory_does_not_grow_with_what_was_prepared(make_prepared: Callable[..., Path]) -> None:
    prepared = Prepared(make_prepared(600, (64, 64), labels=LABELS))
    tracemalloc.start()
    found = some_patients(real(prepared, "train", "classification"), 1.0, 0)
    for _ in range(3):
        _Drawer(found.examples, "classification").draw(32, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.examples) == 400 and peak < 3e6, "400 images are 6.6 MB; a batch is 0.5 MB"


def test_time_of_predictions_is_part_of_the_time(
    make_prepared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 9 s that may be used 8 trainings of 0.01 s a step leave 112 steps, and 50 where each predicts for 0.625 s."""
    prepared = Prepared(make_prepared(90, labels=LABELS))
    made, asked = write_labelled(tmp_path / "made", prepared, False), replace(FAST, seconds=10.0, steps=500)
    monkeypatch.setattr("radsynth.verbs.utility.time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr("radsynth.verbs.utility.fit", lambda *_: None)
    monkeypatch.setattr("radsynth.verbs.utility.predict", lambda recipe, model, images: np.full((len(images), 2), 0.5))
    for prediction, steps in ((0.0, 112), (0.625, 50)):
        monkeypatch.setattr("radsynth.verbs.utility.seconds_needed", lambda *_, p=prediction: (0.01, p))
        found = utility(prepared.folder, made, settings=asked, out=tmp_path / "out")
        assert found["steps"] == steps and found["seconds_estimated"] == pytest.approx(
            8 * (steps * 0.01 + prediction), abs=0.1)


def test_no_more_synthetic_images_are_drawn_than_a_training_is_shown(
    make_prepared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 60 real training images: 20 steps of 12 images show all, 3 steps 36."""
    def asked(*given: Any) -> Examples:
        raise DataError(f"{given[4]} were asked for")

    prepared = Prepared(make_prepared(90, labels=LABELS))
    monkeypatch.setattr("radsynth.verbs.utility.synthetic", asked)
    for steps, count in ((20, 60), (3, 36)):
        with pytest.raises(DataError, match=f"^{count} were asked for"):
            utility(prepared.folder, tmp_path, settings=replace(FAST, steps=steps), out=tmp_path / "out")


def discs(n: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rows, columns = np.mgrid[:16, :16]
    place, radius = rng.uniform(6, 10, (n, 2, 1, 1)), np.where(labels == 1, 5, 3)[:, None, None]
    inside = np.hypot(rows - place[:, 0], columns - place[:, 1]) < radius
    images = np.where(inside, 0.5, -1) + 0.1 * rng.normal(size=inside.shape)
    return Examples(images=images[:, None].astype(np.float32), labels=labels, masks=inside.astype(np.uint8))


@pytest.mark.parametrize("space", [(24, 48), (48, 24), (3, 24, 48)])
def test_images_that_are_not_square_are_turned_without_being_sheared(
    space: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn by 10 degrees leaves every point as far from the middle as it was, in pixels."""
    for name in ("SCALE", "SHIFT", "CONTRAST"):
        monkeypatch.setattr(f"radsynth.verbs._usefulness.training.{name}", 0.0)
    rows, columns = np.mgrid[:space[-2], :space[-1]]
    middle = np.array([(side - 1) / 2 for side in space[-2:]])
    place = middle + 0.4 * np.array([middle[0], -middle[1]])
    blob = np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / 8)
    images = torch.from_numpy(np.broadcast_to(2 * blob - 1, (1, 1, *space)).astype(np.float32))
    made, _ = augment(images, torch.zeros(1), SimpleNamespace(uniform=lambda low, high, size: np.ones(size)))
    weight = (made[0, 0].numpy() + 1).reshape(-1, *space[-2:])[0]
    found = np.array([(rows * weight).sum(), (columns * weight).sum()]) / weight.sum() - middle
    before = place - middle
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(before), abs=0.2)
    cosine = found @ before / (np.linalg.norm(found) * np.linalg.norm(before))
    assert np.degrees(np.arccos(cosine)) == pytest.approx(10, abs=0.5)


def test_classes_are_drawn_equally_often_and_sources_in_equal_parts() -> None:
    labels = np.repeat([0, 1, 2], [90, 9, 1])
    images = np.arange(100, dtype=np.float32).reshape(100, 1, 1, 1)
    drawer = _Drawer(Examples(images=images, labels=labels), "classification")
    drawn, targets = drawer.draw(30, np.random.default_rng(0))
    assert np.bincount(targets).tolist() == [10, 10, 10]
    assert (labels[drawn.flatten().long()] == targets.numpy()).all()
    assert _parts(9, 1) == [9] and _parts(9, 2) == [5, 4]


def test_trainings_of_one_repeat_differ_in_their_images_and_in_nothing_else(
    make_prepared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, taken = Prepared(make_prepared(90, labels=LABELS)), list[tuple[Any, ...]]()

    def noted(recipe: Recipe, sources: list[Examples], augmented: bool, seed: int, *_: Any) -> Any:
        taken.append((tuple(map(len, sources)), augmented, recipe, seed))

    monkeypatch.setattr("radsynth.verbs.utility.fit", noted)
    monkeypatch.setattr("radsynth.verbs.utility.predict", lambda recipe, model, images: np.full((len(images), 2), 0.5))
    utility(prepared.folder, write_labelled(tmp_path / "made", prepared, False), settings=FAST, out=tmp_path / "out")
    assert [one[:2] for one in taken] == 2 * [((60,), True), ((60,), False), ((60,), True), ((60, 60), True)]
    assert {one[2] for one in taken} == {replace(taken[0][2], steps=20)}
    assert len({one[3] for one in taken[:4]}) == len({one[3] for one in taken[4:]}) == 1 and taken[0] != taken[4]


@pytest.mark.parametrize("kind", ["classification", "segmentation"])
@pytest.mark.parametrize("bf16", sorted({False, here().bf16}))
def test_networks_learn_an_easy_task_and_training_repeats_to_the_bit(bf16: bool, kind: Any) -> None:
    train, test = discs(60, 1), discs(60, 2)
    if kind == "classification":
        train, test = (Examples(images=one.images, labels=one.labels) for one in (train, test))
    recipe = Recipe(kind=kind, classes=2, steps=20, batch=12, rate=3e-3, bf16=bf16)
    found = [predict(recipe, fit(recipe, [train], True, seed), test.images) for seed in (3, 3, 4)]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    if kind == "classification":
        assert (found[0].argmax(1) == test.labels).mean() > 0.85
    else:
        assert test.masks is not None
        assert np.nanmean(scores.dice_of_patients(found[0], test.masks, np.arange(60), 2)) > 0.8


@pytest.mark.parametrize("size", [(12, 20), (6, 12, 20)])
def test_classical_augmentation_moves_image_and_mask_alike(size: tuple[int, ...]) -> None:
    masks = torch.zeros(8, *size, dtype=torch.long)
    masks[(slice(None), *(slice(side // 3, 2 * side // 3) for side in size))] = 1
    images = masks[:, None].float() - 0.5
    moved, moved_masks = augment(images, masks, np.random.default_rng(0))
    assert moved.shape == images.shape and (moved_masks != masks).any()
    middle = torch.stack([one.median() for one in moved])
    for image, mask in zip(moved[:, 0], moved_masks, strict=True):
        inside = image > (image.max() + image.min()) / 2
        assert (inside == mask.bool()).float().mean() > 0.9
    assert middle.std() > 0, "brightness differs"
    assert (torch.stack([mask.sum() for mask in moved_masks]).float() / masks[0].sum() - 1).abs().max() < 0.6


def write_labelled(folder: Path, prepared: Prepared, noise: bool) -> Path:
    """Synthetic images of a prepared folder's classes: its own training images, or noise with labels."""
    rows = prepared.indices("train")
    stored = prepared.stored(rows)[:, 0]
    if noise:
        stored = np.random.default_rng(0).integers(0, 255, stored.shape).astype(np.uint8)
    for index, (image, label) in enumerate(zip(stored, prepared.labels(rows), strict=True)):
        place = folder / LABELS[label]
        place.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(image).save(place / f"{index:04d}.png")
    return folder


FAST = Settings(seconds=600, steps=20, seeds=2, shares=(1.0,), repetitions=100, batch=12, rate=3e-3)


def test_a_whole_study_says_plainly_when_synthetic_images_do_not_help(
    make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    prepared = Prepared(make_prepared(90, labels=LABELS))
    good = utility(prepared.folder, write_labelled(tmp_path / "good", prepared, False), settings=FAST,
                   out=tmp_path / "a")
    bad = utility(prepared.folder, write_labelled(tmp_path / "bad", prepared, True), settings=FAST, out=tmp_path / "b")
    assert json.loads((tmp_path / "a" / "utility.json").read_text()) == json.loads(json.dumps(good))
    assert (tmp_path / "a" / "utility.png").stat().st_size > 5000

    def alone(document: dict[str, Any]) -> dict[str, Any]:
        return next(line for line in document["differences"]
                    if (line["share"], line["arm"], line["against"]) == (1.0, "synthetic", "augmented"))

    assert alone(good)["verdict"] != "harms" and good["trainings"] == 2 * (1 + 3)
    assert alone(bad)["verdict"] == "harms" and "worse than training on all real patients" in " ".join(bad["words"])
    assert good["chance"] == 0.5 and good["test"]["patients"] == 30
    real_all = next(arm for arm in good["arms"] if arm["share"] == 1.0 and arm["arm"] == "real")
    assert real_all["images"] == 60 and {one["class"] for one in real_all["auc"]["classes"]} == set(LABELS)
    assert real_all["low"] <= real_all["value"] <= real_all["high"]
    assert all(one["low"] < one["high"] for one in (*good["arms"], *good["differences"])), "30 patients tell no more"


def test_masks_are_segmented_from_a_folder_of_pairs(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    prepared = with_masks(make_prepared(60))
    found = discs(40, 7)
    assert found.masks is not None
    np.savez(tmp_path / "pairs.npz", images=np.rint((found.images[:, 0].clip(-1, 1) + 1) * 127.5).astype(np.uint8),
             masks=7 * found.masks)
    (tmp_path / "made").mkdir()
    (tmp_path / "pairs.npz").rename(tmp_path / "made" / "pairs.npz")
    with pytest.raises(DataError, match=r"without masks"):
        utility(prepared, write_labelled(tmp_path / "plain", Prepared(make_prepared(12, labels=LABELS, name="x")),
                                         False), settings=FAST, out=tmp_path / "c")
    study = utility(prepared, tmp_path / "made" / "pairs.npz", settings=FAST, out=tmp_path / "d")
    assert study["kind"] == "segmentation" and study["classes"] == ["label 7"]
    both = next(arm for arm in study["arms"] if arm["arm"] == "both" and arm["share"] == 1.0)
    assert both["dice"]["mean"]["value"] == both["value"] > 0.3


def with_masks(folder: Path) -> Path:
    stored = np.load(folder / "shards" / "00000.images.npy")
    np.save(folder / "shards" / "00000.masks.npy", 7 * (stored[:, 0] > 75).astype(np.uint8))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["spec"] |= {"mask_classes": 8, "mask_values": [0, 7]}  # a gap: 1 to 6 are no labels
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_what_cannot_be_measured_is_refused(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither two classes nor masks"):
        utility(make_prepared(30), tmp_path, settings=FAST)
    few = Prepared(make_prepared(24, labels=LABELS, name="few"))
    with pytest.raises(DataError, match=r"at least 5 test patients with (small|large), there are 4"):
        utility(few.folder, tmp_path, settings=FAST)
    enough = Prepared(make_prepared(90, labels=LABELS, name="enough"))
    made = write_labelled(tmp_path / "made", enough, False)
    with pytest.raises(SettingsError, match=r"too short.*utility\.seeds"):
        utility(enough.folder, made, settings=Settings(seconds=0.1))
    with pytest.raises(FolderError, match="does not exist"):
        utility(tmp_path / "nothing", made, settings=FAST)
    place = write_labelled(tmp_path / "real", enough, False) / "small" / "unseen.png"
    Pillow.fromarray(enough.stored(enough.indices("test"))[0, 0]).save(place)
    with pytest.raises(DataError, match="1 of 60 synthetic images are, pixel for pixel, among the real images"):
        utility(enough.folder, tmp_path / "real", settings=FAST)
    (made / "small").rename(made / "tiny")
    with pytest.raises(DataError, match="class tiny; the real ones have the classes small, large"):
        utility(enough.folder, made, settings=FAST)


def test_a_difference_of_nothing_has_no_sign_of_less() -> None:
    assert points(-1e-17) == points(0.0) == points(-0.0004) == "+0.0" and points(-0.001) == "\u22120.1"


def test_verdicts_follow_from_the_interval_alone() -> None:
    assert [verdict(*ends) for ends in ((0.01, 0.05), (-0.05, -0.01), (-0.01, 0.015), (-0.01, 0.2))] == [
        "helps", "harms", "no difference", "open"]


def test_training_images_are_those_of_the_split(make_prepared: Callable[..., Path]) -> None:
    prepared = Prepared(make_prepared(48, labels=LABELS))
    train, test = real(prepared, "train", "classification"), real(prepared, "test", "classification")
    assert len(train.examples) == 32 and len(test.examples) == 16
    joint = np.concatenate([one.examples.images[np.arange(len(one.examples))] for one in (train, test)]).reshape(48, -1)
    assert len(np.unique(joint, axis=0)) == 48


def test_words_tell_that_the_generator_saw_everything() -> None:
    arm = {"images": 10, "value": 0.8, "low": 0.7, "high": 0.9}
    gap = {"value": 0.05, "low": 0.02, "high": 0.08, "verdict": "helps"}
    document: dict[str, Any] = {
        "kind": "classification", "shares": [1.0], "metric": "balanced accuracy", "chance": 0.5,
        "steps": 100, "batch": 32, "seeds": 3,
        "generator_saw": "all", "test": {"patients": 30},
        "arms": [{**arm, "share": 1.0, "arm": name} for name in ("real", "augmented", "synthetic", "both")],
        "differences": [{**gap, "share": 1.0, "arm": name, "against": other} for name, other in
                        (("augmented", "real"), ("synthetic", "augmented"), ("both", "augmented"))],
    }
    text = " ".join(sentences(document))
    assert "adding synthetic images helps: +5.0 points (95 % interval +2.0 to +8.0)" in text
    assert "had learned from all real training patients" in text and "Only 30 test patients" in text
    document["generator_saw"] = "unknown"
    text = " ".join(sentences(document))
    assert "had learned" not in text and "their generator may have seen the test patients" in text
    for line in document["arms"]:
        line["value"] = 0.99
    assert "there is nothing that they could add" in sentences(document)[0]
    for line in document["differences"]:
        line["verdict"] = "harms"
    assert "makes it worse" in sentences(document)[0], "a solved task can be spoilt"
    assert "has not learned the task" not in text
    for line in document["arms"]:
        line["value"] = 0.55
    assert "has not learned the task" in " ".join(sentences(document))
    document |= {"kind": "segmentation", "metric": "Dice overlap", "chance": 0.0}
    assert "has not learned the task" not in " ".join(sentences(document))
    for line in document["arms"]:
        line["value"] = 0.19
    assert "Dice overlap is as little as 19.0 % even with all" in " ".join(sentences(document))
