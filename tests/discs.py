"""A small prepared folder that tests make for themselves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import ROW_FIELDS, IntensityMap, Manifest, Row
from radsynth.image import ImageSpec


def prepared_discs(root: Path, n: int = 48, size: tuple[int, ...] = (16, 16), labels: tuple[str, ...] = (),
                   name: str = "data", channels: tuple[str, ...] = ("grey",), **more: Any) -> Path:
    """The prepared folder `root`/`name`: bright discs on black, one class for each radius.

    With several `channels` every second one is the negative of the first. `more` goes into the specification.
    """
    images, classes = _discs(n, size, max(len(labels), 1))
    folder = root / name
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


def in_patients(folder: Path, images: int) -> NDArray[np.int64]:
    """Make every so many images one patient's, and the test images of every other patient those of validation; returns
    the positions of both."""
    with (folder / "records.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    held_out = [k for k, row in enumerate(rows) if row["split"] == "test"]
    for k, row in enumerate(rows):
        row["patient"] = f"p{k // images}"
        row["split"] = "validation" if row["split"] == "test" and k // images % 2 else row["split"]
    with (folder / "records.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ROW_FIELDS)
        table.writeheader()
        table.writerows(rows)
    return np.asarray(held_out)


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
