"""One npz file that is a whole data set: MedMNIST's layout (Yang et al. 2023), or plain images, labels and masks.

train_images, train_labels, val_images, ..., test_labels: the official split is kept
images[, labels[, classes]][, masks][, names]: no official split; `names` may hold the patient
Images are (n, rows, columns) or (n, slices, rows, columns), either with channels last or before the others; labels (n,)
or (n, 1), classes or numbers; (n, classes), one-hot: a single 1 in each row; or (n, findings), as in ChestMNIST.
An axis of up to 4, last or behind n, is channels; a longer one where the array `channels` names as many.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from radsynth.datasets import Record, Rejected
from radsynth.datasets._layout import PATIENT, Modality, compiled, patient_in
from radsynth.datasets._stack_labels import Labels, check, read_labels, without_one_hot
from radsynth.datasets._volumes import as_modality
from radsynth.errors import DataError, RejectedFile
from radsynth.files import scratch_folder
from radsynth.image import Image, bits_of
from radsynth.io import Header
from radsynth.io._not_finite import without_nan
from radsynth.io.npz import Entry, channel_axis, channel_names, channels_first, entries, guessed, without_channels
from radsynth.io.npz import labels as label_values
from radsynth.settings import settings as section

PARTS = {"train": "train", "val": "validation", "test": "test"}
LIMIT = 200 * 2**30
"""Bytes of one array, which is unpacked to disk and never held whole."""


@section
class Settings:
    """One npz file in MedMNIST's layout, or with images, labels and masks."""

    kind: Literal["medmnist"] = "medmnist"
    path: Path
    """The npz file."""
    modality: Modality = ""
    """DICOM's code (CT, MR, DX, ...), which the file does not say."""
    patient_pattern: str = PATIENT
    """Regular expression with a group (?P<patient>...), sought in each text of the array `names`; empty: a patient an
    image."""
    class_names: tuple[str, ...] = ()
    """A name for each label number, or for each of several labels an image; empty: the file's own `classes`, else the
    numbers, or label0, label1, ..."""
    conditions: tuple[str, ...] = ()
    """Labels to learn as numbers in place of classes, so that they can be asked for: `label` where there is one an
    image, class_names where there are several (ChestMNIST's findings, 1 or 0)."""


ALONE = ("a patient of its own, because no text in an array `names` of the file says which it is of (as patient12, "
         "sub-3 or case_4 do; data.patient_pattern says how others read): images of one patient may be in training and "
         "test")
"""What is said of images of which only the user knows whether they are of one patient."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One stack of images with what belongs to it, as array names; "" where there is none."""

    split: str | None
    images: str
    labels: str
    masks: str
    names: str


def matches(path: Path) -> bool:
    """An npz with train_images, or with a stack of images under the name `images`."""
    path = Path(path)
    if path.suffix.lower() != ".npz" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            found = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
    return bool({"train_images.npy", "images.npy"} & found)


