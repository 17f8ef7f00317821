"""Splits patients into train, validation and test, and finds images that are there twice."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from radsynth.arrays import SPLITS
from radsynth.datasets import Record


def split_of(records: Sequence[Record], usable: Sequence[int], masked: Sequence[bool], official: bool,
             fractions: Sequence[float], seed: int) -> dict[str, str]:
    """The split of each patient: the official one if there is one and it is wanted, else drawn. None is `torn`.

    Patients with masks are divided by themselves, so that each split has some, however few they are.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    for position in usable:
        labels[records[position].patient].add(records[position].label or "")
    given = {one.patient: one.split for one in map(records.__getitem__, usable)
             if one.split and (official or one.added)}
    rest = {name: frozenset(found) for name, found in labels.items() if name not in given}
    with_masks = {records[i].patient for i in usable if masked[i]}
    groups = [{name: some for name, some in rest.items() if (name in with_masks) == masks} for masks in (True, False)]
    drawn = [split_patients(group, fractions, seed) for group in groups]
    if fractions[SPLITS.index("train")] > 0:
        taught = {one for chosen in (given, *drawn) for name in _of_training(chosen) for one in labels[name]}
        for group, chosen in zip(groups, drawn, strict=True):
            taught |= _teach(group, chosen, taught, seed)
    return {**given, **drawn[0], **drawn[1]}


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


def _of_training(chosen: Mapping[str, str]) -> list[str]:
    """The patients of a split who are in training."""
    return [name for name, split in chosen.items() if split == "train"]


def _teach(labels: Mapping[str, frozenset[str]], chosen: dict[str, str], taught: set[str], seed: int) -> set[str]:
    """Bring a patient of each class that no training patient has into training, within `chosen`; the classes brought.

    One of whose classes each has another training patient takes the place, as far as there is one; where there is
    none, the patient only comes if another stays behind.
    taught: classes that training patients have
    """
    brought = set[str]()
    for label in sorted(set().union(*labels.values()) - taught - {""}):
        if label in brought:
            continue
        have = Counter(one for name in _of_training(chosen) for one in labels[name])
        spare = {name: min(have[one] for one in labels[name]) for name in _of_training(chosen)}
        other = max((name for name in spare if spare[name] > 1), key=lambda name: (spare[name], _draw(name, seed)),
                    default=None)
        left = Counter(chosen.values())
        name = min((name for name in labels if label in labels[name] and (other or left[chosen[name]] > 1)),
                   key=lambda name: _draw(name, seed), default=None)
        if name is None:
            continue
        if other:
            chosen[other] = chosen[name]
        chosen[name] = "train"
        brought |= labels[name]
    return brought


def _draw(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def find_copies(pixels: Sequence[str | None], patients: Sequence[str], sources: Sequence[str],
                masked: Sequence[bool]) -> dict[int, str]:
    """Position -> reason for each image whose pixels (given as hashes, None for unusable ones) came before.

    The first of identical images that has a mask is kept, or the first of all, so none can be in two splits.
    """
    first: dict[str, int] = {}
    copies: dict[int, str] = {}
    for position in sorted(range(len(pixels)), key=lambda i: not masked[i]):
        found = pixels[position]
        if found is None:
            continue
        original = first.setdefault(found, position)
        if original != position:
            other = "" if patients[original] == patients[position] else ", which is of another patient"
            copies[position] = f"its pixels are identical to those of {sources[original]}{other}"
    return copies


def torn(records: Iterable[Record], official: bool) -> str:
    """Why splits that come with the data cannot be kept, and what to do: patients in two; "" where there is none."""
    found: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        if record.split and (official or record.added):
            found[record.patient].setdefault(record.split, record)
    patients = [places for places in found.values() if len(places) > 1]
    if not patients:
        return ""
    (first, one), (second, other), *_ = patients[0].items()
    who = "One patient is" if len(patients) == 1 else f"{len(patients):,} patients are"
    return (f"{who} in two official splits, as {one.source} ({first}) and {other.source} ({second}) show. Correct the "
            "data, or set prepare.official=false to split the patients anew.")
