"""Reconstruction losses against closed forms and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as reference

from radsynth.losses._windows import window_means
from radsynth.losses.reconstruction import RECONSTRUCTIONS, structural_similarity


def pair(space: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(3, 1, *space, generator=generator) * 2 - 1
    return target * 0.7 + 0.1 * torch.randn(3, 1, *space, generator=generator), target


@pytest.mark.parametrize("name", RECONSTRUCTIONS)
@pytest.mark.parametrize("space", [(12, 9), (8, 9, 10)])
def test_a_loss_is_least_for_equal_images_and_pulls_towards_them(name: str, space: tuple[int, ...]) -> None:
    loss, (result, target) = RECONSTRUCTIONS[name], pair(space)
    assert float(loss(target, target)) == pytest.approx(0, abs=2e-3) and float(loss(result, target)) > 0.01
    moved = result.clone().requires_grad_()
    loss(moved, target).backward()
    assert moved.grad is not None
    assert float(loss(result - 0.1 * moved.grad, target)) < float(loss(result, target))


@pytest.mark.parametrize("sides", [[3, 4], [2, 1, 3]])
def test_window_means_are_those_of_pooling_with_their_gradient(sides: list[int]) -> None:
    images = torch.rand(2, 2, *[side + 2 for side in sides], dtype=torch.float64, requires_grad=True)
    pool = torch.nn.functional.avg_pool2d if len(sides) == 2 else torch.nn.functional.avg_pool3d
    assert torch.allclose(window_means(images, sides), pool(images, sides, stride=1))
    assert torch.autograd.gradcheck(lambda given: window_means(given, sides), images)


def test_closed_forms() -> None:
    target = torch.zeros(2, 1, 8, 8)
    values = {name: float(loss(target + 0.5, target)) for name, loss in RECONSTRUCTIONS.items()}
    c1 = 0.02**2
    assert values["absolute"] == pytest.approx(0.5) and values["squared"] == pytest.approx(0.25)
    assert values["charbonnier"] == pytest.approx(0.5, abs=1e-5)
    light = (2 * 1.5 + c1) / (1.5**2 + 1 + c1)  # black is 0, so that target and result are 1 and 1.5
    assert values["dissimilarity"] == pytest.approx((1 - light) / 2, rel=1e-4)


@pytest.mark.parametrize("space", [(16, 13), (9, 10, 11)])
def test_similarity_is_scikit_images(space: tuple[int, ...]) -> None:
    result, target = pair(space)
    expected = []
    for y, x in zip(result.double().numpy(), target.double().numpy(), strict=True):
        _, picture = reference(y[0] + 1, x[0] + 1, data_range=2, full=True)
        expected.append(picture[tuple(slice(3, -3) for _ in space)].mean())
    assert np.allclose(structural_similarity(result, target).numpy(), expected, atol=1e-5)
