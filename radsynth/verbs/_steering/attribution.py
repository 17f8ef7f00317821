"""Where a discriminator looks: integrated gradients (Sundararajan et al. 2017), occlusion (Zeiler and Fergus 2014)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""Images (n, c, *space) to scores (n,), each image for itself."""


# IG_i(x) = (x_i - x'_i) * integral over a in [0, 1] of dF(x' + a (x - x')) / dx_i
def integrated_gradients(score: Score, images: Tensor, baseline: Tensor, steps: int = 128, chunk: int = 32) -> Tensor:
    """What each pixel adds to the score, from a baseline (c, *space) to images (n, c, *space): (n, c, *space).

    Completeness: an image's values sum to score(image) - score(baseline), up to the midpoint rule's error.
    """
    places = (torch.arange(steps, device=images.device) + 0.5) / steps
    maps = []
    for image in images:
        total = torch.zeros_like(image)
        for start in range(0, steps, chunk):
            shares = places[start:start + chunk].view(-1, *[1] * image.ndim)
            between = (baseline + shares * (image - baseline)).detach().requires_grad_()
            (slope,) = torch.autograd.grad(score(between).sum(), between)
            total += slope.sum(0)
        maps.append((image - baseline) * total / steps)
    return torch.stack(maps).detach()


def completeness_gap(score: Score, images: Tensor, baseline: Tensor, maps: Tensor) -> Tensor:
    """(n,) what a map's sum misses of score(image) - score(baseline), which it has to explain, as a share of that."""
    with torch.no_grad():
        wanted = score(images) - score(baseline[None])
    return (maps.flatten(1).sum(1) - wanted).abs() / wanted.abs().clamp_min(1e-6)


@torch.no_grad()
def occlusion(score: Score, images: Tensor, fill: Tensor, window: int, stride: int) -> Tensor:
    """How much the score falls when a window is covered by `fill` (c, *space): (n, *space), means over the windows.

    window, stride: pixels along each axis; positive where covering lowers the score, that is: where the image speaks
    for being real.
    """
    space = images.shape[2:]
    starts = [sorted({*range(0, max(side - window, 0) + 1, stride), max(side - window, 0)}) for side in space]
    falls, covered = torch.zeros(len(images), *space), torch.zeros(*space)
    whole = score(images)
    for corner in itertools.product(*starts):
        where = tuple(slice(start, start + window) for start in corner)
        hidden = images.clone()
        hidden[(slice(None), slice(None), *where)] = fill[(slice(None), *where)]
        fall = (whole - score(hidden)).cpu()
        falls[(slice(None), *where)] += fall.view(-1, *[1] * len(space))
        covered[where] += 1
    return falls / covered
