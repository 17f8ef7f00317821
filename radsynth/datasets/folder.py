"""A folder, an archive or a single file of images of any format: sub-folders are classes, masks lie beside images.

How patients, labels and masks are found is told to users in docs/your-data.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from radsynth.datasets import Record, Rejected, _label_table, _layout
from radsynth.datasets._archives import is_archive, unpack
from radsynth.datasets._layout import printable
from radsynth.datasets._volumes import Source, cut_up, known_modality, load_image
from radsynth.errors import DataError, RadsynthError, RejectedFile
from radsynth.io import Header, NotAnImage, detect, format_module
from radsynth.progress import track
from radsynth.settings import settings as section

TABLE = "labels.csv"
WHOLE = ("volume", "whole")


@section
class Settings:
    """A folder, an archive (zip, tar) or a single file of images."""

    kind: Literal["folder"] = "folder"
    path: Path
    """The folder, archive or file."""
    plane: Literal["auto", "axial", "coronal", "sagittal", "volume", "whole"] = "auto"
    """How volumes are used: as slices of a plane (auto: as they were scanned, else axial), or whole: volume takes
    nothing else, whole also takes single images."""
    labels: str = "auto"
    """Where labels come from: folders, none, the path of a CSV file (file, label, patient), or auto: labels.csv, else
    sub-folders of pictures."""
    columns: tuple[str, ...] = ()
    """Names of that file's columns where they are others: file=NAME, label=NAME, patient=NAME. Without a file column a
    line counts for all files of its patient."""
    patient_pattern: str = _layout.PATIENT
    """Regular expression with a group (?P<patient>...), sought in each path below the root; empty: a patient a file."""
    modality: str = ""
    """DICOM's code (CT, MR, DX, ...) where the files do not say; CT makes the values Hounsfield units."""
    conditions: tuple[str, ...] = ()
    """Numbers to learn images with, so that they can be asked for: columns of the CSV file of labels, or age (years, of
    DICOM), spacing (mm between pixels), position (of a slice in its volume, 0 to 1)."""
    only: str = ""
    """Regular expression that a path below the root must contain; empty: every file."""
    incomplete: Literal["reject", "slices"] = "reject"
    """A DICOM series with missing, doubled or sheared slices: reject it, or use its slices one by one."""
    burned_in: Literal["keep", "exclude"] = "keep"
    """DICOM images that may show a patient's name in their pixels (Burned In Annotation, Secondary Captures and
    ultrasound that do not deny it): use them, or leave them out."""
    unmasked: Literal["reject", "keep"] = "reject"
    """Images without a mask where others have one: reject them, or keep them: task.kind=segment learns from both."""
    mask_names: tuple[str, ...] = ()
    """What label values of the masks mean, for tables and reports: 1=liver, 2=tumour."""
    minimum_foreground: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Slices at the ends of a volume that show less than this share of foreground are left out; 0 keeps all."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image or volume before it becomes records. name: its path below the root; planar: as in `Series`."""

    name: str
    source: Source
    header: Header
    slices: tuple[Header, ...] = ()
    fault: str | None = None
    planar: int | None = None


def matches(path: Path) -> bool:
    """A folder, an archive, or a file of a known format."""
    path = Path(path)
    if path.is_dir() or is_archive(path):
        return True
    try:
        return bool(detect(path))
    except RejectedFile as error:
        return not isinstance(error, NotAnImage)


