"""Whether synthetic images are plausible one by one, and whether they span the variety of the real ones: precision and
recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), with the 5 nearest neighbours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._distances import distances_by_chunk
from radsynth.metrics._resampling import estimate, paired_halves, share_of

MINIMUM = 50
NEIGHBOURS = 5
DENSITY_OF_HALF = 3
"""Neighbours that the density of half-samples is taken with: half as many images reach as far with half as many. With
all five it scatters less than the full sample's, and the interval holds the truth too rarely."""
NUMBERS = (
    Number(
        name="precision", title="Precision", better="closer to floor", unit="share",
        meaning="The share of synthetic images that lie where real images lie: it falls when images look wrong.",
    ),
    Number(
        name="recall", title="Recall", better="closer to floor", unit="share",
        meaning="The share of real images that lie where synthetic images lie: it falls when kinds of images are "
                "missing.",
    ),
    Number(
        name="density", title="Density", better="closer to floor",
        meaning="How densely real images surround each synthetic one: well above the floor means that the synthetic "
                "images crowd where real ones are most typical.",
    ),
    Number(
        name="coverage", title="Coverage", better="closer to floor", unit="share",
        meaning="The share of real images that have a synthetic one close by: it falls when the synthetic images "
                "repeat a few types.",
    ),
)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """Precision, recall, density and coverage of the synthetic images against the held-out ones."""
    require(comparison, MINIMUM)
    value = _estimates(comparison.real, comparison.synthetic, repetitions, seed)
    floor = _estimates(comparison.real, comparison.floor, repetitions, seed)
    return [measurement(number, comparison, v, f) for number, v, f in zip(NUMBERS, value, floor, strict=True)]


def precision_recall_density_coverage(
    real: NDArray[np.float32], other: NDArray[np.float32], neighbours: int = NEIGHBOURS
) -> tuple[float, float, float, float]:
    """The four numbers of features (n, d) and (m, d), each with more than `neighbours` rows."""
    return _four(_all_distances(real, real), _all_distances(other, other), _all_distances(real, other), neighbours)


def _estimates(real: Sample, other: Sample, repetitions: int, seed: int) -> list[Estimate]:
    a, b = real.features, other.features
    within_a, within_b, between = (_all_distances(x, y) for x, y in ((a, a), (b, b), (a, b)))
    value = _four(within_a, within_b, between)
    pairs, units = paired_halves(real.patients, other.patients, repetitions, seed)
    parts = [
        _four(within_a[np.ix_(i, i)], within_b[np.ix_(j, j)], between[np.ix_(i, j)], crowd=DENSITY_OF_HALF)
        for i, j in pairs
    ]
    columns = np.asarray(parts).T
    bounds = [np.inf if number.unit == "" else 1.0 for number in NUMBERS]
    found = [estimate(v, c, units, low=0.0, high=high) for v, c, high in zip(value, columns, bounds, strict=True)]
    return [_widened(one, units) if number.unit == "share" else one for one, number in zip(found, NUMBERS, strict=True)]


def _widened(one: Estimate, units: int) -> Estimate:
    """None or all of the images: halves do not scatter then, and the exact interval of a count is the honest one."""
    if one.value not in (0, 1):
        return one
    exact = share_of(round(one.value * units), units)
    return replace(one, low=min(one.low, exact.low), high=max(one.high, exact.high))


def _all_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    distances = np.concatenate([part for _, part in distances_by_chunk(a, b)])
    if a is b:
        np.fill_diagonal(distances, 0)
    return distances


def _four(within_real: NDArray[np.float32], within_other: NDArray[np.float32], between: NDArray[np.float32],
          neighbours: int = NEIGHBOURS, crowd: int | None = None) -> tuple[float, float, float, float]:
    """From squared distances (n, n), (m, m), (n, m). A ball reaches from an image to its k-th neighbour of its kind.

    crowd: the k of the density, without: the same
    """
    crowd = crowd or neighbours
    real_reach, other_reach = _reach(within_real, neighbours), _reach(within_other, neighbours)
    inside_real = between < real_reach[:, None]
    precision = inside_real.any(0).mean()
    recall = (between < other_reach[None, :]).any(1).mean()
    near = inside_real if crowd == neighbours else between < _reach(within_real, crowd)[:, None]
    density = near.sum() / (crowd * between.shape[1])
    coverage = inside_real.any(1).mean()
    return float(precision), float(recall), float(density), float(coverage)


def _reach(within: NDArray[np.float32], neighbours: int) -> NDArray[np.float32]:
    """Squared distance to the k-th neighbour; position 0 of a sorted row is the image itself."""
    reach: NDArray[np.float32] = np.partition(within, neighbours, axis=1)[:, neighbours]
    return reach
