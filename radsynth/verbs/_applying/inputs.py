"""The images behind a path that a run is applied to, taken as those of its training were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radsynth.datasets import Record, Rejected, dataset, embedded, recognise
from radsynth.datasets._layout import PATIENT
from radsynth.datasets._walking import holds_files
from radsynth.datasets.contrasts import called


def input_records(source: Path, modality: str, trained: dict[str, Any] | None = None, *, masks: bool = False,
                  patient_pattern: str = PATIENT) -> tuple[Iterator[Record], list[Rejected]]:
    """The images behind a path, volumes whole; examinations of several contrasts where the run was trained on such.

    Virtual patients have contrasts too, so that files which look like examinations are taken as such.
    masks: whether images come with the masks that lie beside some of them; without, a mask that does not fit costs none
    patient_pattern: how names tell patients, as in `data`
    """
    kind, rejected = recognise(source), list[Rejected]()
    whole = {"plane": "whole", "unmasked": "keep", "modality": modality}
    more: dict[str, Any] = {**whole, "labels": "none"}
    names = tuple(trained["contrasts"]) if trained else ()
    given = tuple(name for name in names if trained and name.partition("=")[0] in trained["inputs"])
    told = len(given) > 1 or kind == "contrasts" or any("=" in name for name in given)
    several = len(names) > 1 and holds_files(source)
    examinations = several and trained and (
        (trained["kind"] == "contrasts" and told) or (
            trained["kind"] in embedded() and (kind == "contrasts" or any("=" in name for name in given))))
    if examinations:  # what is to be made may lie there as well: neither its grid nor its name counts
        kind, more = "contrasts", {**whole, "contrasts": given}
    elif several and trained and trained["kind"] == "nnunet":
        kind, more = "nnunet", {**whole, "channels": names}
    elif trained and trained["kind"] == kind == "brats":
        kind, more = "brats", {"what": "volumes", "modalities": tuple(trained["inputs"]), "unmasked": "keep"}
    elif kind == "medmnist":
        more = {}
    else:
        kind = "folder"
    module = dataset(kind)
    if kind == "folder" and trained:
        more["incomplete"] = trained.get("incomplete", "reject")
    without = {"masks": False} if kind == "folder" and not masks else {}
    if kind != "brats":
        more["patient_pattern"] = patient_pattern
    records = module.records(module.Settings(path=source, **more), rejected, **without)
    if kind == "folder" and trained and len(names) > 1:
        records = _of_these(records, names, trained["inputs"], rejected)
    return records, rejected


def _of_these(records: Iterator[Record], contrasts: tuple[str, ...], inputs: tuple[str, ...], rejected: list[Rejected],
              ) -> Iterator[Record]:
    """Without those whose name or series says that they are another contrast of the training than is given."""
    for record in records:
        name = called(record.source, record.header, contrasts) if record.header else None
        if name is None or name in inputs:
            yield record
        else:
            rejected.append(Rejected(path=record.source, reason=(
                f"by its name or series it is {name}; the run expects {', '.join(inputs)}")))
