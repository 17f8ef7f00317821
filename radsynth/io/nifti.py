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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import DataError, RejectedFile
from radsynth.image import GREY, RGB, Image
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
    usable,
)
from radsynth.io._limits import MAX_HEADER, check_file, check_size, unusable
from radsynth.io._synthetic import KEY, Marked, Stored, mark, parse_mark, rescale, sentence, store, write_whole

SUFFIXES = (".nii.gz", ".nii")

GZIP = b"\x1f\x8b"
COMMENT = 6
"""The header extension code for plain text."""

FIELDS = {"vox_offset": (108, 168, "i8"), "scl_slope": (112, 176, "f8")}
"""Name -> byte in NIfTI-1 (always float32), byte in NIfTI-2, type in NIfTI-2."""

MAX_CHANNELS = 64

Fourth = Literal["time", "channels"]
"""What a fourth dimension holds."""

IN_MM = {1: 1000.0, 3: 0.001}
"""Code of the unit of length (metre, micrometre) -> mm; others, and none, are taken as mm."""

COLOURS = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


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
    opened = _open(path, fourth)
    marked = _mark(opened)
    shape, channels = _layout(opened, fourth)
    affine, spacing, notes = _place(opened, path)
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
    opened = _open(path, fourth)
    _, channels = _layout(opened, fourth)
    affine, spaced, _ = _place(opened, Path(path))
    try:
        stored = np.asarray(opened.dataobj.get_unscaled())
    except Exception as error:
        raise unusable(error, "the NIfTI") from None
    shape = (*stored.shape[:3], 1, 1)[:3]
    if stored.dtype == COLOURS:
        planes = [stored[name].reshape(shape) for name in "RGB"]
    else:
        planes = list(np.moveaxis(_rescaled(stored, opened).reshape(*shape, channels), -1, 0))
    volumes = [reorient(plane, affine) for plane in planes]
    pixels, (_, turned, spacing) = np.stack([array for array, _, _ in volumes]), volumes[0]
    marked = _mark(opened)
    modality, units = (marked.modality, marked.units) if marked else modality_of(pixels)
    place = turned if _has_affine(opened) else None
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
        laid=None if place is None else layout(affine, thin),
    )


