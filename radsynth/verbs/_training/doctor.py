"""The training doctor: notices an illness of training, treats it, and says both in plain words in log.jsonl.

Norms and losses are felt every few steps. Every `IMAGES_BETWEEN` images the discriminator is asked about images that it
never saw (adaptive augmentation, Karras et al. 2020, "Training GANs with limited data"), and samples are compared with
real images. A roll-back goes to the last checkpoint; how often those are written follows the clock, so that a run that
was rolled back is the one kind of run whose weights another machine does not repeat bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import Batch, Care, Prepared
from radsynth.checkpoints import load_checkpoint
from radsynth.device import channels_last
from radsynth.errors import TrainingError
from radsynth.models import Networks
from radsynth.run_folder import RunFolder
from radsynth.tasks import Turn
from radsynth.verbs._training.compare import compare

if TYPE_CHECKING:
    from radsynth.verbs._training.loop import Loop

PULSE = 8
"""Steps between two measurements of the norms of weights and gradients."""
PROBE = 64
"""Images that an examination looks at, of each sort; others each time, and averaged over about eight of them."""
IMAGES_BETWEEN = 40 * PROBE
"""Training images between two examinations: their cost stays below 2 % of training."""
EXAMINATIONS = 200
"""Examinations of a run at most: a GPU shows so many images in less than half a second."""
ROLLBACKS = 10
"""Roll-backs of one run before it is given up."""
RUN_AWAY = 1e5
"""Losses of this size, averaged over about ten turns, mean that training has run away."""
GROWTH = 3.0
"""Weights that grow by this factor within `PULSE` steps are thrown about, not trained."""
OVERFIT = 0.4
"""Aim of the overfit sign with held-out images: 0 is none, 1 is that they are taken for generated ones."""
CERTAIN = 0.8
"""Aim of the overfit sign without held-out images: how surely real images are told from generated ones, 0 to 1."""
STRONGEST = 0.8
"""Upper limit of adaptive augmentation: beyond it the generator learns to augment."""
RAMP = 0.2
"""Share of the run in which adaptive augmentation goes from none to full."""
VANISHED = 0.01
"""A saturating loss that lets less than this share of the gradient through, while all its images are found out."""
FAR = 0.5
"""Samples at this distance from real images (see `compare`) are nothing like them yet."""
SLOWEST = 1 / 64
"""Lower limit of the factor on the discriminator's rate."""
SETTLED = 0.25
"""Share of the run after which samples are compared with the best so far: the blurred images of a warm start are nearer
at 16 pixels than the first sharp ones, and would be taken for the best."""
ALIKE = 0.2
"""Samples that differ less than this share of how real images differ are a collapse."""
OF_CLASS, CLASSES = 16, 8
"""Images of a class, and classes, that an examination looks at: their variety may be gone while all together vary."""
STEEPEST = 8.0
"""Upper limit of the factor on the penalty's weight."""


@runtime_checkable
class Judging(Protocol):
    """A task with a discriminator: without it only losses, gradients and weights can be watched.

    saturates: whether the generator's loss loses its gradient where the discriminator wins
    penalised: whether there is a penalty whose weight can be raised
    """

    saturates: bool
    penalised: bool

    def judge(self, networks: Networks, batch: Batch, images: Tensor) -> Tensor:
        """The discriminator's logits (n,) of images (n, c, *space) of the batch's classes, augmented as in training."""


@dataclass
class Signs:
    """What is remembered of a run, all of it saved with it. Averages are over examinations; NaN: not seen yet."""

    rate: float = 1.0
    pace: float = 1.0
    rollbacks: int = 0
    in_a_row: int = 0
    examined: int = 0
    trained: float = math.nan
    held_out: float = math.nan
    generated: float = math.nan
    spread: float = math.nan
    certainty: float = math.nan
    distance: float = math.nan
    best: float = math.inf
    progress: float = 0.0
    worse_since: float = -1.0
    told: float = 0.0
    varied: dict[str, bool] = field(default_factory=dict)
    alike: dict[str, int] = field(default_factory=dict)
    strong: int = 0
    strong_since: float = math.inf
    collapses: int = 0
    overfits: int = 0
    finished: bool = False

    def average(self, name: str, value: float, keep: float = 0.75) -> None:
        """Take a new value into an average."""
        old = getattr(self, name)
        setattr(self, name, value if math.isnan(old) else keep * old + (1 - keep) * value)


