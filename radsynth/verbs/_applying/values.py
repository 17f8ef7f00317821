"""The values of images that come in and go out: what they can mean, where they lie, how they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth._rounding import rounded
from radsynth.arrays import IntensityMap
from radsynth.errors import RejectedFile
from radsynth.image import Image, ImageSpec, may_be_hounsfield
from radsynth.verbs._preparing.ct_window import has_hounsfield
from radsynth.verbs._preparing.ranges import ranges as channel_ranges
from radsynth.verbs._preparing.shards import SAMPLE

MANY = 99
"""Percentile of an image's values that other bits than the training's move, and a marker or a piece of metal not."""


def check_values(image: Image, spec: ImageSpec, intensity: IntensityMap) -> None:
    """RejectedFile for values that cannot mean what those of the training meant: 8 bits for HU, HU or 16 bits for 8,
    fractions of a range for either (not for others, such as SUV), far more than the training's bits held."""
    eight = image.bits <= 8
    absolute = intensity.method == "bits" or (intensity.method == "window" and spec.units == "HU")
    if absolute and image.pixels.dtype.kind == "f" and 0 < np.abs(image.pixels).max() <= 1 < intensity.high:
        raise RejectedFile(f"its values lie between -1 and 1, as shares of a range; the run was trained on values from "
                           f"{intensity.low:.0f} to {intensity.high:.0f}")
    if spec.units == "HU" and image.units != "HU" and not may_be_hounsfield(image.bits):
        raise RejectedFile("its values have 8 bits, which cannot be Hounsfield units; the run was trained on such")
    if intensity.method == "bits" and spec.bits <= 8 and has_hounsfield(image):
        raise RejectedFile("its values are Hounsfield units; the run was trained on 8 bits, 0 to 255")
    if intensity.method != "bits":
        return
    if spec.bits <= 8 and not eight and image.bits <= 16 and image.pixels.max() > 255:
        raise RejectedFile(f"its values go up to {image.pixels.max()}; the run was trained on 8 bits, 0 to 255")
    if np.percentile(image.pixels.flat[:: max(1, image.pixels.size // SAMPLE)], MANY) > 2 * intensity.high:
        raise RejectedFile(f"its values go up to {rounded(image.pixels.max())}; the run was trained on values from 0 "
                           f"to {intensity.high:.0f}")
    if spec.bits > 8 and intensity.levels > 255 and eight:
        raise RejectedFile(f"its values have 8 bits; the run was trained on values from 0 to {intensity.high:.0f}")


def ranges_of(values: NDArray[Any], intensity: IntensityMap, percentiles: tuple[float, float]) -> NDArray[np.float64]:
    """(channels, 2) lowest and highest value: each channel's own percentiles where the run's data was mapped so."""
    if intensity.method != "percentiles":
        return np.tile([intensity.low, intensity.high], (len(values), 1))
    flat = values.reshape(len(values), -1)
    return channel_ranges([flat[:, :: max(1, flat.size // SAMPLE)]], percentiles)


def as_stored(values: NDArray[np.float32], kind: np.dtype[Any]) -> NDArray[Any]:
    """Real values in a kind of number, whole numbers rounded and kept in its range."""
    if kind.kind == "f":
        return values
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)
