"""Copies: how alike two images are after the best shift, flip and contrast, by matched filtering (Turin 1960).

Images are whitened by the training images' mean power spectrum, so that what all of them share (the body's outline, the
smoothness) counts little and what one of them alone has counts much. The likeness of two images is the correlation of
their whitened pixels at the best shift and flip: 1 for a copy, near 0 for two patients. Brightness and contrast drop
out. Noise that the one has and the other has not is corrected for (attenuation, Spearman 1904): a copy with noise must
not be less like its original than two neighbouring slices of one patient are like each other.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.metrics._features import Rows, shrink
from radsynth.models._averages import averaged

REACH = 4
"""Largest shift in pixels, along each axis, that is undone."""
PIXELS = 4096
"""Images with more pixels than this are averaged down: a copy is one at any size."""
NOISE = 0.05
"""Deviation of noise (images have the range -1 to 1) below which frequencies are not to be trusted."""
LISTED = 40
"""Training images that each of the quick searches puts on the list of those that are aligned."""
COARSE = 1024
"""Pixels of the pictures of the quick search."""
MARGIN = 3
"""Pixels at the border that are not compared."""
EXACT = 20_000
"""Training images up to which the quick searches are exact."""
BLOCK = 6
"""Side of the blocks in which noise is measured."""
MOST_NOISE = 0.5
"""Share of an image's whitened energy that is taken for noise at most."""
BATCH = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Whitening:
    """The filter (c, *frequencies) that makes the training images' mean power spectrum flat; size: after averaging.

    gain: energy that white noise of variance 1 has after the filter
    """

    size: tuple[int, ...]
    filter: Tensor
    gain: float

    @classmethod
    def of(cls, training: Rows, most: int = 1000) -> Whitening:
        """Measured on at most so many training images."""
        rows = np.unique(np.linspace(0, len(training) - 1, min(len(training), most)).astype(np.int64))
        total: Tensor | None = None
        size: tuple[int, ...] = ()
        for start in range(0, len(rows), BATCH):
            images = _reduced(training[rows[start:start + BATCH]])
            size = tuple(images.shape[2:])
            power = torch.fft.rfftn(_standard(images), dim=_axes(images)).abs().square().sum(0)
            total = power if total is None else total + power
        assert total is not None, "there are no training images"
        # White noise of deviation s has the power s^2 * pixels at every frequency; s here relative to an image's own.
        floor = (4 * NOISE) ** 2 * math.prod(size)
        flat = (total / len(rows) + floor).rsqrt()
        response = torch.fft.irfftn(flat, s=size, dim=list(range(1, flat.ndim)))
        return cls(size=size, filter=flat, gain=float(response.square().sum() * _mask(size).sum()))

    def __call__(self, pixels: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """(n, c, *space) in [-1, 1] to whitened images (n, c, *size) of norm 1, 0 at the borders; noise's share (n,)
        of their energy.
        """
        images = _standard(_reduced(pixels))
        axes = _axes(images)
        white = torch.fft.irfftn(torch.fft.rfftn(images, dim=axes) * self.filter, s=self.size, dim=axes)
        white = white * _mask(self.size)
        norms = white.flatten(1).norm(dim=1).clamp_min(1e-12)
        normed: Tensor = white / norms.view(-1, *[1] * (white.ndim - 1))
        return normed, _noise(images) * self.gain / norms.square()


@dataclass(frozen=True, kw_only=True, eq=False)
class Prints:
    """What the search for copies keeps of n images.

    white: (n, c, *size) float32, of norm 1; noise: its share (n,) of their energy
    quick: one array (n, d) of rows of norm 1 a quick search
    """

    white: NDArray[np.float32]
    noise: NDArray[np.float32]
    quick: tuple[NDArray[np.float32], ...]

    def __len__(self) -> int:
        return len(self.white)


def prints(images: Rows, whitening: Whitening) -> Prints:
    """Of all images (n, c, *space) in [-1, 1], in batches: memory is 4 bytes a pixel (of at most 4096) and channel."""
    whole: list[NDArray[np.float32]] = []
    for start in range(0, len(images), BATCH):
        batch, shares = whitening(images[np.arange(start, min(start + BATCH, len(images)))])
        parts = (batch.numpy(), shares.numpy(), _spectrum(batch), _coarse(batch))
        # Filled in place: batches that are put together at the end take twice the memory.
        whole = whole or [np.empty((len(images), *part.shape[1:]), np.float32) for part in parts]
        for rows, part in zip(whole, parts, strict=True):
            rows[start:start + len(part)] = part
    white, noise, *quick = whole
    return Prints(white=white, noise=noise, quick=tuple(quick))


def likeness(queries: Prints, candidates: Prints, progress: Callable[[int], None] = lambda done: None,
             ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For every query how like its most like candidate is, (n,), and which that is, (n,) row numbers; `progress` is
    told how many queries are done.

    1 for the same image; noise that was taken off by estimate can carry it a little beyond.
    """
    best = np.empty(len(queries), dtype=np.float64)
    where = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), BATCH):
        part = queries.white[start:start + BATCH]
        for row, listed in enumerate(_lists(part, queries.quick[0][start:start + BATCH], candidates), start=start):
            found = aligned(torch.from_numpy(queries.white[row]), torch.from_numpy(candidates.white[listed]))
            extra = np.clip(queries.noise[row] - candidates.noise[listed], 0, MOST_NOISE)
            found = found / torch.from_numpy(1 - extra).sqrt()
            winner = int(found.argmax())
            best[row], where[row] = float(found[winner]), listed[winner]
        progress(start + len(part))
    return best, where


def most_alike(made: Rows, training: Rows, count: int) -> list[tuple[int, int, float]]:
    """The `count` images most like a training image: row number, the training image's, likeness. No verdict on copies.
    """
    if not count or not len(training):
        return []
    whitening = Whitening.of(training)
    found, where = likeness(prints(made, whitening), prints(training, whitening))
    return [(int(row), int(where[row]), round(float(found[row]), 4))
            for row in np.argsort(-found, kind="stable")[:count]]


def aligned(query: Tensor, candidates: Tensor) -> Tensor:
    """Likeness (m,) of one whitened image (c, *size) to candidates (m, c, *size) at the best shift and flip.

    Each shift's correlation is that of the pixels which both images then have.
    """
    space = list(range(2, candidates.ndim))
    spectra, spectra_of_squares = (torch.fft.rfftn(x, dim=space) for x in (candidates, candidates.square()))
    mask = torch.fft.rfftn(_mask(tuple(candidates.shape[2:])).expand(1, *query.shape), dim=space)
    energies = _shifts(mask, spectra_of_squares, candidates.shape[2:])
    best = torch.full((len(candidates),), -1.0)
    for axes in _flips(query.ndim):
        turned = (torch.flip(query, axes) if axes else query)[None]
        products = _shifts(torch.fft.rfftn(turned, dim=space), spectra, candidates.shape[2:])
        own = _shifts(torch.fft.rfftn(turned.square(), dim=space), mask, candidates.shape[2:])
        found = products / (own * energies).clamp_min(1e-6).sqrt()
        best = torch.maximum(best, found.flatten(1).amax(1))
    return best


def _shifts(one: Tensor, other: Tensor, size: tuple[int, ...]) -> Tensor:
    """Sums of products of two images given by their spectra, (m, shifts along each axis), for shifts up to `REACH`."""
    maps: Tensor = torch.fft.irfftn((one.conj() * other).sum(1), s=size, dim=list(range(1, 1 + len(size))))
    for axis in range(1, maps.ndim):
        reach = min(REACH, (maps.shape[axis] - 1) // 2)
        maps = torch.cat([maps.narrow(axis, 0, reach + 1), maps.narrow(axis, maps.shape[axis] - reach, reach)], axis)
    return maps


def nearest_rows(queries: NDArray[np.float32], candidates: NDArray[np.float32], count: int,
                 ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The candidates with the largest products: products and row numbers (n, count). Exact up to `EXACT` candidates,
    beyond it by faiss if that is installed."""
    count = min(count, len(candidates))
    if len(candidates) > EXACT and importlib.util.find_spec("faiss"):
        products, rows = _index(candidates).search(np.ascontiguousarray(queries), count)
        return products, np.where(rows < 0, 0, rows).astype(np.int64)
    all_products = queries @ candidates.T
    rows = np.argpartition(-all_products, count - 1, axis=1)[:, :count].astype(np.int64)
    return np.take_along_axis(all_products, rows, 1), rows


_INDEX: list[tuple[NDArray[np.float32], Any]] = []


def _index(candidates: NDArray[np.float32]) -> Any:
    """The search structure of these candidates; the last two are kept."""
    for known, index in _INDEX:
        if known is candidates:
            return index
    faiss = importlib.import_module("faiss")
    index = faiss.IndexHNSWFlat(candidates.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 80, 128
    index.add(np.ascontiguousarray(candidates))
    _INDEX.append((candidates, index))
    del _INDEX[:-2]
    return index


def _lists(white: NDArray[np.float32], spectra: NDArray[np.float32], candidates: Prints) -> list[NDArray[np.int64]]:
    """For every query the candidates that a quick search finds: by coarse pictures at some shifts and flips, and by
    the spectrum's magnitude, which does not know a shift."""
    products, rows = [], []
    dimensions = white.ndim - 2
    for axes in _flips(white.ndim - 1):
        flipped = np.flip(white, tuple(axis + 1 for axis in axes)) if axes else white
        for shift in product((-2, 0, 2), repeat=dimensions):
            moved = np.roll(flipped, shift, tuple(range(2, white.ndim)))
            found = nearest_rows(_coarse(torch.from_numpy(np.ascontiguousarray(moved))), candidates.quick[1], 8)
            products.append(found[0])
            rows.append(found[1])
    together, where = np.concatenate(products, axis=1), np.concatenate(rows, axis=1)
    best = np.take_along_axis(where, np.argsort(-together, axis=1)[:, : 2 * LISTED], 1)
    _, by_spectrum = nearest_rows(spectra, candidates.quick[0], LISTED)
    return [np.unique(row) for row in np.concatenate([best, by_spectrum], axis=1)]


def _flips(dimensions: int) -> list[tuple[int, ...]]:
    """Axes to turn round: none, left-right, up-down, both. dimensions: of one image with its channels."""
    last = (dimensions - 1, dimensions - 2)
    return [tuple(axis for axis, turn in zip(last, turns, strict=True) if turn)
            for turns in product((False, True), repeat=2)]


def _axes(images: Tensor) -> list[int]:
    return list(range(2, images.ndim))


def _reduced(pixels: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(shrink(pixels, PIXELS))


def _standard(images: Tensor) -> Tensor:
    """Of mean 0 and deviation 1, each image for itself: brightness and contrast drop out."""
    flat = images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return (flat / flat.std(1, keepdim=True).clamp_min(1e-6)).view_as(images)


def _noise(images: Tensor) -> Tensor:
    """Variance (n,) of the white noise in images (n, c, *size): the finest diagonal details' in blocks of little else,
    the lower quartile of all blocks (block-based estimation, Shin et al. 2005)."""
    details = images
    for axis in _axes(images):
        details = details.diff(dim=axis) / math.sqrt(2)
    blocks = averaged(details.square(), [min(BLOCK, side) for side in details.shape[2:]])
    return blocks.flatten(2).quantile(0.25, dim=2).mean(1)


def _mask(size: tuple[int, ...]) -> Tensor:
    """1 inside, 0 over the outermost pixels: what a shift brings in there must not count."""
    mask = torch.ones(())
    for side in size:
        edge = torch.minimum(torch.arange(side), torch.arange(side).flip(0))
        mask = mask[..., None] * (edge >= min(MARGIN, side // 6)).float()
    return mask


def _spectrum(white: Tensor) -> NDArray[np.float32]:
    """Magnitudes of the lower half of the frequencies, less the mean, of norm 1."""
    magnitude = torch.fft.rfftn(white, dim=_axes(white)).abs()
    for axis in range(2, magnitude.ndim - 1):
        quarter = max(1, magnitude.shape[axis] // 4)
        magnitude = torch.cat([magnitude.narrow(axis, 0, quarter),
                               magnitude.narrow(axis, magnitude.shape[axis] - quarter, quarter)], dim=axis)
    magnitude = magnitude[..., : max(1, magnitude.shape[-1] // 2)]
    return _unit(magnitude.flatten(1))


def _coarse(white: Tensor) -> NDArray[np.float32]:
    """Whitened images blurred over blocks of 2 pixels or more, to at most `COARSE` in all, of mean 0 and norm 1."""
    space = tuple(white.shape[2:])
    coarse = shrink(white.numpy(), min(COARSE, math.prod(space) // 2 ** len(space)))
    return _unit(torch.from_numpy(coarse).flatten(1))


def _unit(rows: Tensor) -> NDArray[np.float32]:
    rows = rows - rows.mean(1, keepdim=True)
    return np.asarray((rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)).numpy(), dtype=np.float32)
