"""Puts images onto a fixed one by a trained registration: warped images, labels and displacement fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.datasets import Record, Rejected
from radsynth.errors import DataError, RejectedFile
from radsynth.image import Image
from radsynth.losses.alignment import local_correlation
from radsynth.metrics._registration import folding
from radsynth.progress import tell, track
from radsynth.tasks._warp import warp
from radsynth.tasks.register import Register
from radsynth.verbs._applying import few_values, notes
from radsynth.verbs._applying.beside import Beside
from radsynth.verbs._applying.channels import taken
from radsynth.verbs._applying.disagreement import DISAGREEMENT, UNLIKE, disagreement
from radsynth.verbs._applying.fields import write_field, write_labels
from radsynth.verbs._applying.goals import Goals
from radsynth.verbs._applying.limits import enough_for, false_alarms, read_limits
from radsynth.verbs._applying.masks_beside import masks_beside
from radsynth.verbs._applying.overlap import HARDLY, Box, box, overlap
from radsynth.verbs._applying.placing import Array, Placing, placings, sampled
from radsynth.verbs._applying.regridding import to_training
from radsynth.verbs._applying.results import write_result
from radsynth.verbs._applying.slices import TOGETHER, cut, join, within
from radsynth.verbs._applying.targets import Targets
from radsynth.verbs._applying.tiles import convert_tiled
from radsynth.verbs._applying.trained_on import TrainedOn
from radsynth.verbs._applying.values import as_stored, check_values, ranges_of
from radsynth.verbs._journal import Journal
from radsynth.verbs._preparing.few_values import FEW
from radsynth.verbs._preparing.fit import Fit, resample
from radsynth.verbs._rejected import harmless
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._writing import Row

LARGEST = 2**24
"""Pixels that are registered at once: their warps take some 3.5 GB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Warped:
    """A moving image on the grid of the fixed one.

    displacement: (d, *space) pixels of the fixed image; placing: what follows it, to pixels of the moving image
    labels: (*space), None when the moving image has none; found: numbers about the registration
    """

    image: Image
    labels: NDArray[np.uint8] | None
    displacement: Array
    placing: Placing
    found: dict[str, float]


