"""What the measurements of results against the truth share: the images that are measured, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.errors import DataError
from radsynth.files import replacing, write_atomically
from radsynth.metrics._features import forget
from radsynth.verbs._grid import black_and_white, save_pictures, shades, shown_window
from radsynth.verbs._pairs.found import Found, numbers_of

CHUNK = 16
FITTED = 200
"""Training images that baselines are fitted on."""

SHOWN = 12
"""Results that are shown."""


def held_out(prepared: Prepared, images: int, seed: int, masked: bool = False) -> tuple[NDArray[np.int64], str]:
    """Images of the test split, or of the validation split where there is no test split; masked: only with a mask."""
    for split in ("test", "validation"):
        rows = prepared.indices(split)
        rows = rows[prepared.masked(rows)] if masked else rows
        if len(rows) > 1:
            return np.sort(np.random.default_rng(seed).permutation(rows)[:images]), split
    what = "images with masks" if masked else "images"
    raise DataError(f"There are fewer than two {what} of patients outside of training, so that no number could have an "
                    "interval. Prepare more, or a larger held-out share.")


def ends_of(prepared: Prepared) -> tuple[float, float]:
    """The network values that pictures of these images show as black and as white: CT in its window."""
    return black_and_white(shown_window(prepared.spec), prepared.intensity)


def compared(prepared: Prepared, rows: NDArray[np.int64], numbers: list[Found], repetitions: int, seed: int,
             **facts: Any) -> dict[str, Any]:
    """What results.json holds below "pairs": every number of every method on the images `rows`, and facts of them."""
    patients, window = prepared.patients(rows), shown_window(prepared.spec)
    count = len(np.unique(patients))
    whose = "patients" if count > 1 else "one patient's images"
    told, spec = numbers_of(numbers, patients, repetitions, seed), prepared.spec
    tested = {one["label"] for one in told if "label" in one and "dice_" in one["name"]}
    untested = [label for value in range(1, spec.mask_classes) if (label := spec.label_name(value)) not in tested]
    return {**facts, **({"window": list(window)} if window else {}), "images": len(rows), "patients": count,
            "interval": f"95 %, half-samples of {whose}",
            "virtual": spec.virtual, "numbers": told, **({"untested": untested} if tested and untested else {})}


def refused(reason: str, out: Path | None) -> dict[str, Any]:
    """What results.json, which is written into `out`, holds where nothing could be measured."""
    document = {"version": 1, "measurements": [],
                "refused": [{"name": "pairs", "title": "Results against the truth", "reason": reason}]}
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_atomically(Path(out) / "results.json", json.dumps(document, indent=1))
    return document


def write(out: Path, document: dict[str, Any], pictures: NDArray[np.float32],
          doubts: NDArray[np.uint8] | None = None) -> None:
    """pictures/pairs.npy (n, columns, rows, columns) uint8 of values from -1, black, to 1, white; doubts.npy as given;
    then results.json."""
    with replacing(out / "results.json") as new:
        save_pictures(new / "pictures" / "pairs.npy", shades(pictures))
        if doubts is not None:
            save_pictures(new / "pictures" / "doubts.npy", doubts)
        write_atomically(new / "results.json", json.dumps(document, indent=1))


def kept_pictures(out: Path, real: bool, document: dict[str, Any]) -> dict[str, Any]:
    """The document, which says whether pictures were kept; without `real` ones none is: results show patients, too."""
    if not real:
        forget_pictures(out)
    return {**document, "real_pictures": real}


def forget_pictures(out: Path) -> None:
    """Remove the pictures of a measurement, which counts as incomplete then, and what `evaluate` kept of the images."""
    for picture in (out / "pictures").glob("*.npy"):
        picture.unlink()
    forget(out / "features")
