"""Keeps copies out of a synthetic data set: an image more like a training image than unseen patients' images are is
drawn again. The rule is the audit's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError, SettingsError
from radsynth.metrics._privacy_attacks import check_held_out, threshold
from radsynth.metrics._privacy_copies import Whitening, likeness, prints
from radsynth.progress import Progress
from radsynth.verbs._auditing.attacks import Side
from radsynth.verbs._auditing.copies import FALSE_ALARMS, LIKENESS
from radsynth.verbs._sampler import REDRAWN, Sampler
from radsynth.verbs._writing import Drawn

REDRAWS = 20
"""Redraws of one image before it is said that the generator makes copies."""
HELD_OUT = 5000
"""Held-out images that the threshold comes from at most, drawn at random: each is compared with all training images."""


class CopyFilter:
    """Says which images are copies of training images. Made once, asked often."""

    def __init__(self, data: Path, data_hash: str) -> None:
        """data: the prepared folder of the training. FolderError without it, DataError for too few held-out images."""
        if not (data / "manifest.json").exists():
            raise FolderError(
                f"The copy filter needs the prepared data that the run was trained on, at {data}. Put it there, or "
                "turn the filter off."
            )
        prepared = Prepared(data)
        if prepared.manifest.data_hash != data_hash:
            raise FolderError(f"{data} is not the data that the run was trained on; the copy filter needs that data.")
        training = _side(prepared, prepared.showing("train"))
        self._whitening = Whitening.of(training)
        self._known = prints(training, self._whitening)
        rows = prepared.own("validation", "test")
        held_out = _side(prepared, rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:HELD_OUT])])
        with Progress(len(held_out), "comparing held-out images", "images") as progress:
            real, _ = likeness(prints(held_out, self._whitening), self._known, progress.update)
        self.threshold = threshold(real, held_out.patients, FALSE_ALARMS).likeness
        self.held_out = len(real)

    def copies(self, images: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n,) whether each of the images (n, c, *space) in [-1, 1] is a copy."""
        found, _ = likeness(prints(images, self._whitening), self._known)
        return np.asarray(found > self.threshold)

    def rule(self) -> dict[str, object]:
        """What is rejected, for the record."""
        return {"rule": f"rejected when more like a training image than {1 - FALSE_ALARMS:.2%} of held-out images are",
                "likeness": LIKENESS, "threshold": self.threshold, "held_out_images": self.held_out,
                "training_images": len(self._known)}


@dataclass(kw_only=True)
class Filtered:
    """Chunks of images without copies, which are told how often each was drawn again."""

    sampler: Sampler
    filter: CopyFilter

    def drawn(self, first: int, count: int, *, seed: int, label: str | None, truncation: float) -> Iterator[Drawn]:
        """As `Sampler.drawn`. DataError when an image comes out as a copy `REDRAWS` times in a row."""
        for drawn in self.sampler.drawn(first, count, seed=seed, label=label, truncation=truncation):
            images, masks = drawn.images.copy(), None if drawn.masks is None else drawn.masks.copy()
            redrawn = np.zeros(len(images), np.int64)
            for place in np.flatnonzero(self.filter.copies(images)):
                name = self.sampler.spec.labels[drawn.labels[place]] if drawn.labels[place] >= 0 else None
                again, redrawn[place] = self._redrawn(first + int(place), seed, name, truncation)
                images[place] = again.images[0]
                if masks is not None and again.masks is not None:
                    masks[place] = again.masks[0]
            yield Drawn(images=images, labels=drawn.labels, masks=masks, redrawn=redrawn)
            first += len(images)

    def _redrawn(self, item: int, seed: int, label: str | None, truncation: float) -> tuple[Drawn, int]:
        """The first image in its place that is no copy, and how many were drawn for it."""
        for time in range(1, REDRAWS + 1):
            (made,) = self.sampler.drawn(item + time * REDRAWN, 1, seed=seed, label=label, truncation=truncation)
            if not self.filter.copies(made.images)[0]:
                return made, time
        raise DataError(f"Image {item} was a copy of a training image {REDRAWS} times in a row: this generator makes "
                        "copies. Train with more images, augmentation (augment.strength) or a smaller network.")


def filtered(sampler: Sampler) -> Filtered:
    """A run's images without copies. SettingsError with differential privacy; other errors as of `CopyFilter`."""
    check_not_private(bool(sampler.facts.get("privacy")))
    return Filtered(sampler=sampler, filter=CopyFilter(sampler.data, sampler.data_hash))


def check_not_private(private: bool) -> None:
    """SettingsError where a run that is to be filtered has differential privacy."""
    if private:
        raise SettingsError(
            "The run is trained with differential privacy, and the copy filter would look at its training images "
            "again, which the bound does not cover: leave it off."
        )


def check_enough_held_out(prepared: Prepared) -> None:
    """DataError where too few images are held out for a filter, which else comes out after training."""
    check_held_out(prepared.patients(prepared.own("validation", "test")), FALSE_ALARMS)


def _side(prepared: Prepared, rows: NDArray[np.int64]) -> Side:
    return Side(prepared=prepared, rows=rows, patients=prepared.patients(rows))
