"""Fits an image to a fixed size without stretching it: true in mm along all axes, padded or cropped.

Each axis is resampled by a sparse matrix with the weights of Keys' cubic (1981), widened when pixels become larger so
that nothing aliases. No BLAS is involved: the result does not depend on the number of threads or processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Size = tuple[int, ...]
Spacing = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How pixels of one image become pixels of the target: for each axis the ratio of their widths and the content.

    ratios: width of a target pixel in source pixels; content: target pixels that the image covers, larger than the
    target's side where it is cropped
    """

    source: Size
    target: Size
    ratios: tuple[float, ...]
    content: Size
    spacing: Spacing

    @property
    def is_identity(self) -> bool:
        """The image already has the target's size."""
        return self.source == self.target and all(ratio == 1 for ratio in self.ratios)

    @property
    def inside(self) -> tuple[slice, ...]:
        """Where in the target the image lies; the rest is background."""
        leads = [(t - c) // 2 for t, c in zip(self.target, self.content, strict=True)]
        return tuple(
            slice(max(lead, 0), min(lead + c, t)) for lead, c, t in zip(leads, self.content, self.target, strict=True)
        )


def plan_fit(source: Size, target: Size, spacing: Spacing | None, *, crop: bool, enlarge: bool,
             wanted: Spacing | None = None) -> Fit:
    """The largest target pixels under which the image fits ("pad") or fills the target (`crop`): squares or cubes.

    Without `enlarge` a target pixel is never finer than the source's finest spacing. spacing: mm, None means square.
    wanted: mm of the target's pixels instead, several times as large only where the image would not fit ("pad"); an
    image of unknown spacing is taken to have them already
    """
    steps = spacing or wanted or (1.0,) * len(source)
    if wanted is None:
        needed = [n * step / t for n, step, t in zip(source, steps, target, strict=True)]
        pixel = min(needed) if crop else max(needed)
        pixels = (pixel if enlarge else max(pixel, min(steps)),) * len(source)
    else:
        times = 1.0 if crop or fits(source, target, steps, wanted) else max(
            n * step / t / w for n, step, t, w in zip(source, steps, target, wanted, strict=True))
        pixels = tuple(times * w for w in wanted)
    return Fit(source=source, target=target, ratios=tuple(p / step for p, step in zip(pixels, steps, strict=True)),
               content=_covered(source, steps, pixels), spacing=pixels)


def fits(source: Size, target: Size, spacing: Spacing, pixels: Spacing) -> bool:
    """Whether an image lies within the target in pixels of this size (mm)."""
    return all(c <= t for c, t in zip(_covered(source, spacing, pixels), target, strict=True))


def _covered(source: Size, spacing: Spacing, pixels: Spacing) -> Size:
    return tuple(max(1, round(n * step / pixel)) for n, step, pixel in zip(source, spacing, pixels, strict=True))


def as_it_is(source: Size, target: Size, spacing: Spacing | None) -> Fit:
    """The image's own pixels in the middle of the target, which is no smaller."""
    return Fit(source=source, target=target, ratios=(1.0,) * len(source), content=source,
               spacing=spacing or (1.0,) * len(source))


def resample(pixels: NDArray[Any], fit: Fit) -> NDArray[np.float32]:
    """(c, *source) -> (c, *target) float32, clipped to the range of the pixels; 0 outside `fit.inside`."""
    values = pixels.astype(np.float32)
    if fit.is_identity:
        return values
    low, high = values.min(), values.max()
    return np.clip(_apply(values, fit, "cubic"), low, high)


def resample_mask(mask: NDArray[np.uint8], fit: Fit) -> NDArray[np.uint8]:
    """(*source) -> (*target) label values: in each target pixel the one that covers most of it, 0 outside."""
    if fit.is_identity:
        return mask
    best = np.zeros(fit.target, np.float32)
    chosen = np.zeros(fit.target, np.uint8)
    for value in np.unique(mask):
        share = _apply((mask == value)[None].astype(np.float32), fit, "linear")[0]
        chosen[share > best] = value
        best = np.maximum(share, best)
    outside = np.ones(fit.target, bool)
    outside[fit.inside] = False
    chosen[outside] = 0
    return chosen


def _apply(values: NDArray[np.float32], fit: Fit, kernel: str) -> NDArray[np.float32]:
    for axis in range(len(fit.source)):
        weights = _weights(fit.source[axis], fit.target[axis], fit.ratios[axis], fit.content[axis], kernel)
        moved = np.moveaxis(values, axis + 1, 0)
        flat = np.ascontiguousarray(moved).reshape(fit.source[axis], -1)
        values = np.moveaxis((weights @ flat).reshape(fit.target[axis], *moved.shape[1:]), 0, axis + 1)
    return np.ascontiguousarray(values, dtype=np.float32)


@lru_cache(maxsize=64)
def _weights(source: int, target: int, ratio: float, content: int, kernel: str) -> csr_array:
    """(target, source) weights along one axis; a row's sum is 1, or 0 where the target shows background."""
    from scipy.sparse import csr_array

    lead = (target - content) // 2
    widen, reach = max(ratio, 1.0), 2 if kernel == "cubic" else 1
    rows, columns, weights = [], [], []
    for row in range(max(lead, 0), min(lead + content, target)):
        centre = (row - lead + 0.5 - content / 2) * ratio + source / 2 - 0.5
        first, last = math.ceil(centre - reach * widen), math.floor(centre + reach * widen)
        near = np.arange(first, last + 1)
        weight = _kernel(np.abs(near - centre) / widen, kernel)
        rows += [row] * len(near)
        columns += np.clip(near, 0, source - 1).tolist()  # beyond the border the border's value goes on
        weights += (weight / weight.sum()).tolist()
    return csr_array((np.asarray(weights, np.float32), (rows, columns)), shape=(target, source))


def _kernel(distance: NDArray[np.float64], kernel: str) -> NDArray[np.float64]:
    """Keys' cubic with a = -1/2, or the triangle."""
    if kernel == "linear":
        return np.clip(1 - distance, 0, None)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
