"""Whether the grey values are right: Wasserstein-1 distance between intensity histograms, in the images' own units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._resampling import estimate, paired_halves

MINIMUM = 20
NUMBERS = (
    Number(
        name="intensity_distance", title="Intensity histogram distance", better="down to floor", unit="units",
        meaning="How far, on average, grey values would have to move to turn the synthetic images' histogram into that "
                "of the real ones.",
    ),
)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """Wasserstein-1 distance of the pooled intensities, averaged over channels."""
    require(comparison, MINIMUM)
    value = _estimate(comparison.real, comparison.synthetic, comparison.scale, repetitions, seed)
    floor = _estimate(comparison.real, comparison.floor, comparison.scale, repetitions, seed)
    return [measurement(NUMBERS[0], comparison, value, floor, pixels=True)]


def wasserstein(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(c,) integrals of |F_a - F_b| over [-1, 1]; a, b: (c, bins) shares that sum to 1 in each channel."""
    return np.asarray(np.abs(np.cumsum(a - b, axis=-1)).sum(-1) * 2 / a.shape[-1], np.float64)


def _estimate(real: Sample, other: Sample, scale: float | NDArray[np.float64], repetitions: int, seed: int,
              ) -> Estimate:
    def distance(i: NDArray[np.int64], j: NDArray[np.int64]) -> float:
        mean_a = real.histograms[i].mean(0, dtype=np.float64)
        return float(np.mean(scale * wasserstein(mean_a, other.histograms[j].mean(0, dtype=np.float64))))

    pairs, units = paired_halves(real.patients, other.patients, repetitions, seed)
    parts = [distance(i, j) for i, j in pairs]
    return estimate(distance(np.arange(len(real)), np.arange(len(other))), parts, units, low=0.0)
