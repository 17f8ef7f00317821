"""Whether the result of a task from image to image can be doubted: five numbers that need no truth.

Networks of this kind can invent and remove findings (Cohen, Luck and Honari 2018). A number is the 99th percentile over
the pixels, so that damage in a small place counts; of anatomy, the share of labels that differ (`anatomy`). MEAN is
a mean: it follows the error of a restoration best (docs/lab-notebook.md, "do the checks tell bad results?"). What is
usual is known from held-out images (`limits`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.batch import Batch
from radsynth.tasks import ImageTask
from radsynth.tasks._degrade import average_down
from radsynth.verbs._applying.anatomy import Anatomy

Images = NDArray[np.float32]
Doubts = dict[str, NDArray[np.float64]]
"""Numbers (n,) of n images, or of the n slices of one, by the check's name."""
MEAN = "mean_inconsistency"
NAMES = ("inconsistency", MEAN, "edges", "uncertainty", "anatomy")
MISMATCH = "mismatch"
"""The one number of label maps (`segmenter.expected_mismatch`)."""
NOISE = 0.04
"""Standard deviation of the test-time noise: 2 % of the range from -1 to 1."""

FALSE_ALARMS = 0.01
"""Share of further usual images above a limit, at most and in expectation, where there are images enough to tell."""
BY_CROPS = "limits_by_crops"
"""What results.json calls it that its limits are of whole images, checked crop by crop."""
ENOUGH = 99
"""Held-out images that a limit with so few false alarms needs: with n of them the lowest rate is 1 in n + 1."""


def doubts(task: ImageTask, network: Callable[[Images, str], Images], given: Images, made: Images, target: str = "",
           anatomy: Anatomy | None = None, first: int = 0, crops: bool = False) -> Doubts:
    """Each of NAMES for n images, in percent of the range, of anatomy in percent of the labelled pixels; NaN where a
    task has no such check or the run no segmenters, and of anatomy for images that lack a given channel.

    network: given images and a target to results; given: (n, inputs, *space / finer); made: (n, outputs, *space)
    first: the number of the first image, by which its noise is drawn
    crops: the images are crops of one: what edges and labels are compared with is that of all
    """
    found = {}
    for name, values in doubt_maps(task, network, given, made, target, first, crops):
        found[name] = _percent(values)
        if name == "inconsistency":
            found[MEAN] = 50 * values.mean(axis=tuple(range(1, values.ndim)), dtype=np.float64)
    found["anatomy"] = np.full(len(given), np.nan) if anatomy is None else (
        anatomy.differences(task.enlarge(torch.from_numpy(given)).numpy(), made, crops)[1])
    return found


def doubt_maps(task: ImageTask, network: Callable[[Images, str], Images], given: Images, made: Images, target: str = "",
               first: int = 0, crops: bool = False) -> Iterator[tuple[str, Images]]:
    """Where each of NAMES but MEAN and anatomy comes from, one by one: (n, c, *space) differences of network values."""
    yield "inconsistency", _inconsistency(task, network, given, made, target)
    yield "edges", _edge_changes(made, task.enlarge(torch.from_numpy(given)).numpy(), crops)
    change = np.zeros_like(made)
    for sign in (1, -1):
        near: Images = Batch(images=torch.from_numpy(given), seed=0, items=tuple(range(first, first + len(given)))
                             ).normal("doubt", *given.shape[1:]).numpy()
        near *= np.float32(sign * NOISE)
        near += given
        result = network(near, target)
        result -= made
        change += np.abs(result, out=result)
    change /= 2
    yield "uncertainty", change


def _inconsistency(task: ImageTask, network: Callable[[Images, str], Images], given: Images, made: Images, target: str,
                   ) -> Images:
    """How far the result leads back to what was given: made coarse again, or translated back."""
    if max(task.finer) > 1:
        return np.asarray(np.abs(average_down(torch.from_numpy(made), task.finer).numpy() - given))
    if len(task.targets) == 2:
        other = next(name for name in task.targets if name != target)
        return np.asarray(np.abs(network(made, other) - given))
    return np.full_like(given, np.nan)


def _edge_changes(made: Images, fine: Images, crops: bool) -> Images:
    """(n, 1, *space) difference of the strengths of edges."""
    strength = _edges(made, crops)
    strength -= _edges(fine, crops)
    return np.asarray(np.abs(strength, out=strength))


