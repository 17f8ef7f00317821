"""Stand-ins for masks: classes of intensity between multi-Otsu thresholds of the training images (Liao et al. 2001)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from radsynth.arrays import NO_MASK, Prepared, spread

LOOKED_AT = 200
"""Training images that thresholds are found on."""
BINS = 64
SMOOTH = 3
"""Pixels that are averaged along each axis first, so that noise makes no classes."""


def thresholds(prepared: Prepared, channel: int, classes: int) -> Tensor:
    """(classes - 1,) network values of one channel that part its classes, the same for every image that has it.

    Fewer where the training images have fewer values than classes.
    """
    from skimage import filters

    otsu: Any = filters.threshold_multiotsu  # it ships no types
    rows = prepared.indices("train")
    few = rows[spread(len(rows), LOOKED_AT)]
    images = torch.from_numpy(prepared.images(few)[:, channel:channel + 1])
    values = smoothed(images[~_blank(images)]).numpy()
    possible = min(classes, int(np.count_nonzero(np.histogram(values, BINS)[0])))
    return torch.as_tensor(otsu(values, classes=possible, nbins=BINS) if possible > 1 else [], dtype=torch.float32)


def smoothed(images: Tensor) -> Tensor:
    """(n, c, *space) averaged over boxes; at the edges over what is there."""
    pool = functional.avg_pool2d if images.ndim == 4 else functional.avg_pool3d
    return pool(images, SMOOTH, stride=1, padding=SMOOTH // 2, count_include_pad=False)


def tissues(images: Tensor, channel: int, limits: Tensor) -> Tensor:
    """Classes (n, *space) of one channel, 0 the darkest; NO_MASK all over an image that lacks it."""
    chosen = images[:, channel:channel + 1].float()
    found = torch.bucketize(smoothed(chosen)[:, 0].contiguous(), limits.to(images.device))
    return found.masked_fill(_blank(chosen).reshape(-1, *[1] * (found.ndim - 1)), NO_MASK)


def _blank(images: Tensor) -> Tensor:
    """(n,) whether a channel (n, 1, *space) shows nothing."""
    return images.flatten(1).amax(1) <= -1
