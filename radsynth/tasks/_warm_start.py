"""Where a generator starts from: the mean training image, and a blurred picture for every direction of its latents.

In its first moments the generator learns to redraw training images from their whitened principal coordinates (a linear
autoencoder's codes; like GLO, Bojanowski et al. 2018). The adversarial game then begins with images that are already
varied and in the right place, which is most of what short trainings lack.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from radsynth.arrays import Prepared
from radsynth.models._greys import Greys, as_many
from radsynth.models._principal import shrunken

STUDIED = 2000
"""Training images that the principal directions are taken from."""
FLAT = 0.1
"""Share of the pixels that have one and the same grey value where images have a flat background."""
BLACK = 0.95
"""Backgrounds beyond this value, of [-1, 1], are left to tanh, which is flat there: shrinking brings nothing more."""
NARROW = 0.3
"""Standard deviation of pixels in [-1, 1] below which images lie close to their background: roots show them better."""
RANGE = (0.001, 0.999)
"""Quantiles of training pixels between which the range of images lies."""
AT_ONCE = 2**25
"""Numbers that are read of training images at once (128 MB): memory does not grow with their size."""


@runtime_checkable
class StartsFromMean(Protocol):
    """A generator that can start from the mean training image of each class."""

    def set_mean(self, images: Tensor) -> None:
        """Start from these images (classes or 1, c, *space)."""


def backgrounds(images: Tensor) -> Tensor:
    """(c,) the grey value that is by far the most frequent in images (n, c, *space) in [-1, 1], NaN where none is."""
    edge = 256 / 255  # bins as wide as a grey value of 8 bits, around each
    counts = torch.stack([channel.histc(256, -edge, edge) for channel in images.unbind(1)])
    share, value = (counts / counts.sum(1, keepdim=True)).max(1)
    value = value / 127.5 - 1
    return torch.where((share > FLAT) & (value.abs() < BLACK), value, torch.nan)


def greys_of(images: Iterable[Tensor], flat: Tensor) -> Greys:
    """The unit in which training images (n, c, *space) of each class are learned: the identity where not close to a
    flat grey.

    flat: their `backgrounds` (classes, c)
    """
    greys, ends, narrow = Greys(*flat.shape), [], []
    for of in images:
        few = of[::max(1, len(of) // 200)].transpose(0, 1).flatten(1).numpy()
        ends.append(torch.from_numpy(np.quantile(few, RANGE, axis=1)).float())
        narrow.append(of.transpose(0, 1).flatten(1).std(1) < NARROW)
    low, high = torch.stack(ends, 1)
    greys.set(torch.where(torch.stack(narrow), flat, torch.nan), low, high)
    return greys


def in_parts(prepared: Prepared, count: int) -> list[slice]:
    """The parts in which so many images are read, of `AT_ONCE` numbers at most."""
    length = max(1, AT_ONCE // (len(prepared.spec.channels) * math.prod(prepared.spec.size)))
    return [slice(first, first + length) for first in range(0, count, length)]


def _members(labels: NDArray[np.int64], classes: int) -> list[NDArray[np.bool_]]:
    """Which images are of each class; all where there are no classes, or of one that has none."""
    everyone = np.ones(len(labels), dtype=bool)
    members = [labels == label for label in range(classes)] if classes > 1 else [everyone]
    return [of if of.any() else everyone for of in members]


def _each(images: Tensor, members: Sequence[NDArray[np.bool_]]) -> Iterator[Tensor]:
    """The images of each class; themselves where all are of it, so that nothing is copied."""
    return (images if of.all() else images[of] for of in members)


def principal(pixels: Tensor, latent: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The mean of images (n, pixels) and their whitened principal directions (pixels, latent), turned at random so
    that every latent number has an equal share."""
    mean = pixels.mean(0)
    centred = pixels - mean
    kept = min(latent, len(centred) - 1)
    # Through the images' products with each other: there are fewer images than pixels.
    values, vectors = torch.linalg.eigh(centred @ centred.T / len(centred))
    least, first = 1e-6 * float(values[-1]) + 1e-12, len(values) - kept
    values, vectors = values[first:].clamp_min(least), vectors[:, first:]
    # The sign of a direction is left open by the algebra, and libraries choose it by the number of threads.
    vectors = vectors * torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))
    # A training image's coordinates are its row of `vectors` times sqrt(n), which has variance 1 in each direction.
    directions = centred.T @ (vectors / values) / len(centred) ** 0.5
    turn = np.linalg.qr(rng.standard_normal((latent, latent)))[0].astype(np.float32)
    return mean, functional.pad(directions, (0, latent - kept)) @ torch.from_numpy(turn)


