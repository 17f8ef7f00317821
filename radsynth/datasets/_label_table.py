"""Tables of labels: a line for each file, folder or patient, with a label, a patient, a split and numbers."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from radsynth.datasets import Rejected
from radsynth.datasets._cells import GUESSED, Cells, cells_of
from radsynth.datasets._layout import SPLIT_FOLDERS, printable, stem
from radsynth.errors import DataError, SettingsError
from radsynth.settings import nearest

MEANINGS = ("file", "label", "patient", "split")
"""What columns can mean; others are numbers to learn images with."""
TABLE = "labels.csv"
ENDINGS = (".csv", ".tsv")
FINDINGS = re.compile(r"[|;]")
"""What parts several findings in one label, as in Effusion|Mass."""
SPREADSHEETS = (".xlsx", ".xls", ".ods")
INITIAL = re.compile(r"[a-z](?=\d+$)", re.IGNORECASE)
"""The letter before a number by which MIMIC-CXR's folders differ from its tables: s50414267 is the study 50414267."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line. split: the official one; numbers: those of the other columns that were asked for and are there."""

    label: str | None
    patient: str | None
    split: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """lines: by file or folder, or by patient in small letters where the table names no files; tails: by each
    end of a path in `lines` that only one has; numerals: by patients without the zeros in front, which spreadsheets
    drop, likewise; shared: those of `lines` that fit files (or folders) in several folders; labelled: some lines have a
    label."""

    by: str
    lines: Mapping[str, Line]
    tails: Mapping[str, Line | None]
    numerals: Mapping[str, Line | None] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    labelled: bool = True

    def fault(self, line: Line | None) -> str:
        """Why a file with this line cannot be used; "" where it can."""
        if line is None:
            return "it has no line of its own in the table of labels"
        bare = self.labelled and not line.label
        return "its line in the table of labels has no label, as others have" if bare else ""

    def unused(self, used: Iterable[Line | None], paths: Sequence[str]) -> str:
        """What to say of lines that fit none of the images, where `used` are those that fit; "" where all do.

        paths: of the images' files below the data's root, one of which may be called the same but for its case
        """
        fits = {id(line) for line in used}
        left = [key for key, line in self.lines.items() if key and id(line) not in fits and key not in self.shared]
        if not left:
            return ""
        files = {PurePosixPath(path).name.casefold(): path for path in paths}
        named = ((key, PurePosixPath(key).name.casefold()) for key in left)
        alike = next(((key, files[name]) for key, name in named if name in files), None)
        case = f"; {alike[0]} and the file {alike[1]} differ in capitals alone, which count" if alike else ""
        fit = "fits" if len(left) == 1 else "fit"
        return f"{len(left):,} of its {len(self.lines):,} lines {fit} no image, the first {left[0]!r}{case}"

    def among(self, paths: Iterable[str]) -> Table:
        """The same table, which says nothing of those of these files that it does not tell apart."""
        folders: dict[str, set[str]] = defaultdict(set)
        for path in paths if self.by == "file" else ():
            key, folder = self._key(path)
            folders[key].add(folder)
        return replace(self, shared=frozenset(key for key, found in folders.items() if key and len(found) > 1))

    def _key(self, path: str) -> tuple[str, str]:
        """Which of `lines` is a file's, or else of the nearest folder around it that has one, and where what it names
        lies; "" for none."""
        whole = PurePosixPath(path)
        for place in (whole, *whole.parents[:-1]):
            bare = stem(place.name) if place == whole else INITIAL.sub("", place.name)
            if key := next((key for key in (*_tails(str(place)), bare) if key in self.lines), ""):
                return key, str(place.parent)
        return "", ""

    def line(self, path: str, patient: str) -> Line | None:
        """A file's line: by its path below the data's root or an end of it (its name at last), by its name without
        endings, or where the table's path begins further up; by a folder around it likewise. By its patient where the
        table names no files."""
        if self.by == "patient":
            key = patient.casefold()
            return self.lines.get(key) or self.numerals.get(key.lstrip("0"))
        key, _ = self._key(path)
        if key in self.shared and key != path:
            return None
        return self.lines.get(key) or self.tails.get(path)


