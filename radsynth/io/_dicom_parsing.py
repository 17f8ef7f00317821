"""DICOM files of untrusted origin, parsed within limits: the tags that are needed, deflated bombs, nested sequences."""

from __future__ import annotations

import functools
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from radsynth.errors import RejectedFile
from radsynth.io._dicom_values import COMPRESSED, IMPLICIT
from radsynth.io._limits import MAX_RATIO, MIN_RATIO_BYTES, check_file, unusable

PIXEL_DATA, ITEM = b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0"
FLOATING_DATA = (b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")
FLOATING = ("its pixels are floating-point numbers (Float Pixel Data, as in parameter maps), which are not read: save "
            "them as NIfTI or NRRD")
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
MAX_INFLATED = 256 * 2**20

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
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
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
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "WindowCenter",
    "WindowWidth",
    "ConcatenationUID",
    "DimensionIndexSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)

PRIVATE = {0x00190010: "SiemensBlock", 0x0019100C: "SiemensBValue", 0x00430010: "GEBlock", 0x00431039: "GEBValue"}
"""Where MR scanners of before 2020 or so write the b-value: elements of these blocks, if they are what they are taken
for."""


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
                whole = dcmread(path)
                if "FloatPixelData" in whole or "DoubleFloatPixelData" in whole:
                    raise RejectedFile(FLOATING)
                return whole
            if syntax == DEFLATED:
                return dcmread(path, stop_before_pixels=True, specific_tags=[*tags()])
            dataset = read_dataset(
                file, syntax == IMPLICIT, syntax != BIG_ENDIAN, stop_when=_at_pixels, specific_tags=[*tags()]
            )
            dataset.file_meta, dataset.preamble, dataset.pixels_at = meta, head[:128], file.tell()
            if file.read(4) in FLOATING_DATA:
                raise RejectedFile(FLOATING)
            return dataset
    except RecursionError:
        raise RejectedFile("its header is nested too deeply") from None
    except Exception as error:
        raise unusable(error, "the DICOM header") from None


def check_whole(path: Path, pixels_at: int, syntax: str, needed: int) -> None:
    """RejectedFile for a file that ends too early: found now, it costs the slice and not the whole series.

    needed: bytes of its pixels where they are not compressed
    """
    size = path.stat().st_size
    if not syntax.startswith(COMPRESSED):
        there = max(size - pixels_at - 8, 0)  # behind the element's tag and length, at least
        if there < needed:
            raise RejectedFile(f"its pixels are cut short: {there:,} of {needed:,} bytes are there")
    elif _ends_within(path, pixels_at, size):
        raise RejectedFile(f"its compressed pixels are cut short: the file ends after {size:,} bytes, within them")


def _ends_within(path: Path, place: int, size: int) -> bool:
    """Does a file end before its encapsulated pixels do (PS3.5, A.4)? False where they are of no form that is known."""
    with open(path, "rb") as file:
        file.seek(place)
        if file.read(4) != PIXEL_DATA:
            return False
        place += 12
        while place < size:
            file.seek(place)
            head = file.read(8)
            if head[:4] != ITEM:
                return len(head) < 8
            place += 8 + int.from_bytes(head[4:], "little")
    return True


def _behind(tag: int, vr: str | None, length: int) -> bool:
    """The first element that is not the file header's."""
    return tag >> 16 != 2


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    """The first element of the group of Pixel Data."""
    return tag >> 16 == 0x7FE0


@functools.cache
def tags() -> dict[Any, str]:
    """TAGS and PRIVATE by their numbers: pydicom would look each name up again for every file."""
    from pydicom.tag import Tag

    return {Tag(name): name for name in TAGS} | {Tag(number): name for number, name in PRIVATE.items()}


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
