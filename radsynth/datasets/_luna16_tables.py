"""The tables of LUNA16: where nodules and other candidates are, and which of the others are taken."""

from __future__ import annotations

import csv
import hashlib
import heapq
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from radsynth.errors import DataError

TABLES = {"annotations": ("annotations.csv",), "candidates": ("candidates_V2.csv", "candidates.csv")}
COLUMNS = ("coordX", "coordY", "coordZ")


@dataclass(frozen=True, kw_only=True, slots=True)  # there are 750,000
class Finding:
    """A line of a table. centre: LPS mm; diameter: mm, 0 where the table has none; row: its number in the table."""

    centre: tuple[float, float, float]
    diameter: float
    nodule: bool
    row: int


def read_table(root: Path, what: str, given: Path) -> tuple[dict[str, list[Finding]], str]:
    """(series -> its findings, name below the root) of the table `what`; DataError without it, or if it cannot be read.

    It lies in the root or at most two folders below, as in CSVFILES/. given: the root as messages call it, where
    `root` holds unpacked archives
    """
    names = TABLES[what]
    places = ("", "*/", "*/*/")
    found = [file for name in names for place in places for file in sorted(root.glob(place + name)) if file.is_file()]
    if not found:
        raise DataError(f"{given} has no {names[0]}, which says where the nodules are. Put it beside subset0.")
    name = found[0].relative_to(root).as_posix()
    shown = given / name
    table: dict[str, list[Finding]] = defaultdict(list)
    with_class = what == "candidates"
    try:
        with found[0].open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            needed = {"seriesuid", *COLUMNS, "class" if with_class else "diameter_mm"}
            if not needed <= set(reader.fieldnames or ()):
                raise DataError(f"{shown} needs the columns {', '.join(sorted(needed))}; it has {reader.fieldnames}")
            for number, line in enumerate(reader):
                if None in map(line.get, needed):
                    raise ValueError("the line lacks columns; the file may have been cut short on its way")
                x, y, z = (float(line[column]) for column in COLUMNS)
                diameter = 0.0 if with_class else float(line["diameter_mm"])
                if not all(map(math.isfinite, (x, y, z, diameter))):
                    raise ValueError("a number is not finite")
                nodule = not with_class or int(line["class"]) == 1
                entry = Finding(centre=(x, y, z), diameter=diameter, nodule=nodule, row=number)
                table[line["seriesuid"].strip()].append(entry)
    except OSError as error:
        raise DataError(f"{shown} cannot be read: {error.strerror}") from None
    except DataError:
        raise
    except (csv.Error, ValueError) as error:
        raise DataError(f"{shown} cannot be read, near line {reader.line_num}: {error}") from None
    return table, name


def draw(found: dict[str, list[Finding]], present: set[str], negatives: float) -> dict[str, list[Finding]]:
    """Every nodule of the scans that are there, and `negatives` times as many others, chosen by a hash of their row."""
    count = math.ceil(negatives * sum(one.nodule for series in present for one in found.get(series, ())))
    others = ((series, one) for series in present for one in found.get(series, ()) if not one.nodule)
    drawn = heapq.nsmallest(count, others, lambda pair: hashlib.sha256(f"{pair[0]} {pair[1]}".encode()).digest())
    chosen = {(series, one.row) for series, one in drawn}
    return {
        series: [one for one in found.get(series, ()) if one.nodule or (series, one.row) in chosen]
        for series in present
    }
