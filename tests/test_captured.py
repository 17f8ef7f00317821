"""Steps that are repeated with other tensors in place of the batch's: the same training as step by step.

Without a GPU the graph is played by running the recorded step's work again: what is proved is that nothing of a step
hangs on its first batch. On a GPU (`-m gpu`) real graphs are recorded.
"""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.batch import Batch, Care
from radsynth.checkpoints import load_tensors, save_tensors
from radsynth.errors import TrainingError
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import Repeatable, build
from radsynth.verbs._training.captured import Fixed, Graphs, Recorded
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings
from tests.trained import weights_of

Make = Callable[..., Path]
STEPS = 24
KINDS = {
    "default": ("task.consistency=1",),
    "short gradients, a coil's bias": ("task.consistency=1", "train.clip=0.5", "augment.bias=0.2"),
    "penalty that fades, every second step": (
        "model.kind=r3gan", "task.loss=relativistic", "task.penalty=r1_r2", "task.penalty_every=2"),
    "critic's steps": ("model.kind=dcgan", "model.discriminator_norm=none", "task.loss=wasserstein",
                       "task.penalty=wgan_gp", "task.discriminator_steps=2"),
    "saturating and clipped, batches grow": ("model.kind=mlp", "task.loss=minimax", "task.weight_clip=0.5",
                                             "train.batch_end=12"),
}


class Played:
    """A graph without a GPU."""

    def __init__(self, graphs: Graphs, recorded: Recorded) -> None:
        self.replay = lambda: graphs.work(recorded)


def make_loop(data: Path, run: Path, more: tuple[str, ...]) -> Loop:
    settings = resolve(overrides=(
        "train.batch=8", f"train.images={8 * STEPS}", "task.warm_start=0.25", "task.anchor=10", "augment.strength=0.5",
        "train.precision=32-true", *more))
    prepared = Prepared(data)
    task = build(settings, prepared.spec)
    run.mkdir()
    return Loop(task, settings.section("train", Settings), prepared, RunFolder(run), seed=0)


def steps(loop: Loop) -> Iterator[dict[str, torch.Tensor]]:
    """Train, with the weights after each step."""
    for step in range(STEPS):
        if step == STEPS // 2 and loop.doctor:
            loop.doctor.care = Care(augment=0.7, penalty=2.0, unsaturated=True)
            loop.doctor.task.get_redrawing_ready(loop.prepared, loop.seed)
        if step == STEPS - 3 and loop.doctor:
            loop.doctor.care = Care(penalty=2.0, unsaturated=True, spared=True)
        if step == STEPS - 2 and loop.doctor:
            loop.doctor.care = Care(augment=0.9, penalty=2.0, unsaturated=True, redraw=2.0)
        assert all(math.isfinite(value) for value in loop.take_step().values())
        yield weights_of(loop)


def trained(loop: Loop) -> dict[str, torch.Tensor]:
    *_, last = steps(loop)
    return last


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graphs, "_beside", lambda self, recorded: self.work(recorded))
    monkeypatch.setattr(Graphs, "_record", lambda self, recorded: Played(self, recorded))


@pytest.mark.parametrize("more", KINDS.values(), ids=KINDS.keys())
@pytest.mark.usefixtures("played")
def test_repeated_steps_train_as_single_ones_do(more: tuple[str, ...], make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(48, (16, 16), labels=("small", "large"))
    single, repeated = (make_loop(data, tmp_path / name, (*more, "train.graphs=false")) for name in ("one", "other"))
    repeated.graphs = Graphs(repeated)
    for expected, found in zip(steps(single), steps(repeated), strict=True):
        for name, value in expected.items():
            assert torch.allclose(value.float(), found[name].float(), atol=1e-6), name
        # A graph holds a penalty's weight in fp32, which moves networks by 1e-8. They begin each step alike, because a
        # rectifier on the other side of zero or a gradient that is all but nothing makes 1e-3 of that in later ones.
        for name, network in single.networks.items():
            repeated.networks[name].load_state_dict(network.state_dict())
    assert any(kind.graph is not None for kind in repeated.graphs.kinds.values()), "no step was repeated"


def test_a_batch_that_stays_gives_the_numbers_of_the_batch_that_fills_it() -> None:
    def batch(first: int, progress: float, augment: float) -> Batch:
        return Batch(images=torch.full((2, 1, 4, 4), float(first)), labels=torch.tensor([first, first + 1]), seed=3,
                     items=(first, first + 1), progress=progress, care=Care(augment=augment))

    fixed, other = Fixed.of(batch(0, 0.25, 0.5)), batch(8, 0.75, 0.125)
    normal, uniform = fixed.normal("latent", 5), fixed.uniform("shift", 2)
    assert torch.equal(normal, batch(0, 0, 0).normal("latent", 5))
    fixed.fill(other)
    assert torch.equal(normal, other.normal("latent", 5)) and torch.equal(uniform, other.uniform("shift", 2))
    assert fixed.normal("latent", 5) is normal
    assert torch.equal(fixed.images, other.images) and torch.equal(fixed.labels, other.labels)
    assert fixed.now() == 0.75 and fixed.augmenting() == 0.125


@pytest.mark.usefixtures("played")
def test_values_that_run_away_are_found_one_step_later(make_prepared: Make, tmp_path: Path) -> None:
    loop = make_loop(make_prepared(48), tmp_path / "run", ("task.warm_start=0", "train.graphs=false"))
    loop.graphs = Graphs(loop)
    loop.take_step()
    with torch.no_grad():
        next(loop.networks["generator"].parameters()).fill_(math.nan)
    loop.take_step()
    with pytest.raises(TrainingError, match="not finite"):
        loop.take_step()


def test_a_step_that_cannot_be_recorded_is_taken_as_usual_and_said(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Graphs, recorded: Recorded) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Graphs, "_beside", refuse)
    data = make_prepared(48, (16, 16), labels=("small", "large"))
    single, refused = (make_loop(data, tmp_path / name, ("train.graphs=false",)) for name in ("one", "other"))
    refused.graphs = Graphs(refused)
    expected, found = trained(single), trained(refused)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    events = [json.loads(line) for line in (tmp_path / "other" / "log.jsonl").read_text().splitlines()]
    assert len([event for event in events if event.get("event") == "no graph"]) == 1


