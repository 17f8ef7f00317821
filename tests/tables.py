"""Tables that commands write, as a list of lines, and changed ones in their place."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def save(path: Path, table: Sequence[Mapping[str, object]]) -> None:
    """Write such a table; its columns are those of its first line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def resplit(folder: Path, splits: Sequence[str]) -> Path:
    """A prepared folder whose images, in their order, are in these splits; returned."""
    path = folder / "records.csv"
    save(path, [{**line, "split": split} for line, split in zip(lines(path), splits, strict=True)])
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    """The table of a folder of images that was generated or applied."""
    return lines(folder / "samples.csv")
