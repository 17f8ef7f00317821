"""Writes what an evaluation found: pictures for the report first, results.json last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import FolderError
from radsynth.files import write_atomically
from radsynth.verbs._evaluating.sides import Chosen
from radsynth.verbs._grid import shades

SHOWN = 24
"""Images of each kind kept for the report."""


def shown(images: Chosen | NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Images taken evenly over the sample, (n, c, *space), as display values."""
    rows = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).astype(np.int64)
    return shades(images[rows], window)


def write_unmeasured(out: Path, synthetic: NDArray[np.uint8], reason: str) -> dict[str, Any]:
    """results.json of a set that nothing could be measured of, with pictures of it alone; returns what was written."""
    document = {"measurements": [], "refused": [{"name": "all", "title": "Every number", "reason": reason}]}
    write_results(out, document, {"synthetic": synthetic})
    return document


def write_results(out: Path, document: dict[str, Any], pictures: Mapping[str, NDArray[np.uint8]]) -> None:
    """results.json and pictures/NAME.npy in place of those of an earlier evaluation. FolderError when that fails."""
    folder = out / "pictures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in ("real.npy", "synthetic.npy", "neighbours.npy", *(path.name for path in folder.glob("set_*.npy"))):
            (folder / old).unlink(missing_ok=True)
        for name, values in pictures.items():
            temporary = folder / f".{name}.npy"
            np.save(temporary, values, allow_pickle=False)
            temporary.replace(folder / f"{name}.npy")
    except OSError as error:
        raise FolderError(
            f"{folder} could not be written: {error.strerror}. Free some space or name another folder, then evaluate "
            "again."
        ) from None
    write_atomically(out / "results.json", json.dumps(document, indent=1))
