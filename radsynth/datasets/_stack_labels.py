"""What an array of labels says of a stack of images: a class each, or numbers to learn with, such as findings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from radsynth.datasets._label_table import findings
from radsynth.errors import DataError, SettingsError
from radsynth.settings import nearest

T = TypeVar("T")

LISTED = 20
"""Names that a message lists at most."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """classes: a name for each image, None where labels are no classes; numbers: by name, one for each image (a column
    of the array, or 1 and 0 for a finding that classes name); note: what is to be said of each image where neither is
    learned of itself."""

    classes: Sequence[str] | None = None
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    note: str = ""

    def at(self, index: int, wanted: Sequence[str]) -> dict[str, float]:
        """An image's wanted numbers, those that are finite; a finding that none of these images has is 0."""
        there = [name for name in wanted if self.classes or name in self.numbers]
        told = {name: float(self.numbers[name][index]) if name in self.numbers else 0.0 for name in there}
        return {name: value for name, value in told.items() if math.isfinite(value)}


def without_one_hot(parts: Mapping[T, NDArray[Any]]) -> dict[T, NDArray[Any]]:
    """The labels of parts of a data set; where all are one-hot, (n, k) with a single 1 in each row, the classes (n,).

    One part alone may look so by chance: a small one, each image with one finding.
    """
    hot = bool(parts) and all(_is_one_hot(values) for values in parts.values())
    return {part: values.argmax(1) if hot else values for part, values in parts.items()}


def read_labels(values: NDArray[Any], names: Sequence[str], where: str) -> Labels:
    """values: (n,) or (n, 1), which are classes where they are texts or whole numbers (of `names`), else a number an
    image; (n, k): k numbers an image, called `names`. DataError where the names do not fit."""
    several = values.ndim == 2 and values.shape[1] != 1
    if values.ndim not in (1, 2) or not values.size or values.dtype.kind not in ("uibf" if several else "uibfU"):
        return Labels(note=f"labels of shape {values.shape[1:]} and type {values.dtype} are no classes and not learned")
    if several:
        return _columns(values, names, where)
    texts = values.reshape(-1)
    classes = texts.tolist() if texts.dtype.kind == "U" else _named(texts, names, where)
    there = sorted({finding for label in set(classes or ()) for finding in findings(label)})
    numbers = {one: np.array([one in findings(label) for label in classes or ()], np.float64) for one in there}
    if texts.dtype.kind != "U":
        numbers["label"] = texts.astype(np.float64)
    note = "" if classes else ("its label is a number and no class, and is not learned: data.conditions=[label] learns "
                               "it, so that it can be asked for (--at)")
    return Labels(classes=classes, numbers=numbers, note=note)


def check(wanted: Sequence[str], parts: Iterable[Labels]) -> None:
    """SettingsError for a number that no part's labels tell."""
    there = list(dict.fromkeys(name for part in parts for name in part.numbers))
    for name in wanted:
        if name not in there:
            raise SettingsError(f"data.conditions: the labels tell no {name!r}{nearest(name, there)}. They tell "
                                f"{_listed(there) or 'nothing'}.")


def _is_one_hot(values: NDArray[Any]) -> bool:
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "uibf":
        return False
    ones = values == 1
    return bool((ones | (values == 0)).all() and (ones.sum(1) == 1).all())


def _columns(values: NDArray[Any], names: Sequence[str], where: str) -> Labels:
    count = values.shape[1]
    if names and len(names) != count:
        raise DataError(f"{where} has {count} labels an image, but there are {len(names)} class names: give as many "
                        "in data.class_names.")
    called = names or [f"label{index}" for index in range(count)]
    told = _listed(names) if names else f"label0 to label{count - 1}, which data.class_names=[NAME, ...] names"
    note = (f"its {count} labels are no class, and are not learned: data.conditions=[{', '.join(called[:2])}] learns "
            f"the named ones as numbers (1 or 0 of a finding), so that they can be asked for (--at). They are {told}")
    return Labels(numbers={name: values[:, index].astype(np.float64) for index, name in enumerate(called)}, note=note)


def _named(values: NDArray[Any], names: Sequence[str], where: str) -> list[str] | None:
    """The class of each number; None where they are no whole numbers."""
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        return None
    if names and not (int(values.min()) >= 0 and int(values.max()) < len(names)):
        raise DataError(f"{where} runs from {values.min()} to {values.max()}, but there are {len(names)} class names: "
                        "data.class_names needs one for each number, from 0 on.")
    return [names[int(value)] if names else str(int(value)) for value in values]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
