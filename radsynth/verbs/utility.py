"""Measures usefulness: small networks are trained on real and synthetic images and tested on unseen real patients.

The question is that of downstream studies (Ravuri and Vinyals 2019, classification accuracy score; Skandarani et al.
2023): does a classifier or segmenter learn from synthetic images what it would learn from real ones, or more?
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from radsynth.errors import DataError, SettingsError
from radsynth.files import check_writable, replacing, write_atomically
from radsynth.image import ImageSpec
from radsynth.metrics import _utility as scores
from radsynth.progress import Progress
from radsynth.run_folder import RunFolder
from radsynth.settings import settings as settings_section
from radsynth.verbs._evaluating.sides import all_of, refuse_real
from radsynth.verbs._usefulness.pictures import save_chart
from radsynth.verbs._usefulness.sources import Real, draws, kind_of, open_real, real, some_patients, synthetic
from radsynth.verbs._usefulness.training import Examples, Recipe, describe, fit, predict, seconds_needed
from radsynth.verbs._usefulness.words import sentences, verdict
from radsynth.verbs.generate import check_draws

ARMS = ("real", "augmented", "synthetic", "both")
"""real images as they are; with classical augmentation real images, synthetic ones alone, and batches of half real and
half synthetic images (Frid-Adar et al. 2018: what do they add to an augmentation that costs nothing?)."""
VERSION = 2
"""Of what utility.json holds. In 1, synthetic images were learned from without classical augmentation."""
LEAST_STEPS = 30
"""Fewer optimiser steps teach nothing."""
LEAST_PATIENTS = 5
"""Test patients of each class: fewer give no interval."""


@settings_section
class Settings:
    """How useful synthetic images are for training a classifier or a segmenter."""

    target: Literal["auto", "classification", "segmentation"] = "auto"
    """What is learned; auto: the classes if the data has some, else the masks."""
    shares: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.1, 0.3, 1.0)
    """Shares of the real training patients; all of them (1) are always among them."""
    seeds: int = Field(default=3, ge=2, le=50)
    """Repeats of every training with other weights, draws and patients."""
    seconds: PositiveFloat = 900.0
    """Time for everything; the number of optimiser steps follows from it."""
    steps: PositiveInt = 500
    """Optimiser steps of every training at most."""
    batch: int = Field(default=32, ge=4, le=4096)
    """Images a step."""
    rate: float = Field(default=2e-3, gt=0, le=1)
    """Highest learning rate of AdamW; it falls to 0 by a cosine."""
    synthetic: int = Field(default=0, ge=0)
    """Synthetic images; 0: as many as there are real training images, or as a training can be shown (steps x batch)
    where these are fewer."""
    repetitions: int = Field(default=500, ge=100)
    """Bootstrap draws behind each interval."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random."""


