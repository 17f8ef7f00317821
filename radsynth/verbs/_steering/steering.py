"""Steering a generator: codes drawn and studied, directions found among them, walks along them, what a walk does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.models._averages import averaged_to
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._steering import directions as directions_of
from radsynth.verbs._steering.attributes import Attribute, attributes
from radsynth.verbs._steering.directions import Effect, effect
from radsynth.verbs._steering.latents import LatentSpace, chunks

Array = NDArray[np.float64]

SAMPLED = 1024
"""Codes and images that directions are learned from."""
EACH = 8
"""Of every class at least."""
MEASURED = 64
"""Further images on which effects are measured."""
CENTRED = 256
"""Codes of a class whose mean is its centre."""
SWEPT = 8
"""Codes that are shown at every truncation."""
COUNT = 6
"""Directions of the closed form, and principal ones."""
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Steps at which effects are measured, in standard deviations of the codes."""
WAY = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The same on the way to another class, as shares of it."""
TRUNCATIONS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
COARSE = 16
"""Side in pixels of the images that principal directions are taken from, where codes have none of their own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """A direction among codes.

    vector: (length,) of length 1; step: codes' standard deviation along it, the unit of all steps (for a class: the
    whole way to it); fit: share of the variation (closed form, principal) or R^2 on unseen images (attribute)
    effects: what a step does to every attribute
    """

    name: str
    kind: str
    vector: Array
    step: float
    fit: float | None = None
    effects: tuple[Effect, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Without the vector, which is in directions.npz."""
        return {"name": self.name, "kind": self.kind, "step": self.step, "fit": self.fit,
                "effects": [dataclasses.asdict(one) for one in self.effects]}


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Codes drawn from a latent space with their images and attributes: what directions are learned from.

    codes: (n, length); labels: (n,) classes or None; images: (n, c, *space); values: (n, attributes)
    """

    space: LatentSpace
    codes: Tensor
    labels: Tensor | None
    images: NDArray[np.float32]
    attributes: tuple[Attribute, ...]
    values: Array

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """The classes as an array."""
        return None if self.labels is None else self.labels.cpu().numpy()


def latent_space(run: Path) -> LatentSpace:
    """The codes of a trained run: `space.images(space.codes(space.latents(range(4), seed=0)))` are its images."""
    return LatentSpace.of_run(Sampler(Path(run)), Path(run))


def _untold(done: int) -> None:
    """What is called with the number of images that are made, where nobody waits for it."""


@torch.no_grad()
def render(space: LatentSpace, codes: Tensor, labels: Tensor | None, *, done: Callable[[int], None] = _untold,
           ) -> NDArray[np.float32]:
    """Images (n, c, *space) in [-1, 1] of codes (n, length), without the masks that some networks draw with them.

    done: called with the number of images made so far, which of volumes may take minutes
    """
    parts = []
    for rows in chunks(len(codes)):
        images = space.images(codes[rows], None if labels is None else labels[rows])[:, :space.channels]
        parts.append(np.asarray(images.float().clamp(-1, 1).cpu().numpy(), dtype=np.float32))
        done(rows.stop)
    return np.concatenate(parts)


def study(space: LatentSpace, *, label: int | None = None, seed: int = 0, count: int = SAMPLED,
          measured: Sequence[Attribute] | None = None, done: Callable[[int], None] = _untold) -> Study:
    """Draw `count` codes (more of many classes) of all classes in turn, or of one.

    measured: other attributes than the usual ones; done: as of `render`
    """
    count = sampled(space, label, count)
    labels = space.classes_of(count, label)
    codes = space.drawn(range(count), seed, labels)
    images = render(space, codes, labels, done=done)
    chosen = tuple(measured) if measured is not None else attributes(images)
    values = np.stack([measured_in_parts(one, images) for one in chosen], axis=1)
    return Study(space=space, codes=codes, labels=labels, images=images, attributes=chosen, values=values)


def sampled(space: LatentSpace, label: int | None = None, count: int = SAMPLED) -> int:
    """How many images `study` draws of all classes, or of one."""
    return max(count, EACH * len(space.learned)) if label is None else count


def measured_in_parts(one: Attribute, images: NDArray[np.float32]) -> Array:
    """An attribute (n,) of images (n, c, *space). Volumes would be held several times in double precision."""
    return np.concatenate([one.measure(images[rows]) for rows in chunks(len(images))])


def find_directions(of: Study, *, label: int | None = None) -> list[Direction]:
    """All directions, without effects: closed form, principal, of attributes, of attributes alone, of classes.

    label: the class that ways to others begin at; default the first
    """
    codes = of.codes.double().cpu().numpy()
    within = codes if of.groups is None else directions_of.within_groups(codes, of.groups)

    def made(kind: str, names: Sequence[str], vectors: Array, fits: Sequence[float]) -> list[Direction]:
        return [Direction(name=name, kind=kind, vector=vector, fit=float(fit),
                          step=directions_of.spread(within, vector))
                for name, vector, fit in zip(names, vectors, fits, strict=True) if np.linalg.norm(vector) > 0.5]

    closed, shares = directions_of.closed_form(of.space.weight, COUNT)
    found = made("closed form", [f"closed form {k + 1}" for k in range(len(closed))], closed, shares.tolist())
    features = codes if of.space.mapped else _coarse(of.images)
    vectors, shares = directions_of.principal(codes, features, COUNT, of.groups)
    found += made("principal", [f"principal {k + 1}" for k in range(len(vectors))], vectors, shares.tolist())
    fits = [directions_of.regress(codes, of.values[:, k], of.groups) for k in range(len(of.attributes))]
    names, bases = [one.name for one in of.attributes], np.stack([vector for vector, _ in fits])
    found += made("attribute", names, bases, [r2 for _, r2 in fits])
    found += made("attribute alone", [f"{name}, others kept" for name in names],
                  np.stack([freed(bases, k) for k in range(len(bases))]), [r2 for _, r2 in fits])
    return found + (class_directions(of.space, of.space.begin(label)) if of.space.classes else [])


def _coarse(images: NDArray[np.float32]) -> Array:
    """(n, features): images averaged down. Codes of a normal distribution have no principal directions of their own,
    and those of a linear first layer are the closed form's: so variation is measured where it is seen.
    """
    coarse = averaged_to(torch.from_numpy(images), [min(side, COARSE) for side in images.shape[2:]])
    return np.asarray(coarse.flatten(1).double().numpy())


def freed(bases: Array, index: int) -> Array:
    """The direction of one attribute without its parts along the others'."""
    others = np.delete(bases, index, axis=0)
    rest = bases[index] - np.linalg.pinv(others.T).T @ (others @ bases[index]) if len(others) else bases[index]
    length = float(np.linalg.norm(rest))
    return rest / length if length > 1e-3 else np.zeros_like(rest)


def class_directions(space: LatentSpace, label: int) -> list[Direction]:
    """From class `label` to every other class: the mean difference of their codes with the same noise."""
    def centre(one: int) -> Tensor:
        return space.drawn(range(CENTRED), 0, space.classes_of(CENTRED, one)).double().mean(0)

    found, start = [], centre(label)
    for other in space.learned:
        if other != label:
            way = (centre(other) - start).cpu().numpy()
            length = float(np.linalg.norm(way))
            if length > 0:
                found.append(Direction(name=str(other), kind="class", vector=way / length, step=length))
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Unmoved:
    """Where walks begin: codes (n, length) of classes (n,) or None, and their values (n, attributes)."""

    codes: Tensor
    labels: Tensor | None
    values: Array


def unmoved(of: Study, *, seed: int, label: int | None, count: int = MEASURED) -> Unmoved:
    """Fresh codes, which no direction of a study was learned from, and what their images measure."""
    space, labels = of.space, of.space.classes_of(count, label)
    codes = space.drawn(range(len(of.codes), len(of.codes) + count), seed, labels)
    images = render(space, space.place(codes), labels)
    values = np.stack([measured_in_parts(one, images) for one in of.attributes], axis=1)
    return Unmoved(codes=codes, labels=labels, values=values)


def walk(space: LatentSpace, codes: Tensor, labels: Tensor | None, direction: Direction, steps: Sequence[float],
         ) -> NDArray[np.float32]:
    """Images (n, steps, c, *space) of codes (n, length) moved along a direction."""
    return np.stack([render(space, space.move(codes, direction.vector, step * direction.step), labels)
                     for step in steps], axis=1)


def measure_effects(of: Study, direction: Direction, *, seed: int, label: int | None, count: int = MEASURED,
                    start: Unmoved | None = None, done: Callable[[int], None] = _untold) -> Direction:
    """The direction with its effects on all attributes, on images that it was not learned from.

    start: what `unmoved` gives for the class that walks begin at, where several directions share it; done: called with
    the number of steps taken, of those that move
    """
    space, begin = of.space, of.space.begin(label) if direction.kind == "class" else label
    start = start or unmoved(of, seed=seed, label=begin, count=count)
    steps = np.asarray(WAY if direction.kind == "class" else STEPS)
    values = np.empty((len(steps), *start.values.shape))
    for row, step in enumerate(steps):
        if step == 0:
            values[row] = start.values
            continue
        images = walk(space, start.codes, start.labels, direction, [float(step)])[:, 0]
        values[row] = np.stack([measured_in_parts(one, images) for one in of.attributes], axis=1)
        done(int(np.count_nonzero(steps[:row + 1])))
    spreads = of.values if of.groups is None else directions_of.within_groups(of.values, of.groups)
    effects = []
    for index, one in enumerate(of.attributes):
        effects.append(effect(one.name, steps, values[:, :, index].T, float(spreads[:, index].std())))
    return dataclasses.replace(direction, effects=tuple(effects))


def truncation_sweep(of: Study, *, truncations: Sequence[float] = TRUNCATIONS,
                     done: Callable[[int], None] = _untold) -> tuple[NDArray[np.float32], list[dict[str, float]]]:
    """Images (SWEPT, truncations, c, *space) and, for each truncation, how varied 256 images (of many classes two of
    each) of it are.

    variety: the deviation of pixels from their mean image (root mean square), as a share of that without truncation
    done: called with the number of truncations that are finished
    """
    space, groups = of.space, of.groups
    centre = torch.zeros_like(of.codes)
    for group in [None] if groups is None else np.unique(groups):
        rows = slice(None) if group is None else np.flatnonzero(groups == group)
        centre[rows] = of.codes[rows].mean(0)
    many = slice(0, min(max(256, 2 * len(space.learned)), len(of.codes)))
    labels = None if of.labels is None else of.labels[many]
    pictures, numbers = [], []
    for number, truncation in enumerate(truncations, start=1):
        if truncation == 1:
            images = of.images[many]
        else:
            images = render(space, space.truncate(of.codes[many], centre[many], truncation), labels)
        pictures.append(images[:SWEPT])
        numbers.append({"truncation": truncation, "variety": _variety(images, groups)})
        done(number)
    whole = _variety(of.images[many], groups)
    for line in numbers:
        line["variety"] = line["variety"] / whole if whole > 0 else 0.0
    return np.stack(pictures, axis=1), numbers


def _variety(images: NDArray[np.float32], groups: NDArray[np.int64] | None) -> float:
    """Root mean square of the pixels' deviations from their mean image (of their class)."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat = flat - flat.mean(0) if groups is None else directions_of.within_groups(flat, groups[:len(flat)])
    return float(np.sqrt(np.square(flat).mean()))
