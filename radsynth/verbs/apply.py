"""Applies: a trained run and images in; what it makes of them out, in their format and geometry."""

from __future__ import annotations

import csv
import hashlib
import io as text_io
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.datasets import Record, Rejected, dataset, recognise
from radsynth.errors import DataError, FolderError, RejectedFile
from radsynth.files import write_atomically
from radsynth.image import Image
from radsynth.io import Provenance, format_module, write
from radsynth.progress import track
from radsynth.verbs._applier import Applier
from radsynth.verbs._doubts import flags, read_limits


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was made: its folder, the number of results, and the input that could not be used (rejected.csv)."""

    folder: Path
    count: int
    rejected: tuple[Rejected, ...] = ()


def apply(run: Path, input: Path, out: Path, *, format: str | None = None, target: str | None = None) -> Applied:
    """Write what the run makes of every image in `input` (a file, a folder, an archive) into the new folder `out`.

    format: of the results, by default each image's own; target: the domain to go to, for unpaired translation.
    samples.csv tells which result comes from which image. A folder that holds the same request already is left as it
    is. Raises SettingsError for a run that takes no images, DataError when no image can be used (with the first reason:
    other modality, channels or spacing than the run was trained on), FolderError when `out` holds something else.
    """
    applier, out, source = Applier(run, target), Path(out), Path(input)
    records, rejected = _records(source, applier.modality)
    request = {"input": source.name, "format": format, "target": applier.target, "weights": applier.facts["sha256"]}
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        return _left_as_it_is(out, request)
    partial = out.with_name(f".{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        rows = list(_apply_all(applier, records, rejected, partial, format))
        if not rows:
            raise DataError(f"{source}: no image could be used. {_first_reason(rejected)}")
        _write_table(partial / "samples.csv", list(rows[0]), rows)
        _write_table(partial / "rejected.csv", ["path", "reason"],
                     [{"path": r.path, "reason": r.reason} for r in rejected if not r.skipped])
        count = len({row["index"] for row in rows})
        write_atomically(partial / "apply.json", json.dumps({**request, "count": count}, indent=1))
        partial.rename(out)
    except OSError as error:
        raise FolderError(f"{out} could not be written: {error.strerror}. Nothing was left there; try again.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Applied(folder=out, count=count, rejected=tuple(rejected))


def _records(source: Path, modality: str) -> tuple[Iterator[Record], list[Rejected]]:
    """The images behind a path, volumes whole."""
    kind, rejected = recognise(source), list[Rejected]()
    module = dataset(kind)
    more: dict[str, Any] = {"plane": "whole", "labels": "none"} if kind == "folder" else {}
    return module.records(module.Settings(path=source, modality=modality, **more), rejected), rejected


def _apply_all(applier: Applier, records: Iterator[Record], rejected: list[Rejected], folder: Path, format: str | None,
               ) -> Iterator[dict[str, object]]:
    """Convert and write image by image; yields rows of samples.csv."""
    index, usual = 0, read_limits(applier.run)
    for record in track(list(records), None, "applying", "images"):
        try:
            image = record.load()
            result, found = applier.convert(image)
        except RejectedFile as error:
            rejected.append(Rejected(path=record.source, reason=str(error)))
            continue
        chosen = format or (record.header.format if record.header else applier.spec.format)
        stem = f"{index:06d}{_ending(record, chosen)}"
        for file in _write(applier, image, result, folder / "images" / stem, chosen, index):
            yield {"file": file.relative_to(folder).as_posix(), "index": index, "source": record.source,
                   **{name: "" if math.isnan(value) else f"{value:.3g}" for name, value in found.items()},
                   "flagged": flags(found, usual)}
        index += 1


def _ending(record: Record, format: str) -> str:
    """The image's own ending if results can be written with it, else the format's usual one."""
    own = Path(record.files[0]).name.lower() if record.files else ""
    endings = [ending for ending in format_module(format).SUFFIXES if ending not in (".jpg", ".jpeg", ".npy", ".hdr")]
    volume = record.header is not None and len(record.header.size) == 3
    usual = ".tiff" if format == "picture" and volume else endings[0]
    return max((ending for ending in endings if own.endswith(ending)), key=len, default=usual)


def _write(applier: Applier, image: Image, result: Image, path: Path, format: str, index: int) -> list[Path]:
    """One file, or one for each channel where the format has no room for several."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = hashlib.sha256(np.ascontiguousarray(image.pixels).tobytes()).hexdigest()
    text = f"Task: {applier.facts['task']}. It is no acquisition: details may be wrong or made up."
    provenance = Provenance(model=applier.facts["model"], weights=applier.facts["sha256"], seed=0, index=index,
                            description=text, window=None, source=source)
    if format == "npz" or len(result.channels) == 1 or result.channels == image.channels:
        return write(result, path, provenance=provenance, format=format)
    written = []
    for channel, name in enumerate(result.channels):
        single = result.replace(pixels=result.pixels[channel:channel + 1], channels=(name,))
        alone = path.with_name(path.name.replace(f"{index:06d}", f"{index:06d}_{name}", 1))
        written += write(single, alone, provenance=replace(provenance, source=f"{source}/{name}"), format=format)
    return written


def _left_as_it_is(out: Path, request: dict[str, object]) -> Applied:
    """The results that `out` holds already; FolderError when they are of another request, or no results."""
    try:
        document = json.loads((out / "apply.json").read_text(encoding="utf-8"))
        if {name: document.get(name) for name in request} == request:
            return Applied(folder=out, count=int(document["count"]))
    except (OSError, ValueError, KeyError):
        pass
    raise FolderError(f"{out} exists and holds something else. Choose another output folder, or remove it first.")


def _first_reason(rejected: list[Rejected]) -> str:
    told = [r for r in rejected if not r.skipped]
    return f"{told[0].path}: {told[0].reason}." if told else "There are none."


def _write_table(path: Path, fields: list[str], rows: list[dict[str, object]]) -> None:
    buffer = text_io.StringIO()
    table = csv.DictWriter(buffer, fields)
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, buffer.getvalue())
