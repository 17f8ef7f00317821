"""How well an attack works: area under the curve and hits at 1 % false alarms, with intervals over patients.

The shape of the report is anonymeter's (Giomi et al. 2023): the attack, the same attack where there is nothing to find
(control), and the same attack by somebody without the synthetic images (baseline).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import DataError
from radsynth.metrics import Estimate
from radsynth.metrics._resampling import independent

FALSE_ALARMS = 0.01
"""Share of false alarms at which the hits of an attack are counted (Carlini et al. 2022)."""
MINIMUM_PATIENTS = 20
"""Patients on each side that an interval needs."""
REPETITIONS = 400

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """The attacker's suspicion of n images (higher: more likely a member) and whose images they are."""

    values: _Floats
    patients: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How well an attack tells members from others: auc 0.5 and hits as in `guessed` are what guessing gives."""

    auc: Estimate
    hits: Estimate
    members: int
    others: int


def area(members: _Floats, others: _Floats) -> float:
    """The probability that a member scores higher than another (Mann and Whitney); ties count half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, members, side="left")
    upto = np.searchsorted(ordered, members, side="right")
    return float((below + upto).mean() / (2 * len(others)))


def hits_at(members: _Floats, others: _Floats) -> float:
    """Share of members above a threshold that at most `FALSE_ALARMS` of the others exceed."""
    return float((members > np.sort(others)[-1 - int(FALSE_ALARMS * len(others))]).mean())


def guessed(others: int) -> float:
    """The hits of somebody who guesses, in expectation: k of n + 1 are above the k-th largest of n others.

    About a hundredth of many; of fewer than a hundred the threshold is the largest, which one in n + 1 exceeds.
    """
    return (int(FALSE_ALARMS * others) + 1) / (others + 1)


def strength(members: Scores, others: Scores, *, seed: int = 0, repetitions: int = REPETITIONS) -> Strength:
    """Both numbers with 95 % intervals: patients are drawn with replacement, on both sides.

    DataError with fewer than `MINIMUM_PATIENTS` patients on a side.
    """
    sides = [_of_patients(side) for side in (members, others)]
    for name, groups in zip(("training", "held-out"), sides, strict=True):
        if len(groups) < MINIMUM_PATIENTS:
            raise DataError(
                f"This attack needs images of at least {MINIMUM_PATIENTS} {name} patients for its intervals, there are "
                f"{len(groups)}. Prepare more patients, or hold out a larger share (prepare.train)."
            )
    generator = np.random.default_rng(seed)
    areas, hits = [], []
    for _ in range(repetitions):
        drawn = [np.concatenate([groups[k] for k in generator.integers(len(groups), size=len(groups))])
                 for groups in sides]
        areas.append(area(drawn[0], drawn[1]))
        hits.append(hits_at(drawn[0], drawn[1]))
    return Strength(auc=_estimate(area(members.values, others.values), areas),
                    hits=_estimate(hits_at(members.values, others.values), hits),
                    members=len(members.values), others=len(others.values))


def _estimate(value: float, replicates: list[float]) -> Estimate:
    low, high = np.quantile(replicates, (0.025, 0.975))
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)))


def _of_patients(scores: Scores) -> list[_Floats]:
    order = np.argsort(scores.patients, kind="stable")
    borders = np.flatnonzero(np.diff(scores.patients[order])) + 1
    return np.split(scores.values[order], borders) if len(order) else []


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A likeness that few images of unseen patients exceed.

    expected: the share of a further patient's images that exceeds it, in expectation
    independent: how many independent images it rests on
    """

    likeness: float
    expected: float
    independent: float

    def chance(self, count: int, of: int) -> float:
        """The probability that `count` or more `of` further images of unseen patients exceed it: it is an order
        statistic of few images, drawn itself (beta-binomial).
        """
        from scipy.stats import betabinom

        places = self.independent + 1
        return float(betabinom.sf(count - 1, of, self.expected * places, (1 - self.expected) * places))


def check_held_out(patients: NDArray[np.int64], false_alarms: float) -> None:
    """DataError when there are too few held-out images for `threshold`, or one patient's alone; patients: theirs (n,)
    """
    needed = int(np.ceil(1 / false_alarms)) - 1
    if len(patients) < needed:
        raise DataError(
            f"To find copies at {100 * false_alarms:g} % false alarms at least {needed} held-out images are needed, "
            f"there are {len(patients)}. Hold out a larger share (prepare.train), or prepare more patients."
        )
    if len(np.unique(patients)) < 2:
        raise DataError(f"All {len(patients)} held-out images are of one patient: they do not tell how like training "
                        "images another's are. Hold out a larger share (prepare.train), or prepare more patients.")


def threshold(held_out: _Floats, patients: NDArray[np.int64], false_alarms: float) -> Threshold:
    """The lowest of the held-out images' likenesses (n,) that at most this share of a further patient's images exceeds,
    in expectation (conformal: n + 1 places), or the largest of them.

    Images of one patient are alike, so that the largest likenesses may all be of one: each image is placed among those
    of the other patients. Errors of `check_held_out`.
    """
    check_held_out(patients, false_alarms)
    places, beyond = len(held_out) + 1, np.sort(_others_beyond(held_out, patients))
    # Were the k-th largest likeness of the others the threshold, so many of a patient's own would exceed it.
    exceeding = np.searchsorted(beyond, np.arange(1, places))
    rank = max(1, int((exceeding <= false_alarms * places).sum()))
    return Threshold(likeness=float(np.sort(held_out)[-rank]), expected=float(exceeding[rank - 1] / places),
                     independent=independent(held_out, patients))


def _others_beyond(values: _Floats, patients: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how many values of other patients are at least as large as each."""
    beyond = len(values) - np.searchsorted(np.sort(values), values)
    order = np.argsort(patients, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(patients[order])) + 1):
        own = values[rows]
        beyond[rows] -= len(own) - np.searchsorted(np.sort(own), own)
    return np.asarray(beyond)
