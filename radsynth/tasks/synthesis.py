"""Synthesis: images from noise, and a class if there are classes (Goodfellow et al. 2014). Turns: D, then G."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import nullcontext
from typing import Any, Literal, cast

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from radsynth.arrays import Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.augment import augment, augments
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.losses.constraints import clip_weights
from radsynth.losses.penalties import (
    PENALTIES,
    around_real,
    finite_difference,
    inconsistency,
    one_centred,
    zero_centred,
)
from radsynth.models import Networks, discriminator_norm
from radsynth.models import build as build_networks
from radsynth.models._background import Background
from radsynth.models._blocks import classes_of
from radsynth.models._equalised import GROUP
from radsynth.models._greys import Greys
from radsynth.settings import settings
from radsynth.tasks import Task, Terms, Turn
from radsynth.tasks._masks import masks_of, need_masks
from radsynth.tasks._redrawing import EVERY, Redrawing
from radsynth.tasks._warm_start import PrincipalCodes, StartsFromMean

Loss = Literal["minimax", "non_saturating", "least_squares", "wasserstein", "hinge", "relativistic"]
PenaltyKind = Literal[
    "none", "r1", "r2", "r1_r2", "wgan_gp", "dragan", "finite_r1", "finite_r2", "finite_r1_r2"
]


@settings
class Settings:
    """Images from noise by a generator that a discriminator teaches."""

    kind: Literal["synthesis"] = "synthesis"
    loss: Loss = "hinge"
    """The adversarial loss."""
    penalty: PenaltyKind = "none"
    """The penalty on the discriminator's slope; finite_* are finite differences, cheaper and approximate."""
    penalty_weight: float = Field(1.0, ge=0)
    """Weight of the penalty at the beginning."""
    penalty_weight_end: float = Field(0.1, ge=0)
    """Weight of the penalty at the end; it changes geometrically with the schedule. 0: as at the beginning."""
    penalty_every: PositiveInt = 1
    """Take the penalty every so many steps, at so many times its weight (lazy regularisation)."""
    penalty_step: float = Field(0.03, gt=0)
    """Size of the step of finite differences, in units of [-1, 1]. Below about 0.01 rounding of bf16 outweighs it."""
    consistency: float = Field(0.0, ge=0)
    """Weight of the squared difference between the discriminator's logits of a real image augmented in two ways
    (CR-GAN); nothing while nothing is augmented."""
    weight_clip: float = Field(0.0, ge=0)
    """Keep the discriminator's weights within this distance of 0 (first WGAN: 0.01, which is crude); 0 is off."""
    discriminator_steps: int = Field(1, ge=1, le=1000)
    """Turns of the discriminator for each turn of the generator (5 for Wasserstein)."""
    discriminator_rate: float = Field(1.0, gt=0)
    """The discriminator's learning rate as a multiple of the generator's."""
    warm_start: float = Field(0.0, ge=0, lt=0.5)
    """Share of the budget in which the generator first learns to redraw blurred training images; 0 is off."""
    warm_start_rate: float = Field(2.0, gt=0)
    """The generator's learning rate in the warm start as a multiple of its own."""
    anchor: float = Field(0.0, ge=0)
    """Weight of the coarse squared error of training images redrawn all along: keeps classes from collapsing."""

    masks: bool = False
    """Draw every image together with its mask, as further channels: a labelled data set out of nothing."""


CONDITIONS = True
"""It learns images with the numbers of `data.conditions`; other tasks refuse these."""


def idle(options: Settings) -> dict[str, str]:
    """Settings that do nothing beside the others, and why: see `radsynth.tasks`."""
    found = {}
    if options.penalty == "none":
        found = dict.fromkeys(("penalty_weight", "penalty_weight_end", "penalty_every", "penalty_step"),
                              "there is no penalty (task.penalty=none)")
    elif not options.penalty_weight:
        found = dict.fromkeys(("penalty", "penalty_weight_end"),
                              "the penalty has no weight (task.penalty_weight=0), and from 0 none grows")
    elif not PENALTIES[options.penalty].finite:
        found = {"penalty_step": f"task.penalty={options.penalty} takes exact slopes, not finite differences"}
    return found if options.warm_start else {**found, "warm_start_rate": "there is no warm start (task.warm_start=0)"}


