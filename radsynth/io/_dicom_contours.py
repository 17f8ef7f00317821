"""DICOM's sets of contours (RTSTRUCT), filled slice by slice on the grid of the volume that they were drawn on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io._dicom_parsing import parse
from radsynth.io._drawn import Drawn, where

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
FLAT = 0.5
"""Slices by which the points of one contour may leave its plane."""
SAME = 0.05
"""Slices by which contours may lie apart that are in one plane."""
FARTHEST = 10.0
"""mm between contours of one structure that are drawn on every second slice, or fewer; farther apart they are parts."""
MOST_CROSSINGS = 2_000_000
"""Rows that the edges of a structure cross in one slice; a finely drawn one has some thousands."""

Plane = tuple[int, int]
"""The axis of a volume (slices 0, rows 1, columns 2) that a contour lies across, and its index there."""


def drawn(path: Path, numbers: Mapping[int, str], image: Image) -> Iterator[Drawn | None]:
    """The structures of these numbers on the grid of a volume; None for one that lies beside its slices.

    A contour counts in the slice in which it lies; of several planes in one slice that nearest to its middle does.
    Contours within contours of one structure and plane are holes in it, as radiotherapy has them (a pixel is inside if
    an odd number of contours goes round it). Slices that were left out by rule get the shape between their neighbours'.
    RejectedFile where contours lie across no axis of the volume, and for an image without a place.
    """
    if image.affine is None:
        raise RejectedFile("contours lie in the patient's coordinates, in which the image has no place")
    dataset = parse(path, pixels=True)
    for roi in dataset.get("ROIContourSequence") or []:
        if int(roi.ReferencedROINumber) not in numbers:
            continue
        name = numbers[int(roi.ReferencedROINumber)]
        planes = _planes(roi, name, image)
        within = {(axis, index): polygons for (axis, index), polygons in planes.items()
                  if 0 <= index < image.space[axis]}
        if planes and not within:
            yield None
        for (axis, index), polygons in within.items():
            if part := where(name, *_in_place(filled(polygons, _sides(image, axis)), axis, index)):
                yield part
        for axis in sorted({axis for axis, _ in within}):
            mm = float(np.linalg.norm(image.affine[:3, 2 - axis]))
            for low, high in left_out((index for own, index in within if own == axis), mm):
                first, last = (filled(within[axis, end], _sides(image, axis)) for end in (low, high))
                for index, inside in enumerate(between(first, last, high - low), start=low + 1):
                    if part := where(name, *_in_place(inside, axis, index), regridded=True):
                        yield part


def _sides(image: Image, axis: int) -> tuple[int, ...]:
    """The size of the planes that lie across an axis."""
    return tuple(side for other, side in enumerate(image.space) if other != axis)


def _in_place(inside: NDArray[np.bool_], axis: int, index: int) -> tuple[NDArray[np.bool_], list[int]]:
    """A plane as a part of its volume, and where that begins."""
    return np.expand_dims(inside, axis), [index if other == axis else 0 for other in range(3)]


def _planes(roi: Any, name: str, image: Image) -> dict[Plane, list[NDArray[np.float64]]]:
    """The contours of a structure by the slice that they count in: (n, 2) points in pixels, along its two axes."""
    assert image.affine is not None
    to_index, planes = np.linalg.inv(image.affine), defaultdict[Plane, list[tuple[float, NDArray[np.float64]]]](list)
    for contour in roi.get("ContourSequence") or []:
        if str(contour.get("ContourGeometricType", "")) not in CLOSED:
            continue  # points and open lines enclose nothing
        numbers = _numbers(contour)
        if len(numbers) % 3 or not np.isfinite(numbers).all():
            raise RejectedFile(f"a contour of {name} has {len(numbers)} numbers, which are no points (x, y, z)")
        points = (to_index[:3, :3] @ numbers.reshape(-1, 3).T + to_index[:3, 3:])[::-1]  # slice, row, column
        if points.shape[1] < 3:
            continue
        spread = np.ptp(points, axis=1)
        axis = int(spread.argmin())
        if spread[axis] > FLAT:
            raise RejectedFile(f"a contour of {name} lies in no plane of the image's slices, rows or columns")
        height = float(points[axis].mean())
        index = math.floor(height + 0.5)  # contours half way between slices lie in one each
        planes[axis, index].append((abs(height - index), np.delete(points, axis, axis=0).T))
    return {plane: [polygon for off, polygon in some if off < min(some, key=itemgetter(0))[0] + SAME]
            for plane, some in planes.items()}


def _numbers(contour: Any) -> NDArray[np.float64]:
    """What Contour Data has, of which there are millions: pydicom would make an object of each."""
    found = contour.get_item("ContourData")
    value = found.value if found is not None else None
    if isinstance(value, bytes):
        return np.array(value.strip(b" \0").split(b"\\") if value else [], np.float64)
    return np.asarray([] if value is None else value, np.float64)


def filled(polygons: Sequence[NDArray[np.float64]], sides: tuple[int, ...]) -> NDArray[np.bool_]:
    """(rows, columns) the pixels whose middles an odd number of polygons goes round, each (n, 2) corners (row, column).

    Row by row: a pixel is inside if an odd number of edges crosses its row on its left. A middle on an edge belongs to
    the side with the higher row or column, so that polygons beside each other share no pixel and leave none out.
    """
    start = np.concatenate(polygons)
    edge = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons]) - start
    first, last = (np.ceil(np.clip(end, 0, sides[0])).astype(int) for end in (
        np.minimum(start[:, 0], start[:, 0] + edge[:, 0]), np.maximum(start[:, 0], start[:, 0] + edge[:, 0])))
    if (crossings := int((last - first).sum())) > MOST_CROSSINGS:
        raise RejectedFile(f"its contours in one slice cross {crossings:,} rows; the limit is {MOST_CROSSINGS:,}")
    which = np.repeat(np.arange(len(start)), last - first)  # each edge once for each row that it crosses
    rows = np.arange(len(which)) - np.repeat(np.cumsum(last - first) - last, last - first)
    crossed = start[which, 1] + (rows - start[which, 0]) / edge[which, 0] * edge[which, 1]
    counts = np.zeros((sides[0], sides[1] + 1), np.int32)
    np.add.at(counts, (rows, np.ceil(np.clip(crossed, 0, sides[1])).astype(int)), 1)
    return np.asarray(np.cumsum(counts, axis=1)[:, :-1] % 2 == 1)


def left_out(planes: Iterable[int], mm: float) -> list[tuple[int, int]]:
    """Pairs of planes of a structure between which some were left out, by rule: most of its contours are as far apart,
    or farther. What is farther apart than most is in parts.

    planes: indices of those with contours; mm: between two slices
    """
    drawn_in = sorted(planes)
    gaps = [high - low for low, high in pairwise(drawn_in)]
    usual = median_low(gaps) if len(gaps) > 1 else 1
    if usual * mm > FARTHEST:
        return []
    return [(low, high) for low, high in pairwise(drawn_in) if 1 < high - low <= usual]


def between(low: NDArray[np.bool_], high: NDArray[np.bool_], steps: int) -> Iterator[NDArray[np.bool_]]:
    """The shapes on the way from one to the other in so many steps: where the mean of the distances from their borders,
    outside negative, is positive (shape-based interpolation, Raya and Udupa 1990). Nothing where one is empty."""
    from scipy.ndimage import distance_transform_edt

    if not (low.any() and high.any()):
        return
    either = low | high
    rows, columns = (np.flatnonzero(either.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]  # what lies between them is not outside of it
    parts = [np.pad(shape[box], 1) for shape in (low, high)]
    from_low, from_high = (distance_transform_edt(part) - distance_transform_edt(~part) for part in parts)
    for step in range(1, steps):
        inside = np.zeros_like(low)
        inside[box] = ((1 - step / steps) * from_low + step / steps * from_high > 0)[1:-1, 1:-1]
        yield inside
