"""The training doctor: notices an illness of training, treats it, and says both in plain words in log.jsonl.

`pulse` feels every step, `examination` looks at samples every `IMAGES_BETWEEN` images, `illnesses` concludes; here is
what is done. A roll-back goes to the last checkpoint; how often those are written follows the clock, so that a run that
was rolled back is the one kind of run whose weights another machine does not repeat bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.batch import Care
from radsynth.checkpoints import load_checkpoint
from radsynth.errors import TrainingError
from radsynth.run_folder import RunFolder
from radsynth.tasks import Turn
from radsynth.verbs._training import illnesses
from radsynth.verbs._training.examination import PROBE, Examiner, Judging
from radsynth.verbs._training.illnesses import Signs
from radsynth.verbs._training.pulse import Pulse

if TYPE_CHECKING:
    from radsynth.verbs._training.loop import Loop

IMAGES_BETWEEN = 40 * PROBE
"""Training images between two examinations: their cost stays below 2 % of training."""
EXAMINATIONS = 200
"""Examinations of a run at most: a GPU shows so many images in less than half a second."""
ROLLBACKS = 10
"""Roll-backs of one run before it is given up."""
STRONGEST = 0.8
"""Upper limit of adaptive augmentation: beyond it the generator learns to augment."""
RAMP = 0.2
"""Share of the run in which adaptive augmentation goes from none to full."""
SLOWEST = 1 / 64
"""Lower limit of the factor on the discriminator's rate."""
STEEPEST = 8.0
"""Upper limit of the factor on the penalty's weight."""
REDRAW, REDRAW_MOST = 2.0, 8.0
"""Weight of redrawn training images after a first collapse, and its upper limit; 1 is about the game's own size."""


