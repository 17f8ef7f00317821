"""DICOM series: which files are the slices of one volume, in which order, and what is wrong with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io import Header, NotAnImage, detect
from radsynth.io import _dicom_frames as enhanced
from radsynth.io import _dicom_single as single
from radsynth.io._dicom_header import Instance
from radsynth.io._dicom_parsing import parse, quietly
from radsynth.io._dicom_pixels import stored_frame, to_image
from radsynth.io._geometry import axes_towards_left_back_head, layout, reorient
from radsynth.io._limits import check_size, unusable

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
    frames: the frame of each file that is the slice, None for a file that is one; files repeat where frames share one
    slices: the header of each slice; fault: why the slices are no whole volume, None when they are
    planar: index of the volume's axis (slices 0, rows 1, columns 2) across which the files were taken
    turned: the volume's first slice along that axis is the last of `files`
    uid, reference: the identifiers of the series and of its frame of reference, by which segmentations name it
    """

    files: tuple[str, ...]
    frames: tuple[int | None, ...]
    header: Header
    slices: tuple[Header, ...]
    fault: str | None = None
    planar: int = 0
    turned: bool = False
    uid: str = ""
    reference: str = ""


def arrange(instances: Iterable[Instance]) -> tuple[list[Series], list[tuple[str, str]]]:
    """(series in the order of their first file, second copies as (path, the first one's path)).

    Slices belong together when patient, series, size, orientation, spacing and time point agree. Localizers,
    plain multi-frame files and images without position stand alone. UIDs are not trusted to tell patients or places
    apart: software that removes names gives many the same.
    """
    groups: dict[tuple[object, ...], list[Instance]] = defaultdict(list)
    seen: dict[tuple[object, ...], str] = {}
    copies: dict[str, str] = {}
    for found in instances:
        own = (found.header.patient, found.uid, found.position)
        if found.uid and own in seen:
            copies[found.path] = seen[own]
            continue
        seen[own] = found.path
        alone = found.position is None or found.header.spacing is None or found.header.frames > 1 or not found.series
        alone = alone or found.header.localizer or found.header.modality not in ("CT", "MR", "PT", "OT")
        groups[(found.path, found.frame) if alone else found.group].append(found)
    return [_series(group) for group in groups.values()], list(copies.items())


def told_apart(instances: Iterable[Instance]) -> list[Instance]:
    """The same, where series hold several pictures at each place (echoes, b-values, magnitude and phase, time points)
    with what these are in their groups and descriptions."""
    groups: dict[tuple[object, ...], list[Instance]] = defaultdict(list)
    for found in instances:
        groups[found.group].append(found)
    return [found for group in groups.values() for found in _by_sort(group)]


def _by_sort(group: list[Instance], first: int = 0) -> list[Instance]:
    """first: the first of `Instance.sorts` that is not told yet"""
    places: dict[tuple[float, ...], list[Instance]] = defaultdict(list)
    for found in group:
        if found.position is not None:
            places[tuple(round(value, 2) for value in found.position)].append(found)
    for number in range(first, len(group[0].sorts)):
        if any(len({found.sorts[number] for found in there}) > 1 for there in places.values()):
            parts: dict[str, list[Instance]] = defaultdict(list)
            for found in group:
                parts[found.sorts[number]].append(_named(found, found.sorts[number]))
            return [found for part in parts.values() for found in _by_sort(part, number + 1)]
    counts = {len(there) for there in places.values()}
    numbered = all(len({found.number for found in there}) == len(there) for there in places.values())
    if len(counts) != 1 or counts == {1} or not numbered or any(found.position is None for found in group):
        return group
    # Time points, or what else nobody says: within a place Instance Numbers follow their order.
    return [_named(found, f"{index} of {len(there)} at each place") for there in places.values()
            for index, found in enumerate(sorted(there, key=lambda found: found.number), start=1)]


def _named(found: Instance, sort: str) -> Instance:
    series = ", ".join(filter(None, (found.header.series, sort)))
    return replace(found, group=(*found.group, sort), header=replace(found.header, series=series))


def _series(group: list[Instance]) -> Series:
    first = group[0]
    if len(group) == 1:
        return Series(files=(first.path,), frames=(first.frame,), header=first.header, slices=(first.header,),
                      uid=first.series, reference=first.reference)
    assert first.across is not None and first.down is not None
    normal = np.cross(first.across, first.down)
    ordered = sorted(
        group,
        key=lambda found: (float(np.asarray(found.position) @ normal), found.number, found.path, found.frame or 0),
    )
    places = np.stack([np.asarray(found.position) for found in ordered])
    fault = _mixed(ordered) or _fault(places, normal)
    header, planar, turned = _volume_header(ordered, places, normal)
    try:
        check_size(header.size, channels=header.channels, itemsize=4)
    except RejectedFile as error:
        fault = str(error)
    return Series(
        files=tuple(found.path for found in ordered),
        frames=tuple(found.frame for found in ordered),
        header=header,
        slices=tuple(found.header for found in ordered),
        fault=fault,
        planar=planar,
        turned=turned,
        uid=first.series,
        reference=first.reference,
    )


def _mixed(slices: list[Instance]) -> str | None:
    """Why the values of these slices do not go together."""
    scaled = sum(found.header.units == "HU" for found in slices)
    if scaled in (0, len(slices)):
        return None
    lack = len(slices) - scaled
    return (f"{lack} of its {len(slices)} slices {'does' if lack == 1 else 'do'} not say how values become Hounsfield "
            "units (Rescale Intercept and Slope), as the others do")


