"""Whether the result of a task from image to image can be doubted: five numbers that need no truth.

Networks of this kind can invent and remove findings (Cohen, Luck and Honari 2018). A number is the 99th percentile over
the pixels, so that damage in a small place counts; of anatomy, the share of labels that differ (`anatomy`). MEAN is
a mean: it follows the error of a restoration best (docs/lab-notebook.md, "do the checks tell bad results?"). What is
usual is known from held-out images (`limits.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
