"""Warps against closed forms, an ODE solver and MONAI."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from radsynth.batch import Batch
from radsynth.metrics._registration import folding
from radsynth.tasks._warp import compose, enlarge, grid, integrate, random_velocity, shrink, smooth, warp
from tests.register.examples import SIZES, inner, velocity_of


@pytest.mark.parametrize("space", SIZES)
def test_a_constant_velocity_is_its_own_displacement(space: tuple[int, ...]) -> None:
    velocity = torch.tensor([1.5, -2.25, 0.75][: len(space)]).reshape(1, -1, *[1] * len(space)).expand(1, -1, *space)
    assert torch.allclose(integrate(velocity), velocity, atol=1e-5)


def test_a_linear_velocity_grows_exponentially() -> None:
    space, rate = (41, 33), 0.2
    from_middle = grid(space).movedim(-1, 0)[None] - torch.tensor([20.0, 16.0]).reshape(1, 2, 1, 1)
    displacement = integrate(-rate * from_middle, squarings=8)  # x' = -r x: x e^-r after unit time
    assert torch.allclose(displacement, (math.exp(-rate) - 1) * from_middle, atol=0.02)


@pytest.mark.parametrize("space", SIZES)
def test_scaling_and_squaring_follows_the_flow_of_an_ode_solver(space: tuple[int, ...]) -> None:
    from scipy.integrate import solve_ivp
    from scipy.ndimage import map_coordinates

    velocity = velocity_of(space, wave=10.0)[:1]
    starts = [4.0, 5.25] if len(space) == 2 else [4.0, 5.25, 6.5]

    def flow(time: float, place: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array([map_coordinates(v, place[:, None], order=1, mode="nearest")[0] for v in velocity[0].numpy()])

    end = solve_ivp(flow, (0, 1), np.asarray(starts), rtol=1e-7, atol=1e-8, max_step=0.02).y[:, -1]
    offset = torch.tensor(starts).reshape(1, -1, *[1] * len(space))  # of an image of one pixel, which lies at 0
    found = warp(integrate(velocity, squarings=8), offset)
    assert np.allclose(np.asarray(starts) + found.reshape(-1).numpy(), end, atol=0.02)


@pytest.mark.parametrize("space", SIZES)
def test_the_negative_velocity_is_the_inverse_and_nothing_folds(space: tuple[int, ...]) -> None:
    velocity = velocity_of(space)
    there, back = integrate(velocity), integrate(-velocity)
    assert there.abs().max() > 1, "a test of small warps would show nothing"
    for left in (compose(there, back), compose(back, there)):
        assert left[inner(space)].abs().max() < 0.15
    assert folding(there.numpy()).max() == 0


@pytest.mark.parametrize("space", SIZES)
def test_warping_by_whole_pixels_shifts_and_agrees_with_monai(space: tuple[int, ...]) -> None:
    from monai.networks.blocks.warp import Warp

    images, displacement = torch.rand(2, 3, *space), torch.zeros(2, len(space), *space)
    displacement[:, -1] = 2
    assert torch.allclose(warp(images, displacement)[..., :-2], images[..., 2:], atol=1e-5)
    displacement = velocity_of(space)
    block: Any = Warp  # it has no types
    theirs = block("bilinear", "border")(images, displacement)
    assert torch.allclose(warp(images, displacement), theirs, atol=1e-4)
    assert set(warp(images, displacement, mode="nearest").flatten().tolist()) <= set(images.flatten().tolist())


@pytest.mark.parametrize("space", [(13, 18), (7, 9, 12)])
def test_fields_on_coarser_grids_keep_linear_ones_and_blurring_keeps_the_mean(space: tuple[int, ...]) -> None:
    ramp = grid(space).movedim(-1, 0)[None]
    back = enlarge(shrink(ramp, 2), 2, space)
    assert torch.allclose(back[inner(space, 2)], ramp[inner(space, 2)], atol=1e-4)
    assert torch.allclose(smooth(torch.full((1, 1, *space), 0.3), 1.0), torch.tensor(0.3))


@pytest.mark.parametrize("space", [(13, 18), (7, 9, 12)])
def test_blurring_is_scipys_under_autocast_too(space: tuple[int, ...]) -> None:
    field = np.random.default_rng(0).normal(size=(2, 3, *space)).astype(np.float32)
    for sigma in (0.4, 2.0, 5.0):
        blurred = gaussian_filter(field, (0, 0, *[sigma] * len(space)), mode="nearest", radius=math.ceil(3 * sigma))
        with torch.autocast("cpu", torch.bfloat16):
            assert np.allclose(smooth(torch.from_numpy(field), sigma).numpy(), blurred, atol=1e-6)
    assert smooth(torch.ones(1, 1, *space), 0.0).eq(1).all()


def test_random_velocities_depend_on_seed_and_item_alone() -> None:
    whole = velocity_of((16, 16), 1.5)
    part = Batch(images=torch.zeros(1, 1, 16, 16), seed=3, items=(1,))
    assert torch.allclose(whole[1:], random_velocity(part, "known", (16, 16), 1.5, 8.0), atol=1e-6)
    assert torch.allclose(whole.square().mean((1, 2, 3)).sqrt(), torch.tensor(1.5))


def test_known_warps_are_as_long_in_mm_across_thick_slices_as_within_them() -> None:
    batch = Batch(images=torch.zeros(6, 1, 8, 24, 24), seed=3, items=tuple(range(6)))
    velocity = random_velocity(batch, "known", (8, 24, 24), 1.5, 8.0, (10.0, 2.0, 2.0))
    even = random_velocity(batch, "known", (8, 24, 24), 1.5, 8.0)
    assert torch.allclose(velocity[:, 0], even[:, 0] / 5) and torch.equal(velocity[:, 1:], even[:, 1:])
