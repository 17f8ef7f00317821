"""What several networks share: layers for 2 and 3 dimensions, the grid a size starts from, class conditions."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.models._products import as_product, doubled, thin, thinly_doubled
from radsynth.models._volumes import Convolution3d

CONVOLUTION: dict[int, Any] = {2: nn.Conv2d, 3: Convolution3d}  # Any: the two want tuples of other lengths
TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MODE = {2: "bilinear", 3: "trilinear"}
SMALLEST = 4
"""Patches along each side of the grid from which doublings begin."""


def starting_grid(size: tuple[int, ...], kind: str, patch: int = 1) -> tuple[int, tuple[int, ...]]:
    """How many doublings lead to `size` (in patches), and from which grid: each side of it is at least SMALLEST.

    The doubled grid covers `size` and may exceed it: generators crop to it. SettingsError for sides below 8 pixels or
    SMALLEST patches.
    """
    least = max(8, SMALLEST * patch)
    if min(size) < least:
        raise SettingsError(
            f"model.kind={kind} cannot make images of {'x'.join(map(str, size))}: each side needs at least "
            f"{least} pixels. Choose a larger prepare.size, or, for images from noise, model.kind=mlp."
        )
    size = tuple(math.ceil(side / patch) for side in size)
    doublings = int(math.log2(min(size) / SMALLEST))
    return doublings, tuple(math.ceil(side / 2**doublings) for side in size)


class Doubling(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution in one transposed 4x4 convolution (Karras et al. 2018).

    Every output pixel sees as many weights as every other, so that there is no checkerboard, at a quarter of the cost
    of convolving the doubled image. (n, inputs, *space) -> (n, outputs, *space * 2), without bias.
    """

    def __init__(self, inputs: int, outputs: int, dimensions: int, gain: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs, *[3] * dimensions))
        nn.init.normal_(self.weight, std=math.sqrt(gain / (inputs * 3**dimensions)))

    def forward(self, x: Tensor) -> Tensor:
        # One product with a constant matrix, in the order of channels-last memory: (inputs, 4^d, outputs).
        sides = [4] * (self.weight.ndim - 2)
        wide = _widening(len(sides), self.weight.device, self.weight.dtype) @ self.weight.movedim(1, -1).flatten(1, -2)
        weight = wide.view(len(wide), *sides, -1).movedim(-1, 1)
        if as_product(x, x[:, 0].numel()):
            return doubled(x, weight)
        if thin(x, weight.shape[1]):
            return thinly_doubled(x.to(torch.bfloat16), weight)
        transpose = functional.conv_transpose2d if x.ndim == 4 else functional.conv_transpose3d
        return transpose(x, weight, stride=2, padding=1)


@functools.cache
@torch.inference_mode(False)  # it is kept, and a later training needs it
def _widening(dimensions: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(4^d, 3^d): along each axis a kernel (a, b, c) becomes (a, a + b, b + c, c)."""
    line = torch.eye(4, 3) + torch.eye(4, 3).roll(1, dims=0)
    matrix = line
    for _ in range(dimensions - 1):
        matrix = torch.kron(matrix, line)
    return matrix.to(device, dtype)


def unfold_patches(x: Tensor, patch: int) -> Tensor:
    """(n, c * patch^d, *space) -> (n, c, *space * patch): pixels out of channels, in 2 or 3 dimensions."""
    if patch == 1:
        return x
    if x.ndim == 4:
        return functional.pixel_shuffle(x, patch)
    n, c, depth, height, width = x.shape
    parts = x.reshape(n, c // patch**3, patch, patch, patch, depth, height, width).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(n, c // patch**3, depth * patch, height * patch, width * patch)


def fold_patches(x: Tensor, patch: int) -> Tensor:
    """(n, c, *space) -> (n, c * patch^d, *space / patch): the inverse of `unfold_patches`."""
    if patch == 1:
        return x
    if x.ndim == 4:
        return functional.pixel_unshuffle(x, patch)
    n, c, *space = x.shape
    depth, height, width = (side // patch for side in space)
    parts = x.reshape(n, c, depth, patch, height, patch, width, patch).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return parts.reshape(n, c * patch**3, depth, height, width)


def widths(width: int, widest: int, levels: int) -> list[int]:
    """Channels from the coarsest resolution to the finest, `levels` doublings later; `width` at the finest."""
    return [min(widest, width * 2**level) for level in reversed(range(levels + 1))]


def crop(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """The centre of (n, c, *larger) as (n, c, *size)."""
    if tuple(images.shape[2:]) == size:
        return images
    starts = [(have - want) // 2 for have, want in zip(images.shape[2:], size, strict=True)]
    where = [slice(start, start + want) for start, want in zip(starts, size, strict=True)]
    return images[(slice(None), slice(None), *where)]


class LatentCondition(nn.Module):
    """Adds a learned vector of the class to the latent (n, latent); the identity without classes.

    std: of these vectors at first, where a latent's numbers have 1
    """

    def __init__(self, classes: int, latent: int, std: float = 1.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, latent) if classes else None
        if self.embedding is not None:
            with torch.no_grad():
                self.embedding.weight.mul_(std)

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        if self.embedding is None:
            return latent
        assert labels is not None, "a class-conditional generator needs labels"
        conditioned: Tensor = latent + self.embedding(labels)
        return conditioned


class ProjectionHead(nn.Module):
    """Logits (n,) from features (n, d): linear, plus the class projection of Miyato and Koyama 2018, eq. 3."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.embedding = nn.Embedding(classes, features) if classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=features**-0.5)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        # In fp32: differences of logits are taken, and bf16 keeps 8 bits of them.
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            logits: Tensor = self.linear(features).squeeze(1)
            if self.embedding is None:
                return logits
            assert labels is not None, "a class-conditional discriminator needs labels"
            projected: Tensor = (self.embedding(labels) * features).sum(1)
            return logits + projected


def classes_of(spec: ImageSpec) -> int:
    """Number of classes that networks are conditioned on: none for fewer than two labels."""
    return len(spec.labels) if len(spec.labels) > 1 else 0


def initialise_normal(module: nn.Module) -> None:
    """Weights of convolutions and linear layers from N(0, 0.02^2), biases 0 (Radford et al. 2016)."""
    for layer in module.modules():
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
