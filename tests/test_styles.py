"""Styles of painted images as principal coordinates: spread as noise is, not learned, kept in the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from radsynth.arrays import Prepared
from radsynth.models._principal import COARSE, PrincipalEncoder, shrunken
from radsynth.settings import resolve
from radsynth.tasks._warm_start import principal
from radsynth.verbs._sampler import Sampler
from radsynth.verbs.train import train
from tests.trained import same, stopped

Make = Callable[..., Path]
SMALL = ("task.kind=semantic", "model.width=8", "model.widest=16", "model.hidden=8", "model.latent=4", "train.batch=8",
         "model.discriminator_width=8", "train.previews=0", "train.precision=32-true")


@pytest.mark.parametrize("size", [(16, 12), (80, 64), (8, 10, 6)])
def test_codes_are_principal_coordinates_turned_and_as_long_as_noise(size: tuple[int, ...]) -> None:
    images = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, (40, 2, *size)).astype(np.float32))
    encoder = PrincipalEncoder(2, 6, size)
    pixels = shrunken(images)
    encoder.take(*principal(pixels, 6, np.random.default_rng(1)))
    mean, log_variance = encoder(images).unbind(1)
    assert mean.shape == (40, 6) and (log_variance.exp() == 0).all(), "a style is known exactly"
    assert torch.allclose(mean.norm(dim=1), torch.tensor(math.sqrt(6)), atol=1e-4)
    found = (pixels - encoder.mean) @ encoder.directions
    assert torch.allclose(found.mean(0), torch.zeros(6), atol=1e-3)
    assert torch.allclose(found.T @ found / 40, torch.eye(6), atol=1e-2), "variance 1 in every direction, none alike"
    centred = (pixels - pixels.mean(0)).double().numpy()
    left = np.linalg.svd(centred, full_matrices=False)[0][:, :6]
    assert np.allclose(found.numpy() @ found.numpy().T, 40 * left @ left.T, atol=0.05), "but for a turn, numpy's"
    assert max(shrunken(torch.zeros(1, 1, *size)).shape[1:]) <= COARSE ** len(size)


@pytest.fixture
def masked(make_prepared: Make) -> Path:
    """Bright images with a mask of one half."""
    folder = make_prepared(n=24, size=(16, 16), mask_classes=2, mask_values=(0, 1))
    np.save(folder / "shards" / "00000.masks.npy", np.tile(np.arange(16) // 8, (24, 16, 1)).astype(np.uint8))
    return folder


def test_a_run_keeps_its_directions_and_goes_on_where_it_stopped_to_the_bit(masked: Path, tmp_path: Path) -> None:
    settings = resolve({"seed": 3}, overrides=(*SMALL, "task.styles=principal", "task.deform=0.05", "train.images=96"))
    train(masked, tmp_path / "whole", settings=settings)
    with stopped(5):
        train(masked, tmp_path / "cut", settings=settings)
    train(masked, tmp_path / "cut", settings=settings)
    assert same(tmp_path / "cut", tmp_path / "whole")
    encoder: Any = Sampler(tmp_path / "cut").network.encoder
    prepared = Prepared(masked)
    assert not list(encoder.parameters()), "nothing is learned about styles"
    codes = encoder(torch.from_numpy(prepared.images(prepared.indices("train"))))[:, 0]
    assert torch.allclose(codes.norm(dim=1), torch.tensor(2.0), atol=1e-3), "the directions are in the weights"


def test_an_older_run_learned_its_styles(masked: Path, tmp_path: Path) -> None:
    train(masked, tmp_path / "run", settings=resolve(overrides=(*SMALL, "train.images=16")))
    path = tmp_path / "run" / "settings.yaml"
    written = yaml.safe_load(path.read_text())
    assert written["task"].pop("styles") == "learned"
    path.write_text(yaml.safe_dump(written))
    encoder: Any = Sampler(tmp_path / "run").network.encoder
    assert list(encoder.parameters()) and not hasattr(encoder, "directions")
