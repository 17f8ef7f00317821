"""NumPy arrays: what an axis is, masks, headers that lie."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from radsynth import io
from radsynth.errors import RejectedFile
from radsynth.image import Image
from tests.io.files import RAMP, one, refused


def npy_header(shape: str, kind: str = "<f8") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def test_one_channel_at_the_end_of_a_numpy_array_is_no_axis_of_space(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP[..., None])
    assert io.header(tmp_path / "a.npy").size == (20, 24) and np.array_equal(one(tmp_path / "a.npy").pixels[0], RAMP)


def test_few_before_rows_are_channels_and_no_slices(tmp_path: Path) -> None:
    two = np.stack([RAMP, RAMP.T.reshape(RAMP.shape)])
    np.save(tmp_path / "channels.npy", two)
    header = io.header(tmp_path / "channels.npy")
    assert (header.size, header.channels) == (RAMP.shape, 2) and "volumes of 2 slices" in header.notes[0]
    assert np.array_equal(one(tmp_path / "channels.npy").pixels, two)
    np.save(tmp_path / "slices.npy", two[..., None])
    header = io.header(tmp_path / "slices.npy")
    assert (header.size, header.channels, header.notes) == (two.shape, 1, ())
    assert np.array_equal(one(tmp_path / "slices.npy").pixels[0], two)
    np.save(tmp_path / "none.npy", np.zeros((5, 6, 7, 8)))
    refused(tmp_path / "none.npy", r"has shape \(5, 6, 7, 8\)")


def test_masks_beyond_8_bits_are_refused_not_wrapped(tmp_path: Path) -> None:
    for wrong in (300, -1):
        np.savez(tmp_path / "a.npz", image=RAMP, mask=np.full(RAMP.shape, wrong, np.int16))
        refused(tmp_path / "a.npz", "labels are 0 to 255")


def test_numpy_faults(tmp_path: Path) -> None:
    objects = tmp_path / "objects.npz"
    np.savez(objects, image=np.array([{"a": 1}], dtype=object))
    refused(objects, "Python objects")
    huge = tmp_path / "huge.npy"
    huge.write_bytes(npy_header("(200000, 100000)") + bytes(1000))
    refused(huge, r"claims 160,000,000,000 bytes")
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("image.npy", "w") as file:
        file.write(npy_header("(120, 1000, 1000)", "<u2"))
        for _ in range(240):
            file.write(bytes(10**6))
    assert bomb.stat().st_size < 10**6
    refused(bomb, "grows .* bomb")
    np.savez(tmp_path / "two.npz", a=RAMP, b=RAMP)
    refused(tmp_path / "two.npz", "2 arrays")
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    refused(tmp_path / "text.npy", "type")
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    refused(tmp_path / "nan.npy", "finite")
    (tmp_path / "no.npz").write_bytes(b"PK\x03\x04 no archive")
    refused(tmp_path / "no.npz", "an npz file that was cut short")


def test_an_array_mask_is_the_mask_alone_or_beside_an_image(tmp_path: Path) -> None:
    mask = np.zeros((8, 6), np.uint8)
    mask[2:5] = 2
    np.savez(tmp_path / "alone.npz", mask=mask)
    np.savez(tmp_path / "both.npz", mask=mask, image=np.arange(48).reshape(8, 6) / 7)
    np.savez(tmp_path / "other.npz", labels=mask)
    for path in tmp_path.iterdir():
        found = io.read_mask(path)
        assert np.array_equal(found.pixels, mask[None]) and found.pixels.dtype == np.uint8, path.name
    ours = Image(pixels=np.arange(48).reshape(1, 8, 6), mask=mask, spacing=(2.0, 3.0), bits=16)
    io.write(ours, tmp_path / "ours.npz", provenance=io.Provenance(model="", weights="", seed=0, index=0))
    assert np.array_equal(io.read_mask(tmp_path / "ours.npz").pixels, mask[None])
    assert io.read_mask(tmp_path / "ours.npz").spacing == (2.0, 3.0)
    with pytest.raises(RejectedFile, match="one image is read"):
        io.read(tmp_path / "alone.npz")
    np.savez(tmp_path / "alone.npz", mask=mask / 2)
    with pytest.raises(RejectedFile, match="not whole numbers"):
        io.read_mask(tmp_path / "alone.npz")