def _read_table(path: Path, cells: Cells, columns: Sequence[str], numbers: Sequence[str]) -> Table:
    """A CSV with the columns file (or patient alone), label and, if wanted, patient and `numbers`.

    columns: "file=Image Index" for columns of other names; numbers may also be findings that labels name. Without a
    label, columns of which each line has a single 1 are classes. DataError: it is no such table.
    """
    given, reader = _named(columns), cells.rows()
    names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    where = {meaning: names.get(given.get(meaning, meaning).lower()) for meaning in MEANINGS}
    hot = () if where["label"] else _one_hot(cells, {*where.values()})
    hot = () if {name.lower() for name in numbers} & {name.strip().lower() for name in hot} else hot
    if where["split"] and (odd := _no_split(cells, where["split"])):
        if "split" in given:
            raise DataError(f"{path} has {odd!r} in its column {given['split']!r}; a split is train, validation or "
                            "test, as 'data.columns=[split=NAME]' takes it. Name another column, or none.")
        where["split"] = None
    _check(path, names, where, given, numbers, bool(hot))
    by = "file" if where["file"] else "patient"
    lines: dict[str, Line] = {}
    for row in reader:
        told = {meaning: (row[column] or "").strip() or None if column else None for meaning, column in where.items()}
        key = (told[by] or "").replace("\\", "/").removeprefix("./")
        key = key.casefold() if by == "patient" else key
        label = told["label"] or next((name.strip() for name in hot if _bit(row[name])), None)
        line = Line(label=label, patient=told["patient"] and told["patient"].casefold(),
                    split=SPLIT_FOLDERS.get((told["split"] or "").lower()),
                    numbers=_numbers(row, names, numbers, comma=cells.sign != ","))
        if key and lines.setdefault(key, line) != line:
            raise DataError(f"{path} has two different lines for {key!r}: keep the right one.")
    lines = _with_findings(lines, [name for name in numbers if name.lower() not in names])
    labelled = any(line.label for line in lines.values())
    if by == "file":
        return Table(by=by, lines=lines, tails=_all_tails(lines), labelled=labelled)
    numerals = _unique((key.lstrip("0"), line) for key, line in lines.items())
    return Table(by=by, lines=lines, tails={}, numerals=numerals, labelled=labelled)


def _cells(path: Path) -> Cells:
    """DataError for a table that cannot be read."""
    try:
        cells = cells_of(path)
        list(cells.rows())
    except FileNotFoundError:
        raise DataError(f"data.labels={path}: there is no such file. It takes auto, folders, none or the path of a "
                        "table (CSV, UTF-8).") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a label table (CSV, UTF-8): {error}. Spreadsheets save such a table "
                        "as 'CSV UTF-8'.") from None
    return cells


def table_file(root: Path, labels: str) -> Path | None:
    """Where the setting `labels` says they are to be read from: the table that it names, or labels.csv in the root."""
    if labels in ("folders", "none"):
        return None
    if labels != "auto":
        return Path(labels)
    return root / TABLE if (root / TABLE).is_file() else None


def table_of(root: Path, labels: str, columns: Sequence[str], numbers: Sequence[str],
             rejected: list[Rejected]) -> Table | None:
    """The table of labels that was named, or labels.csv in the root, None without one. DataError: it cannot be used,
    which would train without its classes. That its encoding was guessed is appended to `rejected`.
    SettingsError: columns of no table are named."""
    file = table_file(root, labels)
    if file is None:
        if columns:
            raise SettingsError(f"data.columns={list(columns)} names columns of a table, and none is used "
                                f"(data.labels={labels}): name its file, data.labels=PATH, or leave data.columns out.")
        return None
    try:
        cells = _cells(file)
        table = _read_table(file, cells, columns, numbers)
    except DataError as error:
        if labels != "auto":
            raise
        raise DataError(f"{str(error).rstrip('.')}. The file is taken as the table of labels because of its name "
                        "and place: correct it, or set data.labels=folders or data.labels=none to go on without "
                        "it.") from None
    if cells.encoding == GUESSED and (word := cells.foreign()):
        reason = (f"it is not UTF-8: read as {GUESSED}, as Excel saves 'CSV' in Western Europe. If {word!r} is wrong, "
                  "save it as 'CSV UTF-8'")
        rejected.append(Rejected(path=printable(file.name), reason=reason, skipped=True))
    return table


