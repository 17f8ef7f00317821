"""Directions among codes: closed form, principal, of an attribute, of a class; what a step along one really does.

Codes are rows (n, length); directions are rows of length 1, and a step is one standard deviation of the codes along the
direction. Pure functions of arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


# Shen and Zhou 2021 (SeFa), eq. 5: A^T A n = lambda n, A the weights of the first layer
def closed_form(weight: Array, count: int) -> tuple[Array, Array]:
    """(outputs, length) weights to `count` directions that change the first layer most, and their shares of it."""
    values, vectors = np.linalg.eigh(weight.T @ weight)
    order = np.argsort(values)[::-1][:count]
    return _oriented(vectors[:, order].T), values[order] / values.sum()


# Härkönen et al. 2020 (GANSpace): principal components of features, and the codes that go with their coordinates
def principal(codes: Array, features: Array, count: int, groups: NDArray[np.int64] | None = None,
              ) -> tuple[Array, Array]:
    """Directions of codes (n, length) along which the features (n, d) vary most, and the components' shares.

    The direction of a component is the regression of the codes on the component's coordinates (the paper's eq. 2).
    groups: (n,) classes whose means are taken out first.
    """
    same = np.zeros(len(codes), np.int64) if groups is None else groups
    codes, centred = within_groups(codes, same), within_groups(features, same)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    count = min(count, int((s > 1e-9 * s[0]).sum())) if s[0] > 0 else 0
    directions = u[:, :count].T @ codes
    return _oriented(_unit(directions)), s[:count] ** 2 / max(float((s ** 2).sum()), 1e-30)


def regress(codes: Array, values: Array, groups: NDArray[np.int64] | None = None) -> tuple[Array, float]:
    """The direction (length,) along which `values` (n,) rise most steeply by ridge regression, and R^2 on unseen rows.

    groups: (n,) classes whose means are taken out first, so that the direction holds within a class. The ridge is
    chosen among powers of ten by five-fold cross-validation, which also gives the R^2 (below 0 counts as 0).
    """
    if groups is not None:
        codes, values = within_groups(codes, groups), within_groups(values[:, None], groups)[:, 0]
    codes, values = codes - codes.mean(0), values - values.mean()
    total = float(values @ values)
    if total <= 1e-20:
        return np.zeros(codes.shape[1]), 0.0
    folds = np.arange(len(codes)) % 5
    scale = float(np.square(codes).sum() / codes.shape[1])
    ridges = [scale * 10.0**power for power in range(-6, 2)]
    errors = np.zeros(len(ridges))
    for fold in range(5):
        kept = folds != fold
        gram, target = codes[kept].T @ codes[kept], codes[kept].T @ values[kept]
        for index, ridge in enumerate(ridges):
            fitted = np.linalg.solve(gram + ridge * np.eye(len(gram)), target)
            errors[index] += float(np.square(values[~kept] - codes[~kept] @ fitted).sum())
    best = ridges[int(errors.argmin())]
    weights: Array = np.asarray(np.linalg.solve(codes.T @ codes + best * np.eye(codes.shape[1]), codes.T @ values))
    return _unit(weights[None])[0], max(0.0, 1 - float(errors.min()) / total)


def within_groups(values: Array, groups: NDArray[np.int64]) -> Array:
    """(n, d) values with the mean of each group (n,) taken out."""
    out = values.astype(np.float64)
    for group in np.unique(groups):
        out[groups == group] -= out[groups == group].mean(0)
    return out


def spread(codes: Array, direction: Array) -> float:
    """Standard deviation of the codes along a direction: the length of one step."""
    return float((codes @ direction).std(ddof=1))


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one step along a direction does to an attribute: the mean slope over images and its 95 % interval.

    slope, low, high: in the attribute's unit a step; relative: the slope in standard deviations of the attribute
    consistent: share of the images in which the slope has the sign of the mean
    """

    attribute: str
    slope: float
    low: float
    high: float
    relative: float
    consistent: float


def effect(name: str, steps: Array, values: Array, deviation: float) -> Effect:
    """The effect from an attribute's values (images, steps) at the given steps, by a line through each image's values.

    The interval is Student's t over the images, which are independent draws.
    """
    from scipy.stats import t

    centred = steps - steps.mean()
    slopes = (values - values.mean(1, keepdims=True)) @ centred / (centred @ centred)
    mean, error = float(slopes.mean()), float(slopes.std(ddof=1) / np.sqrt(len(slopes)))
    width = float(t.ppf(0.975, len(slopes) - 1)) * error
    return Effect(attribute=name, slope=mean, low=mean - width, high=mean + width,
                  relative=mean / deviation if deviation > 0 else 0.0,
                  consistent=float((np.sign(slopes) == np.sign(mean)).mean()))


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30))


def _oriented(rows: Array) -> Array:
    """Each row with the sign that makes its largest part positive: the same on every machine."""
    largest = np.abs(rows).argmax(1)
    signs = np.sign(rows[np.arange(len(rows)), largest])
    return np.asarray(rows * signs[:, None])
