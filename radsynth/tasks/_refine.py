"""Instance optimisation: a predicted warp is made better for its own pair (Balakrishnan et al. 2019, section 5.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radsynth.losses.alignment import local_decorrelation, roughness
from radsynth.tasks._warp import compose, enlarge, integrate, shrink, warp

RATE = 0.2
"""Pixels that a step of Adam moves a point at most."""
SMOOTHNESS = 0.5
"""Weight of the roughness of what is added."""
GRID = 2
"""Pixels between the points of the velocity that is added."""
LARGEST = 2**21
"""Pixels of an image: larger ones are made coarser first, so that memory is bounded."""


def refined(displacement: Tensor, moving: Tensor, fixed: Tensor, steps: int, window: int) -> Tensor:
    """Displacements (n, d, *space) with a smooth invertible warp before each, under which the images agree better.

    moving, fixed: (n, c, *space) of the same channels, compared by local correlation over windows of `window` pixels
    """
    single = (torch.split(one, 1) for one in (displacement, moving, fixed))
    return torch.cat([compose(_added(there, start, goal, steps, window), there)
                      for there, start, goal in zip(*single, strict=True)])


def _added(displacement: Tensor, moving: Tensor, fixed: Tensor, steps: int, window: int) -> Tensor:
    """The displacement (1, d, *space) to put before one that is there."""
    space, coarser = tuple(fixed.shape[2:]), 1
    while math.prod(-(-side // coarser) for side in space) > LARGEST:
        coarser *= 2
    there, start, goal = shrink(displacement, coarser) / coarser, shrink(moving, coarser), shrink(fixed, coarser)
    small = tuple(goal.shape[2:])
    with torch.enable_grad():
        velocity = torch.zeros_like(shrink(there, GRID), requires_grad=True)
        optimiser = torch.optim.Adam([velocity], lr=RATE)
        for _ in range(steps):
            added = GRID * enlarge(integrate(velocity), GRID, small)
            apart = local_decorrelation(warp(start, compose(added, there)), goal, window)
            velocity.grad, = torch.autograd.grad(apart + SMOOTHNESS * roughness(velocity), velocity)
            optimiser.step()
    factor = GRID * coarser
    return factor * enlarge(integrate(velocity.detach()), factor, space)
