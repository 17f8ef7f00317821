"""Evaluates: how close synthetic images are to real ones of patients that training never saw; whether they are copies.

Every number comes with its interval and with its floor: what real training images give in place of the synthetic ones.
Several synthetic sets are measured on the same images and half-samples, and ranked (`_evaluating/ranking.py`).
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from radsynth.arrays import IntensityMap, Prepared
from radsynth.errors import DataError
from radsynth.files import check_writable
from radsynth.metrics import Comparison, Sample
from radsynth.metrics._features import Rows
from radsynth.metrics.neighbours import Pair, closest_pairs
from radsynth.settings import settings as settings_section
from radsynth.verbs._evaluating.measuring import Extractor, Measuring, Scale
from radsynth.verbs._evaluating.pictures import shown, write_results
from radsynth.verbs._evaluating.ranking import ranking
from radsynth.verbs._evaluating.sides import Numbers, PreparedRows, Sides, Source, choose
from radsynth.verbs._evaluating.synthetic import Synthetic, first_image, read_set, refuse_trained_on
from radsynth.verbs._evaluating.unprepared import open_unprepared
from radsynth.verbs._grid import black_and_white, shades, shown_window

HELD_OUT = ("validation", "test")


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
    shrink: bool = False
    """Bring real images that nobody prepared down to the size of the synthetic ones; finer details are not compared."""
    classes: bool = True
    """Measure every class by itself too, where images have classes and there are enough of each."""
    inception: Path | None = None
    """File of the original Inception weights (pt_inception-2015-12-05-6726825d.pth), for FID; 2-D images only."""
    anatomy: float = Field(default=0.2, ge=0, le=1)
    """For tasks from image to image: share of the training's budget, on top of it, in which segmenters are learned that
    look for the same anatomy in what is given and in what is made; 0: none. Without masks they learn classes of
    intensity, where images are pairs."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draws of images and half-samples."""


def evaluate(real: Path, synthetic: Path, *more: Path, settings: Settings | None = None,
             out: Path | None = None) -> dict[str, Any]:
    """Compare folders of synthetic images with real ones; returns what results.json holds.

    real: a prepared folder; a run folder, whose prepared data is meant; or any images, which are prepared as those of
    the first synthetic set's run were (without a run they must have its size) and all count as unseen, so that copies
    cannot be looked for. The images that this run learned from stand for its prepared data.
    synthetic, more: what `generate` wrote, any folder with image files of the same size, or a run folder, whose images
    in RUN/synthetic are meant. Several are ranked: "sets" then holds what is otherwise the whole document.
    out: where results.json and pictures/ are written, for `report`; nothing is written without it
    Raises FolderError for folders that are none of this, DataError when nothing can be measured.
    """
    real, folders = Path(real), [Path(synthetic), *map(Path, more)]
    if out is not None:
        check_writable(out)
    for folder in (real, real / "data"):
        if (folder / "manifest.json").exists():
            return _evaluate_folders(Prepared(folder), folders, settings, out, copies=True)
    size = first_image(folders[0]).space
    with tempfile.TemporaryDirectory(prefix="radsynth-") as temporary:
        opened = open_unprepared(real, folders[0], size, Path(temporary), shrink=(settings or Settings()).shrink)
        return _evaluate_folders(opened.prepared, folders, settings, out, copies=opened.own, notes=opened.notes)


def _evaluate_folders(prepared: Prepared, folders: list[Path], settings: Settings | None, out: Path | None, *,
                      copies: bool, notes: Sequence[str] = ()) -> dict[str, Any]:
    for folder in folders:
        refuse_trained_on(folder, prepared, _held_out(prepared) if copies else np.arange(len(prepared.rows)))
    found = [read_set(folder, prepared.spec, prepared.intensity) for folder in folders]
    sets = {name: one for name, one in zip(_names(folders), found, strict=True)}
    if len(sets) == 1:
        return evaluate_prepared(prepared, found[0].images, labels=found[0].labels, settings=settings, out=out,
                                 copies=copies, notes=notes)
    return rank_prepared(prepared, sets, settings=settings, out=out, copies=copies, notes=notes)


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise DataError("The same folder of synthetic images was given twice. Give every set once.")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _held_out(prepared: Prepared) -> NDArray[np.int64]:
    return np.concatenate([prepared.indices(split) for split in HELD_OUT])


def _sources(prepared: Prepared) -> tuple[Source, Source]:
    """The held-out images and those of the training."""
    sources = [Source(images=PreparedRows(prepared=prepared, rows=rows), patients=prepared.patients(rows),
                      labels=prepared.labels(rows)) for rows in (_held_out(prepared), prepared.indices("train"))]
    return sources[0], sources[1]


