"""Which series DICOM's segmentations (SEG) and sets of contours (RTSTRUCT) are the masks of, and with which labels.

They name their series themselves, so that neither their names nor their folders matter. Their structures have names,
whose numbers differ from patient to patient: a name is one label value all over the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from radsynth.datasets import Rejected
from radsynth.datasets._items import Item
from radsynth.datasets._layout import printable
from radsynth.errors import RejectedFile, SettingsError
from radsynth.io import HIGHEST_LABEL

if TYPE_CHECKING:
    from radsynth.io._dicom_structures import Structures

ALONE = "the series that it was drawn on is not here"
UNSURE = "it may be the mask of several images ({}), whose identifiers or frame of reference are the same"
SHOWN = 10
"""Names of structures that a message gives at most."""


@dataclass(frozen=True, kw_only=True)
class Outlined:
    """files: of each item that has such masks, by its place in the list; values: (label value, name of a structure)."""

    files: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    values: tuple[tuple[int, str], ...] = ()


def outlined(root: Path, names: Sequence[str], items: Sequence[Item], of: Sequence[Hashable],
             mask_names: Mapping[int, str], rejected: list[Rejected]) -> Outlined:
    """Pair the objects in the files `names` with the items that they were drawn on; the others are told in `rejected`.

    of: what each item is a part of that has masks together, its series or its examination
    mask_names: label value -> the structure that is wanted, or several names of it (GTV|tumour), of the setting
    data.mask_names; empty: all, in the order of their names
    SettingsError where no object has any of the wanted ones. Where all are more than labels can be, none is used.
    """
    from radsynth.io._dicom_structures import plain, structures

    found: dict[str, tuple[Structures, list[int]]] = {}
    for name in names:
        try:
            own = structures(root / name)
        except RejectedFile as error:
            rejected.append(Rejected(path=printable(name), reason=str(error)))
            continue
        places = _drawn_on(own, items)
        if len({of[place] for place in places}) == 1:
            found[name] = own, places
        else:
            shown = ", ".join(printable(items[place].name) for place in places[:2])
            reason = UNSURE.format(shown) if places else ALONE
            rejected.append(Rejected(path=printable(name), reason=reason, skipped=True))
    try:
        values = _values([own for own, _ in found.values()], mask_names)
    except RejectedFile as error:  # images are of use without them
        rejected += [Rejected(path=printable(name), reason=str(error), skipped=True) for name in found]
        return Outlined()
    wanted, files = {plain(name) for _, name in values}, dict[int, tuple[str, ...]]()
    for name, (own, places) in found.items():
        if wanted.isdisjoint(map(plain, own.names.values())):
            has = ", ".join(sorted(set(own.names.values()))[:SHOWN])
            rejected.append(Rejected(path=printable(name), skipped=True, reason=(
                f"it has none of the structures that data.mask_names asks for; it has {has}")))
            continue
        for place in places:
            files[place] = (*files.get(place, ()), str(root / name))
    return Outlined(files=files, values=values if files else ())


def _drawn_on(own: Structures, items: Sequence[Item]) -> list[int]:
    """The items of the series that an object names, of its patient where others have the same identifiers; else the
    items in its frame of reference."""
    found = [place for place, item in enumerate(items) if item.uid in own.series] or [
        place for place, item in enumerate(items) if own.reference and item.reference == own.reference]
    return [place for place in found if items[place].header.patient == own.patient] or found


def _values(objects: Sequence[Structures], mask_names: Mapping[int, str]) -> tuple[tuple[int, str], ...]:
    """The label values of the structures that are wanted; see `outlined`."""
    from radsynth.io._dicom_structures import NUMBERED, plain, spellings

    spelled = {plain(name): name for own in reversed(objects) for name in own.names.values()}
    counts = Counter(name for own in objects for name in sorted(set(map(plain, own.names.values()))))
    listed = ", ".join(f"{spelled[name]} ({count})" for name, count in counts.most_common(SHOWN))
    listed += ", ..." if len(counts) > SHOWN else ""
    if mask_names:
        wanted = spellings(mask_names)
        if counts and not counts.keys() & wanted.keys():
            raise SettingsError(f"data.mask_names: no segmentation has {', '.join(mask_names.values())}. There are (in "
                                f"so many segmentations): {listed}")
        return tuple((value, name) for name, value in wanted.items())
    if len(counts) > HIGHEST_LABEL:
        raise RejectedFile(f"the segmentations name {len(counts)} structures, and a mask has {HIGHEST_LABEL} labels at "
                           "most: choose some with data.mask_names=[1=NAME, 2=NAME|OTHER NAME]. There are (in so many "
                           f"segmentations): {listed}")
    numbered = [NUMBERED.fullmatch(name) for name in sorted(counts)]
    if all(numbered):
        return tuple((int(match["value"]), spelled[match.string]) for match in numbered if match)
    return tuple(enumerate((spelled[name] for name in sorted(counts)), start=1))
