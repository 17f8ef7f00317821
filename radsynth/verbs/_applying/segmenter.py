"""One image through a trained segmentation: its label map, on its own grid."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from radsynth.image import Image
from radsynth.tasks.segment import Segment
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.crops import by_crops
from radsynth.verbs._applying.doubts import MISMATCH, Doubts
from radsynth.verbs._applying.slices import join, unframed
from radsynth.verbs._preparing.fit import resample_mask

Images = NDArray[np.float32]
LEAST = 9
"""Pixels of a label from which on it counts as there."""


class Segmenter(Applier):
    """A trained segmentation: what it expects, and the label map of one image."""

    checks = (MISMATCH,)

    def convert(self, image: Image) -> tuple[Image, Doubts]:
        """The label map, uint8 with one channel "mask" and the image's geometry, and how unsure it is, slice by slice.

        RejectedFile for an image that does not fit.
        """
        view, labels, found = self.view(image), np.empty((1, *image.space), np.uint8), []
        for part in view.parts():
            given = self.given(view, part)
            made, mismatch = self.labels_of(given)
            if self.crops:
                mismatch = by_crops(given, self._frame(), self.mismatches)[MISMATCH]
            found.append(mismatch)
            made = unframed(made, view.content, self.task.finer)
            if view.back is not None:
                made = np.stack([resample_mask(one, view.back) for one in made])
            labels[(slice(None), *view.place(part))] = join(made[:, None], view.axis)
        result = image.replace(pixels=labels, channels=self.task.outputs, units="stored", bits=8, mask=None,
                               window=None)
        return result, {MISMATCH: np.concatenate(found)}

    def mismatches(self, given: Images) -> Doubts:
        """`expected_mismatch` of images (n, inputs, *space) in network values."""
        return {MISMATCH: self.labels_of(given)[1]}

    def labels_of(self, given: Images) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Label maps (n, *space) of images (n, inputs, *space) in network values, and `expected_mismatch` of each."""
        task = cast(Segment, self.task)
        made = self.tiled(given, lambda images: task.likeliest(self.network, images))
        first, second, share, next_share = np.moveaxis(made, 1, 0)
        return first.astype(np.uint8), expected_mismatch(first, second, share, next_share)


def expected_mismatch(first: NDArray[Any], second: NDArray[Any], share: Images, next_share: Images,
                      ) -> NDArray[np.float64]:
    """(n,) how far label maps are from what their own network holds likely: 1 - Dice, in percent, of the worst label.

    first, second: the two likeliest label values (n, *space) of every pixel; share, next_share: how likely they are.
    The overlap is that of a label map with shares (Milletari et al. 2016); LEAST pixels more keep a label that is
    next to nowhere from being the worst.
    """
    found = []
    for one, two, likely, less in zip(first, second, share, next_share, strict=True):
        labels = 1 + int(max(one.max(), two.max()))
        there, doubtful, other = (
            np.bincount(values.ravel().astype(np.int64), weights=weights.ravel(), minlength=labels)[1:]
            for values, weights in ((one, 1 + likely), (one, 1 - likely), (two, less)))
        found.append(100 * np.max((doubtful + other) / (there + other + LEAST), initial=0.0))
    return np.asarray(found, np.float64)
