"""What images must have in common to be learned together, and what is said when they have not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from radsynth.datasets import Record
from radsynth.image import Kind, modalities_of
from radsynth.io import Header, pictures, scans
from radsynth.verbs._preparing.conversions import in_words


class Group(NamedTuple):
    """What images must have in common to be learned together. deep: stored values of more than 8 bits matter."""

    dimensions: int
    modality: str
    channels: int
    units: str
    method: str
    deep: bool
    kinds: tuple[Kind, ...]

    def __str__(self) -> str:
        depth = " of more than 8 bits" if self.deep else ""
        plural = "s" if self.channels > 1 else ""
        modality = modalities_of(self.kinds) or self.modality
        return f"{self.dimensions}-D, {modality}, {self.channels} channel{plural}, {self.units} values{depth}"


def groups_of(options: Any, known: Sequence[tuple[Record, Header]]) -> dict[Group, list[str]]:
    """Group -> the sources of its images, by the settings of `prepare`."""
    groups: dict[Group, list[str]] = defaultdict(list)
    for record, facts in known:
        channels = 1 if options.channels == "grey" and facts.channels == 3 else facts.channels
        method = options.intensity if options.intensity != "auto" else _method(facts)
        deep = method == "bits" and facts.bits > 8
        group = Group(len(facts.size), facts.modality, channels, facts.units, method, deep, facts.kinds)
        groups[group].append(record.source)
    return groups


def mixture(groups: Mapping[Group, Sequence[str]], converted: Mapping[str, str]) -> str:
    """Why these several groups cannot be prepared, and what to do; empty for a single one. converted: see there"""
    if len(groups) < 2:
        return ""
    lines = "".join(
        f"\n  {len(names)} image{'s' if len(names) > 1 else ''}: {group} (such as {names[0]})"
        for group, names in groups.items()
    )
    return (
        f"The data mixes {len(groups)} groups of images that one network cannot learn together:{lines}\n"
        "Choose files of one of them by a part of their path ('data.only=PART') or, in DICOM, of their series "
        "description ('data.series=PART'), give a folder that holds one, or set data.modality or prepare.channels=grey "
        "where that makes them alike."
        + (" Those that differ in bits alone: save all with the same bits, or prepare.intensity=percentiles maps each "
           "image by its own values." if len({group._replace(deep=False) for group in groups}) < len(groups) else "")
        + "".join(f"\n{len(converted)} times {in_words(f' (such as {name}: {why})')}."
                  for name, why in list(converted.items())[:1])
    )


def _method(facts: Header) -> str:
    """window, percentiles or bits, by what the image is. An 8-bit picture's values were chosen when it was made."""
    if facts.units == "HU":
        return "window"
    if facts.kinds:
        return "percentiles"
    scanned = facts.modality in ("MR", "PT", "NM") or facts.format in scans()
    picture = facts.bits <= 8 and facts.format in pictures()
    return "percentiles" if facts.bits > 16 or (scanned and not picture) else "bits"
