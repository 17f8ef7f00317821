"""NumPy files: npy with one array, npz with one image or volume (array `image`, or the only array; `mask` beside it).

(rows, columns) or (slices, rows, columns), either with up to four channels as last or first axis. Pickled objects are
never loaded, and every header is checked against the entry's real size before memory is taken.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from radsynth.errors import DataError, RejectedFile
from radsynth.image import GREY, RGB, Image, bits_of
from radsynth.io import Header, Provenance, as_mask
from radsynth.io._limits import MAX_BYTES, MAX_RATIO, MIN_RATIO_BYTES, check_file, check_size, unusable
from radsynth.io._not_finite import without_nan
from radsynth.io._synthetic import Marked, mark, parse_mark, store, write_whole

SUFFIXES = (".npz", ".npy")

MAGIC = b"\x93NUMPY"
MOST_CHANNELS = 4
"""An axis of so many numbers at most, last or first, is channels: no volume is so few columns wide, few so few deep."""


def sniff(path: Path, head: bytes) -> bool:
    """An npy by its content; an npz is a zip archive, so that its ending decides."""
    return head.startswith(MAGIC) or (head.startswith(b"PK\x03\x04") and path.suffix.lower() == ".npz")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One array in the file: its name (without .npy), shape and type, checked but not loaded."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def entries(path: Path, limit: int = MAX_BYTES) -> dict[str, Entry]:
    """The arrays in an npy or npz. RejectedFile for objects, lies about sizes and more than `limit` bytes."""
    size = check_file(path)
    try:
        if path.suffix.lower() == ".npy" or not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                if file.peek(2).startswith(b"PK"):
                    raise RejectedFile("it is an npz file that was cut short on its way: fetch it again")
                return {"image": _entry("image", file, size, limit)}
        with zipfile.ZipFile(path) as archive:
            found = {}
            for info in archive.infolist():
                if info.file_size > MIN_RATIO_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
                    raise RejectedFile(
                        f"'{info.filename}' grows {info.file_size // max(info.compress_size, 1)} times when "
                        "unpacked: it may be a decompression bomb"
                    )
                with archive.open(info) as file:
                    name = info.filename.removesuffix(".npy")
                    found[name] = _entry(name, file, info.file_size, limit)
            return found
    except RejectedFile:
        raise
    except Exception as error:
        raise unusable(error, "the NumPy file") from None


def _entry(name: str, file: IO[bytes], size: int, limit: int) -> Entry:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise RejectedFile(f"array '{name}' has the unknown npy version {version}")
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    if version == (3, 0):
        raise RejectedFile(f"array '{name}' has named fields; plain numbers are read")
    shape, _, dtype = reader(file)
    if dtype.hasobject:
        raise RejectedFile(f"array '{name}' holds Python objects, which are never loaded. Save it as numbers")
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or needed > size:
        raise RejectedFile(f"array '{name}' claims {needed:,} bytes (shape {shape}), the file holds {size:,}")
    if needed > limit:
        raise RejectedFile(f"array '{name}' has {needed:,} bytes; the limit is {limit:,}")
    return Entry(name=name, shape=tuple(shape), dtype=dtype)


def load(path: Path, name: str) -> NDArray[Any]:
    """One array whose entry was checked, without pickle."""
    try:
        if path.suffix.lower() == ".npy" or not zipfile.is_zipfile(path):
            return np.asarray(np.load(path, allow_pickle=False))
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[name])
    except Exception as error:
        raise unusable(error, f"array '{name}'") from None


def header(path: Path) -> Header:
    """Size, channels and type of the one image in the file."""
    entry, found = _image_entry(path)
    marked = _mark(path, found)
    size, channels, axis = _layout(entry, marked is not None)
    if marked is None:
        return Header(format="npz", size=size, channels=channels, bits=bits_of(entry.dtype),
                      notes=guessed(channels, axis))
    return marked.header("npz", size, channels)


def read(path: Path, frame: int = 0) -> Image:
    """The one image or volume, and its mask when there is one of the same size."""
    assert frame == 0
    path = Path(path)
    entry, found = _image_entry(path)
    marked = _mark(path, found)
    size, channels, axis = _layout(entry, marked is not None)
    values = load(path, entry.name)
    values = values.astype(np.float32) if values.dtype.kind == "f" else values
    pixels, filled = without_nan(channels_first(values, axis))
    mask = None
    if "mask" in found:
        if found["mask"].shape != size or found["mask"].dtype.kind not in "uib":
            raise RejectedFile(
                f"its mask has shape {found['mask'].shape} and type {found['mask'].dtype}, not whole numbers {size}"
            )
        mask = labels(load(path, "mask"))
    names = channel_names(channels)
    if marked is None:
        return Image(pixels=pixels, bits=bits_of(entry.dtype), mask=mask, channels=names, filled=filled)
    return Image(
        pixels=marked.real(pixels),
        modality=marked.modality,
        units=marked.units,
        bits=marked.bits,
        mask=mask,
        spacing=marked.spacing if len(marked.spacing or ()) == len(size) else None,
        affine=marked.affine,
        channels=marked.channels if len(marked.channels) == channels else names,
    )


def read_mask(path: Path) -> Image:
    """The array `mask` (*space), where there is one, alone or beside an image; else the one array as labels."""
    path = Path(path)
    found = entries(path)
    if "mask" not in found:
        return as_mask(read(path))
    if len(set(found) - {"mask", "synthetic"}) > 0:
        image = read(path)
        assert image.mask is not None
        return image.replace(pixels=image.mask[None], mask=None, channels=GREY, bits=8, units="stored", window=None)
    shape, dtype = found["mask"].shape, found["mask"].dtype
    if len(shape) not in (2, 3) or dtype.kind not in "uib":
        raise RejectedFile(f"its mask has shape {shape} and type {dtype}, not whole numbers (slices,) rows, columns")
    check_size(shape, itemsize=dtype.itemsize)
    return Image(pixels=labels(load(path, "mask"))[None])


def labels(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Label values of a mask, whole numbers or yes and no; RejectedFile for what 8 bits do not hold."""
    if values.min() < 0 or values.max() > 255:
        raise RejectedFile(f"its mask holds values from {values.min()} to {values.max()}: labels are 0 to 255")
    return np.asarray(values, dtype=np.uint8)


