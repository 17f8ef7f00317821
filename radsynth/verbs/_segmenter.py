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
from radsynth.verbs._applier import Applier, join
from radsynth.verbs._doubts import NOISE

Images = NDArray[np.float32]

DOUBT = "uncertainty"


class Segmenter(Applier):
    """A trained segmentation: what it expects, and the label map of one image."""

    def convert(self, image: Image) -> tuple[Image, dict[str, float]]:
        """The label map, uint8 with one channel "mask" and the image's geometry, and how unsure it is.

        RejectedFile for an image that does not fit.
        """
        given, axis, _, _ = self.given(image)
        labels = self.network_of(given, "")
        found = float(unsteadiness(lambda near: self.network_of(near, ""), given, labels).mean())
        values = join(labels, axis).astype(np.uint8)
        result = image.replace(pixels=values, channels=self.task.outputs, units="stored", bits=8, mask=None,
                               window=None)
        return result, {DOUBT: found}


def applier_of(run: Path, target: str | None, format: str | None) -> Applier:
    """What applies this run. SettingsError for label maps in DICOM: its segmentation objects are not written."""
    applier = Applier(run, target)
    if not segments(applier.task):
        return applier
    if format == "dicom":
        raise SettingsError("format=dicom: label maps are not written as DICOM, which has objects of its own for "
                            "them. Leave the format out or give nifti: it lies on the grid of the DICOM series.")
    return Segmenter(run, target)


def unsteadiness(network: Callable[[Images], Images], given: Images, labels: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) pixels whose label changes under a little noise, in percent of the pixels that have a label.

    network: images (n, c, *space) to labels (n, 1, *space); labels: what it makes of `given` without noise
    """
    batch = Batch(images=torch.from_numpy(given), seed=0, items=tuple(range(len(given))))
    noise: Images = np.float32(NOISE) * batch.normal("doubt", *given.shape[1:]).numpy()
    axes = tuple(range(1, labels.ndim))
    changed = [(network(near) != labels).sum(axes) for near in (given + noise, given - noise)]
    return np.asarray(50 * (changed[0] + changed[1]) / np.maximum((labels > 0).sum(axes), 1), np.float64)
