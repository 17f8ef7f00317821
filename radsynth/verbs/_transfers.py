"""The table of what happened to each DICOM instance that was pulled or pushed: read, added to, written whole."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from radsynth.errors import FolderError
from radsynth.files import write_atomically
from radsynth.verbs._rejected import one_line

SECONDS = 10.0
"""Between two writings of a long table."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One line. where: the PACS; result: pulled, pushed, present or failed; file: relative to the table's folder."""

    where: str
    study: str
    series: str
    instance: str
    file: str
    result: str
    reason: str = ""


class Table:
    """The lines of a table on disk, one for each place and instance; the last result stays. Use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[tuple[str, str], Transfer] = {}
        self._new: Counter[str] = Counter()
        self._failed: list[Transfer] = []
        self._written = time.monotonic()
        if path.exists():
            self._read()

    def __enter__(self) -> Table:
        self.write()  # or an error, before anything is sent that could not be noted
        return self

    def __exit__(self, *_: object) -> None:
        self.write()

    def result(self, where: str, instance: str) -> str:
        """What happened to an instance before, "" when nothing did."""
        line = self._lines.get((where, instance))
        return line.result if line else ""

    def add(self, line: Transfer) -> None:
        """Note a result; now and then the table is written."""
        self._lines[line.where, line.instance] = line
        self._new[line.result] += 1
        if line.result == "failed":
            self._failed.append(line)
        if time.monotonic() - self._written > SECONDS:
            self.write()

    def outcome(self, done: str) -> dict[str, Any]:
        """How many lines with each result were added since the table was opened, the table's place, and what failed."""
        counts = {result: self._new[result] for result in (done, "present", "failed")}
        failures = tuple({"instance": line.instance, "file": line.file, "reason": line.reason} for line in self._failed)
        return {**counts, "table": self.path, "failures": failures}

    def write(self) -> None:
        """The whole table, under a temporary name first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in fields(Transfer))
        writer.writerows([one_line(cell) for cell in astuple(line)] for line in self._lines.values())
        write_atomically(self.path, text.getvalue())
        self._written = time.monotonic()

    def _read(self) -> None:
        names = [field.name for field in fields(Transfer)]
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames != names:
                    raise FolderError(f"{self.path} is not a table of radsynth's. Move it away and repeat the command.")
                for row in reader:
                    line = Transfer(**{name: row[name] or "" for name in names})
                    self._lines[line.where, line.instance] = line
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise FolderError(f"{self.path} cannot be read: {error}. Move it away and repeat the command.") from None
