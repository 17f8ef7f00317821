"""Whether images are as sharp, as smooth and as noisy as real ones: their radially averaged power spectra compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._resampling import estimate, paired_halves

OWN = "power spectrum, 24 bands, version 2"
MINIMUM = 20
BANDS = 24
QUANTUM = (2 / 255) ** 2 / 12
"""Variance of rounding to 8 bits over [-1, 1]: weaker detail than this is no detail."""

NUMBERS = (
    Number(
        name="spectrum_distance", title="Power spectrum distance (dB)", better="down to floor",
        meaning="How much stronger or weaker details of every size are than in real images, on average, in decibels: "
                "it grows when synthetic images are blurred, noisy or have a grid in them.",
    ),
)


def describe(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> (n, c, 24): decibels in equal bands from the longest wave to Nyquist's; empty bands are 0."""
    axes = tuple(range(2, pixels.ndim))
    centred = pixels - pixels.mean(axes, keepdims=True, dtype=np.float64)
    size = int(np.prod(pixels.shape[2:]))
    power = np.square(np.abs(np.fft.rfftn(centred, axes=axes))).reshape(*pixels.shape[:2], -1) / size
    band = _bands(pixels.shape[2:])
    inside = band < BANDS
    weights = np.zeros((power.shape[-1], BANDS))
    weights[np.flatnonzero(inside), band[inside]] = _counts(pixels.shape[2:])[inside]
    weights[0] = 0  # the mean, which was taken off
    used = weights.sum(0)
    means = power @ weights / np.maximum(used, 1)
    return np.where(used > 0, 10 * np.log10(means + QUANTUM), 0).astype(np.float32)


def _bands(space: tuple[int, ...]) -> NDArray[np.int64]:
    """The band of every frequency that a real transform keeps; beyond Nyquist's frequency it is `BANDS` or more."""
    steps = [np.fft.fftfreq(side) for side in space[:-1]] + [np.fft.rfftfreq(space[-1])]
    radius = np.sqrt(sum(np.square(step) for step in np.meshgrid(*steps, indexing="ij")))
    return np.asarray(np.floor(radius.ravel() / 0.5 * BANDS), dtype=np.int64)


def _counts(space: tuple[int, ...]) -> NDArray[np.int64]:
    """How many waves each frequency of a real transform stands for: of inner columns it leaves out the opposite ones,
    so that waves down the columns, of which it has both, would count double."""
    column = np.arange(space[-1] // 2 + 1)
    twice = 1 + ((column > 0) & (2 * column < space[-1]))
    return np.broadcast_to(twice, (*space[:-1], len(twice))).ravel()


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """Root of the mean squared difference of the mean spectra in decibels, over bands and channels."""
    require(comparison, MINIMUM)
    value = _estimate(comparison.real, comparison.synthetic, repetitions, seed)
    floor = _estimate(comparison.real, comparison.floor, repetitions, seed)
    return [measurement(NUMBERS[0], comparison, value, floor, pixels=True)]


def _estimate(real: Sample, other: Sample, repetitions: int, seed: int) -> Estimate:
    assert real.own is not None and other.own is not None
    a, b = real.own.astype(np.float64), other.own.astype(np.float64)
    # A small image has no wave in some bands.
    used = ((a != 0).any(0) | (b != 0).any(0))

    def distance(i: NDArray[np.int64], j: NDArray[np.int64]) -> float:
        return float(np.sqrt(np.square(a[i].mean(0) - b[j].mean(0))[used].mean()))

    pairs, units = paired_halves(real.patients, other.patients, repetitions, seed)
    parts = [distance(i, j) for i, j in pairs]
    return estimate(distance(np.arange(len(a)), np.arange(len(b))), parts, units, low=0.0)
