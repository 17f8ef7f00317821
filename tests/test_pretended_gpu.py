"""On a GPU every tensor must be brought there and back: training, sampling and what follows, on a pretended one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.arrays import Care, Prepared
from radsynth.plan import document, recipe
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._training.captured import Graphs, Recorded
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings as TrainSettings
from radsynth.verbs.control import control
from radsynth.verbs.explain import explain
from radsynth.verbs.generate import draw
from radsynth.verbs.train import train
from radsynth.verbs.utility import Settings, utility
from tests.pretended_gpu import GPU, Pretending, pretended_gpu

TINY = {"dcgan": {"width": 8}, "sngan": {"width": 8}, "r3gan": {"width": 8}, "style": {"width": 8}}


def test_tensors_on_two_devices_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu(monkeypatch):
        there = torch.ones(2, 3).to(GPU)
        assert there.device == GPU and float((there @ there.T).sum()) == 12
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert there.cpu().numpy().shape == (2, 3)


@pytest.mark.parametrize("model", sorted(TINY))
def test_training_and_sampling(model: str, make_prepared: Callable[..., Path], tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_prepared(96, (32, 32), ("small", "large"))
    given: dict[str, dict[str, Any]] = {"model": {"kind": model, **TINY[model]}, "augment": {"strength": 0.5},
                                        "train": {"images": 96, "batch": 16, "previews": 1}}
    settings = resolve(document(recipe(model)), given, sections=("task", "model", "augment", "train"))
    with pretended_gpu(monkeypatch):
        train(data, tmp_path / "run", settings=settings)
        drawn = draw(tmp_path / "run", 5, data=data)
    assert drawn.images.shape == (5, 1, 32, 32) and np.isfinite(drawn.images).all()


def test_images_near_a_flat_grey(make_prepared: Callable[..., Path], tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a warm start, as where a training goes on, the discriminator is the first that needs their unit."""
    data = make_prepared(96, (32, 32))
    stored = data / "shards" / "00000.images.npy"
    np.save(stored, np.load(stored) // 4 + 96)
    given: dict[str, dict[str, Any]] = {"model": {"kind": "sngan", "width": 8}, "augment": {"strength": 0.5},
                                        "task": {"warm_start": 0.0},
                                        "train": {"images": 48, "batch": 16, "previews": 0}}
    settings = resolve(document(recipe("sngan")), given, sections=("task", "model", "augment", "train"))
    with pretended_gpu(monkeypatch):
        train(data, tmp_path / "run", settings=settings)
        assert np.isfinite(draw(tmp_path / "run", 2, data=data).images).all()


@pytest.mark.slow
def test_what_follows_a_training(make_prepared: Callable[..., Path], tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_prepared(96, (32, 32), ("small", "large"))
    given: dict[str, dict[str, Any]] = {"model": {"kind": "sngan", "width": 8},
                                        "train": {"images": 96, "batch": 16, "previews": 0}}
    settings = resolve(document(recipe("sngan")), given, sections=("task", "model", "augment", "train"))
    run = tmp_path / "run"
    with pretended_gpu(monkeypatch):
        train(data, run, settings=settings)
        utility(run, data=data, settings=Settings(shares=(1.0,), seeds=2, steps=4, batch=8, repetitions=100))
        explain(run, data=data, out=tmp_path / "explain", starts=1, steps=2)
        control(run, out=tmp_path / "control")
    assert json.loads((run / "utility.json").read_text())["steps"] == 4


@pytest.mark.parametrize("task", ["masks", "semantic"])
def test_images_with_masks(task: str, make_prepared: Callable[..., Path], tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_prepared(96, (32, 32), mask_classes=2, mask_values=(0, 1))
    rows = np.load(data / "shards" / "00000.images.npy")
    np.save(data / "shards" / "00000.masks.npy", (rows[:, 0] > 128).astype(np.uint8))
    own = ({"task": {"kind": "semantic"}, "model": {"kind": "spade", "width": 8}} if task == "semantic" else
           {"task": {"masks": True}, "model": {"kind": "sngan", "width": 8}})
    settings = resolve(own, {"train": {"images": 96, "batch": 16, "previews": 0}},
                       sections=("task", "model", "augment", "train"))
    with pretended_gpu(monkeypatch):
        train(data, tmp_path / "run", settings=settings)
        study = utility(tmp_path / "run", data=data, out=tmp_path, settings=Settings(
            target="segmentation", shares=(1.0,), seeds=2, steps=4, batch=8, repetitions=100))
    assert study["kind"] == "segmentation" and study["steps"] == 4


RECORDED: dict[str, tuple[str, ...]] = {
    "mlp": (), "dcgan": ("model.width=8",),
    "r3gan": ("model.width=8", "task.loss=relativistic", "task.penalty=r1_r2"),
    "sngan": ("model.width=8", "task.warm_start=0.2", "task.anchor=10", "train.clip=0.5"),
    "style": ("model.width=8", "task.penalty=finite_r1"),
}


class Recording(Graphs):
    """Graphs of the pretended GPU: a step is recorded by taking it while what a graph cannot hold is not allowed."""

    def _beside(self, recorded: Recorded) -> None:
        self.work(recorded)

    def _record(self, recorded: Recorded) -> Any:
        def replay() -> None:
            with Pretending(recording=True):
                self.work(recorded)

        return SimpleNamespace(replay=replay)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_step_asks_for_nothing(name: str, make_prepared: Callable[..., Path], tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    size = (16, 16, 16) if name == "dcgan" else (16, 16)
    data = Prepared(make_prepared(48, size, labels=("small", "large")))
    settings = resolve(overrides=(
        f"model.kind={name}", "train.batch=4", "train.images=96", "augment.strength=0.5", "augment.bias=0.3",
        *RECORDED[name]))
    with pretended_gpu(monkeypatch):
        task = build(*(settings.section(part) for part in ("task", "model", "augment")), data.spec)
        loop = Loop(task, settings.section("train", TrainSettings), data, RunFolder(tmp_path), seed=0)
        assert loop.doctor
        loop.graphs = Recording(loop)
        for step in range(24):
            if step == 12:
                loop.doctor.care = Care(augment=0.7, penalty=2.0, redraw=2.0)
                task.get_redrawing_ready(data, 0)
            loop.take_step()
        recorded = [kind for kind in loop.graphs.kinds.values() if kind.graph is not None]
    assert not loop.graphs.refused and len(recorded) >= 2
