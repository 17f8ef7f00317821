"""What can be done without learning a network: the methods that a task from image to image has to beat.

A method maps what is given, (n, inputs, *space / finer), to results (n, outputs, *space), float32 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.tasks import PairedTask
from radsynth.verbs._pairs.denoisers import denoisers

Images = NDArray[np.float32]
Method = Callable[[Images], Images]

SAMPLED = 200_000
"""Pixels that a regression of intensities learns from."""


def baselines(task: PairedTask, given: Images, truths: Images) -> dict[str, Method]:
    """Methods by name for this task; `given` and `truths` are pairs of the training split to fit them on."""
    if max(task.finer) > 1:
        return {"Lanczos": lambda images: task.enlarge(torch.from_numpy(images)).numpy(),
                "B-spline": lambda images: _spline(images, task.finer)}
    if getattr(task, "corrects", False):
        return {"left as given": lambda images: images, **denoisers(given, truths)}
    return {"intensity regression": _regression(given, truths)}


def _spline(images: Images, finer: tuple[int, ...]) -> Images:
    """Cubic B-spline interpolation."""
    from scipy.ndimage import zoom

    return np.asarray(zoom(images, (1, 1, *finer), order=3, mode="nearest", grid_mode=True), np.float32)


def _regression(given: Images, truths: Images) -> Method:
    """Each pixel's result from its own given intensities: gradient-boosted trees, one model an output channel."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    pixels, values = columns_of(given), columns_of(truths)
    chosen = np.random.default_rng(0).permutation(len(pixels))[:SAMPLED]
    models: list[Any] = [
        HistGradientBoostingRegressor(max_iter=60, random_state=0).fit(pixels[chosen], values[chosen, channel])
        for channel in range(values.shape[1])
    ]

    def regress(images: Images) -> Images:
        columns = columns_of(images)
        made = np.stack([model.predict(columns) for model in models], axis=-1).astype(np.float32)
        return np.moveaxis(made.reshape(len(images), *images.shape[2:], len(models)), -1, 1)

    return regress


def columns_of(images: Images) -> Images:
    """(n, c, *space) as (pixels, c)."""
    return np.moveaxis(images, 1, -1).reshape(-1, images.shape[1])
