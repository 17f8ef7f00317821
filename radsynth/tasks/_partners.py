"""Which images are registered onto which: partners are of other patients, or other images of the same one.

Slices of different heights cannot be registered, so that partners of slices are chosen by what they show; any two
volumes of an organ can be partners.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import Prepared, spread
from radsynth.errors import FolderError
from radsynth.models._averages import averaged_to

POOL = 4000
"""Images of other patients that partners are looked for among, at most."""
SIDE = 16
"""Pixels along each side of the thumbnails that are compared."""
CHUNK = 256
EXACT = "donot_use_mm_for_euclid_dist"  # the fast way finds an image at a distance from itself


class Partners:
    """The images `rows` of prepared data as partners; `nearest` of them are candidates for each image, 0 for all.

    same_patient: partners are other images of the patient, where there are any; slices of one volume are one image
    """

    def __init__(self, prepared: Prepared, rows: NDArray[np.int64], nearest: int, same_patient: bool = False) -> None:
        self.prepared, self.nearest, self.same_patient = prepared, nearest, same_patient
        self.rows = rows if same_patient else rows[spread(len(rows), POOL)]
        every = np.arange(len(prepared.rows))
        self.patients, self.images = prepared.patients(every), np.asarray([row.image for row in prepared.rows])
        if same_patient and self.images.min() < 0:
            raise FolderError(f"{prepared.folder} was prepared by an older version, which did not keep the slices of "
                              "one volume apart from those of another. Prepare the same data again into a new folder.")
        self.seen = torch.cat([thumbnails(torch.from_numpy(prepared.images(part)))
                               for part in np.array_split(self.rows, -(-len(self.rows) // CHUNK))])

    def of(self, rows: NDArray[np.int64], draw: NDArray[np.float32]) -> NDArray[np.int64]:
        """The partners' rows (n,) of images in these rows (n,); draw: (n,) in [0, 1), which of the candidates is taken.

        Where there is no other patient, another image is taken, and where there is none, the image itself.
        """
        images = torch.from_numpy(self.prepared.images(rows))
        distances = torch.cdist(thumbnails(images), self.seen, compute_mode=EXACT).numpy()
        others = self._others(rows)
        distances[~others] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")
        count = others.sum(axis=1)
        if self.nearest:
            count = np.minimum(count, self.nearest)
        places = (draw * count).astype(np.int64)
        chosen: NDArray[np.int64] = np.where(count > 0, self.rows[order[np.arange(len(order)), places]], rows)
        return chosen

    def suited(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) whether some of the partners, in these rows, have such partners as are wanted."""
        if not self.same_patient:
            return np.ones(len(rows), np.bool_)
        _, first = np.unique(self.images[self.rows], return_index=True)
        count = np.bincount(self.patients[self.rows[first]], minlength=len(self.patients))  # a patient's images
        return np.asarray(count[self.patients[rows]] > 1)

    def _others(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, pool) which images may be partners."""
        other = ~self._same(self.patients, rows)
        other[~other.any(axis=1)] = True  # there is no other patient
        other &= self.rows != rows[:, None]
        if self.same_patient:
            own = self._same(self.patients, rows) & ~self._same(self.images, rows)
            other = np.where(own.any(axis=1, keepdims=True), own, other)
        return other

    def _same(self, owners: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, pool) which images have the same owner as those in these rows."""
        found: NDArray[np.bool_] = owners[rows][:, None] == owners[self.rows]
        return found


def thumbnails(images: Tensor) -> Tensor:
    """(n, p) of (n, c, *space): averaged down to at most SIDE pixels along each side."""
    return averaged_to(images.float().contiguous(), [min(SIDE, side) for side in images.shape[2:]]).flatten(1)
