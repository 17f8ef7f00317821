"""The report's measurements as rows of text with their little charts, and the histograms of intensities."""

from __future__ import annotations

from typing import Any

from radsynth.verbs import _report_pictures as pictures
from radsynth.verbs._report_words import figure, interval, verdict
from radsynth.verbs._run_files import Missing, RunFiles


def numbers(files: RunFiles) -> dict[str, Any]:
    """Every measurement as a row."""
    results = files.need("results.json", "Nothing has been measured yet: 'radsynth evaluate' does it.")
    if "pairs" in results:
        raise Missing("A task from image to image is measured against the truth, see above.")
    return {"rows": [_row(one) for one in results["measurements"]], "refused": results["refused"],
            "context": results["context"]}


def _row(one: dict[str, Any]) -> dict[str, Any]:
    """A measurement as text, and as positions from 0 to 100 for its little chart."""
    ends = [one[name] for name in ("low", "high", "floor_low", "floor_high")]
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


def histogram(files: RunFiles) -> dict[str, str]:
    """The intensity histograms as a chart."""
    results = files.need("results.json", "Nothing has been measured yet.")
    return {"svg": pictures.histogram(results["histogram"]), "units": results["histogram"]["units"]}
