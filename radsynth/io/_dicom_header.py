"""DICOM headers of untrusted files: parsed within limits, checked, and put into our own words."""

from __future__ import annotations

import functools
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.io import Header, NotAnImage
from radsynth.io._limits import MAX_RATIO, MIN_RATIO_BYTES, check_file, check_size, unusable

DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_INFLATED = 256 * 2**20

NOT_IMAGES = {
    "1.2.840.10008.1.3.10": "a directory of a medium (DICOMDIR)",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation object",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation object",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose grid",
}

TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SyntheticData",
    "ImageType",
    "Modality",
    "PatientID",
    "PatientAge",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "FrameOfReferenceUID",
    "InstanceNumber",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "RedPaletteColorLookupTableDescriptor",
    "BurnedInAnnotation",
    "WindowCenter",
    "WindowWidth",
    "ConcatenationUID",
    "DimensionIndexSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)

SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
ULTRASOUND = ("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6.2")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One DICOM file, or one frame of an enhanced one, as its header describes it.

    position, across, down: the image plane in LPS mm; group: what the slices of one volume have in common
    frame: the frame's index in an enhanced multi-frame file, None for the file as a whole
    """

    path: str
    header: Header
    uid: str
    study: str
    series: str
    number: int
    kind: tuple[str, ...]
    group: tuple[Any, ...]
    position: tuple[float, ...] | None
    across: tuple[float, ...] | None
    down: tuple[float, ...] | None
    thickness: float
    frame: int | None = None


@contextmanager
def quietly() -> Iterator[None]:
    """pydicom warns of every value that bends the standard; what matters here is rejected or noted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(path: Path, *, pixels: bool = False) -> Any:
    """A pydicom data set with the tags needed here (all of them with `pixels`). RejectedFile for a file that lies."""
    import pydicom

    size = check_file(path)
    with open(path, "rb") as file:
        head = file.read(132)
    if head[128:132] != b"DICM":
        raise RejectedFile("it has no DICOM preamble: the letters DICM are missing at byte 128")
    try:
        with quietly():
            meta = pydicom.filereader.read_file_meta_info(path)
            syntax = str(meta.get("TransferSyntaxUID", ""))
            if not syntax:
                raise RejectedFile("its file header names no transfer syntax, so that its pixels cannot be read safely")
            if syntax == DEFLATED:
                _check_inflated(path, meta, size)
            return (
                pydicom.dcmread(path)
                if pixels
                else pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_tags())
            )
    except RecursionError:
        raise RejectedFile("its header is nested too deeply") from None
    except Exception as error:
        raise unusable(error, "the DICOM header") from None


@functools.cache
def _tags() -> list[Any]:
    """TAGS as numbers: pydicom would look each name up again for every file."""
    from pydicom.tag import Tag

    return [Tag(name) for name in TAGS]


