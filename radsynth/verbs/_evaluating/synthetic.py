"""Reads a folder of synthetic images back, on the scale of the prepared data that they are compared with."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap, Prepared
from radsynth.errors import DataError, FolderError, RejectedFile
from radsynth.image import Image, ImageSpec
from radsynth.io import NotAnImage, detect, read
from radsynth.io.dicom import SUFFIXES
from radsynth.io.npz import MOST_CHANNELS, channel_names, entries
from radsynth.metrics._features import Rows
from radsynth.progress import track
from radsynth.run_folder import RunFolder
from radsynth.settings import constant, kinds
from radsynth.verbs._evaluating.sides import PreparedRows, all_of, refuse_overlap
from radsynth.verbs._made_before import MADE, REQUEST

MOST_OUTSIDE = 0.25
"""Share of the pixels that may lie outside of the real images' scale."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """Images as stored integers, each (c, *space): thousands take a quarter or half of the memory of those asked for,
    which are (n, c, *space) float32 in [-1, 1]."""

    stored: list[NDArray[Any]]
    intensity: IntensityMap

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.float32]:
        return self.intensity.to_network(np.stack([self.stored[int(row)] for row in rows]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Synthetic:
    """Images (n, c, *space) in [-1, 1] and their class indices (n,), -1 where samples.csv names no class."""

    images: Rows
    labels: NDArray[np.int64]


def read_set(folder: Path, spec: ImageSpec, intensity: IntensityMap) -> Synthetic:
    """As `read_synthetic`, with classes; a run folder stands for its RUN/synthetic."""
    folder = _of_run(folder)
    images = read_synthetic(folder, spec, intensity)
    return Synthetic(images=images, labels=_labels(folder, len(images), spec.labels))


def read_synthetic(folder: Path, spec: ImageSpec, intensity: IntensityMap) -> Stored:
    """All images of the folder, in the order of samples.csv (else of the file names).

    FolderError when there is no such folder or a listed file is missing, DataError for files that cannot be compared:
    of another size, in other units, or with values of another range.
    """
    folder = _of_run(folder)
    found, lowest, highest, outside = [], math.inf, -math.inf, []
    own = intensity.of_channels(len(spec.channels))
    low, high = (np.asarray(ends).reshape(-1, *[1] * spec.dimensions) for ends in zip(
        *((one.low, one.high) for one in own), strict=True))
    margin = 0.05 * (high - low)
    for path in track(_places(folder, spec.dimensions == 3), label="reading", unit="images"):
        for shown in _read(path, folder, spec.dimensions):
            image = shown.for_channels(spec.channels)
            found.append(_encoded(image, folder.name / path.relative_to(folder), spec, intensity))
            lowest, highest = min(lowest, float(image.pixels.min())), max(highest, float(image.pixels.max()))
            beyond = (image.pixels < low - margin) | (image.pixels > high + margin)
            outside.append(float(beyond.mean()))
    _same_range(folder, lowest, highest, float(np.mean(outside)), intensity, spec.units)
    return Stored(stored=found, intensity=intensity)


def first_image(folder: Path) -> Image:
    """The first image of the folder, which tells the size of all."""
    folder = _of_run(folder)
    return next(image for path in _places(folder) for image in _read(path, folder))


def refuse_trained_on(folder: Path, prepared: Prepared, held_out: NDArray[np.int64]) -> None:
    """DataError when images to compare with were in the training of the run that the synthetic images come from.

    Known when the run's prepared data is still in its folder, at the same size and scale of intensities.
    """
    folder = Path(folder).resolve()
    run = next((place for place in (folder, folder.parent) if (place / "data" / "manifest.json").exists()), None)
    if run is None:
        return
    trained = Prepared(run / "data")
    if trained.manifest.data_hash == prepared.manifest.data_hash or trained.spec.size != prepared.spec.size:
        return
    kinds = {"held_out": (prepared, held_out), "training": (trained, trained.indices("train"))}
    sides = {}
    for name, (source, rows) in kinds.items():
        sides[name] = all_of(PreparedRows(prepared=source, rows=rows))
    refuse_overlap(sides["held_out"], sides["training"], f"the training images of {run}")


def _of_run(folder: Path) -> Path:
    """RUN/synthetic for a run folder, any other folder as it is."""
    folder = Path(folder)
    if not (folder / "spec.json").exists():
        return folder
    if not (folder / "synthetic").is_dir():
        kind = RunFolder(folder, writes=False).settings().get("task", {}).get("kind", "")
        if kind in kinds("tasks") and constant("tasks", kind, "RESULTS"):
            raise FolderError(f"{folder} is a run of task.kind={kind}, which makes images from images: what 'radsynth "
                              "run' measured stands in its report. To compare such images with real ones, make some "
                              f"with 'radsynth apply {folder} INPUT OUT' and give OUT.")
        raise FolderError(f"{folder} is a run folder without synthetic images. Make some first: 'radsynth generate "
                          f"{folder} {folder / 'synthetic'} --count 1000'.")
    return folder / "synthetic"


def classes_of(folder: Path) -> list[str]:
    """The class of every image that samples.csv lists, "" for none; an image of several files is listed once."""
    rows = _rows(folder / "samples.csv")
    return list({row.get("index") or str(k): row.get("label") or "" for k, row in enumerate(rows)}.values())


def _rows(table: Path) -> list[dict[str, str]]:
    """FolderError for a table that cannot be read, or whose last row was cut."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        rows = None
    if rows is None or any(None in row.values() for row in rows):
        raise FolderError(f"{table} cannot be read, or was cut. Repeat the command that made the images.")
    return rows


