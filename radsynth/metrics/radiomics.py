"""Radiomics distance (after Konz et al. 2025, "Fréchet radiomic distance"): first-order and texture features, z-scored
by the real images, and the logarithm of the Frechet distance between them. The features are our own: `_texture.py`.

How images become features: 32 equal levels over [-1, 1]; images of more than 16,384 pixels (voxels: 32,768) are
averaged over blocks first; several channels stand beside each other; x becomes sign(x) log(1 + |x|).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._features import shrink
from radsynth.metrics._frechet import frechet_distance
from radsynth.metrics._resampling import estimate, paired_halves
from radsynth.metrics._texture import cooccurrence, run_lengths, zone_sizes

OWN = "native radiomics, 32 levels, version 1"
MINIMUM = 50
IMAGES = 400
LEVELS = 32
LARGEST = {2: 16384, 3: 32768}
NUMBERS = (
    Number(
        name="radiomics_distance", title="Radiomics distance (log)", better="down to floor",
        meaning="How far the synthetic images as a group lie from unseen real ones in brightness, contrast and texture "
                "as radiomics measures them; it is the logarithm of a Fréchet distance and may be negative.",
    ),
)


def describe(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> (n, c * 68): 16 first-order, 20 co-occurrence, 16 run-length and 16 zone-size features."""
    small = shrink(pixels, LARGEST[pixels.ndim - 2])
    found = []
    for channel in range(small.shape[1]):
        values = small[:, channel]
        levels = np.clip((values + 1) * (LEVELS / 2), 0, LEVELS - 1).astype(np.int64)
        found += [first_order(values), cooccurrence(levels, LEVELS), run_lengths(levels, LEVELS),
                  zone_sizes(levels, LEVELS)]
    every = np.concatenate(found, axis=1)
    # Sums of squared sizes and of fourth powers span many orders of magnitude: one image in a thousand would decide.
    return (np.sign(every) * np.log1p(np.abs(every))).astype(np.float32)


def first_order(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, *space) -> (n, 16): mean, median, extremes, percentiles, spreads, shape of the histogram."""
    flat = np.sort(values.reshape(len(values), -1).astype(np.float64), axis=1)
    mean = flat.mean(1)
    p10, p25, p50, p75, p90 = np.percentile(flat, (10, 25, 50, 75, 90), axis=1)
    about = flat - mean[:, None]
    variance = np.square(about).mean(1)
    inner = (flat >= p10[:, None]) & (flat <= p90[:, None])
    inner_mean = (flat * inner).sum(1) / inner.sum(1)
    robust = (np.abs(flat - inner_mean[:, None]) * inner).sum(1) / inner.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.where(variance > 0, (about**3).mean(1) / variance**1.5, 0.0)
        kurtosis = np.where(variance > 0, (about**4).mean(1) / variance**2, 0.0)
    levels = np.clip((flat + 1) * (LEVELS / 2), 0, LEVELS - 1).astype(np.int64)
    levels += LEVELS * np.arange(len(flat))[:, None]
    shares = np.bincount(levels.ravel(), minlength=len(flat) * LEVELS).reshape(len(flat), LEVELS) / flat.shape[1]
    entropy = -(shares * np.log2(shares + np.spacing(1))).sum(1)
    return np.stack([flat[:, 0], p10, mean, p50, p90, flat[:, -1], p75 - p25, flat[:, -1] - flat[:, 0],
                     np.abs(about).mean(1), robust, np.sqrt(np.square(flat + 1).mean(1)), skewness, kurtosis, variance,
                     entropy, np.square(shares).sum(1)], axis=1)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """The logarithm of the Frechet distance of z-scored radiomics features."""
    require(comparison, MINIMUM)
    value = _estimate(comparison.real, comparison.synthetic, repetitions, seed)
    floor = _estimate(comparison.real, comparison.floor, repetitions, seed)
    one = measurement(NUMBERS[0], comparison, value, floor, own=True)
    return [replace(one, ratio=math.exp(value.value - floor.value))]  # of the distances, not of their logarithms


def radiomics_distance(real: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """log Frechet distance of features (n, d), (m, d) z-scored by `real`; what never varies there is left out."""
    return math.log(max(frechet_distance(*_scored(real, other)), np.finfo(float).tiny))


def _scored(real: NDArray[np.float32], other: NDArray[np.float32], least: NDArray[np.float64] | None = None,
            ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both, z-scored by `real`. least: the unit of a feature is that large at least; what has none is left out."""
    wide = real.astype(np.float64)
    mean, deviation = wide.mean(0), wide.std(0, ddof=1)
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    if least is not None:
        deviation, varies = np.maximum(deviation, least), varies | (least > 0)
    scored = [((side[:, varies] - mean[varies]) / deviation[varies]).astype(np.float32) for side in (real, other)]
    return scored[0], scored[1]


def _estimate(real: Sample, other: Sample, repetitions: int, seed: int) -> Estimate:
    assert real.own is not None and other.own is not None
    a, b = real.own, other.own
    pairs, units = paired_halves(real.patients, other.patients, repetitions, seed)
    # Scored anew by each half of the real images: the unit is drawn too, and belongs to the interval. But where one
    # image in hundreds sets the unit of a feature (its brightest pixel, say), a half without it would decide alone.
    least = a.astype(np.float64).std(0, ddof=1) / 2
    parts = np.asarray([frechet_distance(*_scored(a[i], b[j], least)) for i, j in pairs])
    value = frechet_distance(*_scored(a, b))
    # Half-samples inflate the distance, so their logarithms scatter less than the full sample's: d log x = dx / x.
    logarithm = math.log(max(value, np.finfo(float).tiny))
    return estimate(logarithm, logarithm + (parts - parts.mean()) / max(value, np.finfo(float).tiny), units)
