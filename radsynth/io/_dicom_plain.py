"""Uncompressed grey slices: read from their place in the file, which then need not be parsed a second time.

Half of the time that a series takes is parsing; its headers were read before, to sort the slices.
"""

from __future__ import annotations

import numpy as np

from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io._dicom_header import Instance
from radsynth.io._dicom_pixels import placed
from radsynth.io._synthetic import rescale

PIXEL_DATA, UNDEFINED = b"\xe0\x7f\x10\x00", 0xFFFFFFFF


def read(found: Instance) -> Image:
    """The image of a slice that has a `plain` place, the same as by `to_image`."""
    plain = found.plain
    assert plain is not None
    count = found.header.size[0] * found.header.size[1]
    with open(found.path, "rb") as file:
        file.seek(plain.offset)
        head = file.read(plain.head)
        length = int.from_bytes(head[-4:], "little")
        if head[:4] != PIXEL_DATA or (plain.head == 12 and head[4:6] not in (b"OW", b"OB", b"UN")):
            raise RejectedFile("its header describes pixels, but it holds none")
        values = np.fromfile(file, "<i2" if plain.signed else "<u2", count)
    if length == UNDEFINED or length < 2 * count or len(values) < count:
        there = f"{min(length, values.nbytes):,} of {2 * count:,} bytes are there"
        raise RejectedFile(f"the DICOM pixels cannot be read: {there}")
    if plain.unused:  # bits beyond Bits Stored may hold anything (PS3.5, 8.1.1)
        np.left_shift(values, plain.unused, out=values)
        np.right_shift(values, plain.unused, out=values)
    real = rescale(values.reshape(found.header.size), plain.slope, plain.intercept)
    if not np.isfinite(real).all():
        raise RejectedFile(f"its Rescale Slope {plain.slope} and Intercept {plain.intercept} leave no finite numbers")
    return placed(found, real, plain.window)
