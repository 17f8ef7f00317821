"""Measures a segmentation run on patients that training never saw, beside segmentations that learn no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared, spread
from radsynth.errors import DataError
from radsynth.progress import track
from radsynth.verbs._applying.doubts import MISMATCH, Doubts
from radsynth.verbs._applying.not_found import EXPECTED, expected_labels
from radsynth.verbs._applying.segmenter import Segmenter
from radsynth.verbs._grid import in_window
from radsynth.verbs._pairs.document import CHUNK, FITTED, SHOWN, compared, ends_of, held_out, refused, write
from radsynth.verbs._pairs.found import OWN
from radsynth.verbs._pairs.label_baselines import Labels, Method, label_baselines
from radsynth.verbs._pairs.label_numbers import label_numbers
from radsynth.verbs._pairs.usual import limits_by_crops, limits_of_both

Images = NDArray[np.float32]


def evaluate_segmentation(run: Path, prepared: Prepared, *, out: Path | None = None, images: int = 500,
                          repetitions: int = 30, seed: int = 0) -> dict[str, Any]:
    """Measure label maps against the masks of at most `images` images of the test split that have one.

    Returns what results.json holds, as `evaluate_pairs` does: for each label Dice and the 95th percentile of the
    Hausdorff distance, over the images that truly have the label, and how often it is found where it is not.
    """
    segmenter = Segmenter(run)
    try:
        if prepared.spec.mask_classes < 2:
            raise DataError("The data has no masks, so there is nothing to measure the label maps against.")
        rows, split = held_out(prepared, images, seed, masked=True)
    except DataError as error:
        return refused(str(error), out)
    training = prepared.own("train")
    training = training[prepared.masked(training)]
    fitted = training[spread(len(training), FITTED)]
    seen = [prepared.spec.channels.index(name) for name in segmenter.task.inputs]
    methods: dict[str, Method] = label_baselines(prepared.images(fitted)[:, seen], prepared.stored(fitted, "masks"))
    made: dict[str, list[Labels]] = {name: [] for name in (OWN, *methods)}
    mismatches: list[NDArray[np.float64]] = []
    for first in track(range(0, len(rows), CHUNK), None, f"measuring segmentations, {CHUNK} at a time"):
        given = prepared.images(rows[first:first + CHUNK])[:, seen]
        labels, mismatch = segmenter.labels_of(given)
        made[OWN].append(labels)
        mismatches.append(mismatch)
        for name, method in methods.items():
            made[name].append(method(given))
    results = {name: np.concatenate(parts) for name, parts in made.items()}
    truths = prepared.stored(rows, "masks")
    numbers = label_numbers(results, truths, prepared.spec, prepared.spacings(rows))
    doubtful = {MISMATCH: np.concatenate(mismatches)}

    def measure(part: NDArray[np.int64], first: int) -> Doubts:
        return segmenter.mismatches(prepared.images(part)[:, seen])

    if segmenter.crops:
        told = limits_by_crops(prepared, prepared.own("validation", "test"), images, seed, measure)
    else:
        told = limits_of_both(prepared, rows, doubtful, prepared.own("validation"), images, seed, measure)
    document: dict[str, Any] = {
        "version": 1, "measurements": [], "refused": [], **told, EXPECTED: expected_labels(prepared),
        "pairs": compared(prepared, rows, numbers, repetitions, seed, task=segmenter.facts["task"], split=split,
                          columns=["given", *results, "truth"])}
    if out is not None:
        write(Path(out), document, _pictures(prepared, rows, results, truths))
    return document


def _pictures(prepared: Prepared, rows: NDArray[np.int64], results: dict[str, Labels], truths: Labels) -> Images:
    """(n, columns, *space) in [-1, 1]: images, label maps as shades; of volumes the middle slice."""
    values, chosen = prepared.spec.label_values, spread(len(rows), SHOWN)
    maps = [np.searchsorted(values, labels[chosen]).astype(np.float32) * (2 / max(1, len(values) - 1)) - 1
            for labels in (*results.values(), truths)]
    given = in_window(prepared.images(rows[chosen])[:, 0], ends_of(prepared))
    shown = np.stack([given, *maps], axis=1)
    return shown if shown.ndim == 4 else shown[:, :, shown.shape[2] // 2]
