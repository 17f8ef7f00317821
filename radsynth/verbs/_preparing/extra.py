"""Images that are added to the training split alone, such as generated ones with their masks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from radsynth.datasets import Record, Rejected, dataset, recognise
from radsynth.errors import DataError, SettingsError
from radsynth.io import Header
from radsynth.verbs._made_before import REQUEST
from radsynth.verbs._writing import folder_name


def extra_records(path: Path, data: Sequence[Record], source: Any, rejected: list[Rejected]) -> list[Record]:
    """Every image of a folder, archive or file, as a training image of nobody among the patients.

    data: the images that they are added to, whose classes they must have, if any; source: the settings of these.
    DataError when none can be used, SettingsError when its labels do not tell a number that the data's do.
    """
    unusable: list[Rejected] = []
    try:
        found = list(_extra_records(path, data, source, unusable))
    except SettingsError as error:  # of the numbers that the data has
        raise SettingsError(f"prepare.extra={path} does not fit: {error}") from None
    rejected += [replace(line, path=f"extra/{line.path}") for line in unusable]
    if not found:
        images_first = sorted(unusable, key=lambda line: line.skipped)
        why = "".join(f"; {line.path}: {line.reason}" for line in images_first[:1])
        raise DataError(f"prepare.extra={path} has no image that can be used{why}.")
    return found


def _extra_records(path: Path, data: Sequence[Record], source: Any, rejected: list[Rejected]) -> Iterator[Record]:
    unmasked = getattr(source, "unmasked", "reject") == "keep"
    named = next((record.mask_names for record in data if record.mask_names), {})
    like = next((record.header for record in data if record.header), None)
    modality = like.modality if like else ""
    module = dataset(recognise(path))
    taken = {one.name for one in fields(module.Settings)}
    wanted: dict[str, Any] = {"modality": modality, "mask_names": tuple(f"{k}={name}" for k, name in named.items()),
                              **({"unmasked": "keep"} if unmasked else {})}
    if plane := getattr(source, "plane", ""):
        wanted["plane"] = plane
    classes = {record.label for record in data} - {None}
    if numbers := getattr(source, "conditions", ()):
        wanted["conditions"] = numbers
    if numbers or classes:
        wanted |= _own_table(path)
    settings = module.Settings(path=path, **{name: value for name, value in wanted.items() if name in taken})
    added = "synthetic" if (path / REQUEST).is_file() else "other"
    known = {folder_name(name): name for name in classes if name} | {name: name for name in classes}
    for record in module.records(settings, rejected):
        reason = ""
        if classes and record.label not in known:
            reason = f"its class {record.label} is none of the data's" if record.label else "it has no class"
        elif lacking := [name for name in (data[0].conditions if data else ()) if name not in record.conditions]:
            reason = f"it has no number for {', '.join(lacking)}, which data.conditions asks for"
        if reason:
            rejected.append(Rejected(path=record.source, reason=reason))
        else:
            yield replace(record, source=f"extra/{record.source}", split="train", unmasked=unmasked, added=added,
                          label=known.get(record.label), header=_of_kinds(record.header, like),
                          patient="extra/" + hashlib.sha256(record.patient.encode()).hexdigest()[:16])


def _of_kinds(header: Header | None, like: Header | None) -> Header | None:
    """With the modality of each contrast, which files of several contrasts do not say, as the data has it."""
    if header is None or like is None or header.kinds or header.channels != like.channels:
        return header
    return replace(header, kinds=like.kinds)


def _own_table(path: Path) -> dict[str, str]:
    """Where the classes and numbers of images are that `generate` made. Folders tell no classes where
    there is a single one (`--label`), nor of DICOM, where they are patients."""
    table = path / "samples.csv"
    return {"labels": str(table)} if (path / REQUEST).is_file() and table.is_file() else {}