def records(settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    """Every image, slice or volume, sorted by path. DataError when there is none; SettingsError for a wrong pattern."""
    pattern, only = (_layout.compiled(getattr(settings, name), name) for name in ("patient_pattern", "only"))
    root, names = _files(settings.path, rejected)
    if only and names:
        chosen = [name for name in names if only.search(name)]
        if not chosen:
            raise DataError(f"None of the {len(names):,} files of {settings.path} has data.only={settings.only!r} in "
                            f"its path, which is a regular expression. The first is {printable(names[0])}")
        names = chosen
    items = _items(root, names, settings, rejected)
    if not items:
        raise DataError(_nothing(settings, rejected))
    return _records(root, items, settings, pattern, rejected)


def example(folder: Path) -> Settings:
    """Two classes of PNG files, one with a patient in its name."""
    from PIL import Image as Pillow

    for number, name in enumerate(("healthy/patient1_a.png", "healthy/patient1_b.png", "ill/patient2_a.png")):
        (folder / name).parent.mkdir(exist_ok=True)
        Pillow.fromarray((np.arange(24 * 20).reshape(24, 20) % (50 + number)).astype(np.uint8)).save(folder / name)
    return Settings(path=folder)


def _files(path: Path, rejected: list[Rejected]) -> tuple[Path, list[str]]:
    """(root, names of all files below it, sorted)."""
    if not path.exists():
        raise DataError(f"{path} does not exist. Give a folder, an archive (zip, tar) or an image file.")
    if path.is_file():
        if _is_image(path) or not is_archive(path):
            return path.parent, [path.name]
        path = unpack(path)
    names: list[str] = []
    _walk(path, "", {_identity(path)}, names, rejected)
    return path, sorted(names)


def _is_image(path: Path) -> bool:
    try:
        return bool(detect(path))
    except RejectedFile:
        return False


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def _walk(folder: Path, prefix: str, above: set[tuple[int, int]], names: list[str], rejected: list[Rejected]) -> None:
    """All files below `folder`. Links to folders are followed unless they lead back up."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        rejected.append(
            Rejected(path=printable(prefix) or ".", reason=f"the folder cannot be opened: {error.strerror}")
        )
        return
    for entry in entries:
        name = prefix + entry.name
        try:
            if not entry.is_dir():
                names.append(name)
                continue
            own = _identity(Path(entry.path))
        except OSError as error:
            rejected.append(Rejected(path=printable(name), reason=f"it cannot be opened: {error.strerror}"))
            continue
        if own in above:
            rejected.append(Rejected(path=printable(name), reason="it links back to a folder above it", skipped=True))
        else:
            _walk(Path(entry.path), name + "/", above | {own}, names, rejected)


def _items(root: Path, names: list[str], settings: Settings, rejected: list[Rejected]) -> list[Item]:
    """Images and volumes with their masks, DICOM files gathered into series."""
    formats: dict[str, str] = {}
    table = _table_file(root, settings)
    for name in track(names, len(names), "looking at files", "files"):
        try:
            formats[name] = detect(root / name)
        except RejectedFile as error:
            skipped = isinstance(error, NotAnImage)
            if skipped and table and table.is_file() and table.samefile(root / name):
                continue  # it is used, though not as an image
            reason = _idle_table(root / name, name, settings) if skipped else None
            rejected.append(Rejected(path=printable(name), reason=reason or str(error), skipped=skipped))
    pairs = _layout.pair((name for name, kind in formats.items() if kind != "dicom"), settings.unmasked == "keep")
    for name in pairs.lonely:
        rejected.append(Rejected(path=printable(name), reason="a mask without an image of its name", skipped=True))
    for name in pairs.bare:
        test = _layout.is_official_test_image(name)
        reason = "a test image without a mask, as others have" if test else "it has no mask, as the other images have"
        reason += "; data.unmasked=keep uses it"
        rejected.append(Rejected(path=printable(name), reason=reason, skipped=test))
    items = []
    for name in track(pairs.images, len(pairs.images), "reading headers", "files"):
        try:
            header = format_module(formats[name]).header(root / name)
        except RadsynthError as error:
            rejected.append(Rejected(path=printable(name), reason=str(error), skipped=isinstance(error, NotAnImage)))
            continue
        source = Source(
            format=formats[name],
            files=(str(root / name),),
            masks=tuple(str(root / mask) for mask in pairs.masks.get(name, ())),
            modality=settings.modality,
        )
        items.append(Item(name=name, source=source, header=header))
    items += _series(root, [name for name, kind in formats.items() if kind == "dicom"], settings, rejected)
    return sorted(items, key=lambda item: item.name)


def _series(root: Path, names: list[str], settings: Settings, rejected: list[Rejected]) -> list[Item]:
    if not names:
        return []
    from radsynth.io._dicom_frames import instances
    from radsynth.io._dicom_series import arrange

    found, names_of = [], {str(root / name): name for name in names}
    for path, name in track(names_of.items(), len(names_of), "reading DICOM headers", "files"):
        try:
            members = instances(Path(path))
        except RejectedFile as error:
            rejected.append(Rejected(path=printable(name), reason=str(error), skipped=isinstance(error, NotAnImage)))
            continue
        if settings.burned_in == "exclude" and members[0].header.burned_in:
            reason = "its pixels may show a patient's name (burned-in annotation), and data.burned_in=exclude is set"
            rejected.append(Rejected(path=printable(name), reason=reason, skipped=True))
        else:
            found += members
    series, copies = arrange(found)
    for path, reason in copies:
        rejected.append(Rejected(path=printable(names_of[path]), reason=reason, skipped=True))
    items = []
    for member in series:
        items.append(
            Item(
                name=min(names_of[file] for file in member.files),
                header=member.header,
                slices=member.slices,
                fault=member.fault,
                source=Source(
                    format="dicom",
                    files=member.files,
                    modality=settings.modality,
                    frames=() if set(member.frames) == {None} else member.frames,
                ),
                planar=member.planar,
            )
        )
    return items


def _records(
    root: Path, items: list[Item], settings: Settings, pattern: re.Pattern[str] | None, rejected: list[Rejected]
) -> Iterator[Record]:
    names = [item.name for item in items]
    pictures = all(item.header.format in ("picture", "npz") for item in items)
    places = _layout.places(
        names, pattern, classes=settings.labels == "folders" or (settings.labels == "auto" and pictures)
    )
    volumes = {item.name for item in items if item.header.format in ("nifti", "metaimage")}
    patients = _layout.patients(names, pattern, volumes=volumes)
    table = _table(root, settings, rejected)
    classes, named = any(place.label for place in places.values()), _layout.mask_names(settings.mask_names)
    for item in items:
        place = places[item.name]
        label, patient = place.label, item.header.patient or place.patient or patients[item.name]
        numbers: Mapping[str, float] = {}
        if table is not None:
            line = table.line(item.name, patient)
            if line is None:
                rejected.append(Rejected(path=printable(item.name), reason="it has no line in the table of labels"))
                continue
            label, patient, numbers = line.label, line.patient or patient, line.numbers
        elif classes and label is None:
            rejected.append(
                Rejected(path=printable(item.name), reason="it lies beside the class folders: it has no label")
            )
            continue
        shared = partial(
            Record,
            patient=patient,
            label=label,
            split=place.split,
            files=tuple(dict.fromkeys(item.source.files)),
            masks=item.source.masks,
            mask_names=named,
            unmasked=settings.unmasked == "keep",
        )
        yield from _conditioned(_cut(item, settings, shared, rejected), item, numbers, settings, rejected)


def _conditioned(found: Iterator[Record], item: Item, numbers: Mapping[str, float], settings: Settings,
                 rejected: list[Rejected]) -> Iterator[Record]:
    """The same records with the numbers that images are learned with; those that lack one are rejected."""
    if not settings.conditions:
        yield from found
        return
    records = list(found)
    for index, record in enumerate(records):
        spacing = record.header.spacing if record.header else None
        place = index / (len(records) - 1) if len(records) > 1 else None
        told = {"age": item.header.age, "spacing": spacing[-1] if spacing else None, "position": place, **numbers}
        known = {name: value for name in settings.conditions if (value := told.get(name)) is not None}
        lacking = [name for name in settings.conditions if name not in known]
        if lacking:
            rejected.append(Rejected(path=record.source, reason=f"it has no number for {', '.join(lacking)}, which "
                                     "data.conditions asks for"))
        else:
            yield replace(record, conditions=known)


def _idle_table(path: Path, name: str, settings: Settings) -> str | None:
    """What to say of a table in the root that nobody named."""
    idle = settings.labels == "auto" and name != TABLE and "/" not in name
    return _label_table.unused(path) if idle and name.lower().endswith(_label_table.ENDINGS) else None


def _table_file(root: Path, settings: Settings) -> Path | None:
    """Where labels are to be read from: the table that was named, or labels.csv in the root."""
    if settings.labels in ("folders", "none"):
        return None
    if settings.labels != "auto":
        return Path(settings.labels)
    return root / TABLE if (root / TABLE).is_file() else None


def _table(root: Path, settings: Settings, rejected: list[Rejected]) -> _label_table.Table | None:
    """The table of labels that was named, or labels.csv in the root if it can be read and has the right columns."""
    file = _table_file(root, settings)
    if file is None:
        return None
    try:
        return _label_table.read_table(file, columns=settings.columns, numbers=settings.conditions)
    except DataError as error:  # whoever gave the table its name expects that labels and patients are taken from it
        if settings.labels != "auto":
            raise
        reason = str(error).replace(str(file), "it")
        rejected.append(Rejected(path=TABLE, reason=f"it is not taken as the table of labels: {reason}"))
        return None


def _cut(item: Item, settings: Settings, shared: partial[Record], rejected: list[Rejected]) -> Iterator[Record]:
    """The records of one item: itself, its frames, or the slices of a volume."""
    name, header, source = printable(item.name), item.header, item.source
    if source.frames:
        name += f"#{source.frames[0]}"  # a file may hold several volumes
    header = _as_modality(header, known_modality(header.modality, settings.modality))
    if item.fault and (settings.incomplete == "reject" or settings.plane in WHOLE):
        advice = "" if settings.plane in WHOLE else ". data.incomplete=slices uses its slices one by one"
        rejected.append(Rejected(path=name, reason=f"a series of {len(source.files)} files: {item.fault}{advice}"))
    elif item.fault:
        places = zip(source.files, source.frames or (None,) * len(source.files), item.slices, strict=True)
        for file, frame, slice_header in places:
            single = replace(source, files=(file,), frames=() if frame is None else (frame,))
            part = f"{name}#{Path(file).name if frame is None else frame}"
            yield shared(source=printable(part), load=partial(load_image, single), header=slice_header)
    elif len(header.size) == 2 and settings.plane == "volume":
        rejected.append(Rejected(path=name, reason="it is a single image, and data.plane=volume asks for volumes"))
    elif len(header.size) == 2 and header.frames > 1:
        for frame in range(header.frames):
            yield shared(source=f"{name}#{frame}", load=partial(load_image, source, frame), header=header)
    else:
        yield from cut_up(source, name, header, settings, item.planar, shared)


def _as_modality(header: Header, modality: str) -> Header:
    if modality == header.modality:
        return header
    return replace(header, modality=modality, units="HU" if modality == "CT" else header.units)


def _nothing(settings: Settings, rejected: list[Rejected]) -> str:
    """Why there is no image: the first reasons stand for all."""
    lines = [f"{line.path}: {line.reason}" for line in rejected if not line.skipped][:3]
    count = f"{len(rejected)} files were looked at" if rejected else "it is empty"
    text = f"{settings.path} holds no image that can be used: {count}."
    if lines:
        text += " For example " + "; ".join(lines) + "."
    return text + " Read are DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF, npy and npz (docs/your-data.md)."
