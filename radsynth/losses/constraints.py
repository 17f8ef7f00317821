"""Constraints on weights, kept after each step of the optimiser."""

from __future__ import annotations

import torch
from torch import nn


# Weight clipping (Arjovsky et al. 2017, algorithm 1, line 7): w <- clip(w, -c, c), so that the critic is Lipschitz.
@torch.no_grad()
def clip_weights(network: nn.Module, limit: float) -> None:
    """Clip every weight of the network to [-limit, limit], in place."""
    for weight in network.parameters():
        weight.clamp_(-limit, limit)