def unused(path: Path) -> str | None:
    """What to say of a table that lies in the data's root and is not asked; None for what is no table."""
    if path.name.lower().endswith(SPREADSHEETS):
        return "a spreadsheet: saved as 'CSV UTF-8' it can be the table of labels (data.labels=PATH)"
    if not path.name.lower().endswith(ENDINGS):
        return None
    try:
        names = [name.strip() for name in cells_of(path).rows().fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    if len(names) < 2:
        return None
    return (f"a table that is not used: 'data.labels=PATH/{path.name}' takes labels and patients from it, and "
            f"'data.columns=[file=NAME,label=NAME,patient=NAME,split=NAME]' says which of its columns "
            f"({', '.join(names[:12])}{', ...' if len(names) > 12 else ''}) they are in")


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
           numbers: Sequence[str], one_hot: bool) -> None:
    have = ", ".join(names.values()) or "none"
    for meaning, name in given.items():
        if where[meaning] is None:
            raise DataError(f"{path} has no column {name!r}{nearest(name, list(names.values()))}; it has {have}")
    told = {meaning for meaning, column in where.items() if column} | {name.lower() for name in numbers} & set(names)
    told |= {"label"} if one_hot else set()
    if not {"file", "patient"} & told or len(told) < 2:
        raise DataError(f"{path} has the columns {have}; needed are file, label[, patient][, split]. "
                        "'data.columns=[file=NAME,label=NAME]' names those that are called otherwise")


def _one_hot(cells: Cells, used: set[str | None]) -> tuple[str, ...]:
    """The columns of 0 and 1 that are not used otherwise, if each line has a single 1 in them; () if they are none."""
    reader = cells.rows()
    columns = [name for name in reader.fieldnames or () if name and name not in used]
    found = {tuple(_bit(row[name]) for name in columns) for row in reader if any(map(row.get, columns))}
    bits = [place for place in range(len(columns)) if all(values[place] is not None for values in found)]
    hot = len(bits) > 1 and found and all(sum(values[place] or 0 for place in bits) == 1 for values in found)
    return tuple(columns[place] for place in bits) if hot else ()


def _no_split(cells: Cells, column: str) -> str:
    """The first cell of a column that names no split, "" where all do, or are empty."""
    found = ((row[column] or "").strip() for row in cells.rows())
    return next((cell for cell in found if cell and cell.lower() not in SPLIT_FOLDERS), "")


def _bit(cell: str | None) -> int | None:
    """0 or 1, also as 0.0 or 1,0; None for anything else."""
    return {"0": 0, "1": 1}.get(re.sub(r"[.,]0*$", "", (cell or "").strip()))


def _numbers(row: dict[str, str], columns: Mapping[str, str], wanted: Sequence[str], comma: bool) -> dict[str, float]:
    """The finite numbers of a row, by name; a cell that holds none is left out. comma: 63,5 is 63.5."""
    found = {}
    for name in wanted:
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            text = row[columns[name.lower()]]
            value = float(text.replace(",", ".") if comma else text)
            if math.isfinite(value):
                found[name] = value
    return found


def findings(label: str) -> list[str]:
    """Effusion and Mass of Effusion|Mass."""
    return [part.strip() for part in FINDINGS.split(label)]


def _with_findings(lines: dict[str, Line], wanted: Sequence[str]) -> dict[str, Line]:
    """Lines with findings that labels name as numbers, 1 or 0, instead of labels; the same lines if none is wanted."""
    there = {finding for line in lines.values() for finding in findings(line.label or "")}
    if not (names := [name for name in wanted if name in there]):
        return lines
    return {key: replace(line, label=None, numbers={**line.numbers, **{
        name: float(name in findings(line.label)) for name in names if line.label}}) for key, line in lines.items()}


def _tails(path: str) -> list[str]:
    """a/b/c.png, b/c.png, c.png."""
    parts = PurePosixPath(path).parts
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _all_tails(lines: Mapping[str, Line]) -> dict[str, Line | None]:
    return _unique((tail, line) for key, line in lines.items() for tail in _tails(key)[1:])


def _unique(pairs: Iterable[tuple[str, Line]]) -> dict[str, Line | None]:
    """The line of each key; None where lines differ."""
    found: dict[str, Line | None] = {}
    for key, line in pairs:
        found[key] = line if found.setdefault(key, line) == line else None
    return found
