"""MetaImage (mha, mhd) and NRRD, read by SimpleITK (extra `itk`) in a child after the header was checked here.

SimpleITK follows any file name in a header and fills what is missing with zeros: both are refused before it is called.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import CannotHold, DataError, MissingExtra, RejectedFile
from radsynth.image import GREY, RGB, Image, bits_of
from radsynth.io import Header, Provenance
from radsynth.io._decoding import decode
from radsynth.io._geometry import as_laid, axes_towards_left_back_head, layout, leaning, modality_of, reorient
from radsynth.io._metaimage_header import NRRD, Claim, affine_of, check_data, read_claim, spacing_of, units_of
from radsynth.io._not_finite import without_nan
from radsynth.io._synthetic import KEY, Marked, as_whole_numbers, mark, parse_mark, sentence, store, write_whole

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
SCANS = True

FIRST_KEYS = (b"ObjectType", b"NDims", b"Comment", b"ObjectSubType")


def sniff(path: Path, head: bytes) -> bool:
    """NRRD's magic, or a first line `ObjectType = ...` or alike in a file that is named as MetaImage."""
    return head.startswith(NRRD) or (
        path.suffix.lower() in (".mha", ".mhd") and head.lstrip().startswith(FIRST_KEYS) and b"=" in head
    )


def header(path: Path) -> Header:
    """Size and spacing in our axis order. The modality stays unknown, except in radsynth's own files."""
    path = Path(path)
    claim = read_claim(path)
    marked = parse_mark(claim.fields.get(KEY))
    spacing, order = spacing_of(claim), (0, 1, 2)
    affine = affine_of(claim)
    if affine is not None:
        order = axes_towards_left_back_head(affine)[0]
    axes = order[::-1] if len(claim.shape) == 3 else (1, 0)
    return Header(
        format="metaimage",
        size=tuple(claim.shape[axis] for axis in axes),
        channels=claim.channels,
        bits=marked.bits if marked else bits_of(claim.dtype),
        modality=marked.modality if marked else "OT",
        units=marked.units if marked else "stored",
        spacing=None if spacing is None else tuple(spacing[axis] for axis in axes),
        notes=(*(() if affine is None else leaning(affine)), *(("synthetic, made by radsynth",) if marked else ())),
        beside=() if claim.data == path else (str(claim.data),),
    )


def read(path: Path, frame: int = 0) -> Image:
    """The image (1 or 3, rows, columns) or volume (1 or 3, slices, rows, columns). MissingExtra without SimpleITK."""
    assert frame == 0
    claim = read_claim(path)
    check_data(claim)
    _check_itk()
    values, place = decode("metaimage", path, reader="NrrdImageIO" if _is_nrrd(path) else "MetaImageIO")
    stack = np.moveaxis(values, -1, 0) if claim.channels > 1 else values[None]
    if stack.shape[1:] != claim.shape[::-1]:
        raise RejectedFile(f"its pixels have the shape {stack.shape[1:]}, its header says {claim.shape[::-1]}")
    stack, filled = without_nan(stack.astype(np.float32) if stack.dtype.kind == "f" else stack)
    return _image(stack, place, claim).replace(filled=filled)


