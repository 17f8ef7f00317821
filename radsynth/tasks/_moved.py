"""Pairs moved at random: one smooth warp for all channels of an image and its mask, so that few patients, or the few
that have a lesion, are not learned by heart (elastic deformations: Simard et al. 2003; Ronneberger et al. 2015).

The warp is the exponential of a velocity, smooth noise and a linear part (turning, scaling, shearing): it is invertible
(Arsigny et al. 2006). It is integrated on a coarse grid, at a fraction of the cost of the fine one.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from radsynth.batch import Batch
from radsynth.tasks._warp import enlarge, grid, integrate, random_velocity, warp

WAVE = 0.25
"""Length over which the smooth part changes, as a share of the longest side."""
LINEAR = 2.0
"""Standard deviation of the linear part's entries, as a multiple of `size`: at .03 about 3 degrees and 6 %."""
WARPED = 0.5
"""Share of the images that are warped where what is learned of them are images. The others keep the grain that
interpolation takes: with all pairs of a translation warped, results were farther from the truth; with those of a rare
label alone, lesions were made up more often."""
COARSE = 4
"""Pixels between the points that a velocity is integrated on."""


def moved(batch: Batch, size: float, share: float = 1.0) -> Batch:
    """The batch with images (linear between pixels) and masks (nearest pixel) warped alike, from (seed, item) alone.

    size: standard deviation of the smooth part's displacement, as a share of the longest side; 0 leaves all as it is
    share: how many of the images are warped, drawn for each
    Channels that are blank, because an image lacks them, stay so to the last bit.
    """
    if not size:
        return batch
    rows = torch.from_numpy((batch.lots("moved?", 1)[:, 0] < share).nonzero()[0])
    if not len(rows):
        return batch
    images, masks = batch.images.clone(), batch.masks
    before, items = batch.images[rows], tuple(batch.items[int(row)] for row in rows)
    there = displacement(dataclasses.replace(batch, images=before, items=items), size)
    blank = before.flatten(2).amax(2) <= -1
    after = warp(before.float(), there).to(before)
    images[rows] = torch.where(blank.reshape(*blank.shape, *[1] * (before.ndim - 2)), before, after)
    if masks is not None:
        masks = masks.clone()
        masks[rows] = warp(masks[rows][:, None].float(), there, mode="nearest")[:, 0].to(masks)
    return dataclasses.replace(batch, images=images, masks=masks)


def displacement(batch: Batch, size: float) -> Tensor:
    """The warp (n, d, *space) in pixels of each of the batch's items."""
    space = tuple(batch.images.shape[2:])
    coarse, side = tuple(math.ceil(length / COARSE) for length in space), max(space) / COARSE
    velocity = random_velocity(batch, "moved", coarse, size * side, WAVE * side)
    linear = LINEAR * size * batch.normal("moved linearly", len(space), len(space))
    middle = torch.tensor([(length - 1) / 2 for length in coarse], device=velocity.device)
    velocity = velocity + torch.einsum("nij,...j->ni...", linear, grid(coarse, velocity.device) - middle)
    return COARSE * enlarge(integrate(velocity), COARSE, space)
