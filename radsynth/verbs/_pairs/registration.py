"""Measures a registration run on patients that training never saw, beside registrations that learn nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.errors import DataError, MissingExtra
from radsynth.losses.alignment import local_correlation
from radsynth.metrics._registration import folding, label_overlap, target_registration_error
from radsynth.progress import track
from radsynth.tasks._warp import warp
from radsynth.tasks.register import NOISE, Register
from radsynth.verbs._applying.disagreement import DISAGREEMENT, UNLIKE, disagreement
from radsynth.verbs._applying.doubts import Doubts
from radsynth.verbs._grid import in_window
from radsynth.verbs._many_patients import in_turns
from radsynth.verbs._pairs import itk_registration as itk
from radsynth.verbs._pairs.document import compared, ends_of, held_out, refused, write
from radsynth.verbs._pairs.found import OWN, Found
from radsynth.verbs._pairs.usual import limits_of_both
from radsynth.verbs._sampler import Sampler

Array = NDArray[np.float32]
Method = Callable[[Array, Array], Array]
"""A moving and a fixed image (c, *space), all channels, to the displacement (d, *space) in pixels."""

ALONE = ("Fewer than two images of patients outside of training have another one of the same patient "
         "(task.same_patient). Prepare more patients, or a larger held-out share.")
NOTHING = "no registration"
PAIRS = {2: 30, 3: 5}
"""Pairs that are measured: a B-spline registration takes half a second for a slice, many for a volume."""
FURTHER = {2: 100, 3: 20}
"""Further pairs at most that set the limits, which this run alone registers."""
SHOWN = 8
FOREGROUND = -0.8
"""Where there is no mask, pixels brighter than a tenth of the range are landmarks."""


def evaluate_registration(run: Path, prepared: Prepared, *, out: Path | None = None, images: int = 500,
                          repetitions: int = 30, seed: int = 0, pairs: int = 0) -> dict[str, Any]:
    """Register pairs of the test split, of different patients or as `task.same_patient` says, and images onto which a
    known warp was put.

    Returns what results.json holds, as `evaluate_pairs` does. All methods have the same pairs.
    images: pairs at most; pairs: how many instead of PAIRS
    """
    sampler = Sampler(run)
    task = cast(Register, sampler.task)
    try:
        chosen, split = held_out(prepared, images, seed)
    except DataError as error:
        return refused(str(error), out)
    both = task.options.same_patient  # images of the validation split have their partners there
    partners = task.partners_in(prepared, prepared.own("validation", "test") if both else prepared.indices(split))
    chosen = chosen[partners.suited(chosen)]
    if len(chosen) < 2:
        return refused(ALONE, out)
    chosen = np.random.default_rng(0).permutation(chosen)
    count = min(images, pairs or PAIRS[prepared.spec.dimensions])
    rows = np.sort(chosen[in_turns(prepared.patients(chosen))][:count])
    methods = _methods(sampler, task)
    batch = Batch(images=torch.from_numpy(prepared.images(rows)), seed=seed, items=tuple(range(len(rows))))
    moving_rows = partners.of(rows, batch.lots("partner", 1)[:, 0])
    moving, fixed = prepared.images(moving_rows), batch.images.numpy()
    for method in methods.values():
        method(moving[0], fixed[0])  # the first call of anything is slow
    fields, seconds = _displacements(methods, moving, fixed, "registering patients")
    warped, truths = task.known(batch)
    noisy = (warped + NOISE * batch.normal("noise", *warped.shape[1:])).clamp(-1, 1).numpy()
    known, _ = _displacements(methods, noisy, fixed, "registering known warps")
    masks = None
    if prepared.spec.mask_classes:
        masks = prepared.masks(moving_rows), prepared.masks(rows)
    overlap = _overlap(fields, masks, prepared.spec.mask_classes, task.options.same_patient)
    numbers = [*overlap, _target_error(known, truths.numpy(), fixed, masks, prepared.spacings(rows)),
               _similarity(fields, moving, fixed), _folding(fields), _seconds(seconds)]
    apart = _disagreements(task, fields[OWN], moving, fixed)
    further = np.setdiff1d(prepared.own("validation", "test"), rows)
    further = further[partners.suited(further)]
    further = np.sort(np.random.default_rng(seed).permutation(further)[:min(images, FURTHER[fixed.ndim - 2])])

    def measure(part: NDArray[np.int64], first: int) -> Doubts:
        ends = prepared.images(part)
        draw = np.random.default_rng([seed, first]).random(len(part), np.float32)
        starts = prepared.images(partners.of(part, draw))
        return _disagreements(task, _own(sampler, task, starts, ends), starts, ends)

    told = limits_of_both(prepared, rows, apart, further, images, seed, measure, rate=UNLIKE)
    document: dict[str, Any] = {"version": 1, "measurements": [], "refused": [*_lacking(methods), *_unshared(overlap)],
                                **told}
    document["pairs"] = compared(
        prepared, rows, numbers, repetitions, seed, task=sampler.facts["task"], split=split,
        same_patient=task.options.same_patient,
        columns=["moving", "fixed", "warped by this run", "warped chequered with fixed",
                 *(f"difference, {name}" for name in fields)])
    if out is not None:
        write(Path(out), document, _pictures(task, fields, moving, fixed, ends_of(prepared)))
    return document


def _own(sampler: Sampler, task: Register, moving: Array, fixed: Array) -> Array:
    """This run's displacements (n, d, *space) of n pairs of images (n, c, *space)."""
    pairs = (torch.from_numpy(images).to(sampler.device) for images in (moving, fixed))
    return task.displacement(sampler.network, *task.given(*pairs)).cpu().numpy()


