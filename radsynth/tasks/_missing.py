"""Channels blanked in training, so that a network goes without them later (ModDrop: Neverova et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from radsynth.batch import Batch
from radsynth.errors import SettingsError


def blanked(images: Tensor, batch: Batch, share: float) -> Tensor:
    """Images (n, channels, *space) in [-1, 1], of whose channels a share is made blank, -1; never the last one that an
    image has. Which ones follows from (seed, item) alone."""
    channels = images.shape[1]
    if not share or channels < 2:
        return images
    draw = batch.uniform("missing", channels)
    draw = torch.where(images.flatten(2).amax(2) > -1, draw, -1.0)  # what an image lacks already
    blank = (draw < share) & (draw < draw.amax(1, keepdim=True))
    return images.masked_fill(blank[(...,) + (None,) * (images.ndim - 2)], -1.0)


def need_several(share: float, inputs: tuple[str, ...], channels: tuple[str, ...], made: int) -> None:
    """SettingsError where none of the given channels `inputs` could be missing. made: of `channels`, at least"""
    if share and len(inputs) < 2:
        more = f"name two or more of {', '.join(channels)} in task.inputs, or " if len(channels) - made > 1 else ""
        raise SettingsError(f"task.missing={share:g} blanks some of several given channels, and only {inputs[0]} is "
                            f"given: {more}set task.missing=0.")
