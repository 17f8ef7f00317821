"""The moment that is delivered: measured on validation images alone, the closest one, the same after interruptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.checkpoints import load_tensors
from radsynth.metrics import _features
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.verbs._training import selection as _selection
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.samples import Samples
from radsynth.verbs.train import train
from tests.tables import resplit
from tests.trained import stopped

TINY = ("model.kind=dcgan", "model.width=8", "model.latent=8", "train.batch=16", "train.previews=0",
        "train.precision=32-true", "train.images=640")
Make = Callable[..., Path]


@pytest.fixture
def data(make_prepared: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """64 training, 20 validation and 12 test images, measured every 128 training images with 20 samples."""
    return split(make_prepared(96), 20, monkeypatch)


def split(folder: Path, validation: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_selection, "APART", 128)
    monkeypatch.setattr(_selection, "SAMPLES", 20)
    # Pixels for features: the network of the real ones takes seconds to load.
    monkeypatch.setattr(_features, "features", lambda images: images[:, 0, ::2, ::2].reshape(len(images), -1))
    return resplit(folder, ["train"] * 64 + ["validation"] * validation + ["test"] * (32 - validation))


def events(run: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["event"]: line["text"] for line in lines if "event" in line}


def weights(run: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return load_tensors(run / "generator.safetensors")


def test_the_closest_moment_is_delivered_and_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By distances that are told: the averaged weights of the third of five moments."""
    told, seen = iter([5.0, 4.0, 3.0, 9.0, 7.0]), []

    def distance(self: _selection.Selection, loop: Loop) -> float:
        seen.append({name: weight.clone() for name, weight in loop.average.network.named_parameters()})
        return next(told)

    monkeypatch.setattr(_selection.Selection, "_distance", distance)
    train(data, tmp_path / "run", settings=resolve(overrides=(*TINY, "train.doctor=false")))
    delivered, kept = weights(tmp_path / "run")
    facts = kept["chosen"]
    assert facts["course"] == [[128, 5.0], [256, 4.0], [384, 3.0], [512, 9.0], [640, 7.0]]
    assert (facts["images"], facts["distance"], facts["validation_images"]) == (384, 3.0, 20)
    assert all(torch.equal(delivered[name], weight) for name, weight in seen[2].items())
    assert not all(torch.equal(delivered[name], weight) for name, weight in seen[4].items())
    assert "after 384 images are delivered" in events(tmp_path / "run")["weights chosen"]


