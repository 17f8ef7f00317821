"""Synthesis with differential privacy: a GAN whose discriminator learns by clipped, noisy gradients (DPGAN, Xie 2018).

The discriminator sees patients only through those gradients, and the generator sees the discriminator alone, which
costs no more privacy. Several turns of the one for each of the other's: Bie, Kamath and Zhang 2023. The generator
starts from noisy mean images and principal directions and stays near them. Unit of protection: one patient.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss, relu, softplus

from radsynth.arrays import Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.batch import Batch
from radsynth.errors import FolderError, SettingsError
from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.models import Networks
from radsynth.models import build as build_networks
from radsynth.models._averages import averaged_to
from radsynth.models._blocks import classes_of
from radsynth.settings import settings
from radsynth.tasks import Task, Terms, Turn
from radsynth.tasks._differential import LARGEST_EPSILON, Account, Draws, account, clipped_sum, never_less
from radsynth.tasks._private_start import Start, release
from radsynth.tasks._warm_start import StartsFromMean

MODEL = "mlp"
MEANS = 0.2
"""Of what the start may cost: the share of the mean images; the rest is the covariance's."""
CHUNK = 128
"""Images whose gradients are held at once: each is as large as the discriminator."""
SIDES = {"hinge": (lambda r: relu(1 - r), lambda f: relu(1 + f)),
         "non_saturating": (lambda r: softplus(-r), softplus)}
"""The two halves of the discriminator's losses, of one image each: `losses.adversarial` has their sum's mean."""


@settings
class Settings:
    """Images from noise, with a proven bound on what they can say about any one patient (`--privacy dp`)."""

    kind: Literal["private"] = "private"
    epsilon: float = Field(10.0, gt=0, allow_inf_nan=True)
    """The bound after the whole budget; .inf clips gradients and adds no noise, which protects nobody."""
    delta: float = Field(1e-5, gt=0, lt=1)
    """The chance that the bound leaves out; below 1 / patients."""
    clip: float = Field(1.0, gt=0)
    """Norm that each patient's gradient is clipped to."""
    loss: Literal["hinge", "non_saturating"] = "non_saturating"
    """The adversarial loss; a loss that pairs images cannot be clipped patient by patient."""
    discriminator_steps: int = Field(5, ge=1, le=1000)
    """Turns of the discriminator for each turn of the generator. Each draws patients anew and is accounted for."""
    discriminator_rate: float = Field(1.0, gt=0)
    """The discriminator's learning rate as a multiple of the generator's."""
    start: float = Field(0.3, ge=0, lt=1)
    """Share of the privacy budget that mean images and principal directions are told with; 0: nothing is told."""
    warm_start: float = Field(0.1, ge=0, lt=0.5)
    """Share of the budget in images in which the generator alone learns to draw them; costs no privacy."""
    anchor: float = Field(10.0, ge=0)
    """Weight of the coarse squared error to them all along: keeps the variety that the noisy game would lose."""


def idle(options: Settings) -> dict[str, str]:
    """Settings that do nothing beside the others, and why: see `radsynth.tasks`."""
    why = "no mean images are told that it could use (task.start=0)"
    return {} if options.start else dict.fromkeys(("warm_start", "anchor"), why)


