"""Principal coordinates as styles: a linear encoder that does not learn (GLO's codes, Bojanowski et al. 2018).

Codes of training images have mean 0 and variance 1 in every direction, as the noise has that new styles are drawn from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from radsynth.models._averages import averaged

COARSE = 32
"""Longest side in pixels on which principal directions are taken: a blurred picture is all that is asked for."""


def shrunken(images: Tensor, longest: int = COARSE) -> Tensor:
    """Images (n, c, *space) as (n, pixels), so many along their longest side at most."""
    step = max(1, -(-max(images.shape[2:]) // longest))
    box = [min(step, side) for side in images.shape[2:]]  # few slices may be fewer than that
    return averaged(images, box, rest=True).flatten(1) if step > 1 else images.flatten(1)


class PrincipalEncoder(nn.Module):
    """Images (n, c, *space) of one size to (n, 2, latent) in fp32: means and log variances of their styles. A style is
    known exactly, so its variance is 0; it is as long as noise is in the mean, whatever the image."""

    mean: Tensor
    directions: Tensor

    def __init__(self, channels: int, latent: int, size: tuple[int, ...]) -> None:
        super().__init__()
        pixels = shrunken(torch.zeros(1, channels, *size)).shape[1]
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("directions", torch.zeros(pixels, latent))

    def take(self, mean: Tensor, directions: Tensor) -> None:
        """Encode by these principal directions (pixels, latent) around this mean image (pixels,)."""
        self.mean.copy_(mean)
        self.directions.copy_(directions)

    def codes(self, pixels: Tensor) -> Tensor:
        """(n, latent) of shrunken images (n, pixels)."""
        found = (pixels - self.mean) @ self.directions
        # On the sphere, so that no image is painted more strongly only because it is a rare one.
        return functional.normalize(found, dim=1) * math.sqrt(found.shape[1])

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            codes = self.codes(shrunken(images.float()))
        return torch.stack([codes, torch.full_like(codes, -math.inf)], dim=1)