def test_of_moments_that_are_equally_close_the_last_is_delivered(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal within `NOISE`: 102 is no more than 100 to so few samples, 104 is."""
    told = iter([110.0, 100.0, 102.0, 104.0, 120.0])
    monkeypatch.setattr(_selection.Selection, "_distance", lambda self, loop: next(told))
    with stopped(22):
        train(data, tmp_path / "run", settings=resolve(overrides=TINY))
    train(data, tmp_path / "run", settings=resolve(overrides=TINY))  # what was kept goes on with the training
    facts = weights(tmp_path / "run")[1]["chosen"]
    assert (facts["images"], facts["distance"]) == (384, 102.0)


def test_what_an_older_run_kept_goes_on_with_the_closest_moment(data: Path) -> None:
    state = {"course": [(128, 5.0), (256, 3.0), (384, 3.01)], "weights": {}, "finished": False}
    for course, moment in ((state["course"], (256, 3.0)), ([], (0, float("inf")))):
        selection = _selection.Selection(Prepared(data), 0)
        selection.restore({**state, "course": course})
        assert selection.moment == moment


def test_a_moment_at_which_samples_are_all_alike_is_not_delivered(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([(5.0, False), (1.0, True), (3.0, False), (2.0, True), (4.0, False)])

    def distance(self: _selection.Selection, loop: Loop) -> float:
        assert loop.doctor
        found, loop.doctor.signs.lost = next(told)
        return found

    monkeypatch.setattr(_selection.Selection, "_distance", distance)
    train(data, tmp_path / "run", settings=resolve(overrides=TINY))
    assert weights(tmp_path / "run")[1]["chosen"]["images"] == 384


def test_what_is_measured_is_the_averaged_generator(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "run", settings=resolve(overrides=(*TINY, "train.doctor=false")))
    facts = weights(tmp_path / "run")[1]["chosen"]
    assert [moment[0] for moment in facts["course"]] == [128, 256, 384, 512, 640]
    least = min(distance for _, distance in facts["course"])
    equal = [[images, distance] for images, distance in facts["course"] if distance <= _selection.NOISE * least]
    assert [facts["images"], facts["distance"]] == equal[-1]
    assert len({distance for _, distance in facts["course"]}) == 5


def test_only_validation_images_are_looked_at(data: Path) -> None:
    prepared = Prepared(data)
    selection = _selection.Selection(prepared, seed=0)
    assert selection.possible and set(selection.held_out) == set(prepared.indices("validation"))


@pytest.mark.parametrize("validation", [0, 10])
def test_with_too_few_validation_images_the_last_weights_are_delivered_and_it_is_said(
    validation: int, make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, last = split(make_prepared(96), validation, monkeypatch), {}

    def calibrate(samples: Samples) -> None:
        last.update({name: weight.clone() for name, weight in samples.loop.average.network.named_parameters()})

    monkeypatch.setattr(Samples, "calibrate", calibrate)
    train(data, tmp_path / "run", settings=resolve(overrides=TINY))
    delivered, facts = weights(tmp_path / "run")
    assert facts["chosen"] is None and all(torch.equal(delivered[name], weight) for name, weight in last.items())
    said = events(tmp_path / "run")["last weights"]
    assert "look at the closest pairs" in said and "radsynth audit" not in said, "which refuses so few"
    assert f"{validation} validation images cannot tell" in said and ("154 images in all" in said) == (validation == 10)


def test_few_images_that_only_get_worse_end_the_training(data: Path, tmp_path: Path) -> None:
    class Told(_selection.Selection):
        distances = iter([9.0, 5.0, 6.0, 7.0, 5.4, 6.0, 6.0, 6.0, 6.0])

        def _distance(self, loop: Loop) -> float:
            return next(self.distances)

    settings = resolve(overrides=TINY)
    from radsynth.tasks import build

    task = build(settings, Prepared(data).spec)
    loop = Loop(task, settings.section("train"), Prepared(data), RunFolder(tmp_path), 0)
    loop.selection = told = Told(Prepared(data), 0)
    ended = []
    for _ in range(9):
        told.measure(loop)
        ended.append(told.finished)
    assert ended == [False] * 8 + [True] and loop.finished and "by heart" in events(tmp_path)["stopped early"]


def test_a_training_that_was_ended_early_says_why_it_does_not_go_on_and_how_it_would(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    distances = iter([5.0, *[6.0] * 99])
    monkeypatch.setattr(_selection.Selection, "_distance", lambda self, loop: next(distances))
    for images in (2048, 3200):
        train(data, tmp_path, settings=resolve(overrides=(*TINY, f"train.images={images}")))
    before, facts = weights(tmp_path)
    assert facts["images"] == 640 and "resumed" not in events(tmp_path)
    assert "ended after 640 images" in (said := capfd.readouterr().err) and "train.select=false in this run" in said
    train(data, tmp_path, settings=resolve(overrides=(*TINY, "train.images=3200", "train.select=false")))
    after, facts = weights(tmp_path)
    assert (facts["images"], facts["chosen"]) == (3200, None) and "resumed" in events(tmp_path)
    assert not all(torch.equal(before[name], after[name]) for name in before)


def test_measuring_changes_no_weight_and_goes_on_bit_exactly(data: Path, tmp_path: Path) -> None:
    settings = resolve(overrides=TINY)
    train(data, tmp_path / "whole", settings=settings)
    with stopped(22):
        train(data, tmp_path / "cut", settings=settings)
    train(data, tmp_path / "cut", settings=settings)
    (whole, facts), (cut, cut_facts) = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole) and facts["chosen"] == cut_facts["chosen"]
    train(data, tmp_path / "without", settings=resolve(overrides=(*TINY, "train.select=false")))
    last = [sorted((tmp_path / name / "checkpoints").glob("*.safetensors"))[-1] for name in ("whole", "without")]
    states = [load_tensors(path)[0]["networks"]["generator"] for path in last]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert np.isfinite([moment[1] for moment in facts["chosen"]["course"]]).all()


def test_the_last_distance_is_logged_with_every_step_after_it(data: Path, tmp_path: Path) -> None:
    settings = resolve(overrides=TINY)
    from radsynth.tasks import build

    task = build(settings, Prepared(data).spec)
    loop = Loop(task, settings.section("train"), Prepared(data), RunFolder(tmp_path), 0)
    logged = [loop.take_step().get("selection/distance") for _ in range(20)]
    assert loop.selection and [images for images, _ in loop.selection.course] == [128, 256]
    first, second = (distance for _, distance in loop.selection.course)
    assert logged == [None] * 7 + [first] * 8 + [second] * 5
