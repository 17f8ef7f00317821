"""Registration: a network that finds the diffeomorphism from one image to another (Dalca et al. 2018, VoxelMorph).

Nothing tells it the right warps: the images must agree and the warp be smooth. A discriminator that knows well-aligned
pairs (Fan et al. 2019) and labels can help.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from radsynth.arrays import NO_MASK, Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.batch import Batch
from radsynth.device import channels_last
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.losses.alignment import label_mismatch, local_decorrelation, roughness
from radsynth.losses.reconstruction import squared
from radsynth.models import Networks
from radsynth.models import build as build_networks
from radsynth.settings import nearest, settings
from radsynth.tasks import Task, Terms, Turn
from radsynth.tasks._masks import shares_of
from radsynth.tasks._partners import Partners
from radsynth.tasks._refine import refined
from radsynth.tasks._warp import compose, enlarge, integrate, random_velocity, shrink, smooth, warp

MODEL = "unet"
RESULTS = "Registered images"

SLICE_PARTNERS = {False: 10, True: 1}
"""Of so many most similar slices one is the partner of a slice: of other patients; of the same one (True)."""

BLEND = 0.2
"""Share of the warped image in the discriminator's well-aligned example (Fan et al. 2019: 0.1 to 0.2)."""
NEAR = 0.4
"""Pixels by which the discriminator's well-aligned examples are off."""

KNOWN = 0.03
"""Size of the known warps that previews and measurements undo: standard deviation as a share of the longest side."""
WAVE = 0.25
"""Length over which a known warp changes, as a share of the longest side."""
NOISE = 0.04
"""Standard deviation of the noise on images under a known warp: 2 % of the range from -1 to 1."""


@settings
class Settings:
    """A smooth invertible warp from any image onto another of the same anatomy."""

    kind: Literal["register"] = "register"
    moving: str = ""
    """Channel of the moving image that the network sees; empty: all. The loss compares all channels."""
    fixed: str = ""
    """Channel of the fixed image that the network sees; empty: all. Another than `moving` makes it multi-modal."""
    similarity: Literal["correlation", "squared", "none"] = "correlation"
    """How images are compared: local correlation, squared error, or by labels or the discriminator alone."""
    window: int = Field(9, ge=2)
    """Pixels along each side of the local correlation's window."""
    smoothness: float = Field(0.2, ge=0)
    """Weight of the velocity's roughness, in pixels, which prepare makes alike along all axes."""
    labels: float = Field(2.0, ge=0)
    """Weight of the overlap (Dice) of warped labels, where the data has masks; results need none."""
    loss: Literal["non_saturating", "least_squares", "hinge", "relativistic"] = "least_squares"
    """The adversarial loss."""
    adversarial: float = Field(0.0, ge=0)
    """Weight of the adversarial loss, a learned similarity; 0 trains without a discriminator. Try 0.05."""
    both_ways: bool = True
    """Learn from the inverse warp of each pair too."""
    passes: int = Field(2, ge=1, le=100)
    """How often the network looks at what is left and corrects it, with the same weights (Zhao et al. 2019)."""
    grid: Literal[1, 2, 4] = 2
    """Pixels between the points of the velocity field."""
    blur: float = Field(0.0, ge=0, le=100)
    """Standard deviation of a Gaussian on the velocity field, in its points."""
    known: float = Field(0.25, ge=0, le=1)
    """Share of the pairs in training whose moving image is the fixed one itself under a random warp, with noise."""
    refinement: NonNegativeInt = 20
    """Steps in which each result is made better for its own pair of images, where both show the same channels, after
    half as many at each of some coarser stages; 0: the network's warp as it is."""
    same_patient: bool = False
    """Learn from images of the same patient (follow-ups, phases of the heart or of a breath) instead of those of
    different ones; where a patient has one image alone, from those of others."""
    partners: NonNegativeInt | None = None
    """Images are registered onto one of their so many most similar ones of other patients, 0: onto any; null: 10 for
    slices, any for volumes. With `same_patient`, of the same patient; null: the most similar slice, any volume."""


OF_MASKS = ("labels",)


def idle(options: Settings) -> dict[str, str]:
    """Settings that do nothing beside the others, and why: see `radsynth.tasks`."""
    found, compared = dict[str, str](), f"task.similarity={options.similarity}"
    if options.similarity == "none":
        found["refinement"] = f"nothing is left to compare a pair by ({compared})"
    elif options.moving and options.fixed and options.moving != options.fixed:
        found["refinement"] = f"the channels differ (task.moving={options.moving}, task.fixed={options.fixed})"
    if options.similarity != "correlation" and ("refinement" in found or not options.refinement):
        found["window"] = f"no local correlation is taken ({compared})"
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Warps:
    """Displacements (n, d, *space) in pixels: moving(p + forward(p)) looks like fixed(p), and the inverse.

    roughness: of the velocities that they come from
    """

    forward: Tensor
    backward: Tensor
    roughness: Tensor


