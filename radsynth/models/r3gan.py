"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!", section 4): residual networks without normalisation.

Written from the paper, with two changes for CPUs: dense instead of grouped 3x3 convolutions (grouped ones are bound by
memory), and patches: the finest stage works on patch x patch pixels as channels instead of single pixels.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from radsynth.device import channels_last
from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.models._averages import averaged
from radsynth.models._blocks import (
    CONVOLUTION,
    MODE,
    LatentCondition,
    ProjectionHead,
    classes_of,
    crop,
    fold_patches,
    starting_grid,
    unfold_patches,
    widths,
)
from radsynth.settings import settings


@settings
class Settings:
    """Residual networks without normalisation, for relativistic losses with R1 and R2."""

    kind: Literal["r3gan"] = "r3gan"
    latent: PositiveInt = 64
    """Length of the latent vector."""
    width: PositiveInt = 64
    """Channels of the finest stage; they double at each halving."""
    widest: PositiveInt = 256
    """Upper limit of the channels."""
    blocks: int = Field(1, ge=1, le=100)
    """Residual blocks a stage."""
    patch: Literal[1, 2, 4] = 2
    """Side of the patches that the finest stage works on: larger is faster, smaller is finer."""
    slope: float = Field(0.2, ge=0, lt=1)
    """Slope of the leaky rectifiers below zero."""


class Residual(nn.Module):
    """x + f(x): two 3x3 convolutions, the first scaled down and the last starting at zero (fix-up, Zhang 2019)."""

    def __init__(self, width: int, dimensions: int, slope: float, depth: int) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        self.first = convolution(width, width, 3, padding=1)
        self.second = convolution(width, width, 3, padding=1, bias=False)
        self.slope = slope
        nn.init.kaiming_normal_(self.first.weight, a=slope)
        with torch.no_grad():
            self.first.weight.mul_(depth**-0.5)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.leaky_relu(self.first(functional.leaky_relu(x, self.slope)), self.slope)
        kept: Tensor = x + self.second(inner)
        return kept


class Generator(nn.Module):
    """Latent (n, latent) to images (n, c, *space), not limited to [-1, 1]: writers clip."""

    def __init__(self, options: tuple[int, int, int, int, int, float], channels: int, size: tuple[int, ...],
                 classes: int) -> None:
        super().__init__()
        self.latent, width, widest, blocks, self.patch, slope = options
        self.size, dimensions = size, len(size)
        levels, self.grid = _grid(size, self.patch)
        wide = widths(width, widest, levels)
        depth = len(wide) * blocks
        self.condition = LatentCondition(classes, self.latent)
        # The coarsest features: a learned basis of patterns, mixed by the latent (the paper's "generative basis").
        self.basis = nn.Linear(self.latent, wide[0] * math.prod(self.grid))
        self.stages = nn.ModuleList(
            nn.Sequential(*[Residual(w, dimensions, slope, depth) for _ in range(blocks)]) for w in wide
        )
        self.transitions = nn.ModuleList(
            CONVOLUTION[dimensions](coarse, fine, 1, bias=False) for coarse, fine in pairwise(wide)
        )
        self.head = CONVOLUTION[dimensions](wide[-1], channels * self.patch**dimensions, 3, padding=1)
        nn.init.kaiming_normal_(self.head.weight, a=1, nonlinearity="linear")

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        # On the sphere, so that no image is larger than the others only because its latent is.
        latent = functional.normalize(self.condition(latent, labels), dim=1) * self.latent**0.5
        x = self.basis(latent).unflatten(1, (-1, *self.grid))
        x = self.stages[0](channels_last(x))
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = transition(x)  # before resampling: the same result on a quarter of the pixels
            x = stage(functional.interpolate(x, scale_factor=2, mode=MODE[x.ndim - 2]))
        return crop(unfold_patches(self.head(x).float(), self.patch), self.size)


class Discriminator(nn.Module):
    """Images (n, c, *space) to logits (n,)."""

    def __init__(self, options: tuple[int, int, int, int, int, float], channels: int, size: tuple[int, ...],
                 classes: int) -> None:
        super().__init__()
        _, width, widest, blocks, self.patch, slope = options
        dimensions = len(size)
        levels, grid = _grid(size, self.patch)
        self.size = tuple(side * 2**levels * self.patch for side in grid)
        wide = widths(width, widest, levels)[::-1]
        depth = len(wide) * blocks
        convolution = CONVOLUTION[dimensions]
        self.stem = convolution(channels * self.patch**dimensions, wide[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*[Residual(w, dimensions, slope, depth) for _ in range(blocks)]) for w in wide
        )
        self.transitions = nn.ModuleList(
            convolution(fine, coarse, 1, bias=False) for fine, coarse in pairwise(wide)
        )
        # The paper's "discriminative basis": one learned pattern a channel.
        self.basis = nn.Parameter(torch.randn(wide[-1], *grid) / math.prod(grid) ** 0.5)
        self.head = ProjectionHead(wide[-1], classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        missing = [(want - have) for have, want in zip(images.shape[2:], self.size, strict=True)]
        pad = [part for gap in reversed(missing) for part in (gap // 2, gap - gap // 2)]
        x = self.stem(channels_last(fold_patches(functional.pad(images, pad, value=-1.0), self.patch)))
        x = self.stages[0](x)
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(transition(averaged(x, 2)))
        logits: Tensor = self.head((x * self.basis).flatten(2).sum(2), labels)
        return logits


def _grid(size: tuple[int, ...], patch: int) -> tuple[int, tuple[int, ...]]:
    """Doublings and coarsest grid of the patches that cover `size`."""
    return starting_grid(size, "r3gan", patch)


def networks(settings: Settings, spec: ImageSpec) -> Networks:
    """Generator and discriminator for images of `spec`."""
    options = (settings.latent, settings.width, settings.widest, settings.blocks, settings.patch, settings.slope)
    channels, classes = len(spec.channels), classes_of(spec)
    return {
        "generator": Generator(options, channels, spec.size, classes),
        "discriminator": Discriminator(options, channels, spec.size, classes),
    }
