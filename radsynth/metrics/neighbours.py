"""Whether synthetic images are copies: the nearest training image of every one, compared with the nearest training
image of real images of patients that were never seen (after Meehan et al. 2020, "A non-parametric test to detect
data copying").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import DataError
from radsynth.metrics import Comparison, Estimate, Measurement, Number, measurement, require
from radsynth.metrics._distances import nearest, ratio
from radsynth.metrics._resampling import estimate, independent, paired_halves, share_of

_Floats = NDArray[np.float64]

MINIMUM = 30
CLOSE = 0.01
COPIED = 0.5
NUMBERS = (
    Number(
        name="copies", title="Outright copies", better="lower", unit="share",
        meaning="The share of synthetic images that are less than half as far from a training image as any unseen "
                "patient's image is: each of them should be looked at.",
    ),
    Number(
        name="near_copies_features", title="Near copies, by features", better="lower", unit="share",
        meaning="The share of synthetic images that are as near to a training image, as an image network sees them, "
                "as the nearest 1 % of unseen patients' images are; about the floor is what chance gives.",
    ),
    Number(
        name="near_copies_pixels", title="Near copies, by pixels", better="lower", unit="share",
        meaning="The same share when images are compared pixel by pixel.",
    ),
    Number(
        name="training_distance", title="Distance to training images", better="closer to floor",
        meaning="How far the typical synthetic image is from its nearest training image, relative to unseen patients' "
                "images: well below 1 would point to copying, above 1 to images unlike the real ones.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A synthetic image and its nearest training image (row numbers in their samples).

    by: "features" or "pixels", whichever puts the pair further in front
    distance: in that measure, relative to the median distance of unseen patients' images to the training images
    rarity: share of unseen patients' images that are as near to a training image
    copy: less than half as far as any unseen patient's image, by features or by pixels
    """

    synthetic: int
    training: int
    by: str
    distance: float
    rarity: float
    copy: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """Distances of held-out and synthetic images to their nearest training images, and which those are."""

    real: NDArray[np.float64]
    synthetic: NDArray[np.float64]
    training: NDArray[np.int64]


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """Shares of near copies by features and by pixels, and the relative distance to the training images."""
    require(comparison, MINIMUM)
    features, pixels = _search(comparison, "features"), _search(comparison, "thumbnails")
    real, synthetic = comparison.real.patients, comparison.synthetic.patients
    drawn = paired_halves(real, synthetic, repetitions, seed)
    shares = [_exact_too(search, real, *_estimates(search, _share_closer, _expected_share(search.real, real), 1.0,
                                                   *drawn)) for search in (features, pixels)]
    found = [(_copied_estimate(features, pixels), _copied_floor(features, pixels)), *shares,
             _estimates(features, _median_ratio, 1.0, np.inf, *drawn)]
    return [measurement(number, comparison, value, floor, pixels=number.name == "near_copies_pixels")
            for number, (value, floor) in zip(NUMBERS, found, strict=True)]


def closest_pairs(comparison: Comparison, count: int) -> list[Pair]:
    """The `count` synthetic images that are nearest to a training image by features or by pixels, nearest first."""
    searches = {"features": _search(comparison, "features"), "pixels": _search(comparison, "thumbnails")}
    ranks = np.stack([search.synthetic.argsort().argsort() for search in searches.values()])
    names, copied = list(searches), _copied(*searches.values())
    pairs = []
    for synthetic in np.argsort(ranks.min(0), kind="stable")[:count]:
        by = names[int(ranks[:, synthetic].argmin())]
        search = searches[by]
        distance = search.synthetic[synthetic]
        pairs.append(Pair(synthetic=int(synthetic), training=int(search.training[synthetic]), by=by,
                          distance=ratio(float(distance), float(np.median(search.real))),
                          rarity=float((search.real <= distance).mean()),
                          copy=bool(copied[synthetic])))
    return pairs


def _search(comparison: Comparison, space: str) -> _Search:
    if comparison.training is None:
        raise DataError("Copies can only be looked for when the training images are at hand.")
    candidates = getattr(comparison.training, space)
    real, _ = nearest(getattr(comparison.real, space), candidates)
    synthetic, training = nearest(getattr(comparison.synthetic, space), candidates)
    return _Search(real=real, synthetic=synthetic, training=training)


