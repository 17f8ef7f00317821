"""SNGAN (Miyato et al. 2018): one strided convolution a resolution, spectral normalisation in the discriminator.

The shape is DCGAN's, because on a CPU every further pass over full-resolution memory costs more than it brings; the
layers are thin, because twice as many images in the same time win. The generator may have residual convolutions (He et
al. 2016) on its coarse grids, where they cost little. See docs/benchmarks-quality.md.
"""

from __future__ import annotations

import math
from itertools import chain, pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from radsynth.device import channels_last
from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.models._background import Background
from radsynth.models._blocks import (
    BATCH_NORM,
    CONVOLUTION,
    Doubling,
    LatentCondition,
    classes_of,
    crop,
    starting_grid,
    widths,
)
from radsynth.models._greys import Greys
from radsynth.models._products import HALVING
from radsynth.models._spectral import spectral_norm
from radsynth.settings import settings

DISCRIMINATOR_NORM = "spectral"
CLASS_STD = 0.05
"""Standard deviation of what stands for a class in a latent, at first: it may grow, and as large as the latents' own it
left images of a class half of the variety (docs/lab-notebook.md)."""
COARSE = 24
"""Longest side in pixels of a grid with residual convolutions: 8 and 16 px of an image of 64."""


@settings
class Settings:
    """Thin strided convolutions under spectral normalisation: the best in minutes on a CPU, with the hinge loss."""

    kind: Literal["sngan"] = "sngan"
    latent: PositiveInt = 128
    """Length of the latent vector."""
    width: PositiveInt = 32
    """Channels at half the full resolution; they double at each halving."""
    widest_generator: PositiveInt = 192
    """Upper limit of the generator's channels."""
    widest_discriminator: PositiveInt = 256
    """Upper limit of the discriminator's channels."""
    residual: int = Field(0, ge=0, le=100)
    """Residual 3x3 convolutions of the generator on each doubled grid of up to 24 pixels a side."""
    discriminator_convolutions: int = Field(0, ge=0, le=100)
    """Further 3x3 convolutions of the discriminator on its coarsest grid."""


class Residual(nn.Module):
    """A small correction of features (n, width, *space), made of these normalised and rectified."""

    def __init__(self, width: int, dimensions: int) -> None:
        super().__init__()
        self.norm = BATCH_NORM[dimensions](width)
        self.convolution = CONVOLUTION[dimensions](width, width, 3, padding=1, bias=False)
        nn.init.normal_(self.convolution.weight, std=0.3 * (3**dimensions * width) ** -0.5)

    def forward(self, features: Tensor) -> Tensor:
        corrected: Tensor = features + self.convolution(functional.relu(self.norm(features)))
        return corrected


