"""The game of tasks that have pairs (Isola et al. 2017, pix2pix): be near the truth, and fool a patch discriminator.

The discriminator is conditional: it sees what was given beside the result or the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from radsynth.augment import Settings as Augmentation
from radsynth.augment import augment
from radsynth.batch import Batch
from radsynth.device import channels_last
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import AdversarialLoss
from radsynth.losses.reconstruction import RECONSTRUCTIONS, weighted_absolute
from radsynth.models import Networks
from radsynth.models import build as build_networks
from radsynth.tasks import Terms, Turn

Made = tuple[Tensor, Tensor, Tensor, Tensor | None]


@dataclass(kw_only=True)
class PairedGame:
    """Turns of a generator and, if it has a weight, a discriminator; SettingsError where no loss has one.

    see: a batch to (what the network is given, the truth), both on the result's grid; convert: what a task makes of it
    weigh: how much a batch's pixels (n, 1, *space) count in the absolute difference, None for alike
    weights: reconstruction losses by name; adversarial: weight of the generator's adversarial loss, 0 for none
    made: what is given, its truth, the result and the pixels' weights, kept from the discriminator's turn for the
    generator's
    """

    see: Callable[[Batch], tuple[Tensor, Tensor]]
    convert: Callable[[nn.Module, Tensor], Tensor]
    weights: dict[str, float]
    loss: AdversarialLoss
    adversarial: float
    augmentation: Augmentation
    weigh: Callable[[Batch], Tensor | None] = lambda batch: None
    made: Made | None = None

    def __post_init__(self) -> None:
        if not any((*self.weights.values(), self.adversarial)):
            names = ", ".join(f"task.{name}=0" for name in self.weights)
            raise SettingsError(f"{names} and task.adversarial=0 leave nothing to learn from: give one of them a "
                                "weight.")

    def turns(self) -> list[Turn]:
        """The discriminator's turn and the generator's, or the generator's alone."""
        generator = Turn(nets=("generator",), loss=self.generator_loss)
        if not self.adversarial:
            return [generator]
        return [Turn(nets=("discriminator",), loss=self.discriminator_loss, makes=("generator",)), generator]

    def _judged(self, batch: Batch, given: Tensor, image: Tensor) -> Tensor:
        return augment(channels_last(torch.cat([given, image.to(given)], dim=1)), batch, "pair", self.augmentation)

    def _make(self, nets: Networks, batch: Batch) -> Made:
        given, truth = self.see(batch)
        return given, truth, known(self.convert(nets["generator"], given), truth, given), self.weigh(batch)

    def discriminator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """True pairs against made ones."""
        self.made = self._make(nets, batch)
        given, truth, result, _ = self.made
        both = torch.cat([self._judged(batch, given, image) for image in (truth, result.detach())])
        real, fake = nets["discriminator"](channels_last(both)).chunk(2)
        return {"loss": self.loss.discriminator(real, fake), "_real": real.detach().mean(),
                "_fake": fake.detach().mean()}

    def generator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Nearness to the truth, and the adversarial loss."""
        kept, self.made = self.made, None
        if kept is None or not kept[2].requires_grad:  # a batch in parts: graphs of all parts would not fit
            kept = self._make(nets, batch)
        given, truth, result, pixels = kept
        terms = {name: weight * RECONSTRUCTIONS[name](result, truth) for name, weight in self.weights.items() if weight}
        if pixels is not None and "absolute" in terms:
            terms["absolute"] = self.weights["absolute"] * weighted_absolute(result, truth, pixels)
        if self.adversarial:
            fake = nets["discriminator"](self._judged(batch, given, result))
            real = fake.detach()
            if self.loss.pairs:
                with torch.no_grad():
                    real = nets["discriminator"](self._judged(batch, given, truth))
            terms["adversarial"] = self.adversarial * self.loss.generator(real, fake)
        return terms


def known(result: Tensor, truth: Tensor, given: Tensor) -> Tensor:
    """(n, c, *space): the result, and the truth itself where its channel or all that is given is blank, so that nothing
    is learned of it."""
    space = tuple(range(2, truth.ndim))
    there = (truth.amax(space, keepdim=True) > -1) & (given.amax((1, *space), keepdim=True) > -1)
    return torch.where(there, result, truth.to(result))


def paired_networks(model: Any, spec: ImageSpec, inputs: tuple[str, ...], outputs: tuple[str, ...], judged: bool,
                    ) -> Networks:
    """A generator from `inputs` to `outputs` and, if it is to be judged, a discriminator of both together."""
    source = ImageSpec(size=spec.size, channels=inputs)
    networks = build_networks(model, ImageSpec(size=spec.size, channels=outputs), source, len(inputs) + len(outputs))
    return networks if judged else {"generator": networks["generator"]}