def _methods(sampler: Sampler, task: Register) -> dict[str, Method]:
    """This run first; the others see the first channel that the network sees of either image."""
    def own(moving: Array, fixed: Array) -> Array:
        found: Array = _own(sampler, task, moving[None], fixed[None])[0]
        return found

    def by(method: itk.Method) -> Method:
        def found(moving: Array, fixed: Array) -> Array:
            one, other = task.given(torch.from_numpy(moving[None]), torch.from_numpy(fixed[None]))
            return method(one[0, 0].numpy(), other[0, 0].numpy())
        return found

    def nothing(moving: Array, fixed: Array) -> Array:
        return np.zeros((fixed.ndim - 1, *fixed.shape[1:]), np.float32)

    return {OWN: own, NOTHING: nothing} | {name: by(method) for name, method in itk.methods().items()}


def _displacements(methods: dict[str, Method], moving: Array, fixed: Array, title: str,
                   ) -> tuple[dict[str, Array], dict[str, NDArray[np.float64]]]:
    """Displacements (n, d, *space) of every method, and the seconds (n,) that each pair took, one pair at a time."""
    fields, seconds = {}, {}
    for name, method in methods.items():
        found, took = [], []
        for one, other in track(list(zip(moving, fixed, strict=True)), None, f"{title}: {name}", "pairs"):
            start = time.perf_counter()
            found.append(method(one, other))
            took.append(time.perf_counter() - start)
        fields[name], seconds[name] = np.stack(found), np.asarray(took)
    return fields, seconds


Masks = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Of the moving and the fixed images, below 0 (`arrays.NO_MASK`) where an image has none."""


def warped_labels(masks: NDArray[Any], displacements: Array) -> NDArray[np.uint8]:
    """(n, *space) label values at the displaced places, the nearest pixel's."""
    values = torch.from_numpy(masks[:, None].astype(np.float32))
    return warp(values, torch.from_numpy(displacements), mode="nearest")[:, 0].numpy().astype(np.uint8)


def _overlap(fields: dict[str, Array], masks: Masks | None, classes: int, same_patient: bool) -> list[Found]:
    if masks is None:
        return []
    moving, fixed = (np.maximum(one, 0).astype(np.uint8) for one in masks)  # without labels, a pair does not count
    values = {name: label_overlap(warped_labels(moving, field), fixed, moving, classes)
              for name, field in fields.items()}
    return [Found(name="dice", title="Overlap of labels (Dice)", unit="", better="higher", values=values,
                  bounds=(0, 1), meaning=(
        f"How well labels carried over from {'another image of the patient' if same_patient else 'another patient'} "
        "cover the same labels; 1 is the same place."))]


def _target_error(known: dict[str, Array], truths: Array, fixed: Array, masks: Masks | None,
                  spacing: NDArray[np.float64] | None) -> Found:
    inside = fixed[:, 0] > FOREGROUND
    if masks is not None:
        labelled = masks[1] > 0
        some = labelled.any(axis=tuple(range(1, labelled.ndim)), keepdims=True)
        inside = np.where(some, labelled, inside)  # without a mask, or with an empty one: the body
    values = {name: target_registration_error(field, truths, inside, spacing) for name, field in known.items()}
    return Found(name="target_error", title="Target registration error", unit="pixels" if spacing is None else "mm",
                 better="lower", values=values, bounds=(0, math.inf),
                 meaning="How far from its true place a point ends up on average, "
                 "for images under a known warp with noise of their own.")


