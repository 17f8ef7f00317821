"""The code behind an image: what a generator's first layer sees, where it is drawn from, how it may be moved.

A generator conditions, normalises or maps its noise before the first layer (or, in a style network, before every layer:
its w space). Codes are taken and put in right there, so that one account serves every network: linear directions act
linearly, and the class and the noise of an image are both in its code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.models._conditions import ConditionedGenerator
from radsynth.models._equalised import EqualisedLinear
from radsynth.tasks import takes_images
from radsynth.verbs._sampler import CHUNK, Sampler

ON_A_SPHERE = 1e-3
"""Codes whose lengths vary by less than this share lie on a sphere, and stay on it when they are moved."""
STUDIED = 256
"""Codes that the length, the mean and the spread of codes are taken from."""


Numbers = Callable[[range, int], Tensor | None]
"""The numbers (n, k) that images `items` are made with by a seed, as networks take them; None without numbers."""


def _without(items: range, seed: int) -> None:
    return None


class LatentSpace:
    """Codes (n, length) of a network that draws images from noise. Nothing here is random but by (seed, item)."""

    def __init__(self, network: nn.Module, classes: int = 0, channels: int | None = None,
                 learned: Sequence[int] = (), numbers: Numbers = _without) -> None:
        """SettingsError for a network without a first linear layer on its noise.

        channels: those of an image, the first of a network that draws masks, too; default all
        learned: those of the classes that training images have; default all. numbers: as of `Sampler.conditions`
        """
        self.network, self.classes, self.channels = network.eval().requires_grad_(False), classes, channels
        self.learned, self.numbers = tuple(learned or range(classes)), numbers
        self.latent = int(cast(int, getattr(network, "latent", 0)))
        self.inner = network.net if isinstance(network, ConditionedGenerator) else network  # numbers change noise alone
        self.mapped = isinstance(getattr(self.inner, "mapping", None), nn.Module)
        self.layers = self._first_layers()
        self.device = next(network.parameters()).device
        codes = self.drawn(range(STUDIED), 0, self.classes_of(STUDIED))
        self.length = codes.shape[1]
        lengths = codes.norm(dim=1)
        self.radius = float(lengths.mean()) if lengths.std() < ON_A_SPHERE * lengths.mean() else None

    @classmethod
    def of_run(cls, sampler: Sampler, run: Path) -> LatentSpace:
        """Of a trained run; SettingsError for a task that takes images."""
        if takes_images(sampler.task) or not hasattr(sampler.network, "latent"):
            raise SettingsError(f"{run} does not draw images from noise alone, so it has no latent directions. "
                                "Give a run of task.kind synthesis, private or autoencode.")
        names = sampler.spec.labels
        learned = [names.index(name) for name in sampler.learned] if len(names) > 1 else []
        return cls(sampler.network, len(names) if len(names) > 1 else 0, len(sampler.spec.channels), learned,
                   sampler.conditions)

    def _first_layers(self) -> list[nn.Module]:
        """The linear layers that see the code: every style layer of a style network, else the first of all."""
        linear = [(name, module) for name, module in self.inner.named_modules()
                  if isinstance(module, nn.Linear | EqualisedLinear) and not name.startswith("mapping.")]
        fitting: list[nn.Module] = [module for _, module in linear if module.weight.shape[1] == self.latent]
        if not fitting:
            raise SettingsError("This network has no linear layer on its noise, so it has no latent directions.")
        return fitting if self.mapped else fitting[:1]

    @property
    def weight(self) -> NDArray[np.float64]:
        """(outputs, length): the weights of the layers that see the code, one below the other, as they are used."""
        parts = [cast(Tensor, layer.weight) * float(cast(float, getattr(layer, "scale", 1.0))) for layer in self.layers]
        return torch.cat([part.detach().double().cpu() for part in parts]).numpy()

    def latents(self, items: range, seed: int) -> Tensor:
        """Noise (n, latent) of images `items`: the same that `generate` draws for them."""
        return Batch(images=torch.empty(len(items), 0), seed=seed, items=tuple(items)).normal(
            "latent", self.latent).to(self.device)

    def classes_of(self, n: int, label: int | None = None) -> Tensor | None:
        """Class indices (n,): one class, or every learned one in turn; None for a network without classes."""
        if not self.classes:
            return None
        turns = torch.tensor(self.learned)[torch.arange(n) % len(self.learned)]
        return (turns if label is None else torch.full((n,), label)).to(self.device)

    def begin(self, label: int | None) -> int:
        """The class that ways to other classes begin at: the one that was asked for, else the first."""
        return self.learned[0] if label is None else label

    def drawn(self, items: range, seed: int, labels: Tensor | None) -> Tensor:
        """Codes (n, length) of images `items` of classes (n,) as `generate` draws them, numbers included."""
        numbers = self.numbers(items, seed)
        return self.codes(self.latents(items, seed), labels, *(() if numbers is None else (numbers,)))

    @torch.no_grad()
    def codes(self, latents: Tensor, *given: Tensor | None) -> Tensor:
        """(n, latent) noise, and what else the network is given (classes, numbers), to codes (n, length)."""
        seen: list[Tensor] = []

        def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
            seen.append(given[0].detach().clone())
            raise _Seen

        handle = self.layers[0].register_forward_pre_hook(keep)
        try:
            for rows in chunks(len(latents)):
                with suppress(_Seen):  # what comes after the first layer is not asked for
                    self.network(latents[rows], *_of(given, rows))
        finally:
            handle.remove()
        return torch.cat(seen).float()

    def images(self, codes: Tensor, *given: Tensor | None) -> Tensor:
        """Codes (n, length), and what the network was given, to images (n, c, *space); gradients flow to the codes."""
        parts = []
        for rows in chunks(len(codes)):
            with self._put_in(codes[rows]):
                blank = torch.ones(len(codes[rows]), self.latent, device=self.device)
                parts.append(self.network(blank, *_of(given, rows)))
        return torch.cat(parts)

    @contextmanager
    def _put_in(self, codes: Tensor) -> Iterator[None]:
        def replace(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return (codes, *given[1:])

        handles = [layer.register_forward_pre_hook(replace) for layer in self.layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def place(self, codes: Tensor) -> Tensor:
        """Moved codes, back on the sphere that the network knows; unchanged for a network without one."""
        return codes if self.radius is None else codes * (self.radius / codes.norm(dim=1, keepdim=True).clamp_min(1e-9))

    def move(self, codes: Tensor, direction: NDArray[np.float64], steps: float) -> Tensor:
        """Codes (n, length) moved by `steps` along a direction (length,)."""
        return self.place(codes + steps * torch.from_numpy(direction).to(codes))

    def truncate(self, codes: Tensor, centre: Tensor, truncation: float) -> Tensor:
        """Codes drawn towards their mean: 1 leaves them, 0 is the mean (Karras et al. 2019, appendix B).

        They leave the sphere on purpose: shorter codes make weaker features, hence more typical images.
        """
        return centre + truncation * (codes - centre)

    def truncated(self, latents: Tensor, truncation: float, *given: Tensor | None) -> Tensor:
        """Images (n, c, *space) of noise (n, latent) with their codes drawn towards the mean of those given the same.

        Shorter noise would do nothing where a network normalises it.
        """
        n = len(latents)
        many = [None if part is None else part.repeat_interleave(STUDIED, 0) for part in given]
        studied = self.codes(self.latents(range(STUDIED), 0).repeat(n, 1), *many)
        centre = studied.view(n, STUDIED, -1).mean(1)
        return self.images(self.truncate(self.codes(latents, *given), centre, truncation), *given)

    def between(self, first: Tensor, last: Tensor, steps: int) -> Tensor:
        """Codes (steps, length) on the way from one code (length,) to another, ends included: a great circle.

        Lengths go over evenly (Shoemake 1985). A straight way where the two point in opposite or equal directions.
        """
        shares = torch.linspace(0, 1, steps, device=first.device)[:, None]
        lengths = first.norm() * (1 - shares) + last.norm() * shares
        start, end = first / first.norm(), last / last.norm()
        angle = torch.acos((start @ end).clamp(-1, 1))
        if float(torch.sin(angle)) < 1e-4:
            return first * (1 - shares) + last * shares
        turned = torch.sin((1 - shares) * angle) * start + torch.sin(shares * angle) * end
        way: Tensor = turned / torch.sin(angle) * lengths
        return way


class _Seen(Exception):
    """The first layer has seen what it is to see."""


def _of(given: tuple[Tensor | None, ...], rows: slice) -> list[Tensor | None]:
    return [None if part is None else part[rows] for part in given]


def chunks(n: int, size: int = 4 * CHUNK) -> list[slice]:
    """Of n rows, so many that are computed at once."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
