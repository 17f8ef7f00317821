"""Batches of one training: images in their epoch's order with what goes with them, where the networks compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.device import channels_last, moved
from radsynth.verbs._training.order import Order


class Batches:
    """Makes them from prepared data. hidden: of random numbers alone, for a task that must not be shown patients."""

    def __init__(self, prepared: Prepared, device: torch.device, balance: float, seed: int, *, hidden: bool) -> None:
        self.prepared, self.device, self.seed, self.hidden = prepared, device, seed, hidden
        self.train = prepared.indices("train")
        self.order = Order(prepared.labels(self.train), balance, seed)

    def next(self, items: range, **more: Any) -> Batch:
        """Training images in the order of their epoch, one for each item. more: fields of `Batch`"""
        return self.of(self.train[[self.order(item) for item in items]], items, self.seed, **more)

    def of(self, chosen: NDArray[np.int64], items: range, seed: int, **more: Any) -> Batch:
        """The images `chosen`, with random numbers of the items' own."""
        if self.hidden:
            return Batch(images=torch.empty(len(items), 0, device=self.device), seed=seed, items=tuple(items), **more)
        prepared, spec = self.prepared, self.prepared.spec
        return Batch(
            images=moved(channels_last(torch.from_numpy(prepared.images(chosen))), self.device),
            labels=self._moved(prepared.labels(chosen)),
            masks=self._moved(prepared.masks(chosen)) if spec.mask_classes else None,
            conditions=self._moved(prepared.conditions(chosen)) if spec.conditions else None,
            rows=tuple(chosen.tolist()), seed=seed, items=tuple(items), **more)

    def _moved(self, values: NDArray[Any]) -> Tensor:
        return moved(torch.from_numpy(values), self.device)
