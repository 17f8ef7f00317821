"""The discriminator of a run, as a score of images: what it answers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Judge:
    """Scores of images of one class and one age: the higher, the more real. Each image is judged for itself."""

    def __init__(self, discriminator: nn.Module, label: Tensor | None, numbers: Tensor | None = None) -> None:
        """label: () class index, or None; numbers: (k,) those that images are learned with, None: each one's middle."""
        self.discriminator, self.label, self.numbers = discriminator, label, numbers
        self.mixes: bool | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Images (n, c, *space) to scores (n,)."""
        if self.mixes is None:
            self.mixes = len(images) > 1 and self._depends_on_company(images.detach())
        if self.mixes:
            return torch.cat([self._score(image[None]) for image in images])
        return self._score(images)

    def _score(self, images: Tensor) -> Tensor:
        label = None if self.label is None else self.label.expand(len(images))
        numbers = () if self.numbers is None else (self.numbers.expand(len(images), -1),)
        scores: Tensor = self.discriminator(images, label, *numbers)
        return scores.float()

    @torch.no_grad()
    def _depends_on_company(self, images: Tensor) -> bool:
        """Whether the network looks at the batch as a whole (a layer of deviations does): then one at a time."""
        pair = torch.stack([images[0], -images[0]])
        return not torch.allclose(self._score(pair)[:1], self._score(images[:1]), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def scores(discriminator: nn.Module, images: NDArray[np.float32], labels: NDArray[np.int64] | None,
           numbers: Tensor | None = None) -> NDArray[np.float64]:
    """(n,) scores of images (n, c, *space) of their classes (n,) and numbers (n, k)."""
    found, device = [], next(discriminator.parameters()).device
    for index, image in enumerate(images):
        label = None if labels is None else torch.tensor(int(labels[index]), device=device)
        own = None if numbers is None else numbers[index].to(device)
        found.append(float(Judge(discriminator, label, own)(torch.from_numpy(image[None]).to(device))[0]))
    return np.asarray(found)
