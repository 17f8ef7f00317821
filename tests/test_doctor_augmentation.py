"""Adaptive augmentation of the training doctor: it rises, it ends, it begins again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from radsynth.augment import Settings as Augmentation
from radsynth.augment import augment
from radsynth.batch import Batch, Care
from radsynth.settings import resolve
from radsynth.verbs._training import doctor as _doctor
from radsynth.verbs._training import examination, illnesses
from radsynth.verbs.train import train
from tests.doctored import (
    TINY,
    Make,
    assert_augmentation_helps,
    distance,
    events,
    lines,
    measured,
    split_discs,
    texture,
)


@pytest.fixture
def discs(make_prepared: Make) -> Callable[[int], Path]:
    return split_discs(make_prepared)


def test_thirty_images_are_augmented_so_that_the_discriminator_overfits_less(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = texture(discs(30))
    assert_augmentation_helps(data, tmp_path, (*TINY, "train.images=4800", "model.width=24", "task.penalty=none",
                                               "task.discriminator_steps=2", "task.discriminator_rate=2"), monkeypatch)
    assert distance(data, tmp_path / "with") < 1.2 * distance(data, tmp_path / "without")


@pytest.mark.parametrize(("given", "first"), [
    (("augment.strength=0.3",), 0.4), (("augment.strength=0.3", "train.augment_end=0.6", "train.grow_at=0"), 0.7),
    (("augment.strength=0.9",), 0.9),
])
def test_augmentation_rises_from_what_the_settings_have(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], first: float
) -> None:
    """It rose from 0, which changed nothing before it came to what was set, and the log told of less than there was."""
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 64)
    monkeypatch.setattr(illnesses, "OVERFIT", -9.0)  # always too much: augmentation rises at every examination
    run = train(discs(40), tmp_path / "run", settings=resolve(overrides=(*TINY, "train.images=640", *given)))
    told = [line["text"] for line in lines(run.path) if line.get("event") == "augmentation raised"]
    if first == 0.9:
        assert not told
    else:
        assert f"now at {first:.2f}" in told[0] and "now at 0.80" in told[-1]
    assert measured(run.path)["doctor/augmentation"] == max(first, 0.8)


@pytest.mark.parametrize("more", [(), ("train.augment_end=0.6", "train.grow_at=0.3")])
def test_augmentation_that_leaves_the_discriminator_nothing_to_tell_is_ended(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    """A discriminator that hardly learns; then its overfitting is made up, and augmentation begins again from none."""
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 64)
    slow = (*TINY, "train.images=1280", "augment.strength=0.3", "task.discriminator_rate=0.001", *more)
    data = discs(40)
    run = train(data, tmp_path / "run", settings=resolve(overrides=slow))
    assert "hardly tells" in events(run.path)["augmentation ended"]
    assert measured(run.path)["doctor/augmentation"] == 0
    once = [line["images"] for line in lines(run.path) if line.get("event") == "augmentation ended"]
    assert len(once) == 1 and 128 < once[0] < 640
    monkeypatch.setattr(illnesses, "OVERFIT", -9.0)
    run = train(data, tmp_path / "again", settings=resolve(overrides=slow))
    texts = [line["text"] for line in lines(run.path) if str(line.get("event")).startswith("augmentation")]
    ended = next(place for place, text in enumerate(texts) if "hardly tells" in text)
    assert "now at 0.10" in texts[ended + 1]


def test_a_warm_start_in_which_no_discriminator_learns_ends_no_augmentation(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 64)
    warm = (*TINY, "train.images=1280", "augment.strength=0.3", "task.discriminator_rate=0.001", "task.warm_start=0.49")
    run = train(discs(40), tmp_path / "run", settings=resolve(overrides=warm))
    once = [line["images"] for line in lines(run.path) if line.get("event") == "augmentation ended"]
    assert len(once) == 1 and once[0] > 640 + 4 * 64


def test_without_held_out_images_augmentation_is_not_ended(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would see that training images are learned by heart."""
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 64)
    begin = examination.Examiner.__init__

    def without_held_out(examiner: examination.Examiner, *given: Any) -> None:
        begin(examiner, *given)
        examiner.held_out = None

    monkeypatch.setattr(examination.Examiner, "__init__", without_held_out)
    slow = (*TINY, "train.images=1280", "augment.strength=0.3", "task.discriminator_rate=0.001")
    run = train(discs(40), tmp_path / "run", settings=resolve(overrides=slow))
    assert "augmentation ended" not in events(run.path)


def test_care_reaches_augmentation() -> None:
    images = torch.rand(32, 1, 8, 8)
    batch = Batch(images=images, seed=0, items=tuple(range(32)), care=Care(augment=1.0))
    assert not torch.equal(augment(images, batch, "real", Augmentation()), images)
    ended = replace(batch, care=Care(spared=True))
    assert augment(images, ended, "real", Augmentation(strength=0.5)) is images
    begun = replace(batch, care=Care(augment=0.5, spared=True))
    assert torch.equal(augment(images, begun, "real", Augmentation(strength=1.0)),
                       augment(images, begun, "real", Augmentation(strength=0.5)))
