"""Translation between registered channels (Isola et al. 2017, pix2pix): some are given, the others are made."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from radsynth.arrays import NO_MASK, Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.batch import Batch
from radsynth.device import channels_last
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.models import Networks
from radsynth.settings import nearest, settings
from radsynth.tasks import Task, Turn
from radsynth.tasks._again import Again, images_to_draw_again
from radsynth.tasks._masks import label_shares, places_of
from radsynth.tasks._missing import blanked, need_several
from radsynth.tasks._moved import WARPED, moved
from radsynth.tasks._paired import PairedGame, paired_networks

MODEL = "unet"
RESULTS = "Translated images"
KEEPING = PATCHES = True


@settings
class Settings:
    """From some channels of an image to others of the same patient, such as T1 to FLAIR: needs registered pairs."""

    kind: Literal["translate"] = "translate"
    inputs: tuple[str, ...] = ()
    """Channels that are given, by name; empty: the first one."""
    outputs: tuple[str, ...] = ()
    """Channels that are made, by name; empty: all others."""
    missing: float = Field(0.0, ge=0, lt=1)
    """Share of the given channels that is blanked in training, never all, so that `apply` may go without some."""
    loss: Literal["non_saturating", "least_squares", "hinge", "relativistic"] = "least_squares"
    """The adversarial loss."""
    adversarial: float = Field(0.01, ge=0)
    """Weight of the adversarial loss; 0 trains without a discriminator: closer on average, and smoother."""
    absolute: float = Field(1.0, ge=0)
    """Weight of the mean absolute difference."""
    dissimilarity: float = Field(0.2, ge=0)
    """Weight of the structural dissimilarity, (1 - SSIM) / 2."""
    rare: float = Field(0.25, ge=0, lt=1)
    """Where the data has masks: least share of the images in training that have the rarest label, such as a lesion;
    drawn again to that end."""
    balance: float = Field(0.5, ge=0, le=1)
    """Where the data has masks: how far pixels of rare labels count for more in the absolute difference. The share of
    the most frequent label is divided by theirs, to this power; 0 is not at all."""
    deform: float = Field(0.03, ge=0, le=0.1)
    """Size of the random smooth warps that half of the pairs, with their masks, get in training, as a share of the
    longest side; 0 is off."""


OF_MASKS = ("rare", "balance")


def idle(options: Settings) -> dict[str, str]:
    """Settings that do nothing beside the others, and why: see `radsynth.tasks`."""
    return {} if options.absolute else {"balance": "the absolute difference has no weight (task.absolute=0)"}


class Translate:
    """The task: networks, turns, results."""

    keeps = "generator"
    targets: tuple[str, ...] = ()

    def __init__(self, options: Settings, augmentation: Augmentation, model: Any, spec: ImageSpec) -> None:
        self.options, self.model, self.spec = options, model, spec
        self.inputs, self.outputs = _channels(options, spec)
        self.finer = (1,) * spec.dimensions
        self._given = [spec.channels.index(name) for name in self.inputs]
        self._made = [spec.channels.index(name) for name in self.outputs]
        self.may_lack = options.missing > 0
        self.again: Again | None = None
        self.weights: Tensor | None = None
        self.game = PairedGame(
            see=self._see, convert=self.convert, loss=LOSSES[options.loss], adversarial=options.adversarial,
            weights={"absolute": options.absolute, "dissimilarity": options.dissimilarity}, augmentation=augmentation,
            weigh=self._pixels)

    def study(self, prepared: Prepared, seed: int) -> None:
        """Learn which training images have the rarest label, and what share of the pixels each label has."""
        rows = prepared.indices("train")
        rows = rows[prepared.masked(rows)]
        if prepared.spec.mask_classes > 1 and len(rows):
            self.again = images_to_draw_again(prepared, self.options.rare)
            shares = label_shares(prepared, rows)
            self.weights = torch.from_numpy((shares.max() / shares) ** self.options.balance).float()

    def networks(self) -> Networks:
        """Freshly initialised generator and discriminator."""
        return paired_networks(self.model, self.spec, self.inputs, self.outputs, bool(self.options.adversarial))

    def turns(self) -> list[Turn]:
        """The discriminator's turn, then the generator's."""
        return self.game.turns()

    def constant(self, batch: Batch) -> Hashable:
        """What decides how a step goes: see `Repeatable`."""
        return batch.constant()

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The given channels and the others."""
        # One by one: a list as an index is brought to the GPU, which a recorded step may not do.
        given, made = (torch.stack([batch.images[:, channel] for channel in channels], dim=1)
                       for channels in (self._given, self._made))
        return channels_last(given), channels_last(made)

    def vary(self, batch: Batch) -> Batch:
        """Some images drawn again for their rare label, some warped."""
        batch = batch if self.again is None else self.again.mixed_in(batch)
        return moved(batch, self.options.deform, WARPED)

    def _pixels(self, batch: Batch) -> Tensor | None:
        """(n, 1, *space) of the absolute difference: 1 for the most frequent label and where there is no mask."""
        if batch.masks is None or self.weights is None:
            return None
        self.weights = self.weights.to(batch.masks.device)
        weights = self.weights[places_of(batch.masks, self.spec.label_values)]
        return weights.masked_fill(batch.masks == NO_MASK, 1.0)[:, None]

    def _see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        given, truth = self.pair(batch)
        return blanked(given, batch, self.options.missing), truth

    def enlarge(self, images: Tensor) -> Tensor:
        """The same images."""
        return images

    def convert(self, network: nn.Module, images: Tensor, target: str = "") -> Tensor:
        """The channels that are made, (n, outputs, *space)."""
        made: Tensor = network(images) - 1  # an untrained network makes background
        return made

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """What becomes of the batch's given channels: (n, outputs, *space) in [-1, 1]."""
        return self.convert(network, self.pair(batch)[0]).float().clamp(-1, 1)


def _channels(options: Settings, spec: ImageSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the given and the made channels; SettingsError for names that do not exist or come twice."""
    names = ", ".join(spec.channels)
    if len(spec.channels) < 2:
        raise SettingsError(
            f"task.kind=translate needs images of at least two registered channels, these have one ({names}). Files "
            "or DICOM series of a patient become channels with data.kind=contrasts and data.contrasts=[t1,flair] (or "
            "whatever they are called), virtual patients have them with the latter; for unpaired images of two classes "
            "there is task.kind=cycle."
        )
    for setting, given in (("inputs", options.inputs), ("outputs", options.outputs)):
        for name in given:
            if name not in spec.channels:
                raise SettingsError(f"task.{setting}: {name!r} is no channel of these images"
                                    f"{nearest(name, spec.channels)}; they have {names}.")
    made = set(options.outputs)
    inputs = options.inputs or tuple(name for name in spec.channels if name not in made)[: None if made else 1]
    outputs = options.outputs or tuple(name for name in spec.channels if name not in inputs)
    if not inputs or not outputs or len({*inputs, *outputs}) < len(inputs) + len(outputs):
        raise SettingsError(f"task.inputs and task.outputs must share the channels {names}, and name none twice.")
    return inputs, outputs


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for channels that do not exist, and where none could be missing."""
    task = Translate(options, augmentation, model, spec)
    need_several(options.missing, task.inputs, spec.channels, made=1)
    return task
