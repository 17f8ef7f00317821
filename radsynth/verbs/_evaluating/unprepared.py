"""Real images that nobody prepared: half of the patients to compare with, half for the floor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from radsynth.arrays import Prepared
from radsynth.datasets import dataset, recognise
from radsynth.errors import DataError
from radsynth.settings import resolve
from radsynth.verbs.prepare import prepare


def prepare_halves(real: Path, size: tuple[int, ...], folder: Path) -> tuple[Prepared, list[str]]:
    """Images of any kind, prepared at the synthetic images' size, and what a reader must know of that.

    DataError when all of them are smaller than that.
    """
    options = {"size": list(size), "train": 0.5, "validation": 0.0, "official": False, "masks": "off"}
    data: dict[str, Any] = {"kind": recognise(real), "path": str(real)}
    if data["kind"] == "folder" and len(size) == 3:
        data["plane"] = "volume"
    settings = resolve({"data": data, "prepare": options}, sections=("data", "prepare"))
    notes = _brought_down(real, settings.section("data"), size)
    prepared = prepare(settings.section("data"), folder, settings=settings)
    counts = prepared.manifest.counts
    return prepared, [*notes, f"Of the {len(prepared.rows):,} real images {counts['train']:,} were kept for the floor, "
                              f"so that {counts['test']:,} were left to compare with."]


def _brought_down(real: Path, section: Any, size: tuple[int, ...]) -> list[str]:
    """What is said of larger images, by the headers; smaller ones would be compared with a border around them."""
    headers = [record.header for record in dataset(section.kind).records(section, [])]
    sizes = [header.size for header in headers if header is not None and len(header.size) == len(size)]
    if not sizes:
        return []
    largest = np.max(sizes, axis=0)
    had, wanted = (" x ".join(map(str, sides)) for sides in (largest, size))
    if (largest < size).all():
        raise DataError(f"The real images in {real} have at most {had} pixels, the synthetic ones {wanted}. Compare "
                        "images of one size: with the real images that the generator learned from, or generate smaller "
                        "ones.")
    if (largest == size).all():
        return []
    return [f"The real images (up to {had} pixels) were brought to the size of the synthetic ones, {wanted}: finer "
            "details were not compared."]
