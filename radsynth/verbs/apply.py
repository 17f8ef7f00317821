"""Applies: a trained run and images in; what it makes of them out, in their format and geometry."""

from __future__ import annotations

import csv
import hashlib
import io as text_io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np

from radsynth.datasets import Record, Rejected
from radsynth.errors import DataError, FolderError, RejectedFile, SettingsError
from radsynth.files import whole_folder, write_atomically
from radsynth.image import Image
from radsynth.io import Provenance, format_module, write
from radsynth.progress import track
from radsynth.run_folder import RunFolder
from radsynth.tasks import segments
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.beside import Beside
from radsynth.verbs._applying.doubts import flagged_slices, flags, read_limits
from radsynth.verbs._applying.inputs import input_records
from radsynth.verbs._applying.paint import Painter, mask_records, paint_all
from radsynth.verbs._applying.segmenter import applier_of
from radsynth.verbs._journal import Journal, begun
from radsynth.verbs._rejected import write_rejected


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was made: its folder, the number of results, and the input that could not be used (rejected.csv).

    target: the domain or class that was gone to, None where there is no choice; flagged: results that samples.csv flags
    as doubtful, None where the run has not measured what is usual; unchecked: what some files did not say of themselves
    target_error: of how many registered pairs landmarks were given, and their mean distance in mm, before and after
    """

    folder: Path
    count: int
    target: str | None = None
    flagged: int | None = 0
    unchecked: tuple[str, ...] = ()
    target_error: Mapping[str, float] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()


def apply(run: Path, input: Path, out: Path, *, format: str | None = None, target: str | None = None,
          onto: Path | None = None, labels: Path | None = None, landmarks: Path | None = None,
          onto_landmarks: Path | None = None, resample: bool = False, style: Path | None = None,
          seed: int | None = None) -> Applied:
    """Write what the run makes of every image in `input` (a file, a folder, an archive) into the new folder `out`.

    format: of the results, by default each image's own (label maps of DICOM images: NIfTI); target: the domain to go
    to, for unpaired translation.
    resample: bring images with other spacing to that of the training, and results back to the images' own grids.
    onto: for registration, the image that all are put onto; labels: their label file, or a folder of such by name;
    landmarks: their file of landmarks, or a folder; onto_landmarks: the file of those in `onto`, to measure by.
    style, seed: for images of masks, an image that lends its style, or (without one: 0) where styles are drawn from:
    that of mask k depends on (seed, k) alone, so that other seeds give other images of the same masks.
    samples.csv tells which result comes from which image. A folder that holds the same request already is left as it
    is. Raises SettingsError for a run that takes no images, DataError when no image can be used (with the first reason:
    other modality, channels or spacing than the run was trained on), FolderError when `out` holds something else.
    """
    paints = _paints(run, style, seed)
    beside = Beside(**{name: None if path is None else Path(path) for name, path in (
        ("labels", labels), ("landmarks", landmarks), ("onto_landmarks", onto_landmarks))})
    if _registers(run, onto, beside, target):
        return _apply_onto(run, Path(input), Path(out), format, Path(cast(Path, onto)), beside)
    if paints:
        return _apply_masks(Painter(run, target, seed or 0, style, resample), Path(input), Path(out), format, style)
    applier, source = applier_of(run, target, format, resample), Path(input)
    trained_on = applier.trained_on
    records, rejected = input_records(source, trained_on.modality, trained_on.sought(applier.task.inputs))
    request = {"input": source.name, "files": files_hash(source), "format": format, "target": applier.target,
               "weights": applier.facts["sha256"], **({"resample": True} if resample else {})}
    return _filled(Path(out), request, source, rejected,
                   lambda folder, journal: _apply_all(applier, records, rejected, folder, format, journal))


def _filled(out: Path, request: dict[str, object], source: Path, rejected: list[Rejected],
            make: Callable[[Path, Journal], Iterator[dict[str, object]]]) -> Applied:
    """The folder `out` with what `make` writes into a folder, its rows as samples.csv; whole or not there."""
    if source.is_dir() and source.resolve() in out.resolve().parents:
        raise FolderError(f"{out} lies in {source}, whose images are used: results would be among them the next time. "
                          "Choose an output folder elsewhere.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        return _left_as_it_is(out, request)
    with whole_folder(out, keep=lambda partial: begun(partial, request)) as partial:
        journal = Journal(partial, request)
        rows = list(make(partial, journal))
        if not rows:
            raise DataError(f"{source}: no image could be used. {_first_reason(rejected)}")
        _write_table(partial / "samples.csv", list(rows[0]), rows)
        write_rejected(partial / "rejected.csv", (line for line in rejected if not line.skipped))
        told = _told(rows)
        write_atomically(partial / "apply.json", json.dumps({**request, **told}, indent=1))
        journal.close()
    return Applied(folder=out, target=_target(request), rejected=tuple(rejected), **told)


def _target(request: dict[str, object]) -> str | None:
    return str(request.get("target") or "") or None


def _told(rows: list[dict[str, object]]) -> dict[str, Any]:
    """What is said of all results together: see `Applied`."""
    flags = {row["index"]: str(row["flagged"]) for row in rows}
    unchecked = {word for row in rows for word in str(row.get("unchecked", "")).split()}
    return {"count": len(flags), "flagged": None if "unknown" in flags.values() else sum(map(bool, flags.values())),
            "unchecked": tuple(sorted(unchecked)), "target_error": _target_error(rows)}


def _target_error(rows: list[dict[str, object]]) -> dict[str, float]:
    """Means over pairs of images, each of which counts the same; {} without landmarks."""
    pairs = {row["index"]: row for row in rows if "target_error" in row}.values()
    before, after = ([float(str(row[name])) for row in pairs] for name in ("target_error_before", "target_error"))
    return {"pairs": len(pairs), "before_mm": fmean(before), "after_mm": fmean(after)} if pairs else {}


def _registers(run: Path, onto: Path | None, beside: Beside, target: str | None) -> bool:
    """Whether the run is a registration; SettingsError when it is none and is given what only one needs, or none is."""
    wanted = RunFolder(run).load_weights()[1].get("task") == "register"
    if wanted and onto is None:
        raise SettingsError(f"{run} registers images: name the one that they are put onto, with --onto FIXED.")
    if wanted and target is not None:
        raise SettingsError(f"target={target!r}: {run} registers images and has no choice of targets.")
    if not wanted and (onto is not None or beside != Beside()):
        raise SettingsError(f"{run} registers no images: --onto, --labels and landmarks are for runs with "
                            "task.kind=register.")
    return wanted


def _apply_onto(run: Path, source: Path, out: Path, format: str | None, onto: Path, beside: Beside) -> Applied:
    """As `apply`, for a registration."""
    from radsynth.verbs._applying.onto import Registrar, one_image, put_onto

    beside.check()
    registrar = Registrar(run)
    trained_on = registrar.trained_on
    candidates, unusable = input_records(onto, trained_on.modality, trained_on.sought(registrar.task.fixed))
    fixed = one_image(candidates, onto, unusable)
    records, rejected = input_records(source, trained_on.modality, trained_on.sought(registrar.task.moving))
    request: dict[str, object] = {
        "input": source.name, "files": files_hash(source, onto, *beside.paths().values()), "format": format,
        "onto": onto.name, "labels": None, **{name: path.name for name, path in beside.paths().items()},
        "weights": registrar.facts["sha256"]}

    def write_warped(applier: Any, moving: Image, warped: Image, folder: Path, index: int, chosen: str) -> list[Path]:
        return _write(applier, moving, warped, folder / f"{index:06d}{_ending(fixed, chosen)}", chosen, index)

    return _filled(out, request, source, rejected, lambda folder, journal: put_onto(
        registrar, fixed, records, rejected, folder, format, beside, write_warped, journal))


def _paints(run: Path, style: Path | None, seed: int | None) -> bool:
    """Whether the run paints masks; SettingsError when it does not and is given what only one that does takes, and for
    a style that is both lent and drawn."""
    wanted = RunFolder(run).load_weights()[1].get("task") == "semantic"
    if style is not None and seed is not None:
        raise SettingsError("--style lends an image's style to every mask, --seed draws a style for each: give one of "
                            "them.")
    if not wanted and (style is not None or seed is not None):
        raise SettingsError(f"{run} paints no masks: --style and --seed are for runs with task.kind=semantic.")
    return wanted


def _apply_masks(painter: Painter, source: Path, out: Path, format: str | None, style: Path | None) -> Applied:
    """As `apply`, for images of masks."""
    rejected: list[Rejected] = []
    files = files_hash(source, style)
    request: dict[str, object] = {"input": source.name, "files": files, "format": format, "target": painter.target,
                                  "style": None if style is None else Path(style).name, "seed": painter.seed,
                                  "weights": painter.facts["sha256"],
                                  **({"resample": True} if painter.resample else {})}

    def write_image(mask: Image, image: Image, folder: Path, index: int, chosen: str, record: Record) -> list[Path]:
        return _write(painter, mask, image, folder / f"{index:06d}{_ending(record, chosen)}", chosen, index)

    return _filled(out, request, source, rejected, lambda folder, journal: paint_all(
        painter, mask_records(source, rejected), rejected, folder, format, write_image, journal))


def _apply_all(applier: Applier, records: Iterator[Record], rejected: list[Rejected], folder: Path, format: str | None,
               journal: Journal) -> Iterator[dict[str, object]]:
    """Convert and write image by image; yields rows of samples.csv."""
    usual = read_limits(applier.run, applier.checks, applier.target)
    for record in track(list(records), None, "applying", "images"):
        if made := journal.made(record.source):
            yield from made
            continue
        try:
            image = record.load()
            result, found = applier.convert(image)
        except RejectedFile as error:
            rejected.append(Rejected(path=record.source, reason=str(error)))
            continue
        chosen = format or (record.header.format if record.header else applier.spec.format)
        if chosen == "dicom" and segments(applier.task):
            chosen = "nifti"  # DICOM has objects of their own for label maps, which are not written
        index = journal.free()
        stem = f"{index:06d}{_ending(record, chosen)}"
        means = {name: float(values.mean()) for name, values in found.items()}
        yield from journal.add([
            {"file": file.relative_to(folder).as_posix(), "index": index, "source": record.source,
             **applier.missing(image),
             **{name: "" if math.isnan(value) else f"{value:.3g}" for name, value in means.items()},
             "flagged": flags(means, usual), "slices": flagged_slices(found, usual, applier.turned(image, chosen)),
             "unchecked": applier.trained_on.unchecked(image, record)}
            for file in _write(applier, image, result, folder / "images" / stem, chosen, index)])


def _ending(record: Record, format: str) -> str:
    """The image's own ending if results can be written with it, else the format's usual one."""
    own = Path(record.files[0]).name.lower() if record.files else ""
    endings = [ending for ending in format_module(format).SUFFIXES if ending not in (".jpg", ".jpeg", ".npy", ".hdr")]
    volume = record.header is not None and len(record.header.size) == 3
    usual = ".tiff" if format == "picture" and volume else endings[0]
    return max((ending for ending in endings if own.endswith(ending)), key=len, default=usual)


def _write(applier: Any, image: Image, result: Image, path: Path, format: str, index: int) -> list[Path]:
    """One file, or one for each channel where the format has no room for several."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = hashlib.sha256(np.ascontiguousarray(image.pixels).tobytes()).hexdigest()
    text = f"Task: {applier.facts['task']}. It is no acquisition: details may be wrong or made up."
    provenance = Provenance(model=applier.facts["model"], weights=applier.facts["sha256"], seed=0, index=index,
                            description=text, window=result.window, source=source)
    if format == "npz" or len(result.channels) == 1 or result.channels == image.channels:
        return write(result, path, provenance=provenance, format=format)
    written = []
    for channel, name in enumerate(result.channels):
        single = result.replace(pixels=result.pixels[channel:channel + 1], channels=(name,))
        alone = path.with_name(path.name.replace(f"{index:06d}", f"{index:06d}_{name}", 1))
        written += write(single, alone, provenance=provenance, format=format)
    return written


def files_hash(*paths: Path | None) -> str:
    """A hash of the names, sizes and times of change of files, and of those in folders: others of one name differ."""
    found = []
    for path in (Path(path) for path in paths if path is not None):
        inside = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        found += [(file.relative_to(path).as_posix(), file.lstat()) for file in inside or [path]]
    told = sorted((name, about.st_size, about.st_mtime_ns) for name, about in found)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _left_as_it_is(out: Path, request: dict[str, object]) -> Applied:
    """The results that `out` holds already; FolderError when they are of another request, or no results."""
    try:
        document = json.loads((out / "apply.json").read_text(encoding="utf-8"))
        if all(document.get(name) == request.get(name) for name in {*request, "resample"}):
            return Applied(folder=out, target=_target(request), count=int(document["count"]),
                           flagged=document.get("flagged"), unchecked=tuple(document.get("unchecked", ())),
                           target_error=document.get("target_error", {}))
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
