"""Attributes that can be measured on any image without a network: brightness, areas, symmetry, texture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One number an image. `measure` maps (n, c, *space) in [-1, 1] to (n,); unit: as a reader says it."""

    name: str
    unit: str
    meaning: str
    measure: Callable[[Images], Array]


def attributes(reference: Images) -> tuple[Attribute, ...]:
    """The attributes; `reference` (n, c, *space) sets the thresholds between background, tissue and bright parts.

    Thresholds are fixed once for all images: one that followed each image would hide what changes in it.
    """
    tissue, bright = _thresholds(reference)

    def foreground(images: Images) -> Array:
        return _mean(images > tissue) * 100

    def bright_area(images: Images) -> Array:
        return _mean(images > bright) * 100

    return (
        Attribute(name="brightness", unit="% of the range", measure=lambda images: (_mean(images) + 1) * 50,
                  meaning="mean grey value"),
        Attribute(name="contrast", unit="% of the range", measure=_contrast,
                  meaning="standard deviation of the grey values"),
        Attribute(name="foreground area", unit="% of the image", measure=foreground,
                  meaning=f"pixels brighter than the background (above {_grey(tissue)} % of the range, Otsu)"),
        Attribute(name="bright area", unit="% of the image", measure=bright_area,
                  meaning=f"pixels among the brightest tenth of the tissue (above {_grey(bright)} % of the range)"),
        Attribute(name="symmetry", unit="correlation", measure=_symmetry,
                  meaning="correlation of the image with its mirror image, left to right"),
        Attribute(name="texture", unit="% of the range", measure=_texture,
                  meaning="mean difference between neighbouring pixels"),
    )


def _thresholds(reference: Images) -> tuple[float, float]:
    from skimage.filters import threshold_otsu

    values = reference.ravel()[:: max(1, reference.size // 1_000_000)]
    if values.min() == values.max():
        return float(values[0]), float(values[0])
    tissue = float(threshold_otsu(values))
    return tissue, float(np.quantile(values[values > tissue], 0.9))


def _grey(value: float) -> int:
    return round((value + 1) * 50)


def _mean(values: NDArray[np.generic]) -> Array:
    return np.asarray(values.reshape(len(values), -1).mean(1, dtype=np.float64))


def _contrast(images: Images) -> Array:
    return np.asarray(images.reshape(len(images), -1).std(1, dtype=np.float64) * 50)


def _symmetry(images: Images) -> Array:
    flat = [part.reshape(len(images), -1).astype(np.float64) for part in (images, images[..., ::-1])]
    a, b = (part - part.mean(1, keepdims=True) for part in flat)
    power = (a * a).sum(1)
    return np.asarray(np.divide((a * b).sum(1), power, out=np.ones(len(a)), where=power > 1e-12))


def _texture(images: Images) -> Array:
    steps = [_mean(np.abs(np.diff(images, axis=axis))) for axis in range(2, images.ndim)]
    return np.asarray(np.mean(steps, axis=0) * 50)
