"""LUNA16, lung nodules in CT (Setio et al. 2017): axial slices, or patches around nodules and other candidates.

As distributed: subset0/ to subset9/ with mhd and raw files, annotations.csv, candidates_V2.csv, seg-lungs-LUNA16/, or
the zip files that these come in.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from radsynth.datasets import Record, Rejected
from radsynth.datasets._archives import find_folders, listed, opened
from radsynth.datasets._luna16_tables import Finding, draw, read_table
from radsynth.datasets._volumes import Source, as_modality, keep, load_slice
from radsynth.errors import DataError, MissingExtra, RejectedFile
from radsynth.image import Image
from radsynth.io import Header, format_module
from radsynth.io._geometry import reorient
from radsynth.io._metaimage_header import affine_of, read_claim
from radsynth.progress import track
from radsynth.settings import settings as section

NODULE, OTHER = "nodule", "no nodule"
MASKS = "seg-lungs-LUNA16"
LUNGS = (3, 4, 5)
"""The masks' values of the left lung, the right lung and the windpipe, which become 1, 2, 3."""
PARTS = {1: "left lung", 2: "right lung", 3: "windpipe"}

AIR = -1024
"""Hounsfield units of what a patch shows outside of the scan."""

LEVELS = 3
"""Folders between the root and the scans, at most: an archive's own, and one more that some programs add."""

SUBSET = re.compile(r"subset\d+", re.IGNORECASE)
SERIES = re.compile(r"[0-9]+(\.[0-9]+)+")
PACKED = re.compile(r"(^|/)subset\d+/[0-9]+(\.[0-9]+)+\.mhd$", re.IGNORECASE)


@section
class Settings:
    """LUNA16 as distributed: lung nodules in CT."""

    kind: Literal["luna16"] = "luna16"
    path: Path
    """The folder with subset0, subset1, ... and the tables."""
    what: Literal["slices", "patches"] = "slices"
    """Whole axial slices, labelled by whether a nodule of annotations.csv reaches them; or axial patches around the
    candidates of candidates_V2.csv, labelled by their class."""
    patch_mm: Annotated[float, Field(gt=0, le=500)] = 50.0
    """Side of a patch in mm."""
    patch_pixels: Annotated[int, Field(ge=4, le=1024)] = 64
    """Side of a patch in pixels."""
    negatives: Annotated[float, Field(ge=0)] = 1.0
    """Patches without a nodule for each patch with one; the same ones are drawn each time."""
    lungs: bool = True
    """Use the lung masks: 1 left lung, 2 right lung, 3 windpipe. Only when seg-lungs-LUNA16 is there."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One CT. name: below the root; affine: (column, row, slice) index -> LPS mm, as `read` will turn the volume."""

    name: str
    series: str
    source: Source
    header: Header
    affine: NDArray[np.float64]


def matches(path: Path) -> bool:
    """A folder or an archive with a folder subset0, subset1, ... of files named as their series: 1.3.6.1....mhd."""
    path = Path(path)
    return bool(_subsets(path)) or any(PACKED.search(name) for name in listed(path))


