"""Label values that one patient alone has among many: slips of drawing or converting masks, since what one patient has
cannot be both learned and tested."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from radsynth.datasets import Record
from radsynth.verbs._preparing.shards import Entry

MANY = 20
"""Patients with masks from which on a value of one patient alone is a slip."""


def without_stray(records: Sequence[Record], entries: Sequence[Entry]) -> list[Entry]:
    """The same entries; images whose mask has such a value get it as the reason why they cannot be used."""
    owners = _owners(records, entries)
    patients, stray = _patients(owners), _of_one(owners)
    if patients < MANY or not stray:
        return list(entries)
    usual = ", ".join(str(value) for value in sorted(owners.keys() - stray))
    return [_refused(entry, stray.intersection(entry.mask_values or ()), patients, usual) for entry in entries]


def doubtful(records: Sequence[Record], entries: Sequence[Entry]) -> str:
    """What to say of such values among fewer patients, where they may be meant; "" where there is none."""
    owners = _owners(records, entries)
    patients, stray = _patients(owners), _of_one(owners)
    if not 2 < patients < MANY or not stray:
        return ""
    first = next(record.source for record, entry in zip(records, entries, strict=True)
                 if stray.intersection(entry.mask_values or ()))
    values = ", ".join(str(value) for value in sorted(stray))
    what, becomes = (("each of the label values", "They become labels") if len(stray) > 1 else
                     ("the label value", "It becomes a label"))
    return (f"of {patients} patients with masks only one has {what} {values} (first in that of {first}). {becomes} all "
            "the same, which cannot be both learned and tested: correct the mask if it is a slip")


def _owners(records: Sequence[Record], entries: Sequence[Entry]) -> dict[int, set[str]]:
    """The patients that have each label value."""
    owners: dict[int, set[str]] = defaultdict(set)
    for record, entry in zip(records, entries, strict=True):
        for value in entry.mask_values or ():
            owners[value].add(record.patient)
    return owners


def _patients(owners: dict[int, set[str]]) -> int:
    return len(set().union(*owners.values()))


def _of_one(owners: dict[int, set[str]]) -> set[int]:
    """The label values that one patient alone has."""
    return {value for value, found in owners.items() if value and len(found) == 1}


def _refused(entry: Entry, stray: set[int], patients: int, usual: str) -> Entry:
    if not stray or entry.reason:
        return entry
    values = ", ".join(str(value) for value in sorted(stray))
    return replace(entry, reason=f"its mask has the label value {values}, as none of the other {patients - 1} patients "
                                 f"has (they have {usual}): correct it, or set "
                                 "prepare.masks=all if it is meant, or =instances where every thing has its own number")