def studied(prepared: Prepared, rng: np.random.Generator) -> NDArray[np.int64]:
    """The training images that principal directions are taken from."""
    return np.sort(rng.permutation(prepared.indices("train"))[:STUDIED])


class PrincipalCodes:
    """Whitened principal coordinates of images, in the unit of their greys."""

    def __init__(self, prepared: Prepared, latent: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.mean, self.directions = principal(self._look(prepared, studied(prepared, rng)), latent, rng)

    def _look(self, prepared: Prepared, chosen: NDArray[np.int64]) -> Tensor:
        """The chosen images (n, pixels), shrunken; on the way their backgrounds, unit and mean images are found."""
        parts, labels = in_parts(prepared, len(chosen)), prepared.labels(chosen)
        members, few = (_members(some, len(prepared.spec.labels)) for some in (labels, labels[::len(parts)]))
        some = torch.from_numpy(prepared.images(chosen[::len(parts)]))
        flat = torch.stack([backgrounds(images) for images in _each(some, few)])
        self.greys = greys_of(_each(some, few), flat)
        del some  # one part is in memory at a time
        # A square keeps it flat by itself.
        self.backgrounds = torch.where(self.greys.reach > 0, torch.nan, flat)
        sums, pixels = torch.zeros(1), []
        for part in parts:
            images = self.greys(torch.from_numpy(prepared.images(chosen[part])), torch.from_numpy(labels[part]))
            pixels.append(shrunken(images))
            sums = sums + torch.stack([images[of[part]].sum(0) for of in members])
        counts = torch.tensor([int(of.sum()) for of in members])
        means = sums / counts.view(-1, *[1] * (sums.ndim - 1))
        self.mean_images = self.greys.back(means, torch.arange(len(means)))
        return torch.cat(pixels)

    def state(self) -> dict[str, Tensor]:
        """What the coordinates are made of."""
        return {"mean": self.mean, "directions": self.directions,
                **{f"greys.{name}": value for name, value in self.greys.state_dict().items()}}

    @classmethod
    def restored(cls, state: dict[str, Tensor], classes: int) -> PrincipalCodes:
        """The same coordinates, without the mean images of their data, for images of so many classes."""
        codes = cls.__new__(cls)
        codes.mean, codes.directions = state["mean"].float(), state["directions"].float()
        greys = {name.removeprefix("greys."): value for name, value in state.items() if name.startswith("greys.")}
        codes.greys = Greys(classes, greys["reach"].shape[-1] if greys else 1)  # an older run has none
        codes.greys.load_state_dict({name: as_many(value, codes.greys.get_buffer(name))
                                     for name, value in greys.items()})
        return codes

    def on(self, device: torch.device) -> PrincipalCodes:
        """Itself, moved to a device once."""
        if self.mean.device != device:
            self.mean, self.directions = self.mean.to(device), self.directions.to(device)
            self.greys.to(device)
        return self

    def __call__(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (n, latent) of images (n, c, *space) of classes (n,), None where there is one, on the same device."""
        return (shrunken(self.greys(images.float(), labels)) - self.mean) @ self.directions
