"""Reconstruction losses: how far an image y is from the one it should be, x, both (n, c, *space), range [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 7
"""Pixels along each side of the window that SSIM compares (scikit-image's default, Wang et al. 2004, uniform)."""

_AVERAGE = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


# mean |y - x|
def absolute(result: Tensor, target: Tensor) -> Tensor:
    """L1: the median of what is possible, sharper than the mean."""
    return (result - target).abs().mean()


# mean (y - x)^2
def squared(result: Tensor, target: Tensor) -> Tensor:
    """L2: the mean of what is possible, the best PSNR."""
    return (result - target).square().mean()


# mean sqrt((y - x)^2 + e^2), e = 1e-3 (Charbonnier et al. 1994; Lai et al. 2017, LapSRN, eq. 3)
def charbonnier(result: Tensor, target: Tensor) -> Tensor:
    """L1 with a round tip: converges further."""
    return ((result - target).square() + 1e-6).sqrt().mean()


# SSIM = (2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sx^2 + sy^2 + c2)), means and covariances over a window,
# c1 = (0.01 L)^2, c2 = (0.03 L)^2, L = 2 the range (Wang et al. 2004, eq. 13)
def structural_similarity(result: Tensor, target: Tensor) -> Tensor:
    """SSIM (n,) in [-1, 1], 1 for equal images; over whole windows only, shorter along sides of fewer than 7 pixels."""
    average, dimensions = _AVERAGE[result.ndim - 2], result.ndim - 2
    window = [min(WINDOW, side) for side in result.shape[2:]]
    pixels = torch.tensor(window).prod().item()
    # In fp32: variances are small differences of large squares.
    with torch.autocast(result.device.type, enabled=False):
        y, x = result.float(), target.float()
        stack = average(torch.cat([y, x, y * y, x * x, y * x]), window, stride=1)
        mean_y, mean_x, yy, xx, yx = stack.chunk(5)
        sample = pixels / (pixels - 1)
        var_y, var_x = sample * (yy - mean_y.square()), sample * (xx - mean_x.square())
        covariance = sample * (yx - mean_y * mean_x)
        c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
        light = (2 * mean_y * mean_x + c1) / (mean_y.square() + mean_x.square() + c1)
        structure = (2 * covariance + c2) / (var_y + var_x + c2)
        similarity: Tensor = (light * structure).mean(dim=tuple(range(1, dimensions + 2)))
        return similarity


# mean (1 - SSIM) / 2
def dissimilarity(result: Tensor, target: Tensor) -> Tensor:
    """DSSIM: structure that differs, 0 for equal images."""
    return (1 - structural_similarity(result, target)).mean() / 2


RECONSTRUCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "absolute": absolute, "squared": squared, "charbonnier": charbonnier, "dissimilarity": dissimilarity,
}
