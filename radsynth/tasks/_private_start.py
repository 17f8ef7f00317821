"""Where a private generator starts from: mean images and coarse principal directions, told once through Gaussian noise.

Both are sums over patients of vectors of bounded norm: the mean directly, the covariance as in "Analyze Gauss" (Dwork,
Talwar, Thakurta and Zhang 2014). Everything after the noise (blurring, eigenvectors, shrinking) costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from radsynth.arrays import Prepared
from radsynth.models._averages import averaged_to
from radsynth.models._blocks import MODE

LONGEST = 32
"""Longest side in pixels of the mean images."""
COARSE = {2: (16, 8, 4), 3: (8, 4)}
"""Longest sides that the principal directions of images and of volumes may have: the noise decides which shows most.
A volume with a side of 16 would have a covariance of 16 million numbers, of which nothing stands above the noise."""
SPREAD = 0.4
"""Norm that a patient's coarse image less the mean is clipped to, a pixel. Public, like everything on top here."""
ENOUGH = 1000
"""Patients of a class for each unit of the covariance's noise multiplier from which it is told one of its own: with
fewer the noise hides more than the classes differ (lab notebook). How many patients a class has is public here."""
QUIET = 0.05
"""Noise a pixel (images have the range -1 to 1) down to which the mean images are blurred."""
CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Start:
    """means: (classes or 1, c, *space); directions: (classes or 1, latent, c * pixels) of pictures of size `coarse`."""

    means: Tensor
    coarse: tuple[int, ...]
    directions: Tensor

    def pictures(self, latents: Tensor, labels: Tensor | None, size: tuple[int, ...]) -> Tensor:
        """Pictures (n, c, *size) that latents (n, latent) stand for; `size` is that of the images, or `coarse`."""
        means, directions = averaged_to(self.means, size).to(latents), self.directions.to(latents)
        classes = torch.zeros(len(latents), dtype=torch.int64, device=latents.device) if labels is None else labels
        apart = torch.einsum("nl,nlp->np", latents, directions[classes]).view(-1, means.shape[1], *self.coarse)
        apart = apart if size == self.coarse else functional.interpolate(apart, size, mode=MODE[len(size)])
        return means[classes] + apart


def release(prepared: Prepared, groups: list[NDArray[np.int64]], latent: int, noises: tuple[float, ...],
            draw: np.random.Generator) -> Start:
    """The start, with noise of `noises` (on the means, on the covariance) times what one patient can change there.

    groups: each patient's rows, all of which count together as one; draw: of the secret key
    """
    mean_noise, covariance_noise = noises
    spec, classes = prepared.spec, max(1, len(prepared.spec.labels))
    fine, grid = (_size(spec.size, longest) for longest in (LONGEST, COARSE[spec.dimensions][0]))
    pixels = len(spec.channels) * math.prod(fine)
    sums, counts = _sums(prepared, groups, fine)
    # A patient's images have the weights 1 / their number, and no pixel is above 1: so much is the norm of the sums.
    noise = mean_noise * math.sqrt(pixels)
    sums += torch.from_numpy(noise * draw.standard_normal(sums.shape)).float()
    means = (sums / counts.clamp_min(1)[:, None]).view(classes, len(spec.channels), *fine)
    means = _blurred(means, noise / max(1.0, float(counts.min())))
    told = _told(counts, covariance_noise)
    covariance = _covariance(prepared, groups, averaged_to(means, grid), grid, told)
    scale = covariance_noise * SPREAD**2 * covariance.shape[1]
    covariance += torch.from_numpy(scale * draw.standard_normal(covariance.shape)).float()
    covariance = (covariance + covariance.transpose(1, 2)) / 2
    patients = (counts @ told).clamp_min(1).tolist()
    found = [_directions(of / n, scale / n, spec.size, len(spec.channels), latent)
             for of, n in zip(covariance, patients, strict=True)]
    coarse = max(size for size, _ in found)
    turned = []
    for size, directions in found:
        turn = np.linalg.qr(draw.standard_normal((latent, latent)))[0].astype(np.float32)
        turned.append(torch.from_numpy(turn) @ _enlarged(directions, size, coarse))
    means = functional.interpolate(means, spec.size, mode=MODE[len(spec.size)])
    return Start(means=means, coarse=coarse, directions=torch.stack(turned)[told.argmax(1)])


def _told(counts: Tensor, noise: float) -> Tensor:
    """(classes, matrices) which covariance each class's patients are summed in: their own, or one with all the rest."""
    own = counts >= ENOUGH * noise
    shared = int(own.sum())
    places = torch.where(own, own.cumsum(0) - 1, shared)
    return functional.one_hot(places, shared + (not own.all())).float()


