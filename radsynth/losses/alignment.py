"""Losses of registration: how well a warped image y fits a fixed one x, and how rough the warp is."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
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
    """`local_correlation` of any warped images with these fixed ones, whose moments are taken once. No second
    derivatives, and none by the fixed images."""
    sides = [min(window, side) for side in fixed.shape[2:]]
    # In fp32: variances are small differences of large squares.
    with torch.no_grad(), torch.autocast(fixed.device.type, enabled=False):
        x = fixed.float()
        x_mean, xx = window_means(torch.cat([x, x * x]), sides).chunk(2)
        x_variance = (xx - x_mean.square()).clamp_min(0)

    def correlation(warped: Tensor) -> Tensor:
        with torch.autocast(fixed.device.type, enabled=False):
            squares: Tensor = _Correlation.apply(  # type: ignore[no-untyped-call]
                warped.float(), x, x_mean, x_variance, sides)
            return squares.mean(dim=tuple(range(1, fixed.ndim)))

    return correlation


class _Correlation(torch.autograd.Function):
    """Squared correlation of each window. Written out, because operation by operation the gradient takes longer.

    With the means y, x, yy, yx and c = yx - y x, q = c / (var(y) var(x) + least), the square is c q. Its derivatives:
    2 q by yx, -q^2 var(x) by yy, and -(x times the former + 2 y times the latter) by y.
    """

    @staticmethod
    def forward(context: Any, y: Tensor, x: Tensor, x_mean: Tensor, x_variance: Tensor, sides: list[int]) -> Tensor:
        y_mean, yy, yx = window_means(torch.cat([y, y * y, y * x]), sides).chunk(3)
        covariance = torch.addcmul(yx, y_mean, x_mean, value=-1)
        variance = torch.addcmul(yy, y_mean, y_mean, value=-1).clamp_min_(0)
        quotient = covariance / variance.mul_(x_variance).add_(LEAST_VARIANCE)
        context.save_for_backward(y, x, y_mean, x_mean, x_variance, quotient)
        context.sides = sides
        return covariance.mul_(quotient)

    @staticmethod
    @once_differentiable
    def backward(context: Any, given: Tensor) -> Any:
        y, x, y_mean, x_mean, x_variance, quotient = context.saved_tensors
        by_yx = quotient * given
        by_yy = (by_yx * quotient).mul_(x_variance).neg_()
        by_yx.mul_(2)
        by_y = (x_mean * by_yx).addcmul_(y_mean, by_yy, value=2).neg_()
        around = [side - 1 for side in reversed(context.sides) for _ in range(2)]
        back = window_means(functional.pad(torch.cat([by_y, by_yy, by_yx]), around), context.sides)
        by_y, by_yy, by_yx = back.chunk(3)
        return by_y.addcmul(y, by_yy, value=2).addcmul_(x, by_yx), None, None, None, None


# mean |grad v|^2, by differences of neighbours (Balakrishnan et al. 2019, eq. 6)
def roughness(field: Tensor) -> Tensor:
    """Mean squared difference between neighbours of a field (n, d, *space), the mean over axes of several pixels."""
    steps = [functional.mse_loss(field.narrow(axis, 1, side - 1), field.narrow(axis, 0, side - 1))
             for axis, side in enumerate(field.shape) if axis > 1 and side > 1]
    return functools.reduce(torch.add, steps) / len(steps) if steps else field.sum() * 0


# mean 2 s^2 (sqrt(1 + |H|^2 / s^2) - 1): the bending energy |H|^2 of free-form deformations (Rueckert et al. 1999), but
# in proportion to |H| above s (Charbonnier et al. 1997): a warp may have edges where the images ask for them
def bending(field: Tensor, sharp: float) -> Tensor:
    """Mean squared second derivatives of a field (n, d, *space), the longest side taken as 1; gently above `sharp`.

    A displacement in shares of the longest side has the same second derivatives whatever the size of the image. Pixels
    are taken as squares or cubes, which `prepare` makes them if not told otherwise (prepare.spacing), so that all axes
    weigh alike in mm, too.
    """
    thin = [amount for length in reversed(field.shape[2:]) for amount in (0, max(0, 3 - length))]
    inner = functional.pad(field, thin, mode="replicate") if any(thin) else field
    energy: Tensor = _Bending.apply(inner, max(field.shape[2:]), sharp)  # type: ignore[no-untyped-call]
    return energy


class _Bending(torch.autograd.Function):
    """Second differences by slices of all pixels but the border's: as a convolution of one channel they take several
    times as long on a processor, as does their gradient operation by operation."""

    @staticmethod
    def forward(context: Any, field: Tensor, side: int, sharp: float) -> Tensor:
        axes = range(2, field.ndim)
        context.pairs = list(itertools.combinations_with_replacement(axes, 2))
        seconds = [_second_difference(field, *pair) for pair in context.pairs]
        # One by one, not by sums over axes, whose order depends on how many fields there are.
        directions = functools.reduce(torch.add, (one.square() for one in seconds)).unbind(1)
        squares = functools.reduce(torch.add, directions)  # (n, *space), of pixels
        root = squares.mul(side**4 / sharp**2).add_(1).sqrt_()
        context.save_for_backward(root, *seconds)
        context.space, context.factor = field.shape, 2 * side**4 / root.numel()
        energy: Tensor = 2 * sharp**2 * (root - 1).mean()
        return energy

    @staticmethod
    @once_differentiable
    def backward(context: Any, given: Tensor) -> Any:
        root, *seconds = context.saved_tensors
        weight = (context.factor * given / root).unsqueeze(1)
        total = root.new_zeros(context.space)
        for pair, second in zip(context.pairs, seconds, strict=True):
            weighted = second * weight
            for factor, part in _parts(total, *pair):
                part.add_(weighted, alpha=factor)
        return total, None, None


def _second_difference(field: Tensor, one: int, other: int) -> Tensor:
    """Second differences along two axes, mixed ones times sqrt(2): they count twice."""
    (factor, first), *others = _parts(field, one, other)
    total = first * factor
    for factor, part in others:
        total.add_(part, alpha=factor)
    return total


def _parts(field: Tensor, one: int, other: int) -> list[tuple[float, Tensor]]:
    """The slices whose sum with these factors is a second difference."""
    inner = field
    for axis in range(2, field.ndim):
        if axis not in (one, other):
            inner = inner.narrow(axis, 1, field.shape[axis] - 2)
    if one == other:
        return [(factor, inner.narrow(one, first, field.shape[one] - 2))
                for first, factor in enumerate((1.0, -2.0, 1.0))]
    corner = 1 / math.sqrt(8)
    return [(corner if first == second else -corner,
             inner.narrow(one, first, field.shape[one] - 2).narrow(other, second, field.shape[other] - 2))
            for first in (0, 2) for second in (0, 2)]


# 1 - mean 2 |a b| / (|a| + |b|) over labels (Milletari et al. 2016, with plain sums)
def label_mismatch(warped: Tensor, fixed: Tensor) -> Tensor:
    """One minus the Dice of label shares (n, labels, *space) in [0, 1]; labels that neither image has do not count."""
    axes = tuple(range(2, fixed.ndim))
    both, total = (warped * fixed).sum(axes), warped.sum(axes) + fixed.sum(axes)
    present = fixed.flatten(2).any(2) | (warped.flatten(2) > 0.5).any(2)
    missed = (1 - 2 * both / total.clamp_min(1e-6)) * present
    return missed.sum() / present.sum().clamp_min(1)

