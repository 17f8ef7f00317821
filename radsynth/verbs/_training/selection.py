"""Which moment of a training is delivered: the last of those whose samples are closest to validation images.

Every `APART` training images, and at most `MOMENTS` times, the averaged generator is measured by the Frechet distance
(Heusel et al. 2017) of a few samples, always of the same latents, to the same validation images. Its size means nothing
by itself, because so few images raise it; moments of one run can be compared, as far as so few can tell: of those that
are equally close the last has learned longest, and a moment whose samples are all alike is none of them. It costs 2 to
3 % of training. Test images are never looked at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from radsynth.arrays import Prepared

if TYPE_CHECKING:
    from radsynth.verbs._training.loop import Loop

SAMPLES = 128
"""Generated images that a measurement looks at, and validation images at most."""
LEAST = 16
"""Validation images below which nothing is measured."""
APART = 80 * SAMPLES
"""Training images between two measurements."""
MOMENTS = 50
"""Measurements of a run at most."""
FEW = 500
"""Training images below which a training that only gets worse is ended."""
NOISE = 1.03
"""Distances up to so many times the smallest are no larger, as far as `SAMPLES` images can tell (lab notebook)."""
WORSE = 1.1
"""So many times its best distance is worse, not noise."""
PATIENCE = 4
"""Measurements in a row, all worse than the best, after which training ends."""


class Selection:
    """Remembers the averaged weights that are to be delivered, and their `moment`.

    `course` holds (images, distance) of every measurement, `collapsed` the images of those at which the training doctor
    saw samples that are all alike: by the distance of all classes together such a moment may still be the closest.
    """

    def __init__(self, prepared: Prepared, seed: int) -> None:
        self.prepared, self.seed = prepared, seed
        held_out = prepared.indices("validation")
        self.held_out = np.sort(np.random.default_rng(seed).permutation(held_out)[:SAMPLES])
        self.few = len(prepared.indices("train")) < FEW
        self.course: list[tuple[int, float]] = []
        self.collapsed: list[int] = []
        self.moment = (0, math.inf)
        self.weights: dict[str, Tensor] = {}
        self.finished = False

    @property
    def possible(self) -> bool:
        """Whether there are enough validation images."""
        return len(self.held_out) >= LEAST

    @property
    def measured(self) -> dict[str, float]:
        """What is logged: the last distance, with every step after it, since not every step has a line in the log."""
        return {"selection/distance": self.course[-1][1]} if self.course else {}

    @property
    def best(self) -> float:
        """The smallest distance so far."""
        return min((distance for _, distance in self.course), default=math.inf)

    def state(self) -> dict[str, Any]:
        """Everything that the choice depends on."""
        return {"course": self.course, "collapsed": self.collapsed, "moment": self.moment, "weights": self.weights,
                "finished": self.finished}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.course = [(images, distance) for images, distance in state["course"]]
        self.collapsed = state.get("collapsed", [])  # an older run has none
        images, distance = state.get("moment", self._closest())  # an older run kept the closest of all
        self.moment, self.weights, self.finished = (images, distance), state["weights"], state["finished"]

    def due(self, loop: Loop, before: int) -> bool:
        """Whether it is time for a measurement; before: images before the last step."""
        last = self.course[-1][0] if self.course else 0
        passed = loop.images // APART > before // APART
        return self.possible and passed and (loop.images - last) * MOMENTS * loop.progress >= loop.images

    def measure(self, loop: Loop) -> None:
        """Measure the averaged generator now; remember its weights if none before was closer."""
        distance = loop.ranks.agree(self._distance(loop), False)[0]  # the first process's number counts for all
        if loop.doctor and loop.doctor.signs.lost:
            self.collapsed.append(loop.images)
        self.course.append((loop.images, distance))
        if self._as_close():
            self.moment = self.course[-1]
            self.weights = {name: value.detach().cpu().clone()
                            for name, value in loop.average.network.state_dict().items()}
        last = self.course[-PATIENCE:]
        if self.few and len(self.course) > PATIENCE and all(far > WORSE * self.best for _, far in last):
            self.finished = True
            loop.folder.event("stopped early", loop.images, (
                f"The distance of samples to validation images was {self.best:.1f} at its best and has been more than "
                f"{WORSE} times that in the last {PATIENCE} measurements (now {distance:.1f}): few images are learned "
                "by heart. Training ends."))

    def _as_close(self) -> bool:
        """Whether the last moment is as close as any other; a collapsed one only where all are."""
        closest, (images, distance) = self._closest(), self.course[-1]
        return (images in self.collapsed) == (closest[0] in self.collapsed) and distance <= NOISE * closest[1]

    def _closest(self) -> tuple[int, float]:
        """The closest moment; one that is collapsed only where there is no other."""
        return min(self.course, key=lambda moment: (moment[0] in self.collapsed, moment[1]), default=self.moment)

    def _distance(self, loop: Loop) -> float:
        from radsynth.metrics._features import features
        from radsynth.metrics._frechet import frechet_distance

        if not hasattr(self, "real"):
            self.real = features(self.prepared.images(self.held_out))
        rows = np.resize(self.held_out, SAMPLES)
        loop.samples.calibrate_on(rows, SAMPLES, self.seed + 4)
        made = loop.samples.make(loop.average.network, rows, range(SAMPLES), self.seed + 3)
        return frechet_distance(self.real, features(made.float().cpu().numpy()))

    def choose(self, loop: Loop) -> dict[str, Any] | None:
        """When training ends: deliver the closest weights; what was measured, None for a run too short to choose."""
        if not self.course:
            return None
        if self.course[-1][0] != loop.images:
            self.measure(loop)
        images, distance = self.moment
        loop.average.network.load_state_dict(self.weights)
        loop.folder.event("weights chosen", loop.images, (
            f"The averaged weights after {images} images are delivered: of {len(self.course)} moments the last whose "
            f"samples were as close to validation images as any (Frechet distance {distance:.1f}, the smallest "
            f"{self._closest()[1]:.1f}, at the end {self.course[-1][1]:.1f}; {SAMPLES} samples against "
            f"{len(self.held_out)})."))
        return {"images": images, "distance": distance, "samples": SAMPLES, "validation_images": len(self.held_out),
                "course": self.course}

    def say_why_not(self, loop: Loop) -> None:
        """When a training that had several moments ends: that there was nothing to choose by, and what to do."""
        if self.possible or loop.images < APART:
            return
        have, enough = len(self.held_out), ""
        if have:
            enough = f" {math.ceil(len(self.prepared.rows) * LEAST / have)} images in all, split alike, are enough."
        loop.folder.event("last weights", loop.images, (
            f"{have} validation images cannot tell which moment of training is best, or that it should end early "
            f"({LEAST} can): it took its whole budget, and the averaged weights at the end are delivered. With so few "
            "images they were the best, or hardly worse, in trials of the default network. Where previews/ shows "
            "better ones before, train again with a smaller budget. Whether images were learned by heart, nobody can "
            f"measure on so few: look at the closest pairs in the report.{enough}"))
