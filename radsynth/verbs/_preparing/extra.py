"""Images that are added to the training split alone, such as generated ones with their masks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from radsynth.datasets import Record, Rejected, dataset, recognise
from radsynth.errors import DataError
from radsynth.verbs._writing import folder_name

EXTRA = "extra/"
"""What the source of such an image begins with."""


def extra_records(path: Path, data: Sequence[Record], unmasked: bool, rejected: list[Rejected]) -> Iterator[Record]:
    """Every image of a folder, archive or file, as a training image of nobody among the patients.

    data: the images that they are added to, whose classes they must have, if any; unmasked: also those without a mask.
    DataError when there is nothing.
    """
    modality = next((record.header.modality for record in data if record.header), "")
    if not Path(path).exists():
        raise DataError(f"prepare.extra={path} does not exist. Name a folder of images, such as what 'radsynth "
                        "generate' or 'radsynth apply' wrote.")
    kind = recognise(Path(path))
    module, more = dataset(kind), {"unmasked": "keep"} if unmasked and kind == "folder" else {}
    classes = {record.label for record in data} - {None}
    known = {folder_name(name): name for name in classes if name} | {name: name for name in classes}
    for record in module.records(module.Settings(path=Path(path), modality=modality, **more), rejected):
        source, reason = f"{EXTRA}{record.source}", ""
        if classes and record.label not in known:
            reason = f"its class {record.label} is none of the data's" if record.label else "it has no class"
        elif lacking := [name for name in (data[0].conditions if data else ()) if name not in record.conditions]:
            reason = f"it has no number for {', '.join(lacking)}, which data.conditions asks for"
        if reason:
            rejected.append(Rejected(path=source, reason=reason))
        else:
            yield replace(record, source=source, split="train", unmasked=unmasked, label=known.get(record.label),
                          patient="extra/" + hashlib.sha256(record.patient.encode()).hexdigest()[:16])
