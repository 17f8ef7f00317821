"""Unpaired translation between two classes of images (Zhu et al. 2017, CycleGAN): there and back again is the same."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from radsynth.arrays import Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.batch import Batch
from radsynth.device import channels_last
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.losses.reconstruction import absolute
from radsynth.models import Networks
from radsynth.models import build as build_networks
from radsynth.settings import settings
from radsynth.tasks import Task, Terms, Turn
from radsynth.tasks._unpaired import by_turns, domains_of, need_both, seen, sides_of

MODEL = "unet"
RESULTS = "Translated images"
UNPAIRED = True


@settings
class Settings:
    """From one class of images to another and back, without pairs: needs images with labels."""

    kind: Literal["cycle"] = "cycle"
    domains: tuple[str, ...] = ()
    """The two classes, by name; empty: the data's classes, if there are exactly two."""
    loss: Literal["non_saturating", "least_squares", "hinge"] = "least_squares"
    """The adversarial loss."""
    adversarial: float = Field(0.5, ge=0)
    """Weight of the adversarial losses."""
    cycle: float = Field(1.0, gt=0)
    """Weight of the difference after there and back."""
    identity: float = Field(0.1, ge=0)
    """Weight of the change to an image that already is of the class it should become."""


class Translators(nn.Module):
    """Both generators as one network: `net(images, towards)`, towards 0 or 1, the domain to go to.

    The image is corrected: the result is the image and the generator's output.
    """

    def __init__(self, to_first: nn.Module, to_second: nn.Module) -> None:
        super().__init__()
        self.generators = nn.ModuleList([to_first, to_second])
        self.reach = max(cast(int, net.reach) for net in (to_first, to_second))
        self.stride = max(cast(int, net.stride) for net in (to_first, to_second))

    def forward(self, images: Tensor, towards: int) -> Tensor:
        """The images (n, c, *space) changed towards a domain."""
        changed: Tensor = images + self.generators[towards](images)
        return changed


class Cycle:
    """The task: networks, turns, results."""

    keeps = "translators"

    def __init__(self, options: Settings, augmentation: Augmentation, model: Any, spec: ImageSpec) -> None:
        self.options, self.augmentation, self.model, self.spec = options, augmentation, model, spec
        self.loss = LOSSES[options.loss]
        self.domains = domains_of(options.kind, options.domains, spec)
        self.inputs = self.outputs = spec.channels
        self.finer = (1,) * spec.dimensions
        self.targets = self.domains[::-1]
        self._labels = [spec.labels.index(name) for name in self.domains]
        self.made: list[Tensor] = []

    def study(self, prepared: Prepared, seed: int) -> None:
        """DataError when no training image is of one of the two classes."""
        need_both(prepared, self.domains)

    def networks(self) -> Networks:
        """Freshly initialised: both generators as one network, and a discriminator for each domain."""
        sides = [build_networks(self.model, self.spec, self.spec, len(self.spec.channels)) for _ in self.domains]
        judges = {f"discriminator_{k + 1}": side["discriminator"] for k, side in enumerate(sides)}
        return {"translators": Translators(*(side["generator"] for side in sides)), **judges}

    def turns(self) -> list[Turn]:
        """The discriminators' turn, then the generators'."""
        return [Turn(nets=("discriminator_1", "discriminator_2"), loss=self.discriminator_loss, makes=("translators",)),
                Turn(nets=("translators",), loss=self.generator_loss)]

    def vary(self, batch: Batch) -> Batch:
        """As many images of one class as of the other."""
        return by_turns(batch, self._labels)

    def constant(self, batch: Batch) -> Hashable | None:
        """What decides how a step goes: see `Repeatable`."""
        return batch.constant() if batch.items else None

    def discriminator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Each domain's images against those translated to it, which are kept for the generators' turn."""
        sides = sides_of(batch, self._labels)
        if sides is None:
            return {}
        self.made = [nets["translators"](sides[1 - towards], towards) for towards in (0, 1)]
        terms: Terms = {}
        for towards, made in enumerate(self.made):
            judge, name = nets[f"discriminator_{towards + 1}"], f"to_{self.domains[towards]}"
            both = torch.cat([self._seen(sides[towards], batch, f"real {towards}"),
                              self._seen(made.detach(), batch, f"fake {towards}")])
            real, fake = judge(channels_last(both)).chunk(2)
            terms |= {name: self.loss.discriminator(real, fake), f"_{name}_real": real.detach().mean(),
                      f"_{name}_fake": fake.detach().mean()}
        return terms

    def generator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Fool the discriminators, come back to the start, and leave alone what already is right."""
        sides = sides_of(batch, self._labels)
        if sides is None:
            return {}
        kept, self.made = self.made, []
        if not kept or not kept[0].requires_grad:  # a batch in parts: graphs of all parts would not fit
            kept = [nets["translators"](sides[1 - towards], towards) for towards in (0, 1)]
        terms: Terms = {}
        for towards, made in enumerate(kept):
            start, name = sides[1 - towards], f"to_{self.domains[towards]}"
            judged = nets[f"discriminator_{towards + 1}"](self._seen(made, batch, f"fake {towards}"))
            terms[f"{name}_adversarial"] = self.options.adversarial * self.loss.generator(judged.detach(), judged)
            back = nets["translators"](made, 1 - towards)
            terms[f"{name}_cycle"] = self.options.cycle * absolute(back, start)
            if self.options.identity:
                same = nets["translators"](sides[towards], towards)
                terms[f"{name}_identity"] = self.options.identity * absolute(same, sides[towards])
        return terms

    def _seen(self, images: Tensor, batch: Batch, stream: str) -> Tensor:
        """Augmented by the numbers of as many items as there are images."""
        return seen(images, batch, stream, self.augmentation)

    def enlarge(self, images: Tensor) -> Tensor:
        """The same images."""
        return images

    def convert(self, network: nn.Module, images: Tensor, target: str = "") -> Tensor:
        """The images as those of the domain `target`."""
        changed: Tensor = network(images, self.domains.index(target or self.targets[0]))
        return changed

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """Each of the batch's images in the other domain: (n, c, *space) in [-1, 1]."""
        assert batch.labels is not None
        to_first = batch.labels == self._labels[1]
        first, second = (self.convert(network, batch.images, name).float() for name in self.domains)
        chosen: Tensor = torch.where(to_first.reshape(-1, *[1] * (batch.images.ndim - 1)), first, second)
        return chosen.clamp(-1, 1)


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for classes that do not exist."""
    return Cycle(options, augmentation, model, spec)
