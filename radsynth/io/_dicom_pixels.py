"""DICOM pixels in real values: decoded in a child, palette expanded, MONOCHROME1 inverted once, Rescale applied."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import MissingExtra, RejectedFile
from radsynth.image import GREY, RGB, Image
from radsynth.io._decoding import decode
from radsynth.io._dicom_header import Instance, slice_affine
from radsynth.io._dicom_parsing import quietly
from radsynth.io._dicom_values import padding_of, scale, stored_range, window_of
from radsynth.io._limits import check_size, unusable
from radsynth.io._synthetic import rescale

NEEDS_GDCM = {"1.2.840.10008.1.2.4.51": 8, "1.2.840.10008.1.2.4.57": 0, "1.2.840.10008.1.2.4.70": 0}
"""Transfer syntax (JPEG Extended, Lossless, Lossless SV1) -> bits above which no other decoder reads it."""


def stored_frame(dataset: Any, found: Instance, frame: int | None) -> NDArray[Any]:
    """One frame as stored, (rows, columns[, 3]); all of them, (frames, rows, columns[, 3]), for None.

    Only pixels that need no decoder are unpacked in this process.
    """
    from pydicom.pixels import pixel_array

    if "PixelData" not in dataset:
        raise RejectedFile("its header describes pixels, but it holds none")
    syntax, samples = dataset.file_meta.TransferSyntaxUID, int(dataset.get("SamplesPerPixel") or 1)
    frames = int(dataset.get("NumberOfFrames") or 1)
    size = found.header.size if samples == 1 else (*found.header.size, samples)
    if frame is None:
        check_size((frames, *found.header.size), channels=samples, itemsize=int(dataset.BitsAllocated) // 8)
    try:
        with quietly():
            if not syntax.is_encapsulated:
                values = np.asarray(pixel_array(dataset, index=frame))
                return values if frame is not None else values.reshape(frames, *size)
            expected = size if frame is not None else (frames, *size)
            return decompressed(found.path, frame, str(syntax), int(dataset.BitsStored), expected)
    except MissingExtra:
        raise
    except Exception as error:
        raise unusable(error, "the DICOM pixels") from None


def has_gdcm() -> bool:
    """Is the extra decoder for JPEG Lossless and 12-bit JPEG installed?"""
    return importlib.util.find_spec("gdcm") is not None


def decompressed(
    path: str, frame: int | None, syntax: str, stored: int, expected: tuple[int, ...]
) -> NDArray[Any]:
    """One frame of a compressed file as stored, of the `expected` shape; all frames for None.

    syntax, stored: its transfer syntax and Bits Stored. MissingExtra where only another decoder would read it.
    """
    from pydicom.uid import UID

    if stored > NEEDS_GDCM.get(syntax, stored) and not has_gdcm():
        raise MissingExtra(f"DICOM compressed as {UID(syntax).name}", "gdcm")
    values, _ = decode("dicom", path, frame=frame, syntax=syntax, stored=stored, gdcm=has_gdcm())
    if frame is None and values.ndim == len(expected) - 1:
        values = values[None]  # pydicom leaves the axis out where there is one frame
    if values.shape != expected:
        raise RejectedFile(f"its compressed pixels have the shape {values.shape}, its header says {expected}")
    return values


def to_image(dataset: Any, found: Instance, stored: NDArray[Any]) -> Image:
    """Stored pixels (rows, columns[, 3]) of a data set, flat as `_dicom_frames` makes it, as a placed Image."""
    try:
        with quietly():
            native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
            values = without_padding(_real(native, dataset), native, padding_of(dataset))
            window = _window(dataset)
    except Exception as error:
        raise unusable(error, "the DICOM pixels") from None
    return placed(found, values, window)


def placed(found: Instance, values: NDArray[Any], window: tuple[float, float] | None) -> Image:
    """Real values (rows, columns[, 3]) as an Image at the file's place."""
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
        window=window if len(pixels) == 1 else None,
        frame=found.reference,
        thickness=found.thickness,
        lossy=found.lossy,
    )


def without_padding(real: NDArray[Any], stored: NDArray[Any], padding: tuple[int, int] | None) -> NDArray[Any]:
    """Grey values in which padding, often -32768, is as dark as the darkest of the others."""
    if padding is None or real.ndim != 2:
        return real
    filled = (stored >= padding[0]) & (stored <= padding[1])
    if not filled.any() or filled.all():
        return real
    real = real.copy()
    real[filled] = real[~filled].min()
    return real


def _real(values: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """Palette expanded, MONOCHROME1 inverted within the stored range, then Rescale (or the modality look-up table)."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    colours = str(dataset.get("PhotometricInterpretation", ""))
    if colours == "PALETTE COLOR":
        expanded = np.asarray(apply_color_lut(values, dataset))
        return (expanded >> 8 if expanded.max() > 255 else expanded).astype(np.uint8)
    if values.ndim == 3:
        return values
    if colours == "MONOCHROME1":
        low, high = _stored_range(dataset)
        values = (low + high - values.astype(np.int64).clip(low, high)).astype(values.dtype)
    if "ModalityLUTSequence" in dataset:
        return np.asarray(apply_modality_lut(values, dataset), dtype=np.float32)
    slope, intercept = scale(dataset)
    if slope == 0:
        raise RejectedFile("its Rescale Slope is 0")
    real = rescale(values, slope, intercept)
    if not np.isfinite(real).all():
        raise RejectedFile(f"its Rescale Slope {slope} and Intercept {intercept} leave no finite numbers")
    return real


def _stored_range(dataset: Any) -> tuple[int, int]:
    return stored_range(int(dataset.BitsStored), bool(dataset.PixelRepresentation))


def _window(dataset: Any) -> tuple[float, float] | None:
    """The file's window, turned round with the values of an inverted image."""
    window = window_of(dataset)
    if window is None or str(dataset.get("PhotometricInterpretation", "")) != "MONOCHROME1":
        return window
    slope, intercept = scale(dataset)
    mirror = slope * sum(_stored_range(dataset)) + 2 * intercept
    return mirror - window[1], mirror - window[0]
