"""What results.json holds of one synthetic set, and the pictures that the report shows beside it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap
from radsynth.metrics import Comparison
from radsynth.metrics._features import Rows
from radsynth.metrics._privacy_copies import most_alike
from radsynth.metrics.neighbours import Pair, closest_pairs
from radsynth.verbs._evaluating.measuring import MOST_CLASSES, Measuring
from radsynth.verbs._evaluating.options import Settings
from radsynth.verbs._evaluating.pictures import shown
from radsynth.verbs._evaluating.sides import Chosen, Sides, Source
from radsynth.verbs._grid import shades

BINS = 128
"""Of the histograms of results.json."""


def document_of(measuring: Measuring, name: str, held_out: Source, training: Source, synthetic: Source, copies: bool,
                options: Settings) -> tuple[dict[str, Any], list[Any]]:
    """What results.json holds of one set, and its measurements."""
    settings = {"repetitions": options.repetitions, "seed": options.seed}
    measurements, refused = measuring.measure(name, copies=copies, **settings)
    comparison = measuring.comparison(name)
    neighbours: list[dict[str, Any]] = []
    if copies and any(one.name == "copies" for one in measurements):
        neighbours = [_pair(pair, measuring.sides, name) for pair in closest_pairs(comparison, options.pairs)]
    elif copies:
        neighbours = unjudged(synthetic, measuring.sides.training, options)
    counts = {"held_out_images": len(held_out.images), "training_images": len(training.images),
              "synthetic_images": len(synthetic.images)}
    classes = measuring.classes(name, **settings) if options.classes else {}
    context = _context(measuring.sides, counts, comparison, options, bool(measurements))
    if len(classes) == MOST_CLASSES < len(measuring.scale.labels):
        context["warnings"].append(f"Of {len(measuring.scale.labels):,} classes the {MOST_CLASSES} with the most "
                                   "held-out images were measured by themselves.")
    document = {
        "version": 1,
        "measurements": [one.to_json() for one in measurements],
        "refused": refused,
        "classes": classes,
        "context": context,
        "histogram": _histogram(comparison, measuring.scale.intensity),
        "neighbours": neighbours,
    }
    return document, measurements


def unjudged(synthetic: Source, training: Chosen, options: Settings) -> list[dict[str, Any]]:
    """The pairs most alike where too few images are held out to tell copies: of all synthetic images, not of as many
    as are held out. Row numbers of the sources.
    """
    made = synthetic.draw(options.images, np.random.default_rng(options.seed))
    return [{"synthetic": int(made.rows[one]), "training": int(training.rows[other]), "likeness": likeness}
            for one, other, likeness in most_alike(made, training, options.pairs)]


def _context(sides: Sides, counts: dict[str, int], comparison: Comparison, options: Settings, measured: bool,
             ) -> dict[str, Any]:
    """What a reader must know of the comparison as a whole. measured: there are numbers, so that there are intervals"""
    patients = len(np.unique(sides.held_out.patients))
    whose = "patients" if patients > 1 else "one patient's images"
    warnings = []
    most = int(np.unique(sides.held_out.patients, return_counts=True)[1].max())
    if measured and 2 * most > len(sides.held_out):
        warnings.append(f"{most:,} of {len(sides.held_out):,} held-out images are of one patient: the intervals hardly "
                        "tell what other patients' images would give.")
    elif measured and patients < 20:
        warnings.append(f"Only {patients} held-out patients: the intervals are wide for that, and the numbers may not "
                        "carry over to other patients.")
    if len(sides.training) < counts["training_images"]:
        warnings.append(f"Copies were looked for among {len(sides.training):,} of {counts['training_images']:,} "
                        "training images.")
    return {
        "images": len(comparison), **counts, "held_out_patients": patients, "training_searched": len(sides.training),
        "features": comparison.features, "interval": f"95 %, half-samples of {whose}, Student's t for their number",
        "repetitions": options.repetitions, "real_pictures": options.real_pictures, "seed": options.seed,
        "warnings": warnings,
    }


def _histogram(comparison: Comparison, intensity: IntensityMap | None) -> dict[str, Any]:
    """Shares of pixels in BINS equal bins of the images' units, for held-out and synthetic images.

    Of all channels together and, where there are several, of each: contrasts differ more than a generator errs.
    """
    low, high = (-1.0, 1.0) if intensity is None else (intensity.low, intensity.high)
    ranges = () if intensity is None else intensity.ranges
    sides = {"real": comparison.real, "synthetic": comparison.synthetic}
    of_channels = {name: sample.histograms.mean(0, dtype=np.float64) for name, sample in sides.items()}

    def shares(channels: slice) -> dict[str, list[float]]:
        return {name: [round(float(share), 7) for share in found[channels].mean(0).reshape(BINS, -1).sum(1)]
                for name, found in of_channels.items()}

    channels = len(of_channels["real"])
    ends = [{"low": low, "high": high} for low, high in ranges] or [{}] * channels
    each = {"channels": [shares(slice(k, k + 1)) | ends[k] for k in range(channels)]} if channels > 1 else {}
    return {"low": low, "high": high, "units": comparison.units, **shares(slice(None)), **each}


def _pair(pair: Pair, sides: Sides, name: str) -> dict[str, Any]:
    """A pair with row numbers of the source in place of the sample's."""
    return dataclasses.asdict(pair) | {"synthetic": int(sides.synthetic[name].rows[pair.synthetic]),
                                       "training": int(sides.training.rows[pair.training])}


def pictures_of(document: dict[str, Any], sides: Sides, options: Settings, window: tuple[float, float],
                ) -> dict[str, NDArray[np.uint8]]:
    """What the report shows of one set: synthetic images, real ones, the closest pairs."""
    synthetic = sides.synthetic["synthetic"]
    pictures = {"synthetic": shown(synthetic, window)}
    if options.real_pictures:
        pictures["real"] = shown(sides.held_out, window)
        pictures |= side_by_side(document["neighbours"], synthetic.images, sides.training.images, window)
    return pictures


def side_by_side(pairs: list[dict[str, Any]], synthetic: Rows, training: Rows, window: tuple[float, float],
                 ) -> dict[str, NDArray[np.uint8]]:
    """The closest pairs as a picture of their name, nothing without any."""
    if not pairs:
        return {}
    copies, nearest = (shades(images[np.asarray([pair[name] for pair in pairs])], window)
                       for name, images in (("synthetic", synthetic), ("training", training)))
    return {"neighbours": np.stack([copies, nearest], axis=1)}
