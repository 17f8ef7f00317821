"""The window that CT is shown in where its files ask for none, as NIfTI, NRRD and MetaImage of CT do.

From air to bone soft tissue would be one grey, in pictures as in the viewers that open what is generated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.image import Image, may_be_hounsfield

LUNGS = (-1350.0, 150.0)
"""In Hounsfield units: the usual width of 1500 around -600."""
SOFT_TISSUE = (-160.0, 240.0)
"""The usual width of 400 around 40."""
AERATED = (-900.0, -500.0)
"""Lungs; below is the air around a patient, which noise brings no higher, above is fat and what lies beside lungs."""
SHARE = 0.25
"""Of what is no air, from which lungs are what an image shows: of chests about a half, of the upper abdomen a tenth."""


def has_hounsfield(image: Image) -> bool:
    """Whether pixels are Hounsfield units: not where 8 bits are left, whatever its file says."""
    return image.units == "HU" and may_be_hounsfield(image.bits)


def ct_window(values: NDArray[Any], asked: tuple[float, float] | None) -> tuple[float, float]:
    """(low, high) for an image in Hounsfield units. asked: by its file, which may ask for all values: for nothing"""
    if asked and (asked[0] > values.min() or asked[1] < values.max()):
        return asked
    low, high = AERATED
    inside = np.count_nonzero(values > low)
    lungs = inside - np.count_nonzero(values >= high)
    return LUNGS if lungs and lungs >= SHARE * inside else SOFT_TISSUE
