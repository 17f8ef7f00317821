"""The report's measurements as rows of text with their little charts, by the seven Cs and by class; histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from radsynth.verbs._report import pictures
from radsynth.verbs._report.scorecard import scorecard
from radsynth.verbs._report.words import count, figure, interval, verdict
from radsynth.verbs._run_files import Missing, RunFiles


def criteria(files: RunFiles) -> list[dict[str, Any]]:
    """The seven Cs, their measurements as rows."""
    rows = {one["name"]: row(one) for one in files.get("results.json").get("measurements", [])}
    return [{**one.to_json(), "rows": [rows[name] for name in one.measurements]} for one in scorecard(files)]


def context(files: RunFiles) -> dict[str, Any]:
    """What holds for all numbers: how many images, which features, how the intervals were made."""
    results = files.need("results.json", "Nothing has been measured yet: 'radsynth evaluate' does it.")
    if "pairs" in results:
        raise Missing("A task from image to image is measured against the truth, see above.")
    if "context" not in results:
        raise Missing(_unmeasured(results))
    found: dict[str, Any] = results["context"]
    return found


def _unmeasured(results: dict[str, Any]) -> str:
    """Why there is no number at all."""
    return " ".join(["Nothing could be measured.", *dict.fromkeys(one["reason"] for one in results["refused"])])


CLASS_NUMBERS = {"frechet_distance": "Fr\u00e9chet distance", "precision": "Precision", "recall": "Recall",
                 "coverage": "Coverage"}


def classes(files: RunFiles) -> list[dict[str, Any]]:
    """A row for each class: images compared, and its numbers with interval and floor."""
    found = []
    for name, one in files.get("results.json").get("classes", {}).items():
        numbers = {number["name"]: row(number) for number in one["measurements"]}
        reasons = list(dict.fromkeys(line["reason"] for line in one["refused"]))
        alone = bool(one["measurements"]) and one.get("held_out_patients") == 1
        found.append({"name": name, "images": f"{one['images']:,}", "refused": reasons, "alone": alone,
                      "cells": [{"title": title, "row": numbers.get(key)} for key, title in CLASS_NUMBERS.items()]})
    return found


def row(one: dict[str, Any], beside: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A measurement as text, and as positions from 0 to 100 for its little chart.

    beside: other measurements whose charts have the same scale
    """
    ends = [each[name] for each in (one, *beside) for name in ("low", "high", "floor_low", "floor_high")]
    low, high = min(*ends, 0.0), max(ends)
    span = (high - low) or 1.0
    tone, words = verdict(one)
    unit = one["unit"]
    places = {name: round(4 + 92 * (one[name] - low) / span, 2)
              for name in ("value", "low", "high", "floor", "floor_low", "floor_high")}
    return {"title": one["title"], "meaning": one["meaning"], "tone": tone, "verdict": words, "n": one["n"],
            "value": figure(one["value"], unit), "interval": interval(one["low"], one["high"], unit),
            "floor": figure(one["floor"], unit), "floor_interval": interval(one["floor_low"], one["floor_high"], unit),
            "places": places}


def histogram(files: RunFiles) -> dict[str, Any]:
    """The intensity histograms as a chart of each channel."""
    results = files.need("results.json", "Nothing has been measured yet.")
    if "histogram" not in results and results.get("refused"):
        raise Missing(_unmeasured(results))
    counted = count(results["context"]["images"], "real image") if "context" in results else "the real images"
    found = results["histogram"]
    each = found.get("channels", ())
    names = files.channels if len(files.channels) == len(each) else [f"channel {k + 1}" for k in range(len(each))]
    charts = [{"name": name, "svg": pictures.histogram(found | one)}
              for name, one in (zip(names, each, strict=True) if each else [("", {})])]
    return {"charts": charts, "units": found["units"],
            "images": f"{counted} that training never saw and of as many synthetic ones",
            "measured": any(one["name"] == "intensity_distance" for one in results.get("measurements", []))}
