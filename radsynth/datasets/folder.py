"""A folder, an archive or a single file of images of any format: sub-folders are classes, masks lie beside images.

How patients, labels and masks are found is told to users in docs/your-data.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from radsynth.datasets import Record, Rejected, _label_table, _layout
from radsynth.datasets._archives import is_archive
from radsynth.datasets._gathering import gather
from radsynth.datasets._items import Item, in_parts
from radsynth.datasets._label_table import Line, Table
from radsynth.datasets._layout import printable
from radsynth.datasets._volumes import as_modality, cut_up, load_image, slicing_axis
from radsynth.datasets._walking import files_below
from radsynth.errors import DataError, RejectedFile
from radsynth.io import NotAnImage, detect, pictures, scans
from radsynth.settings import settings as section

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
    """Where labels come from: folders, none, the path of a CSV file (file, label, patient, split), or auto: labels.csv,
    else sub-folders of pictures."""
    columns: tuple[str, ...] = ()
    """Names of that file's columns where they are others: file=NAME, label=NAME, patient=NAME, split=NAME (train,
    validation or test). Without a file column a line counts for all files of its patient."""
    patient_pattern: str = _layout.PATIENT
    """Regular expression with a group (?P<patient>...), sought in each path below the root; empty: a patient a file,
    or a folder of few volumes. One of your own counts more than DICOM's Patient ID."""
    modality: _layout.Modality = ""
    """DICOM's code (CT, MR, DX, ...) where the files do not say; CT makes values of more than 8 bits Hounsfield
    units."""
    conditions: tuple[str, ...] = ()
    """Numbers to learn images with, so that they can be asked for: columns of the CSV file of labels, findings that its
    labels name (1 or 0; Effusion|Mass names two), or age (years, of DICOM), spacing (mm between pixels), position (of a
    slice in its volume, 0 to 1)."""
    only: str = ""
    """Regular expression that a path below the root must contain; empty: every file."""
    series: str = ""
    """Regular expression that the series description of a DICOM file must contain; empty: every file."""
    incomplete: Literal["reject", "slices"] = "reject"
    """A DICOM series with missing, doubled or sheared slices: reject it, or use its slices one by one."""
    burned_in: Literal["keep", "exclude"] = "keep"
    """DICOM images that may show a patient's name in their pixels (Burned In Annotation, Secondary Captures and
    ultrasound that do not deny it): use them, or leave them out."""
    unmasked: Literal["reject", "keep"] = "reject"
    """Images without a mask where others have one: reject them, or keep them: task.kind=segment learns from both."""
    mask_names: tuple[str, ...] = ()
    """What label values of the masks mean, for tables and reports: 1=liver, 2=tumour. Of DICOM's segmentations and
    contours (SEG, RTSTRUCT) it chooses the structures of these names: 1=liver, 2=GTV|tumour."""
    minimum_foreground: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Slices at the ends of a volume that show less than this share of foreground are left out; 0 keeps all but
    those of a single value."""


def matches(path: Path) -> bool:
    """A folder, an archive, or a file of a known format."""
    path = Path(path)
    if path.is_dir() or is_archive(path):
        return True
    try:
        return bool(detect(path))
    except RejectedFile as error:
        return not isinstance(error, NotAnImage)


def records(settings: Settings, rejected: list[Rejected], *, masks: bool = True) -> Iterator[Record]:
    """Every image, slice or volume, sorted by path. DataError when there is none; SettingsError for a wrong pattern.

    masks: whether images come with the masks that lie beside them; without, records name these (`Record.masks`)
    """
    pattern, only = (_layout.compiled(getattr(settings, name), name) for name in ("patient_pattern", "only"))
    root, names = files_below(settings.path, rejected)
    if only and names:
        chosen = [name for name in names if only.search(name)]
        if not chosen:
            raise DataError(f"None of the {len(names):,} files of {settings.path} has data.only={settings.only!r} in "
                            f"its path, which is a regular expression. The first is {printable(names[0])}")
        names = chosen
    items = gather(root, names, settings, rejected)
    if not items:
        raise DataError(_nothing(settings, rejected))
    return _records(root, items, settings, pattern, rejected, masks)


def example(folder: Path) -> Settings:
    """Two classes of PNG files, one with a patient in its name."""
    from PIL import Image as Pillow

    for number, name in enumerate(("healthy/patient1_a.png", "healthy/patient1_b.png", "ill/patient2_a.png")):
        (folder / name).parent.mkdir(exist_ok=True)
        Pillow.fromarray((np.arange(24 * 20).reshape(24, 20) % (50 + number)).astype(np.uint8)).save(folder / name)
    return Settings(path=folder)


def _records(
    root: Path, items: list[Item], settings: Settings, pattern: re.Pattern[str] | None, rejected: list[Rejected],
    masks: bool,
) -> Iterator[Record]:
    names = [item.name for item in items]
    formats = {item.header.format for item in items}
    places = _layout.places(
        names, pattern, classes=settings.labels == "folders" or (settings.labels == "auto" and formats <= {*pictures()})
    )
    volumes = {item.name for item in items if item.header.format in scans()}
    table = _label_table.table_of(root, settings.labels, settings.columns, settings.conditions, rejected)
    if table is not None:
        table = table.among(Path(file).relative_to(root).as_posix() for item in items for file in item.source.files)
    by_file = table if table is not None and table.by == "file" else None
    patients = _layout.patients(names, pattern, volumes=volumes, places={
        name: replace(place, label=line.label) if by_file and (line := by_file.line(name, "")) else place
        for name, place in places.items()})
    _check_splits(places.values(), settings.path)
    used: list[Line | None] = []
    kept: list[tuple[Item, partial[Record], Sequence[Line | None]]] = []
    classes = any(place.label for place in places.values())
    named = _layout.mask_names(settings.mask_names) or {
        value: name for item in items for value, name in item.source.structures}
    for item in items:
        place = places[item.name]
        own = _layout.told_patient(item.name, settings.patient_pattern, pattern)
        patient = own or item.header.patient or place.patient or patients[item.name]
        item = replace(item, header=_layout.with_untold(item.header, own or item.header.patient,
                                                        settings.patient_pattern))
        if table is None:
            lines: Sequence[Line | None] = (Line(label=place.label, patient=None),)
            reason = "it lies beside the class folders: it has no label" if classes and place.label is None else ""
        else:
            lines = _lines(table, root, item, patient)
            used += [*lines, *(table.line(Path(file).relative_to(root).as_posix(), patient)
                               for file in item.source.files)]
            reason = _unfit(table, lines, item, settings)
        if reason:
            rejected.append(Rejected(path=printable(item.name), reason=reason))
            continue
        shared = partial(
            Record,
            patient=patient,
            split=next((line.split for line in lines if line and line.split), place.split),
            files=(*dict.fromkeys(item.source.files), *item.header.beside),
            masks=item.source.masks if masks or not item.source.structures else (),  # which are never images
            mask_names=named,
            unmasked=settings.unmasked == "keep",
        )
        if not masks:
            item = replace(item, source=replace(item.source, masks=()))
        kept.append((item, shared, lines))
    alone = len({shared.keywords["split"] for _, shared, _ in kept}) == 1  # a table may leave one split, which is none
    for item, shared, lines in kept:
        shared = partial(shared, split=None) if alone else shared
        yield from _told(_cut(item, settings, shared, rejected), lines, table, item, settings, rejected)
    if table is not None:
        files = [Path(file).relative_to(root).as_posix() for item in items for file in item.source.files]
        used += [by_file.line(line.path, "") for line in rejected] if by_file else []  # told for themselves
        if told := table.unused(used, files):
            file = _label_table.table_file(root, settings.labels)
            rejected.append(Rejected(path=printable(file.name if file else ""), reason=told, skipped=True))


def _check_splits(places: Iterable[_layout.Place], path: Path) -> None:
    """DataError where folders that are called like splits became classes, because others or images lie beside them."""
    found = {place.label for place in places if place.label}
    called = sorted(label for label in found if label.lower() in _layout.SPLIT_FOLDERS)
    if len({_layout.SPLIT_FOLDERS[label.lower()] for label in called}) > 1:
        others = ", ".join(sorted(found - set(called))) or "images"
        raise DataError(f"{path} has the folders {', '.join(called)}, which are no classes, and an official split only "
                        f"where nothing lies beside them: {others}. Move these away, or choose files by their path "
                        "(data.only).")


def _lines(table: Table, root: Path, item: Item, patient: str) -> Sequence[Line | None]:
    """The table's line for an item; where it has different ones for the files of a series, that of each slice."""
    files = item.source.files[::-1] if item.turned and not item.fault else item.source.files
    if table.by == "patient" or len(set(files)) == 1:
        return (table.line(item.name, patient),)
    lines = [table.line(Path(file).relative_to(root).as_posix(), patient) for file in files]
    return lines if any(line != lines[0] for line in lines) else lines[:1]


