"""Styles that are usual for a mask: what is predicted of them, what is left open, and what is painted with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.image import Image
from radsynth.models._principal import COARSE
from radsynth.models._usual import FEATURES, UsualStyles
from radsynth.settings import resolve
from radsynth.tasks._usual_fit import usual_styles
from radsynth.verbs._applying.painter import Painter
from radsynth.verbs._export_graphs import FromMasks
from radsynth.verbs._sampler import Sampler
from radsynth.verbs.train import train
from tests.test_styles import SMALL

Make = Callable[..., Path]


def test_what_a_mask_says_of_a_style_is_predicted_and_the_rest_is_spread_as_its_errors() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(400), 3)
    seen = torch.from_numpy(rng.normal(1, 1, (1200, 5)).astype(np.float32))
    truth = torch.from_numpy(rng.normal(0, 1, (5, 4)).astype(np.float32))
    mixed = torch.from_numpy(rng.normal(0, 0.5, (4, 4)).astype(np.float32))
    errors = torch.from_numpy(rng.normal(0, 1, (1200, 4)).astype(np.float32)) @ mixed.T
    mean, weights, centre, spread = usual_styles(seen, seen @ truth + 2 + errors, patients)
    assert torch.allclose(weights, truth, atol=0.1)
    assert torch.allclose(centre - mean @ weights, torch.full((4,), 2.0), atol=0.2)
    assert torch.allclose(spread @ spread.T, mixed @ mixed.T, atol=0.15)


def test_styles_do_not_depend_on_masks_that_say_nothing_of_other_patients() -> None:
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(10), 20)
    seen = torch.from_numpy(rng.normal(0, 1, (10, 300)).astype(np.float32))[patients]  # each knows its patient alone
    codes = torch.from_numpy(rng.normal(0, 1, (10, 4)).astype(np.float32))[patients]
    _, weights, centre, spread = usual_styles(seen, codes, patients)
    assert weights.abs().max() < 0.01 and torch.allclose(centre, codes.mean(0), atol=1e-5)
    assert torch.allclose(spread @ spread.T, torch.cov(codes.T, correction=0), atol=0.05)
    alone = usual_styles(seen[:20] + torch.randn(20, 300), codes[:20] + seen[:20, :4], np.zeros(20, np.int64))
    assert not alone[1].any(), "one patient says nothing about others"


@pytest.mark.parametrize(("given", "size"), [(5, (64, 64)), (104, (64, 64)), (4, (48, 64, 16)), (9000, (8, 8))])
def test_the_numbers_of_a_mask_are_bounded(given: int, size: tuple[int, ...]) -> None:
    usual = UsualStyles(given, 4, size)
    assert max(1, len(usual.mean) // given) <= max(1, FEATURES // given) and usual.longest <= COARSE
    noise = torch.randn(2, 4)
    assert torch.equal(usual(torch.rand(2, given, *size), noise), noise), "noise, until told better"


@pytest.fixture
def moving(make_prepared: Make) -> Path:
    """Images of one bright half, which its mask says."""
    folder = make_prepared(n=64, size=(16, 16), mask_classes=2, mask_values=(0, 1))
    halves = np.where(np.arange(64) % 2, 1.0, -1.0)[:, None, None] * np.where(np.arange(16) < 8, 1, -1)
    images = (127.5 + 100 * halves + np.random.default_rng(0).normal(0, 5, (64, 16, 16))).astype(np.uint8)
    np.save(folder / "shards" / "00000.images.npy", images[:, None])
    np.save(folder / "shards" / "00000.masks.npy", (np.broadcast_to(halves, images.shape) > 0).astype(np.uint8))
    return folder


@pytest.fixture
def run(moving: Path, tmp_path: Path) -> Path:
    train(moving, tmp_path / "run", settings=resolve(overrides=(*SMALL, "task.styles=principal", "train.images=64")))
    return tmp_path / "run"


def test_new_styles_fit_their_masks_as_styles_of_images_do(moving: Path, run: Path) -> None:
    sampler = Sampler(run, moving)
    task: Any = sampler.task
    network, prepared = sampler.network, Prepared(moving)
    rows = prepared.indices("train")
    own = network.encoder(torch.from_numpy(prepared.images(rows)))[:, 0]
    given = task.given(torch.from_numpy(prepared.masks(rows)), None)
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 1, own.shape).astype(np.float32))
    new = task.styles(network, given, noise)
    left = given[:, 1, 0, 0] > 0
    assert left.any() and not left.all()
    gap = (own[left].mean(0) - own[~left].mean(0)).norm()
    assert gap > 1, "the two halves look otherwise"
    for side in (left, ~left):
        assert (new[side].mean(0) - own[side].mean(0)).norm() < 0.4 * gap


def test_an_older_run_draws_its_styles_from_noise(moving: Path, run: Path) -> None:
    network: Any = Sampler(run, moving).network
    older = {name: value for name, value in network.state_dict().items() if not name.startswith("usual.")}
    assert len(older) == len(network.state_dict()) - 4
    network.load_state_dict(older)
    noise = torch.randn(3, 4)
    assert torch.equal(network.usual(torch.rand(3, 2, 16, 16), noise), noise)


def test_a_large_mask_is_painted_in_the_style_of_its_middle_and_each_slice_of_a_stack_in_its_own(run: Path) -> None:
    painter = Painter(run, None, 0, None)
    halves = np.broadcast_to(np.arange(16) // 8, (16, 16)).astype(np.uint8)
    styles: list[torch.Tensor] = []
    painter.network.register_forward_pre_hook(lambda _, given: styles.append(given[1]))
    painter.paint(Image(pixels=halves[None], modality="OT"), 3)
    framed = np.pad(halves, 8, constant_values=0)
    painter.paint(Image(pixels=framed[None], modality="OT"), 3)
    assert torch.allclose(styles[0], styles[1], atol=1e-5), "what lies around does not say what the middle is like"
    stack = torch.from_numpy(np.stack([halves, 1 - halves]).astype(np.float32))[:, None]
    painter._painted(stack, 3)
    expected = painter.semantic.styles(
        painter.network, painter.semantic.given(stack[:, 0].long(), None),
        Batch(images=torch.empty(1, 0), seed=0, items=(3,)).normal("latent", 4).expand(2, -1))
    assert torch.allclose(torch.cat(styles[2:]), expected, atol=1e-5) and not torch.allclose(expected[0], expected[1])


def test_an_exported_run_draws_the_same(moving: Path, run: Path) -> None:
    sampler = Sampler(run, moving)
    graph = FromMasks(sampler).eval()
    task: Any = sampler.task
    given = task.given(graph.inputs["mask"], None)
    with torch.no_grad():
        made = graph(**graph.inputs)
        plain = graph.real(graph.network(given, graph.inputs["latent"]))
        styled = graph.real(graph.network(given, task.styles(graph.network, given, graph.inputs["latent"])))
    assert functional.mse_loss(made, styled) == 0 and not torch.allclose(made, plain)
