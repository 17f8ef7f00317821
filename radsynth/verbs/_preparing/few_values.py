"""Whether an image has a few whole numbers alone, as a label map has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 16
"""Values at most."""
GLANCE = 10_000
"""Values that are looked at first: nearly every image has more than a few among them."""


def has_few_values(pixels: NDArray[Any]) -> bool:
    """From two to FEW values, all whole numbers. A single one is a blank image."""
    values = pixels.ravel()
    if len(np.unique(values[::max(1, len(values) // GLANCE)])) > FEW:
        return False
    found = np.unique(values)
    return 2 <= len(found) <= FEW and bool((found == np.rint(found)).all())
