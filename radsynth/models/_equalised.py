"""Layers of the progressive and the style network: equalised learning rates, pixel norm, deviation in the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from radsynth.models._volumes import convolved

GROUP = 4


class EqualisedConvolution(nn.Module):
    """A convolution that keeps the size. Its weights are N(0, 1), scaled by sqrt(2 / inputs) when they are used.

    So Adam moves all layers at the same relative speed (Karras et al. 2018, "Progressive growing", section 4.1).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dimensions: int, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *[kernel] * dimensions))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.padding = gain / math.sqrt(inputs * kernel**dimensions), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return convolved(x, self.weight * self.scale, self.bias, padding=self.padding)


class EqualisedLinear(nn.Module):
    """A linear layer with equalised learning rate. speed: a further factor of its learning rate; bias: its start."""

    def __init__(
        self, inputs: int, outputs: int, gain: float = math.sqrt(2), speed: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / speed)
        self.bias = nn.Parameter(torch.full((outputs,), bias / speed))
        self.scale, self.speed = speed * gain / math.sqrt(inputs), speed

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.scale, self.bias * self.speed)


def pixel_norm(x: Tensor) -> Tensor:
    """Every pixel's (or latent's) channels with mean square 1 (Karras et al. 2018, section 4.2); fp32 inside."""
    scale: Tensor = (x.float().square().mean(1, keepdim=True) + 1e-8).rsqrt()
    return x * scale.to(x.dtype)


def with_deviation(x: Tensor) -> Tensor:
    """One more channel: how much images differ within groups of up to GROUP (Karras et al. 2018, section 3).

    So the discriminator sees a collapse. Its verdict on an image then depends on the others of its group.
    """
    group = next(size for size in range(GROUP, 0, -1) if x.shape[0] % size == 0)
    deviation = x.float().reshape(-1, group, *x.shape[1:]).var(1, unbiased=False).add(1e-8).sqrt().flatten(1).mean(1)
    plane = deviation.repeat_interleave(group).view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    return torch.cat([x, plane.expand(-1, 1, *x.shape[2:])], 1)


def halve(x: Tensor) -> Tensor:
    """Mean over 2x2(x2) pixels; an odd side is rounded up."""
    pool = functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d
    halved: Tensor = pool(x, 2, ceil_mode=True, count_include_pad=False)
    return halved.to(x.dtype)  # autocast of a processor pools volumes in fp32