def _copied(features: _Search, pixels: _Search) -> NDArray[np.bool_]:
    """(n,) whether each synthetic image is a copy."""
    near: NDArray[np.bool_] = features.synthetic <= COPIED * features.real.min()
    alike: NDArray[np.bool_] = pixels.synthetic <= COPIED * pixels.real.min()
    return near | alike  # at distance 0 even where an unseen image is: the same image in two patients' names


def _copied_estimate(features: _Search, pixels: _Search) -> Estimate:
    return share_of(int(_copied(features, pixels).sum()), len(features.synthetic))


def _copied_floor(features: _Search, pixels: _Search) -> Estimate:
    """The same for each held-out image against all others: the nearest of them can be one, or all at distance 0."""
    copied = np.zeros(len(features.real), dtype=bool)
    for real in (features.real, pixels.real):
        first, second = np.sort(real)[:2]
        copied |= (real == first) & bool(first <= COPIED * second)
    return share_of(int(copied.sum()), len(copied))


def _estimates(search: _Search, statistic: Callable[[_Floats, _Floats], float], expected: float, high: float,
               pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
               units: int) -> tuple[Estimate, Estimate]:
    """The value, and the floor: what unseen patients' images would give in place of the synthetic ones."""
    parts = [statistic(search.synthetic[j], search.real[i]) for i, j in pairs]
    # Two halves of the same images scatter with twice the variance of two full samples.
    floor_parts = [statistic(np.delete(search.real, i), search.real[i]) / math.sqrt(2) for i, _ in pairs]
    value = statistic(search.synthetic, search.real)
    floor = estimate(expected, floor_parts, units, low=0.0, high=high)
    # What is expected is known and does not scatter: the excess over it is as uncertain as the value.
    return estimate(value, parts, units, low=0.0, high=high), replace(floor, parts=(expected,) * len(parts))


def _exact_too(search: _Search, patients: NDArray[np.int64], value: Estimate,
               floor: Estimate) -> tuple[Estimate, Estimate]:
    """Both widened to the exact intervals of a count and of the share below an order statistic: few images are as near
    as the nearest 1 %, and half-samples of few scatter too little. Without parts: these intervals have none."""
    from scipy.stats import beta

    n = independent(search.real, patients)
    k = floor.value * (n + 1)
    count = share_of(round(value.value * len(search.synthetic)), len(search.synthetic))
    below, above = (float(beta.ppf(tail, k, n + 1 - k)) for tail in (0.025, 0.975))
    return (Estimate(value=value.value, low=min(value.low, count.low), high=max(value.high, count.high)),
            Estimate(value=floor.value, low=min(floor.low, below), high=max(floor.high, above)))


def _share_closer(candidates: _Floats, real: _Floats) -> float:
    """Share of candidates as near to a training image as the k-th nearest real one (k: 1 % of them, at least 1)."""
    return float((candidates <= _threshold(real)).mean())


def _expected_share(real: _Floats, patients: NDArray[np.int64]) -> float:
    """What `_share_closer` is on average when candidates and real images are drawn alike: k / (n + 1).

    Real images that are as near as the k-th count too: where the source has duplicates, many have distance 0. Where
    patients have several images the nearest may all be of one: then it is measured on each patient's images against
    those of the others.
    """
    names = np.unique(patients)
    if 1 < len(names) < len(real):
        nearer = sum(int((real[patients == name] <= _threshold(real[patients != name])).sum()) for name in names)
        return max(1, nearer) / (len(real) + 1)
    return max(_order(real), int((real <= _threshold(real)).sum())) / (len(real) + 1)


def _order(real: _Floats) -> float:
    return max(1.0, CLOSE * len(real))


def _threshold(real: _Floats) -> float:
    """Between two distances where k is no whole number, so that half of the images have half the k."""
    return float(np.quantile(real, (_order(real) - 1) / max(1, len(real) - 1)))


def _median_ratio(candidates: _Floats, real: _Floats) -> float:
    return ratio(float(np.median(candidates)), float(np.median(real)))
