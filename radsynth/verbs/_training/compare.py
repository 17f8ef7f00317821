"""Samples against real images in a moment: variety and energy distance of small versions, for the training doctor."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radsynth.models._averages import averaged_to

STEP = 2 / 255
"""Differences in [-1, 1] that 8 bits do not show: images that differ less, or a single one, do not vary."""


def compare(samples: Tensor, real: Tensor) -> tuple[float, float]:
    """How samples (n, c, *space) vary against real images, and how far they are: both 16 pixels a side, as vectors.

    The first is the ratio of their mean distances among themselves; the second their energy distance (Szekely and
    Rizzo 2013), 2 E|s - r| - E|s - s'| - E|r - r'|, as a share of E|r - r'|. Of real images that do not vary no variety
    can be lost: it is 1.
    """
    small, truth = _small(samples), _small(real)
    among_samples, among_real = _mean_distance(small), _mean_distance(truth)
    least = STEP * math.sqrt(truth.shape[1])
    unit = max(among_real, least)
    energy = 2 * float(torch.cdist(small, truth).mean()) - among_samples - among_real
    return among_samples / unit if among_real > least else 1.0, energy / unit


def _small(images: Tensor) -> Tensor:
    return averaged_to(images.float(), [min(side, 16) for side in images.shape[2:]]).flatten(1)


def _mean_distance(vectors: Tensor) -> float:
    """E|a - a'| over different pairs, (n, d); 0 for fewer than two."""
    return float(torch.pdist(vectors).mean()) if len(vectors) > 1 else 0.0
