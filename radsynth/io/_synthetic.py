"""What every writer shares: stored integers that keep the real values, the mark, and files that appear whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import DataError
from radsynth.image import GREY, Image
from radsynth.io import Header, Provenance

KEY = "radsynth"
"""The name under which formats with free text keep the mark."""

MAX_MARK = 65_536
CT_INTERCEPT = -1024.0


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Integers or floats as a file holds them: real value = values * slope + intercept. `bits`: 8, 12, 16 or 32."""

    values: NDArray[Any]
    slope: float
    intercept: float
    bits: int


def store(image: Image, *, floats: bool = False, span: tuple[float, float] | None = None) -> Stored:
    """The image's pixels as a file can hold them, within half a step of `slope`.

    Whole numbers in the image's own range keep slope 1; Hounsfield units start at -1024. Floating point (32 bits) stays
    as it is where the format allows `floats`, and takes 65,535 steps elsewhere: of `span` if the image lies in it, so
    that images can be compared by who does not know the slope. DataError for NaN and infinity.
    """
    if not np.isfinite(image.pixels).all():
        raise DataError("the image holds values that are not finite numbers; it is not written")
    if image.bits == 32 and floats:
        return Stored(values=image.pixels.astype(np.float32), slope=1.0, intercept=0.0, bits=32)
    low, high = float(image.pixels.min()), float(image.pixels.max())
    bits, slope, intercept = min(image.bits, 16), 1.0, 0.0
    if image.bits == 32:
        slack = 1e-6 * (span[1] - span[0]) if span else 0.0  # of rounding to 32 bits
        low, high = span if span and span[0] - slack <= low and high <= span[1] + slack else (low, high)
        slope, intercept = (high - low) / 65535 or 1.0, low
    elif image.units == "HU":
        bits, intercept = max(bits, 12), min(CT_INTERCEPT, math.floor(low))
    elif round(low) < 0:
        intercept = float(math.floor(low))
    if round((high - intercept) / slope) > 2**bits - 1:
        bits = 16
        slope = max(slope, (high - intercept) / 65535)
    values = np.rint((image.pixels.astype(np.float64) - intercept) / slope)
    dtype = np.uint8 if bits == 8 else np.uint16
    return Stored(values=np.clip(values, 0, 2**bits - 1).astype(dtype), slope=slope, intercept=intercept, bits=bits)


def as_whole_numbers(stored: Stored, *, signed: bool) -> Stored:
    """The same real values without an intercept, for formats that hold signed numbers, as other programs write them.

    signed: the image's own numbers are: 16 bits are signed then, too, where its values fit
    """
    whole = stored.slope == 1 and float(stored.intercept).is_integer() and stored.bits != 32
    if not whole or not (stored.intercept or (signed and stored.bits > 8)):
        return stored
    values = stored.values.astype(np.int32) + int(stored.intercept)
    low, high = int(values.min()), int(values.max())
    dtype = np.int16 if low >= -(2**15) and high < 2**15 else np.uint16 if low >= 0 and high < 2**16 else np.int32
    return Stored(values=values.astype(dtype), slope=1.0, intercept=0.0, bits=stored.bits)


def sentence(provenance: Provenance) -> str:
    """The mark for a human reader."""
    maker = f"radsynth {metadata.version('radsynth')} ({provenance.model})"
    usual = f"SYNTHETIC image made by {maker}; not acquired from a patient."
    if provenance.source:
        usual = (
            f"DERIVED image made by {maker}, synthetic in part; it may show the patient of the image it was made from."
        )
    return f"{usual} {provenance.description}".strip()


def texts(provenance: Provenance) -> dict[str, str]:
    """The marks for human readers in the text entries of a picture."""
    return {"Synthetic": "yes", "Software": "radsynth", "Description": sentence(provenance)}


