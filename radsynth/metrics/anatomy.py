"""Whether what is seen has the right sizes and places: simple measures of the body in every image, compared as
distributions. Tissues are found by two thresholds of each image's own histogram (Liao, Chen and Chung 2001).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._features import shrink
from radsynth.metrics._resampling import estimate, paired_halves

OWN = "anatomy, three tissues, version 1"
MINIMUM = 20
BINS = 64
LARGEST = {2: 4096, 3: 32768}
WHERE = {"area": slice(0, 1), "tissue": slice(1, 3), "symmetry": slice(3, 4), "position": slice(4, None)}
"""Columns of `describe` behind each number."""

_IN_DEVIATIONS = "in standard deviations of the real images"
NUMBERS = (
    Number(
        name="area_distance", title="Foreground area distance", better="down to floor",
        meaning=f"How far the share of the image that the body fills is from that in real images, {_IN_DEVIATIONS}.",
    ),
    Number(
        name="tissue_distance", title="Tissue area distance", better="down to floor",
        meaning=f"The same for the shares of the body that are of middle and of high brightness, {_IN_DEVIATIONS}.",
    ),
    Number(
        name="symmetry_distance", title="Symmetry distance", better="down to floor",
        meaning="How far the likeness of each image to its mirror image, left to right as it is shown, is from that of "
                f"real images, {_IN_DEVIATIONS}.",
    ),
    Number(
        name="position_distance", title="Position distance", better="down to floor",
        meaning=f"How far the body's centre and its extent along each axis are from those in real images, "
                f"{_IN_DEVIATIONS}.",
    ),
)


def describe(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> (n, 4 + 2 * dimensions): foreground share, middle and bright share of it, symmetry, centre and
    spread along each axis (shares of its length). The mean over channels is looked at.
    """
    images = shrink(pixels, LARGEST[pixels.ndim - 2]).mean(1)
    n, space = len(images), images.shape[1:]
    low, high = multi_otsu(images.reshape(n, -1))
    shape = (n, *[1] * len(space))
    foreground = images > low.reshape(shape)
    bright = (images > high.reshape(shape)).reshape(n, -1).mean(1)
    share = foreground.reshape(n, -1).mean(1)
    columns = [share, (share - bright) / np.maximum(share, 1e-9), bright / np.maximum(share, 1e-9), _symmetry(images)]
    for axis in range(len(space)):
        others = tuple(k + 1 for k in range(len(space)) if k != axis)
        profile = foreground.sum(others).astype(np.float64)
        profile /= np.maximum(profile.sum(1, keepdims=True), 1)
        place = (np.arange(space[axis]) + 0.5) / space[axis]
        centre = profile @ place
        columns += [centre, np.sqrt((profile * np.square(place[None, :] - centre[:, None])).sum(1))]
    return np.stack(columns, axis=1).astype(np.float32)


def multi_otsu(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two thresholds for each row of (n, pixels) in [-1, 1] that part it into three classes of least inner variance."""
    n = len(values)
    bins = np.clip(((values + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1) + BINS * np.arange(n)[:, None]
    shares = np.bincount(bins.ravel(), minlength=n * BINS).reshape(n, BINS) / values.shape[1]
    weight = np.concatenate([np.zeros((n, 1)), np.cumsum(shares, axis=1)], axis=1)
    moment = np.concatenate([np.zeros((n, 1)), np.cumsum(shares * np.arange(BINS), axis=1)], axis=1)
    first, second = _splits()
    between = np.zeros((n, len(first)))
    edges = ((np.zeros_like(first), first), (first, second), (second, np.full_like(first, BINS)))
    for start, stop in edges:
        mass, lever = weight[:, stop] - weight[:, start], moment[:, stop] - moment[:, start]
        between += lever**2 / np.maximum(mass, 1e-12)
    # Empty bins between two classes make equally good splits: their middle is the threshold.
    best = between >= between.max(1, keepdims=True) - 1e-9
    count = best.sum(1)
    return best @ (2 * first / BINS - 1) / count, best @ (2 * second / BINS - 1) / count


@functools.cache
def _splits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = np.triu_indices(BINS - 1, 1)
    return first + 1, second + 1


def _symmetry(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) correlation of each image with its mirror image along the last axis; 1 for an image of one value."""
    flat = (images - images.mean(tuple(range(1, images.ndim)), keepdims=True)).astype(np.float64)
    mirrored = (flat * flat[..., ::-1]).reshape(len(flat), -1).sum(1)
    power = np.square(flat).reshape(len(flat), -1).sum(1)
    return np.asarray(np.where(power > 1e-9, mirrored / np.maximum(power, 1e-9), 1.0))


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """Wasserstein-1 distances of the measures' distributions over their real deviation, averaged within each group."""
    require(comparison, MINIMUM)
    value = _estimates(comparison.real, comparison.synthetic, repetitions, seed)
    floor = _estimates(comparison.real, comparison.floor, repetitions, seed)
    return [measurement(number, comparison, v, f, pixels=True)
            for number, v, f in zip(NUMBERS, value, floor, strict=True)]


def _estimates(real: Sample, other: Sample, repetitions: int, seed: int) -> list[Estimate]:
    assert real.own is not None and other.own is not None
    a, b = real.own, other.own
    groups = list(WHERE.values())

    def distances(i: NDArray[np.int64], j: NDArray[np.int64]) -> list[float]:
        # In deviations of the same real images: that unit is drawn too, and belongs to the interval.
        deviation = np.maximum(a[i].std(0, dtype=np.float64), 1e-4)  # of shares: a measure that hardly varies
        columns = wasserstein(a[i] / deviation, b[j] / deviation)
        return [float(columns[group].mean()) for group in groups]

    pairs, units = paired_halves(real.patients, other.patients, repetitions, seed)
    parts = np.asarray([distances(i, j) for i, j in pairs])
    value = distances(np.arange(len(a)), np.arange(len(b)))
    # A distance that is small by chance scatters little, too: like |x| near 0. Then its halves lie above it, and their
    # scatter about the value itself, not about their own mean, is the honest error.
    return [estimate(v, column, units, extra=float(column.mean()) - v, low=0.0)
            for v, column in zip(value, parts.T, strict=True)]


def wasserstein(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(d,) Wasserstein-1 distances of the columns of (n, d) and (m, d), from the quantiles at 200 levels."""
    levels = (np.arange(200) + 0.5) / 200
    quantiles = [np.quantile(side, levels, axis=0, method="hazen") for side in (a, b)]
    return np.asarray(np.abs(quantiles[0] - quantiles[1]).mean(0))
