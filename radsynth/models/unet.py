"""U-Net (Ronneberger et al. 2015) of residual blocks on patches: image to image, any size, with a patch discriminator.

No layer normalises over space, so that the result at a pixel depends on its neighbourhood alone and large images can
be done in tiles. Residual branches begin at zero instead (Zhang et al. 2019, Fixup).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.models._blocks import CONVOLUTION, fold_patches, unfold_patches
from radsynth.models._patch import PatchDiscriminator
from radsynth.settings import settings

TAKES = "image"


@settings
class Settings:
    """Residual U-Net for tasks from image to image, with a discriminator of patches."""

    kind: Literal["unet"] = "unet"
    width: PositiveInt = 32
    """Channels at the finest level; they double at each halving."""
    patch: Literal[1, 2, 4] = 2
    """Side in pixels of the patches that the finest level works on; 1 is slower and no better on a CPU."""
    halvings: int = Field(2, ge=0, le=5)
    """How often the grid is halved below the finest level."""
    blocks: int = Field(1, ge=1, le=100)
    """Residual blocks at each level, on the way down and on the way up."""
    discriminator_width: PositiveInt = 32
    """Channels of the discriminator's first layer; they double at each halving."""
    discriminator_halvings: int = Field(3, ge=1, le=5)
    """How often the discriminator halves the grid: with 3, a logit sees 54 x 54 pixels."""


class Block(nn.Module):
    """x + two 3x3 convolutions of x; at the beginning the identity, because the second one's weights are zero."""

    def __init__(self, width: int, dimensions: int) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        self.first, self.second = convolution(width, width, 3, 1, 1), convolution(width, width, 3, 1, 1)
        nn.init.kaiming_normal_(self.first.weight, a=0.2)
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Tensor) -> Tensor:
        changed = self.second(functional.leaky_relu(self.first(functional.leaky_relu(features, 0.2)), 0.2))
        result: Tensor = features + changed
        return result


class UNet(nn.Module):
    """Images (n, inputs, *space) to (n, outputs, *space), linear. The last layer begins at zero.

    A task that corrects its input adds the result to it. size: sides of the training's images; others may come.
    reach, stride, widths: see `radsynth.models`.
    """

    def __init__(self, inputs: int, outputs: int, size: tuple[int, ...], width: int, patch: int, halvings: int,
                 blocks: int) -> None:
        super().__init__()
        dimensions, self.size = len(size), size
        convolution, widths = CONVOLUTION[dimensions], [width * 2**level for level in range(halvings + 1)]
        self.patch, self.stride, self.widths = patch, patch * 2**halvings, tuple(widths)
        self.reach = _reach(patch, halvings, blocks)
        self.enter = convolution(inputs * patch**dimensions, width, 3, 1, 1)
        self.down = nn.ModuleList(_blocks(blocks, w, dimensions) for w in widths)
        self.halve = nn.ModuleList(convolution(w, 2 * w, 2, 2) for w in widths[:-1])
        self.widen = nn.ModuleList(convolution(2 * w, w, 1) for w in widths[:-1])
        self.up = nn.ModuleList(_blocks(blocks, w, dimensions) for w in widths[:-1])
        self.leave = convolution(width, outputs * patch**dimensions, 3, 1, 1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, images: Tensor, encode: bool = False) -> Tensor | list[Tensor]:
        space = images.shape[2:]
        # With the background at 0 instead of -1, the zeros that convolutions pad with are background.
        features = self.enter(fold_patches(pad_to(images + 1, self.stride, self.size), self.patch))
        kept = []
        for level, blocks in enumerate(self.down):
            features = blocks(features)
            kept.append(features)
            if level < len(self.halve):
                features = self.halve[level](features)
        if encode:
            return kept
        for level in reversed(range(len(self.up))):
            # The wide half goes through a 1x1 convolution before it is enlarged: a quarter of the arithmetic.
            coarse = functional.interpolate(self.widen[level](features), scale_factor=2.0, mode="nearest")
            features = self.up[level](kept[level] + coarse)
        made = unfold_patches(self.leave(functional.leaky_relu(features, 0.2)), self.patch)
        return made[(slice(None), slice(None), *(slice(side) for side in space))]


def pad_to(images: Tensor, stride: int, trained: tuple[int, ...]) -> Tensor:
    """(n, c, *space) with the last pixels repeated at the ends until every side is a multiple of `stride`.

    trained: sides of the training's images. Never fewer pixels than these had are added: a network that never met
    the zeros of its convolutions so near to an end draws a false edge there.
    """
    least = [-side % stride for side in trained]
    missing = [few + (-side - few) % stride for side, few in zip(images.shape[2:], least, strict=True)]
    if not any(missing):
        return images
    ends = [amount for lack in reversed(missing) for amount in (0, lack)]
    return functional.pad(images, ends, mode="replicate")


def _blocks(count: int, width: int, dimensions: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width, dimensions) for _ in range(count)))


def _reach(patch: int, halvings: int, blocks: int) -> int:
    """Pixels: a 3x3 convolution on patches of s pixels reaches s further; to find one's patch costs the coarsest."""
    scales: list[int] = [patch * 2**level for level in range(halvings + 1)]
    convolutions: int = 4 * blocks * sum(scales[:-1]) + 2 * blocks * scales[-1] + 2 * patch
    return convolutions + scales[-1]


def networks(settings: Settings, spec: ImageSpec, source: ImageSpec, judges: int) -> Networks:
    """Generator from `source` to `spec`, and a discriminator of `judges` channels."""
    generator = UNet(len(source.channels), len(spec.channels), spec.size, settings.width, settings.patch,
                     settings.halvings, settings.blocks)
    discriminator = PatchDiscriminator(judges, settings.discriminator_width, settings.discriminator_halvings, spec.size)
    return {"generator": generator, "discriminator": discriminator}