def _similarity(fields: dict[str, Array], moving: Array, fixed: Array) -> Found:
    goal = torch.from_numpy(fixed)
    values = {name: local_correlation(warp(torch.from_numpy(moving), torch.from_numpy(field)), goal).double().numpy()
              for name, field in fields.items()}
    return Found(name="similarity", title="Similarity of images", unit="", better="higher", values=values,
                 bounds=(0, 1), meaning="Squared local correlation of the warped and the fixed image; 1 is the same "
                 "picture. More is not always truer.")


def _disagreements(task: Register, displacements: Array, moving: Array, fixed: Array) -> Doubts:
    """(n,) of pairs, as `apply` looks at them; NaN where moving and fixed images are different contrasts."""
    if task.moving != task.fixed:
        return {DISAGREEMENT: np.full(len(fixed), np.nan)}
    warped = warp(torch.from_numpy(moving), torch.from_numpy(displacements))
    starts, ends = (one.numpy() for one in task.given(warped, torch.from_numpy(fixed)))
    return {DISAGREEMENT: np.array([disagreement(*pair) for pair in zip(starts, ends, strict=True)])}


def _folding(fields: dict[str, Array]) -> Found:
    values = {name: 100 * folding(field) for name, field in fields.items() if name != NOTHING}
    return Found(name="folding", title="Folding", unit="% of the pixels", better="lower", bounds=(0, 100),
                 values=values,
                 compared=False, meaning="Where the warp turns space inside out, which no anatomy does.")


def _seconds(seconds: dict[str, NDArray[np.float64]]) -> Found:
    values = {name: 1000 * took for name, took in seconds.items() if name != NOTHING}
    return Found(name="time", title="Time for a pair", unit="ms", better="lower", values=values,
                 bounds=(0, math.inf),
                 meaning="How long one registration takes on this machine, without reading and writing files.")


def _lacking(methods: dict[str, Method]) -> list[dict[str, str]]:
    """Why there are no other methods, if there are none."""
    if len(methods) > 2:
        return []
    return [{"name": "baselines", "title": "B-spline and demons registration", "reason": str(
        MissingExtra("A comparison with registrations that learn nothing", "itk"))}]


def _unshared(overlap: list[Found]) -> list[dict[str, str]]:
    """Why labels were not measured, where fewer than two pairs have a label in common."""
    found = [(one, int(np.isfinite(one.values[OWN]).sum()), len(one.values[OWN])) for one in overlap]
    return [{"name": one.name, "title": one.title, "reason": (
        "At least two pairs are needed whose images have a label in common; of the "
        f"{pairs} pairs {shared} {'is' if shared == 1 else 'are'} of that kind.")}
            for one, shared, pairs in found if shared < 2]


def _pictures(task: Register, fields: dict[str, Array], moving: Array, fixed: Array, ends: tuple[float, float],
              ) -> Array:
    """(n, columns, *space): moving, fixed, warped, a chequerboard of both, and differences of all methods; from black,
    where they have the network value ends[0] and nothing differs, to white."""
    start, goal = torch.from_numpy(moving[:SHOWN]), torch.from_numpy(fixed[:SHOWN])
    warped = {name: warp(start, torch.from_numpy(field[:SHOWN])) for name, field in fields.items()}
    seen, kept = task.given(start, goal)
    ours = task.given(warped[OWN], goal)[0][:, :1]
    columns = [seen[:, :1], kept[:, :1], ours, torch.where(chequers(goal.shape[2:]), ours, kept[:, :1])]
    columns += [(task.given(goal, image)[1] - kept)[:, :1].abs() + ends[0] for image in warped.values()]
    shown = torch.cat(columns, dim=1)
    return in_window((shown if shown.ndim == 4 else shown[:, :, shown.shape[2] // 2]).numpy(), ends)


def chequers(space: tuple[int, ...]) -> torch.Tensor:
    """(*space) a chequerboard of eight fields along each axis."""
    axes = [torch.arange(side) * 8 // side for side in space]
    return sum(torch.meshgrid(*axes, indexing="ij"), torch.zeros(space, dtype=torch.long)) % 2 == 0
