"""What a turn of training, or a sampler, gets: images with what belongs to them, and random numbers of their own."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from radsynth.device import moved


@dataclass(frozen=True, kw_only=True)
class Care:
    """What the training doctor has prescribed so far; the defaults are for a healthy run.

    augment: least strength of augmentation; spared: what the settings have does not count, `augment` alone does
    penalty: factor of the penalty's weight
    unsaturated: take the non-saturating form of a generator's loss that saturates
    redraw: weight of the error of training images redrawn, as a share of what images of their class vary
    """

    augment: float = 0.0
    spared: bool = False
    penalty: float = 1.0
    unsaturated: bool = False
    redraw: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a turn or a sampler gets.

    images: (n, c, *space) in [-1, 1], empty (n, 0) when sampling from noise
    labels: (n,) class indices, None when the data is unlabelled; masks: (n, *space) label values (NO_MASK all over an
    image that has no mask where others have one) or None
    conditions: (n, k) the numbers that images are learned with, scaled to [-1, 1]; None without
    rows: the images' places in the prepared data, () of images that come from elsewhere
    seed, items: every item's own random numbers come from (seed, item) alone, whatever the batch or process
    step, progress: where training is: steps done, and the share of the schedule done, 0 to 1
    truncation: scale of the styles that masks are painted in, 1 for none; smaller is more typical and less varied
    care: what the training doctor has prescribed
    """

    images: Float[Tensor, "n c *space"]
    labels: Int[Tensor, " n"] | None = None
    masks: Int[Tensor, "n *space"] | None = None
    conditions: Float[Tensor, "n k"] | None = None
    rows: tuple[int, ...] = ()
    seed: int
    items: tuple[int, ...]
    step: int = 0
    progress: float = 0.0
    truncation: float = 1.0
    care: Care = Care()

    def now(self) -> float | Tensor:
        """`progress` for arithmetic; a tensor () where a step is recorded and repeated."""
        return self.progress

    def augmenting(self) -> float | Tensor:
        """`care.augment` for arithmetic; a tensor () where a step is recorded, unless it is 0."""
        return self.care.augment

    def constant(self) -> Hashable:
        """What of this batch decides how a step goes that is recorded and repeated with the tensors of others."""
        return len(self.items), replace(self.care, augment=float(self.care.augment > 0))

    def normal(self, stream: str, *shape: int) -> Float[Tensor, "n *shape"]:
        """Standard normal numbers (n, *shape), float32, that depend on (seed, item, stream) alone."""
        draws = [g.standard_normal(shape, dtype=np.float32) for g in self._generators(stream)]
        return moved(torch.from_numpy(np.stack(draws)), self.images.device)

    def uniform(self, stream: str, *shape: int) -> Float[Tensor, "n *shape"]:
        """Uniform numbers in [0, 1), (n, *shape), float32, that depend on (seed, item, stream) alone."""
        return moved(torch.from_numpy(self.lots(stream, *shape)), self.images.device)

    def lots(self, stream: str, *shape: int) -> NDArray[np.float32]:
        """The numbers of `uniform` on the processor, for what is decided there: to ask a GPU for them is to wait."""
        return np.stack([g.random(shape, dtype=np.float32) for g in self._generators(stream)])

    def poisson(self, stream: str, means: Float[Tensor, "n *shape"]) -> Float[Tensor, "n *shape"]:
        """Poisson numbers, float32, of the given means (n, *shape), that depend on these and (seed, item, stream)."""
        expected = means.detach().cpu().numpy()
        draws = [g.poisson(one).astype(np.float32) for g, one in zip(self._generators(stream), expected, strict=True)]
        return torch.from_numpy(np.stack(draws)).to(means.device)

    def _generators(self, stream: str) -> Iterator[np.random.Generator]:
        """One generator, moved to each item's own place: making a new one for each takes seven times as long."""
        philox = np.random.Philox(key=(self.seed << 32) + zlib.crc32(stream.encode()))
        generator, state = np.random.Generator(philox), philox.state
        counter: Any = state["state"]
        for item in self.items:
            counter["counter"][:] = (0, 0, item, 0)
            philox.state = state
            yield generator
