"""Where every 95 % interval of the metrics comes from: random half-samples of the patients (Politis and Romano 1994).

A bootstrap with replacement doubles some images, which shifts Frechet distances and neighbour counts upwards. A half
drawn without replacement has no doubles, and its mean scatters about the full sample's with variance
s^2/m * (1 - m/G) for m of G patients: exactly the sampling variance s^2/G of the full sample when m = G/2. So the
spread of a statistic over half-samples of both sides is its standard error, and its shift (bias of smaller samples)
drops out because the interval is centred on the value of the full samples.
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


def units(patients: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    """How many patients a half was drawn from; images, where it divides those of a patient."""
    owner = np.unique(patients, return_inverse=True)[1]
    taken, all_of_them = (np.bincount(some, minlength=owner.max() + 1) for some in (owner[rows], owner))
    return len(all_of_them) if ((taken == 0) | (taken == all_of_them)).all() else len(patients)


def estimate(value: float, replicates: Sequence[float] | NDArray[np.float64], *, extra: float = 0.0,
             low: float = -math.inf, high: float = math.inf, units: int | None = None) -> Estimate:
    """The value with its 95 % interval from half-sample replicates (Student's t for their number).

    extra: a further standard error, independent of the first; low, high: bounds of the statistic
    units: how many patients the halves are drawn from: a standard error of few is uncertain, however many the halves
    """
    spread = float(np.std(replicates, ddof=1))
    width = half_width(math.hypot(spread, extra), min(len(replicates), units or len(replicates)))
    return Estimate(value=value, low=max(low, value - width), high=min(high, value + width),
                    parts=tuple(float(part) for part in replicates))


def share_of(count: int, n: int) -> Estimate:
    """A share with its exact interval (Clopper and Pearson 1934), which is honest at 0 of n too."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0
    return Estimate(value=count / n, low=low, high=high)
