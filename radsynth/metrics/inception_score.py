"""Inception Score (Salimans et al. 2016): whether a classifier is sure of every image, and finds all
classes among them. The classifier is FID's Inception network where its weights are given, else a linear one on the
image network's features, trained on the real labelled training images; `Measurement.features` says which.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._resampling import estimate, halves, units

OWN = "probabilities of a classifier"
MINIMUM = 50
NUMBERS = (
    Number(
        name="inception_score", title="Inception Score", better="closer to floor",
        meaning="How many classes a classifier finds among the images, as far as it is sure of each: 1 when all look "
                "alike to it, up to the number of classes when each is there and clear; its floor is unseen images.",
    ),
)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """The score of the synthetic images; the floor is that of the held-out ones, which the classifier never saw."""
    require(comparison, MINIMUM)
    value = _estimate(comparison.synthetic, repetitions, seed + 1)
    floor = _estimate(comparison.real, repetitions, seed)
    return [measurement(NUMBERS[0], comparison, value, floor, own=True)]


def inception_score(probabilities: NDArray[np.float32]) -> float:
    """exp of the mean divergence of p(class | image) from p(class); probabilities (n, classes), rows sum to 1."""
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0, keepdims=True)))).sum(1).mean()))


def _estimate(sample: Sample, repetitions: int, seed: int) -> Estimate:
    assert sample.own is not None
    drawn = halves(sample.patients, repetitions, seed)
    parts = [inception_score(sample.own[rows]) for rows in drawn]
    return estimate(inception_score(sample.own), parts, units(sample.patients, drawn[0]), low=1.0,
                    high=float(sample.own.shape[1]))
