"""Enhanced multi-frame DICOM (Enhanced CT, MR, PET, ...): each frame as if it were a file of its own.

Its geometry and scale lie in functional groups, those of all frames and those of each. Flattened into one data set a
frame they are read by the same code as single-frame files, and sorted into volumes by the same rules.
PS3.3 C.7.6.16 (functional groups), C.7.6.17 (dimensions).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from radsynth.errors import RejectedFile
from radsynth.io._dicom_header import Instance, describe
from radsynth.io._dicom_parsing import TAGS, parse, quietly
from radsynth.io._limits import unusable

SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"

AS_SINGLE = {
    **{name: name for name in (
        "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient",
        "RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth", "StackID",
        "EffectiveEchoTime", "DiffusionBValue", "DimensionIndexValues",
    )},
    "FrameType": "ImageType",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "InStackPositionNumber": "InstanceNumber",
}  # fmt: skip
"""Attribute of a functional group -> attribute of a single-frame file."""

SPLITS = ("StackID", "EffectiveEchoTime", "DiffusionBValue", "ImageType")
"""Frames that differ in one of these belong to different volumes, beside what splits single-frame files."""

PLACES = (0x00200032, 0x00209057, 0x00209113, 0x00201041)
"""Dimensions that say where a slice lies: position, number in the stack, plane position, slice location."""

PIXELS = (
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


def is_enhanced(dataset: Any) -> bool:
    """Do functional groups describe its frames, each by itself or all together?"""
    return any(len(_groups(dataset, name)) > 0 for name in (EACH, SHARED))


def _groups(dataset: Any, name: str) -> Any:
    return (dataset[name].value if name in dataset else None) or ()


_known: dict[tuple[str, int, int], list[Instance]] = {}
"""(path, size, time) -> what the file holds."""

KNOWN = 20_000
"""Files whose descriptions are kept, so that a series is not described again when its pixels are read (40 MB)."""


def instances(path: Path) -> list[Instance]:
    """What a file holds: one for each frame of an enhanced file, else the file itself. Errors as `describe`."""
    state = path.stat()
    key = (str(path), state.st_size, state.st_mtime_ns)
    if key not in _known:
        dataset = parse(path)
        found = frames(path, dataset) if is_enhanced(dataset) else [describe(path, dataset)]
        if len(_known) >= KNOWN:
            _known.clear()
        _known[key] = found
    return list(_known[key])


def frames(path: Path, dataset: Any) -> list[Instance]:
    """The frames of an enhanced file, in the file's order."""
    whole = describe(path, dataset)  # refuses what is no image or too large
    described = len(_groups(dataset, EACH))
    if described not in (0, whole.header.frames):  # none: what all have in common is known, and no frame's place
        raise RejectedFile(f"it has {whole.header.frames} frames, but describes {described} of them")
    try:
        with quietly():
            flats = [flat(dataset, frame) for frame in range(whole.header.frames)]
            telling = _telling_dimensions(dataset, flats)
    except Exception as error:
        raise unusable(error, "the DICOM functional groups") from None
    found = [_frame(path, single, frame, telling) for frame, single in enumerate(flats)]
    return found if described or len(found) == 1 else [replace(one, position=None) for one in found]


def _frame(path: Path, single: Any, frame: int, telling: list[int]) -> Instance:
    found = describe(path, single)
    indices = single.get("DimensionIndexValues") or ()
    indices = tuple(indices) if hasattr(indices, "__len__") else (indices,)
    apart = (
        str(single.get("ConcatenationUID", "")) or found.uid,
        *(str(single.get(name, "")) for name in SPLITS),
        *(indices[place] for place in telling),
    )
    return replace(found, frame=frame, uid=f"{found.uid}#{frame}", group=(*found.group, *apart))


def flat(dataset: Any, frame: int) -> Any:
    """One frame of an enhanced data set as a single-frame data set, without its pixels."""
    from pydicom.dataset import Dataset

    single = Dataset()
    single.file_meta, single.preamble = dataset.file_meta, dataset.preamble
    for name in TAGS:
        if name in dataset and name not in (SHARED, EACH, "DimensionIndexSequence", "NumberOfFrames"):
            setattr(single, name, dataset[name].value)
    for groups in _groups(dataset, SHARED)[:1], _groups(dataset, EACH)[frame : frame + 1]:
        for group in groups:
            for macro in group:
                if macro.VR == "SQ" and macro.value:
                    _copy(macro.value[0], single)
    return single


def _copy(macro: Any, single: Any) -> None:
    for element in macro:
        name = AS_SINGLE.get(element.keyword)
        if name is not None:
            setattr(single, name, element.value)


def _telling_dimensions(dataset: Any, flats: list[Any]) -> list[int]:
    """Places in DimensionIndexValues that tell volumes apart: time, echo, diffusion, ..., but not the slice.

    A dimension that has another value in every frame counts the slices, whatever it is called.
    """
    pointers = [item.get("DimensionIndexPointer") for item in dataset.get("DimensionIndexSequence") or []]
    values = [single.get("DimensionIndexValues") for single in flats]
    if len(pointers) < 2 or any(not hasattr(value, "__len__") or len(value) != len(pointers) for value in values):
        return []
    return [
        place
        for place, pointer in enumerate(pointers)
        if pointer not in PLACES and 1 < len({value[place] for value in values}) < len(values)
    ]
