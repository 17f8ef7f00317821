"""Registered contrasts: files or DICOM series of one examination become the channels of one image.

NIfTI and others by name: P1/t1.nii.gz beside P1/flair.nii.gz, or sub-01_T1w.nii.gz beside sub-01_FLAIR.nii.gz, with a
mask P1/seg.nii.gz or sub-01_seg.nii.gz. DICOM by series description. What lies on another grid is brought onto that of
the first contrast, as the headers say.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from radsynth.datasets import Record, Rejected
from radsynth.datasets._archives import opened
from radsynth.datasets._examination import Examination, header_of, kind_of
from radsynth.datasets._items import in_parts, series
from radsynth.datasets._layout import (
    PATIENT,
    PLAIN,
    Modality,
    mask_names,
    of_patient,
    patient_in,
    printable,
    stem,
    told_patient,
    with_untold,
)
from radsynth.datasets._structures import outlined
from radsynth.datasets._volumes import Source, cut_up
from radsynth.datasets._walking import files_below, without_data_files
from radsynth.errors import DataError, RadsynthError, SettingsError
from radsynth.io import Header, NotAnImage, detect, format_module
from radsynth.progress import track
from radsynth.settings import settings as section

NAMES = ("t1", "t1w", "t1n", "t1c", "t1ce", "t1gd", "t1post", "t1pre", "t2", "t2w", "t2f", "t2star", "flair", "pd",
         "pdw", "dwi", "adc", "swi", "mr", "mri", "ct", "cbct", "pet", "low", "full", "noisy", "clean")
"""Endings of file names that are known to be contrasts."""
KNOWN = re.compile(rf"(?i)(^|[_.-])(?P<name>{'|'.join(sorted(NAMES, key=len, reverse=True))})$")
MASK = re.compile(r"(?i)(^|[_.-])(seg|segmentation|mask|label|labels)$")
VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".png", ".tif", ".tiff", ".npy")
MASKS = "(mask)"
"""Where an examination's mask stands among its contrasts."""
GLANCE = 2000
"""Files that are looked at to recognise the layout."""


@section
class Settings:
    """Examinations with several registered contrasts, which become channels."""

    kind: Literal["contrasts"] = "contrasts"
    path: Path
    """The folder or archive."""
    contrasts: tuple[str, ...] = ()
    """Channels in their order, each the name that a file ends in or a series description has (t1, flair_reg), or
    name=regular expression sought in them; empty: those that at least half of the examinations have."""
    missing: Literal["blank", "reject"] = "blank"
    """An examination that lacks a contrast: leave its channel blank, or reject it."""
    plane: Literal["auto", "axial", "coronal", "sagittal", "volume", "whole"] = "auto"
    """How volumes are used: as slices of a plane (auto: as they were scanned, else axial), or whole."""
    patient_pattern: str = PATIENT
    """Regular expression with a group (?P<patient>...), sought in each path; else the examination is a patient. DICOM's
    Patient ID comes first, unless the pattern is one of your own."""
    modality: Modality = ""
    """DICOM's code where the files do not say."""
    unmasked: Literal["reject", "keep"] = "reject"
    """Examinations without a mask where most have one: reject them, or keep them
    (task.kind=segment learns from both)."""
    mask_names: tuple[str, ...] = ()
    """What label values of the masks mean, for tables and reports: 1=liver, 2=tumour. Of DICOM's segmentations and
    contours (SEG, RTSTRUCT) it chooses the structures of these names: 1=liver, 2=GTV|tumour."""
    minimum_foreground: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Slices at the ends of a volume that show less than this share of foreground are left out; 0 keeps all but
    those of a single value."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file or series. name: below the root, for messages; words: what a contrast's name is sought in."""

    name: str
    words: str
    examination: str
    source: Source
    header: Header
    planar: int | None = None
    fault: str | None = None
    mask: bool = False


def matches(path: Path) -> bool:
    """A folder in which at least two files of one examination end in names of contrasts."""
    path = Path(path)
    if not path.is_dir():
        return False
    found: dict[str, set[str]] = defaultdict(set)
    files = ((folder, name) for folder, _, names in os.walk(path) for name in names)
    for folder, name in itertools.islice(files, GLANCE):
        match = KNOWN.search(stem(name)) if name.lower().endswith(VOLUMES) else None
        if match:
            found[f"{folder}/{stem(name)[:match.start()]}"].add(_plain(match["name"]))
    return any(len(names) > 1 for names in found.values())


