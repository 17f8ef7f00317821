"""DICOM series: which files are the slices of one volume, in which order, and what is wrong with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io import Header, NotAnImage, detect
from radsynth.io._dicom_header import Instance, describe, instance, parse
from radsynth.io._geometry import axes_towards_left_back_head, reorient
from radsynth.io._limits import check_size
from radsynth.io.dicom import read, to_image

TOUCHING = 0.01
"""mm: two slices closer than this are at the same place."""

GAP = 1.5
"""A step longer than this many median steps means that slices are missing; 1.1 that the steps are uneven."""

UNEVEN = 1.1
TILT = 1.0
"""Degrees between the direction of the slices' steps and their normal; more is a tilted gantry."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Slices of one volume, or one image that stands alone.

    files: sorted from the first slice to the last along the normal; header: of the volume, or of the image alone
    slices: the header of each file; fault: why the slices are no whole volume, None when they are
    planar: index of the volume's axis (slices 0, rows 1, columns 2) across which the files were taken
    """

    files: tuple[str, ...]
    header: Header
    slices: tuple[Header, ...]
    fault: str | None = None
    planar: int = 0


def arrange(instances: Iterable[Instance]) -> tuple[list[Series], list[tuple[str, str]]]:
    """(series in the order of their first file, second copies as (path, reason)).

    Slices belong together when series, size, orientation, spacing, echo and time point agree. Localizers, multi-frame
    files and images without position stand alone.
    """
    groups: dict[tuple[object, ...], list[Instance]] = defaultdict(list)
    seen: dict[str, str] = {}
    copies = []
    for found in instances:
        if found.uid and found.uid in seen:
            copies.append((found.path, f"it is a second copy of {Path(seen[found.uid]).name} (same SOP Instance UID)"))
            continue
        seen[found.uid] = found.path
        alone = found.position is None or found.header.spacing is None or found.header.frames > 1 or not found.series
        alone = alone or "LOCALIZER" in found.kind or found.header.modality not in ("CT", "MR", "PT", "OT")
        groups[(found.path,) if alone else found.group].append(found)
    return [_series(group) for group in groups.values()], copies


def _series(group: list[Instance]) -> Series:
    first = group[0]
    if len(group) == 1:
        return Series(files=(first.path,), header=first.header, slices=(first.header,))
    assert first.across is not None and first.down is not None
    normal = np.cross(first.across, first.down)
    positions = {found.path: np.asarray(found.position) for found in group}
    ordered = sorted(group, key=lambda found: (float(positions[found.path] @ normal), found.number, found.path))
    places = np.stack([positions[found.path] for found in ordered])
    files = tuple(found.path for found in ordered)
    fault = _fault(places, normal)
    header, planar = _volume_header(ordered, places, normal)
    try:
        check_size(header.size, channels=header.channels, itemsize=4)
    except RejectedFile as error:
        fault = str(error)
    return Series(
        files=files,
        header=header,
        slices=tuple(found.header for found in ordered),
        fault=fault,
        planar=planar,
    )


def _fault(places: np.ndarray, normal: np.ndarray) -> str | None:
    """Why slices at these places (n, 3) mm are no whole volume."""
    steps = np.diff(places @ normal)
    twice = int((steps < TOUCHING).sum())
    if twice:
        return f"{twice} of its {len(places)} slices are at the place of another (several time points or a copy)"
    usual = float(np.median(steps))
    if float(steps.max()) > GAP * usual:
        missing = int(np.rint(steps[steps > GAP * usual] / usual - 1).clip(1).sum())
        return f"about {missing} of its slices are missing: the step of {usual:.2f} mm grows to {steps.max():.2f} mm"
    if float(steps.max()) > UNEVEN * float(steps.min()):
        return f"its slices are unevenly spaced, {steps.min():.2f} to {steps.max():.2f} mm"
    whole = places[-1] - places[0]
    tilt = float(np.degrees(np.arccos(np.clip(whole @ normal / np.linalg.norm(whole), -1, 1))))
    return f"its gantry is tilted by {tilt:.1f} degrees: the slices are sheared" if tilt > TILT else None


def _grid(ordered: list[Instance], places: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(column, row, slice) index -> LPS mm of the sorted slices."""
    first = ordered[0]
    assert first.header.spacing is not None
    affine = np.eye(4)
    affine[:3, 0] = np.asarray(first.across) * first.header.spacing[1]
    affine[:3, 1] = np.asarray(first.down) * first.header.spacing[0]
    affine[:3, 2] = normal * max(float(np.median(np.diff(places @ normal))), TOUCHING)
    affine[:3, 3] = places[0]
    return affine


def _volume_header(ordered: list[Instance], places: np.ndarray, normal: np.ndarray) -> tuple[Header, int]:
    affine = _grid(ordered, places, normal)
    order = axes_towards_left_back_head(affine)[0][::-1]
    shape = (*ordered[0].header.size[::-1], len(ordered))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    notes = tuple(dict.fromkeys(note for found in ordered for note in found.header.notes))
    header = replace(
        ordered[0].header,
        size=tuple(shape[axis] for axis in order),
        notes=notes,
        spacing=tuple(float(lengths[axis]) for axis in order),
        bits=max(found.header.bits for found in ordered),
    )
    return header, order.index(2)


def read_series(files: tuple[str, ...]) -> Image:
    """The volume of one series (1 or 3, slices, rows, columns); RejectedFile when a slice fails or they do not fit."""
    parsed = [(path, parse(Path(path), pixels=True)) for path in files]
    found = [(describe(Path(path), dataset), dataset) for path, dataset in parsed]
    series, copies = arrange(member for member, _ in found)
    if len(series) != 1 or copies:
        raise RejectedFile(f"its {len(files)} files belong to {len(series)} volumes")
    if series[0].fault:
        raise RejectedFile(series[0].fault)
    if len(files) == 1:
        return to_image(found[0][1], found[0][0])
    members = {member.path: (member, dataset) for member, dataset in found}
    ordered = [members[path] for path in series[0].files]
    images = [_slice(member, dataset) for member, dataset in ordered]
    places = np.stack([np.asarray(member.position) for member, _ in ordered])
    first = ordered[0][0]
    assert first.across is not None and first.down is not None
    affine = _grid([member for member, _ in ordered], places, np.cross(first.across, first.down))
    stack = np.stack([image.pixels for image in images], axis=1)  # (c, slice, row, column) as in the files
    turned = [reorient(channel.transpose(2, 1, 0), affine) for channel in stack]
    return images[0].replace(
        pixels=np.ascontiguousarray(np.stack([array for array, _, _ in turned])),
        affine=turned[0][1],
        spacing=turned[0][2],
        bits=series[0].header.bits,
    )


def _slice(member: Instance, dataset: object) -> Image:
    try:
        return to_image(dataset, member)
    except RejectedFile as error:
        raise RejectedFile(f"slice {Path(member.path).name}: {error}") from None


def read_folder(folder: Path) -> list[Image]:
    """Every series below a folder as a volume, every image alone as it is; RejectedFile for the first that fails."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            if detect(path) == "dicom":
                found.append(instance(path))
        except NotAnImage:
            continue
    if not found:
        raise RejectedFile(f"{folder} holds no DICOM images")
    images = []
    for series in arrange(found)[0]:
        if len(series.files) > 1:
            images.append(read_series(series.files))
        else:
            images += [read(Path(series.files[0]), frame) for frame in range(series.header.frames)]
    return images
