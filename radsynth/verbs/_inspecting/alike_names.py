"""Images of which nothing says whose they are, while their names let expect several of one patient."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from radsynth.datasets import Record
from radsynth.datasets._layout import PATIENT, stem

LAST = re.compile(r"(?P<first>.*\d.*)[-_. ][^-_. ]+")
"""A name of several parts with a number in front of the last one."""
MOST = 100
"""Images that may be one patient's; more of one beginning are a collection."""
UNTOLD = (
    "its name differs from that of others in the last part alone, and nothing says whose it is: each file counts as a "
    "patient. If such names are one patient's, who would then be in training and test, data.patient_pattern says which "
    "part names the patient, such as '(?P<patient>[^/_]+)_' where P07_left and P07_right are P07's"
)


def alike_names(records: Sequence[Record], source: Any) -> dict[str, int]:
    """UNTOLD with the number of files that it is said of, where it is said of most of those without a patient.

    source: the settings of the data set
    """
    of_cases = source.kind == "nnunet" and source.patient_pattern == PATIENT
    names = {record.source.partition("#")[0]: name for record in records
             if record.split is None and (name := _untold(record, of_cases))}
    matches = [LAST.fullmatch(name) for name in names.values()]
    groups = [count for count in Counter(match["first"] for match in matches if match).values() if 1 < count <= MOST]
    return {UNTOLD: sum(groups)} if len(groups) > 1 and 2 * sum(groups) >= len(names) else {}


def _untold(record: Record, of_cases: bool) -> str:
    """The name of a file that counts as a patient by itself, or of nnU-Net's case; "" where something says whose it
    is."""
    source = record.source.partition("#")[0]
    name, patient = stem(PurePosixPath(source).name), record.patient
    if patient == source:
        return name
    return patient if of_cases and name.casefold() in (patient, f"{patient}_0000") else ""