def records(settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    """Every slice or patch, by subset and series. DataError without scans or tables; MissingExtra without SimpleITK."""
    root = opened(Path(settings.path), rejected)
    files = [file for subset in _subsets(root) for file in _scans_in(subset)]
    if not files:
        raise DataError(f"{settings.path} is not LUNA16: it needs folders subset0, subset1, ... with mhd files.")
    if importlib.util.find_spec("SimpleITK") is None:
        raise MissingExtra("LUNA16 (MetaImage)", "itk")
    found, table = read_table(root, "annotations" if settings.what == "slices" else "candidates", settings.path)
    if missing := sorted(found.keys() - {file.stem for file in files}):
        reason = (f"{len(missing):,} of the {len(found):,} scans that it names are not here, the first {missing[0]}: a "
                  "subset may be missing")
        rejected.append(Rejected(path=table, reason=reason, skipped=True))
    return _records(root, files, found, settings, rejected)


def example(folder: Path) -> Settings:
    """Three scans in two subsets, one with a nodule, with tables and lung masks."""
    series = [f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{number}" for number in (101, 102, 103)]
    rng = np.random.default_rng(0)
    (folder / MASKS).mkdir()
    for number, name in enumerate(series):
        subset = folder / f"subset{number // 2}"
        subset.mkdir(exist_ok=True)
        volume = rng.integers(-1000, 400, (4, 24, 20)).astype("<i2")
        lungs = np.zeros(volume.shape, np.uint8)
        lungs[:, 4:20, 2:9], lungs[:, 4:20, 11:18], lungs[:, 2, 9:11] = LUNGS
        _write_pair(subset / f"{name}.mhd", volume, "MET_SHORT", "raw")
        _write_pair(folder / MASKS / f"{name}.mhd", lungs, "MET_UCHAR", "zraw")
    (folder / "annotations.csv").write_text(f"seriesuid,coordX,coordY,coordZ,diameter_mm\n{series[0]},-4,-4,2.5,5\n")
    lines = [f"{series[0]},-4,-4,2.5,1", *(f"{name},2,3,5,0" for name in series), f"{series[1]},-6,-4,2.5,1"]
    (folder / "candidates_V2.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,class", *lines, ""]))
    return Settings(path=folder)


def _write_pair(path: Path, values: NDArray[np.generic], kind: str, ending: str) -> None:
    import zlib

    data = values.tobytes()
    path.with_suffix(f".{ending}").write_bytes(zlib.compress(data) if ending == "zraw" else data)
    path.write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = {ending == 'zraw'}\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -10 -12 0\n"
        "CenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\nElementSpacing = 1 1 2.5\n"
        f"DimSize = {values.shape[2]} {values.shape[1]} {values.shape[0]}\nElementType = {kind}\n"
        f"ElementDataFile = {path.stem}.{ending}\n"
    )


def _subsets(root: Path) -> list[Path]:
    return find_folders(root, lambda folder: bool(SUBSET.fullmatch(folder.name)) and any(_scans_in(folder)), LEVELS)


def _scans_in(subset: Path) -> list[Path]:
    return [file for file in sorted(subset.glob("*.mhd")) if SERIES.fullmatch(file.stem)]


def _records(
    root: Path, files: list[Path], found: dict[str, list[Finding]], settings: Settings, rejected: list[Rejected]
) -> Iterator[Record]:
    drawn = draw(found, {file.stem for file in files}, settings.negatives) if settings.what == "patches" else found
    masks = find_folders(root, lambda folder: folder.name == MASKS and any(_scans_in(folder)), LEVELS)
    seen: set[str] = set()
    for file in track(files, len(files), "reading headers", "scans"):
        name = file.relative_to(root).as_posix()
        if file.stem in seen:
            rejected.append(Rejected(path=name, reason="it is a second copy of a scan", skipped=True))
            continue
        seen.add(file.stem)
        try:
            scan = _scan(file, name, masks[0] if masks and settings.lungs else None)
        except RejectedFile as error:
            rejected.append(Rejected(path=name, reason=str(error)))
            continue
        findings = drawn.get(scan.series, [])
        yield from (_patches if settings.what == "patches" else _slices)(scan, findings, settings)


def _scan(file: Path, name: str, masks: Path | None) -> Scan:
    header = format_module("metaimage").header(file)
    claim = read_claim(file)
    affine = affine_of(claim)
    place = next((claim.fields[key] for key in ("Offset", "Position", "Origin") if key in claim.fields), None)
    if len(header.size) != 3 or affine is None or place is None:
        raise RejectedFile("it is no volume with a place in the patient (TransformMatrix, Offset)")
    try:
        affine[:3, 3] = [float(number) for number in place.split()]
    except ValueError:
        raise RejectedFile(f"its Offset is '{place[:80]}', not three numbers") from None
    turned = reorient(np.broadcast_to(np.int8(0), claim.shape), affine)[1]
    if masks and not (masks / file.name).is_file():
        raise RejectedFile(f"it has no lung mask in {MASKS}, as others have. data.lungs=false does without")
    source = Source(format="metaimage", files=(str(file),), masks=(str(masks / file.name),) if masks else (),
                    modality="CT", mask_values=LUNGS)
    return Scan(
        name=name,
        series=file.stem,
        source=source,
        header=as_modality(header, source.modality),
        affine=turned,
    )


