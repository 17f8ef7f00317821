"""Writes drawn images, and their masks if there are some, in one of the formats; yields the rows of samples.csv."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap
from radsynth.errors import DataError, MissingExtra, SettingsError
from radsynth.files import write_csv
from radsynth.image import RGB, Image, ImageSpec
from radsynth.io import Provenance, format_module, formats, scans, write, write_labels
from radsynth.io._geometry import placed
from radsynth.progress import track
from radsynth.settings import nearest
from radsynth.verbs._report.words import privacy_bound

Row = dict[str, object]
PICTURES = {"png": ".png", "tiff": ".tiff"}
"""What `picture` can be told to be."""
LONGEST = 200
"""Bytes of a class's folder, of the 255 that file systems take; a longer name ends in a hash of the whole."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Images (n, c, *space) in [-1, 1], class indices (n,), -1 without; masks (n, *space), None without.

    redrawn: (n,) how often each was drawn again; None where no filter asked for it
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8] | None = None
    redrawn: NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What is told of every image: its specification and intensities, facts of the weights, the seed.

    origin: what images are made from, for readers
    """

    spec: ImageSpec
    intensity: IntensityMap
    facts: dict[str, Any]
    seed: int
    origin: str

    def all(self, chunks: Iterator[Drawn], folder: Path, format: str, first: int, count: int) -> Iterator[list[Row]]:
        """Write the images `first` to `count` (and their masks, in the folder `masks` as the image in `images`); the
        rows of each."""
        if format == "npz":
            yield from ([row] for row in self._npz(list(chunks), folder))
            return
        names, suffix = self.spec.labels, _suffix(format, self.spec)
        mask_suffix = _suffix(format, dataclasses.replace(self.spec, bits=8))
        singles = track(_singles(chunks), count - first, "writing", "images")
        for index, (values, label, mask, more) in enumerate(singles, start=first):
            within = folder_name(names[label]) if label >= 0 else ""
            provenance = self._provenance(index)
            files = _write(self._image(values), folder / "images" / within / f"{index:06d}{suffix}", provenance, format)
            if mask is not None:
                path = folder / "masks" / within / f"{index:06d}{mask_suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                (file,) = write_labels(self._mask(mask), path, provenance=provenance, format=module_of(format),
                                       names=self.spec.label_names(), of=files)[:1]
                more = {"mask": file.relative_to(folder).as_posix(), **more}
            yield [{"file": file.relative_to(folder).as_posix(), "index": index, "seed": self.seed,
                    "label": names[label] if label >= 0 else "", **more} for file in files]

    def _npz(self, chunks: list[Drawn], folder: Path) -> Iterator[Row]:
        """One file in MedMNIST's layout: train_images (n, *space[, c]), train_labels (n, 1), names, the mark."""
        images = real_values(np.concatenate([one.images for one in chunks]), self.spec, self.intensity)
        labels = np.concatenate([one.labels for one in chunks])
        images = images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)
        mark = {"synthetic": True, **vars(self._provenance(0))}
        masks = [one.masks for one in chunks if one.masks is not None]
        more: dict[str, Any] = {"train_masks": np.concatenate(masks)} if masks else {}
        told: Row = {"mask": "synthetic.npz"} if masks else {}
        filtered = [row for one in chunks for row in _redrawn(one)]
        np.savez_compressed(folder / "synthetic.npz", train_images=images, train_labels=labels[:, None],
                            classes=np.asarray(self.spec.labels, dtype=str), channels=np.asarray(self.spec.channels),
                            synthetic=np.asarray(json.dumps(mark)),
                            **more)
        for index, (label, more) in enumerate(zip(labels, filtered, strict=True)):
            yield {"file": "synthetic.npz", "index": index, "seed": self.seed,
                   "label": self.spec.labels[label] if label >= 0 else "", **told, **more}

    def _provenance(self, index: int) -> Provenance:
        virtual = " It was trained on a virtual cohort, not on patients." if self.spec.virtual else ""
        text = (f"Synthetic image {index}, made by a radsynth generator from {self.origin} (seed {self.seed}). Not a "
                f"patient.{virtual}")
        if bound := privacy_bound(self.facts):
            text += f" Trained with differential privacy: {bound}."
        span = self.intensity.span
        low, high = self.spec.window or span
        several = self.intensity.ranges and not self.spec.window  # one window cannot show them
        return Provenance(model=self.facts["model"], weights=self.facts["sha256"], seed=self.seed, index=index,
                          description=text, window=None if several else (low, high), span=span)

    def _image(self, values: NDArray[np.float32]) -> Image:
        spec = self.spec
        return Image(pixels=real_values(values, spec, self.intensity), modality=spec.modality, units=spec.units,
                     bits=spec.bits, spacing=spec.spacing, channels=spec.channels, affine=self._affine(),
                     laid=spec.laid, flat=spec.flat)

    def _mask(self, mask: NDArray[np.uint8]) -> Image:
        return Image(pixels=mask[None], modality=self.spec.modality, spacing=self.spec.spacing, channels=("mask",),
                     affine=self._affine(), laid=self.spec.laid, flat=self.spec.flat)

    def _affine(self) -> NDArray[np.float64] | None:
        spec = self.spec
        known = spec.spacing is not None and spec.directions is not None
        return placed(spec.size, spec.spacing or (), spec.directions or ()) if known else None


