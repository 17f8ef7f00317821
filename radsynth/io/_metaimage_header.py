"""Headers of MetaImage and NRRD files, read and checked here before SimpleITK sees the file."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.io._geometry import usable
from radsynth.io._limits import check_file, check_size, unusable
from radsynth.io._synthetic import KEY, parse_mark

NRRD = b"NRRD000"
MAX_TEXT = 262_144
META_TYPES = {
    "MET_UCHAR": "u1",
    "MET_CHAR": "i1",
    "MET_USHORT": "u2",
    "MET_SHORT": "i2",
    "MET_UINT": "u4",
    "MET_INT": "i4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
NRRD_TYPES = {
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    "float": "f4",
    "double": "f8",
}
VECTORS = ("vector", "covariant-vector", "list", "RGBA-color", "4-color", "complex", "2-vector", "4-vector")
"""NRRD's kinds of a first axis that runs through the channels of a pixel, beside those of three."""

SPACING, DIRECTIONS = ("ElementSpacing", "ElementSize"), ("TransformMatrix", "Rotation", "Orientation")
"""MetaImage's names of the mm between elements, and of the directions of the axes, the first that is there counts."""
PLACES = ("Offset", "Position", "Origin")
IN_MM = {"": 1.0, "?": 1.0, "mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "micron": 0.001,
         **{prefix + name: 1e3 * part for prefix, part in (("milli", 1e-3), ("centi", 0.01), ("", 1), ("micro", 1e-6))
            for name in ("meter", "meters", "metre", "metres")}}
"""Units of length -> mm. Without a unit a length is in mm, as all programs take it."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a header claims. shape: in file order, fastest axis first, without channels; data: where the pixels lie."""

    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    fields: dict[str, str]
    data: Path
    offset: int
    compressed: bool


def read_claim(path: Path) -> Claim:
    """The header as it reads, every size and file name in it checked."""
    path = Path(path)
    check_file(path)
    try:
        with open(path, "rb") as file:
            head = file.read(MAX_TEXT)
        claim = _nrrd_claim(path, head) if head.startswith(NRRD) else _meta_claim(path, head)
    except Exception as error:
        raise unusable(error, "the header") from None
    if len(claim.shape) not in (2, 3) or claim.channels not in (1, 3):
        raise RejectedFile(
            f"it has the sizes {claim.shape} and {claim.channels} channels; 2 or 3 sizes, 1 or 3 channels are read"
        )
    check_size(claim.shape[::-1], channels=claim.channels, itemsize=claim.dtype.itemsize)
    units_of(claim)
    return claim


def _meta_claim(path: Path, head: bytes) -> Claim:
    fields: dict[str, str] = {}
    offset = 0
    for line in head.split(b"\n"):
        offset += len(line) + 1
        key, _, value = line.decode("latin-1").partition("=")
        _add(fields, key.strip(), value.strip())
        if key.strip() == "ElementDataFile":
            break
    else:
        raise RejectedFile(f"its header has no ElementDataFile in its first {MAX_TEXT:,} bytes")
    kind = fields.get("ElementType", "").removesuffix("_ARRAY")
    if kind not in META_TYPES:
        raise RejectedFile(f"its ElementType is {kind or 'missing'}; read are {', '.join(META_TYPES)}")
    name, shape = fields["ElementDataFile"], tuple(int(number) for number in fields["DimSize"].split())
    order = list(fields)
    if fields.get("NDims") != str(len(shape)) or order.index("NDims") > order.index("DimSize"):
        raise RejectedFile("its NDims is missing, comes too late or does not fit its DimSize")
    _check_form(fields)
    _check_geometry(fields, len(shape))
    return Claim(
        shape=shape,
        dtype=np.dtype(META_TYPES[kind]),
        fields=fields,
        channels=int(fields.get("ElementNumberOfChannels", "1")),
        compressed=_is_true(fields.get("CompressedData", "False")),
        data=path if name == "LOCAL" else _beside(path, name),
        offset=offset if name == "LOCAL" else max(int(fields.get("HeaderSize", "0")), 0),
    )


def _is_true(value: str) -> bool:
    return value[:1] in ("T", "t", "1")


def _check_form(fields: dict[str, str]) -> None:
    """RejectedFile for pixels that SimpleITK cannot read, or reads wrongly without a word."""
    if not _is_true(fields.get("BinaryData", "True")):
        raise RejectedFile("its pixels are written as text (BinaryData = False): save it as binary")
    if fields["ElementDataFile"] != "LOCAL":
        return
    if int(fields.get("HeaderSize", "0")) > 0:
        raise RejectedFile("it has a HeaderSize, which SimpleITK counts from the beginning of the file and not of its "
                           "pixels: save it anew")
    if _is_true(fields.get("CompressedData", "False")) and _packed(fields) < 1:
        raise RejectedFile("it does not say its CompressedDataSize, without which SimpleITK reads other pixels: save "
                           "it anew")


