"""Evaluates: how close synthetic images are to real ones of patients that training never saw; whether they are copies.

Every number comes with its interval and with its floor: what real training images give in place of the synthetic ones.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from radsynth.arrays import IntensityMap, Prepared
from radsynth.datasets import recognise
from radsynth.errors import DataError, FolderError
from radsynth.files import write_atomically
from radsynth.metrics import Comparison, Sample, modules
from radsynth.metrics._features import NAME, Rows, describe
from radsynth.metrics.neighbours import Pair, closest_pairs
from radsynth.progress import Progress
from radsynth.settings import resolve
from radsynth.settings import settings as settings_section
from radsynth.verbs._synthetic import first_image, read_synthetic
from radsynth.verbs.prepare import prepare

Patients = Sequence[int] | NDArray[np.int64]

HELD_OUT = ("validation", "test")
SHOWN = 24
"""Real and synthetic images kept for the report."""


@settings_section
class Settings:
    """What is measured on synthetic images."""

    images: int = Field(default=2000, ge=50, le=5000)
    """Images compared on each side at most; fewer are taken when there are fewer held-out real or synthetic images."""
    training_images: int = Field(default=10000, ge=50)
    """Training images searched for copies at most, drawn at random."""
    repetitions: int = Field(default=30, ge=10, le=1000)
    """Half-samples behind each interval."""
    pairs: int = Field(default=12, ge=0, le=200)
    """Closest pairs of a synthetic and a training image to keep as pictures."""
    real_pictures: bool = True
    """Keep pictures of real images for the report. Turn it off for a report that may leave the building."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draws of images and half-samples."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen:
    """Images drawn for the comparison: which rows of their source, and the patients of all rows of the source."""

    images: Rows
    rows: NDArray[np.int64]
    patients: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[np.float32]:
        return self.images[self.rows[indices]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PreparedRows:
    """Some images of a prepared folder, read from disk when asked for."""

    prepared: Prepared
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[np.float32]:
        return self.prepared.images(self.rows[indices])


def evaluate(real: Path, synthetic: Path, *, settings: Settings | None = None,
             out: Path | None = None) -> dict[str, Any]:
    """Compare a folder of synthetic images with real ones; returns what results.json holds.

    real: a prepared folder; a run folder, whose prepared data is meant; or any images, which are prepared at the
    synthetic images' size and then all count as unseen: copies cannot be looked for
    synthetic: what `generate` wrote, or any folder with image files of the same size
    out: where results.json and pictures/ are written; nothing is written without it
    Raises FolderError for folders that are none of this, DataError when nothing can be measured.
    """
    real, synthetic = Path(real), Path(synthetic)
    for folder in (real, real / "data"):
        if (folder / "manifest.json").exists():
            prepared = Prepared(folder)
            images = read_synthetic(synthetic, prepared.spec, prepared.intensity)
            return evaluate_prepared(prepared, images, settings=settings, out=out)
    size = first_image(synthetic).space
    with tempfile.TemporaryDirectory(prefix="radsynth-") as temporary:
        prepared = _prepare_halves(real, size, Path(temporary) / "real")
        images = read_synthetic(synthetic, prepared.spec, prepared.intensity)
        return evaluate_prepared(prepared, images, settings=settings, out=out, copies=False)


def _prepare_halves(real: Path, size: tuple[int, ...], folder: Path) -> Prepared:
    """Images of any kind, prepared: half of the patients to compare with, half for the floor."""
    options = {"size": list(size), "train": 0.5, "validation": 0.0, "official": False, "masks": "off"}
    settings = resolve({"data": {"kind": recognise(real), "path": str(real)}, "prepare": options},
                       sections=("data", "prepare"))
    return prepare(settings.section("data"), folder, settings=settings)


def evaluate_prepared(prepared: Prepared, synthetic: Rows, *, settings: Settings | None = None,
                      out: Path | None = None, copies: bool = True) -> dict[str, Any]:
    """Compare synthetic images (n, c, *space) in [-1, 1] with the held-out patients of a prepared folder.

    copies: its training images are those of the generator, so that copies of them can be looked for
    """
    held_out = np.concatenate([prepared.indices(split) for split in HELD_OUT])
    training = prepared.indices("train")
    patients = np.unique([row.patient for row in prepared.rows], return_inverse=True)[1]
    return evaluate_arrays(
        PreparedRows(prepared=prepared, rows=held_out), PreparedRows(prepared=prepared, rows=training), synthetic,
        held_out_patients=patients[held_out], training_patients=patients[training], intensity=prepared.intensity,
        units=prepared.spec.units, virtual=prepared.spec.virtual, data_hash=prepared.manifest.data_hash,
        copies=copies, settings=settings, out=out,
    )


def evaluate_arrays(
    held_out: Rows, training: Rows, synthetic: Rows, *, held_out_patients: Patients | None = None,
    training_patients: Patients | None = None, intensity: IntensityMap | None = None, units: str = "stored",
    virtual: bool = False, data_hash: str = "", copies: bool = True, settings: Settings | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Compare synthetic images with real images that training never saw; all (n, c, *space) float32 in [-1, 1].

    *_patients: the patient of every image, one patient an image without; intensity, units: give numbers their unit
    virtual, data_hash: told in the results; copies: as in `evaluate_prepared`; out: as in `evaluate`
    """
    options = settings or Settings()
    start = time.monotonic()
    cache = None if out is None else Path(out) / "features"
    sides = _choose(held_out, training, synthetic, held_out_patients, training_patients, options)
    total = sum(len(sides[name]) for name in ("training", "held_out", "synthetic"))
    with Progress(total, "looking at images", "images") as progress:
        comparison = _compare(sides, intensity, units, cache, progress)
    if not copies:
        comparison = dataclasses.replace(comparison, training=None)
    measurements, refused = _measure(comparison, options)
    pairs = closest_pairs(comparison, options.pairs) if copies else []
    document = {
        "version": 1,
        "measurements": [dataclasses.asdict(one) for one in measurements],
        "refused": refused,
        "context": _context(sides, len(held_out), len(training), len(synthetic), comparison, options) | {
            "virtual": virtual, "data_hash": data_hash, "seconds": round(time.monotonic() - start, 1)},
        "histogram": _histogram(comparison, intensity),
        "neighbours": [_pair(pair, sides) for pair in pairs],
    }
    if out is not None:
        _write(Path(out), document, sides, pairs, options)
    return document


def _choose(held_out: Rows, training: Rows, synthetic: Rows, held_out_patients: Patients | None,
            training_patients: Patients | None, options: Settings) -> dict[str, _Chosen]:
    """Equal numbers of held-out, synthetic and floor images, and the training images to search."""
    generator = np.random.default_rng(options.seed)
    count = min(len(held_out), len(training), len(synthetic), options.images)
    if count < 2:
        raise DataError(
            f"Nothing can be measured: there are {len(held_out)} held-out real, {len(training)} training and "
            f"{len(synthetic)} synthetic images. Numbers need patients that training never saw: give images of at "
            "least three patients, a larger prepare.validation, or more synthetic images."
        )
    shapes = {tuple(side[np.arange(1)].shape[1:]) for side in (held_out, training, synthetic)}
    if len(shapes) > 1:
        raise DataError(f"Real and synthetic images must have one shape (channels, *size), found {sorted(shapes)}.")

    def draw(images: Rows, patients: Patients | None, wanted: int) -> _Chosen:
        names = np.arange(len(images)) if patients is None else np.asarray(patients, dtype=np.int64)
        rows = np.sort(generator.permutation(len(images))[:wanted]).astype(np.int64)
        return _Chosen(images=images, rows=rows, patients=names[rows])

    searched = draw(training, training_patients, max(count, min(len(training), options.training_images)))
    floor = np.sort(generator.permutation(len(searched))[:count])
    return {
        "held_out": draw(held_out, held_out_patients, count),
        "synthetic": draw(synthetic, None, count),
        "floor": dataclasses.replace(searched, rows=searched.rows[floor], patients=searched.patients[floor]),
        "training": searched,
    }


def _compare(sides: dict[str, _Chosen], intensity: IntensityMap | None, units: str, cache: Path | None,
             progress: Progress) -> Comparison:
    done = 0

    def look(name: str) -> Sample:
        nonlocal done
        sample = describe(sides[name], sides[name].patients, cache=cache, progress=lambda n: progress.update(done + n))
        done += len(sample)
        return sample

    training = look("training")
    floor = training.take(np.searchsorted(sides["training"].rows, sides["floor"].rows))
    scale = 1.0 if intensity is None else (intensity.high - intensity.low) / 2
    named = "of the range from -1 to 1" if intensity is None else ("grey levels" if units == "stored" else units)
    return Comparison(real=look("held_out"), synthetic=look("synthetic"), floor=floor, training=training,
                      features=NAME, scale=scale, units=named)


def _measure(comparison: Comparison, options: Settings) -> tuple[list[Any], list[dict[str, str]]]:
    """All measurements, and the metrics that refused with their reasons."""
    measurements, refused = [], []
    for module in modules().values():
        try:
            measurements += module.measure(comparison, repetitions=options.repetitions, seed=options.seed)
        except DataError as error:
            refused += [{"name": number.name, "title": number.title, "reason": str(error)} for number in module.NUMBERS]
    return measurements, refused


def _context(sides: dict[str, _Chosen], held_out: int, training: int, synthetic: int, comparison: Comparison,
             options: Settings) -> dict[str, Any]:
    """What a reader must know of the comparison as a whole."""
    patients = len(np.unique(sides["held_out"].patients))
    warnings = []
    if patients < 20:
        warnings.append(f"Only {patients} held-out patients: the intervals are rough, and the numbers may not "
                        "carry over to other patients.")
    if len(sides["training"]) < training:
        warnings.append(f"Copies were looked for among {len(sides['training']):,} of {training:,} training images.")
    return {
        "images": len(comparison), "held_out_images": held_out, "held_out_patients": patients,
        "training_images": training, "training_searched": len(sides["training"]), "synthetic_images": synthetic,
        "features": comparison.features, "interval": "95 %, half-samples of patients",
        "repetitions": options.repetitions, "real_pictures": options.real_pictures, "seed": options.seed,
        "warnings": warnings,
    }


def _histogram(comparison: Comparison, intensity: IntensityMap | None, bins: int = 128) -> dict[str, Any]:
    """Shares of pixels in `bins` equal bins of the images' units, for held-out and synthetic images."""
    low, high = (-1.0, 1.0) if intensity is None else (intensity.low, intensity.high)

    def shares(sample: Sample) -> list[float]:
        mean = sample.histograms.mean((0, 1), dtype=np.float64)
        return [round(float(share), 7) for share in mean.reshape(bins, -1).sum(1)]

    return {"low": low, "high": high, "units": comparison.units, "real": shares(comparison.real),
            "synthetic": shares(comparison.synthetic)}


def _pair(pair: Pair, sides: dict[str, _Chosen]) -> dict[str, Any]:
    """A pair with row numbers of the source in place of the sample's."""
    return dataclasses.asdict(pair) | {"synthetic": int(sides["synthetic"].rows[pair.synthetic]),
                                       "training": int(sides["training"].rows[pair.training])}


def _write(out: Path, document: dict[str, Any], sides: dict[str, _Chosen], pairs: list[Pair],
           options: Settings) -> None:
    """Pictures first (evenly over the sample), results.json last."""
    count = len(sides["synthetic"])
    shown = np.linspace(0, count - 1, min(SHOWN, count)).astype(np.int64)
    pictures = {"synthetic": _display(sides["synthetic"][shown])}
    if options.real_pictures:
        pictures["real"] = _display(sides["held_out"][shown])
    if options.real_pictures and pairs:
        copies = _display(sides["synthetic"][np.asarray([pair.synthetic for pair in pairs])])
        nearest = _display(sides["training"][np.asarray([pair.training for pair in pairs])])
        pictures["neighbours"] = np.stack([copies, nearest], axis=1)
    folder = out / "pictures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("real", "synthetic", "neighbours"):
            (folder / f"{name}.npy").unlink(missing_ok=True)
        for name, values in pictures.items():
            temporary = folder / f".{name}.npy"
            np.save(temporary, values, allow_pickle=False)
            temporary.replace(folder / f"{name}.npy")
    except OSError as error:
        raise FolderError(
            f"{folder} could not be written: {error.strerror}. Free some space, then evaluate again."
        ) from None
    write_atomically(out / "results.json", json.dumps(document, indent=1))


def _display(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[-1, 1] as 8-bit grey values."""
    return np.asarray(np.clip(np.rint((pixels + 1) * 127.5), 0, 255), dtype=np.uint8)
