"""What is measured of label maps beside the true ones: overlap, distance of borders, labels where there are none."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from radsynth.image import ImageSpec
from radsynth.metrics._overlap import dice, hausdorff_95
from radsynth.verbs._pairs.found import OF_IMAGES, Found
from radsynth.verbs._pairs.label_baselines import Labels


def label_numbers(results: dict[str, Labels], truths: Labels, spec: ImageSpec,
                  spacing: NDArray[np.float64] | None) -> list[Found]:
    """Every number of every label that the truth has anywhere, an image each, NaN where it does not count.

    spacing: (n, axes) mm of each image's pixels, None where the data does not tell
    """
    values = [value for value in range(1, spec.mask_classes) if (truths == value).any()]
    there = np.stack([_has(truths, value) for value in values], axis=1) if values else np.zeros((len(truths), 0), bool)
    overlaps = {name: np.where(there, dice(made, truths, values), np.nan) for name, made in results.items()}
    far = {name: np.where(there, hausdorff_95(made, truths, values, spacing), np.nan)
           for name, made in results.items()}
    found = []
    for k, value in enumerate(values):
        label = spec.label_name(value)
        found.append(Found(
            name=f"dice_{value}", title=f"Overlap of {label} (Dice)", unit="", better="higher", bounds=(0, 1),
            label=label,
            values={name: table[:, k] for name, table in overlaps.items()},
            meaning="How well the label covers the true one, in the images that have it; 1 is the same place."))
        found.append(Found(
            name=f"hausdorff_95_{value}", title=f"Distance of borders of {label} (Hausdorff, 95 %)",
            label=label, unit="pixels" if spacing is None else "mm", better="lower", bounds=(0, math.inf),
            values={name: table[:, k] for name, table in far.items()},
            meaning="How far apart the borders are where they are far apart; a label that is not found counts as the "
                    "image's diagonal."))
        if not there[:, k].all():
            invented = {name: np.where(there[:, k], np.nan, 100.0 * _has(made, value))
                        for name, made in results.items()}
            found.append(Found(
                name=f"invented_{value}", title=f"{label[0].upper()}{label[1:]} where there is none",
                label=label, unit=OF_IMAGES, better="lower", bounds=(0, 100), values=invented,
                meaning="How often images without the label are given some of it."))
    return found


def _has(labels: Labels, value: int) -> NDArray[np.bool_]:
    """(n,) whether an image has a label."""
    return np.asarray((labels == value).any(tuple(range(1, labels.ndim))))
