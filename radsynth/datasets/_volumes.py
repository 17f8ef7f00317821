"""Loading: files, series and slices of volumes, with their masks. All of it is picklable and runs in any process."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from radsynth.datasets import EmptySlice, Record
from radsynth.datasets._regrid import mask_on
from radsynth.errors import MissingExtra, RejectedFile
from radsynth.image import Image, may_be_hounsfield
from radsynth.io import Header, format_module, nifti
from radsynth.io._geometry import cut, cut_affine

Seen = TypeVar("Seen", Header, Image)

AXES: dict[str, int] = {"axial": 0, "coronal": 1, "sagittal": 2}

COARSE = 1.5
"""Spacing ratio from which the coarsest axis is taken as the one that was scanned slice by slice."""

UNKNOWN = "OT"
"""DICOM's code for a modality that a file does not say."""

BACKGROUND = 0.1
"""Share of a volume's range (its 0.5th to 99.5th percentile) that counts as background."""


class Loads(Hashable, Protocol):
    """What slices are cut from: hashable and picklable, and loads a whole volume. See `load_image` for the errors."""

    def load(self) -> Image:
        """The whole volume with its mask."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One image on disk. files: one, or a DICOM series' slices; masks: files; modality: of a file that says none.

    frames: of enhanced multi-frame DICOM the frame of each file, else ()
    stacked: a NIfTI file's fourth dimension has channels, not time
    mask_values: the masks' values that become 1, 2, ..., and there are no others; () keeps them as they are
    structures: (label value, name) of those that masks which are DICOM's segmentations or contours give
    """

    format: str
    files: tuple[str, ...]
    masks: tuple[str, ...] = ()
    modality: str = ""
    mask_values: tuple[int, ...] = ()
    frames: tuple[int | None, ...] = ()
    stacked: bool = False
    structures: tuple[tuple[int, str], ...] = ()

    def load(self) -> Image:
        """As `load_image`."""
        return load_image(self)


def slicing_axis(header: Header, plane: str, planar: int | None) -> int:
    """The axis of a volume (slices 0, rows 1, columns 2) across which it is cut; `planar` is the scanner's if known."""
    if plane != "auto":
        return AXES[plane]
    return planar if planar is not None else scanned_across(header.spacing)


def scanned_across(steps: tuple[float, ...] | None) -> int:
    """The axis across which a volume with this spacing (mm) was scanned slice by slice; the first where none is so."""
    return int(np.argmax(steps)) if steps and max(steps) >= COARSE * min(steps) else 0


def plane_name(axis: int) -> str:
    """The plane that is left when this axis is cut."""
    return next(name for name, number in AXES.items() if number == axis)


def known_modality(own: str, told: str) -> str:
    """What a file says itself, else what was told of it ("" for nothing)."""
    return told if told and own == UNKNOWN else own


def as_modality(found: Seen, told: str) -> Seen:
    """A header or an image with the modality that was told of a file that says none; told of CT, values are Hounsfield
    units where they can be."""
    modality = known_modality(found.modality, told)
    if modality == found.modality:
        return found
    hounsfield = modality == "CT" and may_be_hounsfield(found.bits)
    return replace(found, modality=modality, units="HU" if hounsfield else found.units)


def load_image(source: Source, frame: int = 0) -> Image:
    """A whole image or volume with its mask. RejectedFile also for one that shows nothing and for a missing extra."""
    try:
        if len(source.files) > 1 or source.frames:
            from radsynth.io._dicom_series import read_series

            image = read_series(source.files, source.frames)
        elif source.stacked:
            image = nifti.read(Path(source.files[0]), fourth="channels")
        else:
            image = format_module(source.format).read(Path(source.files[0]), frame)
    except MissingExtra as error:
        raise RejectedFile(str(error)) from None
    if image.pixels.min() == image.pixels.max():
        raise RejectedFile(f"all its pixels have the value {image.pixels.flat[0]}")
    image = as_modality(image, source.modality)
    if not source.masks:
        return image
    if source.structures:
        from radsynth.io._dicom_structures import labels_on, plain

        values = {plain(name): value for value, name in source.structures}
        labels, regridded = labels_on([Path(path) for path in source.masks], values, image)
        return image.replace(mask=labels, regridded=regridded)
    masks = {path: mask_on(path, image, Path(source.files[0]).name) for path in map(Path, source.masks)}
    # Where several masks, each of a part, overlap, the higher label is kept.
    return image.replace(
        mask=np.max([_renumbered(path, mask.pixels[0], source) for path, mask in masks.items()], axis=0),
        regridded=any(mask.regridded for mask in masks.values()))