def _unfit(table: Table, lines: Sequence[Line | None], item: Item, settings: Settings) -> str:
    """Why an item cannot be used for what the table's lines say of it; "" where it can."""
    faults = {table.fault(line) for line in lines}
    if "" not in faults:
        return " or ".join(sorted(faults))
    if len(lines) > 1 and not _in_slices(item, settings):
        return ("the table of labels has different lines for the files of this series, so it can be used in slices as "
                "they were scanned only")
    return ""


def _in_slices(item: Item, settings: Settings) -> bool:
    """Each record of the item is one of its files."""
    scanned = settings.plane not in WHOLE and item.planar == slicing_axis(item.header, settings.plane, item.planar)
    return item.fault is not None or scanned


def _told(found: Iterable[Record], lines: Sequence[Line | None], table: Table | None, item: Item, settings: Settings,
          rejected: list[Rejected]) -> Iterator[Record]:
    """Records with what one line, or a line for each, says of them, and with the numbers that images are learned with;
    those that lack a line or a number are rejected."""
    records = list(found)
    for index, (unlabelled, line) in enumerate(zip(records, cycle(lines), strict=False)):
        fault = table.fault(line) if table else ""
        if line is None or fault:
            rejected.append(Rejected(path=unlabelled.source, reason=fault))
            continue
        record = replace(unlabelled, label=line.label, patient=line.patient or unlabelled.patient)
        if not settings.conditions:
            yield record
            continue
        spacing = record.header.spacing if record.header else None
        place = index / (len(records) - 1) if len(records) > 1 else None
        told = {"age": item.header.age, "spacing": spacing[-1] if spacing else None, "position": place, **line.numbers}
        known = {name: value for name in settings.conditions if (value := told.get(name)) is not None}
        lacking = [name for name in settings.conditions if name not in known]
        if lacking:
            rejected.append(Rejected(path=record.source, reason=f"it has no number for {', '.join(lacking)}, which "
                                     "data.conditions asks for"))
        else:
            yield replace(record, conditions=known)


