"""What networks make while they are trained: samples to measure, the grids of previews, batch statistics for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from radsynth.tasks import segments
from radsynth.verbs._grid import black_and_white, in_colour, save_grid, shown_window
from radsynth.verbs._training.average import calibrate
from radsynth.verbs._training.parts import at_once

if TYPE_CHECKING:
    from radsynth.verbs._training.loop import Loop

PREVIEW_IMAGES = 36
CALIBRATION_IMAGES = 64


class Samples:
    """Samples of one training's networks, a few at a time where images are large."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        spec = loop.prepared.spec
        self.shape = len(spec.channels), *spec.size

    @torch.no_grad()
    def make(self, network: nn.Module, chosen: NDArray[np.int64], items: range, seed: int) -> Tensor:
        """What a network makes of the conditions of the images `chosen`, with the items' own random numbers."""
        size = at_once(len(items), self.shape)
        made = [self._at_once(network, chosen[first:first + size], items[first:first + size], seed)
                for first in range(0, len(items), size)]
        return made[0] if len(made) == 1 else torch.cat(made)

    @torch.no_grad()
    def _at_once(self, network: nn.Module, chosen: NDArray[np.int64], items: range, seed: int) -> Tensor:
        batch = self.loop.batches.of(chosen, items, seed)
        with self.loop.fabric.autocast():
            return self.loop.task.sample(network, batch)

    def calibrate(self) -> None:
        """Measure the averaged network's batch statistics anew, before it is sampled."""
        loop = self.loop
        self.calibrate_on(np.resize(loop.batches.train, 16 * CALIBRATION_IMAGES), CALIBRATION_IMAGES, loop.seed + 2)

    def calibrate_on(self, chosen: NDArray[np.int64], together: int, seed: int) -> None:
        """The same with the conditions of the images `chosen`, so many in a batch at most."""
        size = at_once(together, self.shape)
        pieces = iter([range(first, min(first + size, len(chosen))) for first in range(0, len(chosen), size)])

        def sample(network: nn.Module) -> None:
            items = next(pieces)
            self._at_once(network, chosen[items.start:items.stop], items, seed)

        calibrate(self.loop.average.network, sample, batches=-(-len(chosen) // size))

    def preview(self) -> None:
        """Write a grid of the same latents as always, made by the averaged network."""
        loop = self.loop
        self.calibrate()
        train = loop.batches.train
        chosen = train[np.linspace(0, len(train) - 1, PREVIEW_IMAGES).astype(int)]
        samples = self.make(loop.average.network, chosen, range(PREVIEW_IMAGES), loop.seed + 1)
        if loop.ranks.first:
            window = None if segments(loop.task) else shown_window(loop.prepared.spec)  # labels have none
            ends = black_and_white(window, loop.prepared.intensity)
            save_grid(samples.float().cpu().numpy(), loop.folder.previews / f"{loop.images:09d}.png", ends=ends,
                      colour=in_colour(loop.prepared.spec.channels))
