"""Whether images vary as much as real ones: the likeness of random pairs by multi-scale structural similarity
(MS-SSIM, Wang et al. 2003), as Odena et al. 2017 use it to find collapse.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from radsynth.metrics import Comparison, Estimate, Measurement, Number, Sample, measurement, require
from radsynth.metrics._features import shrink
from radsynth.metrics._resampling import estimate, halves

OWN = "MS-SSIM, version 1"
MINIMUM = 20
IMAGES = 400
PAIRS = 600
LARGEST = {2: 4096, 3: 16384}
WINDOW, SIGMA = 11, 1.5
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The paper's weights; small images have fewer scales, and the weights of those sum to 1 again."""
NUMBERS = (
    Number(
        name="pair_likeness", title="Likeness of pairs (MS-SSIM)", better="closer to floor",
        meaning="How alike two random synthetic images are, from 0 to 1 for the same image twice: above the floor they "
                "vary less than real images do.",
    ),
)


def applies(shape: tuple[int, ...]) -> bool:
    """Every side must hold the window of the similarity."""
    return min(shape[1:]) >= WINDOW


def describe(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, c, *space) -> the same, averaged over blocks until at most 4,096 pixels or 16,384 voxels are left."""
    small = shrink(pixels, LARGEST[pixels.ndim - 2])
    return small if min(small.shape[2:]) >= WINDOW else pixels


def measure(comparison: Comparison, *, repetitions: int, seed: int) -> list[Measurement]:
    """The mean MS-SSIM of random pairs among the synthetic images; the floor is that among real ones."""
    require(comparison, MINIMUM, NUMBERS[0])
    value = _estimate(comparison.synthetic, repetitions, seed)
    floor = _estimate(comparison.floor, repetitions, seed)
    return [measurement(NUMBERS[0], comparison, value, floor, pixels=True)]


@torch.inference_mode()
def ms_ssim(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) MS-SSIM of pairs (n, c, *space) in [-1, 1]; sides of at least 11. Negative factors count as 0."""
    x, y = torch.from_numpy(np.ascontiguousarray(a)), torch.from_numpy(np.ascontiguousarray(b))
    scales = 1
    while scales < len(SCALES) and min(x.shape[2:]) >> scales >= WINDOW:
        scales += 1
    weights = np.asarray(SCALES[:scales]) / sum(SCALES[:scales])
    pool = functional.avg_pool2d if x.ndim == 4 else functional.avg_pool3d
    product = torch.ones(len(x), dtype=torch.float64)
    for scale, weight in enumerate(weights):
        if scale:
            x, y = pool(x, 2), pool(y, 2)
        whole, contrast = _similarity(x, y)
        product *= (whole if scale == scales - 1 else contrast).clamp(min=0) ** float(weight)
    return np.asarray(product.numpy())


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the image of SSIM, and of its contrast and structure term; values span 2."""
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mean_x, mean_y, xx, yy, xy = _blurred(torch.stack([x, y, x * x, y * y, x * y])).unbind()
    contrast = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * contrast).flatten(1).mean(1).double(), contrast.flatten(1).mean(1).double()


def _blurred(maps: Tensor) -> Tensor:
    """(k, n, c, *space) under an 11-tap Gaussian, only where it fits in whole; one axis after the other."""
    k, n, c = maps.shape[:3]
    space = maps.ndim - 3
    taps = torch.exp(-((torch.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    taps = taps / taps.sum()
    flat = maps.reshape(k * n * c, 1, *maps.shape[3:])
    convolve = functional.conv2d if space == 2 else functional.conv3d
    for axis in range(space):
        flat = convolve(flat, taps.reshape([1, 1, *[WINDOW if a == axis else 1 for a in range(space)]]))
    return flat.reshape(k, n, c, *flat.shape[2:])


def _estimate(sample: Sample, repetitions: int, seed: int) -> Estimate:
    assert sample.own is not None
    n = len(sample)
    every = np.stack(np.triu_indices(n, 1), axis=1)
    pairs = np.random.default_rng(seed).permutation(every)[:PAIRS]
    chunks = [ms_ssim(sample.own[part[:, 0]], sample.own[part[:, 1]])
              for part in np.array_split(pairs, -(-len(pairs) // 50))]
    likeness = np.concatenate(chunks)
    parts = []
    for rows in halves(sample.patients, repetitions, seed + 1):
        inside = np.zeros(n, dtype=bool)
        inside[rows] = True
        both = inside[pairs].all(1)
        parts.append(float(likeness[both].mean()) if both.any() else float(likeness.mean()))
    return estimate(float(likeness.mean()), parts, low=0.0, high=1.0)
