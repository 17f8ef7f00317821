"""Styles that are usual for a mask: a linear prediction from its labels, and noise as wide as what they leave open.

A style says where things lie, and so does the mask; drawn apart, the two may contradict each other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from radsynth.models._principal import COARSE, shrunken

FEATURES = 8192
"""Numbers that a mask is told by at most: 32 pixels along the longest side of a slice of 8 labels, 12 of a volume of
4. Coarser grids predicted styles worse (lab notebook)."""


class UsualStyles(nn.Module):
    """Shares of a mask's classes (n, given, *space) of the training's size and standard normal noise (n, latent)
    to styles (n, latent) in fp32. Until told better, and in runs older than itself, styles are the noise."""

    mean: Tensor
    weights: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, given: int, latent: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.longest = max(1, min(COARSE, int((FEATURES / given) ** (1 / len(size)))))
        features = self.seen(torch.zeros(1, given, *size)).shape[1]
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("weights", torch.zeros(features, latent))
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("spread", torch.eye(latent))

    def seen(self, given: Tensor) -> Tensor:
        """(n, features) what styles are predicted from."""
        return shrunken(given.float(), self.longest)

    def take(self, mean: Tensor, weights: Tensor, centre: Tensor, spread: Tensor) -> None:
        """Predict (seen - mean) @ weights + centre, and turn noise into noise @ spread.T."""
        for name, value in {"mean": mean, "weights": weights, "centre": centre, "spread": spread}.items():
            self.get_buffer(name).copy_(value)

    def forward(self, given: Tensor, noise: Tensor) -> Tensor:
        with torch.autocast(given.device.type, enabled=False):
            return (self.seen(given) - self.mean) @ self.weights + self.centre + noise.float() @ self.spread.T

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, plain in {"mean": torch.zeros_like(self.mean), "weights": torch.zeros_like(self.weights),
                            "centre": torch.zeros_like(self.centre), "spread": torch.eye(len(self.spread))}.items():
            state_dict.setdefault(prefix + name, plain)  # a run from before there were such
        super()._load_from_state_dict(state_dict, prefix, *rest)
