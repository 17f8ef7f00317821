"""Measures a run from image to image on patients that training never saw, beside methods that learn no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.arrays import NO_MASK, Prepared, spread
from radsynth.batch import Batch
from radsynth.errors import DataError
from radsynth.files import write_atomically
from radsynth.metrics._paired import NUMBERS, Images, PairNumber
from radsynth.progress import track
from radsynth.tasks import PairedTask
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.doubts import Doubts, doubts
from radsynth.verbs._applying.limits import FROM, flags
from radsynth.verbs._grid import in_window, save_pictures, shown_window
from radsynth.verbs._pairs.baselines import Method, baselines
from radsynth.verbs._pairs.checked import checked
from radsynth.verbs._pairs.document import CHUNK, FITTED, SHOWN, compared, ends_of, held_out, refused, write
from radsynth.verbs._pairs.found import GIVEN, OWN, SEGMENTED, TRUE, Found, numbers_of
from radsynth.verbs._pairs.label_baselines import Labels
from radsynth.verbs._pairs.label_numbers import label_numbers
from radsynth.verbs._pairs.overlays import columns, most_doubtful, overlays
from radsynth.verbs._pairs.usual import limits_by_crops, limits_of_both, limits_told


def evaluate_pairs(run: Path, prepared: Prepared, *, out: Path | None = None, images: int = 500, repetitions: int = 30,
                   seed: int = 0) -> dict[str, Any]:
    """Measure results against the truth on at most `images` images of the test split; returns what results.json holds.

    The document's "pairs" holds every method ("this run" and the baselines) with each number, its interval over
    patients, and the paired difference to this run. out: where results.json and pictures/pairs.npy are written.
    Without patients to measure on, "refused" says so.
    """
    applier = Applier(run)
    if not hasattr(applier.task, "pair"):
        return _evaluate_unpaired(applier, prepared, out, images, repetitions, seed)
    task = cast(PairedTask, applier.task)
    try:
        rows, split = held_out(prepared, images, seed)
        rows = _complete(task, prepared, rows)
        training = _complete(task, prepared, prepared.own("train"))
        fitted = training[spread(len(training), FITTED)]
    except DataError as error:
        return refused(str(error), out)
    methods: dict[str, Method] = {OWN: lambda given: applier.network_of(given, applier.target)}
    methods |= baselines(task, *_pairs(task, prepared, fitted, seed + 1))
    measured = _measure(applier, methods, prepared, rows, seed)
    own, told = _usual(applier, prepared, rows, measured.doubts, images, seed)
    numbers = _found(measured.values, prepared)
    if measured.labels and prepared.spec.mask_classes:
        numbers += _segmented(measured.labels, rows, prepared, np.isnan(measured.doubts["anatomy"]))
    document: dict[str, Any] = {"version": 1, "measurements": [], "refused": [], **told, "pairs": compared(
        prepared, rows, numbers, repetitions, seed, task=applier.facts["task"], split=split,
        columns=["given", *methods, "truth"], inputs=list(task.inputs), outputs=list(task.outputs))}
    if out is not None:
        document["doubts"], doubtful = _most_doubtful(applier, measured.doubts, own, lambda k: _pairs(
            task, prepared, rows[k:k + 1], seed, k)[0])
        document["doubts"] |= checked(measured.doubts, own["limits"], numbers[0], measured.labels)
        write(Path(out), document, measured.pictures, doubtful)
    return document


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What was measured of n images. values: (numbers, n) of every method; doubts: (n,) of every check; labels:
    (n, *space) that a segmenter finds in every method's results, in the true images and in the given ones, {} without
    one; pictures: (few, columns, *space)."""

    values: dict[str, NDArray[np.float64]]
    doubts: dict[str, NDArray[np.float64]]
    labels: dict[str, Labels]
    pictures: Images


def _measure(applier: Applier, methods: dict[str, Method], prepared: Prepared, rows: NDArray[np.int64], seed: int,
             ) -> Measured:
    """Measure every method on the images `rows`, a few at a time."""
    task = cast(PairedTask, applier.task)
    values: dict[str, list[list[NDArray[np.float64]]]] = {name: [] for name in methods}
    doubtful: dict[str, list[NDArray[np.float64]]] = {}
    labels: dict[str, list[Labels]] = {}
    pictures: list[Images] = []
    chosen = spread(len(rows), SHOWN)
    for first in track(range(0, len(rows), CHUNK), None, f"measuring pairs, {CHUNK} at a time"):
        given, truths = _pairs(task, prepared, rows[first:first + CHUNK], seed, first)
        made = {name: method(given) for name, method in methods.items()}
        # Of the result before it is clipped, as `apply` looks at it: the limits are for its numbers.
        for name, found in doubts(task, applier.network_of, given, made[OWN], applier.target, applier.anatomy).items():
            doubtful.setdefault(name, []).append(found)
        made = {name: np.clip(results, -1, 1) for name, results in made.items()}
        for name, results in made.items():
            values[name].append([number.measure(results, truths) for number in NUMBERS])
        if applier.anatomy:
            found_in = {name: applier.anatomy.labels(results) for name, results in {**made, TRUE: truths}.items()}
            found_in[GIVEN] = applier.anatomy.labels_of_given(task.enlarge(torch.from_numpy(given)).numpy())
            for name, maps in found_in.items():
                labels.setdefault(name, []).append(maps)
        places = chosen[(chosen >= first) & (chosen < first + len(given))] - first
        if len(places):
            shown = task.enlarge(torch.from_numpy(given[places])).numpy()
            columns = _picture([shown, *(one[places] for one in made.values()), truths[places]])
            pictures.append(in_window(columns, ends_of(prepared)))
    return Measured(values={name: np.concatenate(parts, axis=1) for name, parts in values.items()},
                    doubts={name: np.concatenate(parts) for name, parts in doubtful.items()},
                    labels={name: np.concatenate(parts) for name, parts in labels.items()},
                    pictures=np.concatenate(pictures))


