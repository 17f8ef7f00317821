"""A structure that somebody drew on an image: where it is on the image's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

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


def where(name: str, inside: NDArray[np.bool_], start: Sequence[int], regridded: bool = False) -> Drawn | None:
    """A structure with the box alone that it fills, as dozens of them are kept at once; None where there is nothing.

    inside: (slice, row, column) a part of the image's grid that begins at `start`
    """
    if not inside.any():
        return None
    filled = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = [(int(there[0]), int(there[-1]) + 1) for there in filled]
    place = cast(Place, tuple(slice(low + at, high + at) for (low, high), at in zip(box, start, strict=True)))
    return Drawn(name=name, place=place, inside=inside[tuple(slice(*ends) for ends in box)].copy(),
                 regridded=regridded)
