"""Scores of classifiers and segmenters on real patients, and their differences, with intervals over patients and seeds.

Every training is scored on the same patients, and every way of training is repeated with the same seeds: patients and
seeds are crossed. Both are drawn with replacement, independently (the pigeonhole bootstrap, Owen 2007), and every
replicate uses the same draws for all ways of training: so differences are paired by patient and by seed.
They do not follow the contract of this folder, which compares two sets of images.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Estimate
from radsynth.metrics._resampling import share_of

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Bootstrap draws that all scores share; row 0 is the sample itself.

    patients: (1 + repetitions, patients) how often each patient is drawn; seeds: (1 + repetitions, seeds) which seeds
    """

    patients: Array
    seeds: Labels


def draws(patients: int, seeds: int, repetitions: int, seed: int) -> Draws:
    """`repetitions` draws with replacement, after the sample itself."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(patients, np.full(patients, 1 / patients), size=repetitions)
    chosen = generator.integers(0, seeds, (repetitions, seeds))
    return Draws(patients=np.concatenate([np.ones((1, patients)), counts.astype(np.float64)]),
                 seeds=np.concatenate([np.arange(seeds)[None], chosen]))


def sensitivities(probabilities: Array, labels: Labels, owners: Labels, weights: Array) -> Array:
    """(replicates, classes) share of a class's images that get their class. NaN where a replicate has none of them.

    probabilities: (n, classes); labels: (n,); owners: (n,) column of `weights` that an image's patient has
    """
    classes, right = probabilities.shape[1], probabilities.argmax(1) == labels
    hits, images = np.zeros((weights.shape[1], classes)), np.zeros((weights.shape[1], classes))
    np.add.at(images, (owners, labels), 1)
    np.add.at(hits, (owners[right], labels[right]), 1)
    return _ratio(weights @ hits, weights @ images)


def areas_under_curves(probabilities: Array, labels: Labels, owners: Labels, weights: Array) -> Array:
    """(replicates, classes) area under the ROC curve of each class against the rest; arguments as `sensitivities`.

    The share of (image of the class, other image) pairs that are in the right order, ties count half.
    """
    areas = []
    for label in range(probabilities.shape[1]):
        order = np.argsort(probabilities[:, label])
        score, given = probabilities[order, label], weights[:, owners[order]]
        own = np.flatnonzero(labels[order] == label)
        before, mine = _before(given), _before(given[:, own])
        # Others with a lower score than each image of the class, and with no higher one: pairs would be too many.
        lower, upto = (before[:, place] - mine[:, np.searchsorted(own, place)]
                       for place in (np.searchsorted(score, score[own], side) for side in ("left", "right")))
        others = before[:, -1] - mine[:, -1]
        areas.append(_ratio((given[:, own] * (lower + upto)).sum(1) / 2, mine[:, -1] * others))
    return np.stack(areas, axis=1)


def _before(values: Array) -> Array:
    """(rows, n + 1) the sums of the values (rows, n) before each of them, and of all."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def dice_of_patients(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], owners: Labels, classes: int) -> Array:
    """(patients, classes - 1) Dice overlap 2|A and B| / (|A| + |B|) of each class over all images of a patient.

    predicted, truth: (n, *space) class indices, 0 is background and not scored. NaN where the patient has none of it.
    """
    patients = int(owners.max()) + 1
    both, sizes, present = (np.zeros((patients, classes - 1)) for _ in range(3))
    axes = tuple(range(1, truth.ndim))
    for label in range(1, classes):
        ours, real = predicted == label, truth == label
        np.add.at(both[:, label - 1], owners, (ours & real).sum(axes))
        np.add.at(sizes[:, label - 1], owners, ours.sum(axes) + real.sum(axes))
        np.add.at(present[:, label - 1], owners, real.sum(axes))
    return np.asarray(np.where(present > 0, _ratio(2 * both, sizes), np.nan))


def mean_of_patients(values: Array, weights: Array) -> Array:
    """(replicates, classes) mean over the patients that have a value (patients, classes)."""
    known = np.isfinite(values)
    return _ratio(weights @ np.where(known, values, 0.0), weights @ known.astype(np.float64))


def _ratio(above: Array, below: Array) -> Array:
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0))


def over_seeds(replicates: Array, chosen: Draws) -> Array:
    """(seeds, replicates, classes) to (replicates, classes): the mean over the seeds that each replicate has drawn."""
    rows = np.arange(replicates.shape[1])[:, None]
    return np.asarray(replicates[chosen.seeds, rows].mean(1))


def over_classes(replicates: Array) -> Array:
    """(replicates, classes) to (replicates,): the mean over classes, those without a value left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no class has a value: NaN is the answer
        return np.asarray(np.nanmean(replicates, axis=1))


def estimate(replicates: Array, patients: int, least: float = 0.0) -> Estimate:
    """Value (row 0) and 95 % percentile interval of (1 + repetitions,) replicates.

    Where all patients are alike (all right, or two trainings right and wrong on the same ones) no draw differs. Then so
    many of them tell that others are alike up to the exact upper limit of a share of which 0 of `patients` were found,
    and the others can move a mean of numbers from `least` to 1 by no more than that.
    """
    value = float(replicates[0])
    low, high = (float(limit) for limit in np.nanpercentile(replicates[1:], (2.5, 97.5)))
    if low == high == value:
        margin = share_of(0, patients).high
        low, high = max(least, value - margin), min(1.0, value + margin)
    return Estimate(value=value, low=low, high=high)
