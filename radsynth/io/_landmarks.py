"""Landmarks, points of an image, from files: 3D Slicer's markups (.mrk.json, .fcsv), and CSV as of ITK and ANTs.

They are in mm: Slicer's files say which way their axes run, CSV's x, y and z run as DICOM does, to left, back and head
(LPS). Columns i, j and k of CSV are indices of voxels, as in Learn2Reg (Hering et al. 2022).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile

ENDINGS = (".mrk.json", ".fcsv", ".csv")
LARGEST = 2**24
"""Bytes of a file: a hundred thousand landmarks."""
TO_LPS = {"LPS": (1, 1, 1), "1": (1, 1, 1), "RAS": (-1, -1, 1), "0": (-1, -1, 1)}
"""Signs of mm in the coordinate systems of Slicer, which older versions number."""
NAMES = ("label", "name")
MM, VOXELS = "xyz", "ijk"
"""Columns of CSV with the position: LPS mm, or indices along the axes of the image's file, from 0."""
MORE = (*NAMES, "t", "comment")
"""Its other columns: a name, and what ANTs writes besides."""
SAID = re.compile(r"#\s*(\w+)\s*=\s*(.*)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Landmarks:
    """Points of a file. file: its name; points: (n, 3) LPS mm, or indices (i, j, k) of `voxels`; names: n texts, ""
    without one; places: where in the file each stands ("line 3"), for messages."""

    file: str
    points: NDArray[np.float64]
    names: tuple[str, ...]
    places: tuple[str, ...]
    voxels: bool = False

    def where(self, number: int) -> str:
        """File and place of a landmark, with its name if it has one."""
        return f"{self.file}, {self.places[number]}" + (f" ({self.names[number]})" if self.names[number] else "")


Found = Iterator[tuple[str, str, list[Any]]]
"""Place, name and coordinates of one landmark after another."""


def read_landmarks(path: Path) -> Landmarks:
    """The landmarks of a file, in its order. RejectedFile, with the file's name and the line, for one that is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise RejectedFile(f"{path.name} is larger than {LARGEST >> 20} MiB, which no file of landmarks is")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RejectedFile(f"{path.name} cannot be read as text: {error}") from None
    lower = path.name.lower()
    if lower.endswith((".json", ".fcsv")):
        axes, found = MM, (_markups if lower.endswith(".json") else _fcsv)(path.name, text)
    else:
        axes, found = _csv(path.name, text)
    points: list[NDArray[np.float64]] = []
    names: list[str] = []
    places: list[str] = []
    for place, name, values in found:
        point = _numbers(values)
        if point is None:
            unit = "mm" if axes == MM else "voxels"
            raise RejectedFile(f"{path.name}, {place}: {axes[0]}, {axes[1]} and {axes[2]} have to be three finite "
                               f"numbers, {unit}; there is {', '.join(map(str, values)) or 'nothing'}")
        if name and name in names:
            raise RejectedFile(f"{path.name}, {place}: {name!r} is the name of {places[names.index(name)]}, too")
        points.append(point)
        names.append(name)
        places.append(place)
    if not points:
        raise RejectedFile(f"{path.name} holds no landmarks")
    return Landmarks(file=path.name, points=np.array(points), names=tuple(names), places=tuple(places),
                     voxels=axes == VOXELS)


def _numbers(values: list[Any]) -> NDArray[np.float64] | None:
    try:
        point = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        return None
    return point if point.shape == (3,) and np.isfinite(point).all() else None


def _csv(file: str, text: str) -> tuple[str, Found]:
    """MM or VOXELS, as a header line names the columns, with a name if wanted; commas, semicolons or tabs between."""
    lines = list(_filled(text))
    number, head = lines[0] if lines else (1, "")
    sign = max(",;\t", key=head.count)
    columns = [name.strip().lower() for name in next(csv.reader([head], delimiter=sign), [])]
    axes = next((axes for axes in (MM, VOXELS) if set(axes) <= set(columns) <= {*axes, *MORE}), None)
    if axes is None:
        bare = ". A file of numbers alone does not say what they are" if _numbers(columns[:3]) is not None else ""
        six = ", and of six columns which are of which image: make it two files" if bare and len(columns) == 6 else ""
        raise RejectedFile(f"{file}, line {number}: the header has to name the columns x,y,z (mm, towards left, back "
                           "and head as in DICOM) or i,j,k (voxels along the axes of the image's file, from 0: "
                           f"Learn2Reg's), and may have {', '.join(MORE)}; it is {head[:80]!r}{bare}{six}")
    return axes, _rows(file, lines[1:], columns, sign, axes)


def _fcsv(file: str, text: str) -> Found:
    """Slicer's older format: comments say the coordinate system and the columns."""
    lines = list(_filled(text))
    said = {match[1]: match[2].strip() for _, line in lines if (match := SAID.match(line))}
    system, columns = said.get("CoordinateSystem", ""), said.get("columns", "").split(",")
    if system not in TO_LPS or not {"x", "y", "z"} <= set(columns):
        raise RejectedFile(f"{file}, line 1: as a .fcsv file of 3D Slicer it has to begin with comments that say "
                           "'# CoordinateSystem = LPS' (or RAS) and '# columns = id,x,y,z,...'")
    rows = [(number, line) for number, line in lines if not line.startswith("#")]
    for place, name, values in _rows(file, rows, columns, ","):
        yield place, name, _to_lps(values, system)


def _filled(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers from 1."""
    return ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _rows(file: str, lines: list[tuple[int, str]], columns: list[str], sign: str, axes: str = MM) -> Found:
    for number, line in lines:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=sign))]
        if len(cells) > len(columns):
            raise RejectedFile(f"{file}, line {number}: it has {len(cells)} columns, the header names {len(columns)}")
        row = dict(zip(columns, cells, strict=False))
        name = next((row[name] for name in NAMES if row.get(name)), "")
        values = [row.get(axis, "") for axis in axes]
        yield f"line {number}", name, values if sign == "," else [value.replace(",", ".") for value in values]


def _markups(file: str, text: str) -> Found:
    """Slicer's format since 2020: point lists among the markups of a JSON file."""
    try:
        lists = [one for one in json.loads(text)["markups"] if one["type"] == "Fiducial"]
    except json.JSONDecodeError as error:
        raise RejectedFile(f"{file}, line {error.lineno}: it is no JSON: {error.msg}") from None
    except (KeyError, TypeError, RecursionError):
        raise RejectedFile(f"{file}: it has no 'markups' with a 'type', so that it is no .mrk.json file of 3D Slicer"
                           ) from None
    count = 0
    for one in lists:
        system, units = str(one.get("coordinateSystem", "LPS")), one.get("coordinateUnits", "mm")
        if system not in TO_LPS or units not in ("mm", ["mm"] * 3):
            raise RejectedFile(f"{file}: its points are in {system} and {units}; LPS or RAS and mm can be used")
        for point in one.get("controlPoints") or ():
            count += 1
            if not isinstance(point, dict):
                raise RejectedFile(f"{file}, point {count}: it is no point of 3D Slicer: {str(point)[:80]}")
            given = point.get("position") if point.get("positionStatus", "defined") == "defined" else None
            values = given if isinstance(given, list) else []
            yield f"point {count}", str(point.get("label") or ""), _to_lps(values, system)


def _to_lps(values: list[Any], system: str) -> list[Any]:
    point = _numbers(values)
    return values if point is None else list(point * TO_LPS[system])
