"""Denoising by block matching and collaborative filtering (Dabov et al. 2007, BM3D): both steps, of one image.

Written from the paper but for the transforms (cosines in the blocks and across the group) and a flat weighting window.
A method to compare networks with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK, STEP = 8, 3
REACH = 9
"""Pixels in each direction in which similar blocks are sought."""
SIMILAR = 16
THRESHOLD = 2.7
"""Of coefficients, in standard deviations of the noise."""
TOGETHER = 2**13
"""Groups that are shrunk at once: 0.3 GB."""

Array = NDArray[np.float32]


def block_matching(image: Array, sigma: float) -> Array:
    """An image (rows, columns) without white noise of standard deviation `sigma`."""
    padded = np.pad(image, REACH + BLOCK, mode="symmetric").astype(np.float32)
    first = _filtered(padded, padded, sigma, wiener=False)
    second = _filtered(padded, first, sigma, wiener=True)
    inside = slice(REACH + BLOCK, -REACH - BLOCK)
    return np.ascontiguousarray(second[inside, inside])


def _filtered(noisy: Array, guide: Array, sigma: float, *, wiener: bool) -> Array:
    """One step: groups of blocks that are alike in `guide` are shrunk together and laid back over each other."""
    rows, columns = _groups(guide)
    block = np.arange(BLOCK)
    total, count = np.zeros(noisy.size), np.zeros(noisy.size)
    for first in range(0, len(rows), TOGETHER):
        some = slice(first, first + TOGETHER)
        places = (rows[some, :, None, None] + block[:, None], columns[some, :, None, None] + block)
        estimate, weight = _shrunk(noisy[places], guide[places], sigma, wiener=wiener)
        weights = np.broadcast_to(weight[:, None, None, None], estimate.shape).astype(np.float32)
        flat = (places[0] * noisy.shape[1] + places[1]).ravel()
        total += np.bincount(flat, (estimate * weights).ravel(), noisy.size)
        count += np.bincount(flat, weights.ravel(), noisy.size)
    made = np.where(count > 0, total / np.maximum(count, 1e-12), noisy.ravel())
    return made.reshape(noisy.shape).astype(np.float32)


def _shrunk(noisy: Array, guide: Array, sigma: float, *, wiener: bool) -> tuple[Array, Array]:
    """Groups (n, SIMILAR, BLOCK, BLOCK) without what is noise in them, and what each counts (n,)."""
    from scipy.fft import dctn, idctn

    spectrum = dctn(noisy, axes=(1, 2, 3), norm="ortho")
    if wiener:
        pilot = np.square(dctn(guide, axes=(1, 2, 3), norm="ortho"))
        gain = pilot / (pilot + sigma**2)
        weight = 1 / np.maximum(np.square(gain).sum((1, 2, 3)), 1e-6)
    else:
        gain = np.abs(spectrum) > THRESHOLD * sigma
        gain[:, 0, 0, 0] = True
        weight = 1 / gain.sum((1, 2, 3))
    return idctn(spectrum * gain, axes=(1, 2, 3), norm="ortho"), weight


def _groups(guide: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First rows and columns (groups, SIMILAR) of the blocks that are most alike, the reference itself first."""
    height, width = (side - 2 * REACH - BLOCK + 1 for side in guide.shape)
    references = [np.unique([*range(0, side, STEP), side - 1]) + REACH for side in (height, width)]
    top, left = (axis.ravel() for axis in np.meshgrid(*references, indexing="ij"))
    shifts = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]
    shifts.sort(key=lambda shift: shift[0] ** 2 + shift[1] ** 2)
    core = guide[REACH:guide.shape[0] - REACH, REACH:guide.shape[1] - REACH]
    distances = np.empty((len(shifts), len(top)), np.float32)
    for k, (y, x) in enumerate(shifts):
        other = guide[REACH + y:guide.shape[0] - REACH + y, REACH + x:guide.shape[1] - REACH + x]
        distances[k] = _sums(np.square(core - other))[top - REACH, left - REACH]
    near = np.argpartition(distances.T, SIMILAR, axis=1)[:, :SIMILAR]
    order = np.argsort(np.take_along_axis(distances.T, near, axis=1), axis=1, kind="stable")
    chosen = np.take_along_axis(near, order, axis=1)
    moves = np.asarray(shifts)[chosen]
    return top[:, None] + moves[..., 0], left[:, None] + moves[..., 1]


def _sums(values: Array) -> NDArray[np.float64]:
    """Sums over every block."""
    running = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    running[1:, 1:] = values.cumsum(0, dtype=np.float64).cumsum(1)
    return np.asarray(running[BLOCK:, BLOCK:] - running[:-BLOCK, BLOCK:] - running[BLOCK:, :-BLOCK]
                      + running[:-BLOCK, :-BLOCK])
