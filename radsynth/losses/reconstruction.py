"""Reconstruction losses: how far an image y is from the one it should be, x, both (n, c, *space), range [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from radsynth.losses._windows import window_means

WINDOW = 7
"""Pixels along each side of the window that SSIM compares (scikit-image's default, Wang et al. 2004, uniform)."""


# mean |y - x|
def absolute(result: Tensor, target: Tensor) -> Tensor:
    """L1: the median of what is possible, sharper than the mean."""
    return (result - target).abs().mean()


# mean w |y - x|
def weighted_absolute(result: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """L1 in which some pixels count for more; weights: (n, 1, *space)."""
    return (weights * (result - target).abs()).mean()


# mean (y - x)^2
def squared(result: Tensor, target: Tensor) -> Tensor:
    """L2: the mean of what is possible, the best PSNR."""
    return (result - target).square().mean()


# mean sqrt((y - x)^2 + e^2), e = 1e-3 (Charbonnier et al. 1994; Lai et al. 2017, LapSRN, eq. 3)
def charbonnier(result: Tensor, target: Tensor) -> Tensor:
    """L1 with a round tip: converges further."""
    return ((result - target).square() + 1e-6).sqrt().mean()


# SSIM = (2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sx^2 + sy^2 + c2)), means and covariances over a window,
# c1 = (0.01 L)^2, c2 = (0.03 L)^2, L = 2 the range (Wang et al. 2004, eq. 13); means mx, my of values from 0, as in the
# paper and the metric: of those from -1 a change of brightness counts most, even with the wrong sign, at mid-grey
def structural_similarity(result: Tensor, target: Tensor) -> Tensor:
    """SSIM (n,) in [-1, 1], 1 for equal images; over whole windows only, shorter along sides of fewer than 7 pixels."""
    window = [min(WINDOW, side) for side in result.shape[2:]]
    sample = math.prod(window) / (math.prod(window) - 1)
    # In fp32: variances are small differences of large squares.
    with torch.autocast(result.device.type, enabled=False):
        y, x = result.float(), target.float()
        mean_y, mean_x, squares, yx = window_means(torch.cat([y, x, y * y + x * x, y * x]), window).chunk(4)
        covariance, variances = sample * (yx - mean_y * mean_x), sample * (squares - mean_y * mean_y - mean_x * mean_x)
        c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
        light_y, light_x = mean_y + 1, mean_x + 1
        light, structure = 2 * light_y * light_x + c1, 2 * covariance + c2
        similarity = light * structure / ((light_y * light_y + light_x * light_x + c1) * (variances + c2))
        return similarity.mean(dim=tuple(range(1, result.ndim)))


# mean (1 - SSIM) / 2
def dissimilarity(result: Tensor, target: Tensor) -> Tensor:
    """DSSIM: structure that differs, 0 for equal images."""
    return (1 - structural_similarity(result, target)).mean() / 2


RECONSTRUCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "absolute": absolute, "squared": squared, "charbonnier": charbonnier, "dissimilarity": dissimilarity,
}
