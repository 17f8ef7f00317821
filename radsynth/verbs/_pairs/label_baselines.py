"""Segmentations that learn no network: classes of intensity, matched to labels on training images.

Multi-Otsu (Liao et al. 2001) divides each image's own grey values; k-means those of all training images together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.verbs._pairs.baselines import columns_of

Images = NDArray[np.float32]
Labels = NDArray[np.uint8]
Method = Callable[[Images], Labels]
"""Images (n, c, *space) in [-1, 1] to label values (n, *space)."""

SAMPLED = 100_000
"""Pixels that k-means learns from."""
MOST_THRESHOLDED = 5
BINS = 64
"""Multi-Otsu tries all combinations of thresholds between grey values: with more of either it takes too long."""


def label_baselines(images: Images, masks: Labels) -> dict[str, Method]:
    """Methods by name, fitted on images and masks of the training split."""
    count = max(2, len(np.unique(masks)))
    return {"multi-Otsu": _matched(lambda some: _multi_otsu(some, min(count, MOST_THRESHOLDED)), images, masks),
            "k-means": _matched(_k_means(images, count), images, masks)}


def _multi_otsu(images: Images, classes: int) -> Labels:
    """Classes 0, 1, ... from dark to bright of the first channel."""
    from skimage import filters

    otsu: Any = filters.threshold_multiotsu  # it ships no types

    def divide(image: Images) -> Labels:
        values = np.count_nonzero(np.histogram(image, BINS)[0])
        if values < 2:
            return np.zeros(image.shape, np.uint8)
        found: Labels = np.digitize(image, otsu(image, classes=min(classes, values), nbins=BINS)).astype(np.uint8)
        return found

    return np.stack([divide(image) for image in images[:, 0]])


def _k_means(images: Images, classes: int) -> Method:
    from sklearn.cluster import KMeans

    pixels = columns_of(images)
    chosen = np.random.default_rng(0).permutation(len(pixels))[:SAMPLED]
    classes = min(classes, len(np.unique(pixels[chosen], axis=0)))
    model = KMeans(classes, n_init=3, random_state=0).fit(pixels[chosen])
    return lambda some: model.predict(columns_of(some)).reshape(len(some), *some.shape[2:]).astype(np.uint8)


def _matched(divide: Method, images: Images, masks: Labels) -> Method:
    """Each class becomes a label, in that one of two ways that covers the training masks better (mean Dice).

    One way gives each label one class, so that the overlap is largest; the other each class its most frequent label.
    """
    from scipy.optimize import linear_sum_assignment

    found = divide(images)
    counts = np.zeros((int(found.max()) + 1, int(masks.max()) + 1))
    np.add.at(counts, (found.ravel(), masks.ravel()), 1)
    dice = 2 * counts / np.maximum(counts.sum(1, keepdims=True) + counts.sum(0, keepdims=True), 1)
    single = np.zeros(len(counts), np.uint8)
    of_class, label = linear_sum_assignment(-dice)
    single[of_class] = label
    table = max((single, counts.argmax(1).astype(np.uint8)), key=lambda way: _overlap(counts, way))

    def method(some: Images) -> Labels:
        classes: Labels = np.minimum(divide(some), len(table) - 1)
        return np.asarray(table[classes], np.uint8)

    return method


def _overlap(counts: NDArray[np.float64], table: Labels) -> float:
    """Mean Dice over the labels that masks have, without the background, when classes become the labels of `table`."""
    scores = []
    for label in np.flatnonzero(counts.sum(0))[1:]:
        chosen = table == label
        scores.append(2 * counts[chosen, label].sum() / (counts[chosen].sum() + counts[:, label].sum()))
    return float(np.mean(scores)) if scores else 0.0
