"""ProGAN (Karras et al. 2018): both networks grow from 4 pixels a side, each new resolution fading in; 2-D and 3-D.

Where training is stands in the buffer `progress`, which the training loop sets and which is saved with the weights:
so resuming and sampling see the network as large as it was. A new network is fully grown until it is told otherwise.
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
from radsynth.models._blocks import LatentCondition, ProjectionHead, classes_of, crop, starting_grid, widths
from radsynth.models._equalised import (
    EqualisedConvolution,
    EqualisedLinear,
    halve,
    pixel_norm,
    with_deviation,
)
from radsynth.settings import settings


@settings
class Settings:
    """Networks that grow with training, from coarse to fine; task.loss=wasserstein with task.penalty=wgan_gp in the
    paper."""

    kind: Literal["progressive"] = "progressive"
    latent: PositiveInt = 128
    """Length of the latent vector."""
    width: PositiveInt = 16
    """Channels at the full resolution; they double at each halving."""
    widest: PositiveInt = 256
    """Upper limit of the channels."""
    growing: float = Field(0.6, ge=0, le=1)
    """Share of training in which the networks grow, the same for each resolution: half fading in, half settling."""


class Fading(nn.Module):
    """What both networks know of growth: `levels` doublings, of which each fades in after the one before."""

    progress: Tensor

    def __init__(self, levels: int, growing: float) -> None:
        super().__init__()
        self.levels, self.growing = levels, growing
        self.register_buffer("progress", torch.ones(()))

    def advance(self, progress: float) -> None:
        """Tell the network how much of training is done, 0 to 1."""
        self.progress.fill_(progress)

    def fades(self) -> list[float]:
        """How far each level has faded in, 0 to 1, coarsest first; levels that have not begun are left out."""
        done = self.levels + 1.0
        if self.growing > 0:
            done *= min(1.0, float(self.progress) / self.growing)
        faded = [min(1.0, 2 * (done - level)) for level in range(1, self.levels + 1)]
        return [fade for fade in faded if fade > 0]


class Pair(nn.Module):
    """Two convolutions, each with LeakyReLU 0.2 and, in the generator, the pixel norm."""

    def __init__(self, inputs: int, middle: int, outputs: int, dimensions: int, norm: bool) -> None:
        super().__init__()
        self.first = EqualisedConvolution(inputs, middle, 3, dimensions)
        self.second = EqualisedConvolution(middle, outputs, 3, dimensions)
        self.activate = _activate if norm else _leak

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.second(self.activate(self.first(x))))


class Generator(Fading):
    """Latent (n, latent) to images (n, c, *space) in [-1, 1]."""

    def __init__(
        self, latent: int, width: int, widest: int, channels: int, size: tuple[int, ...], classes: int, growing: float
    ) -> None:
        levels, grid = starting_grid(size, "progressive")
        super().__init__(levels, growing)
        self.latent, self.size, self.grid = latent, size, grid
        dimensions, wide = len(size), widths(width, widest, levels)
        self.condition = LatentCondition(classes, latent)
        self.project = EqualisedLinear(latent, wide[0] * math.prod(grid))
        self.first = EqualisedConvolution(wide[0], wide[0], 3, dimensions)
        self.blocks = nn.ModuleList(
            Pair(coarse, fine, fine, dimensions, norm=True)
            for coarse, fine in pairwise(wide)
        )
        self.to_image = nn.ModuleList(EqualisedConvolution(n, channels, 1, dimensions, gain=1.0) for n in wide)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        start = self.project(pixel_norm(self.condition(latent, labels))).unflatten(1, (-1, *self.grid))
        x = _activate(channels_last(start))
        x = _activate(self.first(x))
        image: Tensor = self.to_image[0](x).float()
        fades = self.fades()
        for fade, block, to_image in zip(fades, self.blocks, list(self.to_image)[1:], strict=False):
            x = block(functional.interpolate(x, scale_factor=2, mode="nearest"))
            coarse = functional.interpolate(image, scale_factor=2, mode="nearest")
            # The paper's figure 2: (1 - a) * the coarser image, enlarged, + a * the new layer's image.
            image = torch.lerp(coarse, to_image(x).float(), fade)
        if len(fades) < self.levels:
            image = functional.interpolate(image, scale_factor=2 ** (self.levels - len(fades)), mode="nearest")
        return torch.tanh(crop(image, self.size))


class Discriminator(Fading):
    """Images (n, c, *space) to logits (n,)."""

    def __init__(
        self, width: int, widest: int, channels: int, size: tuple[int, ...], classes: int, growing: float
    ) -> None:
        levels, grid = starting_grid(size, "progressive")
        super().__init__(levels, growing)
        dimensions, wide = len(size), widths(width, widest, levels)
        self.from_image = nn.ModuleList(EqualisedConvolution(channels, n, 1, dimensions) for n in wide)
        self.blocks = nn.ModuleList(
            Pair(fine, fine, coarse, dimensions, norm=False)
            for coarse, fine in pairwise(wide)
        )
        self.last = EqualisedConvolution(wide[0] + 1, wide[0], 3, dimensions)
        self.project = EqualisedLinear(wide[0] * math.prod(grid), wide[0])
        self.head = ProjectionHead(wide[0], classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        fades = self.fades()
        for _ in range(self.levels - len(fades)):
            images = halve(images)
        x = _leak(self.from_image[len(fades)](channels_last(images)))
        for level in range(len(fades), 0, -1):
            x, images = halve(self.blocks[level - 1](x)), halve(images)
            coarse = _leak(self.from_image[level - 1](images))
            x = torch.lerp(coarse, x, fades[level - 1])
        x = _leak(self.last(with_deviation(x)))
        logits: Tensor = self.head(_leak(self.project(x.flatten(1))), labels)
        return logits


def _leak(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


def _activate(x: Tensor) -> Tensor:
    return pixel_norm(_leak(x))


def networks(settings: Settings, spec: ImageSpec) -> Networks:
    """Generator and discriminator for images of `spec`."""
    channels, classes = len(spec.channels), classes_of(spec)
    shape = (settings.width, settings.widest, channels, spec.size, classes, settings.growing)
    return {"generator": Generator(settings.latent, *shape), "discriminator": Discriminator(*shape)}
