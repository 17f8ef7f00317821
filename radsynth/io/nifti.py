"""NIfTI-1 and NIfTI-2, plain or gzip: one volume or slice a file, RAS millimetres turned into LPS.

Channels lie in the fifth dimension, as the standard has it for vectors; a fourth dimension, time, is not read unless
the caller knows that it holds channels, as in the Medical Segmentation Decathlon.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import DataError, RejectedFile
from radsynth.image import GREY, RGB, Image, Layout
from radsynth.io import Header, Provenance
from radsynth.io._geometry import (
    LPS_OF_RAS,
    as_laid,
    axes_towards_left_back_head,
    cut,
    cut_affine,
    layout,
    modality_of,
    reorient,
    single_slice,
)
from radsynth.io._limits import unusable
from radsynth.io._nifti_header import COLOURS, GZIP, Fourth, has_affine, is_packed, layout_of, open_checked, place_of
from radsynth.io._not_finite import without_nan
from radsynth.io._synthetic import (
    KEY,
    Marked,
    Stored,
    as_whole_numbers,
    mark,
    parse_mark,
    rescale,
    sentence,
    store,
    write_whole,
)

SUFFIXES = (".nii.gz", ".nii")
SCANS = True

COMMENT = 6
"""The header extension code for plain text."""

BEHIND = 2**20
"""Bytes behind the voxels, at most, that are unpacked to come to the checksum; usually there are none."""

UNPLACED: Layout = ((0, 1, 2), (False, True, False))
"""Without orientation rows are read as stepping to the front."""


def sniff(path: Path, head: bytes) -> bool:
    """The magic text of NIfTI-1 or -2, inside gzip too."""
    if head.startswith(GZIP):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 352)
        except zlib.error:
            return path.name.lower().endswith(".nii.gz")
        if len(head) < 348:
            return path.name.lower().endswith(".nii.gz")
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def header(path: Path, *, fourth: Fourth = "time") -> Header:
    """Size and spacing in our axis order. The modality stays unknown, except in radsynth's own files."""
    path = Path(path)
    opened = open_checked(path, fourth)
    marked = _mark(opened)
    shape, channels = layout_of(opened, fourth)
    affine, spacing, notes = place_of(opened, path)
    order = axes_towards_left_back_head(affine)[0]
    size, steps = tuple(shape[axis] for axis in order[::-1]), _lengths(affine, order)
    thin = single_slice(size)
    if thin is not None:
        size, steps = (tuple(np.delete(values, thin).tolist()) for values in (size, steps))
    dtype = opened.get_data_dtype()
    return Header(
        format="nifti",
        size=size,
        channels=channels,
        bits=marked.bits if marked else _bits(dtype, opened),
        modality=marked.modality if marked else "OT",
        units=marked.units if marked else "stored",
        spacing=steps if spacing else None,
        notes=(*notes, *(("synthetic, made by radsynth",) if marked else ())),
        beside=tuple(str(part.filename) for part in opened.file_map.values() if Path(part.filename) != path),
    )


def read(path: Path, frame: int = 0, *, fourth: Fourth = "time") -> Image:
    """The volume (c, slices, rows, columns), or the slice (c, rows, columns) when there is one alone."""
    assert frame == 0
    opened = open_checked(path, fourth)
    _, channels = layout_of(opened, fourth)
    affine, spaced, _ = place_of(opened, Path(path))
    try:
        stored = _stored(opened)
    except Exception as error:
        raise unusable(error, "the NIfTI") from None
    shape = (*stored.shape[:3], 1, 1)[:3]
    if stored.dtype == COLOURS:
        planes = [stored[name].reshape(shape) for name in "RGB"]
    else:
        planes = list(np.moveaxis(_rescaled(stored, opened).reshape(*shape, channels), -1, 0))
    volumes = [reorient(plane, affine) for plane in planes]
    pixels, filled = without_nan(np.stack([array for array, _, _ in volumes]))
    _, turned, spacing = volumes[0]
    marked = _mark(opened)
    modality, units = (marked.modality, marked.units) if marked else modality_of(pixels)
    place = turned if has_affine(opened) else None
    steps: tuple[float, ...] = spacing
    thin = single_slice(pixels.shape[1:])
    if thin is not None:
        place = None if place is None else cut_affine(place, pixels.shape[1:], thin, 0)
        pixels, steps = cut(pixels, thin, 0), tuple(np.delete(spacing, thin).tolist())
    names = GREY if channels == 1 else RGB if channels == 3 else _numbered(channels)
    return Image(
        pixels=np.ascontiguousarray(pixels),
        modality=modality,
        units=units,
        spacing=steps if spaced else None,
        affine=place,
        bits=marked.bits if marked else _bits(opened.get_data_dtype(), opened),
        channels=marked.channels if marked and len(marked.channels) == channels else names,
        window=_window(opened),
        laid=layout(affine, thin),
        filled=filled,
        flat=stored.ndim == 2,
    )


def _stored(opened: Any) -> NDArray[Any]:
    """The voxels as stored. A gzip file is read to its end, to the checksum: most wrong bits can be unpacked."""
    from nibabel.volumeutils import array_from_file

    pixels = Path(opened.file_map["image"].filename)
    if not is_packed(pixels):
        return np.asarray(opened.dataobj.get_unscaled())
    with gzip.open(pixels) as file:
        found = array_from_file(opened.shape, opened.get_data_dtype(), file, opened.dataobj.offset)
        try:
            file.read(BEHIND)
        except gzip.BadGzipFile as error:
            if "CRC" in str(error):
                raise RejectedFile("it is damaged: its pixels do not fit the checksum of the gzip file") from None
        return np.asarray(found)