def records(settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    """Every image in the file's order: train, validation, test. DataError when the file has another layout."""
    path = Path(settings.path)
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file. Give a MedMNIST npz file.")
    try:
        found = entries(path, LIMIT)
    except RejectedFile as error:
        raise DataError(f"{path} cannot be used: {error}") from None
    named = _named(path, found)
    return _records(path, settings, _parts(path, found, named), found, named, rejected)


def example(folder: Path) -> Settings:
    """Three images of two classes with an official split."""
    images = (np.arange(3 * 16 * 14).reshape(3, 16, 14) % 251).astype(np.uint8)
    labels = np.array([[0], [1], [0]], dtype=np.uint8)
    arrays: dict[str, Any] = {
        f"{part}_{kind}": array[index : index + 1]
        for index, part in enumerate(PARTS)
        for kind, array in (("images", images), ("labels", labels))
    }
    np.savez_compressed(folder / "examplemnist.npz", **arrays)
    return Settings(path=folder / "examplemnist.npz")


def _parts(path: Path, found: dict[str, Entry], named: tuple[str, ...]) -> list[Part]:
    def has(name: str) -> str:
        return name if name in found else ""

    parts = [
        Part(split=split, images=f"{name}_images", labels=has(f"{name}_labels"), masks=has(f"{name}_masks"), names="")
        for name, split in PARTS.items()
        if f"{name}_images" in found
    ]
    if not parts and "images" in found:
        parts = [Part(split=None, images="images", labels=has("labels"), masks=has("masks"), names=has("names"))]
    if not parts:
        raise DataError(
            f"{path} holds {', '.join(sorted(found))[:200]}; needed are train_images, ... (MedMNIST) or images"
        )
    for part in parts:
        _check_shapes(path, part, found, len(named))
    return parts


def _check_shapes(path: Path, part: Part, found: dict[str, Entry], named: int) -> None:
    """DataError unless images and what belongs to them fit together. named: how many channels the file names."""
    entry = found[part.images]
    if entry.dtype.kind not in "uif" or len(entry.shape) not in (3, 4, 5) or min(entry.shape) < 1:
        raise DataError(
            f"{path}: {part.images} has shape {entry.shape} and type {entry.dtype}; "
            "numbers (n, [slices,] rows, columns[, channels]) are read"
        )
    for name in (part.labels, part.masks, part.names):
        if name and (not found[name].shape or found[name].shape[0] != entry.shape[0]):
            raise DataError(f"{path}: {part.images} holds {entry.shape[0]} images, {name} {found[name].shape}")
    axis = channel_axis(entry.shape[1:], named)
    if len(entry.shape) == 5 and axis is None:
        raise DataError(f"{path}: {part.images} has shape {entry.shape}, and nothing tells which axis is channels: "
                        "more than four need a name each, in an array of texts `channels`")
    n, (space, count) = entry.shape[0], without_channels(entry.shape[1:], axis)
    shapes = (n, *space), (n, 1, *space), (n, *space, 1)
    if part.masks and (found[part.masks].dtype.kind not in "uib" or found[part.masks].shape not in shapes):
        vague = "".join(f" ({note})" for note in guessed(count, axis) if not named)
        raise DataError(f"{path}: {part.masks} must be whole numbers of shape {shapes[0]}{vague}")


def _named(path: Path, found: dict[str, Entry]) -> tuple[str, ...]:
    """What the file calls its channels, () when it does not."""
    told = "channels" in found and found["channels"].dtype.kind == "U" and len(found["channels"].shape) == 1
    return tuple(str(name) for name in _array(path, "channels")) if told else ()


def _records(path: Path, settings: Settings, parts: list[Part], found: dict[str, Entry], named: tuple[str, ...],
             rejected: list[Rejected]) -> Iterator[Record]:
    names = settings.class_names
    if not names and "classes" in found and found["classes"].dtype.kind == "U":
        names = tuple(str(name) for name in _array(path, "classes"))
    pattern = compiled(settings.patient_pattern, "patient_pattern")
    arrays = without_one_hot({part: _array(path, part.labels) for part in parts if part.labels})
    labels_of = {part: read_labels(arrays[part], names, f"{path}: {part.labels}") if part in arrays else Labels()
                 for part in parts}
    check(settings.conditions, labels_of.values())
    for part, labels in labels_of.items():
        entry = found[part.images]
        patients = _array(path, part.names) if part.names and found[part.names].dtype.kind == "U" else None
        axis = channel_axis(entry.shape[1:], len(named))
        space, count = without_channels(entry.shape[1:], axis)
        channels = named if len(named) == count else channel_names(count)
        header, vague = _header(entry, space, count, settings), () if named else guessed(count, axis)
        images, masks = _unpacked(path, part.images), _unpacked(path, part.masks) if part.masks else ""
        for index in range(entry.shape[0]):
            source = f"{part.images}/{index:06d}"
            name = str(patients[index]) if patients is not None else ""
            told = patient_in(name, pattern)
            notes = [*vague, *([ALONE] if pattern and not told and not part.split else [])]
            notes += [labels.note] if labels.note and not settings.conditions else []
            numbers = labels.at(index, settings.conditions)
            if lacking := [one for one in settings.conditions if one not in numbers]:
                rejected.append(Rejected(path=source, reason=f"it has no number for {', '.join(lacking)}, which "
                                         "data.conditions asks for"))
                continue
            yield Record(
                source=f"{source} ({name})" if name else source,
                patient=told or source,
                label=labels.classes[index] if labels.classes and not settings.conditions else None,
                split=part.split,
                conditions=numbers,
                header=replace(header, notes=tuple(notes)),
                files=(str(path),),
                load=partial(load_row, images, masks, index, axis, channels, header.modality),
            )


def _header(entry: Entry, space: tuple[int, ...], channels: int, settings: Settings) -> Header:
    header = Header(format="npz", size=space, channels=channels, bits=bits_of(entry.dtype))
    return as_modality(header, settings.modality)


def load_row(images: str, masks: str, index: int, axis: int | None, channels: tuple[str, ...],
             modality: str, one_value: bool = False) -> Image:
    """One image of an unpacked stack, with its mask when `masks` is not "". axis: that of its channels; one_value: an
    image of one value alone, which shows nothing, will do."""
    values = np.array(_mapped(images)[index])
    values = values.astype(np.float32) if values.dtype.kind == "f" else values
    pixels, filled = without_nan(channels_first(values, axis))
    if pixels.min() == pixels.max() and not one_value:
        raise RejectedFile(f"all its pixels have the value {pixels.flat[0]}")
    image = Image(
        pixels=np.ascontiguousarray(pixels),
        channels=channels,
        bits=bits_of(values.dtype),
        filled=filled,
        mask=label_values(np.array(_mapped(masks)[index]).reshape(pixels.shape[1:])) if masks else None,
    )
    return as_modality(image, modality)


@functools.lru_cache(maxsize=8)
def _mapped(path: str) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise RejectedFile(f"its unpacked array cannot be read: {error}") from None


def _array(path: Path, name: str) -> NDArray[Any]:
    return _mapped(_unpacked(path, name))


def _unpacked(path: Path, name: str) -> str:
    """The array as an npy file that can be mapped from disk by every process; it ends with this one."""
    state = path.stat()
    return _unpack(path.resolve(), name, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _unpack(path: Path, name: str, modified: int) -> str:
    folder = scratch_folder()
    target = folder / "array.npy"
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            free = shutil.disk_usage(folder).free
            if info.file_size > 0.9 * free:
                raise DataError(
                    f"{path}: {name} unpacks to {info.file_size:,} bytes, but {tempfile.gettempdir()} has {free:,} "
                    "free. Set TMPDIR to a larger disk."
                )
            with archive.open(info) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 2**20)
    except (OSError, zipfile.BadZipFile, EOFError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {name} cannot be unpacked: {error}") from None
    return str(target)
