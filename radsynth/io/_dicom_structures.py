"""Structures that DICOM keeps in objects of their own: segmentations (SEG) and sets of contours (RTSTRUCT).

They lie in the patient's coordinates and name the series that they were drawn on; here they become the label map of an
image. Where structures overlap, the smaller one counts: a tumour within its organ, an organ within the body's outline.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import MissingExtra, RejectedFile
from radsynth.image import Image
from radsynth.io import HIGHEST_LABEL, _dicom_contours, _dicom_segments, detect, header
from radsynth.io._dicom_header import CONTOURS, HoldsStructures
from radsynth.io._dicom_parsing import quietly
from radsynth.io._drawn import Drawn
from radsynth.io._limits import check_file, unusable


@dataclass(frozen=True, kw_only=True)
class Structures:
    """What such an object says of itself.

    patient: as `Header.patient` has it; series: the Series Instance UIDs that it refers to; reference: the identifier
    of its frame of reference, "" for none; names: of its structures, by their numbers
    contours: it is a set of contours, else a segmentation
    """

    path: str
    contours: bool
    patient: str
    series: frozenset[str]
    reference: str
    names: Mapping[int, str]


NUMBERED = re.compile(r"label (?P<value>[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])")
"""What radsynth calls label values of which nobody says what they mean: they stay what they are."""


def plain(name: str) -> str:
    """A structure's name as it is compared: capitals and blanks do not matter."""
    return " ".join(name.split()).casefold()


def spellings(names: Mapping[int, str]) -> dict[str, int]:
    """Label values by the `plain` names that they are found by, of which one label may have several (GTV|tumour)."""
    return {plain(one): value for value, name in names.items() for one in name.split("|")}


def structures(path: Path) -> Structures:
    """What an object says of itself, without its pixels or contours; RejectedFile for one that cannot be read."""
    from pydicom import dcmread

    check_file(path)
    tags = ["SOPClassUID", "ApprovalStatus", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID",
            "ReferencedSeriesSequence", "SegmentSequence", "StructureSetROISequence",
            "ReferencedFrameOfReferenceSequence"]
    try:
        with quietly():
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=tags)
            return _described(path, dataset)
    except Exception as error:
        raise unusable(error, "the DICOM header") from None


def _described(path: Path, dataset: Any) -> Structures:
    if dataset.get("ApprovalStatus") == "REJECTED":
        raise RejectedFile("whoever reviewed it rejected its structures, says its header (Approval Status)")
    frames = dataset.get("ReferencedFrameOfReferenceSequence") or []
    series = [*(dataset.get("ReferencedSeriesSequence") or []),
              *(one for frame in frames for study in frame.get("RTReferencedStudySequence") or []
                for one in study.get("RTReferencedSeriesSequence") or [])]
    references = [str(one.get("FrameOfReferenceUID") or "") for one in (dataset, *frames)]
    names = {int(one.SegmentNumber): _shown(one.get("SegmentLabel")) or f"segment {one.SegmentNumber}"
             for one in dataset.get("SegmentSequence") or [] if int(one.SegmentNumber) > 0}
    names |= {int(one.ROINumber): _shown(one.get("ROIName")) or f"structure {one.ROINumber}"
              for one in dataset.get("StructureSetROISequence") or []}
    if not names:
        raise RejectedFile("it names no structures")
    patient = str(dataset.get("PatientID") or "").strip().casefold()
    return Structures(
        path=str(path), contours=str(dataset.SOPClassUID) == CONTOURS, names=names,
        patient=patient or str(dataset.get("StudyInstanceUID", "")),
        series=frozenset(str(one.get("SeriesInstanceUID") or "") for one in series) - {""},
        reference=next(filter(None, references), ""))


