"""What is usual of held-out images, as results.json tells it: the limits with which `apply` compares its results.

Limits take patients, so that those of the validation split set them, too: nothing was learned from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.progress import track
from radsynth.verbs._applying.crops import of_image
from radsynth.verbs._applying.doubts import Doubts
from radsynth.verbs._applying.limits import BY_CROPS, FALSE_ALARMS, FROM, limits, limits_from
from radsynth.verbs._pairs.document import CHUNK

Rows = NDArray[np.int64]


def limits_told(found: Doubts, patients: Rows, share: float = 1, rate: float = FALSE_ALARMS) -> dict[str, Any]:
    """What results.json holds of limits that rest on these numbers (n,) of images of patients. share, rate: as of
    `limits`"""
    return {"limits": limits(found, patients, share, rate), FROM: limits_from(found, patients, share)}


def limits_of_both(prepared: Prepared, rows: Rows, found: Doubts, validation: Rows, images: int, seed: int,
                   measure: Callable[[Rows, int], Doubts], rate: float = FALSE_ALARMS) -> dict[str, Any]:
    """As `limits_told`, of the images `rows`, whose numbers are `found`, and at most `images` further ones.

    measure: the numbers of images (k,), and the number of the first
    """
    further = np.setdiff1d(validation, rows)  # where there is no test split, `rows` are of validation themselves
    further = np.sort(np.random.default_rng(seed).permutation(further)[:images])
    parts = [found]
    for first in track(range(0, len(further), CHUNK), None, f"checking further images for limits, {CHUNK} at a time"):
        parts.append(measure(further[first:first + CHUNK], len(rows) + first))
    return limits_told({name: np.concatenate([part[name] for part in parts]) for name in found},
                       prepared.patients(np.concatenate([rows, further])), rate=rate)


def limits_by_crops(prepared: Prepared, rows: Rows, images: int, seed: int, measure: Callable[[Rows, int], Doubts],
                    ) -> dict[str, Any]:
    """As `limits_told`, of at most `images` whole images that `rows` are crops of, each checked as `apply` does it.

    measure: the numbers of crops (k,) of an image, and the image's number here
    No limits where the prepared folder, of an older version, does not say which crops belong together.
    """
    owners = np.asarray([prepared.rows[int(row)].image for row in rows])
    if not len(owners) or owners.min() < 0:
        return {"limits": {}, FROM: 0}
    chosen = np.sort(np.random.default_rng(seed).permutation(np.unique(owners))[:images])
    found = []
    for number, owner in enumerate(track(chosen.tolist(), None, "checking whole images by their crops", "images")):
        found.append(of_image(measure(rows[owners == owner], number)))
    first = np.asarray([rows[owners == owner][0] for owner in chosen])
    share = 1 / float(np.mean([1 / prepared.rows[int(row)].drawn for row in first]))
    numbers = {name: np.array([one[name] for one in found]) for name in found[0]}
    return {**limits_told(numbers, prepared.patients(first), share), BY_CROPS: True}