class Register:
    """The task: networks, turns, warps."""

    keeps = "generator"

    def __init__(self, options: Settings, model: Any, spec: ImageSpec) -> None:
        self.options, self.model, self.spec = options, model, spec
        self.moving = _channels(options.moving, "moving", spec)
        self.fixed = _channels(options.fixed, "fixed", spec)
        self._moving = [spec.channels.index(name) for name in self.moving]
        self._fixed = [spec.channels.index(name) for name in self.fixed]
        self.loss = LOSSES[options.loss]
        self.partners: Partners | None = None

    @property
    def candidates(self) -> int:
        """How many images an image's partner is drawn from, 0 for all."""
        chosen = self.options.partners
        return (chosen if chosen is not None else 0 if self.spec.dimensions == 3
                else SLICE_PARTNERS[self.options.same_patient])

    def partners_in(self, prepared: Prepared, rows: NDArray[np.int64]) -> Partners:
        """Which of these images are registered onto which."""
        return Partners(prepared, rows, self.candidates, self.options.same_patient)

    def study(self, prepared: Prepared, seed: int) -> None:
        """Learn which training images can be partners; SettingsError where none can."""
        rows = prepared.indices("train")
        self.partners = self.partners_in(prepared, rows)
        if not self.partners.suited(rows).any():
            raise SettingsError(
                "task.same_patient=true: no patient of the training has two images (the slices of a volume are one). "
                "data.patient_pattern or a folder for each patient says whose they are; prepare the data with it, or "
                "set task.same_patient=false.")

    def networks(self) -> Networks:
        """A generator of velocities and, if there is an adversarial weight, a discriminator of pairs."""
        spec, names = self.spec, [f"moving {name}" for name in self.moving] + [f"fixed {name}" for name in self.fixed]
        made = ImageSpec(size=spec.size, channels=("slice", "row", "column")[-spec.dimensions:])
        networks = build_networks(self.model, made, ImageSpec(size=spec.size, channels=tuple(names)), len(names))
        return networks if self.options.adversarial else {"generator": networks["generator"]}

    def turns(self) -> list[Turn]:
        """The generator's turn, after the discriminator's if there is one."""
        generator = Turn(nets=("generator",), loss=self.generator_loss)
        if not self.options.adversarial:
            return [generator]
        return [Turn(nets=("discriminator",), loss=self.discriminator_loss), generator]

    def warps(self, network: Callable[[Tensor], Tensor], moving: Tensor, fixed: Tensor) -> Warps:
        """The warps from moving to fixed images, (n, channels, *space) of `self.moving` and `self.fixed`."""
        factor, space = self.options.grid, tuple(fixed.shape[2:])
        forward = backward = torch.zeros(len(fixed), len(space), *space, device=fixed.device)
        rough = forward.new_zeros(())
        for step in range(self.options.passes):
            seen = warp(moving, forward) if step else moving
            raw = network(channels_last(torch.cat([seen, fixed], dim=1)))
            with torch.autocast(raw.device.type, enabled=False):  # positions need more than the 8 bits of bf16
                velocity = smooth(shrink(raw.float(), factor) / factor, self.options.blur)
                there, back = (factor * enlarge(integrate(sign * velocity), factor, space) for sign in (1, -1))
                forward = compose(there, forward) if step else there
                backward = compose(backward, back) if step else back
                rough = rough + roughness(velocity)
        return Warps(forward=forward, backward=backward, roughness=rough)

    def displacement(self, network: Callable[[Tensor], Tensor], moving: Tensor, fixed: Tensor) -> Tensor:
        """What results are made with, (n, d, *space) in pixels: the warp, made better for each pair."""
        with torch.no_grad():
            found = self.warps(network, moving, fixed).forward
        steps = self.options.refinement if self.moving == self.fixed and self.options.similarity != "none" else 0
        return refined(found, moving, fixed, steps, self.options.window) if steps else found

    def given(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """What the network sees of moving and fixed images with all channels."""
        return moving[:, self._moving], fixed[:, self._fixed]

    def generator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Nearness of the warped to the fixed image, and back, with labels if there are any; and smoothness."""
        options = self.options
        moving, fixed = self._pair(batch)
        channels = len(self.spec.channels)
        warps = self.warps(nets["generator"], *self.given(moving[:, :channels], fixed[:, :channels]))
        terms = {"smoothness": options.smoothness * warps.roughness}
        directions = [(moving, fixed, warps.forward)]
        if options.both_ways:
            directions.append((fixed, moving, warps.backward))
        with torch.autocast(fixed.device.type, enabled=False):
            for start, goal, displacement in directions:
                made = warp(start, displacement)
                for name, value in self._agreement(made, goal).items():
                    terms[name] = terms.get(name, 0) + value / len(directions)
        if options.adversarial:
            made, seen = warp(moving[:, :channels], warps.forward), fixed[:, :channels]
            fake = nets["discriminator"](self._judged(made, seen))
            real = fake.detach()
            if self.loss.pairs:
                with torch.no_grad():
                    real = nets["discriminator"](self._judged(self._aligned(batch, made, seen), seen))
            terms["adversarial"] = options.adversarial * self.loss.generator(real, fake)
        return terms

    def _agreement(self, made: Tensor, goal: Tensor) -> Terms:
        """The losses of images with their labels' shares behind them, (n, channels + labels, *space)."""
        options, channels = self.options, len(self.spec.channels)
        terms: Terms = {}
        if options.similarity == "correlation":
            terms["dissimilarity"] = local_decorrelation(made[:, :channels], goal[:, :channels], options.window)
        elif options.similarity == "squared":
            terms["dissimilarity"] = squared(made[:, :channels], goal[:, :channels])
        if options.labels and made.shape[1] > channels:
            terms["labels"] = options.labels * label_mismatch(made[:, channels:], goal[:, channels:])
        return terms

    def discriminator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Well-aligned pairs against those that the generator makes."""
        moving, fixed = (images[:, :len(self.spec.channels)] for images in self._pair(batch))
        with torch.no_grad():
            made = warp(moving, self.warps(nets["generator"], *self.given(moving, fixed)).forward)
        judge = nets["discriminator"]
        real = judge(self._judged(self._aligned(batch, made, fixed), fixed))
        fake = judge(self._judged(made, fixed))
        return {"loss": self.loss.discriminator(real, fake), "_real": real.detach().mean(),
                "_fake": fake.detach().mean()}

    def _judged(self, made: Tensor, fixed: Tensor) -> Tensor:
        return channels_last(torch.cat(self.given(made, fixed), dim=1))

    def _aligned(self, batch: Batch, made: Tensor, fixed: Tensor) -> Tensor:
        """What well-aligned images look like: the fixed one, a little off, with some of the other patient in it."""
        off = integrate(random_velocity(batch, "near", self.spec.size, NEAR, WAVE * max(self.spec.size),
                                        self.spec.spacing))
        return warp((1 - BLEND) * fixed + BLEND * made.detach(), off)

    def _pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Moving (partners) and fixed images (the batch), their labels' shares behind the channels."""
        assert self.partners is not None, "study comes before training"
        rows = self.partners.of(np.asarray(batch.rows), batch.lots("partner", 1)[:, 0])
        prepared = self.partners.prepared
        moving, fixed = torch.from_numpy(prepared.images(rows)).to(batch.images.device), batch.images
        if self.options.labels and batch.masks is not None:
            own = torch.from_numpy(prepared.masks(rows)).to(fixed.device)
            both = ((own != NO_MASK) & (batch.masks != NO_MASK)).long()  # else neither has a label, and none counts
            moving = torch.cat([moving, self._shares(own * both)], dim=1)
            fixed = torch.cat([fixed, self._shares(batch.masks * both)], dim=1)
        return self._some_known(batch, moving, fixed), fixed

    def _some_known(self, batch: Batch, moving: Tensor, fixed: Tensor) -> Tensor:
        """The moving images, some replaced by the fixed ones under a random warp, whose best registration is exact."""
        if not self.options.known:
            return moving
        side, channels = max(self.spec.size), len(self.spec.channels)
        velocity = random_velocity(batch, "itself", tuple(fixed.shape[2:]), KNOWN * side, WAVE * side,
                                   self.spec.spacing)
        own = warp(fixed, integrate(velocity))
        own[:, :channels] += NOISE * batch.normal("noise", *batch.images.shape[1:])
        chosen = batch.uniform("itself?", 1)[:, 0] < self.options.known
        return torch.where(chosen.reshape(-1, *[1] * (fixed.ndim - 1)), own, moving)

    def _shares(self, masks: Tensor) -> Tensor:
        """(n, labels, *space), 1 where a label is; without the background."""
        return shares_of(masks, self.spec.label_values[1:])

    def known(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images warped at random, and the displacements that undo it: a registration whose truth is known."""
        side = max(self.spec.size)
        velocity = random_velocity(batch, "known", tuple(batch.images.shape[2:]), KNOWN * side, WAVE * side,
                                   self.spec.spacing)
        return warp(batch.images, integrate(velocity)), integrate(-velocity)

    @torch.no_grad()
    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """The batch's images after a known warp and its registration back onto them: (n, c, *space) in [-1, 1]."""
        moving, _ = self.known(batch)
        made = warp(moving, self.warps(network, *self.given(moving, batch.images)).forward)
        return made.clamp(-1, 1)


def _channels(name: str, setting: str, spec: ImageSpec) -> tuple[str, ...]:
    if name and name not in spec.channels:
        raise SettingsError(f"task.{setting}: {name!r} is no channel of these images{nearest(name, spec.channels)}; "
                            f"they have {', '.join(spec.channels)}.")
    return (name,) if name else spec.channels


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for channels that do not exist and for nothing to learn from."""
    if options.similarity == "none" and not options.adversarial and not (options.labels and spec.mask_classes):
        raise SettingsError(
            "task.similarity=none leaves nothing to learn from: give task.adversarial a weight, or take data with "
            "masks and give task.labels a weight."
        )
    return Register(options, model, spec)