class Registrar:
    """A trained registration and, after `fix`, the fixed image that others are put onto."""

    def __init__(self, run: Path) -> None:
        sampler = Sampler(run)
        self.run = Path(run)
        self.task, self.network, self.spec = cast(Register, sampler.task), sampler.network, sampler.spec
        self.intensity, self.facts, self.device = sampler.intensity, sampler.facts, sampler.device
        self.trained_on = TrainedOn.of(self.run, self.spec)

    def fix(self, fixed: Image, name: str) -> None:
        """RejectedFile for a fixed image that the run was not trained for. name: of the fixed image, for messages."""
        fixed = self.trained_on.alike(fixed)
        self.image, self.name = fixed, name
        self._check(fixed)
        self.axis = self.trained_on.axis(fixed, self.spec.spacing or ())
        self.fit = self._working_grid()
        channels = _channels(fixed, self.task.fixed)
        self._seen, self._box = self._network_values(channels), self._box_of(channels)

    def _box_of(self, channels: NDArray[Any]) -> Box | None:
        return box(channels, ranges_of(channels, self.intensity, self.trained_on.percentiles))

    def _check(self, image: Image) -> None:
        self.trained_on.check(image)
        check_values(image, self.spec, self.intensity)

    def _working_grid(self) -> Fit:
        """The fixed image's field of view in pixels of the size that the network knows, of volumes slice by slice.

        Where nobody knows mm, neither of the training images nor of this one, `prepare` shrinks it as a whole.
        """
        have = self.image.spacing or (1.0,) * len(self.image.space)
        known = self.spec.spacing
        if self.image.spacing is None:
            known = self.trained_on.shrinks(within(self.image.space, self.axis), self.spec.size)
        want = known or have
        if known and self.axis is not None:
            want = tuple(np.insert(known, self.axis, have[self.axis]).tolist())
        fit = to_training(self.image.space, have, want)
        pixels = math.prod(fit.content)
        if self.axis is None and pixels > LARGEST:
            raise RejectedFile(
                f"at the training's pixel size it has {pixels / 1e6:.0f} million pixels, and at most "
                f"{LARGEST / 1e6:.0f} million are registered at once: train on coarser ones (prepare.size)")
        return fit

    def _network_values(self, channels: NDArray[Any], placing: Placing | None = None) -> Array:
        """Channels (c, *space) of the fixed image, or of one that is placed on it, on the working grid, in network
        values: each mapped by its own image's range."""
        ranges = ranges_of(channels, self.intensity, self.trained_on.percentiles)
        values = channels if placing is None else sampled(channels, placing, self.image.space)
        fitted = resample(values, self.fit)
        encoded = [self.intensity.to_network(self.intensity.encode(channel, *limits))
                   for channel, limits in zip(fitted, ranges.tolist(), strict=True)]
        return np.stack(encoded)

    def convert(self, moving: Image, name: str, labels: NDArray[np.uint8] | None) -> Warped:
        """The moving image and its labels (*space) warped; RejectedFile for one that does not fit."""
        moving = self.trained_on.alike(moving)
        self._check(moving)
        if len(moving.space) != len(self.image.space):
            raise RejectedFile(f"it has {len(moving.space)} dimensions, {self.name} has {len(self.image.space)}")
        channels = _channels(moving, self.task.moving)
        placing, seen = self._placed(moving, channels, name)
        start, goal = (torch.from_numpy(np.ascontiguousarray(cut(values, self.axis)))
                       for values in (seen, self._seen))
        found, numbers = self._registered(start, goal)
        displacement = self._on_fixed(found.numpy())
        numbers["overlap"] = overlap(self._box_of(channels), self._box, placing)
        numbers["folding"] = float(folding(displacement[None])[0])
        pixels = sampled(moving.pixels, placing, self.image.space, displacement)
        image = moving.replace(pixels=as_stored(pixels, moving.pixels.dtype), mask=None, spacing=self.image.spacing,
                               affine=self.image.affine, laid=self.image.laid, frame=self.image.frame,
                               flat=self.image.flat, thickness=None)
        carried = None
        if labels is not None:
            carried = sampled(labels[None], placing, self.image.space, displacement, order=0)[0].astype(np.uint8)
        return Warped(image=image, labels=carried, displacement=displacement, placing=placing, found=numbers)

    def _registered(self, start: torch.Tensor, goal: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """Displacements (n, d, *space) of n slices or one volume, a few slices at a time; likeness before and after."""
        found, likeness, images = [], [], []
        for moving, fixed in zip(torch.split(start, TOGETHER), torch.split(goal, TOGETHER), strict=True):
            found.append(self.task.displacement(self._velocity, moving.to(self.device), fixed.to(self.device)).cpu())
            if self.task.moving == self.task.fixed:
                images.append(warp(moving, found[-1]))
                likeness.append(torch.stack([local_correlation(image, fixed) for image in (moving, images[-1])]))
        before, after = torch.cat(likeness, dim=1).mean(1).tolist() if likeness else (float("nan"),) * 2
        apart = disagreement(*(np.moveaxis(stack.numpy(), 1, 0) for stack in (torch.cat(images), goal))
                             ) if images else math.nan
        return torch.cat(found), {"similarity_before": before, "similarity": after, DISAGREEMENT: apart}

    def _velocity(self, pair: torch.Tensor) -> torch.Tensor:
        made = convert_tiled(lambda part: self.network(part), self.network, pair)
        return torch.from_numpy(made).to(self.device)

    def _placed(self, moving: Image, channels: NDArray[Any], name: str) -> tuple[Placing, Array]:
        """Of the ways to lay the images on each other the one under which they agree best."""
        tried = [(one, self._network_values(channels, one))
                 for one in placings(moving, self.image, name, self.name)]
        return max(tried, key=lambda pair: _agreement(pair[1], self._seen))

    def _on_fixed(self, found: Array) -> Array:
        """(n, d, *space) on the working grid, or slice by slice, as (axes of the fixed image, *its space)."""
        if self.axis is None:
            field = found[0]
        else:
            within = join(found, self.axis)
            if self.axis > 0:
                within[0] *= -1  # coronal and sagittal slices are turned head up, see `cut`
            field = np.insert(within, self.axis, 0, axis=0)
        if self.fit.is_identity:
            return np.ascontiguousarray(field, np.float32)
        ratios = np.asarray(self.fit.ratios)
        matrix = np.diag(1 / ratios)
        middle = (np.asarray(self.fit.source) - 1) / 2
        offset = (np.asarray(self.fit.content) - 1) / 2 - middle / ratios
        fine = sampled(field, Placing(matrix=matrix, offset=offset), self.image.space, edge=True)
        return np.asarray(fine * ratios.reshape(-1, *[1] * len(ratios)), np.float32)


def _channels(image: Image, names: tuple[str, ...]) -> NDArray[Any]:
    """The channels (c, *space) that the network sees; RejectedFile when they are not there."""
    return np.stack([channel for channel in taken(image, names) if channel is not None])


def _agreement(one: Array, other: Array) -> float:
    """How strongly two images (c, *space) depend on each other: the absolute correlation of their channels' means."""
    first, second = one.mean(0).ravel(), other.mean(0).ravel()
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(abs(np.corrcoef(first, second)[0, 1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Fixed:
    """An image that the registrar puts others onto. unchecked: what it does not say of itself; targets: its landmarks,
    None without"""

    record: Record
    unchecked: tuple[str, ...]
    targets: Targets | None


def put_onto(registrar: Registrar, goals: Goals, records: Iterator[Record], rejected: list[Rejected], folder: Path,
             format: str | None, beside: Beside, journal: Journal) -> Iterator[Row]:
    """Register and write image by image; yields rows of samples.csv, which name the fixed image where there are
    several. DataError for an only fixed image that cannot be used."""
    fixed: Fixed | None = None
    if goals.alone:
        try:
            fixed = _fixed(registrar, goals.alone, beside)
        except RejectedFile as error:
            raise DataError(f"{error}.") from None
    usual, patients = read_limits(registrar.run, (DISAGREEMENT,))
    if usual and patients < enough_for(UNLIKE):
        tell(f"mind: by chance, the check of {DISAGREEMENT} flags {false_alarms(patients, UNLIKE)}")
    images = list(records)
    masks_beside(images, rejected, carried=beside.labels is None)
    beside.check_for(len(images), len(goals.records))
    for record in track(images, None, "registering", "images"):
        if made := journal.made(record.source):
            yield from made
            continue
        try:
            goal = goals.of(record)
            if fixed is None or fixed.record is not goal:
                fixed = None  # the registrar has what fails, too
                fixed = _fixed(registrar, goal, beside)
            moving = record.load()
            labels = beside.labels_of(record, moving)
            targets = fixed.targets
            true = targets.of(beside.landmarks_of(record), moving, record.source) if targets else None
            warped = registrar.convert(moving, record.source, labels)
            index = journal.free()
            chosen = format or (goal.header.format if goal.header else registrar.spec.format)
            files = write_result(registrar.facts, moving, warped.image, goal, folder / "images", chosen, index)
        except RejectedFile as error:
            rejected.append(Rejected(path=record.source, reason=str(error)))
            continue
        more = _write_rest(folder, f"{index:06d}", warped, moving, registrar.image)
        found = warped.found
        if targets and true is not None:
            errors = targets.measure(true, moving, warped.placing, warped.displacement)
            more["landmarks"] = _below(folder, "landmarks", f"{index:06d}.csv", errors.write)
            found = found | errors.means
        yield from journal.add([
            {"file": file.relative_to(folder).as_posix(), "index": index, "source": record.source,
             **({} if goals.alone else {"onto": harmless(goal.source)}), **more,
             **{name: f"{value:.4g}" if np.isfinite(value) else "" for name, value in found.items()},
             "flagged": few_values.flagged(_flags(found, usual), moving, registrar.trained_on.few_values),
             "unchecked": " ".join(sorted({*registrar.trained_on.unchecked(moving, record).split(), *fixed.unchecked})),
             notes.COLUMN: notes.notes_of(record, moving, (goal, registrar.image))}
            for file in files])


def _fixed(registrar: Registrar, record: Record, beside: Beside) -> Fixed:
    """From now on the registrar puts images onto this one. RejectedFile, with its name, where it cannot be used."""
    try:
        registrar.fix(record.load(), record.source)
        landmarks = beside.landmarks_onto(record)
    except RejectedFile as error:
        raise RejectedFile(f"{record.source}, which images are to be put onto, cannot be used: {error}") from None
    if few_values.looks_like_labels(registrar.image, registrar.trained_on.few_values):
        tell(f"mind: {record.source}, which images are put onto, has at most {FEW} different values, all "
             "whole numbers. If that is a label map, all results mean nothing.")
    return Fixed(record=record, unchecked=tuple(registrar.trained_on.unchecked(registrar.image, record).split()),
                 targets=Targets(landmarks, registrar.image, record.source) if landmarks else None)


def _write_rest(folder: Path, stem: str, warped: Warped, moving: Image, fixed: Image) -> dict[str, str]:
    """The field and the labels of a result, with their columns of samples.csv."""
    labels = warped.labels
    return {
        "field": _below(folder, "fields", f"{stem}.nii.gz", lambda path: write_field(
            path, warped.displacement, warped.placing, moving, fixed)),
        "labels": "" if labels is None else _below(
            folder, "labels", f"{stem}.nii.gz", lambda path: write_labels(path, labels, fixed))}


def _below(folder: Path, kind: str, name: str, write: Callable[[Path], None]) -> str:
    """Write a file; its name below the folder."""
    write(folder / kind / name)
    return f"{kind}/{name}"


def _flags(found: dict[str, float], usual: dict[str, float]) -> str:
    """What speaks against a registration: images that agree less, or landmarks that lie farther apart than before,
    images that hardly lie on each other, a warp that folds space, or images that disagree more than is usual."""
    doubtful = {"similarity": found["similarity"] < found["similarity_before"], "folding": found["folding"] > 0,
                "overlap": found["overlap"] < HARDLY,
                "target_error": found.get("target_error", 0) > found.get("target_error_before", 0),
                **{name: found[name] > highest for name, highest in usual.items()}}
    return " ".join(name for name, is_so in doubtful.items() if is_so)
