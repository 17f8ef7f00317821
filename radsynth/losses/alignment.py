"""Losses of registration: how well a warped image y fits a fixed one x, and how rough the warp is."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from radsynth.losses._windows import window_means

LEAST_VARIANCE = 1e-4
"""Added to the product of variances: windows of background, whose noise agrees with nothing, count little."""


# 1 - mean cov(y, x)^2 / (var(y) var(x)), moments over a window (Avants et al. 2008; Balakrishnan et al. 2019, eq. 5)
def local_decorrelation(warped: Tensor, fixed: Tensor, window: int = 9) -> Tensor:
    """One minus the squared local correlation, 0 to 1: blind to brightness and contrast, also inverted ones."""
    return 1 - local_correlation(warped, fixed, window).mean()


def local_correlation(warped: Tensor, fixed: Tensor, window: int = 9) -> Tensor:
    """Squared correlation (n,) over windows of `window` pixels (shorter along short sides), all channels, 0 to 1."""
    sides = [min(window, side) for side in fixed.shape[2:]]
    # In fp32: variances are small differences of large squares.
    with torch.autocast(fixed.device.type, enabled=False):
        y, x = warped.float(), fixed.float()
        y_mean, yy, yx = window_means(torch.cat([y, y * y, y * x]), sides).chunk(3)
        x_mean, xx = window_means(torch.cat([x, x * x]), sides).chunk(2)  # apart: gradients rarely go through it
        variances = (yy - y_mean.square()).clamp_min(0) * (xx - x_mean.square()).clamp_min(0)
        covariance = yx - y_mean * x_mean
        squares = covariance.square() / (variances + LEAST_VARIANCE)
        return squares.mean(dim=tuple(range(1, fixed.ndim)))


# mean |grad v|^2, by differences of neighbours (Balakrishnan et al. 2019, eq. 6)
def roughness(field: Tensor) -> Tensor:
    """Mean squared difference between neighbours of a field (n, d, *space), the mean over axes of several pixels."""
    steps = [field.diff(dim=axis).square().mean() for axis in range(2, field.ndim) if field.shape[axis] > 1]
    return torch.stack(steps).mean() if steps else field.sum() * 0


# mean 2 s^2 (sqrt(1 + |H|^2 / s^2) - 1): the bending energy |H|^2 of free-form deformations (Rueckert et al. 1999), but
# in proportion to |H| above s (Charbonnier et al. 1997): a warp may have edges where the images ask for them
def bending(field: Tensor, sharp: float) -> Tensor:
    """Mean squared second derivatives of a field (n, d, *space), the longest side taken as 1; gently above `sharp`.

    A displacement in shares of the longest side has the same second derivatives whatever the size of the image. Pixels
    are taken as squares or cubes, which `prepare` makes them, so that all axes weigh alike in mm, too.
    """
    dimensions, side = field.ndim - 2, max(field.shape[2:])
    thin = [amount for length in reversed(field.shape[2:]) for amount in (0, max(0, 3 - length))]
    lines = functional.pad(field, thin, mode="replicate").flatten(0, 1)[:, None]
    convolve: Any = functional.conv2d if dimensions == 2 else functional.conv3d
    seconds = convolve(lines, _second_differences(dimensions).to(field)).square().sum(1)  # (n d, *space)
    squares = side**4 * seconds.unflatten(0, field.shape[:2]).sum(1)
    energy: Tensor = 2 * sharp**2 * ((1 + squares / sharp**2).sqrt() - 1).mean()
    return energy


def _second_differences(dimensions: int) -> Tensor:
    """Kernels (d (d + 1) / 2, 1, 3, ...) of all second differences, the mixed ones times sqrt(2): they count twice."""
    plain, twice = torch.tensor([-0.5, 0, 0.5]), torch.tensor([1.0, -2, 1])
    kernels = []
    for one, other in itertools.combinations_with_replacement(range(dimensions), 2):
        kernel = torch.ones(())
        for axis in range(dimensions):
            line = (twice if one == other else plain) if axis in (one, other) else torch.tensor([0.0, 1, 0])
            kernel = kernel[..., None] * line
        kernels.append(kernel * (1 if one == other else math.sqrt(2)))
    return torch.stack(kernels)[:, None]


# 1 - mean 2 |a b| / (|a| + |b|) over labels (Milletari et al. 2016, with plain sums)
def label_mismatch(warped: Tensor, fixed: Tensor) -> Tensor:
    """One minus the Dice of label shares (n, labels, *space) in [0, 1]; labels that neither image has do not count."""
    axes = tuple(range(2, fixed.ndim))
    both, total = (warped * fixed).sum(axes), warped.sum(axes) + fixed.sum(axes)
    present = fixed.flatten(2).any(2) | (warped.flatten(2) > 0.5).any(2)
    missed = (1 - 2 * both / total.clamp_min(1e-6)) * present
    return missed.sum() / present.sum().clamp_min(1)

