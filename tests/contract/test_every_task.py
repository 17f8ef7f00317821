"""Every task with its defaults: finite terms, the right weights move, resume bit for bit, samples, 2-D and 3-D."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.checkpoints import load_tensors, save_tensors
from radsynth.device import channels_last
from radsynth.run_folder import RunFolder
from radsynth.settings import constant, kinds, resolve
from radsynth.tasks import Task, Turn, build, draws, takes_images
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings

STEPS = 3
SIZES = {"2-D": (16, 16), "3-D": (8, 16, 16)}
Make = Callable[..., Path]
Weights = dict[str, dict[str, torch.Tensor]]

pytestmark = [pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys()),
              pytest.mark.parametrize("kind", kinds("tasks"))]


def everything(make_prepared: Make, size: tuple[int, ...]) -> Prepared:
    """Images that suit every task: two registered channels, two classes, masks of three values."""
    folder = make_prepared(24, size, labels=("small", "large"), channels=("t1", "t2"), mask_classes=3)
    images = np.load(folder / "shards" / "00000.images.npy")[:, 0]
    np.save(folder / "shards" / "00000.masks.npy", (images > 0).astype(np.uint8) + (images > 200))
    return Prepared(folder)


def make_loop(kind: str, data: Prepared, folder: Path) -> Loop:
    settings = resolve(overrides=(f"task.kind={kind}", "train.batch=4", f"train.images={4 * STEPS}"))
    return Loop(build(settings, data.spec), settings.section("train", Settings), data, RunFolder(folder), seed=0)


def copied(loop: Loop) -> Weights:
    return {name: {key: weight.detach().clone() for key, weight in network.named_parameters()}
            for name, network in loop.networks.items()}


def test_each_turn_gives_finite_terms_and_moves_its_own_networks_alone(
    kind: str, size: tuple[int, ...], make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(kind, everything(make_prepared, size), tmp_path)
    assert loop.turns and {name for turn in loop.turns for name in turn.nets} == set(loop.networks)
    taken, turn_of_loop = [], Loop._turn

    def watched(self: Loop, turn: Turn, optimiser: torch.optim.Optimizer, batch: Batch) -> dict[str, float]:
        before = copied(self)
        terms = turn_of_loop(self, turn, optimiser, batch)
        after = copied(self)
        moved = {name for name in before if any(not torch.equal(before[name][k], after[name][k]) for k in before[name])}
        assert moved == (set(turn.nets) if terms else set())
        assert all(name and math.isfinite(value) for name, value in terms.items())
        taken.append(terms)
        return terms

    monkeypatch.setattr(Loop, "_turn", watched)
    loop.take_step()
    assert any(not name.startswith("_") for terms in taken for name in terms)


def test_a_saved_state_goes_on_bit_for_bit(
    kind: str, size: tuple[int, ...], make_prepared: Make, tmp_path: Path
) -> None:
    data = everything(make_prepared, size)
    whole = make_loop(kind, data, tmp_path)
    for _ in range(STEPS - 1):
        whole.take_step()
    save_tensors(tmp_path / "state.safetensors", whole.state(), {})
    whole.take_step()
    resumed = make_loop(kind, data, tmp_path)
    resumed.restore(load_tensors(tmp_path / "state.safetensors")[0])
    torch.manual_seed(1)  # a batch has all random numbers that a turn may use: each item's own
    resumed.take_step()
    pairs = [(whole.average.network, resumed.average.network),
             *((whole.networks[name], resumed.networks[name]) for name in whole.networks)]
    for one, two in pairs:
        first, second = one.state_dict(), two.state_dict()
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_samples_are_finite_in_range_and_independent_of_their_batch(
    kind: str, size: tuple[int, ...], make_prepared: Make, tmp_path: Path
) -> None:
    data = everything(make_prepared, size)
    loop = make_loop(kind, data, tmp_path)
    task, network = loop.task, loop.average.network
    assert draws(task) != bool(constant("tasks", kind, "RESULTS")), "reports must know that results show patients"
    whole = sample(task, network, data, range(5))
    assert whole.shape[0] == 5 and whole.ndim == 2 + len(size)
    assert torch.isfinite(whole).all() and whole.abs().max() <= 1
    part = sample(task, network, data, range(2, 4))
    assert torch.allclose(whole[2:4], part, atol=1e-5), json.dumps([float((whole[2:4] - part).abs().max())])


def test_what_takes_images_makes_what_it_says_of_them(
    kind: str, size: tuple[int, ...], make_prepared: Make, tmp_path: Path
) -> None:
    data = everything(make_prepared, size)
    loop = make_loop(kind, data, tmp_path)
    task, network = loop.task, loop.average.network
    if not takes_images(task):
        return
    space = tuple(side - side % finer for side, finer in zip(size, task.finer, strict=True))
    given = torch.zeros(3, 1 if draws(task) else len(task.inputs), *(
        side // finer for side, finer in zip(space, task.finer, strict=True)))
    enlarged = task.enlarge(given)
    assert enlarged.shape == (*given.shape[:2], *space)
    with torch.no_grad():
        for target in task.targets or ("",):
            assert task.convert(network, enlarged, target).shape == (3, len(task.outputs), *space)
    if hasattr(task, "pair"):
        images = torch.from_numpy(data.images(data.indices("train")[:3]))
        worse, truth = task.pair(Batch(images=images, seed=0, items=(0, 1, 2)))
        assert worse.shape == given.shape and truth.shape == (3, len(task.outputs), *space)


@torch.no_grad()
def sample(task: Task, network: torch.nn.Module, data: Prepared, items: range) -> torch.Tensor:
    chosen = data.indices("train")[list(items)]
    masks = torch.from_numpy(data.stored(chosen, "masks").astype(np.int64))
    batch = Batch(images=channels_last(torch.from_numpy(data.images(chosen))), masks=masks, seed=0,
                  labels=torch.from_numpy(data.labels(chosen)), items=tuple(items))
    return task.sample(network, batch).float()
