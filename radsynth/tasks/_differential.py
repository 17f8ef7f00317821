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
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from radsynth.errors import MissingExtra, SettingsError

LARGEST_EPSILON = 100.0
"""Above this a bound says nothing: e^100 is more certainty than any attack has."""
KEY_BYTES = 16


@dataclass(frozen=True)
class Account:
    """What `steps` releases with this noise cost. noise: standard deviation in clipping norms, 0 for none.

    share: the probability that a patient is drawn in a step; delta: the chance that is left out of the bound
    """

    noise: float
    share: float
    delta: float

    def epsilon(self, steps: int) -> float:
        """The bound after so many steps; infinity without noise."""
        if not steps:
            return 0.0
        if not self.noise:
            return math.inf
        from opacus.accountants.analysis import rdp  # type: ignore[import-untyped]  # it ships no types

        with warnings.catch_warnings():  # that a wider range of orders would give a smaller bound: this one holds too
            warnings.simplefilter("ignore")
            found = rdp.get_privacy_spent(orders=_orders(), rdp=_one_step(self.noise, self.share) * steps,
                                          delta=self.delta)
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
def account(epsilon: float, delta: float, share: float, steps: int) -> Account:
    """The account whose noise keeps `steps` steps within `epsilon`; without noise for an infinite one.

    MissingExtra without Opacus; SettingsError when no noise is enough.
    """
    if math.isinf(epsilon):
        return Account(0.0, share, delta)
    if find_spec("opacus") is None:
        raise MissingExtra("Differentially private training (task.kind=private)", "dp")
    from opacus.accountants.utils import get_noise_multiplier  # type: ignore[import-untyped]  # it ships no types

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            noise = get_noise_multiplier(target_epsilon=epsilon, target_delta=delta, sample_rate=share, steps=steps,
                                         epsilon_tolerance=min(0.01, epsilon / 100))
    except ValueError:
        raise SettingsError(
            f"No noise keeps {steps} steps within task.epsilon={epsilon} at task.delta={delta}. Raise task.epsilon, or "
            "lower the budget in images."
        ) from None
    return Account(float(noise), share, delta)


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
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def one(weights: dict[str, Tensor], image: Tensor, *label: Tensor) -> Tensor:
        arguments = (image[None], *(entry[None] for entry in label))
        value: Tensor = loss(functional_call(network, weights, arguments)).sum()
        return value

    inputs = (images,) if labels is None else (images, labels)
    each = vmap(grad(one), in_dims=(None, *[0] * len(inputs)))
    for start in range(0, len(images), chunk):
        gradients = each(weights, *(entry[start:start + chunk] for entry in inputs))
        size = torch.stack([value.flatten(1).norm(dim=1) for value in gradients.values()]).norm(dim=0)
        scale = torch.where(torch.isfinite(size), (norm / (size + 1e-6)).clamp(max=1.0), 0.0)
        for name, value in gradients.items():
            finite = torch.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)
            sums[name] += torch.einsum("n,n...->...", scale, finite)
    return sums
