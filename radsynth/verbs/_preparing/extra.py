"""Images that are added to the training split alone, such as generated ones with their masks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from radsynth.datasets import Record, Rejected, dataset, recognise
from radsynth.errors import DataError

EXTRA = "extra/"
"""What the source of such an image begins with."""


def extra_records(path: Path, modality: str, unmasked: bool, rejected: list[Rejected]) -> list[Record]:
    """Every image of a folder, archive or file, as a training image of nobody among the patients.

    modality: DICOM's code where the files do not say; unmasked: also those without a mask. DataError when there is
    nothing.
    """
    if not Path(path).exists():
        raise DataError(f"prepare.extra={path} does not exist. Name a folder of images, such as what 'radsynth "
                        "generate' or 'radsynth apply' wrote.")
    kind = recognise(Path(path))
    module, more = dataset(kind), {"unmasked": "keep"} if unmasked and kind == "folder" else {}
    found = module.records(module.Settings(path=Path(path), modality=modality, **more), rejected)
    return [replace(record, source=f"{EXTRA}{record.source}", split="train", unmasked=unmasked,
                    patient="extra/" + hashlib.sha256(record.patient.encode()).hexdigest()[:16]) for record in found]
