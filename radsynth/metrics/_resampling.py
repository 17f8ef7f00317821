"""Where every 95 % interval of the metrics comes from: random half-samples of the patients (Politis and Romano 1994).

A bootstrap with replacement doubles some images, which shifts Frechet distances and neighbour counts upwards. A half
drawn without replacement has no doubles, and its mean scatters about the full sample's with variance
s^2/m * (1 - m/G) for m of G patients: exactly the sampling variance s^2/G of the full sample when m = G/2. So the
spread of a statistic over half-samples of both sides is its standard error, and its shift (bias of smaller samples)
drops out because the interval is centred on the value of the full samples.

However many halves are drawn, they tell the error of few patients no better than so many patients can: Student's t
counts those of the side that has fewer. What no resampling tells is the bias itself (that of Frechet distances is the
larger the fewer patients there are): it is in the floor too, which has the same held-out patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Estimate, half_width

LEAST = 6
"""Images that a half must hold, as neighbours and covariances need them; smaller halves, of patients with few
images each, are drawn again."""


def halves(patients: NDArray[np.int64], repetitions: int, seed: int) -> list[NDArray[np.int64]]:
    """Row numbers of `repetitions` random halves of the patients, each with all images of its patients.

    Where one patient has nearly all images there is one such half alone: then halves of the images, which do not tell
    how patients differ.
    """
    found = _halves(np.unique(patients, return_inverse=True)[1], repetitions, seed)
    if all(np.array_equal(rows, found[0]) for rows in found):
        return _halves(np.arange(len(patients)), repetitions, seed)
    return found


def _halves(owner: NDArray[np.int64], repetitions: int, seed: int) -> list[NDArray[np.int64]]:
    generator, count, least = np.random.default_rng(seed), int(owner.max()) + 1, min(LEAST, len(owner) // 4)
    chosen: list[NDArray[np.int64]] = []
    while len(chosen) < repetitions:
        taken = np.zeros(count, dtype=bool)
        taken[generator.permutation(count)[: max(1, count // 2)]] = True
        rows = np.flatnonzero(taken[owner])
        if len(rows) >= least:  # the patient with the most images alone has as many, or all halves do
            chosen.append(rows)
    return chosen


def paired_halves(real: NDArray[np.int64], other: NDArray[np.int64], repetitions: int, seed: int,
                  ) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], int]:
    """Halves of both sides, given the patient of every image, and how many patients the side with fewer has."""
    pairs = list(zip(halves(real, repetitions, seed), halves(other, repetitions, seed + 1), strict=True))
    return pairs, min(units(real, pairs[0][0]), units(other, pairs[0][1]))


def units(patients: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    """How many patients a half was drawn from; images, where it divides those of a patient."""
    owner = np.unique(patients, return_inverse=True)[1]
    taken, all_of_them = (np.bincount(some, minlength=owner.max() + 1) for some in (owner[rows], owner))
    return len(all_of_them) if ((taken == 0) | (taken == all_of_them)).all() else len(patients)


def independent(values: NDArray[np.float64], patients: NDArray[np.int64]) -> float:
    """How many independent images tell as much as these (n,) values: n where patients have one image each, fewer the
    more the images of a patient are alike; 1 for one patient.

    n / (1 + (m - 1) r) by Kish (1965) with m = sum of squared images a patient / n, and r, the correlation within
    patients, by analysis of variance (Donner 1986).
    """
    owner = np.unique(patients, return_inverse=True)[1]
    sizes, n = np.bincount(owner).astype(np.float64), len(values)
    if len(sizes) == n:
        return float(n)
    if len(sizes) == 1:
        return 1.0
    means = np.bincount(owner, weights=values) / sizes
    between = float((sizes * np.square(means - values.mean())).sum()) / (len(sizes) - 1)
    within = float(np.square(values - means[owner]).sum()) / (n - len(sizes))
    crowd = float(np.square(sizes).sum()) / n
    size = (n - crowd) / (len(sizes) - 1)
    spread = between + (size - 1) * within
    alike = max(0.0, (between - within) / spread) if spread > 0 else 1.0
    return n / (1 + (crowd - 1) * alike)


def estimate(value: float, replicates: Sequence[float] | NDArray[np.float64], units: int, *, extra: float = 0.0,
             low: float = -math.inf, high: float = math.inf) -> Estimate:
    """The value with its 95 % interval from half-sample replicates, by Student's t.

    units: how many patients the halves are drawn from; extra: a further standard error, independent of the first
    low, high: bounds of the statistic
    """
    spread = float(np.std(replicates, ddof=1))
    counted = min(len(replicates), units)
    width = half_width(math.hypot(spread, extra), counted)
    return Estimate(value=value, low=max(low, value - width), high=min(high, value + width),
                    parts=tuple(float(part) for part in replicates), units=counted)


def share_of(count: int, n: int) -> Estimate:
    """A share with its exact interval (Clopper and Pearson 1934), which is honest at 0 of n too."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
    return Estimate(value=count / n, low=low, high=high)
