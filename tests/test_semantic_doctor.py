"""The training doctor asks the discriminator of images from masks, too, and a roll-back to the warm start goes on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.errors import TrainingError
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.tasks._moved import WARPED
from radsynth.verbs._training import doctor as _doctor
from radsynth.verbs._training import illnesses
from radsynth.verbs._training.loop import Loop
from radsynth.verbs.train import train
from tests.doctored import assert_augmentation_helps, events, split_discs, texture

SMALL = ("task.kind=semantic", "task.styles=principal", "model.width=8", "model.widest=16", "model.hidden=8",
         "model.latent=4", "model.scales=1", "train.batch=8", "train.previews=0", "train.precision=32-true",
         "train.rate=2e-3")


@pytest.fixture
def masked(make_prepared: Callable[..., Path]) -> Path:
    """Noisy discs, of which the mask tells the upper half."""
    folder = texture(split_discs(make_prepared, mask_classes=2, mask_values=(0, 1))(30))
    images = np.load(folder / "shards" / "00000.images.npy")
    upper = np.broadcast_to(np.arange(16)[:, None] // 8, (len(images), 16, 16))
    np.save(folder / "shards" / "00000.masks.npy", upper.astype(np.uint8))
    return folder


def test_few_images_with_masks_are_augmented_when_the_discriminator_learns_them_by_heart(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (*SMALL, "train.images=4800", "task.discriminator_rate=2", "augment.strength=0")
    assert_augmentation_helps(masked, tmp_path, few, monkeypatch)


def test_a_roll_back_to_the_warm_start_forgets_what_the_failed_step_has_made(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, poisoned = Loop.take_step, []

    def poison_once(loop: Loop) -> dict[str, float]:
        if loop.progress > 0.3 and not poisoned:
            poisoned.append(True)
            next(loop.networks["discriminator"].parameters()).data.fill_(math.nan)
        return step(loop)

    monkeypatch.setattr(Loop, "take_step", poison_once)
    settings = resolve(overrides=(*SMALL, "train.images=320", "task.warm_start=0.2"))
    train(masked, tmp_path / "run", settings=settings)
    assert poisoned and "not finite" in events(tmp_path / "run")["rolled back"]
    assert (tmp_path / "run" / "generator.safetensors").exists()


def test_more_redrawing_is_told_as_more_because_half_of_a_batch_is_redrawn_anyway(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 64)
    monkeypatch.setattr(illnesses, "ALIKE", 9.0)  # always too much alike
    train(masked, tmp_path / "run", settings=resolve(overrides=(*SMALL, "train.images=640", "task.warm_start=0")))
    assert "with weight 8, on top of what the settings have" in events(tmp_path / "run")["mode collapse"]


def test_a_weight_that_outweighs_all_is_told_to_be_lowered(masked: Path, tmp_path: Path) -> None:
    heavy = (*SMALL, "train.images=320", "task.warm_start=0", "task.features=1e12")
    with pytest.raises(TrainingError, match=r"features has run away.*Lower train\.rate or task\.features, and"):
        train(masked, tmp_path / "run", settings=resolve(overrides=heavy))
    with pytest.raises(TrainingError, match=r"Lower train\.rate") as ended:
        train(masked, tmp_path / "other", settings=resolve(overrides=(*SMALL, "train.images=320", "train.rate=1e30")))
    assert "task.penalty" not in str(ended.value), "there is none"


def test_half_of_the_images_are_warped_with_their_masks(masked: Path) -> None:
    prepared = Prepared(masked)
    rows = prepared.indices("train")[:16]
    batch = Batch(images=torch.from_numpy(prepared.images(rows)), masks=torch.from_numpy(prepared.masks(rows)), seed=0,
                  items=tuple(range(16)))
    varied = _task(prepared, 0.05).vary(batch)
    warped = [bool((varied.images[k] != batch.images[k]).any()) for k in range(16)]
    assert abs(sum(warped) - 16 * WARPED) < 6
    assert all(warp == bool((varied.masks[k] != batch.masks[k]).any()) for k, warp in enumerate(warped))
    assert set(varied.masks.unique().tolist()) == {0, 1}
    assert _task(prepared, 0.0).vary(batch) is batch


def _task(prepared: Prepared, deform: float) -> Any:
    settings = resolve(overrides=(*SMALL, f"task.deform={deform}"))
    return build(settings, prepared.spec)


@pytest.mark.parametrize("settings", [SMALL, ("model.kind=sngan", "task.anchor=10"), ("model.kind=sngan",)])
def test_what_the_doctor_advises_can_be_set_and_is_not_set_already(
    settings: tuple[str, ...], masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, data = resolve(overrides=settings), Prepared(masked)
    task = build(given, data.spec)
    doctor, loop = _doctor.Doctor(task, data, RunFolder(tmp_path), 0), cast(Loop, SimpleNamespace(images=64))
    doctor.signs.examined = 1
    monkeypatch.setattr(doctor.examiner, "delivered", lambda loop: {"": 0.1})
    doctor.warn(loop)
    doctor._steepen(loop, "Augmentation is at its limit.")
    said = events(tmp_path)
    assert "another task.loss" in said["not usable"] and "no penalty that could be" in said["discriminator overfits"]
    for advice in re.findall(r"task\.\w+=\w+", " ".join(said.values())):
        assert resolve(given.document(), overrides=(advice,)).document() != given.document()
