"""One image through a trained run from image to image: what the run expects of it, and the result in its units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap
from radsynth.errors import RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.settings import read_yaml
from radsynth.tasks import ImageTask, takes_images
from radsynth.verbs._doubts import doubts
from radsynth.verbs._shards import SAMPLE
from radsynth.verbs._shards import _ranges as channel_ranges
from radsynth.verbs._tiles import convert_tiled
from radsynth.verbs.generate import Sampler

AXES = {"axial": 0, "coronal": 1, "sagittal": 2}
"""The axis of a volume that a plane's slices are stacked along."""

SPACING_TOLERANCE = 0.1
"""Relative difference of spacing that a network is trusted with."""

PERCENTILES = (0.5, 99.5)
"""Where the range of an image lies if the run's settings do not say."""

COARSE = 1.5
"""From this ratio of spacings on, a volume counts as scanned slice by slice along its coarsest axis."""


class Applier:
    """A trained run that takes images: what it expects, and what it makes of one image."""

    def __init__(self, run: Path, target: str | None = None) -> None:
        """SettingsError for a run that draws from noise, or a target that it does not know."""
        sampler = Sampler(run)
        if not takes_images(sampler.task):
            raise SettingsError(f"{run} makes images from noise and takes none: use 'radsynth generate'. Tasks that "
                                "take images are translate, cycle, restore and segment (task.kind).")
        self.task: ImageTask = sampler.task
        self.network, self.spec, self.intensity = sampler.network, sampler.spec, sampler.intensity
        self.run, self.facts, self.device = Path(run), sampler.facts, sampler.device
        settings = read_yaml(Path(run) / "settings.yaml")
        data = settings.get("data") or {}
        self.plane, self.modality = str(data.get("plane", "auto")), str(data.get("modality", ""))
        low, high = (settings.get("prepare") or {}).get("percentiles", PERCENTILES)
        self.percentiles = (float(low), float(high))
        targets = self.task.targets
        if target is not None and target not in targets:
            allowed = f"it can go to {', '.join(targets)}" if targets else "it has no choice of targets"
            raise SettingsError(f"target={target!r}: the run does not know it; {allowed}.")
        self.target = target or (targets[0] if targets else "")

    def check(self, image: Image) -> None:
        """RejectedFile for an image that the run was not trained for, with what was expected."""
        spec, dimensions = self.spec, len(image.space)
        if "OT" not in (spec.modality, image.modality) and image.modality != spec.modality:
            raise RejectedFile(f"its modality is {image.modality}; the run was trained on {spec.modality}")
        if spec.dimensions > dimensions:
            raise RejectedFile("it is a single image; the run was trained on volumes")
        if spec.spacing is None or image.spacing is None:
            return
        have = image.spacing if dimensions == spec.dimensions else tuple(np.delete(image.spacing, self._axis(image)))
        want = tuple(step * finer for step, finer in zip(spec.spacing, self.task.finer, strict=True))
        if any(abs(h / w - 1) > SPACING_TOLERANCE for h, w in zip(have, want, strict=True)):
            raise RejectedFile(f"its spacing is {_steps(have)} mm; the run expects {_steps(want)} mm")

    def _axis(self, image: Image) -> int:
        """The axis across which a volume is cut for a network of 2-D images, as it was for training."""
        if self.plane in AXES:
            return AXES[self.plane]
        steps = image.spacing
        return int(np.argmax(steps)) if steps and max(steps) >= COARSE * min(steps) else 0

    def channels(self, image: Image) -> list[NDArray[Any] | None]:
        """The channels (*space) that the task takes; None for a missing one where the run was trained for that."""
        inputs, have = self.task.inputs, image.channels
        if not set(inputs) & set(have) and len(have) == len(inputs):
            return list(image.pixels)  # channels of other names are taken in their order
        lacking = [name for name in inputs if name not in have]
        spare = getattr(self.task, "may_lack", False) and len(lacking) < len(inputs)
        if lacking and not spare:
            raise RejectedFile(f"its channels are {', '.join(have)}; the run expects {', '.join(inputs)}")
        return [None if name in lacking else image.pixels[have.index(name)] for name in inputs]

    def convert(self, image: Image) -> tuple[Image, dict[str, float]]:
        """The result, with the units and the geometry of the image, and what speaks against it (see `_doubts`).

        RejectedFile for an image that does not fit.
        """
        given, axis, ranges, present = self.given(image)
        stack = self.network_of(given, self.target)
        doubtful = {name: float(values.mean())
                    for name, values in doubts(self.task, self.network_of, given, stack, self.target).items()}
        made = join(stack, axis)
        finer = self.task.finer if axis is None else tuple(np.insert(self.task.finer, axis, 1).tolist())
        same = self.task.inputs == self.task.outputs and not self.task.targets
        # Of another contrast no range is known: it is taken to be that of the first given channel.
        low, high = (_by_channel(edge, made) for edge in (ranges if same else ranges[:1]).T)
        result = (np.clip(made, -1, 1) + 1) / 2 * (high - low) + low
        if same:
            result += self._beyond(present, low, high, axis)
        affine = None if image.affine is None else finer_affine(image.affine, finer)
        steps = None if image.spacing is None else tuple(s / f for s, f in zip(image.spacing, finer, strict=True))
        made_image = image.replace(pixels=as_stored(result, image), channels=self.task.outputs, mask=None,
                                   spacing=steps, affine=affine)
        return made_image, doubtful

    def given(self, image: Image) -> tuple[NDArray[np.float32], int | None, NDArray[np.float64], NDArray[Any]]:
        """What the network is given of an image, (n, inputs, *space) in network values, slices along the axis or one.

        Then that axis (None: the whole), the ranges of the channels that are there, (channels, 2), and their real
        values. RejectedFile for an image that does not fit.
        """
        self.check(image)
        channels = self.channels(image)
        axis = None if len(image.space) == self.spec.dimensions else self._axis(image)
        present = np.stack([channel for channel in channels if channel is not None])
        ranges = ranges_of(present, self.intensity, self.percentiles)
        return np.ascontiguousarray(cut(self._encode(channels, ranges, image.space), axis)), axis, ranges, present

    def _encode(self, channels: list[NDArray[Any] | None], ranges: NDArray[np.float64], space: tuple[int, ...],
                ) -> NDArray[np.float32]:
        """Network values (inputs, *space); a missing channel is blank, -1, as in training."""
        own, encoded = iter(ranges.tolist()), []
        for channel in channels:
            blank = np.full(space, -1, np.float32)
            encoded.append(blank if channel is None else self.intensity.to_network(
                self.intensity.encode(channel, *next(own))))
        return np.stack(encoded)

    def network_of(self, stack: NDArray[np.float32], target: str) -> NDArray[np.float32]:
        """(n, inputs, *space) to (n, outputs, *space * finer), a few at a time."""
        made = []
        for one in torch.split(torch.from_numpy(np.ascontiguousarray(stack)), 16):
            fine = self.task.enlarge(one.to(self.device))
            made.append(convert_tiled(lambda x: self.task.convert(self.network, x, target), self.network, fine))
        return np.concatenate(made)

    def _beyond(self, values: NDArray[Any], low: NDArray[np.float32], high: NDArray[np.float32], axis: int | None,
                ) -> NDArray[np.float32]:
        """What lies outside the intensity range: a restoration hands it on instead of clipping it."""
        real = values.astype(np.float32)
        beyond = real - np.clip(real, low, high)
        stack = torch.from_numpy(np.ascontiguousarray(cut(beyond, axis)))
        return join(np.concatenate([self.task.enlarge(one).numpy() for one in torch.split(stack, 16)]), axis)