class Doctor:
    """Watches one training. `care` is what batches carry, `rate` a factor of the learning rate."""

    def __init__(self, task: Any, prepared: Prepared, folder: RunFolder, seed: int, batch: int) -> None:
        self.task, self.prepared, self.folder, self.seed = task, prepared, folder, seed
        self.care, self.signs = Care(), Signs()
        self.pulses: dict[str, dict[str, float]] = {}
        self.losses: dict[str, float] = {}
        self.best: dict[str, Tensor] = {}
        self.measured: dict[str, float] = {}
        self.every = math.ceil(IMAGES_BETWEEN / batch)
        self.train = prepared.indices("train")
        held_out = prepared.indices("validation")
        self.held_out = held_out if len(held_out) >= 8 else None

    def state(self) -> dict[str, Any]:
        """Everything that the doctor's decisions depend on."""
        return {"signs": vars(self.signs), "care": vars(self.care), "pulses": self.pulses, "losses": self.losses,
                "best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        # A run that is older counted for all classes together.
        signs = {name: value for name, value in state["signs"].items()
                 if name not in ("varied", "alike") or isinstance(value, dict)}
        self.signs, self.care = Signs(**signs), Care(**state["care"])
        self.pulses, self.losses, self.best = state["pulses"], state["losses"], state["best"]

    # While a step is taken ------------------------------------------------------------------------------------------

    def feel(self, name: str, totals: dict[str, float], step: int, norms: Callable[[], Iterable[Any]],
             ) -> dict[str, float]:
        """After a turn's backward pass: raises TrainingError where it has run away; returns the last norms.

        norms: gives those of gradients and weights; asked every `PULSE` steps
        """
        for term, value in totals.items():
            key = f"{name}/{term}"
            self.losses[key] = 0.9 * self.losses[key] + 0.1 * abs(value) if key in self.losses else abs(value)
            if self.losses[key] > RUN_AWAY:
                raise TrainingError(f"{key} has run away: it is about {self.losses[key]:.0e}.")
        if step % PULSE:
            return self._norms(name)
        gradient, size = (float(value) for value in norms())
        if not math.isfinite(gradient + size):
            raise TrainingError(f"the gradient or the weights of the {name} are not finite.")
        pulse = self.pulses.setdefault(name, {"gradient": gradient, "weights": size})
        grown = size / max(pulse["weights"], 1e-12)
        if grown > GROWTH:
            raise TrainingError(f"the weights of the {name} grew {grown:.0f}-fold within {PULSE} steps.")
        pulse["gradient"] = 0.8 * pulse["gradient"] + 0.2 * gradient
        pulse["weights"] = size
        return self._norms(name)

    def _norms(self, name: str) -> dict[str, float]:
        pulse = self.pulses.get(name, {})
        return {f"_{key}_norm": pulse[key] for key in ("gradient", "weights") if key in pulse}

    def rate(self, turn: Turn) -> float:
        """The factor of a turn's learning rate."""
        return self.signs.rate * (1.0 if self.task.keeps in turn.nets else self.signs.pace)

    def recover(self, loop: Loop, error: TrainingError) -> bool:
        """Go back to the last good checkpoint at a lower rate. False when that was done too often."""
        found = load_checkpoint(self.folder.checkpoints)
        if found is None or self.signs.rollbacks >= ROLLBACKS:
            return False
        rollbacks, in_a_row, reached = self.signs.rollbacks + 1, self.signs.in_a_row + 1, loop.images
        # A second failure in a row asks for more than another halving.
        rate = self.signs.rate * 0.5**in_a_row
        loop.restore(found[0])
        self.signs.rollbacks, self.signs.in_a_row, self.signs.rate = rollbacks, in_a_row, rate
        self.folder.rewind_log(loop.images)
        self.folder.event("rolled back", reached, (
            f"{error} Training goes on from the checkpoint at {loop.images} images, with the learning rate at "
            f"{rate:.2g} of the planned one (roll-back {rollbacks} of at most {ROLLBACKS})."
        ))
        return True

    # Every `self.every` steps ---------------------------------------------------------------------------------------

    def due(self, loop: Loop) -> bool:
        """Whether it is time for an examination."""
        return loop.step % self.every == 0 and loop.progress - self.signs.progress >= 1 / EXAMINATIONS

    @torch.no_grad()
    def examine(self, loop: Loop) -> None:
        """Ask the discriminator, look at samples, treat what is found; what was measured is in `measured`."""
        signs = self.signs
        signs.in_a_row, signs.examined = 0, signs.examined + 1
        passed, signs.progress = loop.progress - signs.progress, loop.progress
        if not isinstance(self.task, Judging):
            return
        measured, varieties = self._measure(loop)
        overfit = self._overfit()
        self._augment(loop, overfit, passed)
        self._vanishing(loop)
        self._collapse(loop, varieties)
        self._keep_best(loop)
        self.measured = {**measured, "doctor/overfit": overfit, "doctor/augmentation": self.care.augment,
                         "doctor/penalty": self.care.penalty, "doctor/rate": signs.rate, "doctor/pace": signs.pace}

    def _measure(self, loop: Loop) -> tuple[dict[str, float], dict[str, float]]:
        """Take fresh measurements into the averages; what is logged, and the variety of all ("") and of each class."""
        signs, task, networks = self.signs, self.task, loop.networks
        draw = np.random.default_rng([self.seed, loop.step])
        device = loop.fabric.device
        seen = self._probe(draw, self.train, device)
        held_out = seen if self.held_out is None else self._probe(draw, self.held_out, device)
        modes = {name: network.training for name, network in networks.items()}
        for network in networks.values():
            network.eval()  # batch statistics must not move
        with loop.fabric.autocast():
            made = task.sample(networks[task.keeps], held_out)
            logits = {"trained": task.judge(networks, seen, seen.images).float(),
                      "held_out": task.judge(networks, held_out, held_out.images).float(),
                      "generated": task.judge(networks, held_out, made).float()}
            varieties = self._of_classes(loop, draw)
        for name, network in networks.items():
            network.train(modes[name])
        for name, values in logits.items():
            signs.average(name, float(values.mean()))
        signs.average("spread", float(torch.cat(list(logits.values())).std()))
        ranks = torch.sign(logits["trained"][:, None] - logits["generated"][None])
        signs.average("certainty", float(ranks.mean()))
        variety, distance = compare(made, held_out.images)
        signs.average("distance", distance, keep=0.5)
        varieties[""] = variety
        least = min(varieties.values())
        return {"doctor/variety": least, "doctor/distance": distance, "doctor/certainty": signs.certainty}, varieties

    def _of_classes(self, loop: Loop, draw: np.random.Generator) -> dict[str, float]:
        """The variety of samples within each class that has images enough, by name; many classes take turns."""
        names, labels = self.prepared.spec.labels, self.prepared.labels(self.train)
        members = {name: self.train[labels == label] for label, name in enumerate(names)} if len(names) > 1 else {}
        enough = [name for name, of in members.items() if len(of) >= OF_CLASS]
        turn = self.signs.examined * CLASSES if len(enough) > CLASSES else 0
        found = {}
        for name in [enough[(turn + k) % len(enough)] for k in range(min(CLASSES, len(enough)))]:
            real = self._probe(draw, members[name], loop.fabric.device, OF_CLASS)
            found[name] = compare(self.task.sample(loop.networks[self.task.keeps], real), real.images)[0]
        return found

    def _probe(self, draw: np.random.Generator, indices: NDArray[np.int64], device: torch.device,
               count: int = PROBE) -> Batch:
        chosen = np.sort(draw.choice(indices, min(count, len(indices)), replace=False))
        return Batch(images=channels_last(torch.from_numpy(self.prepared.images(chosen))).to(device),
                     labels=torch.from_numpy(self.prepared.labels(chosen)).to(device),
                     conditions=torch.from_numpy(self.prepared.conditions(chosen)).to(device),
                     seed=self.seed + 2, items=tuple(range(len(chosen))), care=self.care)

    def _overfit(self) -> float:
        """r_v of ADA (eq. 1): how far held-out images are rated from training images towards generated ones.

        Without held-out images how surely training images are told from generated ones: unlike r_t of ADA, the sign of
        a logit, it does not change when a constant is added to all logits, which relativistic losses leave open.
        """
        signs = self.signs
        if self.held_out is None:
            return signs.certainty
        gap = signs.trained - signs.generated
        # Where the discriminator tells nothing apart the ratio means nothing.
        return (signs.trained - signs.held_out) / gap if gap > 0.5 * signs.spread else 0.0

    def _augment(self, loop: Loop, overfit: float, passed: float) -> None:
        """Adaptive augmentation: its strength moves up or down with the sign of what is left to the aim."""
        signs, aim = self.signs, CERTAIN if self.held_out is None else OVERFIT
        change = math.copysign(min(0.1, passed / RAMP), overfit - aim)
        strength = min(STRONGEST, max(0.0, self.care.augment + change))
        self._prescribe(augment=strength)
        if abs(strength - signs.told) >= 0.1:
            rose, signs.told = strength > signs.told, strength
            if self.held_out is None:  # which leaves open whether it has learned the training images by heart
                where = "there are no validation images to compare with, and it is certain"
                finding = f"tells real from generated images {'too' if rose else 'less'} surely"
            else:
                where = "held-out images are rated away from training images towards generated ones"
                finding = "learns the training images by heart" if rose else "no longer leans on the training images"
            self._event(loop, "augmentation raised" if rose else "augmentation lowered", (
                f"The discriminator {finding}: {where} by {overfit:.2f} of the way (aim {aim}). Adaptive augmentation "
                f"is now at {strength:.2f}."))
        signs.overfits = signs.overfits + 1 if strength == STRONGEST and overfit > 1.5 * aim else 0
        if signs.overfits >= 5:
            signs.overfits = 0
            self._steepen(loop, "discriminator overfits",
                          f"Augmentation is at its limit and the overfit sign still at {overfit:.2f} (aim {aim}).")

    def _vanishing(self, loop: Loop) -> None:
        """The discriminator tells everything apart, and the generator's gradient or its progress is gone."""
        signs = self.signs
        certain = signs.certainty > 0.95
        if certain and self.task.saturates and not self.care.unsaturated:
            # d softplus(f) / df = s(f): what the minimax loss lets through at the logits f of generated images.
            share = 1 / (1 + math.exp(-signs.generated))
            if share < VANISHED:
                self._prescribe(unsaturated=True)
                self._slow(loop, "vanishing gradient", 4, (
                    f"All generated images are found out, and the loss lets {share:.0e} of the gradient through to the "
                    "generator: it saturates. From now on the non-saturating form is taken."))
                return
        near = signs.distance < max(FAR, 0.9 * signs.strong_since if signs.strong else 0.0)
        signs.strong = 0 if near or not certain else signs.strong + 1
        if signs.strong == 1:
            signs.strong_since = signs.distance
        if signs.strong > 4:
            self._slow(loop, "discriminator too strong", 2, (
                f"All generated images are found out and come no closer to real ones (distance {signs.distance:.2f})."))

    def _slow(self, loop: Loop, illness: str, divisor: int, text: str) -> None:
        """Let the discriminator learn more slowly, within the limit."""
        self.signs.pace, self.signs.strong = max(SLOWEST, self.signs.pace / divisor), 0
        self._event(loop, illness, f"{text} The discriminator's learning rate is now {self.signs.pace:.2g} of the "
                                   "planned one.")

    def _collapse(self, loop: Loop, varieties: dict[str, float]) -> None:
        """Samples of different latents, or those of one class, have become alike, or stayed so."""
        signs = self.signs
        for group, variety in varieties.items():
            signs.varied[group] = signs.varied.get(group, False) or variety > 2 * ALIKE
            ill = variety < ALIKE and (signs.varied[group] or loop.progress > 0.5)
            signs.alike[group] = signs.alike.get(group, 0) + 1 if ill else 0
        lost = [group for group in varieties if signs.alike[group] >= 3]
        if lost and signs.collapses < 3:
            worst = min(lost, key=varieties.__getitem__)
            of = f" of class {worst}" if worst else ""
            signs.alike, signs.collapses, signs.rate = {}, signs.collapses + 1, signs.rate / 2
            self._steepen(loop, "mode collapse", (
                f"Samples{of} differ by only {varieties[worst]:.2f} of what real images{of} differ. The learning rate "
                "is halved."))

    def _keep_best(self, loop: Loop) -> None:
        """Remember the averaged network when samples are closest; stop after a fifth of the run far from there."""
        signs = self.signs
        if loop.progress < SETTLED:
            return
        if signs.distance < signs.best:
            signs.best = signs.distance
            self.best = {name: value.detach().cpu().clone()
                         for name, value in loop.average.network.state_dict().items()}
        if not self.worse:
            signs.worse_since = -1.0
        elif signs.worse_since < 0:
            signs.worse_since = loop.progress
        elif loop.progress - signs.worse_since >= 0.2:
            signs.finished = True
            self._event(loop, "stopped early", (
                f"The distance of samples to held-out images was {signs.best:.3f} and has been at more than twice that "
                f"for a fifth of the run (now {signs.distance:.3f}). Training ends; the best weights are kept."))

    @property
    def worse(self) -> bool:
        """Whether samples are far from their best; the second term is the noise of the measurement."""
        return self.signs.distance > 2 * self.signs.best + 0.05

    def choose(self, loop: Loop) -> None:
        """When training ends: put the best weights into the averaged network if the last are far worse."""
        if self.best and self.worse:
            loop.average.network.load_state_dict(self.best)
            self._event(loop, "best weights kept", (
                f"The last samples are {self.signs.distance:.3f} from held-out images, the best were "
                f"{self.signs.best:.3f}: the best weights are delivered."))

    def _steepen(self, loop: Loop, illness: str, text: str) -> None:
        """Double the penalty, within its limit."""
        if not self.task.penalised:
            self._event(loop, illness, f"{text} There is no penalty that could be raised: task.penalty=r1 would help.")
            return
        factor = min(STEEPEST, 2 * self.care.penalty)
        done = "The penalty is at its limit." if factor == self.care.penalty else (
            f"The penalty's weight is now {factor:g} times the planned one.")
        self._prescribe(penalty=factor)
        self._event(loop, illness, f"{text} {done}")

    def _prescribe(self, **changes: Any) -> None:
        self.care = dataclasses.replace(self.care, **changes)

    def _event(self, loop: Loop, event: str, text: str) -> None:
        self.folder.event(event, loop.images, text)
