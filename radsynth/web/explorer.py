"""What the explorer shows: synthetic images by seed and number, and walks along the directions that `control` found."""

from __future__ import annotations

import math
import re
import threading
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import FolderError, SettingsError, in_command
from radsynth.io import Provenance
from radsynth.io._synthetic import texts
from radsynth.run_folder import RunFolder
from radsynth.tasks import draws, makes_masks, paints, takes_images
from radsynth.verbs._grid import apart, black_and_white, greys, grid, in_colour, shades, shown_window
from radsynth.verbs._report.pictures import flat
from radsynth.verbs._sampler import CHUNK, Sampler
from radsynth.verbs._steering.latents import LatentSpace
from radsynth.verbs._steering.steering import STEPS, WAY, Direction, walk
from radsynth.verbs._writing import Drawn
from radsynth.web._png import enlarged, picture

KEPT = 2**28
"""Bytes of images that are kept in memory, about."""


def _draws(sampler: Sampler) -> bool:
    """Whether images come out of a run by itself; one that paints masks needs those of its training patients."""
    if paints(sampler.task):
        with suppress(FolderError):
            return sampler.mask_source is not None
        return False
    return draws(sampler.task)


class Explorer:
    """A trained run's generator behind the pages. One image is computed at a time, whatever the number of visitors."""

    def __init__(self, run: Path) -> None:
        self.run, self.sampler, self._lock = Path(run), Sampler(run), threading.Lock()
        self.ends = black_and_white(shown_window(self.sampler.spec), self.sampler.intensity)
        self.draws = _draws(self.sampler)
        self.moves = self.draws and not takes_images(self.sampler.task)  # along directions in the noise
        self.labels = self.sampler.spec.labels if len(self.sampler.spec.labels) > 1 else ()
        self.learned = self.sampler.learned if self.labels else ()
        spec = self.sampler.spec
        chunk = 4 * CHUNK * len(spec.channels) * math.prod(spec.size)  # bytes, of 32-bit numbers
        self._drawn = lru_cache(max(1, KEPT // chunk))(self._draw)

    def directions(self) -> dict[str, Direction]:
        """What RUN/control holds by now, if `control` has been there. FolderError when that is damaged."""
        path = self.run / "control" / "directions.npz"
        if not (self.moves and path.exists()):
            return {}
        try:
            with np.load(path, allow_pickle=False) as found:
                rows = zip(found["names"], found["kinds"], found["vectors"], found["steps"], strict=True)
                return {str(name): Direction(name=str(name), kind=str(kind), vector=vector, step=float(step))
                        for name, kind, vector, step in rows}
        except (OSError, ValueError, KeyError, BadZipFile):
            raise FolderError(f"{path} is damaged: remove it, and 'radsynth control {in_command(self.run)}' makes it "
                              "anew.") from None

    def along(self, shown: str) -> list[str]:
        """Names of the directions that an image of class `shown` can be moved along: a way to another class begins at
        its own class, and leads an image of any other one somewhere else."""
        ways = {f"{shown} to {other}" for other in self.labels}
        return [name for name, one in self.directions().items() if one.kind != "class" or name in ways]

    @property
    def outdated(self) -> bool:
        """Whether the run has been trained further since, so that `generate` draws other images than these."""
        return RunFolder(self.run).weights_hash not in (self.sampler.facts["sha256"], None)

    def _draw(self, start: int, seed: int, label: str | None, truncation: float) -> Drawn:
        (found,) = self.sampler.drawn(start, CHUNK, seed=seed, label=label, truncation=truncation)
        return found

    def _chunk(self, item: int, seed: int, label: str | None, truncation: float) -> Drawn:
        """The chunk that an item is in. A page asks for many at once: one draws, others wait."""
        with self._lock:
            return self._drawn(item - item % CHUNK, seed, label, truncation)

    def image(self, item: int, seed: int, label: str | None, truncation: float, side: int) -> bytes:
        """PNG of image `item`: the same that `generate` writes, and marked as synthetic like it. SettingsError for a
        class that does not exist."""
        drawn = self._chunk(item, seed, label, truncation)
        return picture(drawn.images[item % CHUNK], side, self.ends, spacing=self.sampler.spec.spacing,
                       colour=in_colour(self.sampler.spec.channels),
                       text=self._mark(item, seed, f"image {item} of {self._origin(item, seed, label, truncation)}"))

    @property
    def greys(self) -> str:
        """Which label is which grey in pictures of masks, in words; "" where none are made."""
        if not makes_masks(self.sampler.task):
            return ""
        spec = self.sampler.spec
        named = greys([spec.label_name(value) for value in spec.label_values])
        return named or "The background is black, each label has a grey of its own."

    @property
    def sliced(self) -> str:
        """What the picture of all slices shows, in words; "" where images have none."""
        spec = self.sampler.spec
        every = "All its slices, one after the other, row by row from the top left."
        return f"{every} {apart(2, spec.channels)}".rstrip() if spec.dimensions == 3 else ""

    def slices(self, item: int, seed: int, label: str | None, truncation: float, side: int) -> bytes:
        """PNG of all slices of volume `item`, row by row from the top left. SettingsError for other images."""
        image = self._chunk(item, seed, label, truncation).images[item % CHUNK]
        return self._slices(shades(image, self.ends), side, smooth=True, text=self._mark(
            item, seed, f"all slices of image {item} of {self._origin(item, seed, label, truncation)}"))

    def mask(self, item: int, seed: int, label: str | None, truncation: float, side: int) -> bytes:
        """PNG of the mask of image `item`, its labels as evenly spaced greys. SettingsError where none is made."""
        return picture(self._mask(item, seed, label, truncation), side,
                       spacing=self.sampler.spec.spacing, smooth=False,
                       text=self._mark(item, seed, f"the mask of image {item} of "
                                       f"{self._origin(item, seed, label, truncation)}"))

    def mask_slices(self, item: int, seed: int, label: str | None, truncation: float, side: int) -> bytes:
        """PNG of all slices of the mask of volume `item`, as `slices` and `mask` show them. Errors as theirs."""
        mask = self._mask(item, seed, label, truncation)
        return self._slices(shades(mask), side, smooth=False, text=self._mark(
            item, seed, f"all slices of the mask of image {item} of {self._origin(item, seed, label, truncation)}"))

    def _mask(self, item: int, seed: int, label: str | None, truncation: float) -> NDArray[np.float32]:
        """(1, *space) from -1 to 1: the labels of image `item` as evenly spaced greys."""
        masks = self._chunk(item, seed, label, truncation).masks
        if masks is None:
            raise SettingsError("This run makes no masks.")
        values = self.sampler.spec.label_values
        places = np.searchsorted(values, masks[item % CHUNK][None])
        return np.asarray(2 * places / (len(values) - 1) - 1, dtype=np.float32)

    def _slices(self, volume: NDArray[np.uint8], side: int, *, smooth: bool, text: dict[str, str]) -> bytes:
        """PNG of the slices of display values (c, slices, rows, columns)."""
        if not self.sliced:
            raise SettingsError("This run's images have no slices.")
        spec = self.sampler.spec
        steps, colour = spec.spacing[1:] if spec.spacing else None, in_colour(spec.channels)
        planes = [flat(plane, steps, smooth=smooth, colour=colour) for plane in np.moveaxis(volume, 1, 0)]
        return enlarged(grid(np.stack(planes)), side, smooth=smooth, text=text)

    def _origin(self, item: int, seed: int, label: str | None, truncation: float) -> str:
        """What an image is drawn from, in words."""
        (chosen,) = self.classes(range(item, item + 1), seed, label)
        told = (f"seed {seed}", f"class {chosen}" if chosen else "",
                f"truncation {truncation:g}" if truncation < 1 else "")
        return ", ".join(part for part in told if part)

    def saved_as(self, item: int, seed: int, label: str | None, truncation: float) -> str:
        """The name, without ending, of a file with image `item`; others of the same seed and number have others."""
        (chosen,) = self.classes(range(item, item + 1), seed, label)
        parts = ["synthetic", seed, item, re.sub(r"[^\w.-]+", "_", chosen),
                 f"truncation{truncation:g}" * (truncation < 1)]
        return "-".join(str(part) for part in parts if part != "")

    def _mark(self, item: int, seed: int, what: str) -> dict[str, str]:
        """What a saved picture says of itself, as files of `generate` do."""
        facts = self.sampler.facts
        return texts(Provenance(model=facts["model"], weights=facts["sha256"], seed=seed, index=item,
                                description=f"It is {what}, enlarged to be looked at."))

    def classes(self, items: range, seed: int, label: str | None) -> list[str]:
        """The class of each image, which needs no drawing; "" without classes."""
        if not self.labels:
            return [""] * len(items)
        return [self.labels[int(index)] for index in self.sampler.labels(items, seed, label)]

    def numbers(self, item: int, seed: int) -> dict[str, float]:
        """The numbers that image `item` is made with, {} for a run that learned none."""
        learned = self.sampler.numbers
        return dict(zip(learned.quantiles, learned.of([item], seed)[0].tolist(), strict=True))

    @cached_property
    def _latent_space(self) -> LatentSpace:
        return LatentSpace.of_run(self.sampler, self.run)

    def walk(self, name: str, item: int, seed: int, label: str | None) -> bytes:
        """PNG of image `item` moved along a direction. SettingsError for a direction that `control` has not found."""
        directions = self.directions()
        if name not in directions:
            raise SettingsError(f"direction={name!r}: 'radsynth control {in_command(self.run)}' has not found it.")
        direction, spec = directions[name], self.sampler.spec
        (chosen,) = self.classes(range(item, item + 1), seed, label)
        with self._lock:
            space = self._latent_space
            labels = space.classes_of(1, self.labels.index(chosen) if chosen else None)
            codes = space.drawn(range(item, item + 1), seed, labels)
            images = walk(space, codes, labels, direction, WAY if direction.kind == "class" else STEPS)[0]
        shown = [flat(shades(image, self.ends), spec.spacing, colour=in_colour(spec.channels)) for image in images]
        return enlarged(grid(np.stack(shown), columns=len(shown)), 1280,
                        text=self._mark(item, seed, f"image {item} of seed {seed} moved along {name}"))
