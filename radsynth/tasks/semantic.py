"""Semantic synthesis: images from masks (Park et al. 2019, GauGAN). Turns: D, then G with the encoder of styles.

Half of a batch is redrawn from the style of its own image; the other half gets a style from noise. So one mask has many
images, and a style can be lent by an example (the paper's multi-modal synthesis). Without the paper's VGG network a
coarse squared error says what a redrawn image should be like. Styles are an image's principal coordinates, which are
known from the first step on, and new ones are drawn as they are usual for the mask; or an encoder learns them as in the
paper, and must find the style again that an image was made with (Zhu et al. 2017, BicycleGAN), so that none is ignored.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from radsynth.arrays import Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.augment import augment
from radsynth.batch import Batch
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.losses.likelihood import divergence_from_normal
from radsynth.models import Networks, check_family
from radsynth.models import build as build_networks
from radsynth.models._averages import averaged
from radsynth.models._principal import PrincipalEncoder, shrunken
from radsynth.models._usual import UsualStyles
from radsynth.settings import settings
from radsynth.tasks import Task, Terms, Turn
from radsynth.tasks._masks import deformed, need_masks, shares_of
from radsynth.tasks._moved import WARPED, moved
from radsynth.tasks._usual_fit import usual_styles
from radsynth.tasks._warm_start import in_parts, principal, studied

MODEL = "spade"
COARSE = 4
"""Pixels that the coarse squared error averages along each axis."""

Looks = list[list[Tensor]]
"""What a discriminator's layers find on each scale, the logits last."""


@settings
class Settings:
    """Images from masks, and data sets of images with masks: needs images with masks."""

    kind: Literal["semantic"] = "semantic"
    loss: Literal["non_saturating", "least_squares", "hinge"] = "hinge"
    """The adversarial loss."""
    styles: Literal["learned", "principal"] = "learned"
    """What an image's style is: what an encoder learns to find in it (train.rate=0.001), or its principal coordinates,
    which nothing has to learn, new ones as they are usual for the mask; `run` takes these."""
    features: float = Field(10.0, ge=0)
    """Weight of the feature matching: a redrawn image must look to the discriminator's layers like the real one."""
    divergence: float = Field(0.002, ge=0)
    """Weight of the divergence of styles from the normal distribution that new styles are drawn from (0.05 in the
    paper, beside a perceptual loss that outweighs it: here the encoder would then say nothing)."""
    redrawing: float = Field(10.0, ge=0)
    """Weight of the coarse squared error of redrawn images."""
    warm_start: float = Field(0.05, ge=0, lt=0.5)
    """Share of the budget in which images are only redrawn from their own styles; 0 is off."""
    recovery: float = Field(0.5, ge=0)
    """Weight of finding a new image's style again in it."""
    discriminator_rate: float = Field(2.0, gt=0)
    """The discriminator's learning rate as a multiple of the generator's."""
    deform: float = Field(0.0, ge=0, le=0.1)
    """Size of the random smooth warps that half of the images, with their masks, get in training, as a share of the
    longest side; `run` takes 0.03 where fewer than 100 patients have masks."""
    deformation: float = Field(0.03, ge=0, le=0.2)
    """How far masks are deformed to make new ones: standard deviation, as a share of the shortest side; 0 is not."""


def idle(options: Settings) -> dict[str, str]:
    """Settings that do nothing beside the others, and why: see `radsynth.tasks`."""
    own = dict.fromkeys(("divergence", "recovery"), "it is for styles that are learned, and task.styles=principal")
    return own if options.styles == "principal" else {}


