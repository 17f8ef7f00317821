"""The order in which training images are shown: each epoch once through the data, with classes evened out if wished.

Every epoch's order follows from (seed, epoch) alone, so that item k is the same image in every run and process.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Order:
    """Item number -> position among the training images. An epoch has as many items as there are training images.

    labels: (n,) the images' classes, -1 for none
    balance: class c is shown in proportion to (its images)^(1 - balance): 0 as often as it occurs, 1 as often as every
    other (between them lies square-root sampling, Mahajan et al. 2018). Of a common class each epoch leaves some images
    out, others each time; a rare class is repeated.
    """

    def __init__(self, labels: NDArray[np.int64], balance: float, seed: int) -> None:
        self.labels, self.balance, self.seed = labels, balance, seed
        self.epoch, self.order = -1, np.empty(0, np.int64)

    def __call__(self, item: int) -> int:
        """The position of the image that is shown as this item."""
        epoch, place = divmod(item, len(self.labels))
        if epoch != self.epoch:
            self.epoch, self.order = epoch, self._shuffled(np.random.default_rng([self.seed, epoch]))
        return int(self.order[place])

    def _shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        if not self.balance:
            return rng.permutation(len(self.labels))
        drawn = [_draw(np.flatnonzero(self.labels == label), count, rng)
                 for label, count in shown(self.labels, self.balance).items()]
        return rng.permutation(np.concatenate(drawn))


def shown(labels: NDArray[np.int64], balance: float) -> dict[int, int]:
    """How often each class is shown in an epoch: whole numbers whose sum is the number of images."""
    classes, counts = np.unique(labels, return_counts=True)
    weights = counts ** (1 - balance)
    ends = np.rint(np.cumsum(weights) / weights.sum() * len(labels)).astype(int)
    return dict(zip(classes.tolist(), np.diff(ends, prepend=0).tolist(), strict=True))


def _draw(members: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` of `members`, each as often as any other or once more."""
    rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate(rounds)[:count] if rounds else members[:0]
