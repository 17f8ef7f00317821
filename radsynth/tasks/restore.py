"""Restoration: finer pixels (Dong et al. 2014; Ledig et al. 2017) or less noise (Zhang et al. 2017, DnCNN).

The network learns the correction of its interpolated or noisy input. Worse images are made of good ones on the fly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from radsynth.augment import Settings as Augmentation
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.models import Networks
from radsynth.settings import nearest, settings
from radsynth.tasks import Task, Turn
from radsynth.tasks import _degrade as degrade
from radsynth.tasks._paired import PairedGame, paired_networks
from radsynth.tasks._projections import add_photon_noise

MODEL = "unet"
RESULTS = "Restored images"
KEEPING = PATCHES = True


@settings
class Settings:
    """From images that were made worse back to good ones: super-resolution or denoising. Fidelity comes first."""

    kind: Literal["restore"] = "restore"
    what: Literal["resolution", "rician", "low_dose", "low_dose_projections", "pairs"] = "resolution"
    """What is restored: resolution; Rician noise (MR); low_dose: noise with the texture of low-dose CT, simulated in
    the image; low_dose_projections: simulated as few photons in the projections (CT in Hounsfield units); pairs: real
    pairs, a worse and a good channel of each image."""
    factor: Literal[2, 3, 4] = 2
    """For resolution: how many times finer the result's pixels are."""
    axes: Literal["all", "slices", "rows"] = "all"
    """For resolution: which axes are made finer. Through-plane, from thick slices to thin ones: slices for a network of
    volumes, rows for one of coronal or sagittal slices (data.plane), which learns much faster."""
    noise: tuple[float, float] = (0.02, 0.12)
    """For noise: smallest and largest standard deviation, as shares of the intensity range."""
    photons: tuple[float, float] = (3000.0, 30000.0)
    """For low_dose_projections: fewest and most photons that enter along a ray as wide as a pixel. Rays pass what the
    image shows alone: for crops, count those that are left of them where the crop begins."""
    given: str = ""
    """For pairs: the worse channel's name; empty: the first."""
    clean: str = ""
    """For pairs: the good channel's name; empty: the other one."""
    loss: Literal["non_saturating", "least_squares", "hinge", "relativistic"] = "relativistic"
    """The adversarial loss."""
    adversarial: float = Field(0.0, ge=0)
    """Weight of the adversarial loss; 0 trains without a discriminator. About 0.005 gives sharper looks, less truth."""
    charbonnier: float = Field(1.0, ge=0)
    """Weight of the rounded absolute difference."""
    dissimilarity: float = Field(0.1, ge=0)
    """Weight of the structural dissimilarity, (1 - SSIM) / 2."""


def idle(options: Settings) -> dict[str, str]:
    """Settings that do nothing beside the others, and why: see `radsynth.tasks`."""
    own = {"factor": ("resolution",), "axes": ("resolution",), "noise": ("rician", "low_dose"),
           "photons": ("low_dose_projections",), "given": ("pairs",), "clean": ("pairs",)}
    return {name: f"it is for task.what={' and '.join(whats)}, and this is {options.what}"
            for name, whats in own.items() if options.what not in whats}


