"""Kernel distance between two clouds of features (KID, Binkowski et al. 2018), for many sub-samples in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHUNK = 1024
"""Rows whose kernel is computed at once."""


def kernel_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3. Features (n, d), (m, d)."""
    everything = np.ones((1, len(a))), np.ones((1, len(b)))
    return float(kernel_distances(a, b, *everything)[0])


def kernel_distances(a: NDArray[np.float32], b: NDArray[np.float32], weights_a: NDArray[np.float64],
                     weights_b: NDArray[np.float64]) -> NDArray[np.float64]:
    """One kernel distance for each row of 0/1 weights (repetitions, n) and (repetitions, m).

    The kernel is computed in single precision with a constant taken off, which changes no distance and keeps the sums
    small; every sum over chunks is in double precision. Symmetric kernels are computed once.
    """
    offset = float((a.mean(0, dtype=np.float64) @ b.mean(0, dtype=np.float64) / a.shape[1] + 1) ** 3)
    within_a = _within(a, weights_a, offset)
    within_b = _within(b, weights_b, offset)
    between = _between(a, b, weights_a, weights_b, offset)
    n, m = weights_a.sum(1), weights_b.sum(1)
    return np.asarray(within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m))


def indicators(rows: list[NDArray[np.int64]], n: int) -> NDArray[np.float64]:
    """(repetitions, n): 1 where a row belongs to the sub-sample."""
    weights = np.zeros((len(rows), n))
    for weight, row in zip(weights, rows, strict=True):
        weight[row] = 1
    return weights


def _kernel(a: NDArray[np.float32], b: NDArray[np.float32], offset: float) -> NDArray[np.float32]:
    kernel = a @ b.T
    kernel /= np.float32(a.shape[1])
    kernel += np.float32(1)
    cube = np.square(kernel)
    cube *= kernel
    cube -= np.float32(offset)
    return np.asarray(cube, dtype=np.float32)


def _weighted(kernel: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64],
              ) -> NDArray[np.float64]:
    """(repetitions,) sums of the kernel over the pairs that both weights take."""
    sums = kernel @ columns.T.astype(np.float32)
    return np.asarray(np.einsum("rn,nr->r", rows, sums.astype(np.float64)))


def _within(a: NDArray[np.float32], weights: NDArray[np.float64], offset: float) -> NDArray[np.float64]:
    """Sums over all pairs of different rows, by chunks of the upper triangle."""
    sums = np.zeros(len(weights))
    for start in range(0, len(a), CHUNK):
        rows, later = slice(start, start + CHUNK), slice(start + CHUNK, None)
        block = _kernel(a[rows], a[rows], offset)
        np.fill_diagonal(block, 0)
        sums += _weighted(block, weights[:, rows], weights[:, rows])
        if start + CHUNK < len(a):
            sums += 2 * _weighted(_kernel(a[rows], a[later], offset), weights[:, rows], weights[:, later])
    return sums


def _between(a: NDArray[np.float32], b: NDArray[np.float32], weights_a: NDArray[np.float64],
             weights_b: NDArray[np.float64], offset: float) -> NDArray[np.float64]:
    sums = np.zeros(len(weights_a))
    for start in range(0, len(a), CHUNK):
        rows = slice(start, start + CHUNK)
        sums += _weighted(_kernel(a[rows], b, offset), weights_a[:, rows], weights_b)
    return sums
