"""Enhanced multi-frame DICOM (Enhanced CT, MR, PET, ...): each frame as if it were a file of its own.

Its geometry and scale lie in functional groups, those of all frames and those of each. Flattened into one data set a
frame they are read by the same code as single-frame files, and sorted into volumes by the same rules.
PS3.3 C.7.6.16 (functional groups), C.7.6.17 (dimensions).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from radsynth.errors import RejectedFile
from radsynth.io._dicom_header import Instance, describe
from radsynth.io._dicom_parsing import parse, quietly, tags
from radsynth.io._dicom_values import in_words
from radsynth.io._limits import unusable

SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"

AS_SINGLE = {
    **{name: name for name in (
        "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient",
        "RescaleIntercept", "RescaleSlope", "RescaleType", "WindowCenter", "WindowWidth", "StackID",
        "EffectiveEchoTime", "DiffusionBValue", "ComplexImageComponent", "DimensionIndexValues",
    )},
    "FrameType": "ImageType",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "InStackPositionNumber": "InstanceNumber",
}  # fmt: skip
"""Attribute of a functional group -> attribute of a single-frame file."""

KINDS = {"EffectiveEchoTime": "echo {} ms", "DiffusionBValue": "b {}", "ComplexImageComponent": "{}", "ImageType": "{}"}
"""What makes frames another kind of picture, and how the series description of a file that holds several says so."""

SPLITS = ("StackID", *KINDS)
"""Frames that differ in one of these belong to different volumes, beside what splits single-frame files."""

PLACES = (0x00200032, 0x00209057, 0x00209113, 0x00201041)
"""Dimensions that say where a slice lies: position, number in the stack, plane position, slice location."""


def is_enhanced(dataset: Any) -> bool:
    """Do functional groups describe its frames, each by itself or all together?"""
    return any(len(_groups(dataset, name)) > 0 for name in (EACH, SHARED))


def _groups(dataset: Any, name: str) -> Any:
    try:
        return (dataset[name].value if name in dataset else None) or ()
    except Exception as error:  # a sequence is not parsed before it is asked for
        raise unusable(error, "the DICOM functional groups") from None


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
            flats = flattened(dataset, range(whole.header.frames))
            telling = _telling_dimensions(dataset, flats)
            differing = [name for name in KINDS if len({str(single.get(name, "")) for single in flats}) > 1]
    except Exception as error:
        raise unusable(error, "the DICOM functional groups") from None
    found = [_frame(path, single, frame, telling, differing) for frame, single in enumerate(flats)]
    return found if described or len(found) == 1 else [replace(one, position=None) for one in found]


def _frame(path: Path, single: Any, frame: int, telling: list[int], differing: list[str]) -> Instance:
    found = describe(path, single)
    words = [found.header.series or "", *(KINDS[name].format(in_words(single.get(name))) for name in differing)]
    indices = single.get("DimensionIndexValues") or ()
    indices = tuple(indices) if hasattr(indices, "__len__") else (indices,)
    apart = (
        str(single.get("ConcatenationUID", "")) or found.uid,
        *(str(single.get(name, "")) for name in SPLITS),
        *(indices[place] for place in telling),
    )
    header = replace(found.header, series=", ".join(filter(None, words)) or None)
    return replace(found, frame=frame, uid=f"{found.uid}#{frame}", group=(*found.group, *apart), header=header)


def flattened(dataset: Any, chosen: Sequence[int]) -> list[Any]:
    """The `chosen` frames of an enhanced data set, each as a single-frame data set without its pixels.

    What all frames have in common is the same element in each, converted once: a file may have thousands of frames.
    """
    from pydicom.dataset import Dataset

    left_out = {SHARED, EACH, "DimensionIndexSequence", "NumberOfFrames"}
    common = Dataset({tag: dataset[tag] for tag, name in tags().items() if name not in left_out and tag in dataset})
    for group in _groups(dataset, SHARED)[:1]:
        _flatten(group, common)
    each, singles = _groups(dataset, EACH), []
    for frame in chosen:
        single = Dataset(dict(common.items()))
        single.file_meta, single.preamble = dataset.file_meta, dataset.preamble
        for group in each[frame : frame + 1]:
            _flatten(group, single)
        singles.append(single)
    return singles


def _flatten(group: Any, single: Any) -> None:
    """Put the attributes of a functional group's macros into `single`; private macros are left alone."""
    for tag in sorted(group.keys()):
        if tag.is_private:
            continue
        macro = group[tag]
        if macro.VR != "SQ" or not macro.value:
            continue
        item, wanted = macro.value[0], _wanted()
        for known in item.keys() & wanted.keys():
            element, name = item[known], wanted[known]
            if name == element.keyword:
                single[known] = element
            else:
                setattr(single, name, element.value)


@functools.cache
def _wanted() -> dict[Any, str]:
    """AS_SINGLE by the tags of the functional groups' attributes."""
    from pydicom.tag import Tag

    return {Tag(name): single for name, single in AS_SINGLE.items()}


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
