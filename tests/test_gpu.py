"""On a GPU every tensor must be brought there and back: training, sampling, what follows; `-m gpu`: on a real one.

Without it on a pretended one, which knows where tensors are and what a CUDA graph cannot hold, and no numeric formats.
"""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from radsynth.arrays import Prepared
from radsynth.batch import Care
from radsynth.checkpoints import load_tensors, save_tensors
from radsynth.choices import document
from radsynth.device import Device
from radsynth.parallel import Ranks
from radsynth.recipes import recipe
from radsynth.run_folder import RunFolder
from radsynth.settings import kinds, resolve
from radsynth.tasks import build
from radsynth.verbs._training import loop as loop_module
from radsynth.verbs._training.captured import Graphs, Recorded
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings as TrainSettings
from radsynth.verbs.control import control
from radsynth.verbs.explain import explain
from radsynth.verbs.generate import draw
from radsynth.verbs.train import train
from radsynth.verbs.utility import Settings, utility
from tests.contract.test_every_task import everything, make_loop
from tests.pretended_gpu import GPU, Pretending, pretended_gpu
from tests.trained import events, weights_of

Make = Callable[..., Path]
Machine = Callable[[], contextlib.AbstractContextManager[None]]
MODELS = ("dcgan", "r3gan", "sngan", "style")


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Machine:
    """Within `gpu()` radsynth computes on a GPU."""
    if request.param == "pretended":
        return pretended_gpu
    need_gpu()
    return contextlib.nullcontext


def need_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")