class Generator(nn.Module):
    """Latent (n, latent) to images (n, c, *space) in [-1, 1].

    Starts from the mean image where `set_mean` is called, keeps a flat `background` flat where that is set, and draws
    in the unit of `greys` where that is.
    """

    def __init__(
        self, latent: int, width: int, widest: int, residual: int, channels: int, size: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.latent, self.size = latent, size
        dimensions = len(size)
        levels, self.grid = starting_grid(size, "sngan")
        wide = widths(width, widest, levels - 1)
        norm = BATCH_NORM[dimensions]
        self.condition = LatentCondition(classes, latent, CLASS_STD)
        self.project = nn.Linear(latent, wide[0] * math.prod(self.grid), bias=False)
        nn.init.normal_(self.project.weight, std=latent**-0.5)
        layers: list[nn.Module] = [norm(wide[0]), nn.ReLU()]
        for doublings, (coarse, fine) in enumerate(pairwise(wide), 1):
            small = max(self.grid) * 2**doublings <= COARSE
            corrections = [Residual(fine, dimensions) for _ in range(residual if small else 0)]
            layers += [Doubling(coarse, fine, dimensions), *corrections, norm(fine), nn.ReLU()]
        self.layers = nn.Sequential(*layers, Doubling(wide[-1], channels, dimensions, gain=0.25))
        self.mean = nn.Parameter(torch.zeros(max(classes, 1), channels, *size))
        self.background, self.greys = Background(classes, channels), Greys(classes, channels)

    @torch.no_grad()
    def set_mean(self, images: Tensor) -> None:
        """Start from these mean images (classes or 1, c, *space): backgrounds are right from the first step."""
        greys = self.greys(images, torch.arange(len(images), device=images.device))
        self.mean.copy_(torch.atanh(greys.clamp(-0.97, 0.97)))

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        # On the sphere, so that no image is larger than the others only because its latent is.
        latent = functional.normalize(self.condition(latent, labels), dim=1) * self.latent**0.5
        grid = self.project(latent).unflatten(1, (-1, *self.grid))
        images = crop(self.layers(channels_last(grid)), self.size)
        mean = self.mean if len(self.mean) == 1 else self.mean[labels]
        return self.greys.back(torch.tanh(self.background(images.float() + mean, labels)), labels)


class Discriminator(nn.Module):
    """Images (n, c, *space) to logits (n,) by convolutions 4x4, stride 2, and some 3x3 where these end, all spectrally
    normalised; sees `greys`."""

    def __init__(
        self, width: int, widest: int, further: int, channels: int, size: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        levels, _ = starting_grid(size, "sngan")
        self.size = tuple(math.ceil(side / 2**levels) * 2**levels for side in size)
        wide = [channels, *widths(width, widest, levels - 1)[::-1]]
        halving = (HALVING[len(size)](fine, coarse) for fine, coarse in pairwise(wide))
        coarsest = (CONVOLUTION[len(size)](wide[-1], wide[-1], 3, padding=1) for _ in range(further))
        layers: list[nn.Module] = []
        for convolution in chain(halving, coarsest):
            nn.init.kaiming_normal_(convolution.weight, 0.2)
            nn.init.zeros_(convolution.bias)
            layers += [spectral_norm(convolution), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.greys = Greys(classes, channels)
        # One output a class, of which the image's own counts: bounded like every layer, where the embedding of a class
        # projection is not, and then lets the classes collapse (docs/lab-notebook.md).
        grid = math.prod(side // 2**levels for side in self.size)
        self.linear = spectral_norm(nn.Linear(wide[-1] * grid, max(classes, 1)))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.greys(images, labels)
        gaps = [want - have for have, want in zip(images.shape[2:], self.size, strict=True)]
        pad = [part for gap in reversed(gaps) for part in (gap // 2, gap - gap // 2)]
        features = self.layers(channels_last(functional.pad(images, pad, mode="replicate") if any(pad) else images))
        # In fp32: differences of logits are taken, and bf16 keeps 8 bits of them.
        with torch.autocast(images.device.type, enabled=False):
            # Both in the order of channels-last memory, so that the gradient is laid out as the features are.
            weight = self.linear.weight.view(-1, *features.shape[1:]).movedim(1, -1).flatten(1)
            logits = functional.linear(features.movedim(1, -1).flatten(1).float(), weight, self.linear.bias)
            return logits[:, 0] if logits.shape[1] == 1 else logits.gather(1, _present(labels)[:, None])[:, 0]


def _present(labels: Tensor | None) -> Tensor:
    assert labels is not None, "a class-conditional discriminator needs labels"
    return labels


def networks(settings: Settings, spec: ImageSpec) -> Networks:
    """Generator and discriminator for images of `spec`."""
    channels, classes = len(spec.channels), classes_of(spec)
    return {
        "generator": Generator(
            settings.latent, settings.width, settings.widest_generator, settings.residual, channels, spec.size, classes
        ),
        "discriminator": Discriminator(
            settings.width, settings.widest_discriminator, settings.discriminator_convolutions, channels,
            spec.size, classes,
        ),
    }
