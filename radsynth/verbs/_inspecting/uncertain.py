"""Findings of which a table says -1 beside 0 and 1: CheXpert's and MIMIC-CXR's mark of what a report leaves open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from radsynth.datasets import Record

UNCERTAIN = (
    "-1 beside 0 and 1, by which CheXpert and MIMIC-CXR mark an uncertain finding: as a label it is a class of its "
    "own, in data.conditions a number as far below 0 as 1 is above it. In a copy of the table an empty cell leaves the "
    "image out, and 0 or 1 decides it"
)


def uncertain(records: Sequence[Record]) -> dict[str, int]:
    """UNCERTAIN with the number of images that have such a label, or such a number to be learned with."""
    found: dict[str, list[float | None]] = defaultdict(list)
    for record in records:
        for name, value in {"": record.label, **record.conditions}.items():
            found[name].append(_number(value))
    marked = sum(values.count(-1) for values in found.values() if {-1, 1} <= {*values} <= {-1, 0, 1})
    return {UNCERTAIN: marked} if marked else {}


def _number(value: str | float | None) -> float | None:
    """The number that a label is; None for other labels, and without one."""
    with suppress(ValueError):
        return None if value is None else float(value)
    return None