Scores = dict[str, NDArray[np.float64]]
"""Replicates (1 + repetitions, classes) of each score of one training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Training:
    """One training: on a share of the real patients (1 for synthetic images alone), which arm, which repeat."""

    share: float
    arm: str
    seed: int


def utility(run: Path, synthetic_folder: Path | None = None, *, data: Path | None = None,
            settings: Settings | None = None, out: Path | None = None) -> dict[str, Any]:
    """Train and test on real patients; writes RUN/utility.json and RUN/utility.png, returns what the JSON holds.

    run: a run folder (or a prepared folder, with `synthetic_folder`); synthetic_folder: images in folders of their
    classes, what `generate` wrote, or images with masks; default: drawn from the run, RUN/synthetic where it makes no
    masks and they are what is learned
    data: the prepared folder that the run was trained on, default RUN/data; out: another folder to write to
    Raises DataError without classes or masks, with too few patients, or with test images among the synthetic ones,
    FolderError for other data than the run's, SettingsError when the time is too short.
    """
    options, start, run = settings or Settings(), time.monotonic(), Path(run)
    place, weights = Path(out) if out is not None else run, RunFolder(run).weights_hash
    check_writable(place)
    if synthetic_folder is None and not (run / "synthetic").exists():
        check_draws(run, "nothing can be trained on but synthetic images that you name (--synthetic DIR).")
    prepared = open_real(run, data)
    kind = kind_of(prepared, options.target)
    train = real(prepared, "train", kind)
    test = real(prepared, "test" if len(prepared.indices("test")) else "validation", kind)
    names = _names(prepared.spec, kind)
    of_classes = _patients(test, names, kind)
    count = options.synthetic or min(len(train.examples), options.steps * options.batch)  # more are not shown
    made = synthetic(run, synthetic_folder, prepared, kind, count, options.seed)
    refuse_real("synthetic", all_of(made.images), all_of(test.examples.images))
    classes = len(prepared.spec.label_values) if kind == "segmentation" else len(names)
    recipe = Recipe(kind=kind, classes=classes, steps=1, batch=options.batch, rate=options.rate)
    plan = list(_plan(options))
    step, prediction = seconds_needed(recipe, train.examples, test.examples.images)
    spent = time.monotonic() - start + len(plan) * prediction
    recipe = dataclasses.replace(recipe, steps=_steps(options, len(plan), step, spent))
    estimate = len(plan) * (recipe.steps * step + prediction)
    chosen = scores.draws(test.patients, options.seeds, options.repetitions, options.seed)
    found, counts = _run(plan, recipe, train, test, made, options, chosen.patients, estimate)
    if out is None:
        RunFolder(run).check_weights(weights)
    channels, dimensions = len(prepared.spec.channels), prepared.spec.dimensions
    drawn = draws(run, synthetic_folder, kind)
    own = drawn or RunFolder(run).made(synthetic_folder or run / "synthetic")
    document: dict[str, Any] = {
        "version": VERSION, "kind": kind,
        "metric": "balanced accuracy" if kind == "classification" else "Dice overlap",
        "chance": 1 / classes if kind == "classification" else 0.0,
        "network": describe(recipe, channels, dimensions), "optimiser": f"AdamW, rate {options.rate:g}, cosine to 0",
        "steps": recipe.steps, "batch": recipe.batch, "seeds": options.seeds, "trainings": len(plan),
        "shares": _shares(options), "classes": list(names),
        "train": {"images": len(train.examples), "patients": train.patients},
        "test": {"images": len(test.examples), "patients": test.patients},
        "synthetic": {"images": len(made), "source": "drawn from the run" if drawn else "a folder of images",
                      **_per_class(made, names, kind)},
        "generator_saw": "all" if own else "unknown",
        "interval": "95 %, bootstrap over test patients and seeds (pigeonhole), paired differences",
        "virtual": prepared.spec.virtual, "data_hash": prepared.manifest.data_hash,
    }
    document |= _results(found, counts, chosen, test, of_classes, options)
    document |= {"seconds_estimated": round(estimate, 1), "seconds": round(time.monotonic() - start, 1)}
    document["words"] = sentences(document)
    with replacing(place / "utility.json") as new:
        save_chart(document, new / "utility.png")
        write_atomically(new / "utility.json", json.dumps(document, indent=1))
    return document


def _names(spec: ImageSpec, kind: str) -> tuple[str, ...]:
    return spec.labels if kind == "classification" else tuple(map(spec.label_name, spec.label_values[1:]))


def _patients(test: Real, names: tuple[str, ...], kind: str) -> dict[str, int]:
    """Test patients with each class; DataError where they are fewer than an interval needs."""
    found = {}
    for index, name in enumerate(names):
        if kind == "classification":
            rows = test.examples.labels == index
        else:
            assert test.examples.masks is not None
            rows = (test.examples.masks == index + 1).any(axis=tuple(range(1, test.examples.masks.ndim)))
        found[name] = patients = len(np.unique(test.owners[rows]))
        if patients < LEAST_PATIENTS:
            raise DataError(f"Usefulness needs at least {LEAST_PATIENTS} test patients with {name}, there are "
                            f"{patients}. Prepare more patients, or a larger test share (prepare.train below 0.7).")
    return found


def _shares(options: Settings) -> list[float]:
    return sorted({*options.shares, 1.0})


def _plan(options: Settings) -> Iterator[_Training]:
    """Seed by seed, so that what is done before an interruption is a whole comparison."""
    for seed in range(options.seeds):
        yield _Training(share=1.0, arm="synthetic", seed=seed)
        for share in _shares(options):
            for arm in ("real", "augmented", "both"):
                yield _Training(share=share, arm=arm, seed=seed)


def _steps(options: Settings, trainings: int, step: float, spent: float) -> int:
    """The optimiser steps that fit into the time. A tenth of it is for scores and intervals.

    spent: seconds that are over, and that predictions will take
    """
    possible = int((0.9 * options.seconds - spent) / (trainings * step))
    if possible < min(LEAST_STEPS, options.steps):
        needed = (LEAST_STEPS * trainings * step + spent) / 0.9
        raise SettingsError(
            f"utility.seconds={options.seconds:g} is too short: {trainings} trainings at {step:.3f} s a step need "
            f"{needed:.0f} s for {LEAST_STEPS} steps each. Give more time, or fewer utility.shares or utility.seeds."
        )
    return min(options.steps, possible)


def _run(plan: list[_Training], recipe: Recipe, train: Real, test: Real, made: Examples, options: Settings,
         weights: NDArray[np.float64], estimate: float,
         ) -> tuple[dict[_Training, Scores], dict[tuple[float, str], dict[str, int]]]:
    """Every training's scores on the test images, and how many real images and patients each arm had."""
    found: dict[_Training, Scores] = {}
    counts: dict[tuple[float, str], dict[str, int]] = {}
    minutes = f"about {estimate / 60:.1f} min for {len(plan)} trainings of {recipe.steps} steps"
    with Progress(len(plan) * recipe.steps, "measuring usefulness", "steps") as progress:
        progress.update(0, minutes)
        for index, one in enumerate(plan):
            few = some_patients(train, one.share, options.seed + one.seed)
            sources = {"synthetic": [made], "both": [few.examples, made]}.get(one.arm, [few.examples])
            real_images, patients = (0, 0) if one.arm == "synthetic" else (len(few.examples), few.patients)
            counts[one.share, one.arm] = {"images": real_images, "patients": patients}
            # Weights and order of draws follow from the seed alone: arms differ in their images, and in nothing else.
            model = fit(recipe, sources, one.arm != "real", 1000 * options.seed + one.seed,
                        partial(_report, progress, index * recipe.steps, minutes))
            found[one] = _score(predict(recipe, model, test.examples.images), test, recipe.kind, weights)
    return found, counts