def mark(image: Image, provenance: Provenance, stored: Stored) -> str:
    """The mark for programs: JSON (ASCII) with the provenance and with what the format itself cannot hold."""
    return json.dumps(
        {
            "synthetic": True,
            "generator": f"radsynth {metadata.version('radsynth')}",
            "model": provenance.model,
            "weights_sha256": provenance.weights,
            "seed": provenance.seed,
            "index": provenance.index,
            "source_sha256": provenance.source,
            "description": sentence(provenance),
            "image": {
                "modality": image.modality,
                "units": image.units,
                "bits": stored.bits,
                "channels": list(image.channels),
                "spacing": None if image.spacing is None else list(image.spacing),
                "affine": None if image.affine is None else np.asarray(image.affine).tolist(),
                "slope": stored.slope,
                "intercept": stored.intercept,
                "window": None if provenance.window is None else list(provenance.window),
            },
        }
    )


@dataclass(frozen=True, kw_only=True)
class Marked:
    """What a mark of ours says of the image."""

    modality: str
    units: str
    bits: int
    channels: tuple[str, ...]
    spacing: tuple[float, ...] | None
    affine: NDArray[np.float64] | None
    slope: float
    intercept: float

    def real(self, values: NDArray[Any]) -> NDArray[Any]:
        """Stored numbers to real values, whole numbers where they are whole."""
        return rescale(values, self.slope, self.intercept)

    def header(self, format: str, size: tuple[int, ...], channels: int) -> Header:
        """The header of a marked file whose pixels have this size."""
        return Header(
            format=format,
            size=size,
            channels=channels,
            bits=self.bits,
            modality=self.modality,
            units=self.units,
            spacing=self.spacing if len(self.spacing or ()) == len(size) else None,
            notes=("synthetic, made by radsynth",),
        )


def parse_mark(text: object) -> Marked | None:
    """The inverse of `mark`; None for anything that is not a whole mark of ours. The text is not trusted."""
    if not isinstance(text, str) or len(text) > MAX_MARK:
        return None
    try:
        document = json.loads(text)["image"]
        spacing, affine = document["spacing"], document["affine"]
        marked = Marked(
            modality=str(document["modality"])[:16],
            units=str(document["units"])[:16],
            bits=int(document["bits"]),
            channels=tuple(str(name)[:64] for name in document["channels"]) or GREY,
            spacing=None if spacing is None else tuple(float(step) for step in spacing),
            affine=None if affine is None else np.asarray(affine, dtype=np.float64).reshape(4, 4),
            slope=float(document["slope"]),
            intercept=float(document["intercept"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    numbers = (*(marked.spacing or ()), marked.slope, marked.intercept)
    sane = all(math.isfinite(number) for number in numbers) and marked.slope != 0 and marked.bits in (8, 12, 16, 32)
    sane = (
        sane and min(marked.spacing or (1.0,)) > 0 and (marked.affine is None or bool(np.isfinite(marked.affine).all()))
    )
    return marked if sane else None


def rescale(values: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """values * slope + intercept: the same integers, int32, or float32 where the numbers are not whole."""
    if slope == 1 and intercept == 0:
        return values
    if np.issubdtype(values.dtype, np.integer) and float(slope).is_integer() and float(intercept).is_integer():
        extreme = max(abs(int(values.min())), abs(int(values.max()))) * abs(slope) + abs(intercept)
        if extreme < 2**31:
            whole = values.astype(np.int32) * np.int32(slope) + np.int32(intercept)
            return np.asarray(whole, dtype=np.int16 if extreme < 2**15 else np.int32)
    return np.asarray(values.astype(np.float64) * slope + intercept, dtype=np.float32)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.name.lower().endswith(".nii.gz") else path.suffix
    temporary = path.with_name(f".{os.getpid()}.part.{path.name[: len(path.name) - len(suffix)][:64]}{suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, write: Callable[[Path], object]) -> list[Path]:
    """Let `write` make the file under a temporary name, then rename it. A full disk is a DataError."""
    try:
        with appearing(path) as temporary:
            write(temporary)
    except OSError as error:
        raise not_written(path, error) from None
    return [path]


def not_written(path: Path, error: OSError) -> DataError:
    """What to raise; pydicom puts a traceback into the text of an error of its own, behind the operating system's."""
    cause = error if error.strerror or not isinstance(error.__cause__, OSError) else error.__cause__
    return DataError(f"{path} cannot be written: {cause.strerror or cause}")
