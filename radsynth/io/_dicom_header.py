"""DICOM headers, checked and put into our own words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.io import Header, NotAnImage
from radsynth.io._dicom_parsing import check_whole, parse, quietly, tags
from radsynth.io._dicom_values import (
    SPACINGS,
    Single,
    age_in_years,
    bits_of_real,
    burned_in,
    decimal_commas,
    find_single,
    length_of,
    lost_geometry,
    numbers_of,
    plane_of,
    sorts_of,
    spacing_in,
    values_of,
)
from radsynth.io._limits import check_size, unusable

DIRECTORY = "1.2.840.10008.1.3.10"
NOT_IMAGES = {
    DIRECTORY: "a directory of a medium (DICOMDIR)",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose grid",
}

CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
STRUCTURES = {
    CONTOURS: "a set of contours (RTSTRUCT)",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation (SEG)",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation (SEG)",
}
"""What is no image, and may be the mask of one."""

LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""JPEG baseline and extended."""


class HoldsStructures(NotAnImage):
    """A segmentation or a set of contours (see `_dicom_structures`)."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One DICOM file, or one frame of an enhanced one, as its header describes it.

    position, across, down: the image plane in LPS mm; group: what the slices of one volume have in common
    sorts: what may tell pictures of one series and place apart, as `sorts_of` says
    step: mm to the next slice, as far as the file says; thickness: mm that this one shows, None where it does not say
    lossy: as in `Image`
    reference: the identifier of its frame of reference, "" for none that is valid
    frame: the frame's index in an enhanced multi-frame file, None for the file as a whole
    single: how its pixels are read without parsing it again; None where that takes more
    """

    path: str
    header: Header
    uid: str
    study: str
    series: str
    number: int
    group: tuple[Any, ...]
    sorts: tuple[str, ...]
    position: tuple[float, ...] | None
    across: tuple[float, ...] | None
    down: tuple[float, ...] | None
    step: float
    thickness: float | None = None
    lossy: tuple[float, ...] | None = None
    reference: str = ""
    frame: int | None = None
    single: Single | None = None


def instance(path: Path) -> Instance:
    """The description of one file."""
    return describe(Path(path), parse(Path(path)))


def describe(path: Path, dataset: Any) -> Instance:
    """What a parsed header says, checked. NotAnImage for objects without pictures."""
    try:
        with quietly():
            return _describe(path, dataset)
    except Exception as error:
        raise unusable(error, "the DICOM header") from None


def _describe(path: Path, dataset: Any) -> Instance:
    from pydicom.uid import UID

    values = values_of(dataset, tags())
    header = _header(values, dataset)
    single = find_single(
        values, str(dataset.file_meta.get("TransferSyntaxUID", "")), getattr(dataset, "pixels_at", 0)
    )
    described = values.get("PerFrameFunctionalGroupsSequence") or ()
    if (at := getattr(dataset, "pixels_at", 0)) and len(described) in (0, header.frames):  # others are refused for that
        check_whole(path, at, str(dataset.file_meta.TransferSyntaxUID), _bytes_of_pixels(values, header))
    series = str(values.get("SeriesInstanceUID", ""))
    position = numbers_of(values.get("ImagePositionPatient"), 3)
    orientation = numbers_of(values.get("ImageOrientationPatient"), 6)
    across, down = plane_of(orientation) or (None, None)
    reference = str(values.get("FrameOfReferenceUID", ""))
    thickness = length_of(values.get("SliceThickness"))
    return Instance(
        path=str(path),
        header=header,
        uid=str(values.get("SOPInstanceUID", "")),
        study=str(values.get("StudyInstanceUID", "")),
        series=series,
        number=_integer(values.get("InstanceNumber")),
        group=(
            header.patient,
            series,
            header.size,
            header.channels,
            _rounded(orientation),
            _rounded(header.spacing),
            reference,
            str(values.get("TemporalPositionIdentifier", "")),
        ),
        sorts=sorts_of(values),
        reference=reference if UID(reference).is_valid else "",
        position=position if across else None,
        across=across,
        down=down,
        step=length_of(values.get("SpacingBetweenSlices")) or thickness or 1.0,
        thickness=thickness,
        lossy=_lossy(values, str(dataset.file_meta.get("TransferSyntaxUID", ""))),
        single=single,
    )


def _bytes_of_pixels(values: Mapping[str, Any], header: Header) -> int:
    """Bytes of the pixels where they are not compressed."""
    samples = int(values.get("SamplesPerPixel") or 1)
    halved = "422" in str(values.get("PhotometricInterpretation", ""))  # two pixels share their colours
    return math.prod(header.size) * header.frames * (2 if halved else samples) * int(values["BitsAllocated"]) // 8


