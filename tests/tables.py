"""Tables that commands write, as a list of lines."""

from __future__ import annotations

import csv
from pathlib import Path


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows(folder: Path) -> list[dict[str, str]]:
    """The table of a folder of images that was generated or applied."""
    return lines(folder / "samples.csv")
