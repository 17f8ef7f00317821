"""Images with a rare label, drawn again: a label that few images have is seen often enough to be learned."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.arrays import Batch, Prepared

CHUNK = 256


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Again:
    """Training images `rows` that take the place of others with the probability `chance`."""

    prepared: Prepared
    rows: NDArray[np.int64]
    chance: float

    def mixed_in(self, batch: Batch) -> Batch:
        """The batch, some of its images and masks replaced; which ones follows from (seed, item) alone."""
        draw = batch.uniform("again", 2).cpu().numpy()
        places = np.flatnonzero(draw[:, 0] < self.chance)
        if not len(places):
            return batch
        assert batch.masks is not None
        chosen = self.rows[(draw[places, 1] * len(self.rows)).astype(np.int64)]
        images, masks, where = batch.images.clone(), batch.masks.clone(), torch.from_numpy(places)
        images[where] = torch.from_numpy(self.prepared.images(chosen)).to(images)
        masks[where] = torch.from_numpy(self.prepared.stored(chosen, "masks").astype(np.int64)).to(masks)
        return dataclasses.replace(batch, images=images, masks=masks)


def images_to_draw_again(prepared: Prepared, share: float) -> Again | None:
    """What brings the training images with the rarest label up to a share of all; None where they are that many."""
    rows = prepared.indices("train")
    there = np.concatenate([_labels(prepared, part) for part in np.array_split(rows, -(-len(rows) // CHUNK))])
    found = there.mean(axis=0)
    if not (found > 0).any():
        return None
    rarest = int(np.argmin(np.where(found > 0, found, np.inf)))
    if found[rarest] >= share:
        return None
    # found + chance * (1 - found) = share
    return Again(prepared=prepared, rows=rows[there[:, rarest]],
                 chance=float((share - found[rarest]) / (1 - found[rarest])))


def _labels(prepared: Prepared, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n, labels) whether each image has each label but the background."""
    masks = prepared.stored(rows, "masks").reshape(len(rows), -1)
    return np.stack([(masks == value).any(axis=1) for value in prepared.spec.label_values[1:]], axis=1)
