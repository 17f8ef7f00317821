"""Whether synthetic images show what their masks say, by a segmenter that learned from real images with masks.

The check of semantic synthesis (Park et al. 2019, section 4): the segmenter's map of an image is compared with the mask
that the image was made from. The floor is what it reaches on real images of patients that it never saw.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.arrays import Prepared, spread
from radsynth.batch import Batch
from radsynth.errors import DataError
from radsynth.files import write_atomically
from radsynth.metrics import Estimate, Measurement, Number, difference
from radsynth.metrics._overlap import dice
from radsynth.metrics._paired import over_patients
from radsynth.tasks.semantic import Semantic
from radsynth.verbs._grid import black_and_white, save_pictures, shades, shown_window
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._usefulness.sources import places
from radsynth.verbs._usefulness.training import Examples, Recipe, describe, fit, predict
from radsynth.verbs._writing import Drawn

NUMBER = Number(
    name="mask_agreement", title="Agreement with the masks (Dice)", better="higher",
    meaning="How well a segmenter, trained on real images, finds in a synthetic image the mask that it was made from.")
STEPS, BATCH, RATE = 300, 16, 2e-3
"""How the segmenter is trained."""
MOST = 500
"""Images of each side."""
SHOWN = 8
Labels = NDArray[np.uint8]


def measure_agreement(prepared: Prepared, made: Drawn, *, repetitions: int, seed: int) -> dict[str, Any]:
    """The agreement as a measurement, with the segmenter and each label's Dice; DataError without unseen patients.

    made: images with their masks. Values are means over images of the mean over the labels that the image's mask has.
    """
    assert made.masks is not None, "without masks there is nothing to agree with"
    values = prepared.spec.label_values
    rows = next((found for split in ("test", "validation") if len(found := prepared.indices(split))), None)
    if rows is None:
        raise DataError("It needs real patients outside of training to compare with; there are none.")
    draw = np.random.default_rng(seed)
    count = min(len(rows), len(made.images), MOST)
    rows, chosen = (np.sort(draw.permutation(some)[:count]) for some in (rows, np.arange(len(made.images))))
    recipe, segmenter = _segmenter(prepared, len(values), seed)
    table = np.asarray(values, np.uint8)
    patients = prepared.patients(rows)
    own, of_labels = _dice(table[predict(recipe, segmenter, made.images[chosen])], made.masks[chosen], values)
    real, of_real = _dice(table[predict(recipe, segmenter, prepared.images(rows))], prepared.stored(rows, "masks"),
                          values)
    value = _estimate(own, np.arange(count), repetitions, seed)
    floor = _estimate(real, patients, repetitions, seed)
    excess = _within(difference(replace(value, parts=()), replace(floor, parts=())), -1.0)
    value, floor = _within(value, 0.0), _within(floor, 0.0)
    channels, dimensions = len(prepared.spec.channels), prepared.spec.dimensions
    one = Measurement(
        name=NUMBER.name, title=NUMBER.title, better=NUMBER.better, meaning=NUMBER.meaning, n=count,
        features=describe(recipe, channels, dimensions), value=value.value, low=value.low, high=value.high,
        floor=floor.value, floor_low=floor.low, floor_high=floor.high, excess=excess.value, excess_low=excess.low,
        excess_high=excess.high, ratio=value.value / floor.value if floor.value > 0 else None)
    return {"measurement": one.to_json(), "steps": STEPS, "patients": len(np.unique(patients)), "labels": [
        {"label": label, "name": prepared.spec.label_name(label), "value": _number(a), "floor": _number(b)}
        for label, a, b in zip(values[1:], of_labels, of_real, strict=True)]}


def _segmenter(prepared: Prepared, classes: int, seed: int) -> tuple[Recipe, torch.nn.Module]:
    """Trained on the data's own training patients, with classical augmentation; on no more images than it is shown."""
    rows = np.sort(np.random.default_rng(seed).permutation(prepared.own("train"))[:STEPS * BATCH])
    masks = places(prepared.stored(rows, "masks"), prepared.spec)
    recipe = Recipe(kind="segmentation", classes=classes, steps=STEPS, batch=BATCH, rate=RATE)
    examples = Examples(images=prepared.images(rows), labels=np.zeros(len(rows), np.int64), masks=masks)
    return recipe, fit(recipe, [examples], True, seed)