def _header(values: Mapping[str, Any], dataset: Any) -> Header:
    """What the file says of its image or frames. NotAnImage, or RejectedFile for pixels that are not read."""
    kind = str(values.get("SOPClassUID", dataset.file_meta.get("MediaStorageSOPClassUID", "")))
    rows, columns = values.get("Rows"), values.get("Columns")
    if kind in STRUCTURES:
        raise HoldsStructures(f"it is {STRUCTURES[kind]}, not an image: it can be the mask of the series that it "
                              "was drawn on, if that lies in the same folder or archive")
    if kind in NOT_IMAGES or rows is None or columns is None:
        raise NotAnImage(f"it is {NOT_IMAGES.get(kind, 'a DICOM object without pictures')}, not an image"
                         + (": give the folder that it lies in" if kind == DIRECTORY else ""))
    size, frames = (int(rows), int(columns)), int(values.get("NumberOfFrames") or 1)
    channels, stored = _checked_pixels(values, size, frames)
    modality = str(values.get("Modality") or "OT").strip().upper() or "OT"
    units = "HU" if _is_hounsfield(values, modality) else "stored"
    text = burned_in(values, kind)
    patient = str(values.get("PatientID") or "").strip().casefold()
    return Header(
        format="dicom",
        size=size,
        channels=channels,
        frames=frames,
        modality=modality,
        units=units,
        spacing=_spacing(values),
        bits=bits_of_real(values, stored, units),
        patient=patient or str(values.get("StudyInstanceUID", "")) or None,
        series=str(values.get("SeriesDescription", "")).strip() or None,
        notes=_notes(dataset.preamble, values, text),
        burned_in=text is not None,
        localizer="LOCALIZER" in (values.get("ImageType") or ()),
        age=age_in_years(str(values.get("PatientAge") or "")),
    )


def _checked_pixels(values: Mapping[str, Any], size: tuple[int, int], frames: int) -> tuple[int, int]:
    """Channels and bits of the pixels; RejectedFile where they are too many or of a form that is not read."""
    samples = int(values.get("SamplesPerPixel") or 1)
    allocated, stored = int(values.get("BitsAllocated") or 0), int(values.get("BitsStored") or 0)
    check_size(size, channels=samples, itemsize=max(1, allocated // 8), frames=frames)
    if allocated not in (8, 16, 32) or not 2 <= stored <= allocated or samples not in (1, 3):
        raise RejectedFile(
            f"its pixels have {samples} x {stored or '?'} bits in {allocated or '?'}; read are 1 or 3 x 2 to 32 in "
            "8, 16 or 32"
        )
    if str(values.get("PhotometricInterpretation", "")) == "PALETTE COLOR":
        return 3, 8  # what screens show of its colours, which may be stored as 16 bits
    return samples, stored


def _spacing(values: Mapping[str, Any]) -> tuple[float, ...] | None:
    found = (spacing_in(values, name) for name in SPACINGS)
    return next((spacing for spacing in found if spacing), None)


def slice_affine(found: Instance) -> NDArray[np.float64] | None:
    """(column, row, slice) index -> LPS mm of one slice; None without position, orientation or spacing."""
    if found.position is None or found.across is None or found.down is None or found.header.spacing is None:
        return None
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(found.across) * found.header.spacing[1]
    affine[:3, 1] = np.asarray(found.down) * found.header.spacing[0]
    affine[:3, 2] = np.cross(found.across, found.down) * found.step
    affine[:3, 3] = found.position
    return affine


def _is_hounsfield(values: Mapping[str, Any], modality: str) -> bool:
    told = values.get("RescaleIntercept") not in (None, "")
    return modality == "CT" and told and str(values.get("RescaleType") or "HU").upper() == "HU"


def _notes(preamble: bytes | None, values: Mapping[str, Any], text: str | None) -> tuple[str, ...]:
    """text: as `burned_in` says."""
    notes = []
    if text:
        notes.append(f"{text}. data.burned_in=exclude leaves such files out")
    if commas := decimal_commas(values):
        notes.append(f"decimal commas in {', '.join(commas)}, which DICOM does not allow: read as points")
    notes += lost_geometry(values)
    stored, high = values.get("BitsStored"), values.get("HighBit")
    if isinstance(stored, int) and isinstance(high, int) and high != stored - 1:
        notes.append(f"its HighBit is {high}, where {stored} bits stored make it {stored - 1}: the lowest bits are "
                     "taken. Look whether its values are right")
    if (preamble or b"").startswith(b"MZ"):
        notes.append("its preamble is that of a program (MZ): never run it; it is not copied into any output")
    if str(values.get("SyntheticData", "")).upper() == "YES":
        notes.append("synthetic, as its SyntheticData says")
    return tuple(notes)


def _lossy(values: Mapping[str, Any], syntax: str) -> tuple[float, ...] | None:
    if str(values.get("LossyImageCompression") or "") != "01" and syntax not in LOSSY:
        return None
    ratios = values.get("LossyImageCompressionRatio")
    several = [ratios] if isinstance(ratios, str) or not isinstance(ratios, Sequence) else list(ratios)
    return numbers_of(several, len(several)) or ()


def _integer(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _rounded(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Directions and spacings of one series differ in the last digits."""
    return None if values is None else tuple(round(value, 2) + 0.0 for value in values)
