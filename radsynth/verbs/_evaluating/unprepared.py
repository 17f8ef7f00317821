"""Real images that nobody prepared: as those of the run were, where the synthetic images lie in one; else as they are.

Half of their patients are compared with, half make the floor. The folder that the run learned from stands for the run's
prepared data, so that its split holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.arrays import Prepared, spread
from radsynth.datasets import Record, dataset, recognise
from radsynth.errors import DataError, RejectedFile
from radsynth.image import Image, all_grey_in_colour
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.verbs._preparing.preparation import NOT_KEPT
from radsynth.verbs._preparing.steps import make_prepared

HALVES: dict[str, Any] = {"train": 0.5, "validation": 0.0, "official": False, "masks": "off"}

SAMPLE = 16
"""Colour images that are looked at to tell whether they are grey in truth."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Prepared real images. own: they are the run's, split as it was trained; notes: what a reader must know."""

    prepared: Prepared
    own: bool
    notes: tuple[str, ...]


def shrinks(real: Path, synthetic: Path) -> bool:
    """Whether `evaluate.shrink` is looked at: not where real images are prepared, or will be as those of a run."""
    return prepared_in(real) is None and run_of(synthetic) is None


def prepared_in(real: Path) -> Path | None:
    """The prepared folder that `real` is or, of a run folder, holds; None for other images."""
    return next((folder for folder in (real, real / "data") if (folder / "manifest.json").exists()), None)


def open_unprepared(real: Path, made: Path, first: Image, folder: Path, *, shrink: bool) -> Opened:
    """Prepare images of any kind in `folder` to be compared with those in `made`, which have the size of their first.

    shrink: whether larger images may be brought down to it. DataError for images of other sizes, and where the images
    are those that a run learned from and its split is not there.
    """
    run, size = run_of(made), first.space
    if run is None:
        records = _records(real, len(size))
        notes = _compared_sizes(records, real, made, size, shrink)
        options = {"size": list(size), "channels": "grey" if _grey(records) else "keep", **HALVES}
        if first.spacing is not None and not np.allclose(first.spacing, first.spacing[0], rtol=0.01):
            options["spacing"] = list(first.spacing)  # as squares or cubes they would show something else
            notes.append(f"The real images were brought to the pixels of the synthetic ones, {_by(first.spacing)} mm.")
        prepared = _prepared(real, {"prepare": options}, folder / "halves", len(size))
        return Opened(prepared=prepared, own=False, notes=(*notes, _halves(prepared)))
    known = run.settings()
    same = _prepared(real, known, folder / "same", len(size))
    if same.manifest.data_hash == run.description()["data_hash"]:
        return _own(run)
    prepared = _prepared(real, {**known, "prepare": {**known.get("prepare", {}), **HALVES}}, folder / "halves",
                         len(size))
    text = f"The real images were prepared as those that the run learned from ({_by(size)} pixels)."
    return Opened(prepared=prepared, own=False, notes=(text, _halves(prepared)))


def run_of(made: Path) -> RunFolder | None:
    """The run in whose folder these images lie, None elsewhere."""
    return next((RunFolder(place) for place in (made, made.resolve().parent) if RunFolder(place).begun), None)


def _own(run: RunFolder) -> Opened:
    """The run's prepared data; DataError without it."""
    if not (run.path / "data" / "manifest.json").exists():
        raise DataError(f"The real images are those that {run.path} learned from, and {run.path}/data is not there to "
                        "tell which of them it has not seen. Give the prepared folder of that training, or images of "
                        "other patients.")
    return Opened(prepared=Prepared(run.path / "data"), own=True, notes=(
        "The real images are those that the run learned from: only patients that it held out were compared with.",))


def _prepared(real: Path, known: dict[str, Any], folder: Path, dimensions: int) -> Prepared:
    """The images by the sections `data` and `prepare`; what was not kept of them is left out."""
    sections = {name: {key: value for key, value in known.get(name, {}).items() if value != NOT_KEPT}
                for name in ("data", "prepare")}
    own, data = _as_they_are(real, dimensions), sections["data"]
    sections["data"] = {**own, **(data if data.get("kind") == own["kind"] else {}), "path": str(real)}
    settings = resolve(sections, sections=("data", "prepare"))
    return make_prepared(settings.section("data"), folder, settings)


def _as_they_are(real: Path, dimensions: int) -> dict[str, Any]:
    """The section `data` of images that nobody has said anything of."""
    kind = recognise(real)
    plane = {"plane": "volume"} if kind == "folder" and dimensions == 3 else {}
    return {"kind": kind, "path": str(real), **plane}


def _records(real: Path, dimensions: int) -> list[Record]:
    section = resolve({"data": _as_they_are(real, dimensions)}, sections=("data",)).section("data")
    return list(dataset(section.kind).records(section, []))


def _grey(records: list[Record]) -> bool:
    """Whether the colour images are grey in truth, by a sample of them."""
    coloured = [record for record in records if record.header is not None and record.header.channels == 3]
    found = []
    for index in spread(len(coloured), SAMPLE):
        with suppress(RejectedFile):
            found.append(coloured[index].load())
    return all_grey_in_colour(found)


def _halves(prepared: Prepared) -> str:
    counts = prepared.manifest.counts
    return (f"Of the {len(prepared.rows):,} real images {counts['train']:,} were kept for the floor, so that "
            f"{counts['test']:,} were left to compare with.")


def _compared_sizes(records: list[Record], real: Path, made: Path, size: tuple[int, ...], shrink: bool) -> list[str]:
    """What is said of larger images, by the headers. DataError where they may not be brought down, or are smaller."""
    headers = [record.header for record in records]
    sizes = sorted({header.size for header in headers if header is not None and len(header.size) == len(size)})
    if not sizes or sizes == [size]:
        return []
    wanted, (first, last) = _by(size), (_by(sizes[0]), _by(sizes[-1]))
    had = first if len(sizes) == 1 else f"{first} to {last}"
    differ = f"The real images in {real} have {had} pixels, the synthetic ones in {made} {wanted}."
    if (np.max(sizes, axis=0) < size).all():
        raise DataError(f"{differ} Compare images of one size: with the real images that the generator learned from, "
                        "or generate smaller ones.")
    if not shrink:
        raise DataError(f"{differ} Sizes must be one. evaluate.shrink=true brings the real ones down, and finer "
                        "details are then not compared; 'radsynth prepare' does so with settings of your own "
                        f"(prepare.size={list(size)}), and its folder can be given instead.")
    return [f"The real images ({had} pixels) were brought to the size of the synthetic ones, {wanted}: finer details "
            "were not compared."]


def _by(sides: Sequence[float]) -> str:
    return " x ".join(f"{side:g}" for side in sides)
