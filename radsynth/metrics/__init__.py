"""Metrics: pure functions of what `_features.describe` keeps of images; they know no files, no runs. A module offers:

NUMBERS: tuple[Number, ...]                      what it measures, each with a meaning that a clinician can read
MINIMUM: int                                     images needed on each side; fewer is a DataError that names the number
measure(comparison, *, repetitions, seed) -> list[Measurement]
                                                 one for each of NUMBERS, in their order

A module is found because it is there; a leading underscore marks shared code. Where the value's interval comes from is
told once, in `_resampling.py`. docs/numbers.md explains every name in NUMBERS (a test checks it).
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import DataError

Better = Literal["lower", "higher", "closer to floor"]


@dataclass(frozen=True, kw_only=True)
class Number:
    """What a metric measures. `name` is for programs, `title` for headings, `meaning` one sentence for a reader.

    unit: "" for a bare number, "share" for 0 to 1, "units" for the unit of the images
    """

    name: str
    title: str
    better: Better
    meaning: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number with everything needed to judge it.

    features: name and hash of the feature extractor, "" when the metric uses pixels
    n: images on each side; low, high: 95 % interval
    floor: the same metric, same n, of real images against other real images, with its interval
    """

    name: str
    title: str
    value: float
    low: float
    high: float
    n: int
    better: Better
    meaning: str
    unit: str = ""
    features: str = ""
    floor: float
    floor_low: float
    floor_high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What is kept of n images of one source, row for row.

    features: (n, d) float32, of the extractor that `Comparison.features` names
    thumbnails: (n, p) float32 in [-1, 1], the pixels, averaged down where there are many
    histograms: (n, c, bins) shares of pixels over [-1, 1], each image and channel sums to 1
    patients: (n,) numbers; images of one patient share one and are resampled together
    """

    features: NDArray[np.float32]
    thumbnails: NDArray[np.float32]
    histograms: NDArray[np.float32]
    patients: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.features, self.thumbnails, self.histograms, self.patients)}
        assert len(lengths) == 1, f"the parts of a sample describe different numbers of images: {lengths}"

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: NDArray[np.int64]) -> Sample:
        """Some of the images, in the given order."""
        return Sample(features=self.features[rows], thumbnails=self.thumbnails[rows],
                      histograms=self.histograms[rows], patients=self.patients[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All that a metric may look at.

    real: held-out patients; synthetic: as many generated images; floor: as many training images, which stand in for the
    synthetic ones when the floor is measured
    training: all training images that are searched for copies; None when they are not at hand
    features: name and hash of the extractor; scale, units: units of the images per unit of [-1, 1]
    """

    real: Sample
    synthetic: Sample
    floor: Sample
    training: Sample | None = None
    features: str
    scale: float = 1.0
    units: str = "of the range from -1 to 1"

    def __post_init__(self) -> None:
        lengths = (len(self.real), len(self.synthetic), len(self.floor))
        if len(set(lengths)) != 1:
            raise DataError(
                f"Metrics compare equal numbers of images, got {lengths[0]} real, {lengths[1]} synthetic and "
                f"{lengths[2]} for the floor. Take the smallest number of each."
            )

    def __len__(self) -> int:
        return len(self.real)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def measurement(number: Number, comparison: Comparison, value: Estimate, floor: Estimate, *,
                pixels: bool = False) -> Measurement:
    """Put a value and its floor together with what the comparison knows. pixels: the metric uses no features."""
    return Measurement(
        name=number.name, title=number.title, better=number.better, meaning=number.meaning, n=len(comparison),
        unit=comparison.units if number.unit == "units" else number.unit,
        features="" if pixels else comparison.features,
        value=value.value, low=value.low, high=value.high,
        floor=floor.value, floor_low=floor.low, floor_high=floor.high,
    )


def require(comparison: Comparison, minimum: int, number: Number) -> None:
    """DataError when there are fewer images than the metric can use."""
    if len(comparison) < minimum:
        raise DataError(
            f"{number.title} needs at least {minimum} held-out real and {minimum} synthetic images, "
            f"there are {len(comparison)} of each."
        )


def modules() -> dict[str, ModuleType]:
    """Every metric module of this folder by name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}
