"""DICOM: single images, multi-frame files, and (by `_dicom_series`) series of slices that are volumes.

Compressed pixels are decoded in a child process; MONOCHROME1 is inverted once; Rescale is applied, CT is in HU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import MissingExtra, RejectedFile
from radsynth.image import GREY, RGB, Image
from radsynth.io import Header, Provenance
from radsynth.io._dicom_decode import decode, has_gdcm
from radsynth.io._dicom_header import Instance, describe, instance, numbers_of, parse, quietly, slice_affine
from radsynth.io._dicom_write import write_image
from radsynth.io._limits import unusable
from radsynth.io._synthetic import rescale

SUFFIXES = (".dcm", ".dicom", ".ima")

NEEDS_GDCM = {"1.2.840.10008.1.2.4.51": 8, "1.2.840.10008.1.2.4.57": 0, "1.2.840.10008.1.2.4.70": 0}
"""Transfer syntax (JPEG Extended, Lossless, Lossless SV1) -> bits above which no other decoder reads it."""


def sniff(path: Path, head: bytes) -> bool:
    """The letters DICM behind the 128 bytes of preamble."""
    return head[128:132] == b"DICM"


def header(path: Path) -> Header:
    """Size, spacing, modality and patient of a file; NotAnImage for reports, plans and alike."""
    return instance(path).header


def read(path: Path, frame: int = 0) -> Image:
    """One frame, (1 or 3, rows, columns), in real values: HU for CT, brighter is larger."""
    path = Path(path)
    dataset = parse(path, pixels=True)
    found = describe(path, dataset)
    return to_image(dataset, found, frame)


def write(image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
    """A 2-D image as one file; a volume as a folder of one consistent series. See `_dicom_write`."""
    return write_image(image, Path(path), provenance)


def example(folder: Path) -> list[Path]:
    """A CT slice, an MR slice and a radiograph as radsynth writes them, with the mark of its own."""
    ramp = np.arange(24 * 20).reshape(1, 24, 20)
    origin = Provenance(model="example", weights="", seed=0, index=0)
    images = {
        "ct.dcm": Image(pixels=ramp - 1000, modality="CT", units="HU", bits=12, spacing=(0.7, 0.8)),
        "mr.dcm": Image(pixels=ramp, modality="MR", bits=12, spacing=(1.0, 1.0)),
        "dx.dcm": Image(pixels=ramp * 8, modality="DX", bits=12, spacing=(0.2, 0.2)),
    }
    return [file for name, image in images.items() for file in write(image, folder / name, provenance=origin)]


def to_image(dataset: Any, found: Instance, frame: int = 0) -> Image:
    """The pixels of a data set that was parsed with its pixels, as an Image with its place."""
    try:
        with quietly():
            stored = _stored(dataset, found, frame)
            values = _real(stored.astype(stored.dtype.newbyteorder("="), copy=False), dataset, found)
    except MissingExtra:
        raise
    except Exception as error:
        raise unusable(error, "the DICOM pixels") from None
    pixels = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    spoken = found.header
    return Image(
        pixels=np.ascontiguousarray(pixels),
        modality=spoken.modality,
        units=spoken.units,
        bits=spoken.bits,
        spacing=spoken.spacing,
        affine=slice_affine(found),
        channels=GREY if len(pixels) == 1 else RGB,
    )


def _stored(dataset: Any, found: Instance, frame: int) -> NDArray[Any]:
    """One frame as stored. Only pixels that need no decoder are unpacked in this process."""
    from pydicom.pixels import pixel_array

    if "PixelData" not in dataset:
        raise RejectedFile("its header describes pixels, but it holds none")
    syntax = dataset.file_meta.TransferSyntaxUID
    samples, size = int(dataset.get("SamplesPerPixel") or 1), found.header.size
    if syntax.is_encapsulated:
        if str(syntax) in NEEDS_GDCM and int(dataset.BitsStored) > NEEDS_GDCM[str(syntax)] and not has_gdcm():
            raise MissingExtra(f"DICOM compressed as {syntax.name}", "gdcm")
        return decode(found.path, frame, size if samples == 1 else (*size, samples))
    return np.asarray(pixel_array(dataset, index=frame))


def _real(values: NDArray[Any], dataset: Any, found: Instance) -> NDArray[Any]:
    """Palette expanded, MONOCHROME1 inverted within the stored range, then Rescale (or the modality look-up table)."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    colours = str(dataset.get("PhotometricInterpretation", ""))
    if colours == "PALETTE COLOR":
        expanded = apply_color_lut(values, dataset)
        return np.asarray(expanded, dtype=np.uint8 if found.header.bits == 8 else np.uint16)
    if values.ndim == 3:
        return values
    if colours == "MONOCHROME1":
        half = 2 ** (int(dataset.BitsStored) - 1)
        low, high = (-half, half - 1) if int(dataset.PixelRepresentation) else (0, 2 * half - 1)
        values = (low + high - values.astype(np.int64).clip(low, high)).astype(values.dtype)
    if "ModalityLUTSequence" in dataset:
        return np.asarray(apply_modality_lut(values, dataset), dtype=np.float32)
    slope, intercept = (numbers_of([dataset.get(name)], 1) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is not None and slope[0] == 0:
        raise RejectedFile("its Rescale Slope is 0")
    real = rescale(values, slope[0] if slope else 1.0, intercept[0] if intercept else 0.0)
    if not np.isfinite(real).all():
        raise RejectedFile(f"its Rescale Slope {slope} and Intercept {intercept} leave no finite numbers")
    return real
