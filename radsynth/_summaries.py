"""What the command line prints of results: as much as a reader needs; the JSON files have the rest."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radsynth._rounding import rounded

if TYPE_CHECKING:
    from radsynth.verbs.apply import Applied

COMPARED = ("first", "second", "difference", "low", "high", "better")
"""What is printed of the difference of two sets."""


def numbers(results: dict[str, Any]) -> dict[str, Any]:
    """What a reader needs of every measurement; results.json has the rest."""
    columns = ("unit", "value", "low", "high", "floor", "n", "better")
    rows = [{"number": one["title"], **{column: one.get(column) for column in columns}}
            for one in results.get("measurements", [])]
    pairs = [{"number": number["title"], "unit": number["unit"],
              **{line["method"]: "{} ({} to {})".format(*(rounded(line[key], 3) for key in ("value", "low", "high")))
                 for line in number["methods"]}}
             for number in results.get("pairs", {}).get("numbers", results.get("findings", []))]
    classes = [{"class": label, "number": one["title"], **{column: one[column] for column in columns}}
               for label, found in results.get("classes", {}).items() for one in found["measurements"]
               if one["name"] in ("frechet_distance", "precision", "recall", "coverage")]
    refused: dict[str, list[str]] = {}  # numbers by the reason that they share
    for one in results.get("refused", []):
        refused.setdefault(one["reason"], []).append(one["title"])
    for label, part in results.get("classes", {}).items():
        for reason in dict.fromkeys(one["reason"] for one in part["refused"]):
            refused.setdefault(reason, []).append(f"Numbers of class {label}")
    found = {"numbers": rows, "against_the_truth" if "pairs" in results else "findings": pairs,
             "by_class": classes,
             "not_measured": [{"title": "; ".join(titles), "reason": reason} for reason, titles in refused.items()],
             "mind": " ".join(results.get("context", {}).get("warnings", []))}
    return {name: part for name, part in found.items() if part}


def rejected(prepared: Path) -> str:
    """Where the reasons are, if images could not be used; empty when all could."""
    from radsynth.verbs._rejected import count_rejected, in_words

    table, dicom = prepared / "rejected.csv", False
    if not table.is_file():
        return ""
    count = count_rejected(table)
    with suppress(OSError, ValueError, KeyError):
        dicom = json.loads((prepared / "manifest.json").read_text(encoding="utf-8"))["spec"]["format"] == "dicom"
    return f"{in_words(count, dicom)} could not be used: {table} says why." if count else ""


def in_one_minute(report: Path) -> dict[str, Any]:
    """The verdicts at the head of the report, and what follows from them."""
    found = json.loads(report.with_name("report.json").read_text(encoding="utf-8"))
    rows = []
    for one in found["verdicts"]:
        limit = f" Limit: {one['limit']}" if one["limit"] and one["sign"] in ("good", "note") else ""
        rows.append({"question": one["question"], "answer": one["answer"], "found": one["text"] + limit})
    return {"bottom_line": found["bottom_line"], "in_one_minute": rows}


def applied(result: Applied) -> dict[str, Any]:
    """What `apply` made. A target is told where the run has several alone."""
    flagged = result.flagged if result.flagged is not None else "unknown: nothing says what is usual"
    found = {"folder": result.folder, "count": result.count, "target": result.target, "flagged": flagged,
             "unchecked": result.unchecked, "target_error": result.target_error, "report": result.report,
             "rejected": result.rejected}
    return {name: value for name, value in found.items() if value is not None}


def ranked(results: dict[str, Any]) -> dict[str, Any]:
    """The order of several sets, and every difference that is more than chance."""
    columns = ("place", "set", "value", "low", "high", "floor", "better_than", "wins", "losses")
    order = [{column: line[column] for column in columns} for line in results["ranking"]]
    titles = {number["name"]: number["title"] for number in results["numbers"]}
    found = [{"number": titles[line["name"]], **{column: line[column] for column in COMPARED}}
             for line in results["differences"] if line["real"]]
    sets = results["sets"].values()
    minds = " ".join(dict.fromkeys(text for one in sets for text in one["context"]["warnings"]))
    return {"ordered_by": titles.get(results["ordered_by"], "nothing: no number was measured for all sets"),
            "interval": results["interval"], "ranking": order, "differences_beyond_chance": found,
            "mind": minds,
            "to_read": "A place is certain only against the sets under 'better than'; wins and losses count the "
                       "differences beyond chance in all numbers."}
