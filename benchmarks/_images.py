"""Images as an 8-bit file holds them, and what is measured of many of them in parts that memory bears."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
TOGETHER = 50


def scaled(images: NDArray[np.uint8]) -> Array:
    """0 to 255 -> -1 to 1."""
    return images.astype(np.float32) / np.float32(127.5) - 1


def as_stored(made: Array) -> Array:
    """Images in [-1, 1] as they are after they were written to a file and read again."""
    return scaled(np.clip(np.rint((made + 1) * 127.5), 0, 255).astype(np.uint8))


def by_parts(function: Callable[[Array], Array], images: Array) -> Array:
    """What the function makes of all images, some at a time."""
    return np.concatenate([function(images[k:k + TOGETHER]) for k in range(0, len(images), TOGETHER)])
