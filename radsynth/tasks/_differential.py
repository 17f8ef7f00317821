"""What makes a training differentially private (Abadi et al. 2016): sampling, clipping, noise, and their account.

Each patient is drawn on their own with the same probability (Poisson sampling), gives one gradient, clipped to a norm,
and Gaussian noise of a multiple of that norm is added to the sum. The account is kept in Renyi divergence (Mironov,
Talwar and Zhang 2019) by Opacus.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from radsynth.device import memory_as_it_lies
from radsynth.errors import MissingExtra, SettingsError

LARGEST_EPSILON = 100.0
"""Above this a bound says nothing: e^100 is more certainty than any attack has."""
KEY_BYTES = 16


def never_less(epsilon: float) -> float:
    """A bound to two decimals as it is told to people: never less than it is."""
    return math.ceil(100 * epsilon - 1e-9) / 100 if math.isfinite(epsilon) else epsilon


@dataclass(frozen=True)
class Account:
    """What `steps` releases with this noise cost. noise: standard deviation in clipping norms, 0 for none.

    share: the probability that a patient is drawn in a step; delta: the chance that is left out of the bound
    start: noises of what is told of all patients once, before the first step, in units of what one patient can change
    """

    noise: float
    share: float
    delta: float
    start: tuple[float, ...] = ()

    def epsilon(self, steps: int) -> float:
        """The bound after the start and so many steps; infinity without noise."""
        if not steps and not self.start:
            return 0.0
        if not self.noise:
            return math.inf
        from opacus.accountants.analysis import rdp  # type: ignore[import-untyped]  # it ships no types

        # Divergences of mechanisms that follow each other add up, order by order, whatever each has seen of the others.
        total = sum([_one_step(noise, 1.0) for noise in self.start], _one_step(self.noise, self.share) * steps)
        with warnings.catch_warnings():  # that a wider range of orders would give a smaller bound: this one holds too
            warnings.simplefilter("ignore")
            found = rdp.get_privacy_spent(orders=_orders(), rdp=total, delta=self.delta)
        return float(found[0])


def _orders() -> list[float]:
    from opacus.accountants import RDPAccountant  # type: ignore[import-untyped]  # it ships no types

    return list(RDPAccountant.DEFAULT_ALPHAS)


@cache
def _one_step(noise: float, share: float) -> NDArray[np.float64]:
    """The divergence of one step, at each order; that of several is their sum."""
    from opacus.accountants.analysis import rdp

    return np.asarray(rdp.compute_rdp(q=share, noise_multiplier=noise, steps=1, orders=_orders()))


@cache
def account(epsilon: float, delta: float, share: float, steps: int, start: tuple[float, ...] = ()) -> Account:
    """The account whose noise keeps the start and `steps` steps within `epsilon`; without noise for an infinite one.

    start: the shares of the budget that go to each thing told once, below 1 in all. A Gaussian mechanism costs as
    1 / noise^2, so a share s of what one with noise n would cost alone is had with the noise n / sqrt(s).
    MissingExtra without Opacus; SettingsError when no noise is enough.
    """
    if math.isinf(epsilon):
        return Account(0.0, share, delta, (0.0,) * len(start))
    if find_spec("opacus") is None:
        raise MissingExtra("Differentially private training (task.kind=private)", "dp")
    alone = _least_noise(lambda noise: Account(noise, 1.0, delta).epsilon(1), epsilon)
    once = tuple((alone or math.inf) / math.sqrt(part) for part in start)
    noise = alone and _least_noise(lambda noise: Account(noise, share, delta, once).epsilon(steps), epsilon)
    if not noise:
        raise SettingsError(
            f"No noise keeps {steps} steps within task.epsilon={epsilon} at task.delta={delta}. Raise task.epsilon, or "
            "lower the budget in images."
        )
    return Account(noise, share, delta, once)


def _least_noise(spent: Callable[[float], float], epsilon: float) -> float | None:
    """The smallest noise, to 0.1 %, with which no more than epsilon is spent, by halving; None if none is enough."""
    low, high = 1e-2, 1e5
    if spent(high) > epsilon:
        return None
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= epsilon else (middle, high)
    return high


class Draws:
    """Random numbers from a secret key: whoever knew them could take the noise away, so the seed has no part in them.

    Each step and purpose has numbers of its own, so that a training that is continued draws what it would have drawn.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key or secrets.token_bytes(KEY_BYTES)

    def generator(self, purpose: str, step: int) -> np.random.Generator:
        """The numbers of one purpose in one step."""
        digest = hashlib.blake2b(f"{purpose}/{step}".encode(), key=self.key, digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

    def patients(self, step: int, groups: list[NDArray[np.int64]], share: float) -> NDArray[np.int64]:
        """One image of each patient who is drawn; `groups` holds each patient's images. It may be empty."""
        draw = self.generator("patients", step)
        drawn = np.flatnonzero(draw.random(len(groups)) < share)
        return np.asarray([draw.choice(groups[k]) for k in drawn], dtype=np.int64)

    def add_noise(self, sums: dict[str, Tensor], step: int, scale: float) -> None:
        """Add Gaussian noise of standard deviation `scale` to each number."""
        draw = self.generator("noise", step)
        for value in sums.values():
            noise = draw.standard_normal(tuple(value.shape), dtype=np.float32) * np.float32(scale)
            value += torch.from_numpy(noise).to(value)


def clipped_sum(network: nn.Module, loss: Any, images: Tensor, labels: Tensor | None, norm: float, chunk: int,
                ) -> dict[str, Tensor]:
    """The sum over images of the gradient of `loss(logits)`, each scaled down to at most `norm`, by weight's name.

    Each image goes through the network on its own, so that no layer can mix them. A gradient that is not finite counts
    as zero. chunk: images computed at once.
    """
    trains = network.training
    network.eval()  # spectral normalisation goes on between the turns, on generated images
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def one(weights: dict[str, Tensor], image: Tensor, *label: Tensor) -> Tensor:
        arguments = (image[None], *(entry[None] for entry in label))
        value: Tensor = loss(functional_call(network, weights, arguments)).sum()
        return value

    inputs = (images,) if labels is None else (images, labels)
    each = vmap(grad(one), in_dims=(None, *[0] * len(inputs)))
    for start in range(0, len(images), chunk):
        with memory_as_it_lies():
            gradients = each(weights, *(entry[start:start + chunk] for entry in inputs))
        size = torch.stack([value.flatten(1).norm(dim=1) for value in gradients.values()]).norm(dim=0)
        scale = torch.where(torch.isfinite(size), (norm / (size + 1e-6)).clamp(max=1.0), 0.0)
        for name, value in gradients.items():
            finite = torch.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)
            sums[name] += torch.einsum("n,n...->...", scale, finite)
    network.train(trains)
    return sums
