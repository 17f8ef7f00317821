"""Steps of tasks other than synthesis, recorded and repeated: see test_captured.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.device import here
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._training.captured import Graphs
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings
from tests.pretended_gpu import pretended_gpu
from tests.test_captured import Played, apart
from tests.test_gpu import Recording
from tests.trained import weights_of

Make = Callable[..., Path]
STEPS = 12
TASKS: dict[str, tuple[str, ...]] = {
    "translate": ("task.rare=0.5", "train.clip=0.5"),
    "translate, channels missing": ("task.inputs=[t1,t2]", "task.missing=0.3", "task.loss=relativistic"),
    "segment": ("task.deform=0.05", "task.rare=0.6"),
    "segment, an adversary": ("task.adversarial=0.01", "task.loss=relativistic", "augment.strength=0.5"),
    "restore": ("task.adversarial=0.01", "augment.strength=0.5"),
    "restore, rician": ("task.what=rician",),
    "restore, low_dose": ("task.what=low_dose",),
    "cycle": ("augment.strength=0.5",), "cut": ("augment.strength=0.5",),
    "cut, an odd batch": ("train.batch=5", "augment.strength=0.5"),
    "semantic": ("task.warm_start=0.4", "augment.strength=0.5"),
    "semantic, principal styles": ("task.warm_start=0.4", "task.styles=principal"),
    "autoencode": (),
}
"""By the task's name, up to the comma."""
each = pytest.mark.parametrize("name", TASKS)


@pytest.fixture
def data(make_prepared: Make) -> Prepared:
    """Three registered channels, two classes, masks of two values of which the upper one is rare."""
    folder = make_prepared(48, (16, 16), labels=("small", "large"), channels=("t1", "t2", "flair"), mask_classes=2)
    images = np.load(folder / "shards" / "00000.images.npy")[:, 0]
    masks = (images > np.median(images)).astype(np.uint8)
    masks[::2] = 0
    np.save(folder / "shards" / "00000.masks.npy", masks)
    return Prepared(folder)


def make_loop(name: str, data: Prepared, run: Path, *more: str) -> Loop:
    settings = resolve(overrides=(f"task.kind={name.split(',')[0]}", "train.batch=4", f"train.images={4 * STEPS}",
                                  "train.precision=32-true", *TASKS[name], *more))
    task = build(settings, data.spec)
    return Loop(task, settings.section("train", Settings), data, RunFolder(run), seed=0)


def trained(loop: Loop) -> dict[str, torch.Tensor]:
    for _ in range(STEPS):
        assert all(math.isfinite(value) for value in loop.take_step().values())
    return weights_of(loop)


@each
def test_repeated_steps_train_as_single_ones_do(name: str, data: Prepared, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graphs, "_beside", lambda self, recorded: self.work(recorded))
    monkeypatch.setattr(Graphs, "_record", lambda self, recorded: Played(self, recorded))
    single, repeated = (make_loop(name, data, tmp_path / part, "train.graphs=false") for part in ("one", "other"))
    repeated.graphs = Graphs(repeated)
    expected, found = trained(single), trained(repeated)
    assert any(kind.graph is not None for kind in repeated.graphs.kinds.values()), "no step was repeated"
    for key, value in expected.items():
        assert torch.allclose(value.float(), found[key].float(), atol=1e-6), key


@each
def test_a_recorded_step_asks_for_nothing(name: str, data: Prepared, tmp_path: Path) -> None:
    with pretended_gpu():
        loop = make_loop(name, data, tmp_path)
        loop.graphs = Recording(loop)
        trained(loop)
        recorded = [kind for kind in loop.graphs.kinds.values() if kind.graph is not None]
    assert recorded and not loop.graphs.refused


@pytest.mark.gpu
@each
def test_graphs_train_as_single_steps_do(name: str, data: Prepared, tmp_path: Path) -> None:
    if here().accelerator != "cuda":
        pytest.skip("no GPU here")
    (tmp_path / "graphed").mkdir()  # for the reason why a step cannot be recorded
    single, again = (make_loop(name, data, tmp_path / part, "train.graphs=false") for part in ("one", "two"))
    graphed, other = make_loop(name, data, tmp_path / "graphed"), make_loop(name, data, tmp_path / "other")
    other.batches.order.seed += 1  # another order of the images: what a difference that matters looks like
    expected = trained(single)
    found, noise, difference = (apart(expected, trained(loop)) for loop in (graphed, again, other))
    assert graphed.graphs and any(kind.graph is not None for kind in graphed.graphs.kinds.values())
    assert found < max(3 * noise, 0.1 * difference), (found, noise, difference)


def test_a_step_that_asks_which_images_have_masks_is_not_recorded(
    data: Prepared, without_masks: Callable[[Path, Iterable[int]], Prepared], tmp_path: Path
) -> None:
    for part, recorded in ((data, True), (without_masks(data.folder, range(0, 48, 5)), False)):
        loop = make_loop("segment", part, tmp_path)
        assert (Graphs(loop).kind(loop._batches()) is not None) == recorded
