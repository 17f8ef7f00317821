"""Variational autoencoding (Kingma and Welling 2014; beta: Higgins et al. 2017): images from noise, without a game."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal, cast

from pydantic import Field
from torch import Tensor, nn

from radsynth.augment import Settings as Augmentation
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.losses.likelihood import calibrated_normal, divergence_from_normal
from radsynth.models import Networks, takes
from radsynth.models import build as build_networks
from radsynth.models._blocks import classes_of
from radsynth.settings import settings
from radsynth.tasks import Task, Terms, Turn

MODEL = "vae"


@settings
class Settings:
    """Images from noise by a decoder that learned to redraw images from their codes."""

    kind: Literal["autoencode"] = "autoencode"
    beta: float = Field(1.0, ge=0)
    """Weight of the codes' divergence from noise: more gives better samples from noise, less sharper redrawings."""


class Autoencode:
    """The task: networks, turns, samples."""

    keeps = "generator"

    def __init__(self, options: Settings, model: Any, spec: ImageSpec) -> None:
        self.options, self.model, self.spec = options, model, spec
        self.conditional = classes_of(spec) > 0

    def networks(self) -> Networks:
        """Freshly initialised encoder and generator."""
        return build_networks(self.model, self.spec, codes=True)

    def turns(self) -> list[Turn]:
        """One turn for both."""
        return [Turn(nets=("encoder", "generator"), loss=self.bound)]

    def constant(self, batch: Batch) -> Hashable:
        """What decides how a step goes: see `Repeatable`."""
        return batch.constant()

    def _labels(self, batch: Batch) -> Tensor | None:
        return batch.labels if self.conditional else None

    def bound(self, nets: Networks, batch: Batch) -> Terms:
        """Minus the evidence lower bound, in nats per value of an image so that one learning rate suits all sizes."""
        mean, log_variance = nets["encoder"](batch.images, self._labels(batch)).unbind(1)
        code = mean + (0.5 * log_variance).exp() * batch.normal("code", mean.shape[1])
        redrawn = nets["generator"](code, self._labels(batch))
        values = batch.images[0].numel()
        return {
            "redrawing": calibrated_normal(redrawn, batch.images) / values,
            "divergence": self.options.beta * divergence_from_normal(mean, log_variance) / values,
        }

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """Images (n, c, *space) in [-1, 1] from the items' own latents, of the batch's classes."""
        latents = batch.normal("latent", cast(int, network.latent))
        images: Tensor = network(latents, self._labels(batch))
        return images


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task, without augmentation: the decoder would learn it. SettingsError: no encoder."""
    if takes(model) != "code":
        raise SettingsError(
            f"task.kind=autoencode needs a network with an encoder, which model.kind={model.kind} has not. "
            "Leave model.kind out, or set model.kind=vae."
        )
    return Autoencode(options, model, spec)