class Doctor:
    """Watches one training. `care` is what batches carry, `measured` what is logged."""

    def __init__(self, task: Any, prepared: Prepared, folder: RunFolder, seed: int) -> None:
        self.task, self.prepared, self.folder, self.seed = task, prepared, folder, seed
        self.care, self.signs, self.pulse = Care(), Signs(), Pulse()
        self.best: dict[str, Tensor] = {}
        self.measured: dict[str, float] = {}
        self.examiner = Examiner(task, prepared, seed)

    def state(self) -> dict[str, Any]:
        """Everything that the doctor's decisions depend on."""
        return {"signs": vars(self.signs), "care": vars(self.care), "pulses": self.pulse.norms,
                "losses": self.pulse.losses, "best": self.best, "measured": self.measured}

    def restore(self, state: dict[str, Any], progress: float) -> None:
        """Go on from a saved state. progress: of the run as it goes on, whose budget may have become larger."""
        # A run that is older counted for all classes together, and counted collapses.
        signs = {name: value for name, value in state["signs"].items() if name != "collapses"
                 and (name not in ("varied", "alike") or isinstance(value, dict))}
        self.signs, self.care = Signs(**signs), Care(**state["care"])
        self.signs.progress = min(self.signs.progress, progress)  # else it would wait until so much is spent again
        self.signs.worse_since = min(self.signs.worse_since, progress)
        self.pulse, self.best = Pulse(norms=state["pulses"], losses=state["losses"]), state["best"]
        self.measured = state.get("measured", {})  # an older run has none
        if self.care.redraw:
            self.task.get_redrawing_ready(self.prepared, self.seed)

    # While a step is taken ------------------------------------------------------------------------------------------

    def feel(self, name: str, totals: dict[str, float], step: int, norms: Callable[[], Iterable[Any]],
             ) -> dict[str, float]:
        """See `Pulse`."""
        return self.pulse.feel(name, totals, step, norms)

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
        self.folder.rewind(loop.images)
        self.folder.event("rolled back", reached, (
            f"{error} Training goes on from the checkpoint at {loop.images} images, with the learning rate at "
            f"{rate:.2g} of the planned one (roll-back {rollbacks} of at most {ROLLBACKS})."
        ))
        return True

    # Every `IMAGES_BETWEEN` images ----------------------------------------------------------------------------------

    def due(self, loop: Loop, before: int) -> bool:
        """Whether it is time for an examination; before: images before the last step."""
        passed = loop.images // IMAGES_BETWEEN > before // IMAGES_BETWEEN
        return passed and loop.progress - self.signs.progress >= 1 / EXAMINATIONS

    @torch.no_grad()
    def examine(self, loop: Loop) -> None:
        """Ask the discriminator, look at samples, treat what is found; what was measured is in `measured`."""
        signs = self.signs
        signs.in_a_row, signs.examined = 0, signs.examined + 1
        passed, signs.progress = loop.progress - signs.progress, loop.progress
        if not isinstance(self.task, Judging):
            return
        # Rounding may differ between processes, and what is done about it must not.
        found = loop.ranks.told(self.examiner.look(loop, loop.care, signs.examined))
        signs.take(found)
        sign, aim = illnesses.overfit(signs, self.examiner.held_out is not None)
        self._augment(loop, sign, aim, passed)
        self._help_generator(loop)
        self._revive(loop, found.varieties)
        self._keep_best(loop)
        self.measured = {
            "doctor/variety": min(found.varieties.values()), "doctor/distance": found.distance,
            "doctor/certainty": signs.certainty, "doctor/overfit": sign, "doctor/augmentation": self.care.augment,
            "doctor/penalty": self.care.penalty, "doctor/redraw": self.care.redraw, "doctor/rate": signs.rate,
            "doctor/pace": signs.pace}

    def _augment(self, loop: Loop, sign: float, aim: float, passed: float) -> None:
        """Adaptive augmentation: its strength moves up or down with the sign of what is left to the aim, from what the
        settings have, and not below unless that was ended."""
        signs = self.signs
        least = 0.0 if self.care.spared else max(self.task.augmentation.strength, loop.augmented)
        seen = self.examiner.held_out is not None and self.pulse.felt_other_than(self.task.keeps)
        if least > 0 and seen and illnesses.tells_nothing(signs, loop.progress):
            self._spare(loop)
            return
        change = math.copysign(min(0.1, passed / RAMP), sign - aim)
        strength = max(least, min(STRONGEST, max(least, self.care.augment) + change))
        self._prescribe(augment=strength)
        told = max(signs.told, least)
        if round(abs(strength - told), 6) >= 0.1:
            rose, signs.told = strength > told, strength
            if self.examiner.held_out is None:  # which leaves open whether it has learned the training images by heart
                where = "there are no validation images to compare with, and it is certain"
                finding = f"tells real from generated images {'too' if rose else 'less'} surely"
            else:
                where = "held-out images are rated away from training images towards generated ones"
                finding = "learns the training images by heart" if rose else "no longer leans on the training images"
            self._event(loop, "augmentation raised" if rose else "augmentation lowered", (
                f"The discriminator {finding}: {where} by {sign:.2f} of the way (aim {aim}). Adaptive augmentation "
                f"is now at {strength:.2f}."))
        if illnesses.overfits_still(signs, sign, aim, strength >= STRONGEST):
            self._steepen(loop, f"Augmentation is at its limit and the overfit sign still at {sign:.2f} (aim {aim}).")

    def _spare(self, loop: Loop) -> None:
        """End augmentation: it hides from the discriminator what there still is to tell."""
        self.signs.told = 0.0
        self._prescribe(augment=0.0, spared=True)
        self._event(loop, "augmentation ended", (
            f"The discriminator hardly tells training images from generated ones, {illnesses.SILENT} examinations in a "
            "row: augmentation hides what is left to learn. There is none from now on, until held-out images show that "
            "training images are learned by heart."))

    def _help_generator(self, loop: Loop) -> None:
        """Against a discriminator that wins: a loss that does not saturate, redrawing, then a lower rate."""
        signs = self.signs
        if self.task.saturates and not self.care.unsaturated:
            share = illnesses.gradient_left(signs)
            if share < illnesses.VANISHED:
                self._prescribe(unsaturated=True)
                self._slow(loop, "vanishing gradient", 4, (
                    f"All generated images are found out, and the loss lets {share:.0e} of the gradient through to the "
                    "generator: it saturates. From now on the non-saturating form is taken."))
                return
        if illnesses.too_strong(signs, loop.progress):
            illness, text = "discriminator too strong", (
                f"All generated images are found out and come no closer to real ones (distance {signs.distance:.2f}).")
            if self.care.redraw:
                self._slow(loop, illness, 2, text)
            else:
                self._redraw(loop, illness, text)

    def _slow(self, loop: Loop, illness: str, divisor: int, text: str) -> None:
        """Let the discriminator learn more slowly, within the limit."""
        self.signs.pace = max(SLOWEST, self.signs.pace / divisor)
        self._event(loop, illness, f"{text} The discriminator's learning rate is now {self.signs.pace:.2g} of the "
                                   "planned one.")

    def _revive(self, loop: Loop, varieties: dict[str, float]) -> None:
        """Against a collapse: redrawing, which ties latents to images."""
        group = illnesses.collapsed(self.signs, varieties, loop.progress)
        if group is not None and self.care.redraw < REDRAW_MOST:
            of = f" of class {group}" if group else ""
            self._redraw(loop, "mode collapse", (
                f"Samples{of} differ by only {varieties[group]:.2f} of what real images{of} differ."))

    def _redraw(self, loop: Loop, illness: str, text: str) -> None:
        """Let the generator redraw training images beside the game, or do so with twice the weight."""
        self.signs.alike, self.signs.strong = {}, 0
        weight = min(REDRAW_MOST, 2 * self.care.redraw or REDRAW)
        self.task.get_redrawing_ready(self.prepared, self.seed)
        self._prescribe(redraw=weight)
        self._event(loop, illness, (
            f"{text} From now on the generator redraws training images with weight {weight:g}, on top of what the "
            "settings have."))

    def _keep_best(self, loop: Loop) -> None:
        """Remember the averaged network when samples are closest; stop when they only get worse."""
        signs = self.signs
        if loop.progress < illnesses.SETTLED:
            return
        if signs.distance < signs.best:
            signs.best = signs.distance
            self.best = {name: value.detach().cpu().clone()
                         for name, value in loop.average.network.state_dict().items()}
        if illnesses.only_worse(signs, loop.progress):
            signs.finished = True
            self._event(loop, "stopped early", (
                f"The distance of samples to {self.examiner.compared} images was {signs.best:.3f} and has been at more "
                f"than twice that for a fifth of the run (now {signs.distance:.3f}). Training ends; the best weights "
                "are kept."))

    def _steepen(self, loop: Loop, text: str) -> None:
        """Double the penalty, within its limit, against a discriminator that overfits."""
        illness = "discriminator overfits"
        if not self.task.penalised:
            better = ": task.penalty=r1 would help" if hasattr(self.task.options, "penalty") else ""
            self._event(loop, illness, f"{text} There is no penalty that could be raised{better}.")
            return
        factor = min(STEEPEST, 2 * self.care.penalty)
        done = "The penalty is at its limit." if factor == self.care.penalty else (
            f"The penalty's weight is now {factor:g} times the planned one.")
        self._prescribe(penalty=factor)
        self._event(loop, illness, f"{text} {done}")

    # When training ends ---------------------------------------------------------------------------------------------

    def choose(self, loop: Loop) -> bool:
        """Put the best weights into the averaged network if the last are far worse; whether that was done."""
        if not (self.best and self.signs.worse):
            return False
        loop.average.network.load_state_dict(self.best)
        self._event(loop, "best weights kept", (
            f"The last samples are {self.signs.distance:.3f} from {self.examiner.compared} images, the best were "
            f"{self.signs.best:.3f}: the best weights are delivered."))
        return True

    @torch.no_grad()
    def warn(self, loop: Loop) -> None:
        """Say which samples of the delivered generator nobody can use, because they are all alike.

        Not after a trial of a few steps, which ends before a first examination.
        """
        if not isinstance(self.task, Judging) or not self.signs.examined:
            return
        varieties = self.examiner.delivered(loop)
        lost = [group for group, variety in varieties.items() if variety < illnesses.USELESS]
        for group in ("",) if "" in lost else lost:
            of = f" of class {group}" if group else ""
            anchor = "task.anchor=10 and " if getattr(self.task.options, "anchor", None) == 0 else ""  # as sngan has it
            instead = "use the other classes, and train on images of this one alone" if group else (
                f"train longer, or with {anchor}another task.loss")
            self._event(loop, "not usable", (
                f"Samples{of} are all alike: they differ by only {varieties[group]:.2f} of what real images{of} "
                f"differ. Do not use them; {instead}."))

    def _prescribe(self, **changes: Any) -> None:
        self.care = dataclasses.replace(self.care, **changes)

    def _event(self, loop: Loop, event: str, text: str) -> None:
        self.folder.event(event, loop.images, text)
