"""What the output folder of `generate` or `apply` holds already: what is asked for, some of it, or something else."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from radsynth.errors import FolderError
from radsynth.files import is_free
from radsynth.verbs._writing import Row

REQUEST = "generate.json"
"""What was asked for; written last, so that a folder that has it is whole."""
MADE = "apply.json"
"""What was asked for and made by `apply`; written last, too."""
HOLDS_OTHER = "{} exists and holds something else. Choose another output folder, or remove it first."
FILES = ("file", "mask", "field", "labels", "landmarks")
"""The columns of samples.csv that name files."""
SIZE = "bytes"
"""Its column of the size of all files that a row names, by which one that was cut is known; older tables lack it."""
HASHES = {"weights": "another run's, or its weights have changed", "files": "of other files, or they have changed"}
"""What stands for a part of a request that tells nobody anything."""


def count_made(out: Path, request: dict[str, object]) -> int:
    """How many images of the request `out` holds: 0 to all of them. FolderError when it holds anything else."""
    if is_free(out):
        return 0
    try:
        held = dict(json.loads((out / REQUEST).read_text(encoding="utf-8")))
        count = int(held["count"])
    except (OSError, ValueError, TypeError, KeyError):
        raise FolderError(HOLDS_OTHER.format(out)) from None
    if {**request, "count": count} == held and count <= int(str(request["count"])):
        return count
    raise FolderError(f"{out} holds other images of a generator ({differences(held, request)}). Choose another output "
                      "folder, or remove it first.")


def differences(held: Mapping[str, object], request: Mapping[str, object]) -> str:
    """In what a request differs from the one whose results are held, in words; "" in nothing."""
    differ = [name for name in dict.fromkeys([*request, *held]) if held.get(name) != request.get(name)]
    return "; ".join(HASHES.get(name) or f"{name} {_told(held.get(name))} there, {_told(request.get(name))} now"
                     for name in differ)


def rows_made(out: Path, count: int) -> list[list[Row]]:
    """The rows of samples.csv of the first images, `count` at most, up to the first one that is not whole."""
    try:
        with (out / "samples.csv").open(encoding="utf-8", newline="") as table:
            images = [list[Row](rows) for _, rows in itertools.groupby(csv.DictReader(table), lambda row: row["index"])]
    except (OSError, ValueError, KeyError, csv.Error):
        return []
    return list(itertools.takewhile(lambda image: all(is_whole(row, out) for row in image), images[:count]))


def is_whole(row: Row, *folders: Path) -> bool:
    """Whether a row has all its columns, and its files are there as they were written: power cuts, full disks and
    copies that broke off leave them empty or cut. folders: where they may lie, the first that holds one counts
    """
    size = size_of(row, *folders)
    return size > 0 and None not in (*row, *row.values()) and str(row.get(SIZE) or size) == str(size)


def size_of(row: Row, *folders: Path) -> int:
    """Bytes of all files that a row names; 0 where one of them is missing or empty."""
    sizes = [next(filter(None, (_size(folder / str(row[name])) for folder in folders)), 0)
             for name in FILES if row.get(name)]
    return sum(sizes) if all(sizes) else 0


def _size(file: Path) -> int:
    with suppress(OSError, ValueError):
        return file.stat().st_size
    return 0


def _told(value: object) -> str:
    return "none" if value is None else str(value)[:16]
