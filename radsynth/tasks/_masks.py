"""Masks as networks see them, and new masks from old ones by smooth deformation, which keeps what touches what."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.tasks._warp import integrate, random_velocity, warp

WAVE = 0.35
"""Pixels over which a deformation changes, as a share of the shortest side: of the size of an organ."""
CHUNK = 256
"""Images whose masks are read at once."""
MOST_PARTS = 128
"""More label values are no names of parts."""


def check_labels(spec: ImageSpec) -> None:
    """SettingsError for masks with so many values that they cannot be names of parts."""
    if len(spec.label_values) > MOST_PARTS:
        raise SettingsError(f"The masks have {len(spec.label_values)} different values, which are no labels of parts. "
                            "Where every thing has its own number, prepare.masks=instances helps; where masks were "
                            "smoothed or compressed, save them anew with one value for each label.")


def none_there(spec: ImageSpec) -> str:
    """What is told of data without masks, or whose masks are empty."""
    if spec.mask_classes:
        return ("those of this data are empty: they hold 0 everywhere. Look whether they are those of these images "
                "and were saved as they should be.")
    return ("this data has none. docs/masks.md says how masks must lie beside the images; prepare.masks=off must not "
            "be set.")


def need_masks(spec: ImageSpec, why: str) -> None:
    """SettingsError, which begins with `why`, unless every image has a mask."""
    if spec.mask_classes < 2:
        raise SettingsError(f"{why}, and {none_there(spec)}")
    if spec.partly_masked:
        raise SettingsError(f"{why}, and some images of this data have none. Prepare it without data.unmasked=keep: "
                            "then they are left out.")
    check_labels(spec)


def label_shares(prepared: Prepared, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(labels,) share of the pixels of images that have masks which each label value has, none below one pixel."""
    counts = np.zeros(256, np.int64)
    for part in np.array_split(rows, -(-len(rows) // CHUNK)):
        counts += np.bincount(prepared.stored(part, "masks").ravel(), minlength=256)
    found = np.maximum(counts[list(prepared.spec.label_values)], 1)
    return np.asarray(found / counts.sum(), np.float64)


def shares_of(masks: Tensor, values: tuple[int, ...]) -> Tensor:
    """Label values (n, *space) as one channel a class (n, classes, *space), 0 or 1. Unknown values are of no class."""
    return torch.stack([masks == value for value in values], dim=1).float()


def masks_of(shares: Tensor, values: tuple[int, ...]) -> Tensor:
    """The label value with the largest share at each place: (n, classes, *space) to (n, *space)."""
    return _on(values, shares.device)[shares.argmax(dim=1)]


def places_of(masks: Tensor, values: tuple[int, ...]) -> Tensor:
    """Label values (n, *space) as their places in `values`, which hold every one of them: classes without gaps."""
    return torch.bucketize(masks, _on(values, masks.device))


@cache
@torch.inference_mode(False)  # it is kept, and a later training needs it
def _on(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Values where masks are: a step that is recorded brings nothing there."""
    return torch.tensor(values, device=device)


def deformed(masks: Tensor, batch: Batch, values: tuple[int, ...], strength: float) -> Tensor:
    """Masks (n, *space) moved by smooth invertible deformations, from (seed, item) alone.

    strength: standard deviation of the displacement, as a share of the shortest side
    """
    if not strength:
        return masks
    space = tuple(masks.shape[1:])
    shortest = min(space)
    velocity = random_velocity(batch, "deformation", space, strength * shortest, max(WAVE * shortest, 2.0))
    return masks_of(warp(shares_of(masks, values), integrate(velocity.to(masks.device))), values)
