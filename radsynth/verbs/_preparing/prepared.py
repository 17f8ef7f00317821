"""The life of a prepared folder: begun, filled with shards, finished with a manifest, opened again.

While it is being filled it holds begun.json (the source's hash, and the salt of the patients' hashes). Both are deleted
in the end: without the salt nobody can try out which patients a hash stands for.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from radsynth.arrays import ROW_FIELDS, SPLITS, IntensityMap, Manifest, Prepared, Row
from radsynth.datasets import Record
from radsynth.errors import FolderError
from radsynth.files import LOCK, check_writable, write_atomically, write_csv
from radsynth.image import ImageSpec
from radsynth.io._geometry import common_directions
from radsynth.progress import tell
from radsynth.verbs._preparing.outcome import Outcome
from radsynth.verbs._preparing.shards import Entry, Plan, Shard
from radsynth.verbs._rejected import write_rejected

QUANTILES = 33
"""Numbers that the distribution of a condition is kept as."""


def open_finished(out: Path, source: str) -> Prepared | None:
    """The folder if it is complete and of the same source; FolderError if it is complete and of another."""
    if not (out / "manifest.json").exists():
        return None
    prepared = Prepared(out)
    if prepared.manifest.source_hash != source:
        raise FolderError(
            f"{out} holds data that was prepared from other files or with other settings. Choose another folder, or "
            "delete this one to prepare it anew."
        )
    for number in {row.shard for row in prepared.rows}:
        if not (out / "shards" / f"{number:05d}.images.npy").is_file():
            raise FolderError(f"{out} lacks shards/{number:05d}.images.npy. Delete the folder and prepare it again.")
    _tidy(out)
    return prepared


def check_free(out: Path) -> None:
    """FolderError unless the folder is finished, or can be written and is missing, empty or begun."""
    if (out / "manifest.json").exists():
        return
    check_writable(out)
    try:
        names = {path.name for path in out.iterdir()} if out.exists() else set[str]()
    except OSError as error:
        raise _unusable(out, error) from None
    if "begun.json" not in names and any(name != LOCK and not name.startswith(".begun.json.") for name in names):
        raise FolderError(f"{out} is not empty and holds no prepared data. Choose another folder for the arrays.")


def begin(out: Path, source: str) -> str:
    """Make the folder ready to be filled and return its salt. What an earlier call of the same source left is kept."""
    if (out / "manifest.json").exists():
        raise FolderError(f"{out} was finished by another process in the meantime. Repeat the command to look at it.")
    note, salt = out / "begun.json", ""
    try:
        if note.exists():
            begun = json.loads(note.read_text(encoding="utf-8"))
            if begun["source"] == source:
                salt = str(begun["salt"])
            else:
                if any(out.glob("shards/[0-9]*.json")):
                    tell(f"mind: {out} held a part of other data, or of these with other settings, whose preparation "
                         "was not finished: it is removed")
                _remove(out, "shards/[0-9]*.json", "shards/[0-9]*.npy")
            _remove(out, "**/.*.part")
        if not salt:  # before all else: what a fault leaves without it is taken for somebody else's
            salt = secrets.token_hex(16)
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(note, json.dumps({"source": source, "salt": salt}))
        (out / "shards").mkdir(exist_ok=True)
    except OSError as error:
        raise _unusable(out, error) from None
    return salt


def _unusable(out: Path, error: OSError) -> FolderError:
    return FolderError(f"{out} cannot be used as a folder for prepared data: {error.strerror}.")


def _remove(out: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in list(out.glob(pattern)):
            path.unlink(missing_ok=True)


def _tidy(out: Path) -> None:
    """Remove what only an unfinished folder needs: also the lock, since `begin` refuses a folder with a manifest."""
    _remove(out, "begun.json", "shards/[0-9]*.json", "**/.*.part", LOCK)


@dataclass(frozen=True, kw_only=True)
class Made:
    """Everything that a prepared folder's tables are written from. split: of each patient; format: the input's."""

    plan: Plan
    shards: Sequence[Shard]
    records: Sequence[Record]
    outcome: Outcome
    split: dict[str, str]
    salt: str
    source: str
    format: str
    virtual: bool
    shard_size: int
    preparation: dict[str, Any]


def _added(made: Made) -> dict[str, int]:
    """How many images and patients `prepare.extra` brought; {} for none."""
    patients = [made.records[i].patient for i in made.outcome.usable if made.records[i].added]
    return {"images": len(patients), "patients": len(set(patients))} if patients else {}


def finish(out: Path, made: Made) -> None:
    """Write records.csv, rejected.csv and, last, manifest.json, then remove what only an unfinished folder needs."""
    labels = sorted_labels({made.records[i].label for i in made.outcome.usable} - {None})
    rows = _rows(made, labels)
    if not made.outcome.masks:
        _remove(out, "shards/[0-9]*.masks.npy")
    digest = hashlib.sha256()
    for shard in made.shards:
        for name, content in sorted(shard.digests.items()):
            if made.outcome.masks or not name.endswith("masks.npy"):
                digest.update(f"{name} {content}\n".encode())
    patients = {(row.split, row.patient) for row in rows}
    if made.outcome.masks and not all(row.masked for row in rows):
        digest.update("".join(str(row.masked) for row in rows).encode())
    manifest = Manifest(
        spec=_spec(made, labels),
        intensity=_intensity(made),
        counts={split: sum(row.split == split for row in rows) for split in SPLITS},
        patients={split: sum(name == split for name, _ in patients) for split in SPLITS},
        shard_size=made.shard_size,
        source_hash=made.source,
        data_hash=digest.hexdigest(),
        rejected=sum(not line.skipped for line in made.outcome.rejected),
        duplicates=made.outcome.duplicates,
        left_out=made.outcome.left_out,
        added=_added(made),
        conditions=_quantiles(made),
        preparation=made.preparation,
        few_values=sum(entry.few_values for entry in _used(made)) / len(rows),
    )
    write_csv(out / "records.csv", ROW_FIELDS, [[getattr(row, name) for name in ROW_FIELDS] for row in rows])
    write_rejected(out / "rejected.csv", made.outcome.rejected)
    write_atomically(out / "manifest.json", json.dumps(manifest.to_json(), indent=1))
    _tidy(out)


def sorted_labels(labels: set[Any]) -> tuple[str, ...]:
    """Class names in order: as numbers when all are numbers."""
    return tuple(sorted(labels, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name)))


def _rows(made: Made, labels: tuple[str, ...]) -> list[Row]:
    places = [(number, entry) for number, shard in enumerate(made.shards) for entry in shard.entries]
    rows, wholes = [], dict[str | int, int]()
    for i in made.outcome.usable:
        record, (number, entry) = made.records[i], places[i]
        image = record.image if record.image >= 0 else wholes.setdefault(record.volume or i, len(wholes))
        patient = hashlib.sha256(f"{made.salt}:{record.patient}".encode()).hexdigest()[:16]
        label = -1 if record.label is None else labels.index(record.label)
        rows.append(
            Row(
                split=made.split[record.patient],
                label=label,
                patient=patient,
                shard=number,
                row=entry.row,
                low=entry.low,
                high=entry.high,
                conditions=";".join(f"{number:.7g}" for number in record.conditions.values()),
                masked=int(not made.outcome.masks or entry.mask_values is not None),
                spacing=";".join(f"{step:.7g}" for step in entry.spacing or ()),
                added=record.added,
                image=image,
                drawn=record.drawn,
            )
        )
    return rows


def _quantiles(made: Made) -> dict[str, list[float]]:
    """Of each number the quantiles over the training images, from which `generate` draws."""
    training = [made.records[i] for i in made.outcome.usable if made.split[made.records[i].patient] == "train"]
    steps = np.linspace(0, 1, QUANTILES)
    return {name: np.quantile([record.conditions[name] for record in training], steps).tolist()
            for name in _names(made) if training}


def _names(made: Made) -> tuple[str, ...]:
    return tuple(made.records[made.outcome.usable[0]].conditions)


def _used(made: Made) -> list[Entry]:
    entries = [entry for shard in made.shards for entry in shard.entries]
    return [entries[i] for i in made.outcome.usable]


def _spec(made: Made, labels: tuple[str, ...]) -> ImageSpec:
    used = _used(made)
    spacings = [entry.spacing for entry in used if entry.spacing is not None]
    known = len(spacings) == len(used)
    values = sorted({0}.union(*(entry.mask_values or () for entry in used))) if made.outcome.masks else []
    windows = [entry.window for entry in used if entry.window is not None]
    intensity = _intensity(made)
    return ImageSpec(
        channels=used[0].channels,
        size=made.plan.size,
        labels=labels,
        conditions=_names(made),
        mask_classes=1 + values[-1] if values else 0,
        mask_values=tuple(values),
        spacing=tuple(median(axis) for axis in zip(*spacings, strict=True)) if known else None,
        modality=made.plan.modality,
        units=made.plan.units,
        kinds=made.plan.kinds,
        bits=max(entry.bits for entry in used),
        format=made.format,
        virtual=made.virtual,
        directions=common_directions(entry.directions for entry in used) if known else None,
        laid=used[0].laid if len({entry.laid for entry in used}) == 1 else None,
        flat=all(entry.flat for entry in used),
        window=tuple(median(end) for end in zip(*windows, strict=True)) if len(windows) * 2 > len(used) else None,
        values=(intensity.low, intensity.high),
        partly_masked=bool(values) and any(entry.mask_values is None for entry in used),
        mask_names=() if made.plan.instances else mask_names(made.records, values),
    )


def mask_names(records: Sequence[Record], values: Sequence[int]) -> tuple[str, ...]:
    """What label values mean, as the first record that says something has it; () where none does."""
    told = next((record.mask_names for record in records if record.mask_names), None)
    return () if told is None else tuple(
        told.get(value, f"label {value}" if value else "background") for value in values)


def _intensity(made: Made) -> IntensityMap:
    """The data's map. Stored bits: no more than the data takes, so that 12 bits in 16 still fill [-1, 1]."""
    used, intensity = _used(made), made.plan.intensity
    if intensity.method == "percentiles":
        low, high = median(entry.low for entry in used), median(entry.high for entry in used)
        of_channels = [[own for own in channel if own is not None] or [(low, high)]
                       for channel in zip(*(entry.ranges for entry in used), strict=True)]
        ranges = tuple((median(low for low, _ in own), median(high for _, high in own)) for own in of_channels)
        return replace(intensity, low=low, high=high, ranges=ranges)
    if intensity.method == "bits" and intensity.levels > 255:
        levels = 2 ** max(9, max(entry.top for entry in used).bit_length()) - 1
        return replace(intensity, high=float(levels), levels=levels)
    return intensity