def _packed(fields: dict[str, str]) -> int:
    """Bytes of the compressed pixels as a header says; 0 where it says none."""
    return int(float(fields.get("CompressedDataSize", "0")))


def _check_geometry(fields: dict[str, str], axes: int) -> None:
    """RejectedFile for what SimpleITK would take for 0, or refuse in words that no user knows."""
    if spacing := _first(fields, SPACING):
        steps = _numbers(fields, spacing)
        if len(steps) != axes or not np.all(steps):
            raise RejectedFile(f"its {spacing} is '{fields[spacing][:80]}': {axes} numbers other than 0 are read")
    if directions := _first(fields, DIRECTIONS):
        matrix = _numbers(fields, directions)
        if len(matrix) != axes**2 or not np.linalg.det(np.reshape(matrix, (axes, axes))):
            raise RejectedFile(f"its {directions} is '{fields[directions][:80]}': {axes**2} numbers that turn the axes "
                               "are read")
    for name in PLACES:
        _numbers(fields, name)


def _first(fields: dict[str, str], names: tuple[str, ...]) -> str:
    """The first of several names that a header has, "" for none."""
    return next((name for name in names if name in fields), "")


def _numbers(fields: dict[str, str], name: str) -> list[float]:
    try:
        found = [float(number) for number in fields.get(name, "").split()]
    except ValueError:
        found = [math.nan]
    if not np.isfinite(found).all():
        hint = " (with points, not commas)" if "," in fields[name] else ""
        raise RejectedFile(f"its {name} is '{fields[name][:80]}', which are no numbers{hint}")
    return found


def _add(fields: dict[str, str], key: str, value: str) -> None:
    """Two lines of one name could be read differently here and by SimpleITK."""
    if key in fields:
        raise RejectedFile(f"its header has two lines '{key[:40]}'")
    if key:
        fields[key] = value


def _nrrd_claim(path: Path, head: bytes) -> Claim:
    text, separator, _ = head.partition(b"\n\n")
    if b"\r\n\r\n" in head:
        text, separator, _ = head.partition(b"\r\n\r\n")
    fields: dict[str, str] = {}
    for line in text.decode("latin-1").splitlines()[1:]:
        key, _, value = line.partition(":")
        if not line.startswith("#"):
            _add(
                fields,
                key.strip().lower() if not value.startswith("=") else key.strip(),
                value.removeprefix("=").strip(),
            )
    kind, encoding = fields.get("type", "").lower(), fields.get("encoding", "").lower()
    if kind not in NRRD_TYPES or encoding not in ("raw", "gzip", "gz"):
        raise RejectedFile(
            f"its type is {kind or 'missing'} and its encoding {encoding or 'missing'}; "
            "read are whole and floating-point numbers, raw or gzip"
        )
    if any(int(fields.get(skip, "0")) for skip in ("line skip", "byte skip")):
        raise RejectedFile("it skips lines or bytes before the pixels, which is not read")
    name = fields.get("data file", fields.get("datafile"))
    sizes = tuple(int(number) for number in fields["sizes"].split())
    kinds = fields.get("kinds", "space").split()
    vector = len(sizes) > 2 and (kinds[0] in VECTORS or (sizes[0] == 3 and kinds[0] not in ("space", "domain")))
    return Claim(
        shape=sizes[1:] if vector else sizes,
        channels=sizes[0] if vector else 1,
        dtype=np.dtype(NRRD_TYPES[kind]),
        fields=fields,
        data=path if name is None else _beside(path, name),
        compressed=encoding != "raw",
        offset=len(text) + len(separator) if name is None else 0,
    )


def _beside(path: Path, name: str) -> Path:
    """The data file that a header names: a plain file in the same folder, or RejectedFile before it is opened."""
    if not name or name in (".", "..") or any(sign in name for sign in "/\\%\0") or name.split()[0] == "LIST":
        raise RejectedFile(
            f"its header points to '{name[:80]}'; only a file in the same folder, named plainly, is opened. "
            "Save data in several files as one (.mha, .nrrd)"
        )
    data = path.parent / name
    if data.is_symlink() or not data.is_file():
        raise RejectedFile(f"its data file '{name[:80]}' is missing or a link")
    return data