def _dice(found: Labels, masks: Labels, values: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) mean Dice over the labels that a mask has, NaN for a mask without; (labels,) the mean over such images."""
    overlap = dice(found, masks, values[1:])
    axes = tuple(range(1, masks.ndim))
    there = np.stack([(masks == value).any(axes) for value in values[1:]], axis=1)
    overlap = np.where(there, overlap, np.nan)
    counts = there.sum(1)
    each = np.where(counts > 0, np.nansum(overlap, axis=1) / np.maximum(counts, 1), np.nan)
    return each, np.nansum(overlap, axis=0) / np.where(there.any(0), there.sum(0), np.nan)


def _estimate(values: NDArray[np.float64], owners: NDArray[np.int64], repetitions: int, seed: int) -> Estimate:
    known = ~np.isnan(values)
    if known.sum() < 2:
        raise DataError("It needs masks that have labels; fewer than two of those looked at have any.")
    return over_patients(values[known], owners[known], repetitions, seed)


def _within(one: Estimate, least: float) -> Estimate:
    """The same with an interval that ends where overlaps, or their differences, do."""
    return replace(one, low=max(one.low, least), high=min(one.high, 1.0))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def add_agreement(results: dict[str, Any], prepared: Prepared, made: Drawn, *, repetitions: int, seed: int) -> None:
    """Put the agreement into what results.json holds."""
    try:
        found = measure_agreement(prepared, made, repetitions=repetitions, seed=seed)
    except DataError as error:
        results["refused"].append({"name": NUMBER.name, "title": NUMBER.title, "reason": str(error)})
        return
    results["measurements"].insert(0, found.pop("measurement"))
    results["agreement"] = found


def side_by_side(sampler: Sampler, prepared: Prepared, made: Drawn, seed: int, real: bool) -> NDArray[np.uint8]:
    """(n, columns, c, *space) for a screen: mask (alike in all channels), synthetic image, if `real` the patient's own.

    Of a run that paints masks: masks of test patients; else (or without real images) what was made, without a patient.
    """
    spec = prepared.spec
    rows = next((found for split in ("test", "validation") if len(found := prepared.indices(split))), None)
    if not real or rows is None or not isinstance(sampler.task, Semantic):
        assert made.masks is not None
        masks, columns = made.masks[:SHOWN], [made.images[:SHOWN]]
    else:
        rows = rows[spread(len(rows), SHOWN)]
        masks = prepared.stored(rows, "masks")
        columns = [_painted(sampler, masks, prepared.labels(rows), seed), prepared.images(rows)]
    ends = black_and_white(shown_window(spec), prepared.intensity)
    drawn = np.repeat(_shades(masks, spec.label_values)[:, None], len(spec.channels), axis=1)
    stacked = np.stack([drawn, *(shades(images, ends) for images in columns)], axis=1)
    return stacked if stacked.ndim == 5 else stacked[:, :, :, stacked.shape[3] // 2]


@torch.no_grad()
def _painted(sampler: Sampler, masks: Labels, labels: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    batch = Batch(images=torch.empty(len(masks), 0), masks=torch.from_numpy(masks.astype(np.int64)),
                  labels=torch.from_numpy(labels), seed=seed, items=tuple(range(len(masks))))
    return cast(NDArray[np.float32], sampler.task.sample(sampler.network.cpu(), batch).float().numpy())


def _shades(masks: Labels, values: tuple[int, ...]) -> NDArray[np.uint8]:
    """Label values as evenly spaced greys, the background black."""
    return np.asarray(np.searchsorted(values, masks) * (255 / (len(values) - 1)), np.uint8)


def write_agreement(out: Path, results: dict[str, Any], pictures: NDArray[np.uint8]) -> None:
    """pictures/masks.npy, then results.json."""
    save_pictures(out / "pictures" / "masks.npy", pictures)
    write_atomically(out / "results.json", json.dumps(results, indent=1))
