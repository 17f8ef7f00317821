"""How close two sets of images are in feature space: Frechet distance (Heusel et al. 2017) and kernel distance (KID,
Binkowski et al. 2018). On other than the Inception features the first is not FID, and is never called so here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._resampling import estimate, halves

MINIMUM = 50
NUMBERS = (
    Number(
        name="frechet_distance", title="Fréchet distance", better="closer to floor",
        meaning="How far the synthetic images as a group lie from unseen real ones in an image network's features; "
                "it falls when they look right and vary like real ones.",
    ),
    Number(
        name="frechet_distance_extrapolated", title="Fréchet distance, extrapolated", better="closer to floor",
        meaning="The same distance with most of the inflation by the limited number of images taken out, "
                "so that runs of different size can be compared; its floor is much nearer to 0.",
    ),
    Number(
        name="kernel_distance", title="Kernel distance (KID), times 1000", better="closer to floor",
        meaning="A second distance between the groups that does not depend on the number of images; "
                "0 is what two groups of real images give on average.",
    ),
)


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """Frechet distance, the same extrapolated to infinitely many images, and 1000 times the kernel distance."""
    require(comparison, MINIMUM, NUMBERS[0])
    value = _estimates(comparison.real, comparison.synthetic, repetitions, seed)
    floor = _estimates(comparison.real, comparison.floor, repetitions, seed)
    return [measurement(number, comparison, v, f) for number, v, f in zip(NUMBERS, value, floor, strict=True)]


def frechet_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """||mean_a - mean_b||^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), covariances with n - 1. Features (n, d), (m, d).

    The trace of the root is the sum of the singular values of X_a X_b^T (X: centred rows / sqrt(n - 1)), here by the
    triangular factors where n > d, so that no side of the matrix exceeds min(n, m, d).
    """
    wide_a, wide_b = _centre(a, b)
    mean_a, mean_b = wide_a.mean(0), wide_b.mean(0)
    root_a = (wide_a - mean_a) / math.sqrt(len(a) - 1)
    root_b = (wide_b - mean_b) / math.sqrt(len(b) - 1)
    spread = float(np.square(root_a).sum() + np.square(root_b).sum())
    return float(np.square(mean_a - mean_b).sum()) + spread - 2 * _nuclear_norm(_factor(root_a) @ _factor(root_b).T)


def kernel_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3. Features (n, d), (m, d)."""
    everything = np.ones((1, len(a))), np.ones((1, len(b)))
    return float(_kernel_distances(a, b, *everything)[0])


def _estimates(real: Sample, other: Sample, repetitions: int, seed: int) -> list[Estimate]:
    pairs = list(zip(halves(real.patients, repetitions, seed), halves(other.patients, repetitions, seed + 1),
                     strict=True))
    full, parts = frechet_distance(real.features, other.features), _frechet_of_parts(real, other, pairs)
    # The bias goes as 1/n (Chong and Forsyth 2020): a straight line through n/2 and n, read off at 1/n = 0.
    part_error = float(np.std(parts, ddof=1)) / math.sqrt(len(parts))
    rows_a, rows_b = (_indicators([p[i] for p in pairs], len(s)) for i, s in enumerate((real, other)))
    kernel_parts = 1000 * _kernel_distances(real.features, other.features, rows_a, rows_b)
    return [
        estimate(full, parts, low=0.0),
        estimate(2 * full - float(np.mean(parts)), parts, extra=part_error),
        estimate(1000 * kernel_distance(real.features, other.features), kernel_parts),
    ]


def _frechet_of_parts(real: Sample, other: Sample,
                      pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> NDArray[np.float64]:
    """Frechet distances of sub-samples. All come from one matrix of inner products, centred anew for each pair."""
    a, b = _centre(real.features, other.features)
    inner, norms_a, norms_b = a @ b.T, np.square(a).sum(1), np.square(b).sum(1)
    distances = []
    for i, j in pairs:
        mean_a, mean_b, n, m = a[i].mean(0), b[j].mean(0), len(i), len(j)
        cross = inner[np.ix_(i, j)]
        cross = cross - cross.mean(0, keepdims=True) - cross.mean(1, keepdims=True) + cross.mean()
        spread_a = (norms_a[i].sum() - n * (mean_a @ mean_a)) / (n - 1)
        spread_b = (norms_b[j].sum() - m * (mean_b @ mean_b)) / (m - 1)
        root = _nuclear_norm(cross) / math.sqrt((n - 1) * (m - 1))
        distances.append(float(np.square(mean_a - mean_b).sum() + spread_a + spread_b - 2 * root))
    return np.asarray(distances)


def _centre(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in double precision with the mean of `a` taken off, which changes no distance and keeps numbers small."""
    origin = a.mean(0, dtype=np.float64)
    return a.astype(np.float64) - origin, b.astype(np.float64) - origin


def _factor(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix R of at most d rows with R^T R = X^T X."""
    return centred if len(centred) <= centred.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def _nuclear_norm(matrix: NDArray[np.float64]) -> float:
    """Sum of the singular values, from the eigenvalues of the smaller Gram matrix (four times faster than an SVD)."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return float(np.sqrt(np.clip(np.linalg.eigvalsh(wide @ wide.T), 0, None)).sum())


def _indicators(rows: list[NDArray[np.int64]], n: int) -> NDArray[np.float64]:
    """(repetitions, n): 1 where a row belongs to the sub-sample."""
    weights = np.zeros((len(rows), n))
    for weight, row in zip(weights, rows, strict=True):
        weight[row] = 1
    return weights


def _kernel_distances(a: NDArray[np.float32], b: NDArray[np.float32], weights_a: NDArray[np.float64],
                      weights_b: NDArray[np.float64]) -> NDArray[np.float64]:
    """One kernel distance for each row of 0/1 weights (repetitions, n) and (repetitions, m)."""
    within_a, diagonal_a = _kernel_sums(a, a, weights_a, weights_a)
    within_b, diagonal_b = _kernel_sums(b, b, weights_b, weights_b)
    between, _ = _kernel_sums(a, b, weights_a, weights_b)
    n, m = weights_a.sum(1), weights_b.sum(1)
    pairs_a, pairs_b = (within_a - diagonal_a) / (n * (n - 1)), (within_b - diagonal_b) / (m * (m - 1))
    return np.asarray(pairs_a + pairs_b - 2 * between / (n * m))


def _kernel_sums(a: NDArray[np.float32], b: NDArray[np.float32], weights_a: NDArray[np.float64],
                 weights_b: NDArray[np.float64], chunk: int = 1024) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted sums of the kernel over all pairs and over the diagonal, by chunks of `a`."""
    sums, wide_b = np.zeros(len(weights_a)), b.astype(np.float64)
    for start in range(0, len(a), chunk):
        rows = slice(start, start + chunk)
        kernel = (a[rows].astype(np.float64) @ wide_b.T / a.shape[1] + 1) ** 3
        sums += np.einsum("rn,nr->r", weights_a[:, rows], kernel @ weights_b.T)
    diagonal = (np.square(a, dtype=np.float64).sum(1) / a.shape[1] + 1) ** 3
    return sums, weights_a @ diagonal