def check_data(claim: Claim) -> None:
    """RejectedFile unless the pixels are there to the last byte."""
    needed = math.prod(claim.shape) * claim.channels * claim.dtype.itemsize
    have = check_file(claim.data) - claim.offset
    if claim.compressed:
        if have < (packed := _packed(claim.fields)):
            raise RejectedFile(f"its compressed pixels are cut short: {max(have, 0):,} bytes of {packed:,}")
        have = _inflated(claim, needed)
    if have < needed:
        raise RejectedFile(f"its pixels are cut short: {max(have, 0):,} bytes of {needed:,}")


def _inflated(claim: Claim, needed: int) -> int:
    inflater, total = zlib.decompressobj(wbits=47), 0
    with open(claim.data, "rb") as file:
        file.seek(claim.offset)
        while (block := file.read(2**20)) and not inflater.eof:
            while block and total <= needed:
                try:
                    total += len(inflater.decompress(block, 2**22))
                except zlib.error as error:
                    raise RejectedFile(f"its compressed pixels are damaged: {error}") from None
                block = inflater.unconsumed_tail
            if total > needed:
                raise RejectedFile(f"its pixels unpack to more than the {needed:,} bytes of its header")
    return total


def spacing_of(claim: Claim) -> tuple[float, ...] | None:
    """mm along the file's axes; None when the header has none that is usable."""
    affine, marked = affine_of(claim), parse_mark(claim.fields.get(KEY))
    if marked is not None and marked.spacing is None:
        return None
    if affine is not None:
        return tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    text, units = claim.fields.get(_first(claim.fields, (*SPACING, "spacings")), ""), units_of(claim)
    try:
        if "space directions" in claim.fields:
            vectors = _vectors(claim.fields["space directions"])
            steps = tuple(math.hypot(*np.multiply(vector, units[:len(vector)])) for vector in vectors)
        else:
            numbers = text.split()[-len(claim.shape):]
            steps = tuple(abs(float(number)) * unit for number, unit in zip(numbers, units, strict=False))
    except ValueError:
        return None
    good = len(steps) == len(claim.shape) and all(math.isfinite(step) and step > 0 for step in steps)
    return steps if good else None


def units_of(claim: Claim) -> tuple[float, float, float]:
    """mm in the unit of each axis: of space where NRRD has directions, else of the file. SimpleITK knows no units.

    RejectedFile for a unit that is not known, because sizes in mm would be wrong."""
    fields = claim.fields
    if "ElementDataFile" in fields:
        name, units = "DistanceUnits", [fields.get("DistanceUnits", "")] * 3
    else:
        name = "space units" if "space directions" in fields else "units"
        units = re.findall(r'"([^"]*)"', fields.get(name, ""))
        units = units if name == "space units" else units[-len(claim.shape):]  # the first may be that of colours
    plain = [re.sub(r"[^ -~]+", "u", unit.strip()).lower() for unit in units]  # mu, whatever its encoding
    found = [IN_MM[unit] for unit in plain if unit in IN_MM]
    if len(found) < len(units):
        raise RejectedFile(f"its {name} are {fields[name][:80]}, of which mm, cm, m and um are known: "
                           "correct its header")
    first, second, third = (*found, 1.0, 1.0, 1.0)[:3]
    return first, second, third


def affine_of(claim: Claim) -> NDArray[np.float64] | None:
    """(axis 0, axis 1, axis 2) index -> LPS mm of a volume as the header's text says; None when it does not."""
    if len(claim.shape) != 3:
        return None
    fields = claim.fields
    try:
        if "space directions" in fields:
            columns = np.array(_vectors(fields["space directions"])).T
            right = fields.get("space", "").lower() in ("right-anterior-superior", "ras")
            columns = np.diag([-1.0, -1.0, 1.0]) @ columns if right else columns
        else:
            steps = [float(number) for number in fields["ElementSpacing"].split()]
            matrix = fields[_first(fields, DIRECTIONS)]
            columns = np.array([float(number) for number in matrix.split()]).reshape(3, 3).T * steps
    except (ValueError, KeyError):
        return None
    affine = np.eye(4)
    if columns.shape != (3, 3):
        return None
    affine[:3, :3] = np.diag(units_of(claim)) @ columns
    if not usable(affine):
        raise RejectedFile("its orientation matrix is not usable: not finite, or axes of length zero")
    return affine


def _vectors(text: str) -> list[list[float]]:
    """NRRD's `(1,0,0) none (0,1,0)`: the vectors in it."""
    parts = text.replace("none", "").replace(" ", "").strip("()").split(")(")
    return [[float(number) for number in part.split(",")] for part in parts]
