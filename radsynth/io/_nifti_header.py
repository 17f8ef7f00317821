"""Headers of NIfTI files: opened and checked before any pixel is read, size, channels and place taken from them."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.io import SAME
from radsynth.io._geometry import LPS_OF_RAS, leaning, usable
from radsynth.io._limits import MAX_HEADER, check_file, check_size, unusable

GZIP = b"\x1f\x8b"

FIELDS = {"vox_offset": (108, 168, "i8"), "scl_slope": (112, 176, "f8")}
"""Name -> byte in NIfTI-1 (always float32), byte in NIfTI-2, type in NIfTI-2."""

MAX_CHANNELS = 64

Fourth = Literal["time", "channels"]
"""What a fourth dimension holds."""

IN_MM = {1: 1000.0, 3: 0.001}
"""Code of the unit of length (metre, micrometre) -> mm; others, and none, are taken as mm."""

COLOURS = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def open_checked(path: Path, fourth: Fourth) -> Any:
    """nibabel's lazy image, after a look at the header's own claims. RejectedFile for what cannot be read."""
    import nibabel

    check_file(path)
    try:
        _check_name(path)
        _check_offset(path)
        opened: Any = nibabel.load(path)
    except Exception as error:
        raise unusable(error, "the NIfTI header") from None
    if not issubclass(type(opened), nibabel.Nifti1Pair):
        raise RejectedFile(f"it is a {type(opened).__name__}, not a NIfTI file")
    shape, channels = layout_of(opened, fourth)
    dtype = opened.get_data_dtype()
    each = dtype.itemsize if dtype == COLOURS else dtype.itemsize * channels
    check_size(tuple(shape[::-1]), itemsize=each)
    needed, pixels = math.prod(shape) * each + int(opened.dataobj.offset), Path(opened.file_map["image"].filename)
    if not pixels.is_file():
        raise RejectedFile(f"its pixels are missing: there is no file {pixels.name} beside it")
    if not pixels.name.lower().endswith(".gz") and (size := check_file(pixels)) < needed:
        raise RejectedFile(f"it is cut short: {size:,} bytes of {needed:,}")
    return opened


def _check_name(path: Path) -> None:
    """RejectedFile where nibabel, which goes by names, would not read what is there: browsers unpack what they fetch,
    and keep the name."""
    packed, name = is_packed(path), path.name.lower()
    bare = name.removesuffix(".gz")
    if packed == (name != bare) and bare.endswith((".nii", ".hdr", ".img")):
        return
    right = path.name[:len(bare)].removesuffix(".nii") + (".nii.gz" if packed else ".nii")
    raise RejectedFile(f"it is {'a' if packed else 'no'} gzip file, which its name does not say: rename it to {right}")


def is_packed(path: Path) -> bool:
    """Whether a file is gzip, whatever its name."""
    with open(path, "rb") as raw:
        return raw.read(2) == GZIP


def _check_offset(path: Path) -> None:
    """RejectedFile when the pixels start too late: everything before them is read as header extensions."""
    offset = _field(path, "vox_offset")
    if not 0 <= offset <= MAX_HEADER:
        raise RejectedFile(f"its header puts the pixels at byte {offset:.0f}; the limit is {MAX_HEADER:,}")


def _field(path: Path, name: str) -> float:
    """One number of the header as it is on disk (nibabel hides the scale factors once it has applied them)."""
    with gzip.open(path, "rb") if is_packed(path) else open(path, "rb") as file:
        head = file.read(540)
    if len(head) < 348:
        raise RejectedFile(f"it is cut short: {len(head)} bytes of header")
    order = "<" if int.from_bytes(head[:4], "little") in (348, 540) else ">"
    second = head[4:7] in (b"n+2", b"ni2")
    first_place, second_place, second_kind = FIELDS[name]
    place, kind = (second_place, second_kind) if second else (first_place, "f4")
    return float(np.frombuffer(head, order + kind, 1, place)[0])


def layout_of(opened: Any, fourth: Fourth) -> tuple[tuple[int, int, int], int]:
    """The three sizes in file order, and the number of channels."""
    shape = tuple(int(n) for n in opened.shape)
    dtype = opened.get_data_dtype()
    vector = shape[4] if len(shape) == 5 and shape[3] == 1 and dtype != COLOURS else 1
    vector = shape[3] if len(shape) == 4 and fourth == "channels" and dtype != COLOURS else vector
    if math.prod(shape[3:]) > vector or vector > MAX_CHANNELS:
        raise RejectedFile(
            f"it has {len(shape)} dimensions {shape}: one volume a file is read, with up to {MAX_CHANNELS} channels in "
            "the fifth. Split time points (fslsplit of FSL, nibabel.four_to_three), or leave the file out"
        )
    if dtype != COLOURS and dtype.kind not in "uif":
        raise RejectedFile(f"its voxels are of type {dtype}; whole, floating-point or RGB numbers are read")
    sizes = (*shape[:3], 1, 1, 1)[:3]
    if min(shape, default=0) < 1:
        raise RejectedFile(f"it has no voxels: its header says {shape}")
    return (sizes[0], sizes[1], sizes[2]), 3 if dtype == COLOURS else max(vector, 1)


def has_affine(opened: Any) -> bool:
    """Whether the header says where in the patient the voxels lie."""
    return bool(opened.header["sform_code"] > 0 or opened.header["qform_code"] > 0)


def place_of(opened: Any, path: Path) -> tuple[NDArray[np.float64], bool, tuple[str, ...]]:
    """(affine to LPS mm, is the spacing known, notes). Without orientation the axes count as left, front, head."""
    notes: list[str] = []
    fields = opened.header
    if not math.isfinite(_field(path, "scl_slope")):
        notes.append("its scale factor is not a number: values are taken as stored")
    scale = IN_MM.get(int(fields["xyzt_units"]) & 7, 1.0)
    if has_affine(opened):
        affine = LPS_OF_RAS @ np.asarray(opened.affine, dtype=np.float64)
        affine[:3] *= scale
        if not usable(affine):
            raise RejectedFile("its orientation matrix is not usable: not finite, or axes of length zero")
        return affine, True, (*notes, *_disagreement(fields), *(leaning(affine) or _sizes(fields)))
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


def _sizes(fields: Any) -> tuple[str, ...]:
    """What to say where voxels have another size by the sform than by pixdim, which ITK and 3D Slicer take.

    Not of axes that lean: ITK reads no such file, and between tilted slices there are two distances, both right.
    """
    if fields["sform_code"] <= 0:
        return ()
    axes = [axis for axis, count in enumerate(fields.get_data_shape()[:3]) if count > 1]
    sizes = np.linalg.norm(fields.get_sform()[:3, axes], axis=0), np.abs(fields["pixdim"][1:4][axes])
    if np.allclose(*sizes, rtol=SAME):
        return ()
    taken, other = (" x ".join(f"{size:.3g}" for size in one) for one in sizes)
    return (f"its voxels measure {taken} by its sform and {other} by its pixdim: the sform is taken, while ITK and 3D "
            "Slicer take the pixdim. Look which is right",)