def evaluate_prepared(prepared: Prepared, synthetic: Rows, *, labels: Numbers | None = None,
                      settings: Settings | None = None, out: Path | None = None, copies: bool = True,
                      classifier: Extractor | None = None, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Compare synthetic images (n, c, *space) in [-1, 1] with the held-out patients of a prepared folder.

    labels: class indices (n,) of the synthetic images, -1 without; classifier: as in `evaluate_arrays`
    copies: its training images are those of the generator, so that copies of them can be looked for
    notes: what a reader must know beside the warnings
    """
    held_out, training = _sources(prepared)
    return _evaluate(held_out, training, Source(images=synthetic, labels=labels), _scale(prepared), prepared.intensity,
                     _facts(prepared), copies, settings or Settings(), out, classifier, notes)


def rank_prepared(prepared: Prepared, sets: Mapping[str, Synthetic], *, settings: Settings | None = None,
                  out: Path | None = None, copies: bool = True, classifier: Extractor | None = None,
                  notes: Sequence[str] = ()) -> dict[str, Any]:
    """Compare several synthetic sets with the same held-out images, and rank them; parameters as above."""
    start, options = time.monotonic(), settings or Settings()
    held_out, training = _sources(prepared)
    sources = {name: Source(images=one.images, labels=one.labels) for name, one in sets.items()}
    measuring = _measuring(held_out, training, sources, _scale(prepared), options, out, classifier)
    documents, measured = {}, {}
    for name, source in sources.items():
        documents[name], measured[name] = _document(measuring, name, held_out, training, source, prepared.intensity,
                                                    copies, options)
        documents[name]["context"] |= _facts(prepared)
        documents[name]["context"]["warnings"] += notes
    document = {"version": 1, **ranking(measured, options.repetitions), "sets": documents,
                "context": {"seconds": round(time.monotonic() - start, 1), "repetitions": options.repetitions}}
    if out is not None:
        window = black_and_white(_facts(prepared).get("window"), prepared.intensity)
        sides = {f"set_{k}": side for k, side in enumerate(measuring.sides.synthetic.values())}
        sides |= {"real": measuring.sides.held_out} if options.real_pictures else {}
        write_results(Path(out), document, {name: shown(side, window) for name, side in sides.items()})
    return document


def evaluate_arrays(
    held_out: Rows, training: Rows, synthetic: Rows, *, held_out_patients: Numbers | None = None,
    training_patients: Numbers | None = None, held_out_labels: Numbers | None = None,
    training_labels: Numbers | None = None, patients: Numbers | None = None, labels: Numbers | None = None,
    label_names: tuple[str, ...] = (), intensity: IntensityMap | None = None, units: str = "stored",
    virtual: bool = False, data_hash: str = "", copies: bool = True, settings: Settings | None = None,
    out: Path | None = None, classifier: Extractor | None = None, before: Rows | None = None,
) -> dict[str, Any]:
    """Compare synthetic images with real images that training never saw; all (n, c, *space) float32 in [-1, 1].

    *_patients, patients: the patient of every real image, and of that from which a synthetic one was made; one patient
    an image without; intensity, units: give numbers their unit
    *_labels, labels: class indices of the real and of the synthetic images, -1 or None without; label_names: of these
    virtual, data_hash: told in the results; copies: as in `evaluate_prepared`; out: as in `evaluate`
    classifier: pixels to shares of classes (n, classes), for the Inception Score
    before: what the synthetic images were made from; its own numbers are then in "before", as measurements
    """
    facts = {"virtual": virtual, "data_hash": data_hash}
    return _evaluate(Source(images=held_out, patients=held_out_patients, labels=held_out_labels),
                     Source(images=training, patients=training_patients, labels=training_labels),
                     Source(images=synthetic, patients=patients, labels=labels),
                     _units(intensity, units, label_names), intensity, facts, copies, settings or Settings(), out,
                     classifier, before=None if before is None else Source(images=before, patients=patients))


def _evaluate(held_out: Source, training: Source, synthetic: Source, scale: Scale, intensity: IntensityMap | None,
              facts: dict[str, Any], copies: bool, options: Settings, out: Path | None,
              classifier: Extractor | None, notes: Sequence[str] = (), before: Source | None = None,
              ) -> dict[str, Any]:
    start = time.monotonic()
    sets = {"synthetic": synthetic} | ({} if before is None else {"before": before})
    measuring = _measuring(held_out, training, sets, scale, options, out, classifier)
    document, _ = _document(measuring, "synthetic", held_out, training, synthetic, intensity, copies, options)
    if before is not None:
        found, _ = measuring.measure("before", copies=False, repetitions=options.repetitions, seed=options.seed)
        document["before"] = [one.to_json() for one in found]
    document["context"]["warnings"] += notes
    document["context"] |= facts | {"seconds": round(time.monotonic() - start, 1)}
    if out is not None:
        window = black_and_white(facts.get("window"), intensity)
        write_results(Path(out), document, _pictures(document, measuring.sides, options, window))
    return document


def _measuring(held_out: Source, training: Source, sets: Mapping[str, Source], scale: Scale, options: Settings,
               out: Path | None, classifier: Extractor | None) -> Measuring:
    sides = choose(held_out, training, sets, images=options.images, training_images=options.training_images,
                   seed=options.seed)
    cache = None if out is None else Path(out) / "features"
    return Measuring(sides, scale, cache=cache, inception=options.inception, classifier=classifier)


def _document(measuring: Measuring, name: str, held_out: Source, training: Source, synthetic: Source,
              intensity: IntensityMap | None, copies: bool, options: Settings) -> tuple[dict[str, Any], list[Any]]:
    """What results.json holds of one set, and its measurements."""
    settings = {"repetitions": options.repetitions, "seed": options.seed}
    measurements, refused = measuring.measure(name, copies=copies, **settings)
    comparison = measuring.comparison(name)
    pairs = closest_pairs(comparison, options.pairs) if copies else []
    counts = {"held_out_images": len(held_out.images), "training_images": len(training.images),
              "synthetic_images": len(synthetic.images)}
    document = {
        "version": 1,
        "measurements": [one.to_json() for one in measurements],
        "refused": refused,
        "classes": measuring.classes(name, **settings) if options.classes else {},
        "context": _context(measuring.sides, counts, comparison, options),
        "histogram": _histogram(comparison, intensity),
        "neighbours": [_pair(pair, measuring.sides, name) for pair in pairs],
    }
    return document, measurements


def _scale(prepared: Prepared) -> Scale:
    return _units(prepared.intensity, prepared.spec.units, prepared.spec.labels)


def _units(intensity: IntensityMap | None, units: str, labels: tuple[str, ...]) -> Scale:
    if intensity is None:
        return Scale(labels=labels)
    named = "grey levels" if units == "stored" else units
    return Scale(scale=(intensity.high - intensity.low) / 2, units=named, labels=labels)


def _facts(prepared: Prepared) -> dict[str, Any]:
    window = shown_window(prepared.spec)
    return {"virtual": prepared.spec.virtual, "data_hash": prepared.manifest.data_hash,
            **({"window": list(window)} if window else {})}


def _context(sides: Sides, counts: dict[str, int], comparison: Comparison, options: Settings) -> dict[str, Any]:
    """What a reader must know of the comparison as a whole."""
    patients = len(np.unique(sides.held_out.patients))
    warnings = []
    most = int(np.unique(sides.held_out.patients, return_counts=True)[1].max())
    if 2 * most > len(sides.held_out):
        warnings.append(f"{most:,} of {len(sides.held_out):,} held-out images are of one patient: the intervals hardly "
                        "tell what other patients' images would give.")
    elif patients < 20:
        warnings.append(f"Only {patients} held-out patients: the intervals are wide for that, and the numbers may not "
                        "carry over to other patients.")
    if len(sides.training) < counts["training_images"]:
        warnings.append(f"Copies were looked for among {len(sides.training):,} of {counts['training_images']:,} "
                        "training images.")
    return {
        "images": len(comparison), **counts, "held_out_patients": patients, "training_searched": len(sides.training),
        "features": comparison.features, "interval": "95 %, half-samples of patients, Student's t for their number",
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


def _pair(pair: Pair, sides: Sides, name: str) -> dict[str, Any]:
    """A pair with row numbers of the source in place of the sample's."""
    return dataclasses.asdict(pair) | {"synthetic": int(sides.synthetic[name].rows[pair.synthetic]),
                                       "training": int(sides.training.rows[pair.training])}


def _pictures(document: dict[str, Any], sides: Sides, options: Settings, window: tuple[float, float],
              ) -> dict[str, NDArray[np.uint8]]:
    """What the report shows of one set: synthetic images, real ones, the closest pairs."""
    synthetic, pairs = sides.synthetic["synthetic"], document["neighbours"]
    pictures = {"synthetic": shown(synthetic, window)}
    if options.real_pictures:
        pictures["real"] = shown(sides.held_out, window)
    if options.real_pictures and pairs:
        copies, nearest = (shades(side.images[np.asarray([pair[name] for pair in pairs])], window)
                           for name, side in (("synthetic", synthetic), ("training", sides.training)))
        pictures["neighbours"] = np.stack([copies, nearest], axis=1)
    return pictures