def write(image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
    """One .mha or .nrrd, marked in a comment and a `radsynth` key. MissingExtra without SimpleITK."""
    path, itk = Path(path), _itk()
    if path.suffix.lower() not in (".mha", ".nrrd"):
        raise DataError(f"{path.name}: write .mha or .nrrd, which keep header and pixels in one file")
    if len(image.pixels) not in (1, 3):
        raise CannotHold(
            f"{path.name}: written are one or three channels, not {len(image.pixels)}. Choose NIfTI or NPZ"
        )
    stored = as_whole_numbers(store(image, floats=True), signed=image.pixels.dtype.kind == "i")
    colour = len(stored.values) == 3
    values = np.moveaxis(stored.values, 0, -1) if colour else stored.values[0]
    affine = image.affine if image.pixels.ndim == 4 else None
    if affine is not None and image.laid is not None:
        colours = range(3, values.ndim)
        values, affine = as_laid(values.transpose(2, 1, 0, *colours), affine, image.laid)
        values = values.transpose(2, 1, 0, *colours)
    made = itk.GetImageFromArray(np.ascontiguousarray(values), isVector=colour)
    if affine is not None:
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        made.SetSpacing(steps.tolist())
        made.SetDirection((affine[:3, :3] / steps).ravel().tolist())
        made.SetOrigin(affine[:3, 3].tolist())
    elif image.spacing is not None:
        made.SetSpacing([float(step) for step in image.spacing[::-1]])
    made.SetMetaData("Comment", sentence(provenance))
    made.SetMetaData(KEY, mark(image, provenance, stored))
    return write_whole(path, lambda temporary: _save(itk, made, temporary))


def _save(itk: Any, made: Any, path: Path) -> None:
    """OSError for a full disk and alike, in ITK's words: the last are the system's reason, but for NRRD."""
    try:
        itk.WriteImage(made, str(path), useCompression=True)
    except RuntimeError as error:
        where, _, why = str(error).strip().splitlines()[-1].partition(": ")
        raise OSError(why if where == "Reason" else f"{why} (is the disk full?)") from None
    try:
        check_data(read_claim(path))  # of a MetaImage ITK says nothing where the disk takes a part of it, or none
    except RejectedFile as error:
        raise OSError(f"{error} (is the disk full?)") from None


def example(folder: Path) -> list[Path]:
    """A raw mha volume, an mhd beside its raw file, and an nrrd, written by hand as other programs do."""
    ramp = np.arange(5 * 8 * 6, dtype="<i2").tobytes()
    text = "ObjectType = Image\nNDims = 3\nDimSize = 6 8 5\nElementType = MET_SHORT\nElementSpacing = 0.5 0.5 2\n"
    text += "Offset = 0 0 0\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    (folder / "one.mha").write_bytes((text + "ElementDataFile = LOCAL\n").encode() + ramp)
    (folder / "two.mhd").write_text(text + "ElementDataFile = two.raw\n")
    (folder / "two.raw").write_bytes(ramp)
    nrrd = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 8 5\n"
    nrrd += "encoding: raw\nendian: little\n"
    nrrd += "space directions: (0.5,0,0) (0,0.5,0) (0,0,2)\nspace origin: (0,0,0)\n\n"
    (folder / "three.nrrd").write_bytes(nrrd.encode() + ramp)
    return [folder / "one.mha", folder / "two.mhd", folder / "three.nrrd"]


def _check_itk() -> None:
    if importlib.util.find_spec("SimpleITK") is None:
        raise MissingExtra("MetaImage and NRRD", "itk")


def _itk() -> Any:
    _check_itk()
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _is_nrrd(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(NRRD)) == NRRD


def _image(stack: NDArray[Any], found: dict[str, Any], claim: Claim) -> Image:
    """found: ITK's `direction` (nine numbers), `spacing` and `origin`."""
    marked: Marked | None = parse_mark(claim.fields.get(KEY))
    spacing = spacing_of(claim)
    steps: tuple[float, ...] | None = None if spacing is None else spacing[::-1]
    place, laid = None, None
    if len(claim.shape) == 3 and affine_of(claim) is not None:
        affine = np.eye(4)
        affine[:3, :3] = np.array(found["direction"]).reshape(3, 3) * found["spacing"]
        affine[:3, 3] = found["origin"]
        affine = np.diag([*units_of(claim), 1.0]) @ affine
        turned = [reorient(channel.transpose(2, 1, 0), affine) for channel in stack]
        stack, place, steps = np.stack([array for array, _, _ in turned]), turned[0][1], turned[0][2]
        laid = layout(affine)
    modality, units = (
        (marked.modality, marked.units) if marked else modality_of(stack) if stack.ndim == 4 else ("OT", "stored")
    )
    names = RGB if claim.channels == 3 else GREY
    return Image(
        pixels=np.ascontiguousarray(marked.real(stack) if marked else stack),
        modality=modality,
        units=units,
        spacing=steps,
        affine=place,
        bits=marked.bits if marked else bits_of(claim.dtype),
        channels=marked.channels if marked and len(marked.channels) == claim.channels else names,
        laid=laid,
    )
