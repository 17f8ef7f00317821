"""Values of a DICOM header in our own words: numbers, windows, ages, and what its pixels need."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radsynth.errors import RejectedFile

Vector = tuple[float, ...]
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
"""What may tell the size of pixels, the best first."""
ALONE = "the place of the slice counts as unknown, so that it stands alone and is in no volume"
SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
ULTRASOUND = ("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6.2")

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
COMPRESSED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")
"""How the transfer syntaxes of the JPEG family and of RLE begin."""


SHORT = 256
"""Bytes of an element, at most, that is worth remembering."""


def values_of(dataset: Any, tags: Mapping[Any, str]) -> dict[str, Any]:
    """Name -> value, as pydicom converts it, of those of the `tags` that are there.

    The slices of a series share nearly all of their elements, and converting them is most of the work of a header.
    """
    from pydicom.dataelem import RawDataElement

    present, found = dataset.keys(), {}
    said = dataset.original_character_set
    encoding = (said,) if isinstance(said, str) else tuple(said)
    for tag, name in tags.items():
        if tag not in present:
            continue
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.VR not in (None, "SQ") and len(raw.value or b"") <= SHORT:
            found[name] = _converted(raw._replace(value_tell=0), encoding)
        else:
            found[name] = dataset[tag].value
    return found


@functools.lru_cache(maxsize=4096)
def _converted(raw: Any, encoding: tuple[str, ...]) -> Any:
    from pydicom.dataelem import convert_raw_data_element

    return convert_raw_data_element(raw, encoding=list(encoding)).value


@dataclass(frozen=True, kw_only=True)
class Single:
    """How the pixels of a file with one grey frame are found and become real values, without parsing it again.

    syntax, stored: transfer syntax and Bits Stored; offset: of the element Pixel Data in the file
    padding: as `padding_of` says; window: as `window_of` says
    """

    syntax: str
    stored: int
    offset: int
    signed: bool
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    window: tuple[float, float] | None

    @property
    def compressed(self) -> bool:
        """Do its pixels need a decoder?"""
        return self.syntax.startswith(COMPRESSED)


def find_single(dataset: Mapping[str, Any], syntax: str, offset: int) -> Single | None:
    """Of the values of a header; None where pixels need more than to be decoded and scaled. offset: 0 if unknown."""
    native = syntax in (IMPLICIT, EXPLICIT) and dataset.get("BitsAllocated") == 16 and sys.byteorder == "little"
    if (
        not offset
        or not (native or syntax.startswith(COMPRESSED))
        or int(dataset.get("SamplesPerPixel") or 1) != 1
        or int(dataset.get("NumberOfFrames") or 1) != 1
        or str(dataset.get("PhotometricInterpretation", "")) != "MONOCHROME2"
        or dataset.get("PixelRepresentation") not in (0, 1)
        or "ModalityLUTSequence" in dataset
    ):
        return None
    slope, intercept = scale(dataset)
    return None if slope == 0 else Single(
        syntax=syntax,
        stored=int(dataset["BitsStored"]),
        offset=offset,
        signed=bool(dataset["PixelRepresentation"]),
        slope=slope,
        intercept=intercept,
        padding=padding_of(dataset),
        window=window_of(dataset),
    )


OLDEST = 90.0
"""Years: the few patients beyond may be known by their age, so that de-identified data names none (45 CFR 164.514)."""


def age_in_years(text: str) -> float | None:
    """DICOM's age string: three digits and D, W, M or Y, at most `OLDEST`; None when it is none."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text.strip().upper())
    if match is None:
        return None
    return min(int(match[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}[match[2]], OLDEST)


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


def scale(dataset: Any) -> tuple[float, float]:
    """Rescale Slope and Intercept; 1 and 0 where they are missing or empty. RejectedFile for others that are no number:
    nobody knows what values mean then."""
    found = []
    for name, usual in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = dataset.get(name)
        number = (usual,) if value is None or value == "" else numbers_of([value], 1)
        if number is None:
            raise RejectedFile(f"its {name} is not one number, so that nobody knows what its values mean")
        found.append(number[0])
    return found[0], found[1]


def bits_of_real(dataset: Any, stored: int, units: str) -> int:
    """8, 12, 16 or 32 bits for the real values that Rescale makes of `stored` bits: 32 (floating point) for fractions
    and for what goes beyond 16 bits. Hounsfield units are whole numbers whatever the scale.
    """
    if "ModalityLUTSequence" in dataset:
        numbers = [numbers_of(table.get("LUTDescriptor") or (), 3) for table in dataset.get("ModalityLUTSequence")]
        stored = max(stored, *(int(three[2]) for three in numbers if three), 0)
    elif int(dataset.get("SamplesPerPixel") or 1) == 1 and units != "HU":
        slope, intercept = scale(dataset)
        ends = [slope * end + intercept for end in stored_range(stored, bool(dataset.get("PixelRepresentation")))]
        if not (slope.is_integer() and intercept.is_integer()) or min(ends) < -(2**15) or max(ends) >= 2**16:
            return 32
        stored = max(stored, math.ceil(math.log2(max(map(abs, ends)) + 1)) if slope != 1 else 0)
    return next(bits for bits in (8, 12, 16, 32) if bits >= stored)


def stored_range(bits: int, signed: bool) -> tuple[int, int]:
    """Lowest and highest number that so many stored bits hold."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def padding_of(dataset: Any) -> tuple[int, int] | None:
    """Lowest and highest stored value that is no measurement but fills the picture, None without (C.7.5.1.1.2)."""
    signed, ends = bool(dataset.get("PixelRepresentation")), []
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = dataset.get(name)
        if isinstance(value, bytes):  # of a file that leaves the type open
            value = int.from_bytes(value[:2], "little")
        if isinstance(value, int):  # signed values are often written as unsigned ones
            ends.append(value - 2**16 if signed and value >= 2**15 else value)
    return (min(ends), max(ends)) if ends else None


def window_of(dataset: Any) -> tuple[float, float] | None:
    """(low, high) of the first window that the file asks to be shown with, in real values; None without one."""
    found = [dataset.get(name) for name in ("WindowCenter", "WindowWidth")]
    first = [value[0] if isinstance(value, Sequence) and not isinstance(value, str) and value else value
             for value in found]
    numbers = numbers_of(first, 2)
    return (numbers[0] - numbers[1] / 2, numbers[0] + numbers[1] / 2) if numbers and numbers[1] > 0 else None


DECIMALS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SliceThickness",
            "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
            "RescaleIntercept", "WindowCenter", "WindowWidth")


def decimal_commas(dataset: Mapping[str, Any]) -> list[str]:
    """Which of DECIMALS are written with commas, as some programs write them in some countries."""
    texts = {name: [value] if isinstance(value := dataset.get(name), str) else value for name in DECIMALS}
    return [name for name, several in texts.items() if isinstance(several, Sequence)
            and any(isinstance(text, str) and "," in text for text in several)]


def lost_geometry(dataset: Mapping[str, Any]) -> list[str]:
    """What to say of each element that tells a place or a length, has a value, and none that can be used."""
    orientation = numbers_of(dataset.get("ImageOrientationPatient"), 6)
    sizes = {name: spacing_in(dataset, name) for name in SPACINGS}
    another = next((name for name, spacing in sizes.items() if spacing), None)
    size_now = f"{another} is taken" if another else "the size of its pixels counts as unknown, and they as squares"
    needed = {
        **{name: (spacing, "two numbers above 0", size_now) for name, spacing in sizes.items()},
        **{name: (length_of(dataset.get(name)), "one number above 0", "it counts as unknown")
           for name in ("SliceThickness", "SpacingBetweenSlices")},
        "ImagePositionPatient": (numbers_of(dataset.get("ImagePositionPatient"), 3), "three numbers", ALONE),
        "ImageOrientationPatient": (plane_of(orientation), "two perpendicular unit vectors", ALONE),
    }
    return [f"{name} is not {wanted}: {assumed}" for name, (found, wanted, assumed) in needed.items()
            if found is None and dataset.get(name) not in (None, "", [])]


def spacing_in(dataset: Mapping[str, Any], name: str) -> tuple[float, ...] | None:
    """Two positive numbers of one of SPACINGS, or None."""
    spacing = numbers_of(dataset.get(name), 2)
    return spacing if spacing and min(spacing) > 0 else None


def length_of(value: Any) -> float | None:
    """A positive number, or None."""
    found = numbers_of([value], 1)
    return found[0] if found and found[0] > 0 else None


def plane_of(orientation: Vector | None) -> tuple[Vector, Vector] | None:
    """The two unit directions of the plane; None when they are not perpendicular units."""
    if orientation is None:
        return None
    across, down = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if min(lengths) < 0.9 or max(lengths) > 1.1 or abs(float(across @ down)) > 0.01:
        return None
    return tuple((across / lengths[0]).tolist()), tuple((down / lengths[1]).tolist())


def sorts_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells sorts of picture in one series apart, in words for users: echo, its number, b-value, Image Type."""
    told = (("echo {} ms", values.get("EchoTime")), ("echo {}", values.get("EchoNumbers")),
            ("b {}", b_value(values)), ("{}", values.get("ImageType")))
    return tuple(words.format(in_words(value)) for words, value in told)


PRIVATE_BLOCKS = {"Siemens": "SIEMENS MR HEADER", "GE": "GEMS_PARM_01"}
GE_MARK = 10**9
"""What GE adds to some b-values."""


def b_value(values: Mapping[str, Any]) -> Any:
    """Of diffusion-weighted MR, s/mm2: of the standard's element, else of Siemens' or GE's own."""
    found = values.get("DiffusionBValue")
    for maker, block in PRIVATE_BLOCKS.items():
        own = values.get(f"{maker}BValue")
        if found is None and own is not None and values.get(f"{maker}Block") == block:
            several = own.decode("ascii", "replace").split("\\") if isinstance(own, bytes) else own
            first = numbers_of([several] if isinstance(several, (str, int, float)) else several[:1], 1)
            found = first[0] % GE_MARK if first else None
    return found


def in_words(value: Any) -> str:
    """An attribute's value as users read and search it: 90, PHASE, M_FFE/M."""
    if isinstance(value, (int, float)):
        return f"{value:g}"
    return str(value or "?") if isinstance(value, str) or not value else "/".join(map(str, value))


def numbers_of(value: Any, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, or None. A decimal comma, which the standard forbids, counts as a point."""
    try:
        numbers = tuple(float(number.replace(",", ".") if isinstance(number, str) else number) for number in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(math.isfinite(number) for number in numbers) else None
