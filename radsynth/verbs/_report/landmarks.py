"""The page on registered images with landmarks: how far they lie from where they belong, before and after."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radsynth.errors import FolderError
from radsynth.run_folder import version_of
from radsynth.verbs._applying.disagreement import DISAGREEMENT, UNLIKE
from radsynth.verbs._applying.limits import FROM, false_alarms
from radsynth.verbs._journal import JUDGED
from radsynth.verbs._report.page import template
from radsynth.verbs._report.words import count, figure, interval

UNIT = "mm"
LIMITS = (
    "How exactly landmarks can be set at all, often 1 to 2 mm, is in these distances.",
    "Distances are those of landmarks. Between them, and where nobody could set any, an error may be larger.",
)
OF_ONE = ("All images were put onto the same fixed one: the intervals say what other images put onto it would give, "
          "not what another fixed image would.")
OF_OWN = "Each image was put onto one of its own: the intervals say what other such pairs would give."
LEFT, WIDTH = 4.0, 92.0
"""Where the chart of 100 units begins, and how wide it is."""


def landmarks_page(folder: Path, rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any], fixed: str, weights: str,
                   judged: Mapping[str, Any] | None = None) -> str:
    """The page as HTML. folder: with the tables of `landmarks/`; rows: of samples.csv; told: of `targets.over_pairs`;
    fixed: the name of what they were put onto; weights: a hash of the network's; judged: the limits"""
    measured = {row["index"]: row for row in rows if "target_error" in row}
    ends = [float(row[name]) for row in measured.values() for name in ("target_error_before", "target_error")]
    pairs = [_pair(folder, row, max(*ends, 1e-6)) for row in measured.values()]
    return str(template("landmarks.html").render(
        version=version_of("radsynth"), weights=weights[:16], fixed=fixed, pairs=pairs, lead=lead(told),
        mean={name: _mean(told[f"{name}_mm"]) for name in ("before", "after", "closer")},
        limits=(*LIMITS, OF_OWN if any(row.get("onto") for row in rows) else OF_ONE),
        unlike=unlike(judged or {}), counted=count(told["pairs"], "image"),
        worse=[pair["source"] for pair in pairs if pair["tone"] == "warning"],
        without=len({row["index"] for row in rows}) - len(pairs)))


def page_again(folder: Path) -> str:
    """The page once more, from what `apply` wrote into a folder; FolderError where landmarks or files are missing."""
    try:
        told = dict(json.loads((folder / "apply.json").read_text(encoding="utf-8")))
        with (folder / "samples.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if len({row["index"] for row in rows}) != told["count"]:
            raise ValueError("rows are missing")
        if told.get("target_error"):
            return landmarks_page(folder, rows, told["target_error"], str(told["onto"]), str(told["weights"]),
                                  told.get(JUDGED))
    except (OSError, ValueError, KeyError, TypeError):
        raise FolderError(f"{folder} cannot be read or is damaged: it holds results of 'radsynth apply', and some of "
                          "its tables are missing or were edited. Apply the run again, into another folder.") from None
    raise FolderError(f"{folder} holds results of 'radsynth apply' without landmarks, and there is no report of these: "
                      "samples.csv says what is to be known of each. 'radsynth report RUN' makes that of the run.")


def unlike(judged: Mapping[str, Any]) -> str:
    """From which disagreement on a registered image is flagged; "" without a limit. judged: limits of results.json"""
    most = (judged.get("limits") or {}).get(DISAGREEMENT)
    if most is None:
        return ""
    chance = false_alarms(judged.get(FROM) or 0, UNLIKE)
    return (f"An image is flagged for disagreement where it is still unlike the fixed one after the registration, by "
            f"more than {figure(most, '%')}: 100 % less the correlation of both as wholes. By chance this flags "
            f"{chance}.")


def lead(told: Mapping[str, Any]) -> dict[str, str]:
    """The answer with its tone: whether landmarks came closer, by the interval over pairs."""
    closer = told["closer_mm"]
    before, after = (figure(told[name]["value"], UNIT) for name in ("before_mm", "after_mm"))
    text = f"Landmarks lie {after} from where they belong in the mean; before the registration it was {before}."
    if "low" not in closer:
        return {"tone": "open", "answer": "One pair of images", "text": f"{text} A single pair has no interval."}
    by = f"{figure(abs(closer['value']), UNIT)} {'closer' if closer['value'] >= 0 else 'farther apart'}"
    tone, answer = ("note", "Not decided")
    if closer["low"] > 0 or closer["high"] < 0:
        tone, answer = ("good", "Closer") if closer["low"] > 0 else ("warning", "Farther apart")
    chance = "may be chance" if tone == "note" else "is more than chance"
    return {"tone": tone, "answer": answer, "text": f"{text} They came {by}, which {chance}."}


def _mean(one: Mapping[str, float]) -> dict[str, str]:
    return {"value": figure(one["value"], UNIT),
            "interval": interval(one["low"], one["high"], UNIT) if "low" in one else ""}


def _pair(folder: Path, row: Mapping[str, Any], most: float) -> dict[str, Any]:
    """A line of the table; most: mm at the right end of the charts."""
    before, after = float(row["target_error_before"]), float(row["target_error"])
    with (folder / str(row["landmarks"])).open(encoding="utf-8", newline="") as file:
        points = [(line["landmark"], float(line["error_before"]), float(line["error"]))
                  for line in csv.DictReader(file)]
    farthest, _, distance = max(points, key=lambda point: point[2])
    places = {name: LEFT + WIDTH * value / most for name, value in (("before", before), ("after", after))}
    tone, words = ("good", "closer") if after < before else ("warning", "farther apart") if after > before else (
        "open", "as before")
    source = f"{row['source']} onto {row['onto']}" if row.get("onto") else str(row["source"])
    return {"source": source, "count": count(len(points), "landmark"), "before": figure(before, UNIT),
            "after": figure(after, UNIT), "closer": figure(before - after, UNIT), "places": places, "tone": tone,
            "words": words, "farthest": f"{farthest}, {figure(distance, UNIT)}",
            "flagged": str(row["flagged"]).replace(" ", ", ").replace("_", " "),
            "points": [{"name": name, "before": figure(start, UNIT), "after": figure(end, UNIT)}
                       for name, start, end in points]}
