"""Writes what an evaluation found: pictures for the report first, results.json last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import spread
from radsynth.files import replacing, write_atomically
from radsynth.metrics._features import Rows
from radsynth.verbs._grid import save_pictures, shades

SHOWN = 24
"""Images of each kind kept for the report."""


def shown(images: Rows, window: tuple[float, float]) -> NDArray[np.uint8]:
    """Images taken evenly over the sample, (n, c, *space), as display values."""
    return shades(images[spread(len(images), SHOWN)], window)


def write_results(out: Path, document: dict[str, Any], pictures: Mapping[str, NDArray[np.uint8]]) -> None:
    """results.json and pictures/NAME.npy in place of those of an earlier evaluation. FolderError when that fails."""
    folder = out / "pictures"
    earlier = [folder / "real.npy", folder / "synthetic.npy", folder / "neighbours.npy", *folder.glob("set_*.npy")]
    with replacing(out / "results.json", earlier) as new:
        for name, values in pictures.items():
            save_pictures(new / "pictures" / f"{name}.npy", values)
        write_atomically(new / "results.json", json.dumps(document, indent=1))
