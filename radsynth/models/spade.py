"""SPADE (Park et al. 2019, GauGAN): a generator that is told at every place, in every layer, what the mask says there.

The trunk is as thin as `sngan`'s, the paper's is made for a GPU. With batch statistics and no others, a pixel depends
on the mask around it and on the style alone: a mask of any size can be painted, also in tiles. The discriminator looks
at patches on several scales, under spectral and instance normalisation.
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
from radsynth.models._blocks import BATCH_NORM, CONVOLUTION, Doubling, crop, fold_patches, starting_grid, widths
from radsynth.models._patch import PatchDiscriminator
from radsynth.models._spectral import spectral_norm
from radsynth.settings import settings

TAKES = "mask"


@settings
class Settings:
    """Spatially-adaptive normalisation, for images from masks; the style comes from noise or from an image."""

    kind: Literal["spade"] = "spade"
    latent: PositiveInt = 64
    """Length of the vector of the style."""
    width: PositiveInt = 32
    """Channels at half the full resolution; they double at each halving."""
    widest: PositiveInt = 192
    """Upper limit of the generator's channels."""
    hidden: PositiveInt = 32
    """Channels between the mask and what it does to the features (128 in the paper)."""
    scales: int = Field(2, ge=1, le=3)
    """Scales that the discriminator looks at: the image, half of it, a quarter of it."""
    discriminator_width: PositiveInt = 32
    """Channels of the discriminator's first layer; they double at each halving."""
    discriminator_halvings: int = Field(3, ge=1, le=5)
    """How often the discriminator halves the grid of each scale: with 3, a logit sees 54 x 54 pixels of it."""


# gamma(m) * (x - mean) / deviation + beta(m), gamma and beta of each place (eq. 1); gamma is learned as 1 + a change.
class Spade(nn.Module):
    """Features (n, f, *space) normalised over the batch, then scaled and shifted at each place by what is given there.

    given: (n, g, *space), the mask on the features' grid
    """

    def __init__(self, features: int, given: int, hidden: int, dimensions: int) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        self.norm = BATCH_NORM[dimensions](features, affine=False)
        self.read, self.change = convolution(given, hidden, 3, 1, 1), convolution(hidden, 2 * features, 3, 1, 1)

    def forward(self, features: Tensor, given: Tensor) -> Tensor:
        scale, shift = self.change(functional.relu(self.read(given))).chunk(2, dim=1)
        changed: Tensor = self.norm(features) * (1 + scale) + shift
        return changed


