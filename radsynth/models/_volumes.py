"""Convolutions of volumes that a processor computes rightly in bf16.

With torch 2.13 (oneDNN) on a processor they are garbage on grids of one or two voxels: gradients of weights up to 1e38,
another one at each call, and results of one voxel's depth from one channel. Layers on such grids take fp32 there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST = 3
"""Voxels along each side from which bf16 is right."""


class Convolution3d(nn.Conv3d):
    """`nn.Conv3d`, in fp32 on small grids of a processor."""

    def forward(self, x: Tensor) -> Tensor:
        if not _wrong_in_bf16(x):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """A convolution of images (n, c, h, w) or volumes (n, c, d, h, w), the latter as `Convolution3d`."""
    if x.ndim == 4:
        return functional.conv2d(x, weight, bias, padding=padding)
    if not _wrong_in_bf16(x):
        return functional.conv3d(x, weight, bias, padding=padding)
    with torch.autocast("cpu", enabled=False):
        return functional.conv3d(x.float(), weight, bias, padding=padding)


def _wrong_in_bf16(x: Tensor) -> bool:
    return torch.is_autocast_enabled("cpu") and x.device.type == "cpu" and min(x.shape[2:]) < SMALLEST
