"""Training images redrawn coarsely from their principal coordinates, beside the game: latents that stand for images.

The generator says where things are by this error, as GLO does (Bojanowski et al. 2018), the discriminator what they
look like. A generator that draws the same image for every latent has a relative error of 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.models._averages import averaged
from radsynth.tasks._warm_start import STUDIED, PrincipalCodes, in_parts

POOL = 4
"""Pixels that are averaged along each axis."""
EVERY = 4
"""Every so many images of a batch are redrawn."""


class Redrawing:
    """The coarse squared error of redrawn training images, as it is or as a share of what images of their class vary.

    spreads: (classes or 1,) the mean squared deviation of coarse images of a class from their mean
    """

    def __init__(self, codes: PrincipalCodes, spreads: Tensor | None = None) -> None:
        self.codes, self.spreads = codes, spreads

    @classmethod
    def relative(cls, codes: PrincipalCodes, prepared: Prepared, seed: int) -> Redrawing:
        """One that knows how much the training images of each class vary."""
        training = prepared.indices("train")
        chosen = np.sort(np.random.default_rng(seed).permutation(training)[:STUDIED])
        device = codes.mean.device
        labels = torch.from_numpy(prepared.labels(chosen)).to(device)
        coarse = torch.cat([
            averaged(codes.greys(torch.from_numpy(prepared.images(chosen[part])).to(device), labels[part]), POOL)
            for part in in_parts(prepared, len(chosen))
        ])
        members = [coarse[labels == label] for label in range(len(prepared.spec.labels))] or [coarse]
        several = [some if len(some) > 1 else coarse for some in members]
        # A single training image varies from nothing: its error counts as it is.
        spreads = torch.stack([some.var(0).mean() if len(some) > 1 else some.new_ones(()) for some in several])
        return cls(codes, spreads.clamp_min(1e-6))

    def errors(self, generator: nn.Module, batch: Batch, given: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor]:
        """The error as it is, and as a share of what images vary (0 where that is not known): means over a quarter of
        the batch's images, weighted so that parts of a batch add up to the whole."""
        # By their numbers, which follow each other, so that they are the same ones however a batch is divided.
        few = slice(-batch.items[0] % EVERY, None, EVERY)
        real = batch.images[few]
        nothing = batch.images.new_zeros(())
        if not len(real):
            return nothing, nothing
        codes = self.codes.on(real.device)
        given = tuple(None if part is None else part[few] for part in given)
        labels, greys = given[0], codes.greys
        redrawn = generator(codes(real, labels), *given)
        coarse, true = (averaged(greys(images, labels), POOL) for images in (redrawn, real))
        errors = functional.mse_loss(coarse, true, reduction="none")
        share = len(real) * EVERY / len(batch.items)
        if self.spreads is None:
            return errors.mean() * share, nothing
        if self.spreads.device != real.device:  # once: nothing may be copied while a step is recorded
            self.spreads = self.spreads.to(real.device)
        unit = self.spreads if labels is None else self.spreads[labels]
        return errors.mean() * share, (errors.flatten(1).mean(1) / unit).mean() * share
