"""One image through a trained segmentation: its label map, on its own grid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.arrays import Batch
from radsynth.errors import SettingsError
from radsynth.image import Image
from radsynth.tasks import segments
from radsynth.verbs._applying.applier import Applier, join
from radsynth.verbs._applying.doubts import NOISE, Doubts
from radsynth.verbs._preparing.fit import resample_mask

Images = NDArray[np.float32]

DOUBT = "uncertainty"


class Segmenter(Applier):
    """A trained segmentation: what it expects, and the label map of one image."""

    def convert(self, image: Image) -> tuple[Image, Doubts]:
        """The label map, uint8 with one channel "mask" and the image's geometry, and how unsure it is, slice by slice.

        RejectedFile for an image that does not fit.
        """
        view, labels, found = self.view(image), np.empty((1, *image.space), np.uint8), []
        for part in view.parts():
            given = self.given(view, part)
            made = self.network_of(given, "")
            found.append(unsteadiness(lambda near: self.network_of(near, ""), given, made, part.start or 0))
            if view.back is not None:
                made = np.stack([resample_mask(one[0].astype(np.uint8), view.back)[None] for one in made])
            labels[(slice(None), *view.place(part))] = join(made, view.axis)
        result = image.replace(pixels=labels, channels=self.task.outputs, units="stored", bits=8, mask=None,
                               window=None)
        return result, {DOUBT: np.concatenate(found)}


def applier_of(run: Path, target: str | None, format: str | None, resample: bool) -> Applier:
    """What applies this run. SettingsError for label maps in DICOM: its segmentation objects are not written."""
    applier = Applier(run, target, resample)
    if not segments(applier.task):
        return applier
    if format == "dicom":
        raise SettingsError("format=dicom: label maps are not written as DICOM, which has objects of its own for "
                            "them. Leave the format out or give nifti: it lies on the grid of the DICOM series.")
    return Segmenter(run, target, resample)


def unsteadiness(network: Callable[[Images], Images], given: Images, labels: NDArray[Any], first: int = 0,
                 ) -> NDArray[np.float64]:
    """(n,) pixels whose label changes under a little noise, in percent of the pixels that have a label.

    network: images (n, c, *space) to labels (n, 1, *space); labels: what it makes of `given` without noise
    first: the number of the first image, by which its noise is drawn
    """
    batch = Batch(images=torch.from_numpy(given), seed=0, items=tuple(range(first, first + len(given))))
    noise: Images = np.float32(NOISE) * batch.normal("doubt", *given.shape[1:]).numpy()
    axes = tuple(range(1, labels.ndim))
    changed = [(network(near) != labels).sum(axes) for near in (given + noise, given - noise)]
    return np.asarray(50 * (changed[0] + changed[1]) / np.maximum((labels > 0).sum(axes), 1), np.float64)