class Semantic:
    """The task: networks, turns, images of masks."""

    keeps = "generator"
    saturates = penalised = False
    inputs: tuple[str, ...] = ("mask",)

    def __init__(self, options: Settings, augmentation: Augmentation, model: Any, spec: ImageSpec) -> None:
        self.options, self.augmentation, self.model, self.spec = options, augmentation, model, spec
        self.outputs, self.finer, self.values = spec.channels, (1,) * spec.dimensions, spec.label_values
        self.targets = spec.labels if len(spec.labels) > 1 else ()
        self.loss = LOSSES[options.loss]
        self.made: tuple[Tensor, Tensor, Tensor] | None = None
        self.learns_styles = options.styles == "learned"
        # Of a trained run they are in the weights.
        self.principal = None if self.learns_styles else self._principal()

    def _principal(self) -> tuple[PrincipalEncoder, UsualStyles]:
        size, latent = self.spec.size, self.model.latent
        return (PrincipalEncoder(len(self.spec.channels), latent, size),
                UsualStyles(len(self.values) + len(self.targets), latent, size))

    def study(self, prepared: Prepared, seed: int) -> None:
        """Take the principal directions from the training images, where these are the styles, and learn which of them
        are usual for a mask."""
        if self.principal is None:
            return
        rng, (encoder, usual) = np.random.default_rng(seed), self.principal
        rows = studied(prepared, rng)
        pixels, seen = [], []
        for part in in_parts(prepared, len(rows)):
            pixels.append(shrunken(torch.from_numpy(prepared.images(rows[part]))))
            masks = torch.from_numpy(prepared.masks(rows[part]))
            seen.append(usual.seen(self.given(masks, torch.from_numpy(prepared.labels(rows[part])))))
        together = torch.cat(pixels)
        encoder.take(*principal(together, self.model.latent, rng))
        usual.take(*usual_styles(torch.cat(seen), encoder.codes(together), prepared.patients(rows)))

    def networks(self) -> Networks:
        """Freshly initialised generator, with its encoder of styles, and discriminator."""
        given = tuple(f"label {value}" for value in self.values) + self.targets
        source = ImageSpec(size=self.spec.size, channels=given)
        networks = build_networks(self.model, self.spec, source, len(given) + len(self.spec.channels), masks=True)
        if self.principal is not None:
            networks["generator"].encoder, networks["generator"].usual = copy.deepcopy(self.principal)
        return networks

    def turns(self) -> list[Turn]:
        """The discriminator's turn, then the generator's."""
        return [Turn(nets=("discriminator",), loss=self.discriminator_loss, rate=self.options.discriminator_rate,
                     makes=("generator",)),
                Turn(nets=("generator",), loss=self.generator_loss)]

    def vary(self, batch: Batch) -> Batch:
        """Some images warped with their masks, as new masks will be; the discriminator learns fewer by heart."""
        return moved(batch, self.options.deform, WARPED)

    def constant(self, batch: Batch) -> Hashable:
        """What decides how a step goes: see `Repeatable`."""
        return batch.constant(), self._warming(batch)

    def given(self, masks: Tensor, labels: Tensor | None) -> Tensor:
        """What the generator sees of masks (n, *space): a channel for each of their classes and of the images'."""
        shares = shares_of(masks, self.values)
        if not self.targets:
            return shares
        assert labels is not None, "images with classes have labels"
        classes = shares_of(labels.clamp_min(0), tuple(range(len(self.targets))))
        planes = classes.view(*classes.shape, *[1] * (masks.ndim - 1)).expand(-1, -1, *masks.shape[1:])
        return torch.cat([shares, planes], dim=1)

    def _of(self, batch: Batch) -> Tensor:
        assert batch.masks is not None, "build refuses data without masks"
        return self.given(batch.masks, batch.labels)

    def styles(self, generator: nn.Module, given: Tensor, noise: Tensor) -> Tensor:
        """New styles (n, latent) for masks, `given` (n, g, *space) of the training's size, from standard normal numbers
        (n, latent)."""
        if self.learns_styles:
            return noise
        styles: Tensor = cast(nn.Module, generator.usual)(given, noise)
        return styles

    def _warming(self, batch: Batch) -> bool:
        return batch.progress < self.options.warm_start

    def _redrawn(self, batch: Batch) -> int:
        """How many of the batch's images, the first ones, are redrawn from their own style."""
        return len(batch.items) if self._warming(batch) else (len(batch.items) + 1) // 2

    def _made(self, nets: Networks, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Images of the batch's masks, the styles (n, latent) that they were made with, the encoder's codes."""
        generator, own, given = nets["generator"], self._redrawn(batch), self._of(batch)
        codes = cast(nn.Module, generator.encoder)(batch.images[:own])
        noise = batch.normal("latent", cast(int, generator.latent))
        mean, log_variance = codes.unbind(1)
        new = self.styles(generator, given[own:], noise[own:])
        styles = torch.cat([mean + (0.5 * log_variance).exp() * noise[:own], new])
        return generator(given, styles), styles, codes

    def _judged(self, batch: Batch, images: Tensor, stream: str) -> Tensor:
        together = torch.cat([2 * self._of(batch) - 1, images.float()], dim=1)
        return augment(together, batch, stream, self.augmentation)

    def discriminator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Real images with their masks against made ones, on every scale. These are kept for the generator's turn."""
        if self._warming(batch):
            self.made = None  # what a roll-back to the warm start has left
            return {}
        self.made = self._made(nets, batch)
        made = self.made[0].detach()
        n = len(made)
        both = torch.cat([self._judged(batch, batch.images, "real"), self._judged(batch, made, "fake")])
        logits = [looks[-1] for looks in nets["discriminator"](both)]
        losses = [self.loss.discriminator(one[:n], one[n:]) for one in logits]
        return {"loss": torch.stack(losses).mean(), "_real": logits[0][:n].detach().mean(),
                "_fake": logits[0][n:].detach().mean()}

    def generator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Fool the discriminator; redraw images from their styles; let styles be found again."""
        options, own = self.options, self._redrawn(batch)
        kept, self.made = self.made, None
        if kept is None or not kept[0].requires_grad:  # a batch in parts: graphs of all parts would not fit
            kept = self._made(nets, batch)
        made, styles, codes = kept
        divergence = ({"divergence": options.divergence * divergence_from_normal(*codes.unbind(1))}
                      if self.learns_styles else {})
        if self._warming(batch):
            return {"redrawing": options.redrawing * functional.mse_loss(made, batch.images.float()), **divergence}
        looks = nets["discriminator"](self._judged(batch, made, "pair"))
        with torch.no_grad():
            real = nets["discriminator"](self._judged(batch, batch.images, "pair"))
        terms = {"loss": torch.stack([self.loss.generator(one[-1], one[-1]) for one in looks]).mean(),
                 "features": options.features * _mismatch(looks, real, own),
                 "redrawing": (options.redrawing + batch.care.redraw) * functional.mse_loss(
                     averaged(made[:own], COARSE, rest=True),
                     averaged(batch.images[:own].float(), COARSE, rest=True)),
                 **divergence}
        if own < len(made) and options.recovery and self.learns_styles:
            found = cast(nn.Module, nets["generator"].encoder)(made[own:])[:, 0]
            terms["recovery"] = options.recovery * functional.l1_loss(found, styles[own:])
        return terms

    def judge(self, networks: Networks, batch: Batch, images: Tensor) -> Tensor:
        """The discriminator's logits (n,) of images (n, c, *space) of the batch's masks, augmented as in training."""
        return _mean_logits(networks["discriminator"](self._judged(batch, images, "judged")))

    def get_redrawing_ready(self, prepared: Prepared, seed: int) -> None:
        """Nothing: half of every batch is redrawn anyway."""

    def judgement(self, discriminator: nn.Module, images: Tensor, masks: Tensor, labels: Tensor | None) -> Tensor:
        """The discriminator's logits (n,) of images (n, c, *space) with masks, the mean over places and scales."""
        together = torch.cat([2 * self.given(masks, labels) - 1, images], dim=1)
        return _mean_logits(discriminator(together))

    def enlarge(self, images: Tensor) -> Tensor:
        """The same masks."""
        return images

    def deform(self, masks: Tensor, batch: Batch) -> Tensor:
        """New masks (n, *space) of given ones, from (seed, item) alone."""
        return deformed(masks, batch, self.values, self.options.deformation)

    def convert(self, network: nn.Module, images: Tensor, target: str = "") -> Tensor:
        """Images of label values (n, 1, *space), of the class `target`, all in the most usual style: (n, c, *space)."""
        labels = torch.full((len(images),), self.targets.index(target) if target else 0, device=images.device)
        given = self.given(images[:, 0].round().long(), labels)
        plain = torch.zeros(len(images), cast(int, network.latent), device=images.device)
        made: Tensor = network(given, self.styles(network, given, plain))
        return made

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """Images (n, c, *space) in [-1, 1] of the batch's masks, in the items' own styles."""
        given, noise = self._of(batch), batch.normal("latent", cast(int, network.latent)) * batch.truncation
        images: Tensor = network(given, self.styles(network, given, noise))
        return images


# L_FM = sum over layers 1/N |D_i(x) - D_i(G)|_1, the mean over scales (Wang et al. 2018, pix2pixHD, eq. 4)
def _mismatch(made: Looks, real: Looks, count: int) -> Tensor:
    """How differently the first `count` images look to the discriminator's layers, logits left out."""
    gaps = [functional.l1_loss(one[:count].float(), other[:count].float())
            for mine, theirs in zip(made, real, strict=True)
            for one, other in zip(mine[:-1], theirs[:-1], strict=True)]
    return torch.stack(gaps).sum() / len(made)


def _mean_logits(looks: Looks) -> Tensor:
    """(n,) the mean over places and scales."""
    return torch.stack([one[-1].flatten(1).mean(1) for one in looks]).mean(0)


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for data without masks, and for a network of another family."""
    need_masks(spec, "task.kind=semantic learns from images with masks")
    check_family(model, "mask")  # only such ones have the length of a style
    return Semantic(options, augmentation, model, spec)
