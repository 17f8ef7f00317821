"""Frechet distance between two clouds of features (Heusel et al. 2017), and between sub-samples of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Estimate, Sample
from radsynth.metrics._resampling import estimate, paired_halves

Pairs = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]


def frechet_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """||mean_a - mean_b||^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), covariances with n - 1. Features (n, d), (m, d).

    The trace of the root is the sum of the singular values of X_a X_b^T (X: centred rows / sqrt(n - 1)). Where there
    are more rows than numbers it comes from the covariances, which are summed by chunks, so that no other matrix is
    larger than d x d.
    """
    if min(len(a), len(b)) > a.shape[1]:
        mean_a, covariance_a = moments(a)
        mean_b, covariance_b = moments(b)
        root = _root(covariance_a)
        trace = _sum_of_roots(root @ covariance_b @ root.T)
        spread = float(np.trace(covariance_a) + np.trace(covariance_b))
    else:
        wide_a, wide_b = _centre(a, b)
        mean_a, mean_b = wide_a.mean(0), wide_b.mean(0)
        root_a, root_b = (wide_a - mean_a) / math.sqrt(len(a) - 1), (wide_b - mean_b) / math.sqrt(len(b) - 1)
        trace = _nuclear_norm(root_a @ root_b.T)
        spread = float(np.square(root_a).sum() + np.square(root_b).sum())
    return float(np.square(mean_a - mean_b).sum()) + spread - 2 * trace


def frechet_of_parts(a: NDArray[np.float32], b: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float64]:
    """Frechet distances of sub-samples (rows of a, rows of b), one for each pair.

    Those of fewer rows than numbers come from one matrix of inner products, centred anew for each pair.
    """
    if all(min(len(i), len(j)) > a.shape[1] for i, j in pairs):
        return np.asarray([frechet_distance(a[i], b[j]) for i, j in pairs])
    wide_a, wide_b = _centre(a, b)
    inner, norms_a, norms_b = wide_a @ wide_b.T, np.square(wide_a).sum(1), np.square(wide_b).sum(1)
    distances = []
    for i, j in pairs:
        mean_a, mean_b, n, m = wide_a[i].mean(0), wide_b[j].mean(0), len(i), len(j)
        cross = inner[np.ix_(i, j)]
        cross = cross - cross.mean(0, keepdims=True) - cross.mean(1, keepdims=True) + cross.mean()
        spread_a = (norms_a[i].sum() - n * (mean_a @ mean_a)) / (n - 1)
        spread_b = (norms_b[j].sum() - m * (mean_b @ mean_b)) / (m - 1)
        root = _nuclear_norm(cross) / math.sqrt((n - 1) * (m - 1))
        distances.append(float(np.square(mean_a - mean_b).sum() + spread_a + spread_b - 2 * root))
    return np.asarray(distances)


def frechet_estimate(real: Sample, other: Sample, repetitions: int, seed: int) -> Estimate:
    """The distance of what both samples keep of their own, with its interval."""
    assert real.own is not None and other.own is not None
    pairs, units = paired_halves(real.patients, other.patients, repetitions, seed)
    parts = frechet_of_parts(real.own, other.own, pairs)
    return estimate(frechet_distance(real.own, other.own), parts, units, low=0.0)


def moments(features: NDArray[np.float32], chunk: int = 2048) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (d,) and covariance (d, d) with n - 1, in double precision, by chunks of rows."""
    mean = features.mean(0, dtype=np.float64)
    covariance = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), chunk):
        part = features[start : start + chunk] - mean
        covariance += part.T @ part
    return mean, covariance / (len(features) - 1)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix R with R^T R = covariance: Cholesky's where it exists, else from the eigenvectors."""
    try:
        return np.asarray(np.linalg.cholesky(covariance).T)
    except np.linalg.LinAlgError:  # a feature that never varies, or one that follows from others
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T)


def _centre(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in double precision with the mean of `a` taken off, which changes no distance and keeps numbers small."""
    origin = a.mean(0, dtype=np.float64)
    return a.astype(np.float64) - origin, b.astype(np.float64) - origin


def _nuclear_norm(matrix: NDArray[np.float64]) -> float:
    """Sum of the singular values, from the eigenvalues of the smaller Gram matrix (four times faster than an SVD)."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return _sum_of_roots(wide @ wide.T)


def _sum_of_roots(symmetric: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.clip(np.linalg.eigvalsh(symmetric), 0, None)).sum())