def cut(volume: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """(c, *space) as (1, c, *space), or as the slices (n, c, rows, columns) across an axis, head up as in training."""
    if axis is None:
        return volume[None]
    slices: NDArray[np.float32] = np.moveaxis(volume, axis + 1, 0)
    return slices if axis == 0 else slices[:, :, ::-1]


def join(stack: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """The inverse of `cut`."""
    whole: NDArray[np.float32] = stack[0] if axis is None else np.moveaxis(
        stack if axis == 0 else stack[:, :, ::-1], 0, axis + 1)
    return whole


def ranges_of(values: NDArray[Any], intensity: IntensityMap, percentiles: tuple[float, float]) -> NDArray[np.float64]:
    """(channels, 2) lowest and highest value: each channel's own percentiles where the run's data was mapped so."""
    if intensity.method != "percentiles":
        return np.tile([intensity.low, intensity.high], (len(values), 1))
    flat = values.reshape(len(values), -1)
    return channel_ranges([flat[:, :: max(1, flat.size // SAMPLE)]], percentiles)


def _by_channel(numbers: NDArray[np.float64], like: NDArray[Any]) -> NDArray[np.float32]:
    return numbers.reshape(-1, *[1] * (like.ndim - 1)).astype(np.float32)


def as_stored(values: NDArray[np.float32], image: Image) -> NDArray[Any]:
    """Real values in the image's own kind of number, whole numbers rounded and kept in their range."""
    kind = image.pixels.dtype
    if kind.kind == "f":
        return values
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)


def finer_affine(affine: NDArray[np.float64], finer: tuple[int, ...]) -> NDArray[np.float64]:
    """The grid with smaller steps that covers the same field: its first pixel lies nearer to the field's corner."""
    columns = np.array([*finer[::-1], 1.0, 1.0][:3], dtype=np.float64)
    result = affine.copy()
    result[:3, :3] = affine[:3, :3] / columns
    result[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((1 / columns - 1) / 2)
    return result


def _steps(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{step:.3g}" for step in spacing)
