"""Instance optimisation: a predicted warp is made better for its own pair (Balakrishnan et al. 2019, section 5.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radsynth.losses.alignment import bending, local_decorrelation, roughness
from radsynth.tasks._warp import compose, enlarge, integrate, shrink, warp

RATE = 0.2
"""Points of the grid that a step of Adam moves a point at most; it falls to nothing over the second half."""
GRID = 2
"""Pixels between the points at which warps are made better."""
BENDING = 0.001
"""Weight of the whole warp's bending. More is truer for warps as smooth as that, less for anatomies that differ."""
ROUGHNESS = 0.1
"""Weight of the roughness of what is added: without it, one pixel in ten thousand is folded."""
SHARP = 2.0
"""Change of a warp's slope over the length of the image from which on bending costs only in proportion."""
SQUARINGS = 4
"""Enough for what is added: a tenth of a point for two points of the grid."""
LARGEST = 2**21
"""Pixels of an image: larger ones are made coarser first, so that memory is bounded."""


def refined(displacement: Tensor, moving: Tensor, fixed: Tensor, steps: int, window: int) -> Tensor:
    """Displacements (n, d, *space) with a smooth invertible warp before each, under which the images agree better.

    moving, fixed: (n, c, *space) of the same channels, compared by local correlation over windows of `window` pixels
    """
    single = (torch.split(one, 1) for one in (displacement, moving, fixed))
    return torch.cat([_refined(there, start, goal, steps, window)
                      for there, start, goal in zip(*single, strict=True)])


def _refined(displacement: Tensor, moving: Tensor, fixed: Tensor, steps: int, window: int) -> Tensor:
    """The displacement (1, d, *space) of one pair, found at every second pixel and interpolated."""
    space, coarser = tuple(fixed.shape[2:]), 1
    while math.prod(-(-side // coarser) for side in space) > LARGEST:
        coarser *= 2
    start, goal = shrink(moving, coarser), shrink(fixed, coarser)
    there = shrink(shrink(displacement, coarser), GRID) / (GRID * coarser)
    small, side = tuple(goal.shape[2:]), max(there.shape[2:])
    with torch.enable_grad():
        velocity = torch.zeros_like(there, requires_grad=True)
        optimiser = torch.optim.Adam([velocity], lr=RATE)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = RATE * min(1, 2 * (1 - step / steps))
            whole = compose(integrate(velocity, SQUARINGS), there)
            apart = local_decorrelation(warp(start, GRID * enlarge(whole, GRID, small)), goal, window)
            loss = apart + BENDING * bending(whole / side, SHARP) + ROUGHNESS * roughness(velocity)
            velocity.grad, = torch.autograd.grad(loss, velocity)
            optimiser.step()
    whole = compose(integrate(velocity.detach(), SQUARINGS), there)
    return GRID * coarser * enlarge(enlarge(whole, GRID, small), coarser, space)
