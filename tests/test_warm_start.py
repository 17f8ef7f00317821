"""The warm start: principal codes against their definition, the turns it takes, the mean images it begins from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from radsynth.arrays import Prepared
from radsynth.batch import Batch, Care
from radsynth.models._blocks import Doubling
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import Studious, _warm_start, build
from radsynth.tasks._warm_start import PrincipalCodes, in_parts
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings

Make = Callable[..., Path]


def test_codes_of_training_images_are_white_and_fit_the_latent(make_prepared: Make) -> None:
    data = Prepared(make_prepared(n=120, size=(16, 16)))
    images = torch.from_numpy(data.images(data.indices("train")))
    codes = PrincipalCodes(data, 12, seed=0)(images)
    assert codes.shape == (len(images), 12)
    covariance = (codes.T @ codes / len(codes)).numpy()
    assert np.allclose(covariance, np.eye(12), atol=0.02) and codes.mean(0).abs().max() < 1e-3


def test_one_training_image_has_no_directions(make_prepared: Make) -> None:
    data = Prepared(make_prepared(n=2))
    assert len(data.indices("train")) == 1
    codes = PrincipalCodes(data, 12, seed=0)
    assert not codes(torch.randn(3, 1, 16, 16)).any() and codes.directions.shape == (256, 12)


def test_codes_know_the_coarse_image(make_prepared: Make) -> None:
    """What a linear map makes of the codes is near the images, as principal components promise."""
    data = Prepared(make_prepared(n=120, size=(16, 16)))
    images = torch.from_numpy(data.images(data.indices("train"))).flatten(1)
    codes = PrincipalCodes(data, 40, seed=0)(torch.from_numpy(data.images(data.indices("train"))))
    with_constant = torch.cat([codes, torch.ones(len(codes), 1)], 1)
    redrawn = with_constant @ torch.linalg.lstsq(with_constant, images).solution
    explained = 1 - (redrawn - images).square().sum() / (images - images.mean(0)).square().sum()
    assert explained > 0.9


def test_fewer_images_than_latents_and_volumes_work(make_prepared: Make) -> None:
    data = Prepared(make_prepared(n=9, size=(8, 16, 16), name="few"))
    images = torch.from_numpy(data.images(data.indices("train")))
    codes = PrincipalCodes(data, 64, seed=0)(images)
    assert codes.shape == (len(images), 64) and torch.isfinite(codes).all()


def test_few_slices_of_large_volumes_are_averaged_as_far_as_they_go(make_prepared: Make) -> None:
    data = Prepared(make_prepared(n=6, size=(4, 12, 160)))  # 32 pixels at most: boxes of 5
    images = torch.from_numpy(data.images(data.indices("train")))
    codes = PrincipalCodes(data, 8, seed=0)
    assert codes.mean.shape == (1 * 3 * 32,) and torch.isfinite(codes(images)).all()


@pytest.mark.parametrize("labels", [(), ("small", "large")])
def test_images_read_in_parts_are_seen_as_those_read_at_once(
    make_prepared: Make, monkeypatch: pytest.MonkeyPatch, labels: tuple[str, ...]
) -> None:
    data = Prepared(make_prepared(n=40, labels=labels))
    images = torch.from_numpy(data.images(data.indices("train")))
    whole = PrincipalCodes(data, 12, seed=0)
    monkeypatch.setattr(_warm_start, "AT_ONCE", 7 * images[0].numel())
    assert len(in_parts(data, len(images))) > 3
    parted = PrincipalCodes(data, 12, seed=0)
    assert torch.allclose(parted.mean_images, whole.mean_images, atol=1e-6)
    assert torch.equal(parted(images), whole(images))


def test_the_warm_start_comes_first_and_then_never_again(make_prepared: Make) -> None:
    data = Prepared(make_prepared(labels=("small", "large")))
    settings = resolve({"task": {"warm_start": 0.25}, "model": {"kind": "sngan", "latent": 8, "width": 8}},
                       sections=("task", "model", "augment"))
    task = build(settings, data.spec)
    assert isinstance(task, Studious)
    task.study(data, 0)
    networks = task.networks()
    indices = data.indices("train")
    images, labels = torch.from_numpy(data.images(indices)), torch.from_numpy(data.labels(indices))
    means = torch.stack([images[labels == label].mean(0) for label in (0, 1)])
    assert torch.allclose(torch.tanh(networks["generator"].mean), means.clamp(-0.97, 0.97), atol=1e-5)
    for progress, expected in ((0.0, [True, False, False]), (0.5, [False, True, True])):
        batch = Batch(images=images[:4], labels=labels[:4], seed=0, items=(0, 1, 2, 3), progress=progress)
        assert [bool(turn.loss(networks, batch)) for turn in task.turns()] == expected


def test_the_anchor_and_the_doctor_ask_for_the_same_redrawn_images_once(make_prepared: Make) -> None:
    data = Prepared(make_prepared(labels=("a", "b")))
    batch = Batch(images=torch.from_numpy(data.images(np.arange(16))), seed=0, items=tuple(range(16)), progress=0.5,
                  labels=torch.from_numpy(data.labels(np.arange(16))))

    def terms(anchor: int, redraw: float) -> tuple[dict[str, float], int]:
        settings = resolve(overrides=("model.kind=dcgan", "model.width=8", f"task.anchor={anchor}"),
                           sections=("task", "model", "augment"))
        task: Any = build(settings, data.spec)
        torch.manual_seed(0)
        task.study(data, 0)
        task.get_redrawing_ready(data, 0)
        networks = task.networks()
        for network in networks.values():
            network.eval()  # or every call would change what batches are normalised by
        drawn: list[int] = []
        networks["generator"].register_forward_hook(lambda module, given, made: drawn.append(len(made)))
        found = task.generator_loss(networks, dataclasses.replace(batch, care=Care(redraw=redraw)))
        return {name: float(value) for name, value in found.items()}, sum(drawn)

    (both, drawn), (anchor, once), (redraw, _) = terms(10, 2.0), terms(10, 0.0), terms(0, 2.0)
    assert drawn == once == 16 + 16 // 4
    assert both["anchor"] == pytest.approx(anchor["anchor"]) and both["anchor"] > 0 and "redrawing" not in anchor
    assert both["redrawing"] == pytest.approx(redraw["redrawing"]) and both["redrawing"] > 0 and "anchor" not in redraw


def test_doubling_is_nearest_neighbours_and_a_convolution() -> None:
    torch.manual_seed(0)
    for dimensions, convolution in ((2, functional.conv2d), (3, functional.conv3d)):
        layer, x = Doubling(3, 4, dimensions), torch.randn(2, 3, *[5] * dimensions)
        flipped = layer.weight.flip(list(range(2, 2 + dimensions))).transpose(0, 1)
        expected = convolution(functional.interpolate(x, scale_factor=2), flipped, padding=1)
        assert torch.allclose(layer(x), expected, atol=1e-5)


def test_a_run_that_goes_on_keeps_what_its_latents_stand_for(make_prepared: Make, tmp_path: Path) -> None:
    """Another machine, or another version, would find the directions a little otherwise."""
    prepared = Prepared(make_prepared())
    settings = resolve(overrides=("model.kind=mlp", "task.warm_start=0.25", "train.batch=8", "train.images=80"))

    def loop() -> Loop:
        task = build(settings, prepared.spec)
        return Loop(task, settings.section("train", Settings), prepared, RunFolder(tmp_path / "run"), 0)

    saved = loop().state()
    saved["studied"]["directions"] = saved["studied"]["directions"] + 0.01
    resumed = loop()
    resumed.restore(saved)
    assert torch.equal(resumed.state()["studied"]["directions"], saved["studied"]["directions"])
    assert "redrawing" in " ".join(resumed.take_step()), "the warm start goes on"
