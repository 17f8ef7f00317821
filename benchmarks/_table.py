"""Rows of benchmarks' tables: those that are finished, and those of a run's evaluation against the truth."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any


def finished(results: Path) -> list[dict[str, Any]]:
    """Rows that earlier calls have written, a line of JSON each."""
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return []


def method_rows(found: dict[str, Any], **first: Any) -> list[dict[str, Any]]:
    """A row for each method: `first`, then every number with its interval, and by how much this run is better."""
    table: dict[str, dict[str, Any]] = {}
    for number in found["pairs"]["numbers"]:
        for line in number["methods"]:
            row = table.setdefault(line["method"], {**first, "method": line["method"],
                                                    "images": found["pairs"]["images"],
                                                    "patients": found["pairs"]["patients"]})
            unit = f" {number['unit']}" if number["unit"] else ""
            row[f"{number['name']}{unit}"] = f"{line['value']:.4g} ({line['low']:.4g} to {line['high']:.4g})"
            if "gain" in line:
                row[f"gain in {number['name']}"] = "{value:.3g} ({low:.3g} to {high:.3g})".format(**line["gain"])
    return list(table.values())


def print_row(row: dict[str, Any]) -> None:
    """One row with the name of each value: not every method has every number."""
    print(" | ".join(f"{name} {value}" for name, value in row.items()), flush=True)
