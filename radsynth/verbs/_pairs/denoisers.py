"""Denoisers that learn no network: what a trained one has to beat. Their strength is chosen on pairs of the training.

So is how much of the bias of Rician noise they take away: sqrt(m^2 - k s^2) of a denoised magnitude m under noise s.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import spread
from radsynth.verbs._pairs.block_matching import block_matching

Images = NDArray[np.float32]
Denoiser = Callable[[Images, float, float], Images]
"""One channel (*space) in [0, 1], its noise's standard deviation, a strength -> the channel without noise."""

STRENGTHS = (0.6, 1.0, 1.5)
BIASES = (0.0, 1.0, 2.0)
PAIRS = 12
"""Pairs that a method's numbers are chosen on."""


def denoisers(given: Images, truths: Images) -> dict[str, Callable[[Images], Images]]:
    """Methods on (n, c, *space) in [-1, 1], tuned on pairs of such images."""
    few = spread(len(given), PAIRS)
    return {name: _tuned(method, given[few], truths[few])
            for name, method in {"non-local means": _non_local_means, "total variation": _total_variation,
                                 "block matching (BM3D)": _block_matching}.items()}


def _tuned(method: Denoiser, given: Images, truths: Images) -> Callable[[Images], Images]:
    """The method with the strength and the bias that come closest to the truth in the mean square."""
    tried = {}
    for strength, bias in itertools.product(STRENGTHS, BIASES):
        made = _applied(given, method, strength, bias)
        tried[strength, bias] = float(np.square(made - truths).mean())
    strength, bias = min(tried, key=lambda pair: tried[pair])
    return partial(_applied, method=method, strength=strength, bias=bias)


def _applied(images: Images, method: Denoiser, strength: float, bias: float) -> Images:
    made = np.empty_like(images)
    for n, c in np.ndindex(*images.shape[:2]):
        signal: Images = (images[n, c] + np.float32(1)) / np.float32(2)
        sigma = noise_level(signal)
        clean = method(signal, sigma, strength)
        made[n, c] = 2 * np.sqrt(np.maximum(np.square(clean) - bias * sigma**2, 0)) - 1 if bias else 2 * clean - 1
    return made


def noise_level(image: Images) -> float:
    """Standard deviation of white noise: the median size of the finest diagonal Haar wavelets (Donoho, Johnstone 1994).

    image: (*space); of a volume slice by slice. A background of the lowest value, as around a stripped skull, is left
    out: it may be most of the image, and has no noise.
    """
    even = image[..., :image.shape[-2] // 2 * 2, :image.shape[-1] // 2 * 2]
    squares = np.stack([even[..., row::2, column::2] for row in (0, 1) for column in (0, 1)])
    details = np.abs(squares[0] - squares[1] - squares[2] + squares[3])[squares.max(0) > image.min()] / 2
    return max(float(np.median(details)) / 0.6745 if len(details) else 0.0, 1e-4)


def _non_local_means(signal: Images, sigma: float, strength: float) -> Images:
    """Buades et al. 2005."""
    from skimage import restoration

    filters: Any = restoration  # it ships no types
    cleaned = filters.denoise_nl_means(signal, h=strength * sigma, sigma=sigma, fast_mode=True,
                                       patch_size=3 if signal.ndim == 3 else 5,
                                       patch_distance=3 if signal.ndim == 3 else 6)
    return np.asarray(cleaned, np.float32)


def _total_variation(signal: Images, sigma: float, strength: float) -> Images:
    """Rudin et al. 1992, by Chambolle's algorithm of 2004."""
    from skimage import restoration

    filters: Any = restoration
    return np.asarray(filters.denoise_tv_chambolle(signal, weight=strength * sigma), np.float32)


def _block_matching(signal: Images, sigma: float, strength: float) -> Images:
    """Dabov et al. 2007; of volumes slice by slice."""
    if signal.ndim == 3:
        return np.stack([block_matching(plane, strength * sigma) for plane in signal])
    return block_matching(signal, strength * sigma)