def _check_inflated(path: Path, meta: Any, size: int) -> None:
    """A deflated file is inflated piece by piece and thrown away, to know its size before pydicom keeps it."""
    length = meta.get("FileMetaInformationGroupLength")
    if length is None:
        raise RejectedFile("it is deflated and its file header has no length")
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open(path, "rb") as file:
        file.seek(132 + 12 + int(length))
        while block := file.read(65_536):
            while block:
                total += len(inflater.decompress(block, 2**20))
                block = inflater.unconsumed_tail
                if total > MAX_INFLATED or total > max(MIN_RATIO_BYTES, MAX_RATIO * size):
                    raise RejectedFile(
                        f"its deflated content grows beyond {total:,} bytes: it may be a decompression bomb"
                    )


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
    kind = str(dataset.get("SOPClassUID", dataset.file_meta.get("MediaStorageSOPClassUID", "")))
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if kind in NOT_IMAGES or rows is None or columns is None:
        raise NotAnImage(f"it is {NOT_IMAGES.get(kind, 'a DICOM object without pictures')}, not an image")
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    allocated, stored = int(dataset.get("BitsAllocated") or 0), int(dataset.get("BitsStored") or 0)
    size = (int(rows), int(columns))
    check_size(size, channels=samples, itemsize=max(1, allocated // 8), frames=frames)
    colours = str(dataset.get("PhotometricInterpretation", ""))
    palette = colours == "PALETTE COLOR"
    if allocated not in (8, 16, 32) or not 2 <= stored <= allocated or samples not in (1, 3):
        raise RejectedFile(
            f"its pixels have {samples} samples of {stored} bits in {allocated}; 1 or 3 of 2 to 32 are read"
        )
    if palette:
        stored = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    modality = str(dataset.get("Modality") or "OT").strip().upper() or "OT"
    position, orientation = (
        numbers_of(dataset.get("ImagePositionPatient"), 3),
        numbers_of(dataset.get("ImageOrientationPatient"), 6),
    )
    spacing = next(
        (
            found
            for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
            if (found := numbers_of(dataset.get(name), 2)) and min(found) > 0
        ),
        None,
    )
    across, down = _axes(orientation)
    series = str(dataset.get("SeriesInstanceUID", ""))
    described = Header(
        format="dicom",
        size=size,
        channels=3 if samples == 3 or palette else 1,
        frames=frames,
        modality=modality,
        units="HU" if _is_hounsfield(dataset, modality) else "stored",
        spacing=spacing,
        bits=next(bits for bits in (8, 12, 16, 32) if bits >= stored),
        patient=str(dataset.get("PatientID") or "").strip().casefold()
        or str(dataset.get("StudyInstanceUID", ""))
        or None,
        series=str(dataset.get("SeriesDescription", "")).strip() or None,
        notes=_notes(path, dataset, kind),
        burned_in=burned_in(dataset, kind) is not None,
        age=age_in_years(str(dataset.get("PatientAge") or "")),
    )
    return Instance(
        path=str(path),
        header=described,
        uid=str(dataset.get("SOPInstanceUID", "")),
        study=str(dataset.get("StudyInstanceUID", "")),
        series=series,
        number=_integer(dataset.get("InstanceNumber")),
        kind=tuple(str(v) for v in dataset.get("ImageType") or ()),
        group=(
            series,
            size,
            described.channels,
            _rounded(orientation),
            _rounded(spacing),
            str(dataset.get("FrameOfReferenceUID", "")),
            str(dataset.get("EchoNumbers", "")),
            str(dataset.get("TemporalPositionIdentifier", "")),
        ),
        position=position if across else None,
        across=across,
        down=down,
        thickness=next(
            (
                found[0]
                for name in ("SpacingBetweenSlices", "SliceThickness")
                if (found := numbers_of([dataset.get(name)], 1)) and found[0] > 0
            ),
            1.0,
        ),
    )


def slice_affine(found: Instance) -> NDArray[np.float64] | None:
    """(column, row, slice) index -> LPS mm of one slice; None without position, orientation or spacing."""
    if found.position is None or found.across is None or found.down is None or found.header.spacing is None:
        return None
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(found.across) * found.header.spacing[1]
    affine[:3, 1] = np.asarray(found.down) * found.header.spacing[0]
    affine[:3, 2] = np.cross(found.across, found.down) * found.thickness
    affine[:3, 3] = found.position
    return affine


def _is_hounsfield(dataset: Any, modality: str) -> bool:
    return (
        modality == "CT" and "RescaleIntercept" in dataset and str(dataset.get("RescaleType") or "HU").upper() == "HU"
    )


def age_in_years(text: str) -> float | None:
    """DICOM's age string: three digits and D, W, M or Y; None when it is none."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text.strip().upper())
    return int(match[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}[match[2]] if match else None


def burned_in(dataset: Any, kind: str) -> str | None:
    """Why text with a patient's name may be drawn into the pixels; None when nothing says so."""
    said = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if said == "YES":
        return "its pixels hold burned-in text, as its BurnedInAnnotation says"
    if said == "NO":
        return None
    if kind == SECONDARY_CAPTURES or kind.startswith(f"{SECONDARY_CAPTURES}."):
        return "its pixels may hold burned-in text: it is a Secondary Capture"
    if kind in ULTRASOUND or str(dataset.get("Modality", "")).strip().upper() == "US":
        return "its pixels may hold burned-in text: it is an ultrasound image"
    return None


def window_of(dataset: Any) -> tuple[float, float] | None:
    """(low, high) of the first window that the file asks to be shown with, in real values; None without one."""
    found = [dataset.get(name) for name in ("WindowCenter", "WindowWidth")]
    first = [value[0] if isinstance(value, Sequence) and not isinstance(value, str) and value else value
             for value in found]
    numbers = numbers_of(first, 2)
    return (numbers[0] - numbers[1] / 2, numbers[0] + numbers[1] / 2) if numbers and numbers[1] > 0 else None


def _notes(path: Path, dataset: Any, kind: str) -> tuple[str, ...]:
    notes = []
    text = burned_in(dataset, kind)
    if text:
        notes.append(f"{text}. data.burned_in=exclude leaves such files out")
    with open(path, "rb") as file:
        if file.read(2) == b"MZ":
            notes.append("its preamble is that of a program (MZ): never run it; it is not copied into any output")
    if str(dataset.get("SyntheticData", "")).upper() == "YES":
        notes.append("synthetic, as its SyntheticData says")
    return tuple(notes)


def numbers_of(value: Any, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, or None."""
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(math.isfinite(number) for number in numbers) else None


def _integer(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _rounded(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Directions and spacings of one series differ in the last digits."""
    return None if values is None else tuple(round(value, 2) + 0.0 for value in values)


def _axes(orientation: tuple[float, ...] | None) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """The two unit directions of the plane; none when they are not perpendicular units."""
    if orientation is None:
        return None, None
    across, down = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(float(across @ down)) > 0.01:
        return None, None
    return tuple((across / lengths[0]).tolist()), tuple((down / lengths[1]).tolist())