def _cut(item: Item, settings: Settings, shared: partial[Record], rejected: list[Rejected]) -> Iterator[Record]:
    """The records of one item: itself, its frames, or the slices of a volume."""
    name, header, source = printable(item.name), item.header, item.source
    if source.frames:
        name += f"#{source.frames[0]}"  # a file may hold several volumes
    header = as_modality(header, settings.modality)
    if item.fault and (settings.incomplete == "reject" or settings.plane == "volume"):
        advice = "" if settings.plane in WHOLE else ". data.incomplete=slices uses its slices one by one"
        rejected.append(Rejected(path=name, reason=f"{in_parts(source)}: {item.fault}{advice}"))
    elif item.fault:
        if source.masks:
            rejected.append(Rejected(path=name, skipped=True, reason=(
                "its mask is one of the whole series, which is none, so that its slices are used without a mask")))
            source, shared = replace(source, masks=()), partial(shared, masks=())
        places = zip(source.files, source.frames or (None,) * len(source.files), item.slices, strict=True)
        for file, frame, slice_header in places:
            single = replace(source, files=(file,), frames=() if frame is None else (frame,))
            part = f"{name}#{Path(file).name if frame is None else frame}"
            yield shared(source=printable(part), volume=name, load=partial(load_image, single),
                         header=as_modality(slice_header, settings.modality))
    elif len(header.size) == 2 and settings.plane == "volume":
        rejected.append(Rejected(path=name, reason="it is a single image, and data.plane=volume asks for volumes"))
    elif len(header.size) == 2 and header.frames > 1:
        for frame in range(header.frames):
            yield shared(source=f"{name}#{frame}", load=partial(load_image, source, frame), header=header)
    else:
        yield from cut_up(source, name, header, settings, item.planar, shared)


def _nothing(settings: Settings, rejected: list[Rejected]) -> str:
    """Why there is no image: the first file of each reason, of three at most."""
    wrong = [line for line in rejected if not line.skipped] or rejected
    first: dict[str, str] = {}
    for line in wrong:
        first.setdefault(line.reason, line.path)
    lines = [f"{path}: {reason}" for reason, path in list(first.items())[:3]]
    many = "s were" if len(rejected) > 1 else " was"
    count = f"{len(rejected):,} file{many} looked at" if rejected else "it is empty"
    text = f"{settings.path} holds no image that can be used: {count}."
    if lines:
        text += " For example " + "; ".join(lines) + "."
    return text + " Read are DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF, npy and npz (docs/your-data.md)."
