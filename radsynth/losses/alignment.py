"""Losses of registration: how well a warped image y fits a fixed one x, and how rough the warp is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

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
    return local_correlation_with(fixed, window)(warped)


def local_correlation_with(fixed: Tensor, window: int = 9) -> Callable[[Tensor], Tensor]:
    """`local_correlation` of any warped images with these fixed ones, whose moments are taken once."""
    sides = [min(window, side) for side in fixed.shape[2:]]
    # In fp32: variances are small differences of large squares.
    with torch.autocast(fixed.device.type, enabled=False):
        x = fixed.float()
        x_mean, xx = window_means(torch.cat([x, x * x]), sides).chunk(2)
        x_variance = (xx - x_mean.square()).clamp_min(0)

    def correlation(warped: Tensor) -> Tensor:
        with torch.autocast(fixed.device.type, enabled=False):
            y = warped.float()
            y_mean, yy, yx = window_means(torch.cat([y, y * y, y * x]), sides).chunk(3)
            variances = (yy - y_mean.square()).clamp_min(0) * x_variance
            covariance = yx - y_mean * x_mean
            squares = covariance.square() / (variances + LEAST_VARIANCE)
            return squares.mean(dim=tuple(range(1, fixed.ndim)))

    return correlation


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
    side = max(field.shape[2:])
    thin = [amount for length in reversed(field.shape[2:]) for amount in (0, max(0, 3 - length))]
    inner = functional.pad(field, thin, mode="replicate") if any(thin) else field
    seconds = [_second_difference(inner, *pair).square() for pair in
               itertools.combinations_with_replacement(range(2, field.ndim), 2)]
    # One by one, not by sums over axes, whose order depends on how many fields there are.
    directions = sum(seconds[1:], seconds[0]).unbind(1)
    squares = side**4 * sum(directions[1:], directions[0])  # (n, *space)
    energy: Tensor = 2 * sharp**2 * ((1 + squares / sharp**2).sqrt() - 1).mean()
    return energy


def _second_difference(field: Tensor, one: int, other: int) -> Tensor:
    """Second differences along two axes at all pixels but the border's, mixed ones times sqrt(2): they count twice.

    By slices: as a convolution of one channel they take several times as long on a processor.
    """
    for axis in range(2, field.ndim):
        if axis not in (one, other):
            field = field.narrow(axis, 1, field.shape[axis] - 2)
    if one == other:
        return field.diff(n=2, dim=one)
    for axis in (one, other):
        length = field.shape[axis] - 2
        field = field.narrow(axis, 2, length) - field.narrow(axis, 0, length)
    return field / math.sqrt(8)


# 1 - mean 2 |a b| / (|a| + |b|) over labels (Milletari et al. 2016, with plain sums)
def label_mismatch(warped: Tensor, fixed: Tensor) -> Tensor:
    """One minus the Dice of label shares (n, labels, *space) in [0, 1]; labels that neither image has do not count."""
    axes = tuple(range(2, fixed.ndim))
    both, total = (warped * fixed).sum(axes), warped.sum(axes) + fixed.sum(axes)
    present = fixed.flatten(2).any(2) | (warped.flatten(2) > 0.5).any(2)
    missed = (1 - 2 * both / total.clamp_min(1e-6)) * present
    return missed.sum() / present.sum().clamp_min(1)

