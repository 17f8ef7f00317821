"""Networks. A module is one kind, of one of four families; TAKES says what the generator takes ("noise" if absent).

Settings                                         its settings, `kind` first; every family. With `latent` where the
                                                 generator has one: some is made for it before the networks are. With
                                                 `discriminator_norm` where it can be chosen, else (unless "none") the
                                                 module says DISCRIMINATOR_NORM: "batch" is refused where slopes are
                                                 penalised, "spectral" is a Lipschitz constraint of every weight

TAKES = "noise":  networks(settings, spec: ImageSpec) -> dict[str, nn.Module]
    "generator" and "discriminator". SettingsError: size it cannot make.
    A generator has `latent: int` and maps (n, latent) [and (n,) class indices] to (n, c, *space) in [-1, 1], or beyond
    it, which is clipped where images are drawn from a trained run.
    A discriminator maps (n, c, *space) [and class indices] to logits (n,). Both are called only as `net(x, labels)`;
    where images are learned with numbers (spec.conditions), `build` wraps both: `net(x, labels, conditions)`.

TAKES = "image":  networks(settings, spec, source: ImageSpec, judges: int) -> dict[str, nn.Module]
    "generator" and "discriminator". Any size in, the same size out; `spec`: images made, `source`: images taken.
    A generator maps (n, c of source, *space) to (n, c of spec, *space), linear and not clipped, and is called as
    `net(x)`. An output pixel does not depend on input further away than `reach` pixels, nor, for shifts by multiples of
    `stride` pixels, on where the image's corner is: so large images can be done in tiles, without seams.
    `net(x, encode=True)` gives what it sees on the way, a list of features (n, width, *grid), one for each of `widths`.
    A discriminator maps (n, `judges` channels, *space), the images and what they are judged with, to logits
    (n, 1, *grid) in fp32, one a patch (PatchGAN, Isola et al. 2017).

TAKES = "code":  networks(settings, spec: ImageSpec) -> dict[str, nn.Module]
    "generator", as of "noise", and "encoder": (n, c, *space) [and class indices] to (n, 2, latent) in fp32, means and
    log variances of the codes that the generator redraws images from.

TAKES = "mask":  networks(settings, spec, source: ImageSpec, judges: int) -> dict[str, nn.Module]
    "generator" and "discriminator". The generator has `latent: int` and maps (n, c of source, *space), for each place
    the shares of the mask's classes, and latents (n, latent) to (n, c of spec, *space) in [-1, 1], any size in and the
    same out; `reach` and `stride` as of "image", if it is told which cell of its own grid (`stride` pixels a side) the
    first one given is: `net(x, latents, corner)`. Its `encoder` is as of "code", of images as large as `spec` says.
    The discriminator maps (n, `judges` channels, *space) to a list for each scale: what its layers find, and last the
    logits (n, 1, *grid) in fp32.

A network that changes with training beyond its weights has `advance(progress)`, see `Growing`. One whose pass asks the
device for values has `asks = True`: on a GPU its steps are not recorded.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

from torch import nn

from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.models._conditions import ConditionedDiscriminator, ConditionedGenerator

Networks = dict[str, nn.Module]


def takes(settings: Any) -> str:
    """What the generator of the kind whose `Settings` these are takes: "noise", "image", "code" or "mask"."""
    return getattr(sys.modules[type(settings).__module__], "TAKES", "noise")


def discriminator_norm(settings: Any) -> str:
    """How the discriminator of the network with these `Settings` is normalised: "batch", "spectral" or "none"."""
    always = getattr(sys.modules[type(settings).__module__], "DISCRIMINATOR_NORM", "none")
    return str(getattr(settings, "discriminator_norm", always))


MEANT_FOR = {
    "noise": "task.kind=synthesis (or private)", "code": "task.kind=autoencode", "mask": "task.kind=semantic",
    "image": "tasks from image to image, such as task.kind=translate or segment",
}
"""What a network is taken for, by what it takes."""


def check_family(settings: Any, wanted: str) -> None:
    """SettingsError for a network that does not take what the task's must take."""
    if takes(settings) != wanted:
        raise SettingsError(
            f"model.kind={settings.kind} takes {takes(settings)}, but this task's network must take {wanted}. "
            f"Leave model.kind out, or choose one that does ('radsynth show kinds'); {settings.kind} is a network of "
            f"{MEANT_FOR[takes(settings)]}."
        )


def build(settings: Any, spec: ImageSpec, source: ImageSpec | None = None, judges: int = 0,
          codes: bool = False, masks: bool = False) -> Networks:
    """The networks of the kind whose `Settings` these are; with a `source` for a task whose generator takes images.

    judges: channels that the discriminator sees; codes: the task needs an encoder; masks: its generator paints
    masks. SettingsError for a kind of another family.
    """
    wanted = "mask" if masks else "image" if source is not None else "code" if codes else "noise"
    check_family(settings, wanted)
    module = sys.modules[type(settings).__module__]
    if source is not None:
        return cast(Networks, module.networks(settings, spec, source, judges))
    networks: Networks = module.networks(settings, spec)
    if spec.conditions and wanted == "noise":
        count, seen = len(spec.conditions), replace(spec, channels=(*spec.channels, *spec.conditions))
        networks = {"generator": ConditionedGenerator(networks["generator"], count),
                    "discriminator": ConditionedDiscriminator(module.networks(settings, seen)["discriminator"], count)}
    return networks


@runtime_checkable
class Growing(Protocol):
    """A network that changes with training beyond its weights; where it is belongs to its saved state."""

    def advance(self, progress: float) -> None:
        """Take in how much of training is done, 0 to 1."""


def growing(networks: Networks) -> list[Growing]:
    """The parts of networks that are told how much of training is done."""
    return [part for network in networks.values() for part in network.modules() if isinstance(part, Growing)]
