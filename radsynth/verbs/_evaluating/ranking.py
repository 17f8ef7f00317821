"""Ranks synthetic sets that were measured on the same held-out images: which are better, and which of the differences
are more than chance. Half-samples of the real images are the same for all sets, so differences have paired intervals;
all intervals of one number hold together with 95 % (Bonferroni).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from radsynth.metrics import Estimate, Measurement, difference, half_width

HEADLINE = ("fid", "frechet_distance", "kernel_distance", "intensity_distance")
"""The first of these that every set has puts the sets into their order."""


def ranking(sets: Mapping[str, Sequence[Measurement]], repetitions: int) -> dict[str, Any]:
    """The order of the sets, a table for every number, and every difference with its interval.

    A set is placed by how far it is from the best that can be: for numbers that are best near the floor by the
    distance from it, whichever side; for distances and others by the value. "better_than" names the sets that it is
    better than beyond chance.
    """
    named = {name: {one.name: one for one in found} for name, found in sets.items()}
    shared = [one for one in next(iter(sets.values())) if all(one.name in found for found in named.values())]
    numbers, differences = [], []
    for one in shared:
        measured = {name: found[one.name] for name, found in named.items()}
        table, pairs = _number(measured)
        numbers.append(table)
        differences += pairs
    headline = next((name for name in HEADLINE if any(one.name == name for one in shared)), "")
    chosen = next((number for number in numbers if number["name"] == headline), None)
    order = [] if chosen is None else [
        {"place": place, **line, **_tally(numbers, line["set"])} for place, line in enumerate(chosen["sets"], 1)]
    return {"ordered_by": headline, "ranking": order, "numbers": numbers, "differences": differences,
            "interval": f"95 % together for all pairs of sets of one number, {repetitions} paired half-samples"}


def _tally(numbers: list[dict[str, Any]], name: str) -> dict[str, int]:
    """In how many numbers a set is better, and worse, than another beyond chance."""
    lines = [line for number in numbers for line in number["sets"]]
    return {"wins": sum(len(line["better_than"]) for line in lines if line["set"] == name),
            "losses": sum(name in line["better_than"] for line in lines)}


def _number(measured: dict[str, Measurement]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The table of one number, best set first, and the differences of all pairs."""
    one = next(iter(measured.values()))
    distances = {name: _distance(found) for name, found in measured.items()}
    pairs = list(itertools.combinations(measured, 2))
    differences = []
    better: dict[str, list[str]] = {name: [] for name in measured}
    for first, second in pairs:
        gap = _widened(difference(distances[first], distances[second]), len(pairs))
        real = gap.low > 0 or gap.high < 0
        if real:
            winner, loser = (first, second) if gap.value < 0 else (second, first)
            better[winner].append(loser)
        differences.append({"name": one.name, "first": first, "second": second, "difference": gap.value,
                            "low": gap.low, "high": gap.high, "real": real,
                            "better": "" if not real else first if gap.value < 0 else second})
    order = sorted(measured, key=lambda name: distances[name].value)
    lines = [{"set": name, "value": measured[name].value, "low": measured[name].low, "high": measured[name].high,
              "floor": measured[name].floor, "better_than": better[name]} for name in order]
    return {"name": one.name, "title": one.title, "better": one.better, "n": one.n, "sets": lines}, differences


def _distance(one: Measurement) -> Estimate:
    """How far a set is from the best that can be: smaller is better. The side of the floor is that of the value.

    A distance below its floor is not far from the best: it keeps its sign.
    """
    if one.better == "down to floor":
        sign, base = 1, one.floor
        base_parts = np.asarray(one.floor_parts)
    elif one.better != "closer to floor":
        sign, base = (1 if one.better == "lower" else -1), 0.0
        base_parts = np.zeros(len(one.parts))
    else:
        sign, base = (1 if one.value >= one.floor else -1), one.floor
        base_parts = np.asarray(one.floor_parts)
    low, high = sorted((sign * (one.low - base), sign * (one.high - base)))
    paired = len(base_parts) == len(one.parts)
    parts = tuple((sign * (np.asarray(one.parts) - base_parts)).tolist()) if paired else ()
    return Estimate(value=sign * (one.value - base), low=low, high=high, parts=parts, units=one.units)


def _widened(gap: Estimate, pairs: int) -> Estimate:
    """The interval of one difference so that those of all pairs hold together. One without half-samples, as of copies,
    becomes wider as a normal one would."""
    if pairs == 1:
        return gap
    if len(gap.parts) < 2:
        from scipy.stats import norm

        wider = float(norm.ppf(1 - 0.025 / pairs) / norm.ppf(0.975))
        return replace(gap, low=gap.value - wider * (gap.value - gap.low),
                       high=gap.value + wider * (gap.high - gap.value))
    width = half_width(float(np.std(gap.parts, ddof=1)), gap.units, 0.025 / pairs)
    assert math.isfinite(width)
    return replace(gap, low=gap.value - width, high=gap.value + width)
