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
    owners: dict[int, set[str]] = defaultdict(set)
    for record, entry in zip(records, entries, strict=True):
        for value in entry.mask_values or ():
            owners[value].add(record.patient)
    patients = len(set().union(*owners.values()))
    stray = {value for value, found in owners.items() if value and len(found) == 1}
    if patients < MANY or not stray:
        return list(entries)
    usual = ", ".join(str(value) for value in sorted(owners.keys() - stray))
    return [_refused(entry, stray.intersection(entry.mask_values or ()), patients, usual) for entry in entries]


def _refused(entry: Entry, stray: set[int], patients: int, usual: str) -> Entry:
    if not stray or entry.reason:
        return entry
    values = ", ".join(str(value) for value in sorted(stray))
    return replace(entry, reason=f"its mask has the label value {values}, as none of the other {patients - 1} patients "
                                 f"has (they have {usual}): correct it, or set "
                                 "prepare.masks=all if it is meant, or =instances where every thing has its own number")
