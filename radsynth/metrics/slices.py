"""Volumes seen slice by slice: the Frechet distance of the middle slices across each axis, as 2-D studies report it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Measurement, Number, Sample, measurement, require
from radsynth.metrics._features import NAME, features
from radsynth.metrics._frechet import frechet_estimate

OWN = f"{NAME}, the middle slice across each axis"
MINIMUM = 50
IMAGES = 300
AXES = ("first", "second", "third")
NUMBERS = tuple(
    Number(
        name=f"frechet_distance_{axis}_axis", title=f"Fréchet distance, slices across the {axis} axis",
        better="down to floor",
        meaning=f"The Fréchet distance between the middle slices of volumes, cut across their {axis} axis: it tells "
                "from which side synthetic volumes look wrong.",
    )
    for axis in AXES
)


def applies(shape: tuple[int, ...]) -> bool:
    """Only volumes have slices."""
    return len(shape) == 4


def describe(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> (n, 3, 1280): the features of the middle slice across each axis."""
    return np.stack([features(pixels.take(pixels.shape[axis] // 2, axis)) for axis in (2, 3, 4)], axis=1)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """One distance for each axis."""
    require(comparison, MINIMUM)
    found = []
    for axis, number in enumerate(NUMBERS):
        real, synthetic, floor = (_only(side, axis) for side in
                                  (comparison.real, comparison.synthetic, comparison.floor))
        found.append(measurement(number, comparison, frechet_estimate(real, synthetic, repetitions, seed),
                                 frechet_estimate(real, floor, repetitions, seed), own=True))
    return found


def _only(sample: Sample, axis: int) -> Sample:
    assert sample.own is not None
    return dataclasses.replace(sample, own=sample.own[:, axis])