def _report(progress: Progress, before: int, note: str, step: int) -> None:
    progress.update(before + step, note)


def _per_class(made: Examples, names: tuple[str, ...], kind: str) -> dict[str, Any]:
    if kind != "classification":
        return {}
    return {"of_each_class": {name: int((made.labels == index).sum()) for index, name in enumerate(names)}}


def _results(found: dict[_Training, Scores], counts: dict[tuple[float, str], dict[str, int]], chosen: scores.Draws,
             test: Real, of_classes: dict[str, int], options: Settings) -> dict[str, Any]:
    """Arms and differences with their intervals, all from the same draws. of_classes: test patients with each class."""
    numbers_of = partial(_numbers, of_classes=of_classes, patients=test.patients)
    replicates: dict[tuple[float, str], Scores] = {}
    for share in _shares(options):
        for arm in ARMS:
            real_share = 1.0 if arm == "synthetic" else share
            each = [found[_Training(share=real_share, arm=arm, seed=seed)] for seed in range(options.seeds)]
            replicates[share, arm] = {name: scores.over_seeds(np.stack([one[name] for one in each]), chosen)
                                      for name in each[0]}
    arms = [{"share": share, "arm": arm, **counts[(1.0 if arm == "synthetic" else share), arm],
             **numbers_of(values)} for (share, arm), values in replicates.items()]
    differences = []
    for share in _shares(options):
        for arm, against in (("augmented", "real"), ("synthetic", "augmented"), ("both", "augmented")):
            gaps = {name: replicates[share, arm][name] - replicates[share, against][name]
                    for name in replicates[share, arm]}
            numbers = numbers_of(gaps, least=-1.0)
            differences.append({"share": share, "arm": arm, "against": against, **numbers,
                                "verdict": verdict(numbers["low"], numbers["high"])})
    return {"arms": arms, "differences": differences}


def _score(predicted: NDArray[Any], test: Real, kind: str, weights: NDArray[np.float64]) -> Scores:
    """The scores of one training by its predictions."""
    if kind == "classification":
        given = (predicted, test.examples.labels, test.owners, weights)
        return {"sensitivity": scores.sensitivities(*given), "auc": scores.areas_under_curves(*given)}
    assert test.examples.masks is not None
    classes = int(max(test.examples.masks.max(), predicted.max())) + 1
    of_patients = scores.dice_of_patients(predicted, test.examples.masks, test.owners, classes)
    return {"dice": scores.mean_of_patients(of_patients, weights)}


def _numbers(values: dict[str, NDArray[np.float64]], of_classes: dict[str, int], patients: int,
             least: float = 0.0) -> dict[str, Any]:
    """The mean over classes of the first score as the headline; every score by class, and its mean.

    of_classes, patients: test patients with each class, and all; least: the lowest value that is possible
    """
    # A mean over classes is as uncertain as if each had no more patients than the rarest.
    counted = min(patients, len(of_classes) * min(of_classes.values()))
    document: dict[str, Any] = {}
    for name, replicates in values.items():
        mean = dataclasses.asdict(scores.estimate(scores.over_classes(replicates), counted, least))
        document = document or dict(mean)
        document[name] = {"mean": mean, "classes": [
            {"class": label, **dataclasses.asdict(scores.estimate(replicates[:, index], count, least))}
            for index, (label, count) in enumerate(of_classes.items())]}
    return document
