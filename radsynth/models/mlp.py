"""The survey's multilayer-perceptron GAN: generator 100-256-512-1024-pixels, discriminator pixels-512-256-1."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.models._blocks import LatentCondition, ProjectionHead, classes_of
from radsynth.settings import settings


@settings
class Settings:
    """A multilayer perceptron: the survey's example, for comparison and for tiny images."""

    kind: Literal["mlp"] = "mlp"
    latent: PositiveInt = 100
    """Length of the latent vector."""


class Generator(nn.Module):
    """Latent (n, latent) to images (n, c, *space) in [-1, 1]; LeakyReLU 0.2 between the layers, tanh at the end."""

    def __init__(self, latent: int, channels: int, size: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.latent = latent
        self.condition = LatentCondition(classes, latent)
        widths = (latent, 256, 512, 1024)
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Linear(narrow, wide), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], channels * math.prod(size)), nn.Tanh())
        self.shape = (channels, *size)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.layers(self.condition(latent, labels))
        return images.view(-1, *self.shape)


class Discriminator(nn.Module):
    """Images (n, c, *space) to logits (n,). The logistic function belongs to the loss, not to the network."""

    def __init__(self, channels: int, size: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * math.prod(size), 512), nn.LeakyReLU(0.2),
            nn.Linear(512, 256), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.head = ProjectionHead(256, classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self.layers(images), labels)
        return logits


def networks(settings: Settings, spec: ImageSpec) -> Networks:
    """Generator and discriminator for images of `spec`."""
    channels, classes = len(spec.channels), classes_of(spec)
    return {
        "generator": Generator(settings.latent, channels, spec.size, classes),
        "discriminator": Discriminator(channels, spec.size, classes),
    }
