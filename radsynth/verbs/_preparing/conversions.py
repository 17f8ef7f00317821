"""NIfTI files that look like conversions of DICOM series in the same data: one patient would count as two."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from radsynth.datasets import Record
from radsynth.datasets._layout import stem
from radsynth.io import Header
from radsynth.verbs._rejected import PART

FORMAT = re.compile("(?i)dicom|dcm|nifti|nii")
"""What folders of one format are called."""
LONGEST = 1_000_000
"""Bytes of a JSON file beside an image at most."""


class Scan(NamedTuple):
    """A DICOM series or a NIfTI file as `prepare` knows it: its name and path, the headers of its slices."""

    name: str
    path: str
    headers: list[Header]


def conversions(known: Sequence[tuple[Record, Header]]) -> dict[str, str]:
    """NIfTI file -> why it looks like a conversion: a JSON file says so, or it has the grid of a series beside it."""
    scans: dict[str, Scan] = {}
    for record, header in known:
        if record.added or not record.files:  # synthetic images of these very series, say
            continue
        path = record.files[0]
        if path not in scans:
            scans[path] = Scan(PART.sub("", record.source), path, [])
        scans[path].headers.append(header)
    series = [scan for scan in scans.values() if scan.headers[0].format == "dicom"]
    described = {scan.headers[0].series.strip() for scan in series if scan.headers[0].series}
    found = {}
    for scan in scans.values() if series else ():
        if scan.headers[0].format != "nifti":
            continue
        said = _converted_from(scan.path)
        if said in described:
            found[scan.name] = f"its JSON file names the series {said}"
        elif like := next((one.name for one in series if _near(scan.name, one.name)
                           and len(scan.headers) == len(one.headers)  # as many slices, or one volume
                           and scan.headers[0].on_grid_of(one.headers[0])), ""):
            found[scan.name] = f"it has the grid of {like}"
    return found


def in_words(example: str = "") -> str:
    """What to think of such a file, and what to do. example: " (such as NAME: WHY)", for whoever may see names"""
    return (f"a NIfTI file looks like a conversion of a DICOM series of the same data{example}, and would count as a "
            "further patient. Use one of the two: data.only='^(?!.*\\.nii)' takes the DICOM files, which say modality "
            "and patient, data.only='\\.nii' the NIfTI files")


def _converted_from(path: str) -> str | None:
    """The description of the series that a file was converted from, if a converter's JSON file beside it says so."""
    sidecar = os.path.join(os.path.dirname(path), stem(os.path.basename(path)) + ".json")
    try:
        if os.path.getsize(sidecar) > LONGEST:
            return None
        with open(sidecar, encoding="utf-8") as file:
            said = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or "ConversionSoftware" not in said:
        return None
    return str(said.get("SeriesDescription", "")).strip() or None


def _near(one: str, other: str) -> bool:
    """Whether two files lie in one folder, one in a folder of the other's, or in neighbouring ones that are called like
    formats (dicom, nifti): others may be those of two patients."""
    first, second = os.path.dirname(one), os.path.dirname(other)
    above, beside = os.path.dirname(first), os.path.dirname(second)
    within = first == second or (bool(first) and above == second) or (bool(second) and beside == first)
    named = FORMAT.search(os.path.basename(first)) or FORMAT.search(os.path.basename(second))
    return within or (above == beside and named is not None)
