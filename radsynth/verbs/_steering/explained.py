"""Images to explain, and what was found of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from radsynth.verbs._steering.inversion import Inversion

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """Images to explain. images: (n, c, *space) in [-1, 1]; labels: (n,) class indices, -1 without; names: for readers.

    kind: "given", "held-out" or "synthetic"; assumed: the classes were guessed; numbers: (n, k) those that the images
    have, scaled to [-1, 1], None where they are unknown or none are learned
    """

    images: Array
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    kind: str
    assumed: bool = False
    numbers: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """What was found of some images, in their order.

    quality: of each image the errors of redrawing it; counterfactuals: (n, m, c, *space), of the changes in `changes`
    gradients: (n, c, *space) integrated gradients, occlusions: (n, *space); None without a discriminator
    """

    given: Given
    inversion: Inversion
    quality: list[dict[str, float]]
    counterfactuals: Array
    changes: tuple[str, ...]
    scores: list[float] | None = None
    gaps: list[float] | None = None
    gradients: Array | None = None
    occlusions: Array | None = None
