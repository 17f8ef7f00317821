"""LIDC-IDRI, lung nodules in CT with the outlines and ratings of up to four radiologists (Armato et al. 2011).

As distributed: LIDC-IDRI-0001/study/series/*.dcm, and XML files beside the series or in a folder of their own.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from radsynth.datasets import Record, Rejected
from radsynth.datasets._archives import find_folders, listed, opened
from radsynth.datasets._layout import printable
from radsynth.datasets._lidc_reading import (
    CHARACTERISTICS,
    Nodule,
    Outlines,
    Reading,
    consensus,
    parse,
    rating,
    same_nodules,
)
from radsynth.datasets._volumes import Source, load_image
from radsynth.errors import DataError, RejectedFile
from radsynth.image import Image
from radsynth.io import NotAnImage, detect
from radsynth.io._dicom_header import Instance
from radsynth.progress import track
from radsynth.settings import settings as section

PATIENT = re.compile(r"LIDC-IDRI-\d{4}")
PACKED = re.compile(r"(^|/)LIDC-IDRI-\d{4}/")

MIDDLE = 3.0
"""Malignancy is rated 1 (highly unlikely) to 5 (highly suspicious); 3 is indeterminate."""


@section
class Settings:
    """LIDC-IDRI as distributed: lung nodules in CT, outlined by up to four radiologists."""

    kind: Literal["lidc"] = "lidc"
    path: Path
    """The folder with LIDC-IDRI-0001, LIDC-IDRI-0002, ... and, below it, the XML files."""
    slices: Literal["nodules", "all"] = "nodules"
    """Axial slices on which enough readers drew the same pixel of a nodule, or all slices."""
    readers: Annotated[int, Field(ge=1, le=4)] = 2
    """A nodule, and a pixel of the mask, counts when at least so many readers drew it."""
    label: Literal["malignancy", "none"] = "malignancy"
    """malignancy: benign, uncertain or malignant, by the readers' mean below, at or above 3, the worst nodule of the
    slice; none on a slice without a nodule. none: no labels."""


def matches(path: Path) -> bool:
    """A folder or an archive with folders LIDC-IDRI-0001, ..., at most four levels down, of DICOM or with an XML file.

    The XML files are a download of their own: without them `records` says what is missing.
    """
    path = Path(path)
    patients, packed = _patients(path), list(listed(path))
    if patients and (_holds_dicom(patients[0]) or next(_xml_files(path, patients[:3]), None)):
        return True
    named = bool(patients) or any(PACKED.search(name) for name in packed)
    return named and any(name.lower().endswith(".xml") for name in packed)


def _holds_dicom(folder: Path) -> bool:
    """Whether the first file below a folder that is an image is one of DICOM."""
    for path in _names(folder):
        with contextlib.suppress(RejectedFile):
            return detect(path) == "dicom"
    return False


def records(settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    """Slices by series, from the feet to the head. DataError without XML files or patients."""
    root = opened(Path(settings.path), rejected)
    patients = _patients(root)
    if not patients:
        raise DataError(
            f"{settings.path} is not LIDC-IDRI: it needs folders LIDC-IDRI-0001, LIDC-IDRI-0002, ... of DICOM."
        )
    readings = _readings(root, patients, rejected)
    if not readings:
        raise DataError(
            f"{settings.path} holds no XML of LIDC's readings that can be used. Put LIDC-XML-only.zip into it, or use "
            "the pictures alone with data.kind=folder."
        )
    return _records(root, patients, readings, settings, rejected)


def example(folder: Path) -> Settings:
    """Three patients with a series of three slices; two readers drew a nodule of 5 x 5 pixels on the middle one."""
    from radsynth.io import Provenance, write
    from radsynth.io._dicom_header import instance

    rng = np.random.default_rng(0)
    for number, malignancy in enumerate((5, 1, 3)):
        series = folder / f"LIDC-IDRI-000{number + 1}" / "01-01-2000-1" / "3000566-1"
        series.parent.mkdir(parents=True)
        volume = rng.integers(-1000, 400, (1, 3, 24, 20))
        image = Image(pixels=volume, modality="CT", units="HU", bits=12, spacing=(2.5, 0.7, 0.7))
        origin = Provenance(model="example", weights="", seed=0, index=number)
        found = [instance(file) for file in write(image, series, provenance=origin, format="dicom")]
        middle = sorted(found, key=_height)[1]
        (series / "069.xml").write_text(example_xml(middle.series, middle.uid, malignancy))
    return Settings(path=folder)


def example_xml(series: str, uid: str, malignancy: int) -> str:
    """A file of two readers, whose outlines differ by one column; the inside of the first is columns 6 to 10."""

    def session(left: int) -> str:
        edge = [(left + x, 7 + y) for x in range(7) for y in range(7) if x in (0, 6) or y in (0, 6)]
        middle = (left + 3, 10)
        edge.sort(key=lambda point: np.arctan2(point[1] - middle[1], point[0] - middle[0]))
        points = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in edge)
        ratings = "".join(f"<{name}>{malignancy}</{name}>" for name in CHARACTERISTICS)
        return (
            "<readingSession><servicingRadiologistID>anonymous</servicingRadiologistID><unblindedReadNodule>"
            f"<noduleID>1</noduleID><characteristics>{ratings}</characteristics><roi><imageZposition>0</imageZposition>"
            f"<imageSOP_UID>{uid}</imageSOP_UID><inclusion>TRUE</inclusion>{points}</roi></unblindedReadNodule>"
            "</readingSession>"
        )

    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage uid="1" xmlns="http://www.nih.gov">'
        f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
        f"{session(5)}{session(6)}</LidcReadMessage>\n"
    )


def _height(found: Instance) -> tuple[float, int, str]:
    return (found.position or (0.0, 0.0, 0.0))[2], found.number, found.path


def _patients(root: Path) -> list[Path]:
    """The patients' folders below `root`, or `root` itself. The NBIA retriever puts manifest-.../LIDC-IDRI/ above."""
    if PATIENT.fullmatch(root.name) and root.is_dir():
        return [root]
    return find_folders(root, lambda folder: bool(PATIENT.fullmatch(folder.name)))


