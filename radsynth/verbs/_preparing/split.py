"""Splits patients into train, validation and test, and finds images that are there twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from radsynth.arrays import SPLITS
from radsynth.datasets import Record
from radsynth.errors import DataError


def split_patients(labels: Mapping[str, frozenset[str]], fractions: Sequence[float], seed: int) -> dict[str, str]:
    """A split for each patient, from the patients' names, their sets of labels and the seed alone.

    Patients with the same set of labels lie side by side, in an order drawn by the seed; going along, each goes to the
    split that lags most behind its fraction. So every class is divided as the whole is, as far as numbers allow. Each
    split with a fraction gets a patient if there are enough.
    """
    order = sorted(labels, key=lambda name: (sorted(labels[name]), _draw(name, seed)))
    given = dict.fromkeys(SPLITS, 0)
    chosen: dict[str, str] = {}
    for position, name in enumerate(order, start=1):
        split = max(SPLITS, key=lambda s: fractions[SPLITS.index(s)] * position - given[s])
        chosen[name] = split
        given[split] += 1
    wanted = [split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    for split in reversed(wanted):
        largest = max(wanted, key=lambda s: given[s])
        if not given[split] and given[largest] > 1:
            moved = max((name for name in order if chosen[name] == largest), key=lambda name: _draw(name, seed))
            chosen[moved] = split
            given[split], given[largest] = 1, given[largest] - 1
    return chosen


def _draw(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def find_copies(pixels: Sequence[str | None], patients: Sequence[str], sources: Sequence[str]) -> dict[int, str]:
    """Position -> reason for each image whose pixels (given as hashes, None for unusable ones) came before.

    The first of identical images is kept, so none can be in two splits.
    """
    first: dict[str, int] = {}
    copies: dict[int, str] = {}
    for position, found in enumerate(pixels):
        if found is None:
            continue
        original = first.setdefault(found, position)
        if original != position:
            other = "" if patients[original] == patients[position] else ", which is of another patient"
            copies[position] = f"its pixels are identical to those of {sources[original]}{other}"
    return copies


def official_splits(records: Iterable[Record]) -> dict[str, str]:
    """The official split of each patient that has one; DataError for a patient in two."""
    found: dict[str, Record] = {}
    for record in records:
        if record.split is None:
            continue
        first = found.setdefault(record.patient, record)
        if first.split != record.split:
            raise DataError(
                f"One patient is in two official splits: {first.source} ({first.split}) and {record.source} "
                f"({record.split}). Correct the data, or set prepare.official=false to split the patients anew."
            )
    return {name: record.split or "" for name, record in found.items()}
