"""Which of the prepared images are used: those without a fault, without copies, with the masks that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radsynth.datasets import Record, Rejected
from radsynth.errors import DataError
from radsynth.verbs._preparing.shards import Entry
from radsynth.verbs._preparing.split import find_copies
from radsynth.verbs._rejected import by_file


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What can be used.

    usable: positions of records; rejected: every file that cannot be used; left_out: slices of background
    masks: are they kept?
    """

    usable: tuple[int, ...]
    rejected: tuple[Rejected, ...]
    duplicates: int
    left_out: int
    masks: bool


def decide(records: Sequence[Record], entries: Sequence[Entry], found: Sequence[Rejected], *, masks: bool) -> Outcome:
    """Which images are used: those without a fault, without copies, and with a mask where most have one, unless they
    are wanted without (`Record.unmasked`)."""
    rejected = list[Rejected]()
    copies = find_copies(
        [None if entry.reason else entry.pixels for entry in entries],
        [record.patient for record in records],
        [record.source for record in records],
        [entry.mask_values is not None for entry in entries],
    )
    good = [i for i, entry in enumerate(entries) if not entry.reason and i not in copies]
    masked = [i for i in good if entries[i].mask_values is not None]
    some = any(record.unmasked for record in records)
    own = [i for i in good if not records[i].added]  # what is added does not outvote the data
    most = 2 * sum(entries[i].mask_values is not None for i in own) >= len(own)
    keep = masks and bool(masked) and (some or most)
    usable = [i for i in good if entries[i].mask_values is not None or records[i].unmasked] if keep else good
    for i, (record, entry) in enumerate(zip(records, entries, strict=True)):
        reason = "" if entry.skipped else entry.reason or copies.get(i, "")
        if not (reason or entry.skipped) and keep and entry.mask_values is None and not record.unmasked:
            reason = ("it has no mask, as most images have; data.unmasked=keep uses it, prepare.masks=off uses all "
                      "images without masks")
        if reason:
            rejected.append(Rejected(path=record.source, reason=reason, skipped=i in copies))
    rejected = [*found, *by_file(rejected, (record.source for record in records))]
    left_out = sum(entry.skipped for entry in entries)
    if not usable:
        wrong = "".join(f"\n  {line.path}: {line.reason}" for line in rejected[:5])
        by = " by data.minimum_foreground" if left_out else ""
        raise DataError(f"There is no image that can be used: {len(rejected)} were rejected or skipped, {left_out} are "
                        f"background{by}.{wrong}")
    return Outcome(
        usable=tuple(usable), rejected=tuple(rejected), duplicates=len(copies), left_out=left_out, masks=keep
    )