def _xml_files(root: Path, patients: Sequence[Path]) -> Iterator[Path]:
    """XML files below folders named after XML, of `root` or on the way to the patients, and below the patients."""
    above = {root, *(folder for folder in patients[0].parents if folder.is_relative_to(root))}
    sides = {entry for folder in above for entry in folder.iterdir() if "xml" in entry.name.lower()}
    for folder in (*sorted(sides), *patients):
        for name in _names(folder) if folder.is_dir() else [folder]:
            if name.suffix.lower() == ".xml":
                yield name


def _names(folder: Path) -> Iterator[Path]:
    """Every file below a folder, sorted; links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(names))


def _readings(root: Path, patients: list[Path], rejected: list[Rejected]) -> dict[str, Reading]:
    """Series -> its reading, the first file of each."""
    readings: dict[str, Reading] = {}
    for path in track(_xml_files(root, patients), None, "reading XML", "files"):
        try:
            reading = parse(path)
        except RejectedFile as error:
            skipped = isinstance(error, NotAnImage)
            rejected.append(Rejected(path=_relative(path, root), reason=str(error), skipped=skipped))
            continue
        if reading.series in readings:
            reason = "another XML file describes the same series"
            rejected.append(Rejected(path=_relative(path, root), reason=reason, skipped=True))
        readings.setdefault(reading.series, reading)
    return readings


def _relative(path: Path, root: Path) -> str:
    return printable(os.path.relpath(path, root))


def _records(
    root: Path, patients: list[Path], readings: dict[str, Reading], settings: Settings, rejected: list[Rejected]
) -> Iterator[Record]:
    seen: set[str] = set()
    for patient in track(patients, len(patients), "reading DICOM headers", "patients"):
        series: dict[str, list[Instance]] = defaultdict(list)
        for path in _names(patient):
            found = _instance(path, root, seen, rejected)
            if found is not None:
                series[found.series].append(found)
        for uid, members in series.items():
            name = _relative(Path(members[0].path).parent, root)
            if members[0].header.modality != "CT":
                reason = f"a series of {members[0].header.modality}; only LIDC's CT was read by its radiologists"
                rejected.append(Rejected(path=name, reason=reason, skipped=True))
            elif uid not in readings:
                rejected.append(Rejected(path=name, reason="no XML file describes this series"))
            else:
                drawn = {one.uid for nodule in readings[uid].nodules for one in nodule.contours}
                if missing := len(drawn - {member.uid for member in members}):
                    reason = f"it lacks {missing} of the {len(drawn)} images on which a nodule was drawn: fetch them"
                    rejected.append(Rejected(path=name, reason=reason))
                yield from _slices(root, patient.name, name, sorted(members, key=_height), readings[uid], settings)


def _instance(path: Path, root: Path, seen: set[str], rejected: list[Rejected]) -> Instance | None:
    from radsynth.io._dicom_header import instance

    if path.suffix.lower() == ".xml":
        return None
    try:
        if detect(path) != "dicom":
            raise NotAnImage("it is no DICOM file")
        found = instance(path)
        if found.uid in seen:
            raise NotAnImage("it is a second copy of another file (same SOP Instance UID)")
    except RejectedFile as error:
        skipped = isinstance(error, NotAnImage)
        rejected.append(Rejected(path=_relative(path, root), reason=str(error), skipped=skipped))
        return None
    seen.add(found.uid)
    return found


def _slices(
    root: Path, patient: str, series: str, members: Iterable[Instance], reading: Reading, settings: Settings
) -> Iterator[Record]:
    """The slices of one series that are asked for, each with the outlines on it and the label of its worst nodule."""
    groups = [
        group for group in same_nodules(reading.nodules) if len({one.reader for one in group}) >= settings.readers
    ]
    for member in members:
        outlines = _outlines_on(member, reading.nodules)
        here = [group for group in groups if _agreed(member, group, settings.readers)]
        if settings.slices == "nodules" and not here:
            continue
        scores = [score for group in here if (score := rating(group, "malignancy")) is not None]
        source = Source(format="dicom", files=(member.path,), modality="CT")
        yield Record(
            source=_relative(Path(member.path), root),
            volume=series,
            patient=patient,
            label=_label(scores, bool(here)) if settings.label == "malignancy" else None,
            load=partial(load_outlined, source, outlines, settings.readers),
            header=replace(member.header, units="HU"),
            files=(member.path,),
            masks=(reading.path,),
            mask_names={1: "nodule"},
        )


def _outlines_on(member: Instance, nodules: Iterable[Nodule]) -> Outlines:
    found = ((one.reader, tuple(contour for contour in one.contours if contour.uid == member.uid)) for one in nodules)
    return tuple((reader, contours) for reader, contours in found if contours)


def _agreed(member: Instance, group: Iterable[Nodule], readers: int) -> bool:
    """Whether at least so many readers of a nodule share a pixel of an image: at its ends they often share none."""
    outlines = _outlines_on(member, group)
    if len({reader for reader, _ in outlines}) < readers:
        return False
    rows, columns = member.header.size
    try:
        return bool(consensus(outlines, (rows, columns), readers).any())
    except RejectedFile:  # loading says why
        return True


def _label(scores: list[float], nodule: bool) -> str:
    if not nodule:
        return "none"
    worst = max(scores, default=MIDDLE)
    return "benign" if worst < MIDDLE else "malignant" if worst > MIDDLE else "uncertain"


def load_outlined(source: Source, outlines: Outlines, readers: int) -> Image:
    """A slice (1, rows, columns) in HU; its mask is 1 where at least `readers` readers drew a nodule."""
    image = load_image(source)
    return image.replace(mask=consensus(outlines, (image.space[0], image.space[1]), readers))