def _shown(name: object) -> str:
    """A name without signs that steer a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in str(name or "")).strip()


def holds_structures(path: Path) -> bool:
    """Whether a file is a segmentation or a set of contours; False for one that cannot be read."""
    try:
        if detect(path) == "dicom":
            header(path)
    except HoldsStructures:
        return True
    except (RejectedFile, MissingExtra):
        return False
    return False


def own_values(found: Structures) -> dict[str, int]:
    """The label values of an object alone, by `plain` names: its numbers, but those of "label 7" are 7."""
    told = {plain(name): (number, NUMBERED.fullmatch(plain(name))) for number, name in found.names.items()}
    values = {name: int(match["value"]) if match else number for name, (number, match) in told.items()}
    if wrong := [value for value in values.values() if not 0 < value <= HIGHEST_LABEL]:
        raise RejectedFile(f"one of its structures has the number {wrong[0]}; labels go from 1 to {HIGHEST_LABEL}")
    return values


def labels_alone(path: Path, wanted: Mapping[str, int]) -> Image:
    """The label map (1, *space) of a segmentation on its own grid, which has the slices alone that it has something in.

    wanted: label values by `plain` names; an object that has none of these names keeps its `own_values`
    RejectedFile for one that cannot be read, for names that are not wanted beside others that are, and for contours.
    """
    found = structures(path)
    if found.contours:
        raise RejectedFile("contours have no grid of their own: save them as a label map, as NIfTI or NRRD")
    values = own_values(found)
    if values.keys() & wanted.keys():
        if unknown := values.keys() - wanted.keys():
            raise RejectedFile(f"it has {', '.join(sorted(unknown))}; the run knows {', '.join(wanted)}")
        values = dict(wanted)
    try:
        with quietly():
            grid, parts = _dicom_segments.alone(path, found.names)
    except Exception as error:
        raise unusable(error, "the segmentation") from None
    labels = np.zeros(grid.space, np.uint8)
    on_grid = labels if labels.ndim == 3 else labels[None]
    for part in sorted(parts, key=lambda part: -int(part.inside.sum())):
        on_grid[part.place][part.inside] = values[plain(part.name)]
    return grid.replace(pixels=labels[None], frame=found.reference)


def labels_on(paths: Sequence[Path], wanted: Mapping[str, int] | None, image: Image) -> tuple[NDArray[np.uint8], bool]:
    """The label map (*space) of objects on the grid of an image, and whether one was drawn on another grid.

    wanted: label values by `plain` names, the other structures are background; None: all have their `own_values`
    RejectedFile for objects that cannot be read, that show another place, or that have none of these structures.
    """
    volume = image if len(image.space) == 3 else image.replace(
        pixels=image.pixels[:, None], spacing=None, mask=None)
    parts: dict[str, list[Drawn]] = defaultdict(list)
    has, values, beside = set[str](), dict(wanted or {}), False
    for path in paths:
        try:
            own = structures(path)
            has |= set(own.names.values())
            values |= own_values(own) if wanted is None else {}
            numbers = {number: name for number, name in own.names.items() if plain(name) in values}
            read = _dicom_contours.drawn if own.contours else _dicom_segments.drawn
            with quietly():
                for part in read(path, numbers, volume) if numbers else ():
                    beside = beside or part is None
                    if part is not None:
                        parts[plain(part.name)].append(part)
        except RejectedFile as error:
            raise RejectedFile(f"its segmentation {path.name}: {error}") from None
        except Exception as error:
            raise unusable(error, f"its segmentation {path.name}") from None
    if not values.keys() & set(map(plain, has)):
        raise RejectedFile(f"its segmentation {paths[0].name} has none of the structures that data.mask_names names; "
                           f"it has {', '.join(sorted(has))}")
    if beside and not parts:
        raise RejectedFile(f"all structures of its segmentation {paths[0].name} lie beside the image, say their "
                           "headers: they do not show the same place")
    labels = np.zeros(volume.space, np.uint8)
    for name, some in sorted(parts.items(), key=lambda item: -sum(int(part.inside.sum()) for part in item[1])):
        for part in some:
            labels[part.place][part.inside] = values[name]
    return labels.reshape(image.space), any(part.regridded for some in parts.values() for part in some)
