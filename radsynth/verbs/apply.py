"""Applies: a trained run and images in; what it makes of them out, in their format and geometry."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from radsynth import io
from radsynth.datasets import Record, Rejected
from radsynth.errors import DataError, FolderError, RejectedFile, SettingsError
from radsynth.files import check_new, is_free, whole_folder, write_atomically
from radsynth.progress import tell, track
from radsynth.run_folder import RunFolder
from radsynth.tasks import segments
from radsynth.verbs._applying import few_values, not_found, notes
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.beside import Beside
from radsynth.verbs._applying.goals import Goals
from radsynth.verbs._applying.inputs import input_records
from radsynth.verbs._applying.limits import ENOUGH, false_alarms, flagged_slices, flags, judged_by, read_limits
from radsynth.verbs._applying.masks_beside import masks_beside
from radsynth.verbs._applying.painter import Painter, mask_records, paint_all
from radsynth.verbs._applying.results import write_result
from radsynth.verbs._applying.segmenter import Segmenter
from radsynth.verbs._applying.targets import over_pairs
from radsynth.verbs._journal import JUDGED, Journal, begun, close
from radsynth.verbs._made_before import HOLDS_OTHER, MADE, differences, rows_made
from radsynth.verbs._rejected import harmless, write_rejected
from radsynth.verbs._report.landmarks import landmarks_page
from radsynth.verbs._writing import check_name, write_table

PAGE = "report.html"
SHOWN = 5
"""Reasons that an error gives at most."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What was made: its folder, the number of results, and the input that could not be used (rejected.csv).

    target: the domain or class that was gone to, None where there is no choice; flagged: results that samples.csv flags
    as doubtful, None where the run has not measured what is usual; unchecked: what some files did not say of themselves
    target_error: of registered pairs with landmarks, see `targets.over_pairs`; report: a page on it, None without
    """

    folder: Path
    count: int
    target: str | None = None
    flagged: int | None = 0
    unchecked: tuple[str, ...] = ()
    target_error: Mapping[str, Any] = field(default_factory=dict)
    report: Path | None = None
    rejected: tuple[Rejected, ...] = ()


def apply(run: Path, input: Path, out: Path, *, format: str | None = None, target: str | None = None,
          onto: Path | None = None, labels: Path | None = None, landmarks: Path | None = None,
          onto_landmarks: Path | None = None, resample: bool = False, style: Path | None = None,
          seed: int | None = None, contrasts: Sequence[str] = ()) -> Applied:
    """Write what the run makes of every image in `input` (a file, a folder, an archive) into the new folder `out`.

    format: of the results, by default each image's own (label maps of DICOM images are segmentation objects, SEG, or
    NIfTI where the image has no place); target: the domain to go to, for unpaired translation.
    resample: bring images with other spacing to that of the training, and results back to the images' own grids (a
    registration does so anyway, and refuses it).
    onto: for registration, the image that all are put onto, or several: each is put onto that of its patient, of
    several of these that of its name; labels: their label file, or a folder of such by name; landmarks: their file of
    landmarks, or a folder; onto_landmarks: the file of those in `onto`, or a folder, to measure by.
    style, seed: for images of masks, an image that lends its style, or (without one: 0) where styles are drawn from:
    that of mask k depends on (seed, k) alone, so that other seeds give other images of the same masks; slices of one
    patient share that of the first.
    contrasts: how images of the training's contrasts are found where files or DICOM series have other names than there,
    name=regular expression.
    samples.csv tells which result comes from which image. A folder that holds the same request already is left as it
    is. Raises SettingsError for a run that takes no images, DataError when no image can be used (with the first reason:
    other modality, channels or spacing than the run was trained on), FolderError when `out` holds something else.
    """
    beside = Beside(**{name: None if path is None else Path(path) for name, path in (
        ("labels", labels), ("landmarks", landmarks), ("onto_landmarks", onto_landmarks))})
    check_name(format)
    kind = RunFolder(run).load_weights()[1].get("task")
    _refuse_unfit(Path(run), kind, target, onto, beside, resample, style, seed, contrasts)
    _refuse_place(Path(out), Path(input))
    if kind == "register":
        return _apply_onto(run, Path(input), Path(out), format, Path(cast(Path, onto)), beside, contrasts)
    if kind == "semantic":
        return _apply_masks(Painter(run, target, seed or 0, style, resample), Path(input), Path(out), format, style)
    applier = (Segmenter if kind == "segment" else Applier)(run, target, resample)
    trained_on, source = applier.trained_on.finding(contrasts), Path(input)
    applier.trained_on = trained_on
    records, rejected = input_records(source, trained_on.modality, trained_on.sought(applier.task.inputs))
    request = {"input": source.name, "files": files_hash(source), "format": format, "target": applier.target,
               "weights": applier.facts["sha256"], **({"resample": True} if resample else {}), **_found_by(contrasts)}
    return _filled(applier.run, Path(out), request, source, rejected,
                   lambda folder, journal: _apply_all(applier, records, rejected, folder, format, journal))


def _filled(run: Path, out: Path, request: dict[str, object], source: Path, rejected: list[Rejected],
            make: Callable[[Path, Journal], Iterator[dict[str, object]]]) -> Applied:
    """The folder `out` with what `make` writes into a folder, its rows as samples.csv; whole or not there."""
    judged = judged_by(run)
    held = None
    if not is_free(out):
        held, by = _left_as_it_is(out, request)
        whole = len(rows_made(out, held.count)) == held.count
        if whole and (held.flagged is not None or not judged["limits"] or by == judged):
            close(out)  # which the command that made it may not have come to
            return held
        tell(f"mind: {out} was made before {run} had measured what is usual: its results are made again, to be flagged"
             if whole else f"mind: files in {out} are missing or were cut: its results are made again")
    made_by = {**request, JUDGED: judged}  # what `run` measures meanwhile must not be true of some alone
    with whole_folder(out, keep=lambda partial: begun(partial, made_by), last=MADE if held else "") as partial:
        journal = Journal(partial, made_by, out)
        rows = list(make(partial, journal))
        notes.tell_of(rows)
        few_values.tell_of(rows)
        not_found.tell_of(rows)
        if not rows:
            raise DataError(f"{source}: no image could be used.{_reasons(rejected)}")
        write_table(partial / "samples.csv", [{**row, "source": harmless(str(row["source"]))} for row in rows])
        write_rejected(partial / "rejected.csv", rejected)
        told = _told(rows)
        if told["target_error"]:
            write_atomically(partial / PAGE, landmarks_page(
                partial, rows, told["target_error"], str(request["onto"]), str(request["weights"]),
                judged))
        write_atomically(partial / MADE, json.dumps({**made_by, **told}, indent=1))
    close(out)
    return Applied(folder=out, target=_target(request), rejected=tuple(rejected), report=_page(out), **told)


def _page(out: Path) -> Path | None:
    return out / PAGE if (out / PAGE).is_file() else None


def _target(request: dict[str, object]) -> str | None:
    return str(request.get("target") or "") or None


def _told(rows: list[dict[str, object]]) -> dict[str, Any]:
    """What is said of all results together: see `Applied`."""
    flags = {row["index"]: str(row["flagged"]) for row in rows}
    unchecked = {word for row in rows for word in str(row.get("unchecked", "")).split()}
    return {"count": len(flags), "flagged": None if "unknown" in flags.values() else sum(map(bool, flags.values())),
            "unchecked": tuple(sorted(unchecked)), "target_error": over_pairs(rows)}


def _refuse_place(out: Path, source: Path) -> None:
    """FolderError for an output folder that cannot take results, before any image is looked at."""
    if source.is_dir() and source.resolve() in out.resolve().parents:
        raise FolderError(f"{out} lies in {source}, whose images are used: results would be among them the next time. "
                          "Choose an output folder elsewhere.")
    check_new(out)
    if not is_free(out) and not (out / MADE).is_file():
        raise FolderError(HOLDS_OTHER.format(out))


def _refuse_unfit(run: Path, kind: str | None, target: str | None, onto: Path | None, beside: Beside, resample: bool,
                  style: Path | None, seed: int | None, contrasts: Sequence[str]) -> None:
    """SettingsError for what only a run of another kind takes, or for what one of this kind lacks."""
    if kind == "register" and onto is None:
        raise SettingsError(f"{run} registers images: name the one that they are put onto, with --onto FIXED.")
    if kind == "register" and target is not None:
        raise SettingsError(f"target={target!r}: {run} registers images and has no choice of targets.")
    if kind == "register" and resample:
        raise SettingsError(f"--resample: {run} registers images, which are brought to the training's pixel size "
                            "anyway, and results lie on the grid of FIXED. Leave it out.")
    if kind != "register" and (onto is not None or beside != Beside()):
        raise SettingsError(f"{run} registers no images: --onto, --labels and landmarks are for runs with "
                            "task.kind=register.")
    if style is not None and seed is not None:
        raise SettingsError("--style lends an image's style to every mask, --seed draws a style for each: give one of "
                            "them.")
    if kind != "semantic" and (style is not None or seed is not None):
        raise SettingsError(f"{run} paints no masks: --style and --seed are for runs with task.kind=semantic.")
    if kind == "semantic" and contrasts:
        raise SettingsError(f"{run} paints masks, which are of no contrast: leave --contrast out.")


def _found_by(contrasts: Sequence[str]) -> dict[str, object]:
    """What a request says of contrasts; nothing without, as requests of before."""
    return {"contrasts": sorted(contrasts)} if contrasts else {}


def _apply_onto(run: Path, source: Path, out: Path, format: str | None, onto: Path, beside: Beside,
                contrasts: Sequence[str]) -> Applied:
    """As `apply`, for a registration."""
    from radsynth.verbs._applying.registrar import Registrar, put_onto

    beside.check()
    registrar = Registrar(run)
    trained_on = registrar.trained_on = registrar.trained_on.finding(contrasts)
    pattern = trained_on.patient_pattern
    candidates, unusable = input_records(onto, trained_on.modality, trained_on.sought(registrar.task.fixed),
                                         patient_pattern=pattern)
    goals = Goals(onto, candidates, unusable)
    records, rejected = input_records(source, trained_on.modality, trained_on.sought(registrar.task.moving),
                                      masks=beside.labels is None, patient_pattern=pattern)
    request: dict[str, object] = {
        "input": source.name, "files": files_hash(source, onto, *beside.paths().values()), "format": format,
        "onto": onto.name, "labels": None, **{name: path.name for name, path in beside.paths().items()},
        "weights": registrar.facts["sha256"], **_found_by(contrasts)}
    return _filled(Path(run), out, request, source, rejected, lambda folder, journal: put_onto(
        registrar, goals, beside.images_alone(records, source, rejected), rejected, folder, format, beside, journal))


def _apply_masks(painter: Painter, source: Path, out: Path, format: str | None, style: Path | None) -> Applied:
    """As `apply`, for images of masks."""
    rejected: list[Rejected] = []
    records = mask_records(source, rejected, painter.trained_on.patient_pattern, painter.spec.label_names())
    files = files_hash(source, style)
    request: dict[str, object] = {"input": source.name, "files": files, "format": format, "target": painter.target,
                                  "style": None if style is None else Path(style).name, "seed": painter.seed,
                                  "weights": painter.facts["sha256"],
                                  **({"resample": True} if painter.resample else {})}
    return _filled(painter.run, out, request, source, rejected, lambda folder, journal: paint_all(
        painter, records, rejected, folder, format, journal))


def _apply_all(applier: Applier, records: Iterator[Record], rejected: list[Rejected], folder: Path, format: str | None,
               journal: Journal) -> Iterator[dict[str, object]]:
    """Convert and write image by image; yields rows of samples.csv."""
    usual, patients = read_limits(applier.run, applier.checks, applier.target, applier.crops)
    if usual and patients < ENOUGH:
        tell(f"mind: by chance, each check flags {false_alarms(patients)}")
    expected = not_found.read_expected(applier.run) if segments(applier.task) else ()
    labels = applier.spec.label_names() if segments(applier.task) else None
    images = list(records)
    masks_beside(images, rejected)
    for record in track(images, None, "applying", "images"):
        if made := journal.made(record.source):
            yield from made
            continue
        try:
            image = record.load()
            result, found = applier.convert(image)
            chosen = format or (record.header.format if record.header else applier.spec.format)
            if not format and chosen == "dicom" and labels and image.affine is None:
                chosen = "nifti"  # DICOM's segmentations lie in the patient's coordinates
            index = journal.free()
            files = write_result(applier.facts, image, result, record, folder / "images", chosen, index, labels)
        except RejectedFile as error:
            rejected.append(Rejected(path=record.source, reason=str(error)))
            continue
        means = {name: float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else math.nan
                 for name, values in found.items()}
        lacks = not_found.lacking(result.pixels, expected)
        flagged = few_values.flagged(flags(means, usual), image, applier.trained_on.few_values)
        yield from journal.add([
            {"file": file.relative_to(folder).as_posix(), "index": index, "source": record.source,
             **applier.missing(image),
             **({not_found.FLAG: ", ".join(map(applier.spec.label_name, lacks))} if expected else {}),
             **{name: "" if math.isnan(value) else f"{value:.3g}" for name, value in means.items()},
             "flagged": not_found.flagged(flagged, lacks),
             "slices": flagged_slices(found, usual, applier.turned(image, chosen)),
             "unchecked": applier.trained_on.unchecked(image, record),
             notes.COLUMN: notes.notes_of(record, image, across=applier.trained_on.across(image))}
            for file in files])


def files_hash(*paths: Path | None) -> str:
    """A hash of the names, sizes and times of change of files, with those of their pixels, and of those in folders:
    others of one name differ."""
    found = []
    for path in (Path(path) for path in paths if path is not None):
        inside = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        found += [(file.relative_to(path).as_posix(), file.lstat()) for file in inside or [path]]
        found += [(Path(file).name, Path(file).lstat()) for file in io.beside(path)]
    told = sorted((name, about.st_size, about.st_mtime_ns) for name, about in found)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _left_as_it_is(out: Path, request: dict[str, object]) -> tuple[Applied, object]:
    """The results that `out` holds already, and what they were judged by; FolderError when they are of another request
    (what differs), or none."""
    try:
        document = dict(json.loads((out / MADE).read_text(encoding="utf-8")))
        held = Applied(folder=out, target=_target(request), count=int(document["count"]),
                       flagged=document.get("flagged"), unchecked=tuple(document.get("unchecked", ())),
                       target_error=document.get("target_error", {}), report=_page(out))
    except (OSError, ValueError, TypeError, KeyError):
        raise FolderError(HOLDS_OTHER.format(out)) from None
    differ = differences({name: document.get(name) for name in {*request, "resample", "contrasts"}}, request)
    if differ:
        raise FolderError(f"{out} holds other results ({differ}). Choose another output folder, or remove it first.")
    return held, document.get(JUDGED)


def _reasons(rejected: list[Rejected]) -> str:
    """Why no image could be used: the commonest reasons first, each with a file that it is true of."""
    found: dict[str, list[str]] = {}
    for line in rejected:
        if not line.skipped:
            found.setdefault(line.reason, []).append(line.path)
    told = [f"{paths[0]}{f' and {len(paths) - 1:,} more' if len(paths) > 1 else ''}: {reason}"
            for reason, paths in sorted(found.items(), key=lambda one: -len(one[1]))]
    if len(told) < 2:
        return f" {told[0]}." if told else " There are none."
    rest = f"\n  and {len(told) - SHOWN:,} more reasons" if len(told) > SHOWN else ""
    return "\n  " + "\n  ".join(told[:SHOWN]) + rest
