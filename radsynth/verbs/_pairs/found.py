"""One number of several methods on the same images, this run's first, with intervals over patients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Better
from radsynth.metrics._paired import over_patients

OWN = "this run"
TRUE = "the true images"
"""No method: what stands in its row is the best that can be had."""
GIVEN = "the given images"
"""No method either: what a segmenter of the given images finds there, before anything is made of them: what is not seen
there cannot be kept, only guessed."""
SEGMENTED = "segmented_"
"""What the names of numbers begin with that a segmenter gives of results: they inform, and judge nothing."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One number of every method, (images,) each; the first method is this run. compared: whether less or more wins;
    bounds: what the number cannot lie outside of, where its interval ends, too; label: the name of the label that it
    is about, "" for none."""

    name: str
    title: str
    unit: str
    better: Better
    meaning: str
    values: dict[str, NDArray[np.float64]]
    compared: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)
    label: str = ""


def number_of(found: Found, patients: NDArray[np.int64], repetitions: int, seed: int) -> dict[str, Any]:
    """One number of all methods with intervals over patients, and by how much this run is better, pair by pair."""
    sign, methods = 1 if found.better == "higher" else -1, []
    for name, values in found.values.items():
        usable = np.isfinite(values)
        if not usable.any():
            continue
        own = over_patients(values[usable], patients[usable], repetitions, seed)
        low, high = (min(max(end, found.bounds[0]), found.bounds[1]) for end in (own.low, own.high))
        line: dict[str, Any] = {"method": name, "value": own.value, "low": low, "high": high}
        if name not in (OWN, TRUE, GIVEN) and found.compared:
            better = sign * (found.values[OWN] - values)[usable]
            gain = over_patients(better, patients[usable], repetitions, seed)
            line["gain"] = {"value": gain.value, "low": gain.low, "high": gain.high}
        methods.append(line)
    return {"name": found.name, "title": found.title, "unit": found.unit, "better": found.better,
            "meaning": found.meaning, "methods": methods, **({"label": found.label} if found.label else {})}
