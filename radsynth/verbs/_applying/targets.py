"""Target registration error: how far landmarks that someone set in two images end up from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.files import write_csv
from radsynth.image import Image
from radsynth.io._geometry import as_laid
from radsynth.io._landmarks import Landmarks, read_landmarks
from radsynth.metrics._paired import over_patients
from radsynth.verbs._applying.placing import Array, Placing
from radsynth.verbs._rejected import harmless

Points = NDArray[np.float64]
REPETITIONS = 200
"""Half-samples of pairs behind an interval: they cost nothing."""
HALF = 0.5 + 1e-3
"""Pixels that an image reaches beyond the middles of its outermost ones; and what a point may lie off a slice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Errors:
    """Of n landmarks the distances in mm, measured in the moving image, before and after a registration.

    found: (n, 3) LPS mm, where in the moving image each landmark of the fixed one ends up
    """

    landmarks: Landmarks
    found: Points
    before: Points
    after: Points

    @property
    def means(self) -> dict[str, float]:
        """Columns of samples.csv."""
        return {"target_error_before": float(self.before.mean()), "target_error": float(self.after.mean())}

    def write(self, path: Path) -> None:
        """A table with a line a landmark."""
        numbers = np.column_stack([self.landmarks.points, self.found, self.before, self.after])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, ("landmark", "x", "y", "z", "found_x", "found_y", "found_z", "error_before", "error"), (
            (harmless(self.landmarks.names[number] or str(number + 1)), *(f"{value:.3f}" for value in line))
            for number, line in enumerate(numbers.tolist())))


def over_pairs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of rows of samples.csv how many pairs of images have landmarks ("pairs"), their mean distance in mm before and
    after ("before_mm", "after_mm"), and by how much it became less ("closer_mm"); {} where none has.

    A pair counts the same however many landmarks it has. Each mean has its 95 % interval over pairs ("value", "low",
    "high"): what other images put onto the same fixed one, or other pairs, would give. One pair alone has none.
    """
    pairs = list({row["index"]: row for row in rows if "target_error" in row}.values())
    if not pairs:
        return {}
    before, after = (np.array([float(row[name]) for row in pairs]) for name in ("target_error_before", "target_error"))
    return {"pairs": len(pairs), "before_mm": _mean(before, least=0), "after_mm": _mean(after, least=0),
            "closer_mm": _mean(before - after)}


def _mean(values: Points, least: float = -math.inf) -> dict[str, float]:
    if len(values) < 2:
        return {"value": float(values.mean())}
    one = over_patients(values, np.arange(len(values)), REPETITIONS, seed=0)
    return {"value": one.value, "low": max(one.low, least), "high": one.high}


class Targets:
    """The landmarks of the fixed image, to which those of moving images belong."""

    def __init__(self, path: Path, fixed: Image, name: str) -> None:
        """RejectedFile for a file that cannot be used. name: of the fixed image, for messages."""
        try:
            self.landmarks = in_space(read_landmarks(path), fixed, name)
            self.indices = indices(self.landmarks, fixed, name)
        except RejectedFile as error:
            raise RejectedFile(f"The landmarks of {name} in {path} cannot be used: {error}") from None

    def of(self, path: Path, moving: Image, name: str) -> Points:
        """(d, n) where the landmarks of a moving image lie in it, in the order of the fixed image's, in pixels."""
        theirs = read_landmarks(path)
        return indices(theirs, moving, name)[:, partners(self.landmarks, theirs)]

    def measure(self, true: Points, moving: Image, placing: Placing, displacement: Array) -> Errors:
        """true: as of `of`; placing, displacement: as of `onto.Warped`."""
        from scipy.ndimage import map_coordinates

        assert moving.affine is not None, "indices() refuses such images"
        moved = [map_coordinates(part, self.indices, order=1, mode="nearest") for part in displacement]
        start, end = (placing.matrix @ places + placing.offset[:, None]
                      for places in (self.indices, self.indices + np.stack(moved)))
        steps = moving.affine[:3, :len(true)]
        before, after = (np.linalg.norm(steps @ (places - true)[::-1], axis=0) for places in (start, end))
        return Errors(landmarks=self.landmarks, found=(steps @ end[::-1]).T + moving.affine[:3, 3], before=before,
                      after=after)


def indices(landmarks: Landmarks, image: Image, name: str) -> Points:
    """(d, n) where landmarks lie in an image, (slice,) row, column. RejectedFile for one that does not lie in it."""
    landmarks = in_space(landmarks, image, name)
    points = np.column_stack([landmarks.points, np.ones(len(landmarks.points))])
    assert image.affine is not None, "in_space() refuses such images"
    found = (np.linalg.inv(image.affine) @ points.T)[2::-1]
    space = np.array([*(1,) * (3 - len(image.space)), *image.space])
    outside = ((found < -HALF) | (found > space[:, None] - 1 + HALF)).any(axis=0)
    if outside.any():
        number = int(np.flatnonzero(outside)[0])
        corners = np.indices((2, 2, 2)).reshape(3, -1) * space[::-1, None] - 0.5
        ends = image.affine[:3, :3] @ corners + image.affine[:3, 3:]
        reach = ", ".join(f"{axis} {low:.1f} to {high:.1f}" for axis, low, high in
                          zip("xyz", ends.min(1), ends.max(1), strict=True))
        at = ", ".join(f"{value:.1f}" for value in landmarks.points[number])
        raise RejectedFile(f"{landmarks.where(number)}: the point ({at}) lies outside of {name}, which reaches over "
                           f"{reach} (mm towards left, back and head)")
    return np.asarray(found[3 - len(image.space):])


def in_space(landmarks: Landmarks, image: Image, name: str) -> Landmarks:
    """Landmarks of an image in LPS mm, also those that were given as voxels of its file. RejectedFile where the image
    does not say where they lie. name: of the image, for messages"""
    if image.affine is None:
        raise RejectedFile(f"{name} does not say where in space it lies, and distances of landmarks are in mm of "
                           "patient space: give NIfTI, DICOM or MetaImage")
    if not landmarks.voxels:
        return landmarks
    if image.laid is None:
        raise RejectedFile(f"{landmarks.file} has indices of voxels, and {name} no axes of its own that they could run "
                           "along: give NIfTI or MetaImage, or landmarks in mm (x,y,z)")
    grid = np.broadcast_to(0, (*image.space[::-1], 1)[:3])
    affine = as_laid(grid, image.affine, image.laid)[1]
    return replace(landmarks, points=landmarks.points @ affine[:3, :3].T + affine[:3, 3], voxels=False)


def partners(fixed: Landmarks, moving: Landmarks) -> list[int]:
    """The number of the moving image's landmark that belongs to each of the fixed image's: that of its name where both
    files have names in common, else that of its place. RejectedFile where one has none."""
    shared = {name for name in fixed.names if name} & set(moving.names)
    for one, other in ((fixed, moving), (moving, fixed)) if shared else ():
        alone = [number for number, name in enumerate(one.names) if name not in shared]
        if alone:
            raise RejectedFile(f"{one.where(alone[0])}: there is no landmark of this name in {other.file}, and others "
                               "have the same name in both")
    if len(fixed.names) != len(moving.names):
        raise RejectedFile(f"{moving.file} has {len(moving.names)} landmarks and {fixed.file} {len(fixed.names)}: they "
                           "belong together by their names or, if no name is in both, by their order")
    return [moving.names.index(name) for name in fixed.names] if shared else list(range(len(fixed.names)))