def _renumbered(path: Path, values: NDArray[np.uint8], source: Source) -> NDArray[np.uint8]:
    """A mask with the label values that `source` wants."""
    if not source.mask_values:
        return values
    if unknown := set(np.unique(values).tolist()) - {0, *source.mask_values}:
        raise RejectedFile(f"its mask {path.name} has the label value {min(unknown)}; this data set has "
                           f"{', '.join(map(str, source.mask_values))}")
    table = np.zeros(256, dtype=np.uint8)
    table[list(source.mask_values)] = np.arange(1, len(source.mask_values) + 1)
    return np.asarray(table[values])


class Cutting(Protocol):
    """What settings say of how volumes are used: a plane, auto, volume or whole."""

    @property
    def plane(self) -> str: ...
    @property
    def minimum_foreground(self) -> float: ...


def cut_up(source: Loads, name: str, header: Header, settings: Cutting, planar: int | None, shared: partial[Record],
           ) -> Iterator[Record]:
    """An image or a whole volume as one record, or a record for each slice of a volume.

    planar: the axis across which the scanner went, if known; shared: what all records have in common
    """
    if len(header.size) == 2 or settings.plane in ("volume", "whole"):
        yield shared(source=name, load=source.load, header=header)
        return
    axis = slicing_axis(header, settings.plane, planar)
    keep_axes = [other for other in range(3) if other != axis]
    flat = replace(header, size=tuple(header.size[other] for other in keep_axes),
                   spacing=header.spacing and tuple(header.spacing[other] for other in keep_axes))
    for index in range(header.size[axis]):
        load = partial(load_slice, source, axis, index, settings.minimum_foreground)
        yield shared(source=f"{name}#{plane_name(axis)}{index:04d}", volume=name, load=load, header=flat)


def keep(source: Loads) -> Image:
    """The last volume, kept because its slices are asked for one after another. Errors as `load_image`."""
    found = _kept(source)
    if isinstance(found, RejectedFile):
        raise RejectedFile(str(found))
    return found


@functools.lru_cache(maxsize=1)
def _kept(source: Loads) -> Image | RejectedFile:
    """A volume that cannot be read is not tried again for each of its slices: its decoder may have taken a minute."""
    try:
        return source.load()
    except RejectedFile as error:
        return error


@functools.lru_cache(maxsize=4)
def _shown(source: Loads, axis: int, minimum: float) -> tuple[int, int]:
    """First and last slice that show more than background."""
    pixels = keep(source).pixels
    low, high = np.percentile(pixels.ravel()[:: max(1, pixels.size // 1_000_000)], (0.5, 99.5))
    foreground = (pixels > low + BACKGROUND * (high - low)).any(axis=0)
    shares = foreground.mean(axis=tuple(other for other in range(3) if other != axis))
    shown = np.flatnonzero(shares >= minimum)
    return (int(shown[0]), int(shown[-1])) if len(shown) else (0, -1)


def load_slice(source: Loads, axis: int, index: int, minimum: float) -> Image:
    """One slice (c, rows, columns) as it is hung on a light box: head or front up, the patient's left on the right.

    EmptySlice for a slice at an end of the volume where less than `minimum` of the pixels show more than background.
    """
    volume = keep(source)
    if volume.pixels.ndim != 4 or index >= volume.space[axis]:
        raise RejectedFile(f"it has the size {volume.space}, which its header did not say")
    first, last = _shown(source, axis, minimum)
    if not first <= index <= last:
        raise EmptySlice("a slice of background at the edge of the volume")
    pixels = cut(volume.pixels, axis, index)
    if pixels.min() == pixels.max():
        raise EmptySlice("a slice of one value")
    spacing = None if volume.spacing is None else tuple(np.delete(volume.spacing, axis).tolist())
    return volume.replace(
        pixels=np.ascontiguousarray(pixels),
        spacing=spacing,
        affine=None if volume.affine is None else cut_affine(volume.affine, volume.space, axis, index),
        mask=None if volume.mask is None else np.ascontiguousarray(cut(volume.mask[None], axis, index)[0]),
        laid=None,
    )
