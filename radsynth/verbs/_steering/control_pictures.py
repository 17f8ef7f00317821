"""The contact sheets of `control`: one picture for each kind of direction, the scale above the columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.image import ImageSpec
from radsynth.verbs._steering.contact_sheets import Shown, save_sheet
from radsynth.verbs._steering.steering import WAY, Direction, Study, render, walk

SHOWN_STEPS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
ROWS = 6


def save_sheets(place: Path, of: Study, found: list[Direction], swept: NDArray[np.float32],
                variety: list[dict[str, float]], spec: ImageSpec, shown: Shown, seed: int, label: int | None,
                ) -> list[str]:
    """Write every sheet; returns the file names."""
    starts = [_class_name(of, spec, k) for k in range(len(swept))]
    save_sheet(list(swept[:ROWS]), place / "truncation.png", shown,
               title="Truncation: from the typical to the varied", row_names=starts[:ROWS],
               column_names=[f"{line['truncation']:g}\n(variety {100 * line['variety']:.0f}\u00a0%)"
                             for line in variety],
               caption=f"{shown.words}. 0 is the mean code, 1 the full variety.")
    _save_ways(place / "interpolation.png", of, spec, shown)
    written = ["truncation.png", "interpolation.png"]
    for kind, name, title in (("closed form", "closed_form", "Directions in closed form"),
                              ("principal", "principal", "Principal directions"),
                              ("attribute", "attributes", "Directions of attributes"),
                              ("attribute alone", "attributes_alone", "Directions of attributes, the others kept")):
        lines = [one for one in found if one.kind == kind]
        if lines:
            _save_directions(place / f"{name}.png", of, lines, title, shown, seed, label)
            written.append(f"{name}.png")
    classes = [one for one in found if one.kind == "class"]
    if classes:
        _save_classes(place / "classes.png", of, classes, spec, shown, of.space.begin(label))
        written.append("classes.png")
    return written


def _class_name(of: Study, spec: ImageSpec, row: int) -> str:
    return f"image {row}" if of.labels is None else f"image {row}\n{spec.labels[int(of.labels[row])]}"


def _save_ways(path: Path, of: Study, spec: ImageSpec, shown: Shown) -> None:
    shares = np.linspace(0, 100, 7)
    rows, names = [], []
    # from a class to the same class: the class is no part of this way
    step = 1 if of.groups is None else len(np.unique(of.groups))
    for k in range(4):
        first, last = k, k + 4 * step
        codes = of.space.between(of.codes[first], of.codes[last], len(shares))
        labels = None if of.labels is None else of.labels[first].expand(len(shares))
        rows.append(render(of.space, codes, labels))
        names.append(f"image {first}\nto {last}" + ("" if of.labels is None else f"\n{spec.labels[int(of.labels[k])]}"))
    save_sheet(rows, path, shown, title="Ways between two images (great circles of the codes)", row_names=names,
               column_names=[f"{share:.0f} %" for share in shares],
               caption=f"{shown.words}. Smooth ways without jumps speak against learning by heart, but do not exclude "
               "it.")


def _save_directions(path: Path, of: Study, lines: Sequence[Direction], title: str, shown: Shown, seed: int,
                     label: int | None) -> None:
    """One row a direction, all from the same image; below each image the attribute that it is about."""
    space = of.space
    labels = space.classes_of(1, label)
    codes = space.drawn(range(len(of.codes), len(of.codes) + 1), seed, labels)
    rows, notes, names = [], [], []
    for line in lines[:ROWS]:
        images = walk(space, codes, labels, line, SHOWN_STEPS)[0]
        aim = next((one for one in of.attributes if line.name.partition(",")[0] == one.name), None)
        told = aim or max(zip(of.attributes, line.effects, strict=True), key=lambda pair: abs(pair[1].relative))[0]
        notes.append([f"{value:.3g}" for value in told.measure(images)])
        names.append(f"{_row_name(line)}\nbelow: {told.name}")
        rows.append(images)
    save_sheet(rows, path, shown, title=title, row_names=names,
               column_names=[f"{step:+g} sd" if step else "start" for step in SHOWN_STEPS],
               notes=notes, caption=f"{shown.words}. All rows start from the same image in the middle; a step is one "
               "standard deviation of the codes. Below each image: the value of the attribute aimed at, or of the one "
               "that moves most.")


def _row_name(line: Direction) -> str:
    """The direction and how well it fits: a share of the variation, or R^2."""
    if line.fit is None:
        return line.name
    told = f"R\u00b2 {line.fit:.2f}" if line.kind.startswith("attribute") else f"{100 * line.fit:.0f} % of variation"
    return f"{line.name.replace(', ', ',' + chr(10))}\n{told}"


def _save_classes(path: Path, of: Study, lines: Sequence[Direction], spec: ImageSpec, shown: Shown, label: int) -> None:
    """One row a class to go to; in the last column the same noise with that class given to the network."""
    space, goals = of.space, [line.name.removeprefix(f"{spec.labels[label]} to ") for line in lines[:ROWS]]
    labels, one = space.classes_of(1, label), range(len(of.codes), len(of.codes) + 1)
    codes = space.drawn(one, 0, labels)
    rows = []
    for line, goal in zip(lines, goals, strict=False):
        other = space.classes_of(1, spec.labels.index(goal))
        given = render(space, space.drawn(one, 0, other), other)
        rows.append(np.concatenate([walk(space, codes, labels, line, WAY)[0], given]))
    save_sheet(rows, path, shown, title=f"From {spec.labels[label]} to the other classes",
               row_names=goals,
               column_names=[*[f"{100 * share:.0f} % of the way" for share in WAY], "class itself"],
               caption=f"{shown.words}. The code moves by the mean difference of the classes; what the network knows "
               "of a class beside the code stays that of the first. Last column: the same noise, the other class.")
