"""Segmentation: a network that gives every pixel a label (Ronneberger et al. 2015; Dice loss: Milletari et al. 2016).

A discriminator that sees the image and its segmentation together knows what whole segmentations look like (Luc et al.
2016). Where only some images have masks, it also judges what the network says of the others (Hung et al. 2018). It is
off by default: in equal time the plain network sees more images with masks and is better
(docs/benchmarks-image-to-image.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from radsynth.arrays import NO_MASK, Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.augment import augment
from radsynth.batch import Batch
from radsynth.device import channels_last
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.losses.alignment import label_mismatch
from radsynth.models import Networks
from radsynth.settings import nearest, settings
from radsynth.tasks import Task, Terms, Turn
from radsynth.tasks._again import Again, images_to_draw_again, masked_to_draw_again
from radsynth.tasks._masks import check_labels, masks_of, none_there, places_of, shares_of
from radsynth.tasks._missing import blanked, need_several
from radsynth.tasks._moved import moved
from radsynth.tasks._paired import paired_networks
from radsynth.tasks._tissues import thresholds, tissues

MODEL = "unet"
RESULTS = "Segmented images"

SURE = 0.9
"""Least share that the true label has in what the discriminator is shown as the truth (Luc et al. 2016)."""


@settings
class Settings:
    """A label for every pixel: needs images with masks, or takes classes of intensity for them."""

    kind: Literal["segment"] = "segment"
    loss: Literal["non_saturating", "least_squares", "hinge", "relativistic"] = "least_squares"
    """The adversarial loss."""
    adversarial: float = Field(0.0, ge=0)
    """Weight of the adversarial loss (about 0.01); 0 trains without a discriminator, and in equal time better."""
    dice: float = Field(1.0, ge=0)
    """Weight of the overlap (one minus Dice, over the labels without the background)."""
    entropy: float = Field(1.0, ge=0)
    """Weight of the cross-entropy, over all pixels."""
    balance: float = Field(0.5, ge=0, le=1)
    """How far rare labels count for more in the cross-entropy: it is divided by this power of their pixels' number."""
    inputs: tuple[str, ...] = ()
    """Channels that are seen, by name; empty: all."""
    missing: float = Field(0.0, ge=0, lt=1)
    """Share of the seen channels that is blanked in training, never all, so that `apply` may go without some."""
    rare: float = Field(0.25, ge=0, lt=1)
    """Least share of the images with masks in training that have the rarest label; drawn again to that end."""
    masked: float = Field(0.5, gt=0, le=1)
    """Least share of the images in training that have a mask, where some have none; drawn again to that end. Without an
    adversary nothing is learned of the others, and all have one."""
    deform: float = Field(0.0, ge=0, le=0.1)
    """Size of the random smooth warps that images and masks get in training, as a share of the longest side."""
    tissues: Literal[0, 2, 3, 4, 5] = 0
    """Learn so many classes of intensity in place of masks, divided by multi-Otsu thresholds; 0: masks."""
    tissues_of: str = ""
    """Whose intensity: a channel, by name; empty: the first."""


def idle(options: Settings) -> dict[str, str]:
    """Settings that do nothing beside the others, and why: see `radsynth.tasks`."""
    if options.tissues:
        found = dict.fromkeys(("rare", "masked"), f"classes of intensity are learned (task.tissues={options.tissues})")
    else:
        found = {"tissues_of": "masks are learned, not classes of intensity (task.tissues=0)"}
        if not options.adversarial:
            found["masked"] = "without an adversary every image in training has a mask (task.adversarial=0)"
    return found if options.entropy else {**found, "balance": "there is no cross-entropy (task.entropy=0)"}