def _edges(images: Images, crops: bool) -> Images:
    """(n, 1, *space) strength of edges over all channels, relative to the image's own strongest (99th percentile)."""
    axes = [axis for axis in range(1, images.ndim - 1) if images.shape[axis + 1] > 1]  # a single pixel has no slope
    strength = np.zeros((len(images), 1, *images.shape[2:]), np.float32)
    for channel in range(images.shape[1]):
        squares = np.zeros_like(strength[:, 0])
        for axis in axes:
            slope = np.gradient(images[:, channel], axis=axis)
            squares += np.square(slope, out=slope)
        strength[:, 0] += np.sqrt(squares, out=squares)
    strength /= images.shape[1]
    top = np.percentile(strength, 99, axis=None if crops else tuple(range(1, strength.ndim)), keepdims=True)
    strength *= (2 / np.maximum(top, 1e-3)).astype(np.float32)
    return strength


def _percent(differences: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """99th percentiles (n,) of differences between values in [-1, 1], in percent of the range."""
    return np.asarray(50 * np.percentile(differences.reshape(len(differences), -1), 99, axis=1), np.float64)


def limits(found: Doubts, share: float = 1) -> dict[str, float]:
    """What is usual on held-out images: a limit for each number that the task has, of the images that have it.

    Conformal (Vovk, Gammerman and Shafer 2005): a further image's number has n + 1 places among n others, all alike
    likely, so that k of n + 1 are above the k-th largest. With fewer than ENOUGH images it is the largest.
    share: of each image that was looked at. A further one is looked at as a whole, and is 1 / share times as likely to
    be above a limit somewhere: n images count as `counted`, and set no limit where these are none.
    """
    known = {name: np.sort(values[np.isfinite(values)]) for name, values in found.items()}
    return {name: float(values[-max(1, math.floor(FALSE_ALARMS * share * (len(values) + 1) + 1e-9))])
            for name, values in known.items() if counted(len(values), share)}


def counted(images: int, share: float) -> int:
    """As how many whole images so many count of which only a share was looked at."""
    return max(0, math.floor(share * (images + 1) + 1e-9) - 1)


def limits_from(found: Doubts, share: float = 1) -> int:
    """How many images the limit that rests on the fewest rests on; 0 without limits. share: as of `limits`"""
    counts = [counted(int(np.isfinite(values).sum()), share) for values in found.values()]
    return min((count for count in counts if count), default=0)


def false_alarms(images: int) -> str:
    """How often a check flags a usual image by chance, in words, where its limit rests on so many images."""
    if images >= ENOUGH:
        return "at most one usual image in a hundred"
    return (f"one usual image in {images + 1:,}, because the limit is the largest number of {images:,} held-out "
            f"image{'s' if images > 1 else ''}; for one in a hundred it takes {ENOUGH}")


def read_limits(run: Path, names: tuple[str, ...] = NAMES, target: str = "", crops: bool = False,
                ) -> tuple[dict[str, float], int]:
    """The limits of these numbers that were measured after training, none when they were not; and how many images they
    rest on, 0 when nothing says so.

    target: of an unpaired translation, which is measured one way: what is usual there says nothing of the way back
    crops: only limits of whole images by their crops (`BY_CROPS`) will do; older versions measured those of crops
    """
    try:
        document = json.loads((Path(run) / "results.json").read_text(encoding="utf-8"))
        if target and document.get("direction", ["", target])[1] != target:
            return {}, 0
        if crops and not document.get(BY_CROPS):
            return {}, 0
        found = {name: float(document["limits"][name]) for name in names if name in document["limits"]}
        return found, int(document.get("limits_from", 0))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}, 0


def flags(found: dict[str, float], usual: dict[str, float]) -> str:
    """The names of the numbers above their limits, separated by blanks; "unknown" when no limits were measured."""
    if not usual:
        return "unknown"
    return " ".join(name for name, limit in usual.items() if found[name] > limit)


def flagged_slices(found: Doubts, usual: dict[str, float], turned: bool = False) -> str:
    """The slices of a volume, from 0, in which a number is above its limit: "3-5 9"; empty for a single image.

    turned: the file counts them from the other end
    """
    above = np.any([found[name] > limit for name, limit in usual.items()], axis=0) if usual else np.zeros(1, bool)
    above = above[::-1] if turned else above
    if len(above) == 1:
        return ""
    places = np.flatnonzero(above)
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