@contextlib.contextmanager
def processor() -> Iterator[None]:
    """Within it training computes on the processor, also where there is a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "here", lambda: Device(accelerator="cpu", name="", cores=1, bf16=False))
        yield


def learned(model: str, width: int = 8, **sections: dict[str, Any]) -> Any:
    """What goes with a network, some of it changed."""
    own = {"model": {"kind": model, "width": width}, **sections}
    return resolve(document(recipe(model)), own, sections=("task", "model", "augment", "train"))


def test_tensors_on_two_devices_are_an_error() -> None:
    with pretended_gpu():
        there = torch.ones(2, 3).to(GPU)
        assert there.device == GPU and float((there @ there.T).sum()) == 12
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert there.cpu().numpy().shape == (2, 3)
        with Pretending(recording=True):
            for asking in (lambda: float(there.sum()), there.cpu, lambda: there[there > 0], there.nonzero,
                           lambda: torch.ones(2).to(GPU), lambda: there.__setitem__((0, 1), 2.0),
                           there.flatten().long().bincount, lambda: torch.linalg.inv(there @ there.T)):
                with pytest.raises(RuntimeError, match="capturing"):
                    asking()
            there[0] = 2.0
            there[:, :2] = 3.0
            assert (there + 1).device == GPU
        there[1, 2] = 4.0
        assert there.cpu().tolist() == [[3, 3, 2], [3, 3, 4]]


@pytest.mark.parametrize("model", MODELS)
def test_training_and_sampling(model: str, gpu: Machine, make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(96, (32, 32), ("small", "large"))
    settings = learned(model, augment={"strength": 0.5, "bias": 0.2}, train={
        "images": 160, "batch": 16, "batch_end": 32, "clip": 1.0, "previews": 1})
    with gpu():
        train(data, tmp_path / "run", settings=settings)
        drawn = draw(tmp_path / "run", 5, data=data)
    assert drawn.images.shape == (5, 1, 32, 32) and np.isfinite(drawn.images).all()
    assert events(tmp_path / "run") == ["trained"]


def test_images_near_a_flat_grey(gpu: Machine, make_prepared: Make, tmp_path: Path) -> None:
    """Without a warm start, as where a training goes on, the discriminator is the first that needs their unit."""
    data = make_prepared(96, (32, 32))
    stored = data / "shards" / "00000.images.npy"
    np.save(stored, np.load(stored) // 4 + 96)
    settings = learned("sngan", augment={"strength": 0.5}, task={"warm_start": 0.0},
                       train={"images": 48, "batch": 16, "previews": 0})
    with gpu():
        train(data, tmp_path / "run", settings=settings)
        assert np.isfinite(draw(tmp_path / "run", 2, data=data).images).all()


@pytest.mark.slow
def test_what_follows_a_training(gpu: Machine, make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(96, (32, 32), ("small", "large"))
    run = tmp_path / "run"
    with gpu():
        train(data, run, settings=learned("sngan", train={"images": 96, "batch": 16, "previews": 0}))
        utility(run, data=data, settings=Settings(shares=(1.0,), seeds=2, steps=4, batch=8, repetitions=100))
        explain(run, data=data, out=tmp_path / "explain", starts=1, steps=2)
        control(run, out=tmp_path / "control")
    assert json.loads((run / "utility.json").read_text())["steps"] == 4


@pytest.mark.parametrize("task", ["masks", "semantic"])
def test_images_with_masks(task: str, gpu: Machine, make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(96, (32, 32), mask_classes=2, mask_values=(0, 1))
    rows = np.load(data / "shards" / "00000.images.npy")
    np.save(data / "shards" / "00000.masks.npy", (rows[:, 0] > 128).astype(np.uint8))
    own = ({"task": {"kind": "semantic"}, "model": {"kind": "spade", "width": 8}} if task == "semantic" else
           {"task": {"masks": True}, "model": {"kind": "sngan", "width": 8}})
    settings = resolve(own, {"train": {"images": 96, "batch": 16, "previews": 0}},
                       sections=("task", "model", "augment", "train"))
    with gpu():
        train(data, tmp_path / "run", settings=settings)
        study = utility(tmp_path / "run", data=data, out=tmp_path, settings=Settings(
            target="segmentation", shares=(1.0,), seeds=2, steps=4, batch=8, repetitions=100))
    assert study["kind"] == "segmentation" and study["steps"] == 4


@pytest.mark.parametrize("kind", kinds("tasks"))
def test_a_state_goes_from_device_to_device(kind: str, gpu: Machine, make_prepared: Make, tmp_path: Path) -> None:
    data, path = everything(make_prepared, (16, 16)), tmp_path / "state.safetensors"
    before: dict[str, torch.Tensor] = {}
    for place in (gpu, processor, gpu):
        with place():
            loop = make_loop(kind, data, tmp_path)
            if before:
                loop.restore(load_tensors(path)[0])
                assert all(torch.equal(value, before[name]) for name, value in weights_of(loop).items())
            assert all(np.isfinite(value) for value in loop.take_step().values())
            before = weights_of(loop)
            save_tensors(path, loop.state(), {})


@pytest.mark.parametrize("kind", ["synthesis", "semantic"])
def test_one_of_several_processes(kind: str, make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                  ) -> None:
    """Of which each has a GPU; the other one is not there, and says the same."""
    def told(every: list[Any], value: Any) -> None:
        every[:] = [value] * len(every)

    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    monkeypatch.setattr(distributed, "all_gather_object", told)
    monkeypatch.setattr(distributed, "broadcast_object_list", lambda box: None)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "barrier", lambda **options: None)
    data = everything(make_prepared, (16, 16))
    settings = resolve(overrides=(f"task.kind={kind}", "train.batch=8", "train.images=24"))
    with pretended_gpu():
        task = build(settings, data.spec)
        loop = Loop(task, settings.section("train", TrainSettings), data, RunFolder(tmp_path), 0, Ranks(size=2))
        layers = loop.networks[task.keeps].modules()
        assert any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in layers)
        assert all(np.isfinite(value) for value in loop.take_step().values())
        assert loop.doctor
        loop.doctor.examine(loop)
        loop.samples.calibrate()
        loop.save()


RECORDED: dict[str, tuple[str, ...]] = {
    "mlp": (), "dcgan": ("model.width=8",), "style": ("model.width=8", "task.penalty=finite_r1"),
    "r3gan": ("model.width=8", "task.loss=relativistic", "task.penalty=r1_r2"),
    "sngan": ("model.width=8", "task.warm_start=0.2", "task.anchor=10", "task.consistency=1", "train.clip=0.5"),
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
def test_a_recorded_step_asks_for_nothing(name: str, gpu: Machine, make_prepared: Make, tmp_path: Path) -> None:
    size = (16, 16, 16) if name == "dcgan" else (16, 16)
    data = Prepared(make_prepared(48, size, labels=("small", "large")))
    settings = resolve(overrides=(
        f"model.kind={name}", "train.batch=4", "train.images=96", "augment.strength=0.5", "augment.bias=0.3",
        *RECORDED[name]))
    with gpu():
        task = build(settings, data.spec)
        loop = Loop(task, settings.section("train", TrainSettings), data, RunFolder(tmp_path), seed=0)
        assert loop.doctor
        if loop.graphs is None:
            loop.graphs = Recording(loop)
        for step in range(24):
            if step == 12:
                loop.doctor.care = Care(augment=0.7, penalty=2.0, redraw=2.0)
                loop.doctor.task.get_redrawing_ready(data, 0)
            assert all(np.isfinite(value) for value in loop.take_step().values())
        recorded = [kind for kind in loop.graphs.kinds.values() if kind.graph is not None]
    assert not loop.graphs.refused and len(recorded) >= 2


@pytest.mark.gpu
def test_memory_that_ends_is_saved_by_parts(make_prepared: Make, tmp_path: Path) -> None:
    need_gpu()
    data = make_prepared(96, (64, 64))
    settings = learned("dcgan", width=64, train={
        "images": 1024, "batch": 512, "previews": 0, "graphs": False, "doctor": False, "precision": "32-true"})
    gc.collect()  # graphs of other tests
    train(data, tmp_path / "first", settings=settings)  # in which cuDNN tries ways that take more memory
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train(data, tmp_path / "whole", settings=settings)
    share = 0.7 * torch.cuda.max_memory_allocated() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        train(data, tmp_path / "parts", settings=settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert events(tmp_path / "whole") == ["trained"]
    assert events(tmp_path / "parts")[0] == "less memory" and events(tmp_path / "parts")[-1] == "trained"
