"""One image through a trained run from image to image: what the run expects of it, and the result in its units.

A volume that is done slice by slice goes through a few slices at a time, so that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.errors import RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.progress import track
from radsynth.settings import constant, kinds
from radsynth.tasks import ImageTask, chosen_target, takes_images
from radsynth.verbs._applying.anatomy import Anatomy, read_anatomy
from radsynth.verbs._applying.channels import taken
from radsynth.verbs._applying.crops import by_crops
from radsynth.verbs._applying.doubts import NAMES, Doubts, doubts
from radsynth.verbs._applying.regridding import TOLERANCE, Steps, near, regridded, to_training
from radsynth.verbs._applying.slices import TOGETHER, cut, framed, join, unframed, within
from radsynth.verbs._applying.tiles import convert_tiled
from radsynth.verbs._applying.trained_on import TrainedOn
from radsynth.verbs._applying.values import as_stored, check_values, ranges_of
from radsynth.verbs._preparing.fit import Fit
from radsynth.verbs._sampler import Sampler


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """An image as the network will see it.

    channels: (*space) each, None where missing; present: (c, *space), those that are there; ranges: (c, 2) of these
    axis: slices are done along it, None: the image is done as a whole
    there, back: from the image's grid to that of the training, and from the result's to the image's, None: the same
    content: sides in pixels of the image, or of its slices, on the training's grid
    """

    image: Image
    channels: list[NDArray[Any] | None]
    present: NDArray[Any]
    ranges: NDArray[np.float64]
    axis: int | None
    there: Fit | None
    back: Fit | None
    content: tuple[int, ...]

    def parts(self) -> Iterator[slice]:
        """Slices along the axis, a few at a time, or everything."""
        if self.axis is None:
            yield slice(None)
        else:
            side = self.image.space[self.axis]
            parts = [slice(a, min(a + TOGETHER, side)) for a in range(0, side, TOGETHER)]
            yield from track(parts, label=f"  slices, {TOGETHER} at a time") if len(parts) > 1 else parts

    def place(self, part: slice) -> tuple[slice, ...]:
        """Where a part lies in space."""
        return tuple(part if axis == self.axis else slice(None) for axis in range(len(self.image.space)))


class Applier:
    """A trained run that takes images: what it expects, and what it makes of one image."""

    checks: tuple[str, ...] = NAMES
    """The numbers that speak against a result."""

    def __init__(self, run: Path, target: str | None = None, resample: bool = False) -> None:
        """SettingsError for a run that draws from noise, or a target that it does not know.

        resample: images with other spacing than the training's are brought to its grid, and results back to theirs.
        """
        sampler = Sampler(run)
        if not takes_images(sampler.task):
            from_images = [kind for kind in kinds("tasks") if constant("tasks", kind, "RESULTS")]
            raise SettingsError(f"{run} makes images from noise and takes none: use 'radsynth generate'. Tasks that "
                                f"take images are {', '.join(from_images)} and semantic (task.kind).")
        self.task: ImageTask = sampler.task
        self.network, self.spec, self.intensity = sampler.network, sampler.spec, sampler.intensity
        self.run, self.facts, self.device = Path(run), sampler.facts, sampler.device
        expected = replace(self.spec, modality=self.spec.kind_of(self.task.inputs)[0])
        self.trained_on = TrainedOn.of(self.run, expected)
        self.target = chosen_target(self.task, target)
        self.resample = resample
        self.anatomy = read_anatomy(self.run, self.task, Applier)

    def check(self, image: Image) -> None:
        """RejectedFile for an image that the run was not trained for, with what was expected."""
        self.trained_on.check(image)
        have, want = self._steps(image)
        if not self.resample and not near(have, want):
            if image.spacing is None:
                raise RejectedFile(
                    f"it has {_extent(self._within(image))} pixels, whose size in mm nobody knows; for training such "
                    f"images were brought to {_extent(self._frame())}: --resample does so and brings the result back")
            expects = f"expects {_spoken(want)} mm"
            if max(self.task.finer) > 1:
                expects = f"makes {_spoken(cast(Steps, self.spec.spacing))} mm of {_spoken(want)} mm"
            lost = ", which loses what is finer," if min(np.divide(have, want)) < 1 - TOLERANCE else ""
            raise RejectedFile(f"its spacing is {_spoken(have)} mm; the run {expects}, and --resample brings an image "
                               f"to that{lost} and the result back")

    def _steps(self, image: Image) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """mm along the axes that the network sees, of the image and as expected; () where either is unknown. Where both
        are: pixels of the image, as `prepare` would make them of an image of its size."""
        if image.spacing is None and (ratios := self.trained_on.shrinks(self._within(image), self._frame())):
            return (1.0,) * len(ratios), ratios
        if self.spec.spacing is None or image.spacing is None:
            return (), ()
        return within(image.spacing, self.axis(image)), self._expected()

    def _frame(self) -> tuple[int, ...]:
        """Sides in pixels of what the network was given in training."""
        return tuple(side // finer for side, finer in zip(self.spec.size, self.task.finer, strict=True))

    def _within(self, image: Image) -> tuple[int, ...]:
        """Sides in pixels of an image, or of its slices."""
        return within(image.space, self.axis(image))

    def _grids(self, image: Image, axis: int | None) -> tuple[Fit | None, Fit | None]:
        """To the training's grid over the same field, and from the result's to the image's; None where they agree."""
        have, want = self._steps(image)
        if near(have, want):
            return None, None
        there = to_training(within(image.space, axis), have, want)
        own, fine = (tuple(side * f for side, f in zip(grid, self.task.finer, strict=True))
                     for grid in (there.source, there.content))
        return there, Fit(source=fine, target=own, ratios=tuple(1 / ratio for ratio in there.ratios), content=own,
                          spacing=have)

    def axis(self, image: Image) -> int | None:
        """The axis across which a volume is done in slices; None: the image is done as a whole."""
        return self.trained_on.axis(image, self._expected())

    def turned(self, image: Image, format: str) -> bool:
        """Whether the slices in which a volume is done run the other way in the file that is written."""
        axis = self.axis(image)
        if image.laid is None or format not in ("nifti", "metaimage") or axis is None:
            return False
        return image.laid[1][2 - axis]

    def _expected(self) -> tuple[float, ...]:
        """mm along the axes of what the network is given; () where unknown."""
        if self.spec.spacing is None:
            return ()
        return tuple(step * finer for step, finer in zip(self.spec.spacing, self.task.finer, strict=True))

    def channels(self, image: Image) -> list[NDArray[Any] | None]:
        """The channels (*space) that the task takes; None for a missing one where the run was trained for that."""
        return taken(image, self.task.inputs, self.may_lack)

    def missing(self, image: Image) -> dict[str, str]:
        """Columns of samples.csv: the names of the given channels that an image lacks, of a run that may go without."""
        if not self.may_lack:
            return {}
        given = zip(self.task.inputs, self.channels(image), strict=True)
        return {"missing": " ".join(name for name, channel in given if channel is None)}

    def convert(self, image: Image) -> tuple[Image, Doubts]:
        """The result, with the geometry of the image and, but for another contrast, its units, and what speaks against
        it (see `doubts`), a number a slice where it is done in slices.

        RejectedFile for an image that does not fit.
        """
        view = self.view(image)
        finer = self.task.finer if view.axis is None else tuple(np.insert(self.task.finer, view.axis, 1).tolist())
        space = tuple(side * f for side, f in zip(image.space, finer, strict=True))
        ends, kind = self._ends(view), image.pixels.dtype
        modality, units, bits = image.modality, image.units, image.bits
        if self.usual:
            kind, bits = _kind(kind, ends, self.spec.bits), max(bits, self.spec.bits)
            modality, units = self.spec.kind_of(self.task.outputs)
        pixels = np.empty((len(self.task.outputs), *space), kind)
        doubtful: dict[str, list[NDArray[np.float64]]] = {}
        anatomy = self.anatomy
        if anatomy and not anatomy.given.may_lack and any(channel is None for channel in view.channels):
            anatomy = None  # an older segmenter of what is given, which has never met a blank channel
        for part in view.parts():
            given = self.given(view, part)
            made = self.network_of(given, self.target)
            for name, values in self._doubts(given, made, anatomy, part.start or 0).items():
                doubtful.setdefault(name, []).append(values)
            made = unframed(made, view.content, self.task.finer)
            made = made if view.back is None else regridded(made, view.back)
            pixels[(slice(None), *view.place(part))] = as_stored(
                self._real(view, join(made, view.axis), part, ends), kind)
        affine = None if image.affine is None else finer_affine(image.affine, finer)
        planar = len(space) == 2
        steps = None if image.spacing is None else tuple(s / f for s, f in zip(image.spacing, finer, strict=True))
        result = image.replace(pixels=pixels, channels=self.task.outputs, mask=None, spacing=steps, affine=affine,
                               modality=modality, units=units, bits=bits,
                               window=image.window if self.restores else None,
                               thickness=image.thickness if planar or finer[image.through] == 1 else None)
        return result, {name: np.concatenate(values) for name, values in doubtful.items()}

    def doubts_of_crops(self, crops: NDArray[np.float32], anatomy: Anatomy | None) -> Doubts:
        """The `doubts` (k,) of the crops (k, inputs, *space) of one image."""
        made = self.network_of(crops, self.target)
        return doubts(self.task, self.network_of, crops, made, self.target, anatomy, crops=True)

    def _doubts(self, given: NDArray[np.float32], made: NDArray[np.float32], anatomy: Anatomy | None, first: int,
                ) -> Doubts:
        """The `doubts` (n,) of images; where the run has learned from crops, by those of their crops."""
        if self.crops:
            return by_crops(given, self._frame(), lambda crops: self.doubts_of_crops(crops, anatomy))
        return doubts(self.task, self.network_of, given, made, self.target, anatomy, first)

    @property
    def crops(self) -> bool:
        """Whether the run has learned from crops of images."""
        return self.trained_on.fit == "patches"

    @property
    def may_lack(self) -> bool:
        """Whether an image may lack some of the given channels, because the run has learned to go without."""
        return getattr(self.task, "may_lack", False)

    @property
    def restores(self) -> bool:
        """What is made is what was given, corrected, so that its window and what lies outside of its range hold for the
        result."""
        return getattr(self.task, "corrects", False)

    @property
    def usual(self) -> bool:
        """Whether other contrasts are made than are given, which come out in the ranges that are usual for them."""
        return bool(self.intensity.ranges) and self.task.inputs != self.task.outputs and not self.restores

    def _ends(self, view: View) -> NDArray[np.float64]:
        """(outputs, 2) lowest and highest value of what is made; of runs that do not know a contrast's the first given
        channel's."""
        if self.usual:
            return np.array([self.intensity.ranges[self.spec.channels.index(name)] for name in self.task.outputs])
        return view.ranges if self.task.inputs == self.task.outputs else view.ranges[:1]

    def _real(self, view: View, made: NDArray[np.float32], part: slice, ends: NDArray[np.float64],
              ) -> NDArray[np.float32]:
        """Real values of a part of the result, (outputs, *space) in network values."""
        low, high = (_by_channel(edge, made) for edge in ends.T)
        result = np.clip(made, -1, 1)
        result += 1
        result *= (high - low) / 2
        result += low
        if self.restores:
            values = view.present[(slice(None), *view.place(part))].astype(np.float32)
            values -= np.clip(values, low, high)
            if values.any():  # a restoration hands on what lies outside the intensity range instead of clipping it
                stack = torch.from_numpy(np.ascontiguousarray(cut(values, view.axis)))
                result += join(self.task.enlarge(stack).numpy(), view.axis)
        return result

    def view(self, image: Image) -> View:
        """How the network will see an image. RejectedFile for an image that does not fit."""
        image = self.trained_on.alike(image)
        self.check(image)
        check_values(image, self.spec, self.intensity)
        channels = self.channels(image)
        axis = self.axis(image)
        there = [channel for channel in channels if channel is not None]
        present = there[0][None] if len(there) == 1 else np.stack(there)
        to, back = self._grids(image, axis)
        return View(image=image, channels=channels, present=present, axis=axis, there=to, back=back,
                    content=self._within(image) if to is None else to.content,
                    ranges=ranges_of(present, self.intensity, self.trained_on.percentiles))

    def given(self, view: View, part: slice) -> NDArray[np.float32]:
        """What the network is given of a part, (n, inputs, *space) in network values: -1 for missing channels, and
        around what is smaller than in training."""
        own, encoded, place = iter(view.ranges.tolist()), [], view.place(part)
        for channel in view.channels:
            if channel is None:
                encoded.append(np.full(view.present[0][place].shape, -1, np.float32))
            else:
                encoded.append(self.intensity.to_network(self.intensity.encode(channel[place], *next(own))))
        stack = cut(encoded[0][None] if len(encoded) == 1 else np.stack(encoded), view.axis)
        seen = stack if view.there is None else regridded(stack, view.there)
        return np.ascontiguousarray(framed(seen, self._frame()))

    def network_of(self, stack: NDArray[np.float32], target: str) -> NDArray[np.float32]:
        """(n, inputs, *space) to (n, outputs, *space * finer), a few at a time."""
        return self.tiled(stack, lambda images: self.task.convert(self.network, images, target))

    def tiled(self, stack: NDArray[np.float32], convert: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
        """As `network_of`, for any `convert` that uses the network and otherwise treats pixels alone."""
        made = []
        for one in torch.split(torch.from_numpy(np.ascontiguousarray(stack)), TOGETHER):
            made.append(convert_tiled(convert, self.network, self.task.enlarge(one.to(self.device))))
        return made[0] if len(made) == 1 else np.concatenate(made)


def _kind(own: np.dtype[Any], ends: NDArray[np.float64], bits: int) -> np.dtype[Any]:
    """The kind of number for values between `ends`: an image's own, or a larger one that holds them; floating point
    where the training images had that."""
    if bits > 16:
        return np.dtype(np.float32)
    return np.result_type(own, *(np.min_scalar_type(round(end)) for end in ends.ravel().tolist()))


def _by_channel(numbers: NDArray[np.float64], like: NDArray[Any]) -> NDArray[np.float32]:
    return numbers.reshape(-1, *[1] * (like.ndim - 1)).astype(np.float32)


def finer_affine(affine: NDArray[np.float64], finer: tuple[int, ...]) -> NDArray[np.float64]:
    """The grid with smaller steps that covers the same field: its first pixel lies nearer to the field's corner."""
    columns = np.array([*finer[::-1], 1.0, 1.0][:3], dtype=np.float64)
    result = affine.copy()
    result[:3, :3] = affine[:3, :3] / columns
    result[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((1 / columns - 1) / 2)
    return result


def _extent(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def _spoken(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{step:.3g}" for step in spacing)