class Restore:
    """The task: networks, turns, results."""

    keeps = "generator"
    targets: tuple[str, ...] = ()
    corrects = True
    """The result is the given image, corrected."""

    def __init__(self, options: Settings, augmentation: Augmentation, model: Any, spec: ImageSpec) -> None:
        self.options, self.model, self.spec = options, model, spec
        self.inputs, self.outputs = _pair_of(options, spec) if options.what == "pairs" else (spec.channels,) * 2
        self.finer = _finer(options, spec)
        self.game = PairedGame(
            see=self._see, convert=self.convert, loss=LOSSES[options.loss], adversarial=options.adversarial,
            weights={"charbonnier": options.charbonnier, "dissimilarity": options.dissimilarity},
            augmentation=augmentation)

    def networks(self) -> Networks:
        """Freshly initialised generator and, if there is an adversarial weight, discriminator."""
        sides = (side - side % finer for side, finer in zip(self.spec.size, self.finer, strict=True))
        seen = dataclasses.replace(self.spec, size=tuple(sides))  # what `pair` leaves of the images
        return paired_networks(self.model, seen, self.inputs, self.outputs, bool(self.options.adversarial))

    def turns(self) -> list[Turn]:
        """The generator's turn, after the discriminator's if there is one."""
        return self.game.turns()

    def constant(self, batch: Batch) -> Hashable | None:
        """What decides how a step goes: see `Repeatable`. Photons are drawn by the processor."""
        return None if self.options.what == "low_dose_projections" else batch.constant()

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images made worse, and the good ones; what does not fill a coarse pixel is cut off."""
        if self.options.what == "resolution":
            good = degrade.cut_to_multiples(batch.images, self.finer)
            return degrade.average_down(good, self.finer), good
        if self.options.what == "pairs":
            given, clean = (self.spec.channels.index(names[0]) for names in (self.inputs, self.outputs))
            return batch.images[:, given:given + 1], batch.images[:, clean:clean + 1]
        if self.options.what == "low_dose_projections":
            photons = degrade.noise_levels(batch, *self.options.photons)
            steps = self.spec.spacing or (1.0, 1.0)
            low, high = self.spec.values or (0.0, 0.0)
            return add_photon_noise(batch.images, photons, batch, (low, high), sum(steps[-2:]) / 2), batch.images
        levels = degrade.noise_levels(batch, *self.options.noise)
        add = degrade.add_rician if self.options.what == "rician" else degrade.add_low_dose
        return add(batch.images, levels, batch), batch.images

    def _see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        given, good = self.pair(batch)
        return self.enlarge(given), good

    def enlarge(self, images: Tensor) -> Tensor:
        """Interpolated to the finer grid; the same images when noise is removed."""
        return degrade.enlarge(images, self.finer) if max(self.finer) > 1 else images

    def convert(self, network: nn.Module, images: Tensor, target: str = "") -> Tensor:
        """The images with the network's correction."""
        corrected: Tensor = images + network(images)
        return corrected

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """What becomes of the batch's images when they are made worse first: (n, c, *space) in [-1, 1]."""
        return self.convert(network, self._see(batch)[0]).float().clamp(-1, 1)


def _finer(options: Settings, spec: ImageSpec) -> tuple[int, ...]:
    if options.what != "resolution":
        return (1,) * spec.dimensions
    if options.axes == "all":
        return (options.factor,) * spec.dimensions
    if options.axes == "rows" and spec.dimensions == 2:
        return (options.factor, 1)
    if options.axes == "rows":
        raise SettingsError("task.axes=rows needs slices, these are volumes: set task.axes=slices, or prepare slices "
                            "(data.plane=coronal).")
    if spec.dimensions == 2:
        raise SettingsError("task.axes=slices needs volumes, these are images: prepare volumes (data.plane=volume), or "
                            "set task.axes=rows with data.plane=coronal, or task.axes=all.")
    return (options.factor, 1, 1)


def _pair_of(options: Settings, spec: ImageSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The worse channel and the good one."""
    names = spec.channels
    if len(names) < 2:
        raise SettingsError(f"task.what=pairs needs a worse and a good channel of each image, these have {names[0]} "
                            "alone: read both with data.kind=contrasts.")
    for setting, name in (("given", options.given), ("clean", options.clean)):
        if name and name not in names:
            raise SettingsError(f"task.{setting}: {name!r} is no channel of these images{nearest(name, names)}; they "
                                f"have {', '.join(names)}.")
    given = options.given or next(name for name in names if name != options.clean)
    clean = options.clean or next(name for name in names if name != given)
    if given == clean:
        raise SettingsError(f"task.given and task.clean are both {given!r}: one of them must be another channel of "
                            f"{', '.join(names)}.")
    return (given,), (clean,)


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for noise without sense and for slices of 2-D images."""
    low, high = options.noise
    if not 0 < low <= high <= 1:
        raise SettingsError(f"task.noise={list(options.noise)}: give two numbers, 0 < smallest <= largest <= 1.")
    fewest, most = options.photons
    if not 1 <= fewest <= most:
        raise SettingsError(f"task.photons={list(options.photons)}: give two numbers, 1 <= fewest <= most.")
    if options.what == "low_dose_projections" and (spec.units != "HU" or spec.values is None):
        raise SettingsError("task.what=low_dose_projections needs CT in Hounsfield units, because photons are weakened "
                            f"by attenuation; these are {spec.modality} in {spec.units} values. task.what=low_dose "
                            "adds noise to the image itself.")
    task = Restore(options, augmentation, model, spec)
    if any(side < finer for side, finer in zip(spec.size, task.finer, strict=True)):
        raise SettingsError(f"task.factor={options.factor} needs at least as many pixels along each axis that is "
                            f"made finer; the images are {'x'.join(map(str, spec.size))}. Set task.axes, prepare.size.")
    return task
