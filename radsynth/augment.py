"""Augmentation of what the discriminator sees, differentiable and the same for real and generated images.

DiffAugment (Zhao et al. 2020) with anatomy in mind: no rotation by 90 degrees, no inversion of grey values, no flip.
Which changes are physically right depends on the modality: `plan` chooses them. All are made of
indexing and arithmetic alone, so that they can be differentiated twice. Every number is drawn from (seed, item) alone.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from radsynth.batch import Batch
from radsynth.settings import settings


@settings
class Settings:
    """Augmentation on the discriminator's side; the generator does not learn it."""

    strength: float = Field(0.0, ge=0, le=1)
    """Share of the images that are augmented, each transform decided on its own. 0 is off; few images need up to 1.
    The training doctor raises it, and ends it where the discriminator tells nothing; train.doctor=false does not.
    Without effect where no discriminator is trained, and in registration."""
    shift: float = Field(0.125, ge=0, le=0.5)
    """Largest shift, as a share of each side."""
    cutout: float = Field(0.3, ge=0, le=0.8)
    """Side of the box that is blanked, as a share of each side."""
    contrast: float = Field(0.2, ge=0, le=0.9)
    """Largest relative change of contrast; brightness moves by half as much."""
    bias: float = Field(0.0, ge=0, le=0.9)
    """Largest relative change of brightness from one border to the other, as the coils of MR make it; 0 is none."""


def augment(images: Tensor, batch: Batch, stream: str, settings: Settings) -> Tensor:
    """Images (n, c, *space) changed at random; `stream` tells real from generated draws.

    The strength is that of the settings, or what the training doctor has prescribed if that is more; after it has ended
    augmentation, what it prescribes alone.
    """
    if not augments(batch, settings):
        return images
    least, planned = batch.augmenting(), _planned(batch, settings)
    strength = least.clamp_min(planned) if isinstance(least, Tensor) else max(planned, least)
    dimensions = images.ndim - 2
    draw = batch.uniform(f"augment/{stream}", 5 + 2 * dimensions)
    used = draw[:, :3] < strength
    images = _contrast(images, used[:, 0] * settings.contrast * (2 * draw[:, 3] - 1),
                       used[:, 0] * settings.contrast * (draw[:, 4] - 0.5))
    if settings.bias:
        slopes = batch.uniform(f"augment/{stream}/bias", 1 + dimensions)
        images = _bias(images, (slopes[:, :1] < strength) * settings.bias * (slopes[:, 1:] - 0.5))
    images = _shift(images, used[:, 1:2] * settings.shift * (2 * draw[:, 5:5 + dimensions] - 1))
    return _cutout(images, used[:, 2], draw[:, 5 + dimensions:], settings.cutout)


def augments(batch: Batch, settings: Settings) -> bool:
    """Whether anything is augmented in this batch."""
    return batch.care.augment > 0 or _planned(batch, settings) > 0


def _planned(batch: Batch, settings: Settings) -> float:
    return 0.0 if batch.care.spared else settings.strength


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1)).to(like)


def _contrast(images: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    mean = images.flatten(1).mean(1)
    middle = _per_image(mean, images)
    # As a sum, so that an image which is spared stays the same to the last bit.
    return images + (images - middle) * _per_image(contrast, images) + _per_image(brightness, images)


def _bias(images: Tensor, slopes: Tensor) -> Tensor:
    """Brightness above black that rises along each axis by `slopes` (n, dimensions), a share from border to border."""
    field = torch.zeros_like(images[:, :1])
    for axis in range(images.ndim - 2):
        side = images.shape[axis + 2]
        ramp = torch.linspace(-1, 1, side, device=images.device).view(side, *[1] * (images.ndim - 3 - axis))
        field = field + _per_image(slopes[:, axis], images) * ramp
    return images + (images + 1) * field


def _shift(images: Tensor, share: Tensor) -> Tensor:
    """Whole-pixel shifts, one for each image and axis; what comes in is the border's value."""
    n = images.shape[0]
    moved = images
    for axis in range(images.ndim - 2):
        side = images.shape[axis + 2]
        pixels = torch.round(share[:, axis] * side).long()
        source = (torch.arange(side, device=images.device)[None] - pixels[:, None]).clamp(0, side - 1)
        shape = [n] + [1] * (images.ndim - 1)
        shape[axis + 2] = side
        moved = moved.gather(axis + 2, source.view(shape).expand_as(images))
    return moved


def _cutout(images: Tensor, used: Tensor, centre: Tensor, share: float) -> Tensor:
    """Blanks (to -1, the background) a box around `centre` (n, dimensions), a share of each side."""
    inside = _per_image(used, images).bool()
    for axis in range(images.ndim - 2):
        side = images.shape[axis + 2]
        distance = (torch.arange(side, device=images.device)[None] - centre[:, axis:axis + 1] * side).abs()
        shape = [images.shape[0]] + [1] * (images.ndim - 1)
        shape[axis + 2] = side
        inside = inside & (distance.view(shape) < share * side / 2)
    return images.masked_fill(inside, -1.0)
