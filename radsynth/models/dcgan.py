"""DCGAN (Radford, Metz and Chintala 2016): strided convolutions, batch normalisation, any size, 2-D and 3-D."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.models._blocks import (
    BATCH_NORM,
    CONVOLUTION,
    TRANSPOSED,
    LatentCondition,
    ProjectionHead,
    classes_of,
    crop,
    initialise_normal,
    starting_grid,
    widths,
)
from radsynth.models._spectral import spectral_norm
from radsynth.settings import settings


@settings
class Settings:
    """Strided convolutions with batch normalisation: the classic, quick to show structure."""

    kind: Literal["dcgan"] = "dcgan"
    latent: PositiveInt = 100
    """Length of the latent vector."""
    width: PositiveInt = 64
    """Channels at half the full resolution; they double at each halving."""
    widest: PositiveInt = 512
    """Upper limit of the channels."""
    discriminator_norm: Literal["batch", "spectral", "none"] = "batch"
    """Normalisation in the discriminator: of batches, of weights by their largest singular value, or none. Gradient
    penalties cannot be taken through "batch", which mixes images."""


class Generator(nn.Module):
    """Latent (n, latent) to images (n, c, *space) in [-1, 1] by transposed convolutions 4x4, stride 2."""

    def __init__(
        self, latent: int, width: int, widest: int, channels: int, size: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.latent, self.size = latent, size
        dimensions = len(size)
        levels, self.grid = starting_grid(size, "dcgan")
        wide = widths(width, widest, levels - 1)
        transposed, norm = TRANSPOSED[dimensions], BATCH_NORM[dimensions]
        self.condition = LatentCondition(classes, latent)
        self.project = nn.Linear(latent, wide[0] * math.prod(self.grid))
        layers: list[nn.Module] = [norm(wide[0]), nn.ReLU()]
        for coarse, fine in pairwise(wide):
            layers += [transposed(coarse, fine, 4, 2, 1, bias=False), norm(fine), nn.ReLU()]
        self.layers = nn.Sequential(*layers, transposed(wide[-1], channels, 4, 2, 1), nn.Tanh())
        initialise_normal(self)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        grid = self.project(self.condition(latent, labels)).unflatten(1, (-1, *self.grid))
        return crop(self.layers(grid), self.size)


class Discriminator(nn.Module):
    """Images (n, c, *space) to logits (n,) by convolutions 4x4, stride 2, LeakyReLU 0.2."""

    def __init__(
        self, width: int, widest: int, channels: int, size: tuple[int, ...], classes: int,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        dimensions, batch_norm = len(size), norm == "batch"
        levels, _ = starting_grid(size, "dcgan")
        wide = widths(width, widest, levels - 1)[::-1]
        convolution = CONVOLUTION[dimensions]
        # No normalisation in the first layer, as in the paper.
        layers: list[nn.Module] = [convolution(channels, wide[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for fine, coarse in pairwise(wide):
            layers += [convolution(fine, coarse, 4, 2, 1, bias=not batch_norm)]
            layers += [BATCH_NORM[dimensions](coarse)] if batch_norm else []
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        grid = size
        for _ in range(levels):
            grid = tuple(side // 2 for side in grid)
        self.head = ProjectionHead(wide[-1] * math.prod(grid), classes)
        initialise_normal(self)
        if norm == "spectral":  # Miyato et al. 2018, eq. 8: W / sigma(W) for every layer
            for layer in [*self.layers, self.head.linear, self.head.embedding]:  # or the classes' part has no bound
                if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)):
                    spectral_norm(layer)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self.layers(images), labels)
        return logits


def networks(settings: Settings, spec: ImageSpec) -> Networks:
    """Generator and discriminator for images of `spec`."""
    channels, classes = len(spec.channels), classes_of(spec)
    limits = (settings.width, settings.widest)
    return {
        "generator": Generator(settings.latent, *limits, channels, spec.size, classes),
        "discriminator": Discriminator(*limits, channels, spec.size, classes, settings.discriminator_norm),
    }