def _slices(scan: Scan, findings: list[Finding], settings: Settings) -> Iterator[Record]:
    """Every axial slice. A nodule reaches those within half its diameter of its centre."""
    header, inverse = scan.header, np.linalg.inv(scan.affine)
    step = header.spacing[0] if header.spacing else 1.0
    reached = set()
    for finding in findings:
        middle = float((inverse @ np.array([*finding.centre, 1.0]))[2])
        half = max(finding.diameter / 2 / step, 0.5)
        reached |= {*range(math.ceil(middle - half), math.floor(middle + half) + 1)}
    flat = replace(header, size=header.size[1:], spacing=header.spacing[1:] if header.spacing else None)
    for index in range(header.size[0]):
        yield Record(
            source=f"{scan.name}#axial{index:04d}",
            volume=scan.name,
            patient=scan.series,
            label=NODULE if index in reached else OTHER,
            load=partial(load_slice, scan.source, 0, index, 0.0),
            header=flat,
            files=scan.source.files,
            masks=scan.source.masks,
            mask_names=PARTS,
        )


def _patches(scan: Scan, findings: list[Finding], settings: Settings) -> Iterator[Record]:
    side, pixels = settings.patch_mm, settings.patch_pixels
    flat = replace(scan.header, size=(pixels, pixels), spacing=(side / pixels, side / pixels))
    for finding in findings:
        yield Record(
            source=f"{scan.name}#candidate{finding.row:06d}",
            patient=scan.series,
            label=NODULE if finding.nodule else OTHER,
            load=partial(load_patch, scan.source, finding.centre, side, pixels),
            header=flat,
            files=scan.source.files,
            masks=scan.source.masks,
            mask_names=PARTS,
        )


def load_patch(source: Source, centre: tuple[float, float, float], side: float, pixels: int) -> Image:
    """A square of the axial slice nearest to `centre` (LPS mm), `side` mm wide, interpolated linearly; with its mask.

    RejectedFile when the centre is not in the scan, or the patch shows one value only.
    """
    from scipy.ndimage import map_coordinates

    volume = keep(source)
    if volume.affine is None or volume.pixels.ndim != 4:
        raise RejectedFile("it is no volume with a place in the patient")
    column, row, depth = (np.linalg.inv(volume.affine) @ np.array([*centre, 1.0]))[:3]
    place = zip((depth, row, column), volume.space, strict=True)
    if not all(-0.5 <= where < side - 0.5 for where, side in place):
        raise RejectedFile(f"its candidate at {centre} mm lies outside of the scan")
    index = int(np.rint(depth))
    steps = np.linalg.norm(volume.affine[:3, :2], axis=0)  # mm a column, mm a row
    offsets = (np.arange(pixels) - (pixels - 1) / 2) * (side / pixels)
    grid = np.meshgrid(row + offsets / steps[1], column + offsets / steps[0], indexing="ij")
    cut = volume.pixels[0, index]
    values = map_coordinates(cut.astype(np.float32), grid, order=1, mode="constant", cval=AIR)
    if cut.dtype.kind in "iu":
        values = np.rint(values).astype(np.int32)
    if values.min() == values.max():
        raise RejectedFile(f"its patch at {centre} mm shows one value, {values.flat[0]}")
    mask = None
    if volume.mask is not None:
        mask = map_coordinates(volume.mask[index], grid, order=0, mode="constant", cval=0).astype(np.uint8)
    affine = volume.affine.copy()
    affine[:3, :2] *= side / pixels / steps
    affine[:3, 3] = (volume.affine @ np.array([grid[1][0, 0], grid[0][0, 0], index, 1.0]))[:3]
    return volume.replace(pixels=values[None], mask=mask, affine=affine, spacing=(side / pixels,) * 2)
