"""Volumes seen slice by slice: the Frechet distance of slices across each axis, as 2-D studies report it.

Several slices of each volume count, so that a few volumes are enough to tell something; the interval resamples
patients, since slices of one volume resemble each other, and the floor has as many of both.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Measurement, Number, Sample, measurement, require
from radsynth.metrics._features import NAME, features
from radsynth.metrics._frechet import frechet_estimate

PLACES = (1 / 4, 1 / 2, 3 / 4)
"""Where a volume is cut, as shares of its length along the axis."""
OWN = f"{NAME}, {len(PLACES)} slices across each axis"
MINIMUM = 10
IMAGES = 100
AXES = ("first", "second", "third")
NUMBERS = tuple(
    Number(
        name=f"frechet_distance_{axis}_axis", title=f"Fréchet distance, slices across the {axis} axis",
        better="down to floor",
        meaning=f"The Fréchet distance between slices of volumes, cut across their {axis} axis at three places: it "
                "tells from which side synthetic volumes look wrong.",
    )
    for axis in AXES
)


def applies(shape: tuple[int, ...]) -> bool:
    """Only volumes have slices."""
    return len(shape) == 4


def describe(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> (n, 3, 3, 1280): the features of three slices across each axis."""
    cuts = [[_cut(pixels, axis, place) for place in PLACES] for axis in (2, 3, 4)]
    return np.moveaxis(np.asarray(cuts), 2, 0)


def _cut(pixels: NDArray[np.float32], axis: int, place: float) -> NDArray[np.float32]:
    return features(np.moveaxis(pixels, axis, 0)[int(place * pixels.shape[axis])])


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
    """A row for each slice across one axis, each with its volume's patient."""
    assert sample.own is not None
    rows = sample.take(np.repeat(np.arange(len(sample)), len(PLACES)))
    return dataclasses.replace(rows, own=sample.own[:, axis].reshape(len(rows), -1))