class PrivateSynthesis:
    """The task: networks, turns, samples, and the account of what the turns have told."""

    keeps = "generator"

    def __init__(self, options: Settings, model: Any, spec: ImageSpec) -> None:
        self.options, self.model, self.spec = options, model, spec
        self.classes = classes_of(spec)
        self.draws, self.taken = Draws(), 0
        self.account: Account | None = None
        self.start: Start | None = None

    def promise(self, prepared: Prepared, batch: int, images: int, processes: int) -> str:
        """Compute the noise from the budget, before anything is learned; returns what is promised in words.

        batch: patients expected in a turn; images: the budget. SettingsError where no promise can be kept.
        """
        groups: dict[str, list[int]] = {}
        for place in prepared.indices("train"):
            groups.setdefault(prepared.rows[int(place)].patient or f"image {place}", []).append(int(place))
        self.prepared = prepared
        self.groups = [np.asarray(group, dtype=np.int64) for group in groups.values()]
        patients = len(self.groups)
        self.check(batch, images, processes, patients)
        if self.options.delta >= 1 / patients:
            raise SettingsError(
                f"task.delta={self.options.delta:g} would allow one of {patients} patients to be given away whole: set "
                f"it below {1 / patients:.2g}."
            )
        self.batch = batch
        everything = math.ceil(images / batch)
        self.warm = int(self.options.warm_start * everything) if self.options.start else 0
        steps = (everything - self.warm) * self.options.discriminator_steps
        share, alone = batch / patients, patients == len(prepared.indices("train"))
        told = (MEANS * self.options.start, (1 - MEANS) * self.options.start) if self.options.start else ()
        self.account = account(self.options.epsilon, self.options.delta, share, steps, told)
        bound = f"epsilon {never_less(self.account.epsilon(steps)):.2f} at delta {self.options.delta:g}"
        bound = bound if self.account.noise else "none, because task.epsilon is infinite"
        once = " and ".join(f"{noise:.3f}" for noise in self.account.start)
        return (
            f"Differential privacy: {bound}, for one {'image' if alone else 'patient'} of {patients}, after "
            f"{f'mean images and covariances told once (noise multipliers {once}) and ' if once else ''}{steps} turns "
            f"of the discriminator that draw each patient with a chance of {share:.4g}; noise multiplier "
            f"{self.account.noise:.3f}, clipping norm {self.options.clip:g}."
        )

    def check(self, batch: int, images: int, processes: int, patients: int) -> None:
        """SettingsError where nothing can be promised. patients: those to learn from, or the most that can be."""
        options = self.options
        if not images:
            raise SettingsError(
                "task.kind=private needs a budget in images, from which the noise is computed beforehand: set "
                "train.images=200000 (--budget 200000img). train.seconds alone cannot say how many turns there will be."
            )
        if processes > 1:
            raise SettingsError("task.kind=private draws patients in one process: set train.processes=1.")
        if batch > patients:
            raise SettingsError(f"train.batch={batch} is more than there are training patients (at most {patients}), "
                                f"of whom a turn draws a part: set train.batch={max(1, patients // 2)}, half of them.")
        if not math.isinf(options.epsilon) and options.epsilon > LARGEST_EPSILON:
            raise SettingsError(
                f"task.epsilon={options.epsilon:g} promises nothing: at most {LARGEST_EPSILON:g}, or .inf for no noise."
            )

    def spent(self) -> dict[str, float | int | str | None]:
        """The account so far, for the run's facts. epsilon: None when there is no bound."""
        assert self.account is not None, "a promise comes before training"
        epsilon = self.account.epsilon(self.taken)
        return {"method": "DP-SGD on the discriminator, Poisson sampling, Renyi accountant of Opacus; "
                          "Gaussian mechanism on mean images and covariances",
                "unit": "patient", "epsilon": None if math.isinf(epsilon) else epsilon, "delta": self.options.delta,
                "noise_multiplier": self.account.noise,
                "start_noise_multipliers": " ".join(map(repr, self.account.start)),
                "clip": self.options.clip, "sampling": self.account.share,
                "turns": self.taken, "patients": len(self.groups)}

    def state(self) -> dict[str, Any]:
        """What the account and the draws go on from. The key must stay secret, as checkpoints must."""
        noise = self.account.noise if self.account else 0.0
        return {"key": self.draws.key.hex(), "taken": self.taken, "noise": noise}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; FolderError for another noise, which another budget in images asks for."""
        assert self.account is not None, "a promise comes before training"
        if state["noise"] != self.account.noise:
            raise FolderError(
                f"This run was begun with a noise multiplier of {state['noise']:.4f}; the budget now asks for "
                f"{self.account.noise:.4f}. A differentially private run keeps the budget in images that its noise was "
                "computed for: repeat it with the same one, or choose a new run folder."
            )
        self.draws, self.taken = Draws(bytes.fromhex(state["key"])), state["taken"]
        self._tell()

    def study(self, prepared: Prepared, seed: int) -> None:
        """Tell the mean images and principal directions, with the noise that was promised."""
        self._tell()

    def _tell(self) -> None:
        """What is told depends on the data and the secret key alone: a run that is continued tells it again."""
        assert self.account is not None, "a promise comes before training"
        if self.account.start:
            self.start = release(self.prepared, self.groups, self.model.latent, self.account.start,
                                 self.draws.generator("start", 0))

    def networks(self) -> Networks:
        """Freshly initialised generator and discriminator."""
        networks = build_networks(self.model, self.spec)
        if self.start is not None and isinstance(networks["generator"], StartsFromMean):
            networks["generator"].set_mean(self.start.means)
        return networks

    def turns(self) -> list[Turn]:
        """The warm start, then the discriminator's turns and the generator's."""
        warm = [Turn(nets=("generator",), loss=self.warm_start_loss, repeats=self.options.discriminator_steps)]
        return [
            *(warm if self.options.start and self.options.warm_start else []),
            Turn(nets=("discriminator",), gradients=self.discriminator_gradients,
                 repeats=self.options.discriminator_steps, rate=self.options.discriminator_rate),
            Turn(nets=("generator",), loss=self.generator_loss),
        ]

    def real_images(self) -> tuple[Tensor, Tensor | None]:
        """This turn's patients: images (m, c, *space) and class indices; m changes from turn to turn and may be 0."""
        assert self.account is not None, "a promise comes before training"
        chosen = self.draws.patients(self.taken, self.groups, self.account.share)
        if not len(chosen):
            return torch.empty(0, len(self.spec.channels), *self.spec.size), self._as_labels(chosen)
        return torch.from_numpy(self.prepared.images(chosen)), self._as_labels(self.prepared.labels(chosen))

    def _as_labels(self, labels: NDArray[np.int64]) -> Tensor | None:
        return torch.from_numpy(labels) if self.classes else None

    def warm_start_loss(self, nets: Networks, batch: Batch) -> Terms:
        """Squared error to the blurred pictures that the latents stand for."""
        if batch.step >= self.warm:
            return {}
        return {"start": self._apart(nets["generator"], batch, self.sample(nets["generator"], batch), self.spec.size)}

    def _apart(self, generator: nn.Module, batch: Batch, made: Tensor, size: tuple[int, ...]) -> Tensor:
        """How far a batch's images are, at a size, from the pictures that their latents stand for."""
        assert self.start is not None, "study comes before training"
        pictures = self.start.pictures(self._latents(generator, batch), self._labels(batch), size)
        return mse_loss(averaged_to(made, size), pictures)

    def discriminator_gradients(self, nets: Networks, batch: Batch) -> Terms:
        """Set the discriminator's gradients. Terms are of generated images alone: patients' logits are not released."""
        assert self.account is not None, "a promise comes before training"
        if batch.step < self.warm:
            return {}
        discriminator, device = nets["discriminator"], batch.images.device
        on_real, on_fake = SIDES[self.options.loss]
        labels = self._labels(batch)
        with torch.no_grad():
            made = self.sample(nets["generator"], batch).float()
        real, real_labels = self.real_images()
        real, real_labels = real.to(device), None if real_labels is None else real_labels.to(device)
        sums = clipped_sum(discriminator, on_real, real, real_labels, self.options.clip, CHUNK)
        self.draws.add_noise(sums, self.taken, self.account.noise * self.options.clip)
        # Generated images are public, so these need no noise; clipped alike, so that neither side outweighs the other.
        fakes = clipped_sum(discriminator, on_fake, made, labels, self.options.clip, CHUNK)
        for name, weight in discriminator.named_parameters():
            weight.grad = (sums[name] / self.batch + fakes[name] / len(made)).detach()
        self.taken += 1
        with torch.no_grad():
            terms = {"_fake": discriminator(made, labels).mean()}
        epsilon = self.account.epsilon(self.taken)
        return terms | ({} if math.isinf(epsilon) else {"_epsilon": torch.tensor(epsilon)})

    def generator_loss(self, nets: Networks, batch: Batch) -> Terms:
        """The adversarial loss of the generator, and the anchor."""
        if batch.step < self.warm:
            return {}
        generator = nets["generator"]
        made = self.sample(generator, batch)
        logits: Tensor = nets["discriminator"](made, self._labels(batch))
        terms = {"loss": LOSSES[self.options.loss].generator(logits, logits)}
        if self.start and self.options.anchor:  # coarse: what the pictures cannot show is the discriminator's to say
            terms["anchor"] = self.options.anchor * self._apart(generator, batch, made, self.start.coarse)
        return terms

    def _labels(self, batch: Batch) -> Tensor | None:
        """The batch's classes, or in training, where it has none, each class as often as the others."""
        if not self.classes or batch.labels is not None:
            return batch.labels if self.classes else None
        return (batch.uniform("class", 1)[:, 0] * self.classes).long()

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """Images (n, c, *space) in [-1, 1] from the items' own latents, of the batch's classes."""
        images: Tensor = network(self._latents(network, batch), self._labels(batch))
        return images

    @staticmethod
    def _latents(network: nn.Module, batch: Batch) -> Tensor:
        return batch.normal("latent", cast(int, network.latent))


def build(options: Settings, model: Any, augmentation: Augmentation, spec: ImageSpec) -> Task:
    """The task; SettingsError for a discriminator that mixes images or remembers them, and for augmentation."""
    if augmentation.strength:
        raise SettingsError(
            f"task.kind=private takes no augmentation (augment.strength={augmentation.strength:g}): set "
            "augment.strength=0."
        )
    # Batch statistics mix patients; whatever else a network keeps beside its weights is written without noise. Spectral
    # normalisation keeps singular vectors of weights, and they say nothing that the weights do not say; the unit of
    # greys stays the identity here, because nothing sets it.
    kept = [name for name, _ in build_networks(model, spec)["discriminator"].named_buffers()
            if not name.endswith((".weight.0._u", ".weight.0._v")) and not name.startswith("greys.")]
    if kept:
        normed = ", or model.discriminator_norm=spectral" if hasattr(model, "discriminator_norm") else ""
        raise SettingsError(
            f"model.kind={model.kind} keeps more than weights in its discriminator ({kept[0]}), which differential "
            f"privacy does not cover. Set model.kind=sngan{normed}."
        )
    return PrivateSynthesis(options, model, spec)
