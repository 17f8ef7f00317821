"""Structures that DICOM keeps in objects of their own: segmentations (SEG) and sets of contours (RTSTRUCT).

They lie in the patient's coordinates and name the series that they were drawn on; here they become the label map of an
image. Where structures overlap, the smaller one counts: a tumour within its organ, an organ within the body's outline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io import _dicom_contours, _dicom_segments
from radsynth.io._dicom_header import CONTOURS
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


def plain(name: str) -> str:
    """A structure's name as it is compared: capitals and blanks do not matter."""
    return " ".join(name.split()).casefold()


def structures(path: Path) -> Structures:
    """What an object says of itself, without its pixels or contours; RejectedFile for one that cannot be read."""
    from pydicom import dcmread

    check_file(path)
    tags = ["SOPClassUID", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ReferencedSeriesSequence",
            "SegmentSequence", "StructureSetROISequence", "ReferencedFrameOfReferenceSequence"]
    try:
        with quietly():
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=tags)
            return _described(path, dataset)
    except Exception as error:
        raise unusable(error, "the DICOM header") from None


def _described(path: Path, dataset: Any) -> Structures:
    frames = dataset.get("ReferencedFrameOfReferenceSequence") or []
    series = [*(dataset.get("ReferencedSeriesSequence") or []),
              *(one for frame in frames for study in frame.get("RTReferencedStudySequence") or []
                for one in study.get("RTReferencedSeriesSequence") or [])]
    references = [str(one.get("FrameOfReferenceUID") or "") for one in (dataset, *frames)]
    names = {int(one.SegmentNumber): str(one.get("SegmentLabel") or f"segment {one.SegmentNumber}")
             for one in dataset.get("SegmentSequence") or [] if int(one.SegmentNumber) > 0}
    names |= {int(one.ROINumber): str(one.get("ROIName") or f"structure {one.ROINumber}")
              for one in dataset.get("StructureSetROISequence") or []}
    if not names:
        raise RejectedFile("it names no structures")
    patient = str(dataset.get("PatientID") or "").strip().casefold()
    return Structures(
        path=str(path), contours=str(dataset.SOPClassUID) == CONTOURS, names=names,
        patient=patient or str(dataset.get("StudyInstanceUID", "")),
        series=frozenset(str(one.get("SeriesInstanceUID") or "") for one in series) - {""},
        reference=next(filter(None, references), ""))


def labels_on(paths: Sequence[Path], values: Mapping[str, int], image: Image) -> tuple[NDArray[np.uint8], bool]:
    """The label map (*space) of objects on the grid of an image, and whether one was drawn on another grid.

    values: of the structures that are wanted, by their `plain` names; the others are background
    RejectedFile for objects that cannot be read, that show another place, or that have none of these structures.
    """
    volume = image if len(image.space) == 3 else image.replace(
        pixels=image.pixels[:, None], spacing=None, mask=None)
    parts: dict[str, list[Drawn]] = defaultdict(list)
    has: set[str] = set()
    for path in paths:
        try:
            own = structures(path)
            has |= set(own.names.values())
            numbers = {number: name for number, name in own.names.items() if plain(name) in values}
            read = _dicom_contours.drawn if own.contours else _dicom_segments.drawn
            with quietly():
                for part in read(path, numbers, volume) if numbers else ():
                    parts[plain(part.name)].append(part)
        except RejectedFile as error:
            raise RejectedFile(f"its segmentation {path.name}: {error}") from None
        except Exception as error:
            raise unusable(error, f"its segmentation {path.name}") from None
    if not values.keys() & set(map(plain, has)):
        raise RejectedFile(f"its segmentation {paths[0].name} has none of the structures that data.mask_names names; "
                           f"it has {', '.join(sorted(has))}")
    labels = np.zeros(volume.space, np.uint8)
    for name, some in sorted(parts.items(), key=lambda item: -sum(int(part.inside.sum()) for part in item[1])):
        for part in some:
            labels[part.place][part.inside] = values[name]
    return labels.reshape(image.space), any(part.regridded for some in parts.values() for part in some)
