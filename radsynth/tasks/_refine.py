"""Instance optimisation: a predicted warp is made better for its own pair (Balakrishnan et al. 2019, section 5.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radsynth.losses.alignment import bending, local_correlation_with, roughness
from radsynth.tasks._warp import compose, enlarge, integrate, shrink, still, warp

RATE = 0.2
"""Points of the grid that a step of Adam moves a point at most; it falls to nothing over the second half."""
FAR = 0.35
"""The same as a share of it, while points are far from each other."""
GRID = 2
"""Pixels between the points at which warps are made better in the end."""
COARSE = 8
"""Pixels of images of any coarseness between the points at which they are before: what is far off must not catch on the
nearest edge, as a scalp does on the wrong side of the skull."""
FIRST = 32
"""Longest side in pixels of the images that it begins with."""
EARLIER = 0.5
"""Steps at each coarseness, as a share of those at the end."""
BENDING = 0.001
"""Weight of the whole warp's bending. More is truer for warps as smooth as that, less for anatomies that differ."""
ROUGHNESS = 0.1
"""Weight of the roughness of what is added: without it, one pixel in ten thousand is folded."""
SHARP = 2.0
"""Change of a warp's slope over the length of the image from which on bending costs only in proportion."""
BEGIN = 0.25
"""Points of what is added, at most, with which its scaling and squaring begins."""
LARGEST = 2**21
"""Pixels of an image: larger ones are made coarser first, so that memory is bounded."""
TOGETHER = 2**16
"""Pixels of the pairs that are made better at once: what a step of a small pair costs is mostly its many calls."""


def refined(displacement: Tensor, moving: Tensor, fixed: Tensor, steps: int, window: int) -> Tensor:
    """Displacements (n, d, *space) with a smooth invertible warp before each, under which the images agree better.

    moving, fixed: (n, c, *space) of the same channels, compared by local correlation over windows of `window` pixels
    """
    several = max(1, TOGETHER // math.prod(fixed.shape[2:]))
    groups = (torch.split(one, several) for one in (displacement, moving, fixed))
    return torch.cat([_refined(there, start, goal, steps, window)
                      for there, start, goal in zip(*groups, strict=True)])


def _refined(displacement: Tensor, moving: Tensor, fixed: Tensor, steps: int, window: int) -> Tensor:
    """The displacements (n, d, *space) of a few pairs, found at every second pixel and interpolated."""
    space, coarser = tuple(fixed.shape[2:]), 1
    while math.prod(-(-side // coarser) for side in space) > LARGEST:
        coarser *= 2
    pair = shrink(moving, coarser), shrink(fixed, coarser)
    small = tuple(pair[1].shape[2:])
    there = shrink(shrink(displacement, coarser), GRID) / (GRID * coarser)
    halvings = max(0, math.ceil(math.log2(max(small) / FIRST)))
    for level in range(halvings, -1, -1):
        there = _improved(there, *pair, 2**level, COARSE * 2**level, math.ceil(EARLIER * steps), window, FAR * RATE)
    there = _improved(there, *pair, 1, GRID, steps, window, RATE)
    return GRID * coarser * enlarge(enlarge(there, GRID, small), coarser, space)


def _improved(there: Tensor, moving: Tensor, fixed: Tensor, factor: int, grid: int, steps: int, window: int,
              rate: float) -> Tensor:
    """Warps (n, d, *points), in points GRID pixels apart, under which images that are `factor` times coarser agree
    better; what is added is found at points `grid` pixels apart."""
    points, side, apart = tuple(there.shape[2:]), max(there.shape[2:]), grid // GRID
    space, start, goal = tuple(fixed.shape[2:]), shrink(moving, factor), shrink(fixed, factor)
    nothing, squarings = torch.zeros_like(shrink(there, apart)), max(0, math.ceil(math.log2(rate * steps / BEGIN)))
    few, many, pixels = (still(one.shape[2:], one.shape[2:], one.device) for one in (nothing, there, goal))

    def whole(velocity: Tensor) -> Tensor:
        return compose(apart * enlarge(integrate(velocity, squarings, few), apart, points), there, many)

    def on_pixels(warped: Tensor) -> Tensor:
        if factor == 1:
            return GRID * enlarge(warped, GRID, space)
        return shrink(warped, factor // GRID) * (GRID / factor)

    likeness = local_correlation_with(goal, window)
    with torch.enable_grad():
        velocity = nothing.requires_grad_()
        # Not the fused one, which rounds otherwise beside other pairs.
        optimiser = torch.optim.Adam([velocity], lr=rate)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = rate * min(1, 2 * (1 - step / steps))
            found = whole(velocity)
            loss = (1 - likeness(warp(start, on_pixels(found), at=pixels)).mean()
                    + BENDING * bending(found / side, SHARP) + ROUGHNESS * roughness(velocity))
            # The sum over the pairs, not their mean: each takes the steps that it would take alone.
            velocity.grad, = torch.autograd.grad(len(fixed) * loss, velocity)
            optimiser.step()
    return whole(velocity.detach())
