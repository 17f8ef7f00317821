"""Base generators: what ships is small, licensed, whole and fits; the plan takes one where images are few and alike."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from radsynth.bases import FOLDER, PART, Facts, facts, fitting, names, read_base
from radsynth.batch import Batch
from radsynth.choices import document
from radsynth.course import FEW
from radsynth.datasets import Record
from radsynth.device import Device
from radsynth.image import Image
from radsynth.plan import Fingerprint, plan
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._inspecting.page import Thumbnail, thumbnail
from radsynth.verbs._likeness import Likeness
from radsynth.verbs._training.start import read_start
from radsynth.verbs.inspect import inspect

CPU = Device(accelerator="cpu", name="a processor", cores=2, bf16=True)
BRAIN = Fingerprint(images=120, patients=12, modality="MR", channels=1, size=(256, 256), labels={})


def chosen(data: Fingerprint, alike: Callable[[Facts], bool] | None = lambda base: True) -> dict[str, object]:
    return {choice.setting: choice.value for choice in plan(data, CPU, {}, alike=alike)}


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
    task = build(settings, spec)
    networks = task.networks()
    read_start(name).give(task, networks, spec)
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
    choice = plan(BRAIN, CPU, {}, alike=lambda base: True)
    assert "120 images are few" in next(one.reason for one in choice if one.setting == "train.start")
    resolve(document(choice), sections=("prepare", "model", "task", "train", "augment"))


@pytest.mark.parametrize("changed", [
    {"images": FEW}, {"modality": "CT"}, {"channels": 2}, {"size": (32, 32)}, {"size": (64, 256, 256)},
])
def test_other_images_start_from_chance(changed: dict[str, object]) -> None:
    assert "train.start" not in chosen(dataclasses.replace(BRAIN, **changed))  # type: ignore[arg-type]
    assert "train.start" not in chosen(BRAIN, alike=None) and "train.start" not in chosen(BRAIN, lambda base: False)


def test_a_chest_base_is_found_by_either_code() -> None:
    for code in ("CR", "DX"):
        assert fitting(code, 1, (28, 28), lambda base: True) == facts("chest_28")
    assert np.isclose(facts("chest_28").spec.size, 28).all()


def test_a_body_is_told_from_another_by_its_look(shared_data: Path) -> None:
    """Real slices of other scanners: brains of any contrast look like the base, breasts, hearts and hands do not."""
    with np.load(shared_data / "mednist_64.npz", allow_pickle=False) as file:
        names, labels = file["classes"].tolist(), file["labels"].ravel()
        sets = {name: file["images"][labels == names.index(name)][:16] for name in ("BreastMRI", "Hand", "AbdomenCT")}
    with np.load(shared_data / "acdc_slices_128.npz", allow_pickle=False) as file:
        sets["heart"] = file["images"][::80]
    with np.load(shared_data / "brain_t1_t2_unpaired_25.npz", allow_pickle=False) as file:
        brains = {name: file[name] for name in ("t1", "t2")}
    with np.load(shared_data / "brain_contrasts_3patients.npz", allow_pickle=False) as file:
        brains |= {name: np.concatenate([np.moveaxis(file[f"patient{one}_{name}"], 2, 0)[::4] for one in (19, 26)])
                   for name in ("T1", "T2", "FLAIR")}
    base = facts("brain_64")
    assert all(Likeness(shown(images))(base) for images in brains.values())
    assert not any(Likeness(shown(images))(base) for images in sets.values())
    assert not Likeness(shown(brains["t1"][:4]))(base), "too few to tell"


def test_few_images_of_no_stated_modality_are_told_that_stating_it_helps(tmp_path: Path, shared_data: Path) -> None:
    with np.load(shared_data / "pneumoniamnist.npz", allow_pickle=False) as file:
        chests = file["train_images"][:16]
    for number, image in enumerate(chests):
        Pillow.fromarray(image).save(tmp_path / f"{number}.png")

    def said(*more: str) -> str:
        given = resolve(overrides=["data.kind=folder", f"data.path={tmp_path}", *more])
        return inspect(tmp_path, settings=given).text()

    assert "if they are CR or DX, data.modality=CR lets training begin with its weights" in inspect(tmp_path).text()
    assert "train.start = chest_28" in said("data.modality=CR")
    for other in ("data.modality=MR", "prepare.size=[32,32]", "train.start=''", "task.kind=restore"):
        assert "of no stated modality" not in said(other), other
    for number, image in enumerate(np.random.default_rng(0).integers(0, 255, (16, 28, 28), np.uint8)):
        Pillow.fromarray(image).save(tmp_path / f"{number}.png")
    assert "of no stated modality" not in said(), "noise looks like no chest"


def shown(images: np.ndarray) -> list[Thumbnail]:
    record = Record(source="one", patient="one", load=lambda: Image(pixels=images[:1]))
    return [thumbnail(record, Image(pixels=image[None])) for image in images]
