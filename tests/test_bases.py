"""Base generators: what ships is small, licensed, whole and fits; the plan takes one where images are few and alike."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from radsynth.arrays import Batch
from radsynth.bases import FOLDER, PART, facts, fitting, names, read_base
from radsynth.device import Device
from radsynth.plan import FEW, Fingerprint, document, plan
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._start import read_start

CPU = Device(accelerator="cpu", name="a processor", cores=2, memory=8 << 30, bf16=True)
BRAIN = Fingerprint(images=120, patients=12, modality="MR", channels=1, size=(256, 256), labels={})


def chosen(data: Fingerprint, **more: bool) -> dict[str, object]:
    return {choice.setting: choice.value for choice in plan(data, CPU, {}, **{"bases": True, **more})}


@pytest.mark.parametrize("name", names())
def test_a_base_is_small_and_has_a_card_with_licence_and_numbers(name: str) -> None:
    assert (FOLDER / name / PART).stat().st_size < 10e6
    card, told = (FOLDER / name / "card.md").read_text(), json.loads((FOLDER / name / "weights.json").read_text())
    assert told["licence"] in card and "make_base.py" in card and told["sha256"][:16] in card
    assert str(told["numbers"]["frechet_distance"]) in card and str(told["numbers"]["floor"]) in card


@pytest.mark.parametrize("name", names())
def test_a_base_fits_the_network_of_today_and_draws_varied_images(name: str) -> None:
    """When the network has changed its shape this fails: make the base again with scripts/make_base.py."""
    base = read_base(name)
    settings = resolve({"model": base.model, "task": {"anchor": 10.0}}, sections=("task", "model", "augment"))
    spec = dataclasses.replace(base.spec, labels=("a", "b"))  # other classes than the base, which had none
    task = build(settings.section("task"), settings.section("model"), settings.section("augment"), spec)
    networks = task.networks()
    read_start(name).give(task, networks)
    batch = Batch(images=torch.empty(16, 0), labels=torch.zeros(16, dtype=torch.int64), seed=0, items=tuple(range(16)))
    with torch.no_grad():
        images = task.sample(networks["generator"].eval(), batch)
        logits = task.judge(networks, batch, images)  # type: ignore[attr-defined]
    assert images.shape == (16, 1, *base.spec.size) and torch.isfinite(logits).all()
    assert torch.pdist(images.flatten(1)).min() > 1 and images.std() > 0.2


def test_few_images_of_the_same_kind_start_from_a_base_padded_to_its_frame() -> None:
    found = chosen(BRAIN)
    assert found["train.start"] == "brain_64" and found["prepare.size"] == [64, 64] and found["train.freeze"]
    assert chosen(dataclasses.replace(BRAIN, size=(256, 200)))["prepare.size"] == [64, 64]
    choice = plan(BRAIN, CPU, {}, bases=True)
    assert "120 images are few" in next(one.reason for one in choice if one.setting == "train.start")
    resolve(document(choice), sections=("prepare", "model", "task", "train", "augment"))


@pytest.mark.parametrize("changed", [
    {"images": FEW}, {"modality": "CT"}, {"channels": 2}, {"size": (32, 32)}, {"size": (64, 256, 256)},
])
def test_other_images_start_from_chance(changed: dict[str, object]) -> None:
    assert "train.start" not in chosen(dataclasses.replace(BRAIN, **changed))  # type: ignore[arg-type]
    assert "train.start" not in chosen(BRAIN, bases=False)


def test_a_chest_base_is_found_by_either_code() -> None:
    assert [fitting(code, 1, (28, 28)) == facts("chest_28") for code in ("CR", "DX")] == [True, True]
    assert np.isclose(facts("chest_28").spec.size, 28).all()