def write(image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
    """One .nii.gz or .nii: description, auxiliary file name and a header extension say that it is synthetic.

    Three channels of 8 bits become RGB voxels, other channels vectors in the fifth dimension. The axes are those of the
    image's file where it knows them, so that arrays of both can be compared.
    """
    import nibabel

    path = Path(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{path.name}: NIfTI files end in .nii.gz or .nii")
    stored = store(image, floats=True)
    data, affine = _packed(image, stored), image.affine
    if affine is None:
        data = data[:, ::-1]  # without orientation rows are read as stepping to the front
    elif image.laid is not None:
        data, affine = as_laid(data, affine, image.laid)
    nifti = nibabel.Nifti1Image(data, None if affine is None else LPS_OF_RAS @ affine)
    fields = nifti.header
    if image.affine is None and image.spacing is not None:
        steps = image.spacing[::-1]
        fields.set_zooms((*steps, *(1.0,) * (data.ndim - len(steps))))
    fields.set_xyzt_units("mm" if image.spacing is not None else 0)
    if stored.slope != 1 or stored.intercept != 0:
        fields.set_slope_inter(stored.slope, stored.intercept)
    if data.ndim == 5:
        fields.set_intent("vector")
    if provenance.window is not None:
        fields["cal_min"], fields["cal_max"] = provenance.window
    fields["descrip"] = sentence(provenance).encode("ascii", "replace")[:79]
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


def _open(path: Path, fourth: Fourth) -> Any:
    """nibabel's lazy image, after a look at the header's own claims."""
    import nibabel

    size = check_file(path)
    try:
        _check_offset(path)
        opened: Any = nibabel.load(path)
    except Exception as error:
        raise unusable(error, "the NIfTI header") from None
    if not issubclass(type(opened), nibabel.Nifti1Pair):
        raise RejectedFile(f"it is a {type(opened).__name__}, not a NIfTI file")
    shape, channels = _layout(opened, fourth)
    dtype = opened.get_data_dtype()
    each = dtype.itemsize if dtype == COLOURS else dtype.itemsize * channels
    check_size(tuple(shape[::-1]), itemsize=each)
    needed = math.prod(shape) * each + int(opened.dataobj.offset)
    if not path.name.lower().endswith(".gz") and issubclass(type(opened), nibabel.Nifti1Image) and size < needed:
        raise RejectedFile(f"it is cut short: {size:,} bytes of {needed:,}")
    return opened


def _check_offset(path: Path) -> None:
    """RejectedFile when the pixels start too late: everything before them is read as header extensions."""
    offset = _field(path, "vox_offset")
    if not 0 <= offset <= MAX_HEADER:
        raise RejectedFile(f"its header puts the pixels at byte {offset:.0f}; the limit is {MAX_HEADER:,}")


def _field(path: Path, name: str) -> float:
    """One number of the header as it is on disk (nibabel hides the scale factors once it has applied them)."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == GZIP
    with gzip.open(path, "rb") if packed else open(path, "rb") as file:
        head = file.read(540)
    if len(head) < 348:
        raise RejectedFile(f"it is cut short: {len(head)} bytes of header")
    order = "<" if int.from_bytes(head[:4], "little") in (348, 540) else ">"
    second = head[4:7] in (b"n+2", b"ni2")
    first_place, second_place, second_kind = FIELDS[name]
    place, kind = (second_place, second_kind) if second else (first_place, "f4")
    return float(np.frombuffer(head, order + kind, 1, place)[0])


def _layout(opened: Any, fourth: Fourth) -> tuple[tuple[int, int, int], int]:
    """The three sizes in file order, and the number of channels."""
    shape = tuple(int(n) for n in opened.shape)
    dtype = opened.get_data_dtype()
    vector = shape[4] if len(shape) == 5 and shape[3] == 1 and dtype != COLOURS else 1
    vector = shape[3] if len(shape) == 4 and fourth == "channels" and dtype != COLOURS else vector
    if math.prod(shape[3:]) > vector or vector > MAX_CHANNELS:
        raise RejectedFile(
            f"it has {len(shape)} dimensions {shape}: one volume a file is read, with up to {MAX_CHANNELS} channels in "
            "the fifth. Split time points"
        )
    if dtype != COLOURS and dtype.kind not in "uif":
        raise RejectedFile(f"its voxels are of type {dtype}; whole, floating-point or RGB numbers are read")
    sizes = (*shape[:3], 1, 1, 1)[:3]
    if min(shape, default=0) < 1:
        raise RejectedFile(f"it has no voxels: its header says {shape}")
    return (sizes[0], sizes[1], sizes[2]), 3 if dtype == COLOURS else max(vector, 1)


def _has_affine(opened: Any) -> bool:
    return bool(opened.header["sform_code"] > 0 or opened.header["qform_code"] > 0)


def _place(opened: Any, path: Path) -> tuple[NDArray[np.float64], bool, tuple[str, ...]]:
    """(affine to LPS mm, is the spacing known, notes). Without orientation the axes count as left, front, head."""
    notes: list[str] = []
    fields = opened.header
    if not math.isfinite(_field(path, "scl_slope")):
        notes.append("its scale factor is not a number: values are taken as stored")
    scale = IN_MM.get(int(fields["xyzt_units"]) & 7, 1.0)
    if _has_affine(opened):
        affine = LPS_OF_RAS @ np.asarray(opened.affine, dtype=np.float64)
        affine[:3] *= scale
        if not usable(affine):
            raise RejectedFile("its orientation matrix is not usable: not finite, or axes of length zero")
        return affine, True, (*notes, *_disagreement(fields))
    steps = np.abs(np.asarray(fields["pixdim"][1:4], dtype=np.float64)) * scale
    known = bool(np.isfinite(steps).all() and (steps > 0).all()) and not (
        (steps == 1).all() and fields["xyzt_units"] & 7 == 0
    )
    steps = np.where(np.isfinite(steps) & (steps > 0), steps, 1.0)
    notes.append("it has no orientation: left and right are not certain")
    return np.diag([steps[0], -steps[1], steps[2], 1.0]), known, tuple(notes)


def _disagreement(fields: Any) -> tuple[str, ...]:
    """What to say where the header's two orientations call other sides left, front or head."""
    import nibabel

    if not (fields["sform_code"] > 0 and fields["qform_code"] > 0):
        return ()
    try:
        taken, other = ("".join(nibabel.aff2axcodes(form)) for form in (fields.get_sform(), fields.get_qform()))
    except Exception:  # a quaternion that is none, or axes that vanish: only one of the two can be meant
        return ()
    return () if taken == other else (f"its axes run to {taken} by its sform and to {other} by its qform: the sform is "
                                      "taken, as most programs do. Look whether left is left",)


def _lengths(affine: NDArray[np.float64], order: tuple[int, int, int]) -> tuple[float, ...]:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return tuple(float(lengths[axis]) for axis in order[::-1])


def _rescaled(stored: NDArray[Any], opened: Any) -> NDArray[Any]:
    """Real values: whole numbers stay whole when the scale is. RejectedFile for values that are not finite."""
    slope, intercept = opened.dataobj.slope, opened.dataobj.inter
    if not math.isfinite(slope) or not math.isfinite(intercept) or slope == 0:
        raise RejectedFile(f"its scale factors are {slope} and {intercept}")
    if stored.dtype.kind == "f":
        broken = stored.size - int(np.count_nonzero(np.isfinite(stored)))
        if broken:
            raise RejectedFile(f"{broken:,} of its {stored.size:,} voxels are not finite numbers (NaN or infinity)")
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
    if len(values) != 3 or stored.bits != 8:
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
