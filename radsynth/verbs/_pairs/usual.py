"""What is usual of held-out images, as results.json tells it: the limits with which `apply` compares its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.progress import track
from radsynth.verbs._applying.crops import of_image
from radsynth.verbs._applying.doubts import BY_CROPS, Doubts, limits, limits_from

Rows = NDArray[np.int64]


def limits_told(found: Doubts, share: float = 1) -> dict[str, Any]:
    """What results.json holds of limits that rest on these numbers (n,) of images. share: as of `limits`"""
    return {"limits": limits(found, share), "limits_from": limits_from(found, share)}


def limits_by_crops(prepared: Prepared, rows: Rows, images: int, seed: int, measure: Callable[[Rows, int], Doubts],
                    ) -> dict[str, Any]:
    """As `limits_told`, of at most `images` whole images that `rows` are crops of, each checked as `apply` does it.

    measure: the numbers of crops (k,) of an image, and the image's number here
    No limits where the prepared folder, of an older version, does not say which crops belong together.
    """
    owners = np.asarray([prepared.rows[int(row)].image for row in rows])
    if not len(owners) or owners.min() < 0:
        return {"limits": {}, "limits_from": 0}
    chosen = np.sort(np.random.default_rng(seed).permutation(np.unique(owners))[:images])
    found, shares = [], []
    for number, owner in enumerate(track(chosen.tolist(), None, "checking whole images by their crops", "images")):
        crops = rows[owners == owner]
        found.append(of_image(measure(crops, number)))
        shares.append(prepared.rows[int(crops[0])].drawn)
    share = 1 / float(np.mean(1 / np.asarray(shares)))
    return {**limits_told({name: np.array([one[name] for one in found]) for name in found[0]}, share), BY_CROPS: True}
