"""The rejected-files table as CSV: path, reason, skipped (yes: nothing is wrong with it, it is no image)."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from radsynth.datasets import Rejected
from radsynth.errors import DataError
from radsynth.files import write_csv

PART = re.compile(r"#[a-z]*\d+$")
"""How a record's name ends when it is a slice or a frame of a file."""


def by_file(rejected: Sequence[Rejected], tried: Iterable[str]) -> list[Rejected]:
    """One line for a file all of whose slices have the same reason. tried: the names of all records."""
    parts = Counter(PART.sub("", name) for name in tried)
    same = Counter((PART.sub("", line.path), line.reason) for line in rejected)
    lines: dict[tuple[str, str], Rejected] = {}
    for line in rejected:
        file = PART.sub("", line.path)
        path = file if same[file, line.reason] == parts[file] else line.path
        lines.setdefault((path, line.reason), replace(line, path=path))
    return list(lines.values())


def in_words(lines: int, dicom: bool) -> str:
    """So many lines of the table: of DICOM one stands for a file, or for a series, used or not as a whole."""
    return f"{lines:,} file{'' if lines == 1 else 's'}{' or series' if dicom else ''}"


def nothing_left(rejected: Sequence[Rejected]) -> DataError:
    """The error where no image is left; the first reasons stand for all."""
    wrong = [line for line in rejected if not line.skipped] or list(rejected)
    lines = "".join(f"\n  {line.path}: {line.reason}" for line in wrong[:5])
    were = "was" if len(rejected) == 1 else "were"
    return DataError(f"There is no image that can be used; {in_words(len(rejected), dicom=False)} {were} rejected or "
                     f"skipped.{lines}")


def write_rejected(path: Path, lines: Iterable[Rejected]) -> None:
    """Write the table, also when it has no line."""
    write_csv(path, ("path", "reason", "skipped"), (
        (one_line(line.path), one_line(line.reason), "yes" if line.skipped else "no") for line in lines))


def count_rejected(path: Path) -> int | None:
    """How many lines of the table are of what could not be used; None where it is damaged."""
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        lines = csv.DictReader(file)
        return sum(line["skipped"] != "yes" for line in lines) if "skipped" in (lines.fieldnames or ()) else None


def one_line(cell: str) -> str:
    """As `harmless`, without line breaks, which messages of other programs may have."""
    return harmless(" ".join(cell.split()))


def harmless(cell: str) -> str:
    """A text that no spreadsheet takes for a formula; whoever named the files wrote some of it."""
    return f"'{cell}" if cell.lstrip()[:1] in ("=", "+", "-", "@") else cell