class Synthesis:
    """The task: networks, turns, samples."""

    keeps = "generator"

    def __init__(self, options: Settings, augmentation: Augmentation, model: Any, spec: ImageSpec) -> None:
        self.options, self.augmentation, self.model = options, augmentation, model
        self.joint, self.channels = options.masks, len(spec.channels)
        self.spec = spec.with_masks() if self.joint else spec
        self.loss, self.penalty = LOSSES[options.loss], PENALTIES[options.penalty]
        self.conditional = classes_of(spec) > 0
        self.saturates, self.penalised = options.loss == "minimax", options.penalty != "none"
        self.batch_norm = discriminator_norm(model) == "batch"
        self.codes: PrincipalCodes | None = None
        self.warm_start = options.warm_start
        self.redrawing: Redrawing | None = None
        self.made: Tensor | None = None

    def study(self, prepared: Prepared, seed: int) -> None:
        """Take the mean image and the principal directions from the training data, for a warm start."""
        if self.options.warm_start or self.options.anchor:
            self.codes = PrincipalCodes(prepared, self.model.latent, seed)

    def studied(self) -> dict[str, Tensor]:
        """The principal directions, {} when nothing needs them."""
        return self.codes.state() if self.codes else {}

    def recall(self, studied: dict[str, Tensor], *, resumed: bool = False) -> None:
        """Keep the directions that the generator's latents stand for; in another training than that which found them a
        warm start would only undo what it knows."""
        if resumed:
            if studied:  # {} where nothing needs them, and of an older run
                self.codes = PrincipalCodes.restored(studied, classes_of(self.spec))
            return
        self.warm_start = 0.0
        if self.options.anchor:
            if not studied:
                raise SettingsError("train.start was trained without task.anchor: set task.anchor=0.")
            self.codes = PrincipalCodes.restored(studied, classes_of(self.spec))

    def get_redrawing_ready(self, prepared: Prepared, seed: int) -> None:
        """What `Care.redraw` needs, in the unit of what the images of each class vary."""
        if self.redrawing is None:
            codes = self.codes or PrincipalCodes(prepared, self.model.latent, seed)
            self.redrawing = Redrawing.relative(codes, prepared, seed)

    def networks(self) -> Networks:
        """Freshly initialised generator and discriminator."""
        networks = build_networks(self.model, self.spec)
        if self.codes is not None and isinstance(networks["generator"], StartsFromMean):
            for part in [part for network in networks.values() for part in network.modules()]:
                if isinstance(part, Greys):
                    part.take(self.codes.greys)
                if isinstance(part, Background):
                    part.set(self.codes.backgrounds)
            networks["generator"].set_mean(self.codes.mean_images)
        return networks

    def turns(self) -> list[Turn]:
        """The warm start, then the discriminator's turns and the generator's."""
        options = self.options
        warm = [Turn(nets=("generator",), loss=self.warm_start_loss, rate=options.warm_start_rate)]
        return [
            *(warm if self.warm_start else []),
            Turn(nets=("discriminator",), loss=self.discriminator_loss, repeats=options.discriminator_steps,
                 rate=options.discriminator_rate, makes=("generator",),
                 after=self.constrain if options.weight_clip else None),
            Turn(nets=("generator",), loss=self.generator_loss),
        ]

    def constant(self, batch: Batch) -> Hashable:
        """What decides how a step goes: see `Repeatable`."""
        first, penalised = batch.items[0] % EVERY, batch.step % self.options.penalty_every == 0
        return batch.constant(), first, self._warming(batch), penalised

    def constrain(self, nets: Networks) -> None:
        """Clip the discriminator's weights."""
        clip_weights(nets["discriminator"], self.options.weight_clip)

    def _warming(self, batch: Batch) -> bool:
        return batch.progress < self.warm_start

    def warm_start_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Mean squared error of training images redrawn from their principal coordinates."""
        if not self._warming(batch):
            return {}
        assert self.codes is not None, "study comes before training"
        codes = self.codes.on(batch.images.device)
        given = self._given(batch)
        redrawn, true = nets["generator"](codes(batch.images, given[0]), *given), batch.images
        return {"redrawing": functional.mse_loss(codes.greys(redrawn, given[0]), codes.greys(true, given[0]))}

    def _given(self, batch: Batch) -> tuple[Tensor | None, ...]:
        """What networks are told of a batch's images beside them: classes, and numbers where there are some."""
        labels = batch.labels if self.conditional else None
        return (labels, batch.conditions) if self.spec.conditions else (labels,)

    def discriminator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """The adversarial loss and the penalty. The images made here are kept for the generator's turn."""
        if self._warming(batch):
            return {}
        given, discriminator = self._given(batch), nets["discriminator"]
        self.made = self.sample(nets["generator"], batch)
        real = self._augmented(batch.images, batch, "real")
        fake = self._augmented(self.made.detach(), batch, "fake")
        # Spectral normalisation moves on with every call: a finite difference between two calls would measure that too.
        with parametrize.cached() if self.penalty.finite else nullcontext():
            again = [self._augmented(batch.images, batch, "again")] if self._compares(batch) else []
            real_logits, fake_logits, *again_logits = self._judge(discriminator, [real, fake, *again], given)
            terms = {
                "loss": self.loss.discriminator(real_logits, fake_logits),
                "_real": real_logits.detach().mean(),
                "_fake": fake_logits.detach().mean(),
            }
            for logits in again_logits:
                terms["consistency"] = self.options.consistency * inconsistency(real_logits, logits)
            if self.options.penalty != "none" and batch.step % self.options.penalty_every == 0:
                value = self._penalty(discriminator, batch, real, fake, real_logits, fake_logits)
                terms["penalty"] = value * self._penalty_weight(batch) * self.options.penalty_every
        return terms

    def _compares(self, batch: Batch) -> bool:
        """Whether real images are judged a second time, under another augmentation."""
        return self.options.consistency > 0 and augments(batch, self.augmentation)

    def _augmented(self, images: Tensor, batch: Batch, stream: str) -> Tensor:
        """Images as the discriminator is shown them: changed in the unit that it sees them in."""
        if self.codes is None:
            return augment(images, batch, stream, self.augmentation)
        greys, labels = self.codes.on(images.device).greys, self._given(batch)[0]
        return greys.back(augment(greys(images, labels), batch, stream, self.augmentation), labels)

    def _judge(self, discriminator: nn.Module, kinds: list[Tensor], given: tuple[Tensor | None, ...]) -> list[Tensor]:
        """Logits of each; in one call, which is faster, unless batch normalisation or groups would mix them."""
        if self.batch_norm or len(kinds[0]) % GROUP:
            return [discriminator(images, *given) for images in kinds]
        repeated = [None if part is None else torch.cat([part] * len(kinds)) for part in given]
        return list(discriminator(torch.cat(kinds), *repeated).chunk(len(kinds)))

    def _penalty(self, discriminator: nn.Module, batch: Batch, real: Tensor, fake: Tensor,
                 real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        given, kind = self._given(batch), self.penalty

        def critic(images: Tensor) -> Tensor:
            logits: Tensor = discriminator(images, *given)
            return logits

        if kind.between:
            return one_centred(critic, real, fake, batch.uniform("between"))
        if kind.around:
            return around_real(critic, real, batch.normal("around", *real.shape[1:]))
        total = real_logits.new_zeros(())
        for name, wanted, images, logits in (
            ("real", kind.real, real, real_logits), ("fake", kind.fake, fake, fake_logits),
        ):
            if wanted and kind.finite:
                noise = batch.normal(f"finite/{name}", *images.shape[1:])
                total = total + finite_difference(critic, images, logits, noise, self.options.penalty_step)
            elif wanted:
                total = total + zero_centred(critic, images)
        return total

    def _penalty_weight(self, batch: Batch) -> float | Tensor:
        first, last = self.options.penalty_weight, self.options.penalty_weight_end
        weight = first * (last / first) ** batch.now() if first and last else first
        return weight * batch.care.penalty

    def generator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """The adversarial loss of the generator, against the real images where the loss pairs them."""
        if self._warming(batch):
            return {}
        given, discriminator = self._given(batch), nets["discriminator"]
        made, self.made = self.made, None
        if made is None or not made.requires_grad:  # a batch in parts: graphs of all parts would not fit
            made = self.sample(nets["generator"], batch)
        fake = discriminator(self._augmented(made, batch, "fake"), *given)
        if self.loss.pairs:
            with torch.no_grad():
                real = discriminator(self._augmented(batch.images, batch, "real"), *given)
        else:
            real = fake.detach()
        loss = LOSSES["non_saturating"] if self.saturates and batch.care.unsaturated else self.loss
        terms = {"loss": loss.generator(real, fake)}
        if self.options.anchor or batch.care.redraw:
            redrawing = self.redrawing if batch.care.redraw else Redrawing(cast(PrincipalCodes, self.codes))
            assert redrawing is not None, "the doctor gets it ready"
            error, relative = redrawing.errors(nets["generator"], batch, given)  # both of the same images, drawn once
            if self.options.anchor:
                terms["anchor"] = self.options.anchor * error
            if batch.care.redraw:
                terms["redrawing"] = batch.care.redraw * relative
        return terms

    def judge(self, networks: Networks, batch: Batch, images: Tensor) -> Tensor:
        """The discriminator's logits (n,) of images (n, c, *space) of the batch's classes, augmented as in training."""
        seen = self._augmented(images, batch, "judged")
        logits: Tensor = networks["discriminator"](seen, *self._given(batch))
        return logits

    def parted(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Drawn channels as images (n, c, *space) and the label values with the highest channel (n, *space)."""
        return images[:, :self.channels], masks_of(images[:, self.channels:], self.spec.label_values)

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """Images (n, c, *space) in [-1, 1] from the items' own latents, of the batch's classes."""
        latents = batch.normal("latent", cast(int, network.latent))
        images: Tensor = network(latents, *self._given(batch))
        return images


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for losses, penalties and networks that cannot work together."""
    if options.masks:
        need_masks(spec, "task.masks=true draws images with masks")
    norm = discriminator_norm(model)
    if norm == "batch" and options.penalty != "none":
        raise SettingsError(
            f"task.penalty={options.penalty} cannot be taken through batch normalisation, which mixes the images of a "
            f"batch. Set model.discriminator_norm=none or task.penalty=none (model.kind={model.kind})."
        )
    if options.loss == "wasserstein" and options.penalty == "none" and not options.weight_clip and norm != "spectral":
        normed = ", or model.discriminator_norm=spectral" if hasattr(model, "discriminator_norm") else ""
        first = " (with model.discriminator_norm=none)" if norm == "batch" else ""
        raise SettingsError(
            f"task.loss=wasserstein needs a Lipschitz constraint: set task.penalty=wgan_gp{first} with "
            f"task.penalty_weight=10 and task.penalty_weight_end=10, or task.weight_clip=0.01{normed}."
        )
    return Synthesis(options, augmentation, model, spec)
