"""Images drawn again, so that what few of them have is seen often enough to be learned: a rare label, or any mask."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.device import moved
from radsynth.errors import DataError
from radsynth.tasks._masks import CHUNK


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Again:
    """Training images `rows` that take the place of others with the probability `chance`, or `evenly` of such a share
    of any items in a row."""

    prepared: Prepared
    rows: NDArray[np.int64]
    chance: float
    evenly: bool = False

    def mixed_in(self, batch: Batch, only: Tensor | None = None) -> Batch:
        """The batch, some of its images and masks replaced; which ones follows from (seed, item) alone.

        only: (n,) bool, images that may be replaced; default all.
        """
        draw = batch.lots("again", 2)
        wanted = draw[:, 0] < self.chance
        if self.evenly:
            wanted = np.diff(np.floor(self.chance * np.stack([batch.items, np.add(batch.items, 1)])), axis=0)[0] > 0
        places = np.flatnonzero(wanted if only is None else wanted & only.cpu().numpy())
        if not len(places):
            return batch
        assert batch.masks is not None
        chosen = self.rows[(draw[places, 1] * len(self.rows)).astype(np.int64)]
        images, masks, where = batch.images.clone(), batch.masks.clone(), torch.from_numpy(places)
        images[where] = moved(torch.from_numpy(self.prepared.images(chosen)), images.device)
        masks[where] = moved(torch.from_numpy(self.prepared.masks(chosen)), masks.device)
        return dataclasses.replace(batch, images=images, masks=masks)


def masked_to_draw_again(prepared: Prepared, share: float) -> Again | None:
    """What brings the training images with a mask up to a share of all; None where they are that many.

    DataError where no training image has one.
    """
    rows = prepared.indices("train")
    masked = prepared.masked(rows)
    if not masked.any():
        raise DataError(f"{prepared.folder}: no training image has a mask. prepare.split_seed and prepare.official say "
                        "which patients are for training.")
    return _up_to(share, float(masked.mean()), prepared, rows[masked], evenly=True)


def images_to_draw_again(prepared: Prepared, share: float) -> Again | None:
    """What brings those with the rarest label up to a share of the training images with masks; None where they are that
    many."""
    rows = prepared.indices("train")
    rows = rows[prepared.masked(rows)]
    there = np.concatenate([_labels(prepared, part) for part in np.array_split(rows, -(-len(rows) // CHUNK))])
    found = there.mean(axis=0)
    if not (found > 0).any():
        return None
    rarest = int(np.argmin(np.where(found > 0, found, np.inf)))
    return _up_to(share, float(found[rarest]), prepared, rows[there[:, rarest]])


def _up_to(share: float, found: float, prepared: Prepared, rows: NDArray[np.int64], evenly: bool = False,
           ) -> Again | None:
    if found >= share:
        return None
    # found + chance * (1 - found) = share
    return Again(prepared=prepared, rows=rows, chance=(share - found) / (1 - found), evenly=evenly)


def _labels(prepared: Prepared, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n, labels) whether each image has each label but the background."""
    masks = prepared.stored(rows, "masks").reshape(len(rows), -1)
    return np.stack([(masks == value).any(axis=1) for value in prepared.spec.label_values[1:]], axis=1)
