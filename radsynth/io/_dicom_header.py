"""DICOM headers of untrusted files: parsed within limits, checked, and put into our own words."""

from __future__ import annotations

import functools
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.io import Header, NotAnImage
from radsynth.io._dicom_values import (
    IMPLICIT,
    Single,
    age_in_years,
    bits_of_real,
    burned_in,
    find_single,
    numbers_of,
    values_of,
)
from radsynth.io._limits import MAX_RATIO, MIN_RATIO_BYTES, check_file, check_size, unusable

DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
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
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "ModalityLUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "BurnedInAnnotation",
    "WindowCenter",
    "WindowWidth",
    "ConcatenationUID",
    "DimensionIndexSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)

@dataclass(frozen=True, kw_only=True)
class Instance:
    """One DICOM file, or one frame of an enhanced one, as its header describes it.

    position, across, down: the image plane in LPS mm; group: what the slices of one volume have in common
    frame: the frame's index in an enhanced multi-frame file, None for the file as a whole
    single: how its pixels are read without parsing it again; None where that takes more
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
    single: Single | None = None


@contextmanager
def quietly() -> Iterator[None]:
    """pydicom checks each value and warns of those that bend the standard; what matters here is rejected or noted."""
    from pydicom.config import disable_value_validation

    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def parse(path: Path, *, pixels: bool = False) -> Any:
    """A pydicom data set with the tags needed here (all of them with `pixels`). RejectedFile for a file that lies.

    Without `pixels` its `pixels_at` is where they begin in the file.
    """
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset

    size = check_file(path)
    try:
        with quietly(), open(path, "rb") as file:
            head = file.read(132)
            if head[128:132] != b"DICM":
                raise RejectedFile("it has no DICOM preamble: the letters DICM are missing at byte 128")
            meta = FileMetaDataset(read_dataset(file, False, True, stop_when=_behind))
            syntax = str(meta.get("TransferSyntaxUID", ""))
            if not syntax:
                raise RejectedFile("its file header names no transfer syntax, so that its pixels cannot be read safely")
            if syntax == DEFLATED:
                _check_inflated(path, meta, size)
            if pixels:
                return dcmread(path)
            if syntax == DEFLATED:
                return dcmread(path, stop_before_pixels=True, specific_tags=[*_tags()])
            dataset = read_dataset(
                file, syntax == IMPLICIT, syntax != BIG_ENDIAN, stop_when=_at_pixels, specific_tags=[*_tags()]
            )
            dataset.file_meta, dataset.preamble, dataset.pixels_at = meta, head[:128], file.tell()
            return dataset
    except RecursionError:
        raise RejectedFile("its header is nested too deeply") from None
    except Exception as error:
        raise unusable(error, "the DICOM header") from None


def _behind(tag: int, vr: str | None, length: int) -> bool:
    """The first element that is not the file header's."""
    return tag >> 16 != 2


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    """The first element of the group of Pixel Data."""
    return tag >> 16 == 0x7FE0


@functools.cache
def _tags() -> dict[Any, str]:
    """TAGS by their numbers: pydicom would look each name up again for every file."""
    from pydicom.tag import Tag

    return {Tag(name): name for name in TAGS}


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
    values = values_of(dataset, _tags())
    meta = dataset.file_meta
    kind = str(values["SOPClassUID"] if "SOPClassUID" in values else meta.get("MediaStorageSOPClassUID", ""))
    rows, columns = values.get("Rows"), values.get("Columns")
    if kind in NOT_IMAGES or rows is None or columns is None:
        raise NotAnImage(f"it is {NOT_IMAGES.get(kind, 'a DICOM object without pictures')}, not an image")
    frames, samples = int(values.get("NumberOfFrames") or 1), int(values.get("SamplesPerPixel") or 1)
    allocated, stored = int(values.get("BitsAllocated") or 0), int(values.get("BitsStored") or 0)
    size = (int(rows), int(columns))
    check_size(size, channels=samples, itemsize=max(1, allocated // 8), frames=frames)
    colours = str(values.get("PhotometricInterpretation", ""))
    palette = colours == "PALETTE COLOR"
    if allocated not in (8, 16, 32) or not 2 <= stored <= allocated or samples not in (1, 3):
        raise RejectedFile(
            f"its pixels have {samples} samples of {stored} bits in {allocated}; 1 or 3 of 2 to 32 are read"
        )
    if palette:
        stored = int(values["RedPaletteColorLookupTableDescriptor"][2])
    modality = str(values.get("Modality") or "OT").strip().upper() or "OT"
    position, orientation = (
        numbers_of(values.get("ImagePositionPatient"), 3),
        numbers_of(values.get("ImageOrientationPatient"), 6),
    )
    spacing = next(
        (
            found
            for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
            if (found := numbers_of(values.get(name), 2)) and min(found) > 0
        ),
        None,
    )
    across, down = _axes(orientation)
    units = "HU" if _is_hounsfield(values, modality) else "stored"
    series = str(values.get("SeriesInstanceUID", ""))
    text = burned_in(values, kind)
    described = Header(
        format="dicom",
        size=size,
        channels=3 if samples == 3 or palette else 1,
        frames=frames,
        modality=modality,
        units=units,
        spacing=spacing,
        bits=bits_of_real(values, stored, units),
        patient=str(values.get("PatientID") or "").strip().casefold()
        or str(values.get("StudyInstanceUID", ""))
        or None,
        series=str(values.get("SeriesDescription", "")).strip() or None,
        notes=_notes(dataset.preamble, values, text),
        burned_in=text is not None,
        age=age_in_years(str(values.get("PatientAge") or "")),
    )
    return Instance(
        path=str(path),
        header=described,
        uid=str(values.get("SOPInstanceUID", "")),
        study=str(values.get("StudyInstanceUID", "")),
        series=series,
        number=_integer(values.get("InstanceNumber")),
        kind=tuple(str(v) for v in values.get("ImageType") or ()),
        group=(
            described.patient,
            series,
            size,
            described.channels,
            _rounded(orientation),
            _rounded(spacing),
            str(values.get("FrameOfReferenceUID", "")),
            str(values.get("EchoNumbers", "")),
            str(values.get("TemporalPositionIdentifier", "")),
        ),
        position=position if across else None,
        across=across,
        down=down,
        thickness=next(
            (
                found[0]
                for name in ("SpacingBetweenSlices", "SliceThickness")
                if (found := numbers_of([values.get(name)], 1)) and found[0] > 0
            ),
            1.0,
        ),
        single=find_single(values, str(meta.get("TransferSyntaxUID", "")), getattr(dataset, "pixels_at", 0)),
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


def _is_hounsfield(values: Mapping[str, Any], modality: str) -> bool:
    return (
        modality == "CT" and "RescaleIntercept" in values and str(values.get("RescaleType") or "HU").upper() == "HU"
    )


def _notes(preamble: bytes | None, values: Mapping[str, Any], text: str | None) -> tuple[str, ...]:
    """text: as `burned_in` says."""
    notes = []
    if text:
        notes.append(f"{text}. data.burned_in=exclude leaves such files out")
    if (preamble or b"").startswith(b"MZ"):
        notes.append("its preamble is that of a program (MZ): never run it; it is not copied into any output")
    if str(values.get("SyntheticData", "")).upper() == "YES":
        notes.append("synthetic, as its SyntheticData says")
    return tuple(notes)


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