def write(image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
    """An npz with `image` (c, *space), `mask` when there is one, and `synthetic`, the mark as JSON text."""
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise DataError(
            f"{path.name}: NumPy images are written as .npz, because an .npy cannot say that it is synthetic"
        )
    stored = store(image, floats=True)
    arrays: dict[str, Any] = {"image": stored.values, "synthetic": np.array(mark(image, provenance, stored))}
    if image.mask is not None:
        arrays["mask"] = image.mask
    return write_whole(path, lambda temporary: np.savez_compressed(temporary, **arrays))


def example(folder: Path) -> list[Path]:
    """A 16-bit npy image, an npz volume and an npz colour image, as other programs write them."""
    ramp = np.arange(5 * 12 * 8, dtype=np.uint16)
    np.save(folder / "image.npy", ramp.reshape(24, 20))
    np.savez(folder / "volume.npz", image=ramp.reshape(5, 12, 8), mask=(ramp.reshape(5, 12, 8) > 9).astype(np.uint8))
    np.savez_compressed(folder / "colour.npz", photograph=(ramp % 256).astype(np.uint8).reshape(16, 10, 3))
    return [folder / "image.npy", folder / "volume.npz", folder / "colour.npz"]


def _image_entry(path: Path) -> tuple[Entry, dict[str, Entry]]:
    found = entries(path)
    pictures = [entry for name, entry in found.items() if name not in ("mask", "synthetic")]
    if "image" in found:
        return found["image"], found
    if len(pictures) != 1:
        raise RejectedFile(
            f"it holds {len(found)} arrays ({', '.join(sorted(found))[:80]}); one image is read, 'image' or alone. "
            "A whole data set in one npz (MedMNIST's layout) is given by its own path"
        )
    return pictures[0], found


def _layout(entry: Entry, ours: bool) -> tuple[tuple[int, ...], int, int | None]:
    """(size, channels, their axis) of an image array; the axis is the first in files that radsynth wrote."""
    shape = entry.shape
    if entry.dtype.kind not in "uif":
        raise RejectedFile(f"array '{entry.name}' is of type {entry.dtype}; whole or floating-point numbers are read")
    axis = 0 if ours and len(shape) > 2 else channel_axis(shape)
    if len(shape) not in (2, 3, 4) or (len(shape) == 4 and axis is None):
        raise RejectedFile(f"array '{entry.name}' has shape {shape}; (slices,) rows, columns (, channels) are read")
    size, channels = without_channels(shape, axis)
    check_size(size, channels=channels, itemsize=entry.dtype.itemsize)
    return size, channels, axis


def channel_axis(shape: tuple[int, ...], named: int = 0) -> int | None:
    """Which axis of an image is its channels: the last (-1), the first (0), or none.

    named: how many channels the file names, 0 where it names none
    """
    if len(shape) < 3:
        return None
    if shape[-1] <= MOST_CHANNELS or shape[-1] == named:
        return -1
    if shape[0] == named or (not named and shape[0] <= MOST_CHANNELS):
        return 0
    return None


def without_channels(shape: tuple[int, ...], axis: int | None) -> tuple[tuple[int, ...], int]:
    """The shape without the axis of its channels, and their number."""
    return (shape, 1) if axis is None else (shape[:-1] if axis else shape[1:], shape[axis])


def channels_first(values: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """An image as (c, *space)."""
    return values[None] if axis is None else np.moveaxis(values, axis, 0)


def guessed(channels: int, axis: int | None) -> tuple[str, ...]:
    """What to note of channels that nothing names before rows and columns: they could be slices."""
    if axis != 0 or channels == 1:
        return ()
    return (f"an axis of {channels} before rows and columns is taken for channels; volumes of {channels} slices are "
            "told by a further last axis of 1",)


def channel_names(channels: int) -> tuple[str, ...]:
    """What channels are called where nothing says it."""
    return {1: GREY, 3: RGB}.get(channels, tuple(f"channel {number}" for number in range(1, channels + 1)))


def _mark(path: Path, found: dict[str, Entry]) -> Marked | None:
    entry = found.get("synthetic")
    if entry is None or entry.shape != () or entry.dtype.kind != "U":
        return None
    return parse_mark(str(load(path, "synthetic")))
