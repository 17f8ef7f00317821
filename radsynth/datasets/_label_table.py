"""Tables of labels: a line for each file, or for each patient, with a label, a patient and numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from radsynth.datasets._layout import stem
from radsynth.errors import DataError, SettingsError
from radsynth.settings import nearest

MEANINGS = ("file", "label", "patient")
"""What columns can mean; others are numbers to learn images with."""
ENDINGS = (".csv", ".tsv")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line. numbers: those of the other columns that were asked for and are there."""

    label: str | None
    patient: str | None
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """lines: by file, or by patient in small letters where the table names no files; tails: by each end of a path in
    `lines` that only one has."""

    by: str
    lines: Mapping[str, Line]
    tails: Mapping[str, Line | None]

    def line(self, path: str, patient: str) -> Line | None:
        """A file's line: by its path below the data's root or an end of it (its name at last), by its name without
        endings, or where the table's path begins further up. By its patient where the table names no files."""
        if self.by == "patient":
            return self.lines.get(patient.casefold())
        found = [*_tails(path), stem(PurePosixPath(path).name)]
        return next((self.lines[key] for key in found if key in self.lines), self.tails.get(path))


def read_table(path: Path, columns: Sequence[str] = (), numbers: Sequence[str] = ()) -> Table:
    """A CSV with the columns file (or patient alone), label and, if wanted, patient and `numbers`.

    columns: "file=Image Index" for columns of other names. They are parted by commas, or by semicolons or tabs, as
    spreadsheets of other languages write them. DataError: it is no such table.
    """
    given = _named(columns)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=head.count))
            names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
            where = {meaning: names.get(given.get(meaning, meaning).lower()) for meaning in MEANINGS}
            _check(path, names, where, given, numbers)
            by = "file" if where["file"] else "patient"
            lines: dict[str, Line] = {}
            for row in reader:
                told = {meaning: (row[column] or "").strip() or None if column else None
                        for meaning, column in where.items()}
                key = (told[by] or "").replace("\\", "/").removeprefix("./")
                key = key.casefold() if by == "patient" else key
                line = Line(label=told["label"], patient=told["patient"] and told["patient"].casefold(),
                            numbers=_numbers(row, names, numbers))
                if lines.setdefault(key, line) != line:
                    raise DataError(f"{path} has two different lines for {key!r}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a label table (CSV, UTF-8): {error}") from None
    return Table(by=by, lines=lines, tails=_all_tails(lines) if by == "file" else {})


def unused(path: Path) -> str | None:
    """What to say of a table that lies in the data's root and is not asked; None for what is no table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline(10_000)
    except (OSError, UnicodeDecodeError):
        return None
    names = [name.strip() for name in next(csv.reader([head], delimiter=max(",;\t", key=head.count)), [])]
    if len(names) < 2:
        return None
    return (f"a table that is not used: 'data.labels=PATH/{path.name}' takes labels and patients from it, and "
            f"'data.columns=[file=NAME,label=NAME,patient=NAME]' says which of its columns ({', '.join(names[:12])}"
            f"{', ...' if len(names) > 12 else ''}) they are in")


def _named(columns: Sequence[str]) -> dict[str, str]:
    """Meaning -> name of its column."""
    found = {}
    for text in columns:
        meaning, sign, name = (part.strip() for part in text.partition("="))
        if meaning not in MEANINGS or not sign or not name:
            raise SettingsError(f"data.columns: {text!r} is not understood{nearest(meaning, MEANINGS)}. It takes "
                                f"{', '.join(f'{one}=NAME' for one in MEANINGS)}: the name of the table's column.")
        found[meaning] = name
    return found


def _check(path: Path, names: Mapping[str, str], where: Mapping[str, str | None], given: Mapping[str, str],
           numbers: Sequence[str]) -> None:
    have = ", ".join(names.values()) or "none"
    for meaning, name in given.items():
        if where[meaning] is None:
            raise DataError(f"{path} has no column {name!r}{nearest(name, list(names.values()))}; it has {have}")
    told = {meaning for meaning, column in where.items() if column} | {name.lower() for name in numbers} & set(names)
    if not {"file", "patient"} & told or len(told) < 2:
        raise DataError(f"{path} has the columns {have}; needed are file, label[, patient]. "
                        "'data.columns=[file=NAME,label=NAME]' names those that are called otherwise")


def _numbers(row: dict[str, str], columns: Mapping[str, str], wanted: Sequence[str]) -> dict[str, float]:
    """The finite numbers of a row, by name; a cell that holds none is left out."""
    found = {}
    for name in wanted:
        with suppress(ValueError, TypeError, KeyError):
            value = float(row[columns[name.lower()]])
            if math.isfinite(value):
                found[name] = value
    return found


def _tails(path: str) -> list[str]:
    """a/b/c.png, b/c.png, c.png."""
    parts = PurePosixPath(path).parts
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _all_tails(lines: Mapping[str, Line]) -> dict[str, Line | None]:
    found: dict[str, Line | None] = {}
    for key, line in lines.items():
        for tail in _tails(key)[1:]:
            found[tail] = line if found.setdefault(tail, line) == line else None
    return found
