"""What the training doctor concludes from its examinations: averages and counts over a run, and illnesses.

Nothing is done about them here: see `doctor`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import cat

from radsynth.verbs._training.examination import Found

OVERFIT = 0.4
"""Aim of the overfit sign with held-out images: 0 is none, 1 is that they are taken for generated ones."""
CERTAIN = 0.8
"""Aim of the overfit sign without held-out images: how surely real images are told from generated ones, 0 to 1."""
OVERFITS = 5
"""Examinations in a row, far above the aim under the strongest augmentation, that are an illness."""
VANISHED = 0.01
"""A saturating loss that lets less than this share of the gradient through, while all its images are found out."""
APART = 0.5
"""Distance of the means of its logits of training and generated images, as a share of the spread of all, up to which
the discriminator tells nothing apart."""
SILENT = 5
"""Examinations in a row in which it tells nothing although images are augmented, that are an illness."""
FOUND_OUT = 0.95
"""Certainty at which all generated images are found out."""
STRONG_EXAMINATIONS = 3
"""Examinations in a row in which all is found out, and nothing comes closer, that are an illness."""
FAR = 0.5
"""Samples at this distance from real images (see `compare`) are nothing like them yet."""
ALIKE = 0.25
"""Samples that differ less than this share of how real images differ are a collapse."""
USELESS = 0.2
"""The same of what is delivered, when training has ended: nobody can use it."""
ALIKE_EXAMINATIONS = 2
"""Examinations in a row with such samples that are an illness: short trainings must be helped early."""
BEGUN = 0.1
"""Share of the run in which samples may still be alike, or far from real ones, because they are not yet anything."""
SETTLED = 0.25
"""Share of the run after which samples are compared with the best so far: the blurred images of a warm start are nearer
at 16 pixels than the first sharp ones, and would be taken for the best."""
WORSE_FOR, WORSE_EXAMINATIONS = 0.2, 10
"""Share of the run, and examinations, with samples far from their best after which training ends: a short one goes
on, because it has had no time to come back."""


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
    worse_times: int = 0
    told: float = 0.0
    varied: dict[str, bool] = field(default_factory=dict)
    alike: dict[str, int] = field(default_factory=dict)
    strong: int = 0
    strong_since: float = math.inf
    lost: bool = False
    overfits: int = 0
    silent: int = 0
    finished: bool = False

    def take(self, found: Found) -> None:
        """Put an examination into the averages."""
        logits = found.logits
        for name, values in logits.items():
            self._average(name, float(values.mean()))
        self._average("spread", float(cat(list(logits.values())).std()))
        ranks = (logits["trained"][:, None] - logits["generated"][None]).sign()
        self._average("certainty", float(ranks.mean()))
        self._average("distance", found.distance, keep=0.5)
        self.lost = min(found.varieties.values()) < ALIKE

    def _average(self, name: str, value: float, keep: float = 0.75) -> None:
        old = getattr(self, name)
        setattr(self, name, value if math.isnan(old) else keep * old + (1 - keep) * value)

    @property
    def worse(self) -> bool:
        """Whether samples are far from their best; the second term is the noise of the measurement."""
        return self.distance > 2 * self.best + 0.05


def overfit(signs: Signs, held_out: bool) -> tuple[float, float]:
    """r_v of ADA (eq. 1), how far held-out images are rated from training images towards generated ones, and its aim.

    Without held-out images how surely training images are told from generated ones: unlike r_t of ADA, the sign of
    a logit, it does not change when a constant is added to all logits, which relativistic losses leave open.
    """
    if not held_out:
        return signs.certainty, CERTAIN
    # Where the discriminator tells nothing apart the ratio means nothing.
    return ((signs.trained - signs.held_out) / _gap(signs) if _apart(signs) else 0.0), OVERFIT


def _gap(signs: Signs) -> float:
    return signs.trained - signs.generated


def _apart(signs: Signs) -> bool:
    return _gap(signs) > APART * signs.spread


def tells_nothing(signs: Signs, progress: float) -> bool:
    """Whether the discriminator has told nothing apart for some time. Counts examinations."""
    signs.silent = signs.silent + 1 if progress > BEGUN and not _apart(signs) else 0
    return signs.silent >= SILENT


def overfits_still(signs: Signs, sign: float, aim: float, strongest: bool) -> bool:
    """Whether the strongest augmentation has not been enough for some time. Counts examinations."""
    signs.overfits = signs.overfits + 1 if strongest and sign > 1.5 * aim else 0
    if signs.overfits < OVERFITS:
        return False
    signs.overfits = 0
    return True


def gradient_left(signs: Signs) -> float:
    """The share of the gradient that the minimax loss lets through, where all generated images are found out; else 1.

    d softplus(f) / df = s(f) at the logits f of generated images.
    """
    return 1 / (1 + math.exp(min(-signs.generated, 700.0))) if signs.certainty > FOUND_OUT else 1.0


def too_strong(signs: Signs, progress: float) -> bool:
    """Whether all generated images have been found out for some time, and come no closer. Counts examinations."""
    if progress <= BEGUN:
        return False
    near = signs.distance < max(FAR, 0.9 * signs.strong_since if signs.strong else 0.0)
    signs.strong = 0 if near or not signs.certainty > FOUND_OUT else signs.strong + 1
    if signs.strong == 1:
        signs.strong_since = signs.distance
    if signs.strong < STRONG_EXAMINATIONS:
        return False
    signs.strong = 0
    return True


def collapsed(signs: Signs, varieties: dict[str, float], progress: float) -> str | None:
    """The group ("": all) whose samples have become most alike, or have stayed so; None: none. Counts examinations."""
    for group, variety in varieties.items():
        signs.varied[group] = signs.varied.get(group, False) or variety > 2 * ALIKE
        ill = variety < ALIKE and (signs.varied[group] or progress > BEGUN)
        signs.alike[group] = signs.alike.get(group, 0) + 1 if ill else 0
    lost = [group for group in varieties if signs.alike[group] >= ALIKE_EXAMINATIONS]
    return min(lost, key=varieties.__getitem__) if lost else None


def only_worse(signs: Signs, progress: float) -> bool:
    """Whether samples have been far from their best for too long. Counts examinations."""
    if not signs.worse:
        signs.worse_since, signs.worse_times = -1.0, 0
        return False
    signs.worse_since = progress if signs.worse_since < 0 else signs.worse_since
    signs.worse_times += 1
    return progress - signs.worse_since >= WORSE_FOR and signs.worse_times > WORSE_EXAMINATIONS
