"""The averaged generator: power-function exponential moving average (Karras et al. 2024, EDM2, eq. 123 to 127).

Its memory is a fixed share of the training so far, whatever the length of the run, so that it needs no schedule.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

APART = 4
"""Steps between two updates once there have been many: the profile stays the same, at a quarter of the cost."""


def exponent(width: float) -> float:
    """The power gamma whose averaging profile has the relative standard deviation `width` (0 to about 0.28)."""
    # EDM2, algorithm 2: the profile t^gamma has the relative variance (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    return float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max())


class Average:
    """An averaged copy of a network. Buffers (batch statistics) are copied, not averaged."""

    def __init__(self, network: nn.Module, width: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.power = exponent(width)
        self.waiting = 0
        """Images of the steps since the last update."""

    @torch.no_grad()
    def update(self, network: nn.Module, step: int, size: int, images: int) -> None:
        """Take in the network after `step` steps, counted from 1; later on only every `APART`th time.

        size: images of the last step; images: those of all steps
        """
        self.waiting += size
        if step > 16 * APART and step % APART:
            return
        weight = 1 - (1 - self.waiting / images) ** (self.power + 1)
        self.waiting = 0
        mine: list[Tensor] = list(self.network.parameters())
        new: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(mine, new, weight)
        kept, buffers = list(self.network.buffers()), list(network.buffers())
        if buffers:
            torch._foreach_copy_(kept, buffers)


@torch.no_grad()
def calibrate(network: nn.Module, sample: Callable[[nn.Module], object], batches: int = 16) -> None:
    """Measure batch statistics anew with the network's present weights: averaged weights are not those they belong to.

    `sample` runs the network on one batch each time it is called. Nothing happens without batch normalisation.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over the batches
    network.train()
    for _ in range(batches):
        sample(network)
    network.eval()
