"""Noise of few photons, where it arises: in the projections of a CT (parallel beams; filtered back-projection).

Line integrals of the attenuation give the counts that a detector expects; Poisson numbers of these (Macovski 1983) give
noisy line integrals, and what they differ by is reconstructed with the ramp filter and Hann's window and added to the
image. So streaks run where rays were weakened most, and the image's own sharpness stays.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from radsynth.batch import Batch

WATER = 0.0193
"""Attenuation of water in 1/mm at 70 keV, about the mean energy of 120 kVp."""

ANGLES = 1.5
"""Projections over half a turn for each pixel of the longer side: about pi / 2, as sampling asks for."""


def add_photon_noise(images: Tensor, photons: Tensor, batch: Batch, values: tuple[float, ...], pixel: float,
                     ) -> Tensor:
    """CT images (n, c, [slices,] rows, columns) in [-1, 1] as at lower dose.

    photons: (n,) that enter along each ray; values: Hounsfield units of -1 and 1; pixel: mm
    """
    low, high = values
    with torch.autocast(images.device.type, enabled=False):
        hounsfield = (images.float() + 1) / 2 * (high - low) + low
        attenuation = WATER * (1 + hounsfield / 1000).clamp(min=0)
        slices = attenuation.reshape(-1, *images.shape[-2:])
        lines = project(slices) * pixel
        incident = photons.to(lines).reshape(-1, *[1] * (images.ndim - 1))
        lines = lines.reshape(*images.shape[:-2], *lines.shape[1:])
        expected = incident * torch.exp(-lines)
        counts = batch.poisson("photons", expected).clamp(min=1)  # a ray that no photon came through: as if one had
        noise = torch.log(incident / counts) - lines
        noisy = back_project(noise.reshape(-1, *lines.shape[-2:]), slices.shape[-2:]) / pixel
        change: Tensor = noisy.reshape(images.shape) * (1000 / WATER * 2 / (high - low))
    return images + change


def project(slices: Tensor) -> Tensor:
    """(n, rows, columns) as sums along rays, (n, angles, bins), in pixels; bins are one pixel wide."""
    n, rows, columns = slices.shape
    first, share, bins = _footprints(rows, columns)
    flat = slices.reshape(n, -1)
    sums = torch.zeros(n, len(first), bins, device=slices.device)
    for angle in range(len(first)):
        where, part = first[angle].to(slices.device), share[angle].to(slices.device)
        sums[:, angle].index_add_(1, where, flat * (1 - part))
        sums[:, angle].index_add_(1, where + 1, flat * part)
    return sums


def back_project(lines: Tensor, space: tuple[int, ...]) -> Tensor:
    """(n, angles, bins) as (n, rows, columns): filtered back-projection, the inverse of `project`."""
    rows, columns = space
    first, share, bins = _footprints(rows, columns)
    length = 2 ** math.ceil(math.log2(2 * bins))
    filtered = torch.fft.irfft(torch.fft.rfft(lines, length) * _ramp(length).to(lines.device), length)[..., :bins]
    image = torch.zeros(len(lines), rows * columns, device=lines.device)
    for angle in range(len(first)):
        where, part = first[angle].to(lines.device), share[angle].to(lines.device)
        row = filtered[:, angle]
        image += row[:, where] * (1 - part) + row[:, where + 1] * part
    return (image * (math.pi / len(first))).reshape(-1, rows, columns)


@lru_cache(maxsize=8)
def _footprints(rows: int, columns: int) -> tuple[Tensor, Tensor, int]:
    """For each angle and pixel the first of the two bins that it falls into, and the second's share; number of bins."""
    angles = math.ceil(ANGLES * max(rows, columns))
    bins = math.ceil(math.hypot(rows, columns)) + 3
    theta = torch.arange(angles, dtype=torch.float64)[:, None] * (math.pi / angles)
    y, x = torch.meshgrid(torch.arange(rows) - (rows - 1) / 2, torch.arange(columns) - (columns - 1) / 2, indexing="ij")
    place = x.reshape(1, -1) * torch.cos(theta) + y.reshape(1, -1) * torch.sin(theta) + (bins - 1) / 2
    first = place.floor()
    return first.long(), (place - first).float(), bins


@lru_cache(maxsize=8)
def _ramp(length: int) -> Tensor:
    """The band-limited ramp, of which the value at 0 is right (Kak and Slaney 1988, eq. 61), times Hann's window."""
    k = torch.arange(length, dtype=torch.float64)
    k = torch.minimum(k, length - k)
    kernel = torch.where(k % 2 == 1, -1 / (math.pi * k.clamp(min=1)).square(), torch.zeros_like(k))
    kernel[0] = 0.25
    window = 0.5 + 0.5 * torch.cos(torch.linspace(0, math.pi, length // 2 + 1, dtype=torch.float64))
    gain: Tensor = torch.fft.rfft(kernel).real * window
    return gain.float()
