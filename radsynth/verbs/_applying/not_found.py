"""Whether a label map lacks a label that nearly every training mask has.

A segmenter that has learned little finds nothing, is sure of it, and no other number speaks against an empty map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared, spread
from radsynth.progress import tell
from radsynth.verbs._applying.limits import with_flag
from radsynth.verbs._applying.segmenter import LEAST
from radsynth.verbs._run_files import RunFiles

FLAG = "not_found"
"""What samples.csv flags such an image with, and its column of the labels' names."""
NEARLY_ALL = 0.95
"""Share of the training masks from which on a label is missed where it is not found."""
LOOKED_AT = 500
"""Training masks that are looked at."""
EXPECTED = "expected_labels"
"""What results.json calls the values of such labels."""


def expected_labels(prepared: Prepared) -> list[int]:
    """The values of the labels that nearly all training masks have, with at least LEAST pixels; of crops of images,
    in any crop."""
    rows = prepared.own("train")
    rows = rows[prepared.masked(rows)]
    crops = prepared.manifest.preparation.get("prepare", {}).get("fit") == "patches"
    owners = np.asarray([-1 - owner if crops and (owner := prepared.rows[row].image) >= 0 else row
                         for row in rows.tolist()])
    of, places = np.unique(owners, return_inverse=True)
    chosen = spread(len(of), LOOKED_AT)
    there = np.array([[_has(prepared.stored(rows[places == place], "masks"), value)
                       for value in prepared.spec.label_values] for place in chosen])
    return [value for value, share in zip(prepared.spec.label_values, there.mean(0) if len(there) else (), strict=False)
            if value > 0 and share >= NEARLY_ALL]


def _has(masks: NDArray[Any], value: int) -> bool:
    return bool((masks == value).sum() >= LEAST)


def read_expected(run: Path) -> tuple[int, ...]:
    """As `expected_labels`, of the data that a run learned from, () where its results.json does not say it."""
    try:
        return tuple(int(value) for value in RunFiles(run).get("results.json").get(EXPECTED, ()))
    except (ValueError, TypeError):
        return ()


def lacking(labels: NDArray[Any], expected: Sequence[int]) -> list[int]:
    """The values of the expected labels that a label map has less than LEAST pixels of."""
    return [value for value in expected if not _has(labels, value)]


def flagged(others: str, lacks: Sequence[int]) -> str:
    """The flags of an image: others, as of `limits.flags`, and FLAG where it lacks a label."""
    return with_flag(others, FLAG) if lacks else others


def tell_of(rows: Sequence[Mapping[str, object]]) -> None:
    """Say in which images, by their rows of samples.csv, labels are not found."""
    found = {row["source"]: str(row[FLAG]) for row in rows if row.get(FLAG)}
    if found:
        first = next(iter(found))
        more = f" and {len(found) - 1:,} more image{'s' if len(found) > 2 else ''}" if len(found) > 1 else ""
        are, it = ("are", "them") if "," in found[first] else ("is", "it")
        tell(f"mind: {found[first]} {are} not found in {first}{more}, and nearly every training mask has {it}. "
             f"samples.csv flags such images ({FLAG}).")