class Segment:
    """The task: networks, turns, label maps."""

    keeps = "generator"
    outputs: tuple[str, ...] = ("mask",)
    targets: tuple[str, ...] = ()

    def __init__(self, options: Settings, augmentation: Augmentation, model: Any, spec: ImageSpec) -> None:
        self.options, self.augmentation, self.model, self.spec = options, augmentation, model, spec
        self.inputs = _channels(options, spec)
        self.values = tuple(range(options.tissues)) or spec.label_values  # gaps between labels cost no channels
        self.classes, self.finer = len(self.values), (1,) * spec.dimensions
        self._seen = [spec.channels.index(name) for name in self.inputs]
        self.may_lack = options.missing > 0
        self.all_known = not spec.partly_masked and not options.tissues
        self.loss = LOSSES[options.loss]
        self.again: Again | None = None
        self.masked: Again | None = None
        self._parted = spec.channels.index(options.tissues_of) if options.tissues_of else 0
        self._thresholds: Tensor | None = None
        self.made: tuple[Batch, Tensor] | None = None

    def study(self, prepared: Prepared, seed: int) -> None:
        """Learn which training images have the rarest label, or where classes of intensity part."""
        if self.options.tissues:
            self._thresholds = thresholds(prepared, self._parted, self.options.tissues)
        else:
            share = self.options.masked if self.options.adversarial else 1.0
            self.masked = masked_to_draw_again(prepared, share) if self.spec.partly_masked else None
            self.again = images_to_draw_again(prepared, self.options.rare)

    def networks(self) -> Networks:
        """A generator of a score for each label and, if it has a weight, a discriminator of images with labels."""
        labels = tuple(f"label {value}" for value in self.values)
        return paired_networks(self.model, self.spec, self.inputs, labels, bool(self.options.adversarial))

    def turns(self) -> list[Turn]:
        """The discriminator's turn and the generator's, or the generator's alone."""
        generator = Turn(nets=("generator",), loss=self.generator_loss)
        if not self.options.adversarial:
            return [generator]
        return [Turn(nets=("discriminator",), loss=self.discriminator_loss, makes=("generator",)), generator]

    def constant(self, batch: Batch) -> Hashable | None:
        """What decides how a step goes: see `Repeatable`."""
        return batch.constant() if self.all_known else None

    def _make(self, nets: Networks, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch, and its scores."""
        return batch, nets["generator"](channels_last(batch.images)).float()

    def generator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Overlap and cross-entropy with the true labels of images that have some, and the adversarial loss of all."""
        kept, self.made = self.made, None
        if kept is None or not kept[1].requires_grad:  # a batch in parts: graphs of all parts would not fit
            kept = self._make(nets, batch)
        options, (batch, scores) = self.options, kept
        shares, known = scores.softmax(dim=1), self._known(batch)
        terms: Terms = {}
        if len(known):
            truth = self._truth(batch, known)
            with torch.autocast(scores.device.type, enabled=False):
                one_hot = self._one_hot(truth)
                if options.dice:
                    terms["dice"] = options.dice * label_mismatch(_together(shares[known]), _together(one_hot))
                if options.entropy:
                    terms["entropy"] = options.entropy * functional.cross_entropy(scores[known], truth,
                                                                                  self._weights(one_hot))
        if options.adversarial and (len(known) or not self.loss.pairs):
            fake = nets["discriminator"](self._judged(batch, shares))
            real = fake.detach()
            if self.loss.pairs:
                with torch.no_grad():
                    real = nets["discriminator"](self._true(batch, shares, known))
            terms["adversarial"] = options.adversarial * self.loss.generator(real, fake)
        return terms

    def discriminator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Images with their true labels against images, also those without a mask, with what the generator says."""
        self.made = self._make(nets, batch)
        batch, scores = self.made
        shares, known = scores.detach().softmax(dim=1), self._known(batch)
        if not len(known):
            return {}
        both = [self._true(batch, shares, known), self._judged(batch, shares)]
        real, fake = nets["discriminator"](channels_last(torch.cat(both))).chunk(2)
        return {"loss": self.loss.discriminator(real, fake), "_real": real.detach().mean(),
                "_fake": fake.detach().mean()}

    def _truth(self, batch: Batch, known: Tensor) -> Tensor:
        """The masks' classes (n, *space), of the images `known`: 0 for the least label value, 1 for the next, ..."""
        return places_of(_masks(batch)[known], self.values)

    def _weights(self, one_hot: Tensor) -> Tensor:
        """(labels,) of the cross-entropy, by how many pixels each label has in these masks (n, labels, *space)."""
        return one_hot.transpose(0, 1).flatten(1).sum(1).clamp_min(1) ** -self.options.balance

    def _known(self, batch: Batch) -> Tensor:
        """Places in the batch of the images that have a mask."""
        if self.all_known:
            return torch.arange(len(batch.items), device=batch.images.device)
        return (_masks(batch).flatten(1)[:, 0] != NO_MASK).nonzero()[:, 0]

    def vary(self, batch: Batch) -> Batch:
        """The channels that are seen, some blanked; some images drawn again for their rare label; warped together with
        the masks."""
        if self.masked is not None:
            batch = self.masked.mixed_in(batch)
        if self.again is not None:
            known = None if self.all_known else _masks(batch).flatten(1)[:, 0] != NO_MASK
            batch = self.again.mixed_in(batch, only=known)
        masks = _masks(batch) if self._thresholds is None else tissues(batch.images, self._parted, self._thresholds)
        seen = dataclasses.replace(batch, images=batch.images[:, self._seen], masks=masks)
        seen = moved(seen, self.options.deform)
        return dataclasses.replace(seen, images=blanked(seen.images, seen, self.options.missing))

    # Luc et al. 2016, section 3: the true label gets max(0.9, s), the others keep their proportions in what is left.
    def _softened(self, shares: Tensor, truth: Tensor) -> Tensor:
        """True labels as shares (n, labels, *space) that are as unsure as the generator's, so that no share of exactly
        0 or 1 tells the discriminator which ones are true."""
        shares, one_hot = shares.detach(), self._one_hot(truth)
        own = (shares * one_hot).sum(dim=1, keepdim=True)
        sure = own.clamp_min(SURE)
        others = (shares * (1 - sure) / (1 - own).clamp_min(1e-6)) * (1 - one_hot)
        return others + sure * one_hot

    def _true(self, batch: Batch, shares: Tensor, known: Tensor) -> Tensor:
        """As many images with true labels as the batch has images: those of `known`, some of them several times."""
        rows = known[torch.arange(len(shares), device=known.device) % len(known)]
        again = dataclasses.replace(batch, images=batch.images[rows])
        return self._judged(again, self._softened(shares[rows], self._truth(batch, rows)))

    def _judged(self, batch: Batch, shares: Tensor) -> Tensor:
        together = torch.cat([batch.images, (2 * shares - 1).to(batch.images)], dim=1)
        return augment(channels_last(together), batch, "pair", self.augmentation)

    def _one_hot(self, masks: Tensor) -> Tensor:
        return shares_of(masks, tuple(range(self.classes)))

    def enlarge(self, images: Tensor) -> Tensor:
        """The same images."""
        return images

    def convert(self, network: nn.Module, images: Tensor, target: str = "") -> Tensor:
        """The label value of every pixel, as (n, 1, *space) float."""
        return masks_of(network(images), self.values)[:, None].float()

    def likeliest(self, network: nn.Module, images: Tensor) -> Tensor:
        """Of every pixel the two likeliest label values, then their shares: (n, 4, *space) float."""
        shares, places = network(images).float().softmax(dim=1).topk(2, dim=1)
        return torch.cat([torch.tensor(self.values, device=places.device)[places].float(), shares], dim=1)

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """Labels of the batch's images as shades, unsure ones between: (n, 1, *space), -1 label 0, 1 the last one."""
        shares = network(channels_last(batch.images[:, self._seen])).float().softmax(dim=1)
        shades = torch.linspace(-1, 1, self.classes, device=shares.device)
        return torch.einsum("nk...,k->n...", shares, shades)[:, None].clamp(-1, 1)


def _together(shares: Tensor) -> Tensor:
    """(1, labels, n, *space) of all but the background: a rare label's overlap is that over the whole batch."""
    return shares[:, 1:].transpose(0, 1)[None]


def _channels(options: Settings, spec: ImageSpec) -> tuple[str, ...]:
    asked = [("inputs", name) for name in options.inputs]
    names = spec.channels
    for setting, name in [*asked, *([("tissues_of", options.tissues_of)] if options.tissues_of else [])]:
        if name not in names:
            raise SettingsError(f"task.{setting}: {name!r} is no channel of these images{nearest(name, names)}; they "
                                f"have {', '.join(names)}.")
    if len({*options.inputs}) < len(options.inputs):
        raise SettingsError(f"task.inputs={list(options.inputs)} names a channel twice: name each of them once.")
    return options.inputs or spec.channels


def _masks(batch: Batch) -> Tensor:
    assert batch.masks is not None, "build refuses data without masks"
    return batch.masks


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for data without masks or stand-ins, for no loss that says what is right, and where no
    channel could be missing."""
    if spec.mask_classes < 2 and not options.tissues:
        raise SettingsError(f"task.kind=segment learns from masks, and {none_there(spec)} task.tissues=4 learns "
                            "classes of intensity instead.")
    if options.tissues and spec.mask_classes >= 2:
        raise SettingsError(f"task.tissues={options.tissues} stands in for masks, and this data has some: leave it "
                            "out, or prepare the data with prepare.masks=off.")
    check_labels(spec)
    if not options.dice and not options.entropy:
        raise SettingsError("task.dice=0 and task.entropy=0 leave nothing that says which labels are right: give "
                            "one of them a weight.")
    task = Segment(options, augmentation, model, spec)
    need_several(options.missing, task.inputs, spec.channels, made=0)
    return task