def test_what_a_step_that_failed_held_is_free_when_it_is_taken_again(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def greedy(self: Graphs, recorded: Recorded) -> None:
        images = torch.empty(8)
        held.append(weakref.ref(images))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def watched(self: Loop, batches: list[list[Batch]]) -> dict[str, float]:
        assert held and held[0]() is None
        return {}

    monkeypatch.setattr(Graphs, "_beside", greedy)
    monkeypatch.setattr(Loop, "_take_turns", watched)
    loop = make_loop(make_prepared(48), tmp_path / "run", ("train.graphs=false", "train.doctor=false"))
    loop.graphs = Graphs(loop)
    loop.take_step()
    assert len(held) == 1


@pytest.mark.usefixtures("played")
def test_a_graph_that_is_not_used_any_more_is_dropped(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radsynth.verbs._training.captured.UNUSED", 8)
    loop = make_loop(make_prepared(48), tmp_path / "run", ("task.penalty=finite_r1", "task.penalty_every=4"))
    loop.graphs = Graphs(loop)
    kept = []
    for _ in range(STEPS):
        loop.take_step()
        kept.append(len(loop.graphs.kinds))
    assert max(kept) == 4 and kept[-1] == 2  # with and without penalty; those of the warm start are gone


def test_growing_networks_and_batches_in_parts_are_not_recorded(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(48, (16, 16))
    for name, more in (("growing", ("model.kind=progressive",)), ("parts", ("train.accumulate=2",)),
                       ("asking", ("model.kind=style", "model.noise=true"))):
        loop = make_loop(data, tmp_path / name, ("task.warm_start=0", "task.anchor=0", *more))
        assert isinstance(loop.task, Repeatable)
        assert Graphs(loop).kind(loop._batches()) is None


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Distance of two trainings' weights, as a share of how large they are."""
    first, second = (torch.cat([value.flatten().float() for value in of.values()]) for of in (one, other))
    return float((first - second).norm() / first.norm())


@pytest.mark.gpu
@pytest.mark.parametrize("more", KINDS.values(), ids=KINDS.keys())
def test_graphs_train_as_single_steps_do(more: tuple[str, ...], make_prepared: Make, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    data = make_prepared(48, (16, 16), labels=("small", "large"))
    single, again = (make_loop(data, tmp_path / name, (*more, "train.graphs=false")) for name in ("one", "two"))
    graphed, other = make_loop(data, tmp_path / "graphed", more), make_loop(data, tmp_path / "other", more)
    other.batches.order.seed += 1  # another order of the images: what a difference that matters looks like
    expected = trained(single)
    found, noise, difference = (apart(expected, trained(loop)) for loop in (graphed, again, other))
    assert graphed.graphs and any(kind.graph is not None for kind in graphed.graphs.kinds.values())
    # Sums of a GPU depend on their order, and Adam enlarges that where gradients are small.
    assert found < max(3 * noise, 0.1 * difference), (found, noise, difference)


@pytest.mark.gpu
def test_a_training_goes_on_from_the_checkpoint_of_a_graph(make_prepared: Make, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    data = make_prepared(48, (16, 16))
    straight, restored = (make_loop(data, tmp_path / name, ()) for name in ("one", "other"))
    other = make_loop(data, tmp_path / "three", ())
    other.batches.order.seed += 1
    for _ in range(10):
        for loop in (straight, restored, other):
            loop.take_step()
    path = tmp_path / "state.safetensors"
    save_tensors(path, restored.state(), {})
    for _ in range(3):
        restored.take_step()
    restored.restore(load_tensors(path)[0])
    assert restored.graphs and not restored.graphs.kinds
    for _ in range(10):
        for loop in (straight, restored, other):
            loop.take_step()
    expected = weights_of(straight)
    assert apart(expected, weights_of(restored)) < 0.1 * apart(expected, weights_of(other))


@pytest.mark.gpu
def test_a_recording_that_fails_does_not_end_a_training(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    work = Graphs.work

    def asking(self: Graphs, recorded: Recorded) -> None:
        work(self, recorded)
        float(recorded.values.sum())

    data = make_prepared(48, (16, 16))
    single, other = (make_loop(data, tmp_path / name, ("train.graphs=false",)) for name in ("one", "two"))
    other.batches.order.seed += 1
    expected, difference = trained(single), trained(other)
    monkeypatch.setattr(Graphs, "work", asking)
    loop = make_loop(data, tmp_path / "asking", ())
    found = trained(loop)
    assert loop.graphs and loop.graphs.refused
    assert apart(expected, found) < 0.1 * apart(expected, difference)
    assert '"no graph"' in (tmp_path / "asking" / "log.jsonl").read_text()
