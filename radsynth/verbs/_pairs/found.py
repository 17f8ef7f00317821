"""One number of several methods on the same images, this run's first, with intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Better, Estimate
from radsynth.metrics._paired import over_patients
from radsynth.metrics._resampling import share_of

OWN = "this run"
TRUE = "the true images"
"""No method: what stands in its row is the best that can be had."""
GIVEN = "the given images"
"""No method either: what a segmenter of the given images finds there, before anything is made of them: what is not seen
there cannot be kept, only guessed."""
OF_IMAGES = "% of the images"
"""The unit of a number that is a yes (100) or no (0) of each image."""
SEGMENTED = "segmented_"
"""What the names of numbers begin with that a segmenter gives of results: they inform, and judge nothing."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One number of every method, (images,) each; the first method is this run. compared: whether less or more wins;
    bounds: what the number cannot lie outside of, where its interval ends, too; label: the name of the label that it
    is about, "" for none; hollow: methods over which being better would be no gain."""

    name: str
    title: str
    unit: str
    better: Better
    meaning: str
    values: dict[str, NDArray[np.float64]]
    compared: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)
    label: str = ""
    hollow: tuple[str, ...] = ()


def numbers_of(found: Sequence[Found], patients: NDArray[np.int64], repetitions: int, seed: int,
               ) -> list[dict[str, Any]]:
    """Every number that two images have at least: one alone has no interval."""
    told = (number_of(one, patients, repetitions, seed) for one in found)
    return [number for number in told if number["methods"]]


def number_of(found: Found, patients: NDArray[np.int64], repetitions: int, seed: int) -> dict[str, Any]:
    """One number of all methods with intervals over patients, and pair by pair by how much this run is better ("gain"),
    or worse than the true or the given images ("behind"). "of_one_patient": of several one alone counts."""
    sign, methods = 1 if found.better == "higher" else -1, []
    counted = patients[np.isfinite(found.values[OWN])]
    alone = len(np.unique(counted)) == 1 < len(np.unique(patients))
    for name, values in found.values.items():
        usable = np.isfinite(values)
        if usable.sum() < 2:
            continue
        own = over_patients(values[usable], patients[usable], repetitions, seed)
        low, high = _ends(found, own, values[usable])
        line: dict[str, Any] = {"method": name, "value": own.value, "low": low, "high": high}
        if name in (TRUE, GIVEN) or (name != OWN and found.compared and name not in found.hollow):
            what, turn = ("behind", -sign) if name in (TRUE, GIVEN) else ("gain", sign)
            apart = over_patients(turn * (found.values[OWN] - values)[usable], patients[usable], repetitions, seed)
            line[what] = {"value": apart.value, "low": apart.low, "high": apart.high}
        methods.append(line)
    return {"name": found.name, "title": found.title, "unit": found.unit, "better": found.better,
            "meaning": found.meaning, "methods": methods, **({"label": found.label} if found.label else {}),
            **({"of_one_patient": True} if alone else {})}


def _ends(found: Found, own: Estimate, values: NDArray[np.float64]) -> tuple[float, float]:
    """The interval inside of the number's bounds. Where the (n,) values of a label are all the same, no half-sample
    differs, and it is the exact one of a count: none of so many patients is not none of all."""
    least, most = found.bounds
    if found.label and own.units and (values == values[0]).all():
        others = share_of(0, own.units).high
        return own.value - others * (own.value - least), own.value + others * (most - own.value)
    return min(max(own.low, least), most), min(max(own.high, least), most)
