"""DICOM's segmentation objects (SEG), laid on the grid of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io._dicom_parsing import parse
from radsynth.io._dicom_pixels import decompressed
from radsynth.io._drawn import Drawn, where
from radsynth.io._geometry import reorient
from radsynth.io._limits import check_size

HALF = 0.5
"""The share from which a pixel of a fractional segmentation belongs to its structure."""

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

CLOSE = 0.1
"""Pixels by which two grids may lie apart that are the same."""


def drawn(path: Path, numbers: Mapping[int, str], image: Image) -> Iterator[Drawn | None]:
    """The segments of these numbers on the grid of a volume, or of an image without a place that it refers to alone;
    None for one that lies beside the volume."""
    found = _opened(path, image)
    for number, name in numbers.items():
        if image.affine is None:
            yield _flat(found, number, name, image)
            continue
        inside, affine, _ = _placed(found, number)
        if inside.any():
            yield _on(name, inside, affine, image)


def _placed(found: Any, number: int) -> tuple[NDArray[np.bool_], NDArray[np.float64], tuple[float, float, float]]:
    """A segment on its own grid, as `reorient` has it."""
    volume = found.get_volume(segment_numbers=[number], combine_segments=False)
    inside = (np.asarray(volume.array)[..., 0] >= HALF).transpose(2, 1, 0)
    return reorient(inside, np.asarray(volume.affine)[:, [2, 1, 0, 3]])


def _with_measures(dataset: Any, step: float | None) -> None:
    """highdicom wants the thickness of slices, which is of no use here and is told of no radiograph. Where nobody says
    how far apart they are it takes the smallest gap, though frames of nothing may be left out; step: what it then is.
    """
    for group in (group for name in GROUPS for group in dataset.get(name) or []):
        for measures in group.get("PixelMeasuresSequence") or []:
            if measures.get("SliceThickness") is None:
                measures.SliceThickness = 1
            if step and not measures.get("SpacingBetweenSlices"):
                measures.SpacingBetweenSlices = step


def _step_of(image: Image, dataset: Any) -> float | None:
    """mm between the slices of a volume, in which the frames of a segmentation lie; None where they do not."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    places = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames
              if "PlanePositionSequence" in frame]
    if image.affine is None or not places:
        return None
    at = np.linalg.inv(image.affine)[:3, :3] @ np.array(places, float).T
    at -= at[:, :1]
    axis = int(np.ptp(at, axis=1).argmax())
    apart = np.abs(np.delete(at, axis, axis=0)).max() < CLOSE and np.abs(at[axis] - np.rint(at[axis])).max() < CLOSE
    return float(np.linalg.norm(image.affine[:3, axis])) if apart and at[axis].any() else None


def _flat(found: Any, number: int, name: str, image: Image) -> Drawn:
    """A structure on a picture, whose pixels it has, as on radiographs, which have no place."""
    sources = [instance for _, _, instance in found.get_source_image_uids()]
    if len(sources) != 1 or (int(found.Rows), int(found.Columns)) != image.space[1:]:
        size = " x ".join(map(str, image.space[1:]))
        raise RejectedFile(f"it has {found.Rows} x {found.Columns} pixels and is of {len(sources)} images, and nobody "
                           f"knows how it lies on one of {size} without a place")
    inside = found.get_pixels_by_source_instance(sources, segment_numbers=[number], combine_segments=False)[..., 0]
    return Drawn(name=name, place=(slice(0, 1), slice(0, image.space[1]), slice(0, image.space[2])),
                 inside=np.asarray(inside) >= HALF)


def alone(path: Path, numbers: Mapping[int, str]) -> tuple[Image, list[Drawn]]:
    """A blank image on the grid that a segmentation has itself, with its segments of these numbers."""
    found, parts, grid = _opened(path), list[Drawn](), None
    for number, name in numbers.items():
        if not found.get("FrameOfReferenceUID"):
            grid = Image(pixels=np.zeros((1, int(found.Rows), int(found.Columns)), np.uint8))
            parts.append(_flat(found, number, name, grid.replace(pixels=grid.pixels[:, None])))
            continue
        inside, affine, spacing = _placed(found, number)
        grid = Image(pixels=np.zeros((1, *inside.shape), np.uint8), spacing=spacing, affine=affine)
        if part := where(name, inside, (0, 0, 0)):
            parts.append(part)
    assert grid is not None
    return grid, parts


def _opened(path: Path, image: Image | None = None) -> Any:
    from highdicom.seg import Segmentation

    dataset = _in_the_open(path, parse(path, pixels=True))
    _with_measures(dataset, _step_of(image, dataset) if image else None)
    found = Segmentation.from_dataset(dataset, copy=False)
    if found.get("FrameOfReferenceUID") and (grid := found.get_volume_geometry()):
        check_size(grid.spatial_shape)  # positions and tiles say how large it is, whatever pixels there are
    return found


def _in_the_open(path: Path, dataset: Any) -> Any:
    """The data set with uncompressed pixels, which were decoded in the limited child."""
    from pydicom.uid import ExplicitVRLittleEndian

    frames, rows, columns = int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)
    check_size((rows, columns), frames=frames)  # dozens of organs have more pixels together than any volume
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        check_size((frames, rows, columns))
        stored = decompressed(str(path), None, str(syntax), int(dataset.BitsStored), (frames, rows, columns))
        dataset.PixelData = np.ascontiguousarray(stored).tobytes()
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", False
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _on(name: str, inside: NDArray[np.bool_], affine: NDArray[np.float64], image: Image) -> Drawn | None:
    """A structure (slice, row, column) on the grid of a volume; None where nothing of it lies there.

    inside, affine: on the segment's own grid, as `reorient` has it
    """
    from scipy.ndimage import affine_transform

    assert image.affine is not None
    both = (np.linalg.inv(image.affine) @ affine)[:3]  # index to index, (column, row, slice)
    first, steps = np.rint(both[::-1, 3]).astype(int), np.array(inside.shape)
    if np.abs(both[:, :3] - np.eye(3)).max() * steps.max() < CLOSE and np.abs(both[::-1, 3] - first).max() < CLOSE:
        low, high = np.maximum(first, 0), np.minimum(first + steps, image.space)
        if (low >= high).any():
            return None
        here = inside[tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))]
        return where(name, here, low.tolist())
    back = np.linalg.inv(affine) @ image.affine
    moved = affine_transform(inside.astype(np.uint8), back[:3, :3][::-1, ::-1], back[:3, 3][::-1], image.space,
                             order=0, mode="grid-constant").astype(bool)
    return where(name, moved, (0, 0, 0), regridded=True)
