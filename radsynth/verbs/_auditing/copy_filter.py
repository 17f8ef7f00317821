"""Keeps copies out of a synthetic data set: an image more like a training image than unseen patients' images are is
drawn again. The rule is the audit's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError
from radsynth.metrics._privacy_attacks import check_held_out, threshold
from radsynth.metrics._privacy_copies import Whitening, likeness, prints
from radsynth.verbs._auditing.attacks import Side
from radsynth.verbs._auditing.copies import FALSE_ALARMS, LIKENESS

REDRAWS = 20
"""Redraws of one image before it is said that the generator makes copies."""


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
        held_out = _side(prepared, prepared.own("validation", "test"))
        real, _ = likeness(prints(held_out, self._whitening), self._known)
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


def check_filtering(prepared: Prepared) -> None:
    """DataError where too few images are held out for a filter, which else comes out after training."""
    check_held_out(prepared.patients(prepared.own("validation", "test")), FALSE_ALARMS)


def given_up(index: int) -> DataError:
    """The error when one image was drawn too often."""
    return DataError(f"Image {index} was a copy of a training image {REDRAWS} times in a row: this generator makes "
                     "copies. Train with more images, augmentation (augment.strength) or a smaller network.")


def _side(prepared: Prepared, rows: NDArray[np.int64]) -> Side:
    return Side(prepared=prepared, rows=rows, patients=prepared.patients(rows))