def _labels(folder: Path, count: int, names: tuple[str, ...]) -> NDArray[np.int64]:
    """Class indices by samples.csv; -1 for all without it."""
    none = np.full(count, -1, dtype=np.int64)
    if not names or not (folder / "samples.csv").exists():
        return none
    given = classes_of(folder)
    if len(given) != count:
        return none
    return np.asarray([names.index(label) if label in names else -1 for label in given], dtype=np.int64)


def _same_range(folder: Path, low: float, high: float, outside: float, intensity: IntensityMap, units: str) -> None:
    """DataError for values that cannot be on the real images' scale: many outside, or all in a hundredth of it.

    outside: share of the pixels
    """
    lowest, highest = intensity.span
    shared = min(high, highest) - max(low, lowest)
    if shared >= 0.01 * (highest - lowest) and outside <= MOST_OUTSIDE:
        return
    raise DataError(
        f"{folder} holds values from {low:.6g} to {high:.6g}, the real images are on a scale from {lowest:.6g} "
        f"to {highest:.6g} ({'grey levels' if units == 'stored' else units}). Write the synthetic images in the "
        "units of the real ones."
    )


def _places(folder: Path, volumes: bool = False) -> list[Path]:
    """What is read as an image: each file that samples.csv lists, or the folder of the files that are one volume's
    slices; without the table every visible image file in it and in its sub-folders, of `volumes` in DICOM their
    folders.
    """
    if not folder.is_dir():
        why = "is not a folder" if folder.exists() else "does not exist"
        raise FolderError(f"{folder} {why}. Give the folder that 'radsynth generate' wrote.")
    if (folder / "manifest.json").exists() and (folder / "records.csv").exists():
        raise FolderError(f"{folder} is a prepared folder, of real images. Give the synthetic ones: the folder that "
                          "'radsynth generate' wrote.")
    table = folder / "samples.csv"
    if table.exists():
        return _listed(folder, table)
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
                   and _may_be_image(path))
    if not found:
        raise DataError(f"{folder} holds no images. Give the folder that 'radsynth generate' wrote.")
    if not volumes:
        return found
    series = {path.parent for path in found if path.name.lower().endswith(SUFFIXES)}
    whole = {one for one in series if not series & set(one.parents)}  # reading a folder reads what is below it too
    return sorted({next((one for one in path.parents if one in whole), path) for path in found})