def check_name(format: str | None) -> None:
    """SettingsError for the name of no format that images can be written in; it says which there are, and the nearest
    one: by its spelling, else by what files end in.
    """
    known = (*formats(), *PICTURES)
    if format is None or format in known:
        return
    name = format.lower().lstrip(".")
    ends = next((one for one in formats() if f".{name}" in format_module(one).SUFFIXES), "")
    hint = nearest(name, known) or nearest("png" if ends == "picture" else ends, known)
    lossy = " JPEG is read, but not written: it changes grey values." if name in ("jpg", "jpeg") else ""
    raise SettingsError(f"there is no format {format!r} to write{hint}; the formats are {', '.join(known)} (picture is "
                        f"png, or tiff for what png cannot hold).{lossy}")


def check_format(spec: ImageSpec, format: str) -> None:
    """SettingsError where a format cannot hold images as `spec` says: a blank one is written into a scratch folder."""
    blank = Image(pixels=np.zeros((len(spec.channels), *spec.size), np.uint8), modality=spec.modality,
                  spacing=spec.spacing, channels=spec.channels)
    mark = Provenance(model="", weights="", seed=0, index=0, description="")
    with tempfile.TemporaryDirectory(prefix="radsynth-") as folder:
        try:
            _write(blank, Path(folder) / f"blank{_suffix(format, spec)}", mark, format)
        except (DataError, MissingExtra) as error:
            raise SettingsError(f"generate.format={format}: {error}") from None


def usual_format(spec: ImageSpec) -> str:
    """The sources' format, or NIfTI where that cannot hold the channels: several contrasts are no colours."""
    channels = len(spec.channels)
    holds = channels == 1 or (spec.channels == RGB if spec.format == "dicom" else channels == 3)
    return spec.format if holds or spec.format == "npz" else "nifti"


def _singles(chunks: Iterator[Drawn]) -> Iterator[tuple[NDArray[np.float32], int, NDArray[np.uint8] | None, Row]]:
    for chunk in chunks:
        for k, (image, label, told) in enumerate(zip(chunk.images, chunk.labels, _redrawn(chunk), strict=True)):
            yield image, int(label), None if chunk.masks is None else chunk.masks[k], told


def _redrawn(chunk: Drawn) -> list[Row]:
    """What samples.csv says of the filter, image by image."""
    return [{} for _ in chunk.labels] if chunk.redrawn is None else [{"redrawn": int(n)} for n in chunk.redrawn]


def _write(image: Image, path: Path, provenance: Provenance, format: str) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(image, path, provenance=provenance, format=module_of(format))


def module_of(format: str) -> str:
    """The module of `io` that writes a format that can be asked for."""
    return "picture" if format in PICTURES else format


def _suffix(format: str, spec: ImageSpec) -> str:
    """The usual ending, but TIFF where PNG cannot hold the image and was not asked for."""
    if format in PICTURES:
        return PICTURES[format]
    if format == "picture" and (spec.dimensions == 3 or spec.bits > 16):
        return ".tiff"
    return format_module(format).SUFFIXES[0]


def folder_name(label: str) -> str:
    """A class name as a folder: nothing that could leave the folder or that a file system refuses."""
    name = "".join(c if c.isalnum() or c in "-_ ." else "_" for c in label).strip(". ") or "_"
    if len(name.encode()) <= LONGEST:
        return name
    start = name.encode()[:LONGEST].decode(errors="ignore").strip(". ")
    return f"{start}~{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def real_values(images: NDArray[np.float32], spec: ImageSpec, intensity: IntensityMap) -> NDArray[np.generic]:
    """Network values ([n,] c, *space) as real values in the source's integer type, or a larger one that holds their
    range; floating point for 32 bits. Volumes' formats hold signed numbers as a rule, also where none is negative.
    """
    axis = images.ndim - 1 - spec.dimensions
    values = np.stack([one.decode(channel) for one, channel in zip(
        intensity.of_channels(images.shape[axis]), np.moveaxis(images, axis, 0), strict=True)], axis)
    if spec.bits > 16:
        return values
    low, high = intensity.span
    signed = spec.units == "HU" or low < 0
    kinds = (np.int16, np.int32) if signed else (np.uint8, np.uint16, np.int32) if spec.bits <= 8 else (
        np.int16, np.uint16, np.int32) if spec.format in scans() else (np.uint16, np.int32)
    ends = round(low), round(high)
    return np.rint(values).astype(next(kind for kind in kinds if all(
        np.iinfo(kind).min <= end <= np.iinfo(kind).max for end in ends)))


def write_table(path: Path, rows: list[Row]) -> None:
    """Rows as CSV; those that an older version has begun a folder with may lack columns."""
    head = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(path, head, ([row.get(name, "") for name in head] for row in rows))
