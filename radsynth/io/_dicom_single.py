"""Grey slices, a file each: their pixels are read or decoded without parsing the file a second time.

Half of the time that a series takes is parsing; its headers were read before, to sort the slices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io._dicom_header import Instance
from radsynth.io._dicom_parsing import PIXEL_DATA
from radsynth.io._dicom_pixels import decompressed, placed, without_padding
from radsynth.io._dicom_values import IMPLICIT, Single
from radsynth.io._synthetic import rescale

UNDEFINED = 0xFFFFFFFF


def read(found: Instance, single: Single) -> Image:
    """The image of a slice that is described by `single`, the same as by `to_image`. Errors as there."""
    size = found.header.size
    if single.compressed:
        stored = decompressed(found.path, 0, single.syntax, single.stored, size)
    else:
        stored = _native(found.path, single, size[0] * size[1]).reshape(size)
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    real = without_padding(rescale(native, single.slope, single.intercept), native, single.padding)
    if not np.isfinite(real).all():
        raise RejectedFile(f"its Rescale Slope {single.slope} and Intercept {single.intercept} leave no finite numbers")
    return placed(found, real, single.window)


def _native(path: str, single: Single, count: int) -> NDArray[Any]:
    """`count` values of 16 bits from their place in the file."""
    with open(path, "rb") as file:
        file.seek(single.offset)
        head = file.read(8 if single.syntax == IMPLICIT else 12)
        length = int.from_bytes(head[-4:], "little")
        if head[:4] != PIXEL_DATA or (len(head) == 12 and head[4:6] not in (b"OW", b"OB", b"UN")):
            raise RejectedFile("its header describes pixels, but it holds none")
        values = np.fromfile(file, "<i2" if single.signed else "<u2", count)
    if length == UNDEFINED or length < 2 * count or len(values) < count:
        there = f"{min(length, values.nbytes):,} of {2 * count:,} bytes are there"
        raise RejectedFile(f"the DICOM pixels cannot be read: {there}")
    if single.stored < 16:  # the bits above may hold anything (PS3.5, 8.1.1)
        np.left_shift(values, 16 - single.stored, out=values)
        np.right_shift(values, 16 - single.stored, out=values)
    return values