def _may_be_image(path: Path) -> bool:
    """Not a text, or what else lies beside images, such as the pixels of a MetaImage header."""
    try:
        detect(path)
    except NotAnImage:
        return False
    except RejectedFile:
        pass  # reading it says what is wrong
    return True


def _listed(folder: Path, table: Path) -> list[Path]:
    """The files of a table, or the folders of volumes, each once. FolderError when one is not there, and where the
    table lacks images that lie beside those it lists: it was cut, and they would pass for all.
    """
    rows, root = _rows(table), folder.resolve()
    files = [folder / (row.get("file") or "") for row in rows]
    missing = [path for path in files if not path.is_file() or not path.resolve().is_relative_to(root)]
    if missing:
        raise FolderError(f"{len(missing)} of the files that {table} lists {'is' if len(missing) == 1 else 'are'} not "
                          f"in {folder}, first {missing[0].name}. Generate the images again.")
    if not files:
        raise DataError(f"{table} lists no files. Generate the images again.")
    made = folder / "images" if any((folder / name).is_file() for name in (REQUEST, MADE)) else None
    endings = {path.suffix for path in files}  # of images, not of what file managers leave beside them
    more = {path for path in made.rglob("[!.]*") if path.suffix in endings and path.is_file()} if made else set()
    if unlisted := more.difference(files):
        raise FolderError(f"{table} does not list {len(unlisted)} of the files in {made}, such as "
                          f"{min(unlisted).name}: it was cut, or they came later. Repeat the command that made the "
                          "images, or remove those.")
    images: dict[str, set[Path]] = {}
    for k, (row, path) in enumerate(zip(rows, files, strict=True)):
        images.setdefault(row.get("index") or str(k), set()).add(path)
    return list(dict.fromkeys(min(found).parent if len(found) > 1 else min(found) for found in images.values()))


def _read(path: Path, folder: Path, dimensions: int | None = None) -> list[Image]:
    try:
        found = _read_stack(path, dimensions) if path.name == "synthetic.npz" else read(path)
    except RejectedFile as error:
        raise DataError(f"{path.relative_to(folder)} cannot be used: {error}.") from None
    return found if isinstance(found, list) else [found]


def _read_stack(path: Path, dimensions: int | None) -> list[Image]:
    """The images of the one npz that `generate` writes, in MedMNIST's layout (n, *space[, c])."""
    if "train_images" not in entries(path):
        raise RejectedFile("it holds no array train_images")
    with np.load(path, allow_pickle=False) as file:
        stack = file["train_images"]
    few = stack.ndim == 5 or (stack.ndim == 4 and stack.shape[-1] <= MOST_CHANNELS)
    if few if dimensions is None else stack.ndim == dimensions + 2:
        stack = np.moveaxis(stack, -1, 1)
    else:
        stack = stack[:, None]
    names = channel_names(stack.shape[1])
    return [Image(pixels=pixels, channels=names) for pixels in stack]


def _encoded(image: Image, name: Path, spec: ImageSpec, intensity: IntensityMap) -> NDArray[Any]:
    if len(image.channels) != len(spec.channels):
        raise DataError(f"{name} has the channels {', '.join(image.channels)}, the real images have "
                        f"{', '.join(spec.channels)}. Compare images of the same channels: 'radsynth prepare' with "
                        "prepare.channels=grey makes colour grey, and its folder can be given for the real images.")
    if image.space != spec.size:
        raise DataError(f"{name} has the size {image.space}, the real images have {spec.size}. "
                        "Compare with data that was prepared at the synthetic images' size.")
    if image.units != spec.units and image.units != "stored":
        raise DataError(f"{name} is in {image.units}, the real images are in {_spoken(spec.units)}. "
                        "Compare images of one unit.")
    own = intensity.of_channels(len(spec.channels))
    return np.stack([one.encode(channel) for one, channel in zip(own, image.pixels, strict=True)])


def _spoken(units: str) -> str:
    return "their files' own numbers" if units == "stored" else units
