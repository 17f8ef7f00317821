"""What all tests share: one thread a process, and real files where this machine has them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# Before torch and OpenMP are loaded: tests run side by side, and results must not depend on the number of cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from numpy.typing import NDArray

from radsynth.arrays import ROW_FIELDS, IntensityMap, Manifest, Prepared, Row
from radsynth.image import ImageSpec


def pytest_configure(config: pytest.Config) -> None:
    """A GPU is hidden from all tests but those of `-m gpu`: the others expect a processor's results, bit for bit."""
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real public images: $RADSYNTH_TEST_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("RADSYNTH_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set RADSYNTH_TEST_DATA to a folder of them")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture
def make_prepared(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a small prepared folder: bright discs on black, one class for each radius.

    With several `channels` every second one is the negative of the first. `more` goes into the specification.
    """

    def make(n: int = 48, size: tuple[int, ...] = (16, 16), labels: tuple[str, ...] = (), name: str = "data",
             channels: tuple[str, ...] = ("grey",), **more: Any) -> Path:
        images, classes = _discs(n, size, max(len(labels), 1))
        folder = tmp_path / name
        (folder / "shards").mkdir(parents=True)
        stored = np.stack([255 - images if c % 2 else images for c in range(len(channels))], axis=1)
        np.save(folder / "shards" / "00000.images.npy", stored)
        splits = ["train" if i % 3 else "test" for i in range(n)]
        rows = [
            Row(split=split, label=int(label) if labels else -1, patient=f"p{i}", shard=0, row=i, low=0, high=255)
            for i, (split, label) in enumerate(zip(splits, classes, strict=True))
        ]
        with (folder / "records.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ROW_FIELDS)
            table.writeheader()
            table.writerows(vars(row) for row in rows)
        counts = {split: splits.count(split) for split in ("train", "test")}
        manifest = Manifest(
            spec=ImageSpec(size=size, labels=labels, channels=channels, **more),
            intensity=IntensityMap(method="bits", low=0, high=255, levels=255),
            counts=counts, patients=counts, shard_size=n, source_hash="source", data_hash="data",
        )  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def without_masks() -> Callable[[Path, Iterable[int]], Prepared]:
    """A function that takes the masks of some images of a prepared folder away."""

    def take(folder: Path, rows: Iterable[int]) -> Prepared:
        """A prepared folder whose images `rows` have lost their masks: what is stored there must not count."""
        with (folder / "records.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        masks = np.load(folder / "shards" / "00000.masks.npy")
        for row in rows:
            lines[row]["masked"] = "0"
            masks[row] = masks.max()
        np.save(folder / "shards" / "00000.masks.npy", masks)
        with (folder / "records.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(lines[0]))
            table.writeheader()
            table.writerows(lines)
        document = json.loads((folder / "manifest.json").read_text())
        document["spec"]["partly_masked"] = True
        (folder / "manifest.json").write_text(json.dumps(document))
        return Prepared(folder)

    return take


def _discs(n: int, size: tuple[int, ...], classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    grid = np.stack(np.meshgrid(*[np.arange(side) for side in size], indexing="ij"))
    images = []
    for label in labels:
        centre = [side * rng.uniform(0.35, 0.65) for side in size]
        distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)))
        disc = np.clip((min(size) * (0.2 + 0.1 * label) - distance) + 0.5, 0, 1)
        images.append(disc * rng.integers(150, 255))
    return np.stack(images).astype(np.uint8), labels
