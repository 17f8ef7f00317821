"""Penalties on the discriminator, each without its weight; `critic` maps (n, c, *space) to logits (n,).

Exact penalties differentiate twice: the critic must not be compiled and its augmentation must not use grid_sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


def _squared_slope(critic: Critic, images: Tensor) -> Tensor:
    """||grad_x D(x)||^2 for each image, (n,), with a graph for the second derivative."""
    images = images.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return slope.float().square().flatten(1).sum(1)


# R1 (Mescheder et al. 2018, eq. 9): 1/2 E ||grad D(x)||^2 at real images; R2 the same at generated ones.
def zero_centred(critic: Critic, images: Tensor) -> Tensor:
    """R1 at real images, R2 at generated ones: half the mean squared slope."""
    return 0.5 * _squared_slope(critic, images).mean()


# WGAN-GP (Gulrajani et al. 2017, eq. 3): E (||grad D(y)|| - 1)^2 at y = u x + (1 - u) G(z), u uniform in [0, 1].
def one_centred(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """The gradient penalty of WGAN-GP. `mix` (n,) holds the uniform numbers u."""
    u = mix.view(-1, *[1] * (real.ndim - 1)).to(real)
    slope = _squared_slope(critic, u * real + (1 - u) * fake)
    # The small constant keeps the square root's derivative finite at 0.
    return ((slope + 1e-12).sqrt() - 1).square().mean()


# DRAGAN (Kodali et al. 2017, eq. 3): E (||grad D(x + d)|| - 1)^2, d noise around real images. Its size, which the paper
# leaves open, is half the standard deviation, as in the authors' code; here of each image, and d is normal.
def around_real(critic: Critic, real: Tensor, noise: Tensor) -> Tensor:
    """The gradient penalty of DRAGAN. `noise` is standard normal and like the images."""
    deviation = real.flatten(1).std(1).view(-1, *[1] * (real.ndim - 1))
    slope = _squared_slope(critic, real + 0.5 * deviation * noise)
    return ((slope + 1e-12).sqrt() - 1).square().mean()


# Approximated R1 (Lin et al. 2025, "Diffusion adversarial post-training", eq. 3), divided by the squared step so that
# its weight means the same as R1's:  E (D(x) - D(x + s e))^2 / (2 s^2),  e standard normal.
def finite_difference(critic: Critic, images: Tensor, logits: Tensor, noise: Tensor, step: float) -> Tensor:
    """R1 or R2 by finite differences, without double backward. `logits` are D(images); `noise` is like the images.

    The discriminator learns to ignore noise of about `step`, so that the generator may keep grain of that size.
    """
    moved = critic(images.detach() + step * noise)
    return 0.5 * ((moved - logits) / step).square().mean()


# Consistency (Zhang et al. 2020, "Consistency regularization for GANs", eq. 3): E (D(x) - D(T(x)))^2, T an augmentation
# at random. Here both are augmented, since the discriminator sees no other images.
def inconsistency(logits: Tensor, again: Tensor) -> Tensor:
    """Mean squared difference between the logits (n,) of images augmented in two ways."""
    return (logits - again).square().mean()


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """Where a penalty is taken: at real images, at generated images, between them, around real ones, or nowhere."""

    real: bool = False
    fake: bool = False
    between: bool = False
    around: bool = False
    finite: bool = False


PENALTIES = {
    "none": Penalty(),
    "r1": Penalty(real=True),
    "r2": Penalty(fake=True),
    "r1_r2": Penalty(real=True, fake=True),
    "wgan_gp": Penalty(between=True),
    "dragan": Penalty(around=True),
    "finite_r1": Penalty(real=True, finite=True),
    "finite_r2": Penalty(fake=True, finite=True),
    "finite_r1_r2": Penalty(real=True, fake=True, finite=True),
}
