"""Which images are registered onto which: every image has partners among the most similar ones of other patients.

Slices of different heights cannot be registered, so that partners of slices are chosen by what they show; any two
volumes of an organ can be partners.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.models._averages import averaged_to

POOL = 4000
"""Images that partners are looked for among, at most."""
SIDE = 16
"""Pixels along each side of the thumbnails that are compared."""
CHUNK = 256
EXACT = "donot_use_mm_for_euclid_dist"  # the fast way finds an image at a distance from itself


class Partners:
    """The images `rows` of prepared data as partners; `nearest` of them are candidates for each image, 0 for all."""

    def __init__(self, prepared: Prepared, rows: NDArray[np.int64], nearest: int) -> None:
        self.prepared, self.nearest = prepared, nearest
        self.rows = rows[np.unique(np.linspace(0, len(rows) - 1, POOL).astype(int))]
        self.patients = np.asarray([prepared.rows[int(row)].patient for row in self.rows])
        self.seen = torch.cat([thumbnails(torch.from_numpy(prepared.images(part)))
                               for part in np.array_split(self.rows, -(-len(self.rows) // CHUNK))])

    def of(self, images: Tensor, draw: Tensor) -> NDArray[np.int64]:
        """Rows (n,) of the partners of images (n, c, *space); draw: (n,) in [0, 1), which of the candidates is taken.

        The patient of an image is known by the image itself, if it is one of the pool's. Where there is no other
        patient, another image is taken, and where there is none, the image itself.
        """
        distances = torch.cdist(thumbnails(images.cpu()), self.seen, compute_mode=EXACT).numpy()
        nearest = distances.argmin(axis=1)
        same = self.patients[None] == self.patients[nearest][:, None]
        same[same.all(axis=1)] = False  # there is no other patient
        same[np.arange(len(same)), nearest] = True
        distances[same & (distances.min(axis=1) < 1e-3)[:, None]] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")
        count = np.maximum(np.isfinite(distances).sum(axis=1), 1)
        if self.nearest:
            count = np.minimum(count, self.nearest)
        places = (draw.cpu().numpy() * count).astype(np.int64)
        chosen: NDArray[np.int64] = self.rows[order[np.arange(len(order)), places]]
        return chosen


def thumbnails(images: Tensor) -> Tensor:
    """(n, p) of (n, c, *space): averaged down to at most SIDE pixels along each side."""
    return averaged_to(images.float().contiguous(), [min(SIDE, side) for side in images.shape[2:]]).flatten(1)