def _enlarged(directions: Tensor, size: tuple[int, ...], coarse: tuple[int, ...]) -> Tensor:
    """(latent, c * pixels) of pictures of one size, for pictures of another."""
    if size == coarse:
        return directions
    pictures = directions.view(len(directions), -1, *size)
    return functional.interpolate(pictures, coarse, mode=MODE[len(size)]).flatten(1)


def _size(size: tuple[int, ...], longest: int) -> tuple[int, ...]:
    step = max(1, -(-max(size) // longest))
    return tuple(max(1, -(-side // step)) for side in size)


def _patients(prepared: Prepared, groups: list[NDArray[np.int64]], size: tuple[int, ...],
              ) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (n, c * pixels) and their weight in each class (n, classes): 1 / images of the patient in their own."""
    rows = np.concatenate(groups)
    weights = np.concatenate([np.full(len(group), 1 / len(group), np.float32) for group in groups])
    for start in range(0, len(rows), CHUNK):
        part = rows[start:start + CHUNK]
        weight = torch.from_numpy(weights[start:start + CHUNK])[:, None]
        if len(prepared.spec.labels) > 1:
            labels = torch.from_numpy(prepared.labels(part))
            weight = weight * (labels[:, None] == torch.arange(len(prepared.spec.labels)))
        images = averaged_to(torch.from_numpy(prepared.images(part)), size).flatten(1)
        yield images.nan_to_num().clamp(-1, 1), weight


def _sums(prepared: Prepared, groups: list[NDArray[np.int64]], size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Each class's sum over patients (classes, c * pixels), and its patients (classes,)."""
    parts = [(of_class.T @ images, of_class.sum(0)) for images, of_class in _patients(prepared, groups, size)]
    return torch.stack([part[0] for part in parts]).sum(0), torch.stack([part[1] for part in parts]).sum(0)


def _covariance(prepared: Prepared, groups: list[NDArray[np.int64]], means: Tensor, grid: tuple[int, ...],
                told: Tensor) -> Tensor:
    """Sums over patients of r r^T, r the image less its class's mean, clipped to SPREAD * sqrt(pixels).

    One for each column of `told` (classes, matrices), which says whose images are in it: (matrices, pixels, pixels).
    Together they change by as much for one patient as a single one would.
    """
    flat = means.flatten(1)
    total, norm = torch.zeros(told.shape[1], flat.shape[1], flat.shape[1]), SPREAD * math.sqrt(flat.shape[1])
    for images, of_class in _patients(prepared, groups, grid):
        weight = of_class.sum(1, keepdim=True)
        rest = images - (of_class / weight.clamp_min(1e-12)) @ flat
        rest = rest * (norm / rest.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
        for matrix, share in zip(total, (of_class @ told).T, strict=True):
            matrix += (rest * share[:, None]).T @ rest
    return total


def _blurred(means: Tensor, noise: float) -> Tensor:
    """Averaged over blocks until so much noise a pixel has come down to `QUIET`, and drawn out again."""
    size = tuple(means.shape[2:])
    factor = max(1.0, noise / QUIET) ** (2 / len(size))
    small = tuple(max(2, round(side / factor)) for side in size)
    if small == size:
        return means.clamp(-1, 1)
    return functional.interpolate(averaged_to(means, small), size, mode=MODE[len(size)]).clamp(-1, 1)


def _directions(covariance: Tensor, noise: float, size: tuple[int, ...], channels: int, latent: int,
                ) -> tuple[tuple[int, ...], Tensor]:
    """The size, of COARSE, at which most variance stands above the noise, and the directions (latent, c * pixels).

    noise: deviation of the matrix's entries before it was made symmetric. Noise alone has eigenvalues up to
    sqrt(2 * pixels) times it; those above are shrunk to what they would be without (Donoho, Gavish, Johnstone 2018).
    """
    grid = _size(size, COARSE[len(size)][0])
    most, found = -1.0, (grid, covariance)
    for longest in COARSE[len(size)]:
        coarse = _size(size, longest)
        unit = torch.eye(len(covariance)).view(-1, channels, *grid)
        average = averaged_to(unit, coarse).flatten(1)  # (pixels before, pixels after)
        # Every column of the average has the same norm where the sizes divide: noise stays independent.
        entry = noise * float(average.square().sum(0).max())
        edge = entry * math.sqrt(2 * average.shape[1])
        values, vectors = torch.linalg.eigh((average.T @ covariance @ average).double())
        keep = min(latent, int((values > max(1.05 * edge, 1e-6)).sum()))
        values, vectors = values[len(values) - keep:], vectors[:, len(values) - keep:]
        shrunk = (values + (values.square() - edge**2).clamp_min(0).sqrt()) / 2
        shown = float(shrunk.sum()) / average.shape[1]
        if shown > most * 1.02:  # the finer of two that are alike
            rows = (vectors * shrunk.sqrt()).T.float()
            most, found = shown, (coarse, functional.pad(rows, (0, 0, 0, latent - keep)))
    return found
