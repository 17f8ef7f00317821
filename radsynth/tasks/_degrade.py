"""How good images become worse, as scanners do it: averaged over larger pixels, or noisier; and plain enlargement."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from radsynth.batch import Batch


def average_down(images: Tensor, factors: tuple[int, ...]) -> Tensor:
    """(n, c, *space) averaged over boxes of `factors` pixels, as larger pixels or thicker slices do it.

    What is left over at the ends of sides that are no multiples is cut off.
    """
    n, c, *space = images.shape
    shape, averaged = [n, c], []
    for side, factor in zip(space, factors, strict=True):
        averaged.append(len(shape) + 1)
        shape += [side // factor, factor]
    return cut_to_multiples(images, factors).reshape(shape).mean(averaged)


def cut_to_multiples(images: Tensor, factors: tuple[int, ...]) -> Tensor:
    """(n, c, *space) without what is left over at the ends of sides that are no multiples of `factors`."""
    ends = [slice(side - side % factor) for side, factor in zip(images.shape[2:], factors, strict=True)]
    return images[(slice(None), slice(None), *ends)]


def enlarge(images: Tensor, factors: tuple[int, ...]) -> Tensor:
    """(n, c, *space) on a grid that is `factors` times finer, by Lanczos' kernel of three lobes, edges repeated."""
    # In fp32: bf16 has 8 bits, which is fewer than the images have.
    with torch.autocast(images.device.type, enabled=False):
        result = images.float()
        for axis, factor in enumerate(factors, start=2):
            if factor > 1:
                weights = _lanczos(result.shape[axis], factor, result.device)
                result = torch.tensordot(result, weights, dims=([axis], [1])).movedim(-1, axis)
    return result


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # it is kept, and a later training needs it
def _lanczos(side: int, factor: int, device: torch.device) -> Tensor:
    """(side * factor, side) weights: fine pixel i lies at (i + 1/2) / factor - 1/2 between the coarse ones."""
    place = (torch.arange(side * factor, dtype=torch.float64) + 0.5) / factor - 0.5
    lobes = 3
    taps = torch.floor(place)[:, None] + torch.arange(1 - lobes, lobes + 1)
    distance = place[:, None] - taps
    kernel = torch.sinc(distance) * torch.sinc(distance / lobes) * (distance.abs() < lobes)
    kernel = kernel / kernel.sum(1, keepdim=True)
    weights = torch.zeros(side * factor, side, dtype=torch.float64)
    weights.scatter_add_(1, taps.clamp(0, side - 1).long(), kernel)
    return weights.float().to(device)


def noise_levels(batch: Batch, low: float, high: float) -> Tensor:
    """(n,) standard deviations between `low` and `high`, even in their logarithm, by (seed, item) alone."""
    return low * (high / low) ** batch.uniform("noise level")


def add_rician(images: Tensor, levels: Tensor, batch: Batch) -> Tensor:
    """MR: the magnitude of a complex signal with Gaussian noise (Gudbjartsson 1995); -1 is taken as no signal.

    levels: (n,) standard deviations as shares of the range
    """
    noise = batch.normal("noise", 2, *images.shape[1:]) * _like(levels, images)[:, None]
    signal = (images + 1) / 2
    return torch.hypot(signal + noise[:, 0], noise[:, 1]) * 2 - 1


def add_low_dose(images: Tensor, levels: Tensor, batch: Batch) -> Tensor:
    """CT: Gaussian noise with the power spectrum of filtered back-projection, |f| times the window's square, per slice.

    The ramp is the reconstruction filter's (Riederer, Pelc and Chesler 1978), the window Hann's.
    levels: (n,) standard deviations as shares of the range
    """
    rows, columns = images.shape[-2:]
    down, across = torch.fft.fftfreq(rows, device=images.device), torch.fft.rfftfreq(columns, device=images.device)
    f = torch.hypot(down[:, None], across[None])
    window = torch.where(f < 0.5, 0.5 + 0.5 * torch.cos(2 * math.pi * f), torch.zeros_like(f))
    amplitude = f.sqrt() * window
    white = batch.normal("noise", *images.shape[1:])
    texture = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(rows, columns))
    # The power of white noise that the filter lets through; inner columns of the half spectrum count twice.
    place = torch.arange(columns // 2 + 1, device=images.device)
    twice = 1 + ((place > 0) & (2 * place < columns)).float()
    power = (amplitude.square() * twice).sum() / (rows * columns)
    noisy: Tensor = images + 2 * _like(levels, images) * texture / power.sqrt()
    return noisy


def _like(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (images.ndim - 1))
