"""Texture of grey-level images, 2-D and 3-D alike: co-occurrence (Haralick 1973), run lengths (Galloway 1975) and zone
sizes (Thibault 2009), by the formulas of the Image Biomarker Standardisation Initiative as pyradiomics computes them.

Everything works on a batch of integer levels (n, *space) in 0..L-1; formulas count levels from 1.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.int64]
Floats = NDArray[np.float64]
TINY = float(np.spacing(1))


def directions(dimensions: int) -> list[tuple[int, ...]]:
    """One of each pair of opposite neighbours: 4 in 2-D, 13 in 3-D. The first step that is not 0 is positive."""
    every = itertools.product((-1, 0, 1), repeat=dimensions)
    return [d for d in every if any(d) and next(step for step in d if step) > 0]


def _steps(levels: Levels) -> list[tuple[int, ...]]:
    """The directions in which there are neighbours: none across a single slice."""
    return [step for step in directions(levels.ndim - 1)
            if all(side > 1 for side, along in zip(levels.shape[1:], step, strict=True) if along)]


def cooccurrence(levels: Levels, count: int) -> Floats:
    """(n, 20) features of the symmetric co-occurrence matrix of direct neighbours, averaged over directions."""
    found = [_cooccurrence_features(_pairs(levels, count, step)) for step in _steps(levels)]
    return np.asarray(np.mean(found, axis=0))


def run_lengths(levels: Levels, count: int) -> Floats:
    """(n, 16) features of the lengths of runs of one level, averaged over directions."""
    found = []
    for step in _steps(levels):
        image, level, length = _runs(levels, step)
        found.append(size_features(image, level, length, len(levels), count, levels[0].size))
    return np.asarray(np.mean(found, axis=0))


def zone_sizes(levels: Levels, count: int) -> Floats:
    """(n, 16) features of the sizes of connected zones of one level; corners connect."""
    if levels.ndim > 3:  # what finds the zones takes three axes at most: one volume at a time
        return np.concatenate([_zone_features(volume, count, 1) for volume in levels])
    # Images get levels of their own: zones cannot reach into the next image.
    return _zone_features(levels + count * np.arange(len(levels))[:, None, None], count, len(levels))


def _zone_features(levels: Levels, count: int, images: int) -> Floats:
    from skimage.measure import label

    zones = label(levels, background=-1).ravel()
    first = np.unique(zones, return_index=True)[1]
    sizes, voxels = np.bincount(zones)[1:], levels.size // images
    return size_features(first // voxels, levels.ravel()[first] % count, sizes, images, count, voxels)


def _pairs(levels: Levels, count: int, step: tuple[int, ...]) -> Floats:
    """(n, count, count): how often levels i and j are neighbours in this direction, either way round; sums to 1."""
    here = tuple(slice(max(0, -s), -s if s > 0 else None) for s in step)
    there = tuple(slice(max(0, s), s if s < 0 else None) for s in step)
    n = len(levels)
    first, second = levels[(slice(None), *here)].reshape(n, -1), levels[(slice(None), *there)].reshape(n, -1)
    key = (np.arange(n)[:, None] * count + first) * count + second
    counts = np.bincount(key.ravel(), minlength=n * count * count).reshape(n, count, count).astype(np.float64)
    counts += counts.transpose(0, 2, 1)
    return np.asarray(counts / counts.sum((1, 2), keepdims=True))


def _cooccurrence_features(p: Floats) -> Floats:
    """(n, 20) from joint shares (n, L, L)."""
    n, count = len(p), p.shape[1]
    level = np.arange(1, count + 1, dtype=np.float64)
    marginal = p.sum(2)
    mean = marginal @ level
    apart = np.abs(level[:, None] - level[None, :]).astype(np.int64)
    total = (level[:, None] + level[None, :]).astype(np.int64) - 2
    flat = p.reshape(n, -1)
    differences = np.stack([flat[:, apart.ravel() == k].sum(1) for k in range(count)], axis=1)
    sums = np.stack([flat[:, total.ravel() == k].sum(1) for k in range(2 * count - 1)], axis=1)
    step = np.arange(count, dtype=np.float64)
    about = np.arange(2, 2 * count + 1)[None, :] - 2 * mean[:, None]
    variance = (marginal * np.square(level[None, :] - mean[:, None])).sum(1)
    autocorrelation = np.einsum("nij,i,j->n", p, level, level, optimize=True)
    difference_mean = differences @ step
    flat_entropy, marginal_entropy = _entropy(flat), _entropy(marginal)
    product = (marginal[:, :, None] * marginal[:, None, :]).reshape(n, -1)
    crossed = -(flat * np.log2(product + TINY)).sum(1)
    mixed = _entropy(product)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(variance > 0, (autocorrelation - mean**2) / variance, 1.0)
        shared = np.where(marginal_entropy > 0, (flat_entropy - crossed) / marginal_entropy, 0.0)
    return np.stack([
        autocorrelation, mean, (sums * about**4).sum(1), (sums * about**3).sum(1), (sums * about**2).sum(1),
        differences @ step**2, correlation, difference_mean, _entropy(differences),
        (differences * np.square(step[None, :] - difference_mean[:, None])).sum(1),
        np.square(flat).sum(1), flat_entropy, shared,
        np.sqrt(np.clip(1 - np.exp(-2 * (mixed - flat_entropy)), 0, None)),
        differences @ (1 / (1 + step**2)), differences @ (1 / (1 + step)), differences[:, 1:] @ (1 / step[1:] ** 2),
        flat.max(1), _entropy(sums), variance,
    ], axis=1)


def _runs(levels: Levels, step: tuple[int, ...]) -> tuple[Levels, Levels, Levels]:
    """Image, level and length of every run in this direction."""
    axis = next(k for k, s in enumerate(step) if s) + 1
    lines = np.moveaxis(levels, axis, 0)
    others = tuple(s for k, s in enumerate(step) if k + 1 != axis)
    length = np.ones(lines.shape, dtype=np.int64)
    ends = np.ones(lines.shape, dtype=bool)
    here = (slice(None), *(slice(max(0, -s), -s if s > 0 else None) for s in others))
    there = (slice(None), *(slice(max(0, s), s if s < 0 else None) for s in others))
    for row in range(1, len(lines)):
        same = lines[row][there] == lines[row - 1][here]
        length[row][there] += np.where(same, length[row - 1][here], 0)
        ends[row - 1][here] &= ~same
    ends, lines, length = (np.moveaxis(part, 0, axis) for part in (ends, lines, length))
    image = np.nonzero(ends)[0]
    return image, lines[ends], length[ends]


def size_features(image: Levels, level: Levels, size: Levels, n: int, count: int, voxels: int) -> Floats:
    """(n, 16) features of a list of runs or zones, given by their image, level (from 0) and size."""
    cells, times = np.unique((image * count + level) * (voxels + 1) + size, return_counts=True)
    owner = cells // (voxels + 1) // count
    i = (cells // (voxels + 1) % count + 1).astype(np.float64)
    j = (cells % (voxels + 1)).astype(np.float64)

    def total(values: Floats) -> Floats:
        return np.asarray(np.bincount(owner, weights=values, minlength=n), dtype=np.float64)

    number = total(times.astype(np.float64))
    p = times / number[owner]
    level_sums = np.bincount(owner * count + (i.astype(np.int64) - 1), weights=p, minlength=n * count).reshape(n, count)
    by_size, where = np.unique(owner * (voxels + 1) + j.astype(np.int64), return_inverse=True)
    size_sums = np.bincount(where, weights=p)
    uneven_levels = np.square(level_sums).sum(1)
    uneven_sizes = np.bincount(by_size // (voxels + 1), weights=size_sums**2, minlength=n)
    mean_level, mean_size = total(p * i), total(p * j)
    return np.stack([
        total(p / j**2), total(p * j**2), uneven_levels * number, uneven_levels, uneven_sizes * number, uneven_sizes,
        number / voxels, total(p * np.square(i - mean_level[owner])), total(p * np.square(j - mean_size[owner])),
        -total(p * np.log2(p + TINY)), total(p / i**2), total(p * i**2),
        total(p / (i**2 * j**2)), total(p * i**2 / j**2), total(p * j**2 / i**2), total(p * i**2 * j**2),
    ], axis=1)


def _entropy(shares: Floats) -> Floats:
    return np.asarray(-(shares * np.log2(shares + TINY)).sum(1))
