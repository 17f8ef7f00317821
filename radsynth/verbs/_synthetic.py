"""Reads a folder of synthetic images back, on the scale of the prepared data that they are compared with."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap
from radsynth.errors import DataError, FolderError, RejectedFile
from radsynth.image import GREY, RGB, Image, ImageSpec
from radsynth.io import read
from radsynth.io.npz import entries
from radsynth.progress import track


def read_synthetic(folder: Path, spec: ImageSpec, intensity: IntensityMap) -> NDArray[np.float32]:
    """All images of the folder, (n, c, *space) in [-1, 1], in the order of samples.csv (else of the file names).

    FolderError when there is no such folder or a listed file is missing, DataError for files that cannot be compared.
    """
    files = _files(folder)
    return np.stack([_scaled(image, path.relative_to(folder), spec, intensity)
                     for path in track(files, label="reading", unit="files") for image in _read(path, folder)])


def first_image(folder: Path) -> Image:
    """The first image of the folder, which tells the size of all."""
    return next(image for path in _files(folder) for image in _read(path, folder))


def _files(folder: Path) -> list[Path]:
    """The files that samples.csv lists, each once; without it every visible file and its sub-folders'."""
    if not folder.is_dir():
        raise FolderError(f"{folder} is not a folder. Give the folder that 'radsynth generate' wrote.")
    table = folder / "samples.csv"
    if not table.exists():
        found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not found:
            raise DataError(f"{folder} holds no files. Give the folder that 'radsynth generate' wrote.")
        return found
    with table.open(encoding="utf-8", newline="") as file:
        names = list(dict.fromkeys(row.get("file") or "" for row in csv.DictReader(file)))
    root = folder.resolve()
    files = [folder / name for name in names]
    missing = [path for path in files if not path.is_file() or not path.resolve().is_relative_to(root)]
    if missing:
        raise FolderError(f"{len(missing)} files that {table} lists are not in {folder}, first {missing[0].name}. "
                          "Generate the images again.")
    if not files:
        raise DataError(f"{table} lists no files. Generate the images again.")
    return files


def _read(path: Path, folder: Path) -> list[Image]:
    try:
        found = _read_stack(path) if path.name == "synthetic.npz" else read(path)
    except RejectedFile as error:
        raise DataError(f"{path.relative_to(folder)} cannot be used: {error}.") from None
    return found if isinstance(found, list) else [found]


def _read_stack(path: Path) -> list[Image]:
    """The images of the one npz that `generate` writes, in MedMNIST's layout (n, *space[, c])."""
    if "train_images" not in entries(path):
        raise RejectedFile("it holds no array train_images")
    with np.load(path, allow_pickle=False) as file:
        stack = file["train_images"]
    colour = stack.ndim >= 4 and stack.shape[-1] == len(RGB)
    return [Image(pixels=np.moveaxis(pixels, -1, 0) if colour else pixels[None], channels=RGB if colour else GREY)
            for pixels in stack]


def _scaled(image: Image, name: Path, spec: ImageSpec, intensity: IntensityMap) -> NDArray[np.float32]:
    shape, wanted = image.pixels.shape, (len(spec.channels), *spec.size)
    if shape != wanted:
        raise DataError(f"{name} has the shape {shape} (channels, *size), the real images have {wanted}. "
                        "Compare with data that was prepared at the synthetic images' size.")
    return intensity.to_network(intensity.encode(image.pixels))
