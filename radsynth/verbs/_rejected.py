"""The rejected-files table as CSV: path, reason, skipped (yes: nothing is wrong with it, it is no image)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from radsynth.datasets import Rejected
from radsynth.files import write_atomically


def write_rejected(path: Path, lines: Iterable[Rejected]) -> None:
    """Write the table, also when it has no line."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(("path", "reason", "skipped"))
    table.writerows((harmless(line.path), harmless(line.reason), "yes" if line.skipped else "no") for line in lines)
    write_atomically(path, text.getvalue())


def harmless(cell: str) -> str:
    """One line that no spreadsheet takes for a formula; whoever named the files wrote some of it."""
    text = " ".join(cell.split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
