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


def overlays(applier: Applier, given: Images, usual: dict[str, float]) -> tuple[NDArray[np.uint8], int | None]:
    """One result, (1, inputs, *space / finer), as (columns, 3, rows, columns) on a screen, and which slice of a volume.

    A map is as red as it can be where it reaches twice what is usual. CT is shown in its window. Of a volume the slice
    is shown in which there is most red: what was lost is in few of them.
    """
    made = applier.network_of(given, applier.target)
    fine = applier.task.enlarge(torch.from_numpy(given)).numpy()
    maps = {name: 50 * values.mean(axis=1)[0]
            for name, values in doubt_maps(applier.task, applier.network_of, given, made, applier.target)}
    if applier.anatomy is not None:
        maps["anatomy"] = ANATOMY * applier.anatomy.differences(fine, made)[0][0]
    ends = black_and_white(shown_window(applier.spec), applier.intensity)
    shown = [in_window(image, ends) for image in (fine[0, 0], made[0, 0])]
    reds = [_on_grid(maps[name] / (2 * max(usual[name], 1e-6)), made.shape[2:]) for name in columns(usual)[2:]]
    place = _most_red(reds) if made.ndim == 5 else None
    if place is not None:
        shown, reds = [image[place] for image in shown], [red[place] for red in reds]
    given_shown, result = shown
    return np.stack([_in_red(given_shown, None), _in_red(result, None), *(_in_red(result, red) for red in reds)]), place


def _on_grid(strength: NDArray[np.floating], space: tuple[int, ...]) -> NDArray[np.floating]:
    """(*space) from 0 to 1 of a map that may lie on the coarse grid of what was given, whose pixels cover several."""
    factors = [have // want for have, want in zip(space, strength.shape, strict=True)]
    return np.kron(strength, np.ones(factors)).clip(0, 1)


def _most_red(reds: list[NDArray[np.floating]]) -> int:
    """The slice of a volume in which most speaks against it; the middle one where nothing does."""
    slices = np.sum([red.sum(axis=(1, 2)) for red in reds], axis=0)
    return int(slices.argmax()) if slices.any() else len(slices) // 2


def _in_red(grey: NDArray[np.float32], strength: NDArray[np.floating] | None) -> NDArray[np.uint8]:
    """(3, rows, columns) of network values, red where the strength (0 to 1) is high."""
    shown = np.repeat((np.clip(grey, -1, 1)[None] + 1) / 2, 3, axis=0)
    if strength is not None:
        red = np.array([1.0, 0.1, 0.1])[:, None, None]
        shown = shown * (1 - strength) + red * strength
    return np.asarray(np.rint(255 * shown), np.uint8)