def _usual(applier: Applier, prepared: Prepared, rows: NDArray[np.int64], found: Doubts, images: int, seed: int,
           ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Limits for the images `rows`, whose numbers are `found`, and those for `apply`, which are others where the images
    are crops. Those of the validation split set them, too."""
    task = cast(PairedTask, applier.task)
    every = _complete(task, prepared, prepared.own("validation", "test"))
    if applier.crops:
        return limits_told(found, prepared.patients(rows)), limits_by_crops(
            prepared, every, images, seed, lambda crops, number: applier.doubts_of_crops(
                _pairs(task, prepared, crops, seed, number, alike=True)[0], applier.anatomy))

    def measure(part: NDArray[np.int64], first: int) -> Doubts:
        given = _pairs(task, prepared, part, seed, first)[0]
        made = applier.network_of(given, applier.target)
        return doubts(task, applier.network_of, given, made, applier.target, applier.anatomy)

    validation = np.intersect1d(every, prepared.own("validation"))
    told = limits_of_both(prepared, rows, found, validation, images, seed, measure)
    return told, told


def _most_doubtful(applier: Applier, found: Doubts, told: dict[str, Any], given: Callable[[int], Images],
                   ) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """What results.json says of the most doubtful, and pictures/doubts.npy (n, columns, 3, rows, columns) uint8. found:
    the numbers of all images; told: `limits_told`; given: the k-th image, (1, ...)"""
    usual = told["limits"]
    worst = most_doubtful(found, usual).tolist()
    pictures, slices = zip(*(overlays(applier, given(k), usual) for k in worst), strict=True)
    # By the numbers that set the limits: in a batch of its own an image has others in the last digit, and the one that
    # is the limit would be above itself.
    said = [flags({name: float(values[k]) for name, values in found.items()}, usual) for k in worst]
    shown = {} if None in slices else {"slices": list(slices)}  # of volumes, from 0
    return {"columns": columns(usual), FROM: told[FROM], "flags": said, **shown}, np.stack(pictures)


def _complete(task: PairedTask, prepared: Prepared, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The images that lack no channel that is made, and none that `apply` asks for; DataError when they are none."""
    names = prepared.spec.channels
    if len(names) == 1:
        return rows
    there = np.concatenate([prepared.stored(part).reshape(len(part), len(names), -1).max(2) > 0
                            for part in np.array_split(rows, -(-len(rows) // CHUNK))])
    given, made = (there[:, [names.index(name) for name in side]] for side in (task.inputs, task.outputs))
    usable = given.any(1) if getattr(task, "may_lack", False) else given.all(1)
    complete: NDArray[np.int64] = rows[usable & made.all(1)]
    if len(complete) < 2:
        lacking = ", ".join(dict.fromkeys((*task.inputs, *task.outputs)))
        raise DataError(f"Only {len(complete)} of {len(rows)} images {'has' if len(complete) == 1 else 'have'} all of "
                        f"{lacking}, which is too few to measure.")
    return complete


def _pairs(task: PairedTask, prepared: Prepared, rows: NDArray[np.int64], seed: int, first: int = 0,
           alike: bool = False) -> tuple[Images, Images]:
    """What is given and the truth of images. first: the number of the first, by which it is made worse; alike: that is
    the number of all, as of crops of one image, which has one noise level"""
    items = (first,) * len(rows) if alike else tuple(range(first, first + len(rows)))
    batch = Batch(images=torch.from_numpy(prepared.images(rows)), labels=torch.from_numpy(prepared.labels(rows)),
                  seed=seed, items=items)
    given, truths = task.pair(batch)
    return given.contiguous().numpy(), truths.contiguous().numpy()


def _evaluate_unpaired(applier: Applier, prepared: Prepared, out: Path | None, images: int, repetitions: int,
                       seed: int) -> dict[str, Any]:
    """Without a truth: whether translated images look like those of the other class, of held-out patients."""
    from radsynth.verbs._evaluating.measuring import Scale
    from radsynth.verbs._evaluating.sides import PreparedRows, Source
    from radsynth.verbs.evaluate import Settings, evaluate_sources

    domains: tuple[str, str] = applier.task.domains  # type: ignore[attr-defined]
    target = prepared.spec.labels.index(applier.target)
    source = next(label for label in map(prepared.spec.labels.index, domains) if label != target)
    given, real = (np.concatenate([prepared.indices(split, label) for split in ("validation", "test")])
                   for label in (source, target))
    every, given = given, np.sort(np.random.default_rng(seed).permutation(given)[:images])
    if not len(given) or not len(real):
        name = prepared.spec.labels[target if len(given) else source]
        return refused(f"There is no image of the class {name} outside of training: prepare more.", out)
    training = prepared.own("train")
    training = training[prepared.labels(training) == target]
    start, window = prepared.images(given), shown_window(prepared.spec)
    made = applier.network_of(start, applier.target)
    try:
        document = evaluate_sources(
            Source(images=PreparedRows(prepared=prepared, rows=real), patients=prepared.patients(real)),
            Source(images=PreparedRows(prepared=prepared, rows=training), patients=prepared.patients(training)),
            Source(images=np.clip(made, -1, 1), patients=prepared.patients(given)),
            before=Source(images=start, patients=prepared.patients(given)), scale=Scale.of(prepared),
            facts={"virtual": prepared.spec.virtual, "data_hash": prepared.manifest.data_hash,
                   **({"window": list(window)} if window else {})},
            settings=Settings(repetitions=repetitions, seed=seed), out=out)
    except DataError as error:  # one image of a class, say
        return refused(str(error), out)
    doubtful = doubts(applier.task, applier.network_of, start, made, applier.target, applier.anatomy)
    own = limits_told(doubtful, prepared.patients(given))
    document |= own if not applier.crops else limits_by_crops(
        prepared, every, images, seed,
        lambda crops, number: applier.doubts_of_crops(prepared.images(crops), applier.anatomy))
    document["direction"] = [prepared.spec.labels[source], prepared.spec.labels[target]]
    if applier.anatomy is not None and prepared.spec.mask_classes > 1:
        labels = {OWN: applier.anatomy.labels(made), GIVEN: applier.anatomy.labels(start)}
        found = _segmented(labels, given, prepared, np.zeros(len(given), bool))
        document["findings"] = numbers_of(found, prepared.patients(given), repetitions, seed)
    if out is not None:
        document["doubts"], shown = _most_doubtful(applier, doubtful, own, lambda k: start[k:k + 1])
        save_pictures(Path(out) / "pictures" / "doubts.npy", shown)
        write_atomically(out / "results.json", json.dumps(document, indent=1))
    return document


def _found(table: dict[str, NDArray[np.float64]], prepared: Prepared) -> list[Found]:
    """The numbers of pairs, in the units of the data; table: (numbers, images) of every method."""
    found = []
    for k, number in enumerate(NUMBERS):
        if not np.isfinite(table[OWN][k]).all():
            continue
        scale, unit = _unit(number, prepared)
        own = {name: values[k] * scale for name, values in table.items()}
        found.append(Found(name=number.name, title=number.title, unit=unit, better=number.better, values=own,
                           meaning=number.meaning, bounds=number.bounds))
    return found


def _segmented(labels: dict[str, Labels], rows: NDArray[np.int64], prepared: Prepared, unseen: NDArray[np.bool_],
               ) -> list[Found]:
    """How well a segmenter finds the true labels in the results, and in the true images, of those that have a mask; in
    the given ones but for those `unseen` (n,), which lack a channel."""
    # As of the images, what does not fill a coarse pixel is cut off (`PairedTask.pair`).
    truths = prepared.masks(rows)[(slice(None), *map(slice, labels[OWN].shape[1:]))]
    masked = truths.reshape(len(truths), -1)[:, 0] != NO_MASK
    if not masked.any():
        return []
    found = label_numbers({name: maps[masked] for name, maps in labels.items()}, truths[masked].astype(np.uint8),
                          prepared.spec, prepared.spacings(rows[masked]))

    def of_all(method: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        every = np.full(len(masked), np.nan)
        every[masked] = values
        return np.where(unseen, np.nan, every) if method == GIVEN else every

    return [replace(one, name=SEGMENTED + one.name, title=f"A segmenter on the result: {one.title}",
                    values={name: of_all(name, values) for name, values in one.values.items()}) for one in found]


def _unit(number: PairNumber, prepared: Prepared) -> tuple[float, str]:
    """Errors in Hounsfield units for CT, else in percent of the intensity range."""
    if number.unit != "units":
        return 1.0, number.unit
    if prepared.spec.units == "HU":
        return prepared.intensity.high - prepared.intensity.low, "HU"
    return 100.0, "% of the intensity range"


def _picture(columns: list[Images]) -> NDArray[np.float32]:
    """(n, columns, *space): the first channel of each; of volumes the middle slice."""
    first = [images[:, 0] if images.ndim == 4 else images[:, 0, images.shape[2] // 2] for images in columns]
    return np.stack(first, axis=1)
