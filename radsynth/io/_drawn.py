"""A structure that somebody drew on an image: where it is on the image's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Place = tuple[slice, slice, slice]
"""Ranges of (slice, row, column)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One structure, or a part of it. inside: (*place) where it is.

    regridded: it was drawn on another grid
    """

    name: str
    place: Place
    inside: NDArray[np.bool_]
    regridded: bool = False