def records(settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    """Every image, slice or volume, by examination. DataError when no two contrasts belong together."""
    if not Path(settings.path).exists():
        raise DataError(f"{settings.path} does not exist. Give a folder or an archive (zip, tar).")
    pattern = _compiled(settings.patient_pattern)
    wanted = _wanted(settings.contrasts)
    root = opened(Path(settings.path), rejected)
    examinations: dict[str, dict[str, Part]] = defaultdict(dict)
    others: dict[str, None] = {}
    for part in _parts(root, settings, rejected):
        name = MASKS if part.mask else _called(part.words, part.source.format, wanted)
        if name is None:
            others[part.words] = None
            reason = f"it is none of the contrasts {', '.join(wanted)}" if wanted else "its name has no contrast"
            rejected.append(Rejected(path=part.name, reason=reason, skipped=True))
        elif part.fault:
            reason = f"{in_parts(part.source)}: {part.fault}"
            rejected.append(Rejected(path=part.name, reason=reason))
        elif name in examinations[part.examination]:
            other = examinations[part.examination][name].name
            rejected.append(Rejected(path=part.name, reason=f"{other} is this examination's {name} already"))
        else:
            examinations[part.examination][name] = part
    for key in [key for key, parts in examinations.items() if set(parts) == {MASKS}]:
        lonely = examinations.pop(key)[MASKS].name
        rejected.append(Rejected(path=lonely, reason="a mask without contrasts of its name", skipped=True))
    counts = Counter(name for parts in examinations.values() for name in parts if name != MASKS)
    channels = tuple(wanted) or tuple(sorted(name for name, n in counts.items() if 2 * n >= len(examinations)))
    if len(channels) < 2 and not wanted:
        there = ", ".join(sorted(counts)) or "none"
        raise DataError(f"{settings.path} holds no examinations with several contrasts; names found: {there}. Name "
                        "them with data.contrasts=[t1=REGULAR EXPRESSION,...], or use data.kind=folder.")
    if not examinations:
        more = ", ..." if len(others) > 5 else ""
        there = f" It holds {', '.join(itertools.islice(others, 5))}{more}." if others else ""
        first = next(iter(wanted))
        hint = (f" What is called otherwise is found by patterns: data.contrasts=[{first}=REGULAR EXPRESSION,...] in "
                f"training, --contrast '{first}=REGULAR EXPRESSION' in apply.")
        raise DataError(f"{settings.path} holds none of the contrasts {', '.join(settings.contrasts)}: the name of a "
                        "file has to end in one of them (P1/t1.nii.gz, sub-01_T1w.nii.gz), or the description of a "
                        f"DICOM series to be one.{there}{hint}")
    return _records(examinations, channels, settings, pattern, rejected)


def example(folder: Path) -> Settings:
    """Three patients with T1 and FLAIR as NIfTI, one with its FLAIR on a coarser grid."""
    import nibabel

    rng = np.random.default_rng(0)
    for number in range(3):
        (folder / f"P{number}").mkdir()
        for name, step in (("t1", 1), ("flair", 2 if number == 2 else 1)):
            values = rng.integers(50, 100, (20 // step, 24 // step, 5)).astype(np.int16)
            affine = np.diag([-step, -step, 1.0, 1.0])
            affine[:2, 3] = -(step - 1) / 2
            nibabel.save(nibabel.Nifti1Image(values, affine), folder / f"P{number}" / f"{name}.nii.gz")
    return Settings(path=folder)


def _compiled(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text, re.IGNORECASE) if text else None
    except re.error as error:
        raise SettingsError(f"data.contrasts, --contrast or data.patient_pattern: {text!r} is no regular expression: "
                            f"{error}") from None


def _plain(name: str) -> str:
    return PLAIN.get(name.lower(), name.lower())


def called(name: str, header: Header, contrasts: Sequence[str]) -> str | None:
    """Which of some contrasts (as of Settings) a file calls itself by its name, or by its series, of which one word is
    enough; None: none of them, or several."""
    words, wanted = stem(PurePosixPath(name).name), _wanted(contrasts)
    if header.format == "dicom":
        words = header.series or ""
    found = _called(words, header.format, wanted)
    if found is None and header.format == "dicom":
        single = wanted.keys() & set(re.split(r"[^a-z0-9]+", words.lower()))
        return single.pop() if len(single) == 1 else None
    return found


def _wanted(contrasts: Sequence[str]) -> dict[str, re.Pattern[str] | None]:
    return {name: _compiled(rule) for name, _, rule in (text.partition("=") for text in contrasts)}


def _called(words: str, format: str, wanted: dict[str, re.Pattern[str] | None]) -> str | None:
    """The channel that a part is: of those asked for the first whose expression is found, or whose name it has."""
    if format == "dicom":
        own = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    else:
        match = KNOWN.search(words)
        own = _plain(match["name"]) if match else ""
    if not wanted:
        return own or None
    return next((name for name, rule in wanted.items() if (rule.search(words) if rule else name == own)), None)


def _parts(root: Path, settings: Settings, rejected: list[Rejected]) -> Iterator[Part]:
    """Files and series below the root, sorted by path."""
    names, used = files_below(root, rejected)[1], list[str]()
    dicom = []
    for name in track(names, len(names), "reading headers", "files"):
        try:
            kind = detect(root / name)
            if kind == "dicom":
                dicom.append(name)
                continue
            header = format_module(kind).header(root / name)
        except RadsynthError as error:
            rejected.append(Rejected(path=printable(name), reason=str(error), skipped=isinstance(error, NotAnImage)))
            continue
        used += header.beside
        own, folder = stem(PurePosixPath(name).name), str(PurePosixPath(name).parent)
        mask = MASK.search(own)
        match = mask or KNOWN.search(own)
        yield Part(name=printable(name), words=own, header=header, mask=mask is not None,
                   examination=f"{folder}/{own[:match.start()] if match else ''}",
                   source=Source(format=kind, files=(str(root / name),), modality=settings.modality))
    without_data_files(root, used, rejected)
    yield from _series(root, dicom, settings, rejected)


def _series(root: Path, names: list[str], settings: Settings, rejected: list[Rejected]) -> Iterator[Part]:
    """DICOM series; those of one patient below one folder are an examination."""
    items, structures = series(root, names, settings.modality, rejected)
    folders = {item.name: PurePosixPath(item.name).parent for item in items}
    shared = len(set(folders.values())) < len(items)
    parts = []
    for item in items:
        folder = folders[item.name] if shared else folders[item.name].parent
        parts.append(Part(name=printable(item.name), words=item.header.series or "", source=item.source,
                          header=item.header, examination=f"{item.header.patient or ''}/{folder}", planar=item.planar,
                          fault=item.fault))
    yield from parts
    # What was drawn on one contrast is the mask of the whole examination, in the patient's coordinates.
    drawn = outlined(root, structures, items, [part.examination for part in parts], mask_names(settings.mask_names),
                     rejected)
    files: dict[str, dict[str, None]] = defaultdict(dict)
    for place, own in drawn.files.items():
        files[parts[place].examination] |= dict.fromkeys(own)
    for place in {parts[place].examination: place for place in drawn.files}.values():
        part = parts[place]
        source = replace(part.source, masks=tuple(files[part.examination]), structures=drawn.values)
        name = printable(Path(source.masks[0]).relative_to(root).as_posix())
        yield replace(part, name=name, source=source, fault=None, mask=True)


def _records(examinations: dict[str, dict[str, Part]], channels: tuple[str, ...], settings: Settings,
             pattern: re.Pattern[str] | None, rejected: list[Rejected]) -> Iterator[Record]:
    masks = [parts[MASKS].source for parts in examinations.values() if MASKS in parts]
    named = mask_names(settings.mask_names) or next((dict(mask.structures) for mask in masks if mask.structures), {})
    usual = {name: kind_of(part.header, settings.modality) for parts in examinations.values()
             for name, part in parts.items()}
    for key, parts in sorted(examinations.items()):
        there = [parts.get(name) for name in channels]
        lacking = [name for name, part in zip(channels, there, strict=True) if part is None]
        first = next((k for k, part in enumerate(there) if part is not None), None)
        if first is None or (lacking and settings.missing == "reject"):
            some = next(part for part in parts.values() if not part.mask).name
            rejected.append(Rejected(path=some, reason=f"its examination lacks {', '.join(lacking)}"))
            continue
        fixed, mask = parts[channels[first]], parts.get(MASKS)
        patient = (told_patient(fixed.name, settings.patient_pattern, pattern) or fixed.header.patient
                   or patient_in(fixed.name, pattern))
        drawn = mask.source if mask and mask.source.structures else None
        sources = [part.source if part else None for part in there]
        if drawn:
            sources[first] = replace(fixed.source, masks=drawn.masks, structures=drawn.structures)
        kinds = tuple(kind_of(part.header, settings.modality) if part else
                      usual.get(name, kind_of(fixed.header, settings.modality))
                      for name, part in zip(channels, there, strict=True))
        header = header_of([part.header for part in there if part is not None], fixed.header, kinds)
        case = Examination(sources=tuple(sources), kinds=header.kinds,
                           names=tuple(part.name if part else "" for part in there), channels=channels, first=first,
                           mask=mask.source.files[0] if mask and not drawn else "")
        header = with_untold(header, patient, settings.patient_pattern)
        shared = partial(Record, patient=patient or _patient(key) or fixed.name,
                         masks=drawn.masks if drawn else (case.mask,) if mask else (),
                         mask_names=named, unmasked=settings.unmasked == "keep",
                         files=tuple(dict.fromkeys(file for part in there if part
                                                   for file in (*part.source.files, *part.header.beside))))
        yield from cut_up(case, fixed.name, header, settings, fixed.planar, shared)


def _patient(key: str) -> str:
    """The folder of an examination without one of a visit, or the beginning of its files' names."""
    folder, _, own = key.rpartition("/")
    return key.strip("/") if own or folder in ("", ".") else of_patient(folder)