class Block(nn.Module):
    """The paper's residual block, which doubles the grid: (n, coarse, *space) to (n, fine, *space * 2)."""

    def __init__(self, coarse: int, fine: int, given: int, hidden: int, dimensions: int) -> None:
        super().__init__()
        self.first, self.second = Spade(coarse, given, hidden, dimensions), Spade(fine, given, hidden, dimensions)
        self.widen = Doubling(coarse, fine, dimensions)
        self.refine = CONVOLUTION[dimensions](fine, fine, 3, 1, 1)
        self.skip = CONVOLUTION[dimensions](coarse, fine, 1, bias=False)

    def forward(self, features: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
        changed = self.widen(functional.leaky_relu(self.first(features, coarse), 0.2))
        changed = self.refine(functional.leaky_relu(self.second(changed, fine), 0.2))
        same: Tensor = functional.interpolate(self.skip(features), scale_factor=2.0, mode="nearest")
        result: Tensor = same + changed
        return result


class Encoder(nn.Module):
    """Images (n, c, *space) to (n, 2, latent) in fp32: means and log variances of the style."""

    def __init__(self, channels: int, latent: int, width: int, widest: int, size: tuple[int, ...]) -> None:
        super().__init__()
        levels, grid = starting_grid(size, "spade")
        self.size = tuple(side * 2**levels for side in grid)
        wide = [channels, *widths(width, widest, levels - 1)[::-1]]
        layers: list[nn.Module] = []
        for fine, coarse in pairwise(wide):
            layers += [CONVOLUTION[len(size)](fine, coarse, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(wide[-1] * math.prod(grid), 2 * latent)

    def forward(self, images: Tensor) -> Tensor:
        features = self.layers(channels_last(_filled(images, self.size)))
        with torch.autocast(images.device.type, enabled=False):
            codes: Tensor = self.linear(features.float().flatten(1))
        return codes.view(len(codes), 2, -1)


class Generator(nn.Module):
    """Shares of a mask's classes (n, given, *space) and latents (n, latent) to images (n, c, *space) in [-1, 1].

    The style says what the coarsest grid is like, cell by cell. Where a mask is larger than in training, the outermost
    cells go on; `corner` says which cell the first one is, by default so that both have the same middle.
    """

    def __init__(self, given: int, channels: int, size: tuple[int, ...], latent: int, width: int, widest: int,
                 hidden: int) -> None:
        super().__init__()
        dimensions, self.latent = len(size), latent
        levels, self.grid = starting_grid(size, "spade")
        self.stride = 2**levels
        self.reach = _reach(levels)
        wide = widths(width, widest, levels - 1)
        self.encoder = Encoder(channels, latent, width, widest, size)
        self.project = nn.Linear(latent, wide[0] * math.prod(self.grid))
        self.blocks = nn.ModuleList(
            Block(coarse, fine, given, hidden, dimensions) for coarse, fine in pairwise(wide))
        # On patches of 2 x 2, of which each pixel's class is given: so edges are as sharp as the mask's.
        self.last = Spade(wide[-1], given * 2**dimensions, hidden, dimensions)
        self.leave = Doubling(wide[-1], channels, dimensions, gain=0.25)

    def forward(self, given: Tensor, latents: Tensor, corner: tuple[int, ...] | None = None) -> Tensor:
        space = given.shape[2:]
        given = channels_last(_continued(given, self.stride))
        features = self._style(latents, tuple(side // self.stride for side in given.shape[2:]), corner)
        masks = [averaged(given, self.stride // 2**level) for level in range(len(self.blocks) + 1)]
        for block, (coarse, fine) in zip(self.blocks, pairwise(masks), strict=True):
            features = block(features, coarse, fine)
        features = functional.leaky_relu(self.last(features, channels_last(fold_patches(given, 2))), 0.2)
        images = torch.tanh(self.leave(features).float())
        return images[(slice(None), slice(None), *(slice(side) for side in space))]

    def _style(self, latents: Tensor, cells: tuple[int, ...], corner: tuple[int, ...] | None) -> Tensor:
        """The coarsest features (n, f, *cells) from the cell `corner` on."""
        grid = self.project(latents).unflatten(1, (-1, *self.grid))
        for axis, (have, want) in enumerate(zip(self.grid, cells, strict=True)):
            first = (have - want) // 2 if corner is None else corner[axis]
            if first or have != want:
                places = torch.arange(first, first + want, device=grid.device).clamp(0, have - 1)
                grid = grid.index_select(axis + 2, places)
        return channels_last(grid)


class Discriminator(nn.Module):
    """Images together with their masks (n, channels, *space) to what the layers of each scale find; see the folder."""

    def __init__(self, channels: int, width: int, halvings: int, scales: int, size: tuple[int, ...]) -> None:
        super().__init__()
        sizes = [tuple(math.ceil(side / 2**scale) for side in size) for scale in range(scales)]
        self.judges = nn.ModuleList(PatchDiscriminator(channels, width, halvings, one, normalised=True)
                                    for one in sizes)
        for layer in self.judges.modules():
            if isinstance(layer, nn.modules.conv._ConvNd):
                nn.init.kaiming_normal_(layer.weight, 0.2)
        for judge in self.judges:
            _normalise(judge.layers)  # type: ignore[arg-type]  # torch's stub: a module or a tensor

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        found = []
        for scale, judge in enumerate(self.judges):
            images = averaged(images, 2, rest=True) if scale else images
            found.append(judge.looks(channels_last(images)))  # type: ignore[operator]  # torch's stub: a module
        return found


# Not of the head, so that the logits can reach the margins of the hinge. Each channel is normalised over the image
# besides (instance normalisation, as in the paper): without it nothing but the mask is seen, see docs/lab-notebook.md.
def _normalise(layers: nn.Module) -> None:
    """Spectral normalisation of the convolutions (Miyato et al. 2018)."""
    for layer in list(layers.modules()):
        if isinstance(layer, nn.modules.conv._ConvNd):
            spectral_norm(layer)


def _reach(levels: int) -> int:
    """Pixels: of each grid the mask is read by two 3x3 convolutions, the features by two more, and once half a cell."""
    cells: list[int] = [2**level for level in range(1, levels + 1)]
    return 4 * cells[-1] + 4 * sum(cells)


def _continued(given: Tensor, stride: int) -> Tensor:
    """The last pixels repeated at the ends until every side is a multiple of `stride`."""
    missing = [-side % stride for side in given.shape[2:]]
    ends = [amount for lack in reversed(missing) for amount in (0, lack)]
    return functional.pad(given, ends, mode="replicate") if any(missing) else given


def _filled(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """The middle of (n, c, *space) as (n, c, *size), background (-1) around what is smaller."""
    gaps = [max(0, want - have) for have, want in zip(images.shape[2:], size, strict=True)]
    ends = [part for gap in reversed(gaps) for part in (gap // 2, gap - gap // 2)]
    return crop(functional.pad(images, ends, value=-1.0), size)


def networks(settings: Settings, spec: ImageSpec, source: ImageSpec, judges: int) -> Networks:
    """Generator from masks, `source`, to images, `spec`, and a discriminator of `judges` channels."""
    generator = Generator(len(source.channels), len(spec.channels), spec.size, settings.latent, settings.width,
                          settings.widest, settings.hidden)
    discriminator = Discriminator(judges, settings.discriminator_width, settings.discriminator_halvings,
                                  settings.scales, spec.size)
    return {"generator": generator, "discriminator": discriminator}
