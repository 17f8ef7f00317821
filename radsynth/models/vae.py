"""Convolutional variational autoencoder (Kingma and Welling 2014): an encoder, and a decoder that is the generator."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from radsynth.device import channels_last
from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.models._blocks import CONVOLUTION, LatentCondition, classes_of, crop, starting_grid, widths
from radsynth.settings import settings

TAKES = "code"


@settings
class Settings:
    """Encoder and decoder: stable, varied, and blurred; the comparison for generative adversarial networks."""

    kind: Literal["vae"] = "vae"
    latent: PositiveInt = 64
    """Length of the latent vector."""
    width: PositiveInt = 32
    """Channels at half the full resolution; they double at each halving."""
    widest: PositiveInt = 256
    """Upper limit of the channels."""


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


class Encoder(nn.Module):
    """Images (n, c, *space) in [-1, 1] to means and log variances (n, 2, latent) of their codes, in fp32."""

    def __init__(
        self, latent: int, width: int, widest: int, channels: int, size: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        levels, grid = starting_grid(size, "vae")
        convolution = CONVOLUTION[len(size)]
        self.padded = tuple(side * 2**levels for side in grid)
        layers: list[nn.Module] = []
        wide = widths(width, widest, levels - 1)[::-1]
        for fine, coarse in pairwise([channels, *wide]):
            layers += [convolution(fine, coarse, 4, 2, 1), _norm(coarse), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        features = wide[-1] * math.prod(grid)
        self.condition = LatentCondition(classes, features)
        self.head = nn.Linear(features, 2 * latent)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        gaps = [want - have for have, want in zip(images.shape[2:], self.padded, strict=True)]
        pad = [part for gap in reversed(gaps) for part in (gap // 2, gap - gap // 2)]
        features = self.condition(self.layers(channels_last(functional.pad(images, pad, value=-1.0))), labels)
        with torch.autocast(images.device.type, enabled=False):
            code: Tensor = self.head(features.float())
            return code.view(len(images), 2, -1)


class Generator(nn.Module):
    """The decoder: codes (n, latent) to images (n, c, *space) in [-1, 1]."""

    def __init__(
        self, latent: int, width: int, widest: int, channels: int, size: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.latent, self.size = latent, size
        levels, self.grid = starting_grid(size, "vae")
        convolution = CONVOLUTION[len(size)]
        wide = widths(width, widest, levels - 1)
        self.condition = LatentCondition(classes, latent)
        self.project = nn.Linear(latent, wide[0] * math.prod(self.grid))
        layers: list[nn.Module] = [_norm(wide[0]), nn.SiLU()]
        # Nearest neighbours and a convolution: transposed convolutions would leave a checkerboard.
        for coarse, fine in pairwise([*wide, wide[-1]]):
            layers += [nn.Upsample(scale_factor=2), convolution(coarse, fine, 3, 1, 1), _norm(fine), nn.SiLU()]
        self.layers = nn.Sequential(*layers, convolution(wide[-1], channels, 3, 1, 1))

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        grid = self.project(self.condition(latent, labels)).unflatten(1, (-1, *self.grid))
        return torch.tanh(crop(self.layers(channels_last(grid)), self.size).float())


def networks(settings: Settings, spec: ImageSpec) -> Networks:
    """Encoder and generator for images of `spec`."""
    shape = (settings.latent, settings.width, settings.widest, len(spec.channels), spec.size, classes_of(spec))
    return {"encoder": Encoder(*shape), "generator": Generator(*shape)}
