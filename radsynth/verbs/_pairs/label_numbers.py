"""What is measured of label maps beside the true ones: overlap, distance of borders, labels where there are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radsynth.image import ImageSpec
from radsynth.metrics._overlap import diagonals, dice, hausdorff_95
from radsynth.verbs._pairs.found import GIVEN, OF_IMAGES, OWN, TRUE, Found
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
    farthest = diagonals(truths, spacing).max(initial=0.0)
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
            label=label, unit="pixels" if spacing is None else "mm", better="lower", bounds=(0, farthest),
            values={name: table[:, k] for name, table in far.items()},
            meaning="How far apart the borders are where they are far apart; a label that is not found counts as the "
                    "image's diagonal."))
        found += _presence({name: _has(made, value) for name, made in results.items()}, there[:, k], value, label)
    return found


def _presence(said: dict[str, NDArray[np.bool_]], there: NDArray[np.bool_], value: int, label: str) -> list[Found]:
    """How often a label is not found in the images (n,) that have it, where any method misses it, and how often it is
    in those that have none. Whoever finds nothing makes nothing up: less of that is a gain only over methods that tell
    the two kinds of images apart less well (by Youden's index: images with the label that it is found in, less those
    without)."""
    found, named = [], f"{label[0].upper()}{label[1:]}"
    missed = {name: np.where(there, 100.0 * ~has, np.nan) for name, has in said.items()}
    if any(np.nanmax(values) for values in missed.values()):
        found.append(Found(
            name=f"missed_{value}", title=f"{named} not found where it is", label=label, unit=OF_IMAGES, better="lower",
            bounds=(0, 100), values=missed, compared=False,
            meaning="How often nothing of the label is found in images that have it. Overlap and distance count these, "
                    "too."))
    if not there.all():
        youden = {name: has[there].mean() - has[~there].mean() for name, has in said.items()}
        invented = {name: np.where(there, np.nan, 100.0 * has) for name, has in said.items()}
        hollow = tuple(name for name in said if name not in (TRUE, GIVEN)
                       and np.nanmean(invented[OWN]) < np.nanmean(invented[name])
                       and youden[OWN] <= youden[name])
        no_gain = (f" No gain over {', '.join(hollow)}: what finds less makes less up, and images with the label are "
                   "told from those without no better." if hollow else "")
        found.append(Found(
            name=f"invented_{value}", title=f"{named} where there is none", label=label, unit=OF_IMAGES,
            better="lower", bounds=(0, 100), values=invented, hollow=hollow,
            meaning=f"How often images without the label are given some of it.{no_gain}"))
    return found


def _has(labels: Labels, value: int) -> NDArray[np.bool_]:
    """(n,) whether an image has a label."""
    return np.asarray((labels == value).any(tuple(range(1, labels.ndim))))