def _fault(places: np.ndarray, normal: np.ndarray) -> str | None:
    """Why slices at these places (n, 3) mm are no whole volume."""
    steps = np.diff(places @ normal)
    twice = int((steps < TOUCHING).sum())
    if twice:
        return f"{twice} of its {len(places)} slices are at the place of another (several time points or a copy)"
    usual = float(np.median(steps))
    if float(steps.max()) > GAP * usual:
        missing = int(np.rint(steps[steps > GAP * usual] / usual - 1).clip(1).sum())
        lacks = "1 of its slices is" if missing == 1 else f"{missing} of its slices are"
        return f"about {lacks} missing: the step of {usual:.2f} mm grows to {steps.max():.2f} mm"
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


def _volume_header(ordered: list[Instance], places: np.ndarray, normal: np.ndarray) -> tuple[Header, int, bool]:
    """(header, planar, turned) as in `Series`."""
    affine = _grid(ordered, places, normal)
    order, flips = (found[::-1] for found in axes_towards_left_back_head(affine))
    shape = (*ordered[0].header.size[::-1], len(ordered))
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    notes = tuple(dict.fromkeys(note for found in ordered for note in found.header.notes))
    header = replace(
        ordered[0].header,
        size=tuple(shape[axis] for axis in order),
        notes=notes,
        spacing=tuple(float(lengths[axis]) for axis in order),
        bits=max(found.header.bits for found in ordered),
        burned_in=any(found.header.burned_in for found in ordered),
    )
    return header, order.index(2), bool(flips[order.index(2)])


def read_series(files: tuple[str, ...], frames: tuple[int | None, ...] = ()) -> Image:
    """The volume of one series (1 or 3, slices, rows, columns), or the image of a file alone.

    frames: as in `Series`; () when every file is one slice. RejectedFile when a slice fails or they do not fit.
    """
    wanted: dict[str, list[int | None]] = defaultdict(list)
    for path, frame in zip(files, frames or (None,) * len(files), strict=True):
        wanted[path].append(frame)
    # One file at a time: a data set is hundreds of small objects, and thousands of data sets are dear to keep.
    slices = {place: found for path in wanted for place, found in _slices(path, wanted[path]).items()}
    series, copies = arrange(member for member, _ in slices.values())
    if len(series) != 1 or copies:
        raise RejectedFile(f"its {len(files)} slices belong to {len(series)} volumes")
    if series[0].fault:
        raise RejectedFile(series[0].fault)
    return volume([slices[place] for place in zip(series[0].files, series[0].frames, strict=True)])


def volume(ordered: list[tuple[Instance, Image]]) -> Image:
    """The volume of slices in order; one slice alone is a 2-D image."""
    members, images = [member for member, _ in ordered], [image for _, image in ordered]
    if len(ordered) == 1:
        return images[0]
    places = np.stack([np.asarray(member.position) for member in members])
    first = members[0]
    assert first.across is not None and first.down is not None
    affine = _grid(members, places, np.cross(first.across, first.down))
    stack = np.stack([image.pixels for image in images], axis=1)  # (c, slice, row, column) as in the files
    turned = [reorient(channel.transpose(2, 1, 0), affine) for channel in stack]
    return images[0].replace(
        pixels=np.ascontiguousarray(np.stack([array for array, _, _ in turned])),
        affine=turned[0][1],
        spacing=turned[0][2],
        bits=max(image.bits for image in images),
        window=images[len(images) // 2].window,
        lossy=next((image.lossy for image in images if image.lossy is not None), None),
        laid=layout(affine),
    )


def _slices(path: str, wanted: list[int | None]) -> dict[tuple[str, int | None], tuple[Instance, Image]]:
    """The slices of one file: the file itself, or the `wanted` frames of an enhanced one."""
    try:
        members = {member.frame: member for member in enhanced.instances(Path(path))}
        only = members.get(None)
        if only is not None and only.single is not None:
            return {(path, None): (only, single.read(only, only.single))}
        dataset = parse(Path(path), pixels=True)
        if only is None:
            return {(path, frame): found for frame, found in frames_of(dataset, members, wanted).items()}
        return {(path, None): (only, to_image(dataset, only, stored_frame(dataset, only, 0)))}
    except RejectedFile as error:
        raise RejectedFile(f"slice {Path(path).name}: {error}") from None


def frames_of(
    dataset: Any, members: Mapping[int | None, Instance], wanted: Sequence[int | None]
) -> dict[int | None, tuple[Instance, Image]]:
    """The `wanted` frames of an enhanced data set; several are decoded at once."""
    only = wanted[0] if len(wanted) == 1 else None
    stored = stored_frame(dataset, members[wanted[0]], only)
    numbers = [frame for frame in wanted if frame is not None]
    try:
        with quietly():
            flats = enhanced.flattened(dataset, numbers)
    except Exception as error:
        raise unusable(error, "the DICOM functional groups") from None
    return {
        frame: (members[frame], to_image(flat, members[frame], stored if only is not None else stored[frame]))
        for frame, flat in zip(numbers, flats, strict=True)
    }


def read_folder(folder: Path) -> list[Image]:
    """Every series below a folder as a volume, every image alone as it is; RejectedFile for the first that fails."""
    from radsynth.io.dicom import read

    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            if detect(path) == "dicom":
                found += enhanced.instances(path)
        except NotAnImage:
            continue
    if not found:
        raise RejectedFile(f"{folder} holds no DICOM images")
    images = []
    for series in arrange(told_apart(found))[0]:
        if series.header.frames > 1:
            images += [read(Path(series.files[0]), frame) for frame in range(series.header.frames)]
        else:
            images.append(read_series(series.files, series.frames))
    return images
