"""Photon noise in projections, against scikit-image's Radon transform and against closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.tasks._projections import WATER, add_photon_noise, back_project, project

CT = (-1024.0, 1500.0)


def disc(side: int, radius: float, offset: float = 0.0) -> torch.Tensor:
    axis = torch.arange(side) - (side - 1) / 2
    distance = torch.hypot(axis[:, None], axis[None] - offset)
    return torch.sigmoid((radius - distance) * 2)  # a soft edge, so that pixels and rays sample it alike


def batch_of(images: torch.Tensor, first: int = 0) -> Batch:
    return Batch(images=images, seed=3, items=tuple(range(first, first + len(images))))


def task_of(*overrides: str, **spec: Any) -> Any:
    settings = resolve(overrides=("task.kind=restore", *overrides), sections=("task", "model", "augment"))
    return build(settings, ImageSpec(**{"size": (32, 32), **spec}))


def test_projections_agree_with_scikit_image_and_a_discs_chord() -> None:
    from skimage.transform import radon

    image = disc(65, 20, 4.0)
    ours = project(image[None])[0]
    theta = np.arange(len(ours)) * 180 / len(ours)
    other = radon(image.numpy(), theta, circle=True).T
    bins = ours.shape[1]
    inner = ours[:, (bins - 65) // 2:(bins - 65) // 2 + 65].numpy()
    assert np.abs(inner - other).mean() < 0.02 * other.max()
    assert float(project(disc(65, 20)[None])[0].max()) == pytest.approx(40, rel=0.05)


@pytest.mark.parametrize("space", [(48, 48), (40, 56)])
def test_back_projection_is_the_inverse(space: tuple[int, int]) -> None:
    image = disc(56, 15)[(56 - space[0]) // 2:(56 + space[0]) // 2, (56 - space[1]) // 2:(56 + space[1]) // 2]
    back = back_project(project(image[None]), space)[0]
    assert float((back - image).abs().mean()) < 0.03 and float(back[space[0] // 2, space[1] // 2]) == pytest.approx(
        1, abs=0.05)


def test_reconstructed_noise_agrees_with_scikit_image() -> None:
    from skimage.transform import iradon

    lines = torch.randn(1, 96, project(torch.zeros(1, 64, 64)).shape[2], generator=torch.Generator().manual_seed(0))
    ours = back_project(lines, (64, 64))[0, 16:48, 16:48]
    other = iradon(lines[0, :, 14:78].numpy().T, np.arange(96) * 180 / 96, filter_name="hann", circle=True)
    assert float(ours.std()) == pytest.approx(float(other[16:48, 16:48].std()), rel=0.1)


def test_noise_goes_with_the_dose_and_with_attenuation() -> None:
    body = disc(48, 18) * 2 * 1024 / (CT[1] - CT[0]) - 1  # water in air
    images = torch.stack([body, body])[:, None].repeat(16, 1, 1, 1)
    photons = torch.tensor([4e4, 1e4] * 16)
    noise = (add_photon_noise(images, photons, batch_of(images), CT, 2.0) - images)[..., 20:28, 20:28]
    few, many = float(noise[1::2].std()), float(noise[::2].std())
    assert few / many == pytest.approx(2, rel=0.1), "the square root of the dose"
    # In the middle of a disc of diameter d all rays let exp(-WATER d) / ... through: the variance of a logarithm of n
    # counts is 1 / n, and the filter hands on what white noise of standard deviation 1 becomes.
    white = back_project(torch.randn(16, 72, project(body[None]).shape[2], generator=torch.Generator().manual_seed(1)),
                         (48, 48))[:, 20:28, 20:28].std()
    expected = math.exp(WATER * 36 * 2 / 2) / math.sqrt(4e4) * float(white) / 2 * 1000 / WATER * 2 / (CT[1] - CT[0])
    assert many == pytest.approx(expected, rel=0.15)
    air = torch.full((8, 1, 48, 48), -1.0)
    quiet = (add_photon_noise(air, torch.full((8,), 4e4), batch_of(air), CT, 2.0) - air)[..., 20:28, 20:28]
    assert float(quiet.std()) < 0.6 * many


def test_noise_depends_on_seed_and_item_alone_in_volumes_too() -> None:
    images = torch.zeros(4, 1, 3, 16, 16)
    photons = torch.full((4,), 1e4)
    whole = add_photon_noise(images, photons, batch_of(images), CT, 1.0)
    part = add_photon_noise(images[2:], photons[2:], batch_of(images[2:], 2), CT, 1.0)
    assert torch.allclose(whole[2:], part) and not torch.allclose(whole[0], whole[1])
    assert not torch.allclose(whole[0, 0, 0], whole[0, 0, 1])


def test_restore_takes_hounsfield_units_alone_and_pairs_by_name() -> None:
    task = task_of("task.what=low_dose_projections", units="HU", modality="CT", values=CT, spacing=(1.0, 1.0))
    given, good = task.pair(batch_of(torch.zeros(2, 1, 32, 32)))
    assert given.shape == good.shape and float((given - good).abs().mean()) > 0
    with pytest.raises(SettingsError, match="needs CT in Hounsfield units"):
        task_of("task.what=low_dose_projections")
    with pytest.raises(SettingsError, match="fewest <= most"):
        task_of("task.what=low_dose_projections", "task.photons=[9,5]", units="HU", values=CT)
    images = torch.randn(2, 3, 32, 32)
    task = task_of("task.what=pairs", "task.clean=full", channels=("full", "low", "other"))
    assert (task.inputs, task.outputs) == (("low",), ("full",))
    given, good = task.pair(batch_of(images))
    assert torch.equal(given, images[:, 1:2]) and torch.equal(good, images[:, :1])
    with pytest.raises(SettingsError, match="did you mean full"):
        task_of("task.what=pairs", "task.clean=ful", channels=("full", "low"))
    with pytest.raises(SettingsError, match="a worse and a good channel"):
        task_of("task.what=pairs")
