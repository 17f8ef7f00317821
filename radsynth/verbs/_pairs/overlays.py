"""The most doubtful results as pictures: what speaks against them, in red over the result."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.doubts import MEAN, NAMES, doubt_maps
from radsynth.verbs._grid import black_and_white, in_window, shown_window

Images = NDArray[np.float32]
SHOWN = 6
"""Results that are shown."""
ANATOMY = 100.0
"""What a pixel with another label counts as, in percent."""


def most_doubtful(found: dict[str, NDArray[np.float64]], usual: dict[str, float]) -> NDArray[np.int64]:
    """Positions of the SHOWN images that come closest to the limits or pass them furthest."""
    shares = [found[name] / max(limit, 1e-6) for name, limit in usual.items()]
    return np.argsort(-np.nanmax(shares, axis=0), kind="stable")[:SHOWN]


def columns(usual: dict[str, float]) -> list[str]:
    """What the pictures of one result show, from left to right."""
    return ["given", "result", *(name for name in NAMES if name in usual and name != MEAN)]


def overlays(applier: Applier, given: Images, usual: dict[str, float]) -> NDArray[np.uint8]:
    """One result, (1, inputs, *space / finer), as (columns, 3, rows, columns) on a screen.

    A map is as red as it can be where it reaches twice what is usual. CT is shown in its window.
    """
    made = applier.network_of(given, applier.target)
    fine = applier.task.enlarge(torch.from_numpy(given)).numpy()
    maps = {name: 50 * values.mean(axis=1)[0]
            for name, values in doubt_maps(applier.task, applier.network_of, given, made, applier.target)}
    if applier.anatomy is not None:
        maps["anatomy"] = ANATOMY * applier.anatomy.differences(fine, made)[0][0]
    ends = black_and_white(shown_window(applier.spec), applier.intensity)
    grey = in_window(_middle(made[0, 0]), ends)
    pictures = [_in_red(in_window(_middle(fine[0, 0]), ends), None), _in_red(grey, None)]
    for name in columns(usual)[2:]:
        strength = _middle(maps[name] / (2 * max(usual[name], 1e-6)))
        # On the coarse grid of what was given: each of its pixels covers several of the result.
        factors = [have // want for have, want in zip(grey.shape, strength.shape, strict=True)]
        pictures.append(_in_red(grey, np.kron(strength, np.ones(factors)).clip(0, 1)))
    return np.stack(pictures)


def _middle(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns): of a volume the middle slice."""
    return image if image.ndim == 2 else image[image.shape[0] // 2]


def _in_red(grey: NDArray[np.float32], strength: NDArray[np.floating] | None) -> NDArray[np.uint8]:
    """(3, rows, columns) of network values, red where the strength (0 to 1) is high."""
    shown = np.repeat((np.clip(grey, -1, 1)[None] + 1) / 2, 3, axis=0)
    if strength is not None:
        red = np.array([1.0, 0.1, 0.1])[:, None, None]
        shown = shown * (1 - strength) + red * strength
    return np.asarray(np.rint(255 * shown), np.uint8)
