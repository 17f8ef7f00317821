"""Unpaired translation one way, by contrast (Park et al. 2020, CUT): a place of the result shows what it showed before.

The generator's own features of a place, before and after, must be more alike than those of other places of the image.
No way back is learned, so that the result need not hold what its source cannot tell.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal, cast

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from radsynth.arrays import Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.batch import Batch
from radsynth.device import channels_last
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.losses.contrast import patch_contrast
from radsynth.models import Networks
from radsynth.models import build as build_networks
from radsynth.settings import settings
from radsynth.tasks import Task, Terms, Turn
from radsynth.tasks._unpaired import by_turns, domains_of, first_of, need_both, seen, sides_of

MODEL = "unet"
RESULTS = "Translated images"
UNPAIRED = True


@settings
class Settings:
    """From one class of images to another, one way, without pairs: needs images with labels."""

    kind: Literal["cut"] = "cut"
    domains: tuple[str, ...] = ()
    """The two classes, by name, from the first to the second; empty: the data's classes, if there are exactly two."""
    loss: Literal["non_saturating", "least_squares", "hinge"] = "least_squares"
    """The adversarial loss."""
    adversarial: float = Field(1.0, ge=0)
    """Weight of the adversarial loss."""
    contrast: float = Field(1.0, gt=0)
    """Weight of the contrastive loss between an image and what it becomes."""
    identity: float = Field(1.0, ge=0)
    """Weight of the contrastive loss between an image of the second class and what it becomes."""
    temperature: float = Field(0.07, gt=0)
    """Temperature of the contrastive loss; the smaller, the more the nearest wrong place counts."""
    places: PositiveInt = 64
    """Places of each image and level that are compared."""
    width: PositiveInt = 64
    """Length of the vectors that are compared."""


class Heads(nn.Module):
    """A network of two layers for each level, from features of places (n, places, width) to vectors."""

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Sequential(nn.Linear(w, width), nn.ReLU(), nn.Linear(width, width))
                                    for w in widths)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The vectors of each level."""
        return [level(places) for level, places in zip(self.levels, features, strict=True)]


class Cut:
    """The task: networks, turns, results."""

    keeps = "generator"

    def __init__(self, options: Settings, augmentation: Augmentation, model: Any, spec: ImageSpec) -> None:
        self.options, self.augmentation, self.model, self.spec = options, augmentation, model, spec
        self.loss = LOSSES[options.loss]
        self.domains = domains_of(options.kind, options.domains, spec)
        self.inputs = self.outputs = spec.channels
        self.finer = (1,) * spec.dimensions
        self.targets = self.domains[1:]
        self._labels = [spec.labels.index(name) for name in self.domains]
        self.made: Tensor | None = None

    def study(self, prepared: Prepared, seed: int) -> None:
        """DataError when no training image is of one of the two classes."""
        need_both(prepared, self.domains)

    def networks(self) -> Networks:
        """Freshly initialised generator, heads of the contrastive loss, and discriminator of the second class."""
        made = build_networks(self.model, self.spec, self.spec, len(self.spec.channels))
        widths = cast("tuple[int, ...]", made["generator"].widths)
        return {**made, "heads": Heads(widths, self.options.width)}

    def turns(self) -> list[Turn]:
        """The discriminator's turn, then that of generator and heads."""
        return [Turn(nets=("discriminator",), loss=self.discriminator_loss, makes=("generator",)),
                Turn(nets=("generator", "heads"), loss=self.generator_loss)]

    def vary(self, batch: Batch) -> Batch:
        """As many images of one class as of the other."""
        return by_turns(batch, self._labels)

    def constant(self, batch: Batch) -> Hashable | None:
        """What decides how a step goes: see `Repeatable`."""
        return batch.constant() if batch.items else None

    def discriminator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """The second class's images against those that were made, which are kept for the generator's turn."""
        sides = sides_of(batch, self._labels)
        if sides is None:
            return {}
        self.made = self.convert(nets["generator"], sides[0])
        both = torch.cat([seen(sides[1], batch, "real", self.augmentation),
                          seen(self.made.detach(), batch, "fake", self.augmentation)])
        real, fake = nets["discriminator"](channels_last(both)).chunk(2)
        return {"loss": self.loss.discriminator(real, fake), "_real": real.detach().mean(),
                "_fake": fake.detach().mean()}

    def generator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Fool the discriminator, and keep what each place shows."""
        sides = sides_of(batch, self._labels)
        if sides is None:
            return {}
        made, self.made = self.made, None
        if made is None or not made.requires_grad:  # a batch in parts: graphs of all parts would not fit
            made = self.convert(nets["generator"], sides[0])
        judged = nets["discriminator"](seen(made, batch, "fake", self.augmentation))
        terms = {"adversarial": self.options.adversarial * self.loss.generator(judged.detach(), judged),
                 "contrast": self.options.contrast * self._contrast(nets, sides[0], made, batch)}
        if self.options.identity:
            same = self.convert(nets["generator"], sides[1])
            terms["identity"] = self.options.identity * self._contrast(nets, sides[1], same, batch)
        return terms

    def _contrast(self, nets: Networks, start: Tensor, made: Tensor, batch: Batch) -> Tensor:
        """The mean over levels of the loss between an image and what it became (Park et al. 2020, eq. 4)."""
        found = []
        few = first_of(batch, len(start))
        for images in (made, start):
            levels = [level.flatten(2) for level in nets["generator"](images, encode=True)]
            chosen = [_take(level, few, k, self.options.places) for k, level in enumerate(levels)]
            found.append(nets["heads"](chosen))
        losses = [patch_contrast(query, key.detach(), self.options.temperature)
                  for query, key in zip(*found, strict=True)]
        return torch.stack(losses).mean()

    def enlarge(self, images: Tensor) -> Tensor:
        """The same images."""
        return images

    def convert(self, network: nn.Module, images: Tensor, target: str = "") -> Tensor:
        """The images as those of the second class: corrected by what the generator makes."""
        changed: Tensor = images + network(images)
        return changed

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """Each of the batch's images as one of the second class: (n, c, *space) in [-1, 1]."""
        return self.convert(network, batch.images).float().clamp(-1, 1)


def _take(level: Tensor, batch: Batch, k: int, count: int) -> Tensor:
    """(n, places, width) of features (n, width, pixels): places drawn for each item and level."""
    pixels = level.shape[2]
    if pixels > count:
        places = batch.uniform(f"places {k}", pixels).topk(count, dim=1).indices
        level = level.gather(2, places[:, None].expand(-1, level.shape[1], -1))
    return level.transpose(1, 2)


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for classes that do not exist."""
    return Cut(options, augmentation, model, spec)
