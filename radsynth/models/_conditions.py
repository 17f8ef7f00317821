"""Numbers that images are learned with (age, spacing, place of a slice), for every network that takes noise.

The generator's noise gets a learned vector of the numbers added. The discriminator sees each number as one more channel
of constant value (Mirza and Osindero 2014): all that limits its slope, such as spectral normalisation, then holds for
the numbers too. Networks need to know nothing of it. Numbers are scaled to [-1, 1] over the training data.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

HIDDEN = 32
"""Width of the layer between the numbers and the vector that is added to the noise."""


class ConditionedGenerator(nn.Module):
    """Noise (n, latent), classes (n,) or None, numbers (n, k) to images. Without numbers: the middle of each."""

    def __init__(self, net: nn.Module, count: int) -> None:
        super().__init__()
        self.net, self.count = net, count
        self.latent = cast(int, net.latent)
        self.vector = nn.Sequential(nn.Linear(count, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, self.latent))

    def set_mean(self, images: Tensor) -> None:
        """As the network's own, which starts from its noise alone where it has none."""
        start = getattr(self.net, "set_mean", None)
        if start is not None:
            start(images)

    def forward(self, latent: Tensor, labels: Tensor | None = None, conditions: Tensor | None = None) -> Tensor:
        if conditions is None:
            conditions = latent.new_zeros(len(latent), self.count)
        images: Tensor = self.net(latent + self.vector(conditions), labels)
        return images


class ConditionedDiscriminator(nn.Module):
    """Images (n, c, *space), classes (n,) or None, numbers (n, k) to logits (n,). `net` takes c + k channels."""

    def __init__(self, net: nn.Module, count: int) -> None:
        super().__init__()
        self.net, self.count = net, count

    def forward(self, images: Tensor, labels: Tensor | None = None, conditions: Tensor | None = None) -> Tensor:
        if conditions is None:
            conditions = images.new_zeros(len(images), self.count)
        planes = conditions.to(images).view(*conditions.shape, *[1] * (images.ndim - 2))
        logits: Tensor = self.net(torch.cat([images, planes.expand(-1, -1, *images.shape[2:])], dim=1), labels)
        return logits