def write(image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
    """One .nii.gz or .nii: description, auxiliary file name and a header extension say that it is synthetic.

    Three channels of 8 bits become RGB voxels, other channels vectors in the fifth dimension. The axes are those of the
    image's file where it knows them, so that arrays of both can be compared.
    """
    import nibabel

    path = Path(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{path.name}: NIfTI files end in .nii.gz or .nii")
    stored = as_whole_numbers(store(image, floats=True), signed=image.pixels.dtype.kind == "i")
    data, affine = _packed(image, stored), image.affine
    laid = image.laid or (UNPLACED if affine is None else None)
    if affine is None:
        steps = (image.spacing or (1.0,) * len(image.space))[::-1]
        affine = np.diag([*steps, *(1.0,) * (4 - len(steps))])
    if laid is not None:
        data, affine = as_laid(data, affine, laid)
    if image.flat and data.shape[2:] == (1,):
        data = data[..., 0]
    nifti = nibabel.Nifti1Image(data, None if image.affine is None else LPS_OF_RAS @ affine)
    fields = nifti.header
    if image.affine is None and image.spacing is not None:
        lengths = np.linalg.norm(affine[:3, :3], axis=0).tolist()
        fields.set_zooms((*lengths, *(1.0,) * (data.ndim - 3))[:data.ndim])
    fields.set_xyzt_units("mm" if image.spacing is not None else 0)
    if stored.slope != 1 or stored.intercept != 0:
        fields.set_slope_inter(stored.slope, stored.intercept)
    if data.ndim == 5:
        fields.set_intent("vector")
    if provenance.window is not None:
        fields["cal_min"], fields["cal_max"] = provenance.window
    fields["descrip"] = shorten(sentence(provenance), 79, placeholder="...").encode("ascii", "replace")
    fields["aux_file"] = b"SYNTHETIC"
    note = json.dumps({KEY: json.loads(mark(image, provenance, stored))})
    fields.extensions.append(nibabel.nifti1.Nifti1Extension(COMMENT, note.encode("ascii")))
    return write_whole(path, lambda temporary: nibabel.save(nifti, temporary))


def example(folder: Path) -> list[Path]:
    """A volume in radiological order, one without orientation, and a single slice, as other programs write."""
    import nibabel

    ramp = np.arange(10 * 12 * 6, dtype=np.int16).reshape(10, 12, 6)
    turned = np.array([[-1.5, 0, 0, 9], [0, 1, 0, -6], [0, 0, 3, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(ramp, turned), folder / "volume.nii.gz")
    nibabel.save(nibabel.Nifti1Image(ramp.astype(np.uint8), None), folder / "unplaced.nii")
    nibabel.save(nibabel.Nifti1Image(ramp[..., :1].astype(np.float32), np.eye(4)), folder / "slice.nii.gz")
    return [folder / "volume.nii.gz", folder / "unplaced.nii", folder / "slice.nii.gz"]


def _lengths(affine: NDArray[np.float64], order: tuple[int, int, int]) -> tuple[float, ...]:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return tuple(float(lengths[axis]) for axis in order[::-1])


def _rescaled(stored: NDArray[Any], opened: Any) -> NDArray[Any]:
    """Real values: whole numbers stay whole when the scale is. RejectedFile for a scale that is no number."""
    slope, intercept = opened.dataobj.slope, opened.dataobj.inter
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise RejectedFile(f"its scale factors are {slope} and {intercept}")
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    values = rescale(native, float(slope), float(intercept))
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _bits(dtype: np.dtype[Any], opened: Any) -> int:
    slope, intercept = float(opened.dataobj.slope), float(opened.dataobj.inter)
    whole = slope.is_integer() and intercept.is_integer()
    if dtype.kind == "f" or (dtype.itemsize > 2 and dtype != COLOURS) or not whole:
        return 32
    return 8 if (dtype.itemsize == 1 and (slope, intercept) == (1, 0)) or dtype == COLOURS else 16


def _packed(image: Image, stored: Stored) -> NDArray[Any]:
    """(column, row, slice) as NIfTI has it, 8-bit colours as one structured voxel, channels as (..., 1, c)."""
    values = (stored.values if image.pixels.ndim == 4 else stored.values[:, None]).transpose(0, 3, 2, 1)
    if len(values) == 1:
        return np.asarray(values[0])
    if len(values) != 3 or values.dtype != np.uint8:
        return np.moveaxis(values, 0, -1)[..., None, :]
    colours = np.zeros(values.shape[1:], dtype=COLOURS)
    for name, channel in zip("RGB", values, strict=True):
        colours[name] = channel
    return colours


def _numbered(channels: int) -> tuple[str, ...]:
    return tuple(f"channel {number}" for number in range(1, channels + 1))


def _window(opened: Any) -> tuple[float, float] | None:
    """The range that the header asks to be shown, cal_min to cal_max."""
    low, high = float(opened.header["cal_min"]), float(opened.header["cal_max"])
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _mark(opened: Any) -> Marked | None:
    for extension in opened.header.extensions:
        if extension.get_code() == COMMENT:
            content = extension.get_content()
            text = content.decode("ascii", "replace") if isinstance(content, bytes) else str(content)
            if f'"{KEY}"' in text[:64]:
                try:
                    return parse_mark(json.dumps(json.loads(text.rstrip("\0"))[KEY]))
                except (ValueError, KeyError, TypeError, RecursionError):
                    return None
    return None
