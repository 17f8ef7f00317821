"""Metrics: pure functions of what `_features.describe` keeps of images; they know no files, no runs. A module offers:

NUMBERS: tuple[Number, ...]                      what it measures, each with a meaning that a clinician can read
MINIMUM: int                                     images needed on each side; fewer is a DataError that names the number
measure(comparison, *, repetitions, seed) -> list[Measurement]
                                                 one for each of NUMBERS, in their order

It may offer more:

describe(pixels) -> (n, ...) float32             what else it keeps of images (n, c, *space) in [-1, 1], a row an image;
                                                 `measure` finds it in `Sample.own`, and its name in `Comparison.own`
OWN: str                                         the name of that, with a version; the verb gives both where there is
                                                 no `describe` (weights, labels), else the module is left out
IMAGES: int                                      images of each side that are described and measured at most
applies(shape) -> bool                           whether images of (channels, *space) can be measured

A module is found because it is there; a leading underscore marks shared code. Where the value's interval comes from is
told once, in `_resampling.py`. docs/numbers.md explains every name in NUMBERS, and verbs/_report/scorecard.py says
under which of the seven Cs it stands in the report (tests check both).
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import DataError

Better = Literal["lower", "higher", "closer to floor", "down to floor"]
"""Which values are better. "down to floor": a distance, which real images only reach by chance to fall below."""


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
    excess: value less floor, with the 95 % interval of this difference (the same held-out half-samples on both sides);
    ratio: value over floor, of a logarithm that of what it is taken of; None where the floor is not above 0
    parts, floor_parts: the value and the floor of each half-sample; units: how many patients (or halves) the interval
    counts; for differences between sets, not for readers
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
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    ratio: float | None = None
    parts: tuple[float, ...] = field(default=(), repr=False)
    floor_parts: tuple[float, ...] = field(default=(), repr=False)
    units: int = field(default=0, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything that a reader needs: all but the half-samples."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("parts", "floor_parts", "units")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What is kept of n images of one source, row for row.

    features: (n, d) float32, of the extractor that `Comparison.features` names
    thumbnails: (n, p) float32 in [-1, 1], the pixels, averaged down where there are many
    histograms: (n, c, bins) shares of pixels over [-1, 1], each image and channel sums to 1
    patients: (n,) numbers; images of one patient share one and are resampled together
    own: (n, ...) what the metric's own `describe` keeps, None for metrics without
    """

    features: NDArray[np.float32]
    thumbnails: NDArray[np.float32]
    histograms: NDArray[np.float32]
    patients: NDArray[np.int64]
    own: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        parts = (self.features, self.thumbnails, self.histograms, self.patients, self.own)
        lengths = {len(part) for part in parts if part is not None}
        assert len(lengths) == 1, f"the parts of a sample describe different numbers of images: {lengths}"

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: NDArray[np.int64]) -> Sample:
        """Some of the images, in the given order."""
        return Sample(features=self.features[rows], thumbnails=self.thumbnails[rows],
                      histograms=self.histograms[rows], patients=self.patients[rows],
                      own=None if self.own is None else self.own[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All that a metric may look at.

    real: held-out patients; synthetic: as many generated images; floor: as many training images, which stand in for the
    synthetic ones when the floor is measured
    training: all training images that are searched for copies; None when they are not at hand
    features: name and hash of the extractor; scale, units: units of the images per unit of [-1, 1] (of each channel)
    own: name of what `Sample.own` holds
    """

    real: Sample
    synthetic: Sample
    floor: Sample
    training: Sample | None = None
    features: str
    scale: float | NDArray[np.float64] = 1.0
    units: str = "of the range from -1 to 1"
    own: str = ""

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
    """A value and its 95 % interval.

    parts: the value of each half-sample that the interval comes from, if any
    units: the number that its Student's t counts: patients, or halves where they are fewer; 0 without parts
    """

    value: float
    low: float
    high: float
    parts: tuple[float, ...] = field(default=(), repr=False)
    units: int = field(default=0, repr=False)


def measurement(number: Number, comparison: Comparison, value: Estimate, floor: Estimate, *,
                pixels: bool = False, own: bool = False) -> Measurement:
    """Put a value and its floor together with what the comparison knows.

    pixels: the metric uses no features; own: it uses those of its own `describe`
    """
    excess = difference(value, floor)
    return Measurement(
        name=number.name, title=number.title, better=number.better, meaning=number.meaning, n=len(comparison),
        unit=comparison.units if number.unit == "units" else number.unit,
        features="" if pixels else comparison.own if own else comparison.features,
        value=value.value, low=value.low, high=value.high,
        floor=floor.value, floor_low=floor.low, floor_high=floor.high,
        excess=excess.value, excess_low=excess.low, excess_high=excess.high,
        ratio=value.value / floor.value if floor.value > 0 else None,
        parts=value.parts, floor_parts=floor.parts, units=excess.units or value.units,
    )


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One less the other, from paired half-samples; where there are none, as if the two were independent.

    Without pairs the interval is built from the two (Zou and Donner 2008).
    """
    value = one.value - other.value
    if len(one.parts) == len(other.parts) and len(one.parts) > 1:
        parts = np.asarray(one.parts) - np.asarray(other.parts)
        units = min(one.units, other.units)
        width = half_width(float(np.std(parts, ddof=1)), units)
        return Estimate(value=value, low=value - width, high=value + width, parts=tuple(parts.tolist()), units=units)
    down = math.hypot(one.value - one.low, other.high - other.value)
    up = math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value=value, low=value - down, high=value + up)


def half_width(error: float, units: int, tail: float = 0.025) -> float:
    """Half the width of an interval from a standard error that so many units tell (Student's t); infinite for one.

    tail: share outside on either side; 0.025 is a 95 % interval
    """
    from scipy.stats import t

    if units < 2:
        return math.inf
    return float(t.ppf(1 - tail, units - 1)) * error


def require(comparison: Comparison, minimum: int) -> None:
    """DataError when there are fewer images than the metric can use."""
    if len(comparison) < minimum:
        raise DataError(
            f"At least {minimum} held-out real and {minimum} synthetic images are needed, there are {len(comparison)} "
            "of each."
        )


def modules() -> dict[str, ModuleType]:
    """Every metric module of this folder by name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}
