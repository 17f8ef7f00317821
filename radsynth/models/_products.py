"""4x4 convolutions with a stride of 2 as matrix products, where a processor is faster so: few images on coarse grids.

There the weights are larger than the images, and a convolution lays them out anew at each of its three passes; a
matrix product takes them as they lie. Elsewhere it costs more to gather patches than is won.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

FEW = 512
"""Pixels of the coarser grid, of all images together, up to which a product is faster."""


def as_product(features: Tensor, pixels: int) -> bool:
    """Whether a layer between grids takes a product; pixels: of the coarser grid, of all images together.

    Only where a gradient is wanted: what is drawn must not depend on how many images are drawn at once.
    """
    return (torch.is_grad_enabled() and features.dtype == torch.bfloat16 and features.ndim == 4
            and features.device.type == "cpu" and pixels <= FEW)  # last: a graph of any number of images asks not


class Halving(nn.Conv2d):
    """A 4x4 convolution with a stride of 2: (n, inputs, 2h, 2w) to (n, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        height, width = (side // 2 for side in features.shape[2:])
        if not as_product(features, len(features) * height * width):
            return super().forward(features)
        patches: Tensor = _Gather.apply(features.movedim(1, -1))  # type: ignore[no-untyped-call]
        halved = functional.linear(patches, self.weight.movedim(1, -1).flatten(1), self.bias)
        return halved.view(-1, height, width, self.out_channels).movedim(-1, 1)


def doubled(features: Tensor, weight: Tensor) -> Tensor:
    """The transposed convolution: (n, inputs, h, w) and (inputs, outputs, 4, 4) to (n, outputs, 2h, 2w)."""
    n, inputs, height, width = features.shape
    patches = features.movedim(1, -1).reshape(-1, inputs) @ weight.movedim(1, -1).reshape(inputs, -1)
    shape = (n, 2 * height, 2 * width, weight.shape[1])
    image: Tensor = _Scatter.apply(patches, shape)  # type: ignore[no-untyped-call]
    return image.movedim(-1, 1)


class _Gather(torch.autograd.Function):
    """(n, h, w, c) to its patches (n * h/2 * w/2, 4 * 4 * c) at a stride of 2, with a border of one zero."""

    @staticmethod
    def forward(context: Any, image: Tensor) -> Tensor:
        context.shape = n, h, w, c = image.shape
        row = (w + 2) * c
        image = functional.pad(image, (0, 0, 1, 1, 1, 1)).contiguous()
        strides = ((h + 2) * row, 2 * row, 2 * c, row, 1)
        return image.as_strided((n, h // 2, w // 2, 4, 4 * c), strides).reshape(n * h * w // 4, 16 * c)

    @staticmethod
    def backward(context: Any, patches: Tensor) -> Any:
        return _Scatter.apply(patches, context.shape)  # type: ignore[no-untyped-call]


class _Scatter(torch.autograd.Function):
    """The sum of patches, each at its place: the transpose of `_Gather`."""

    @staticmethod
    def forward(context: Any, patches: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        n, h, w, c = shape[0], shape[1] // 2, shape[2] // 2, shape[3]
        parts = patches.view(n, h, w, 2, 2, 2, 2, c)  # patch, pair and pixel along each axis, the pairs overlap
        image = patches.new_zeros(n, h + 1, 2, w + 1, 2, c)
        for y in (0, 1):
            for x in (0, 1):
                image[:, y:y + h, :, x:x + w] += parts[:, :, :, y, :, x].movedim(2, 3)
        return image.view(n, 2 * h + 2, 2 * w + 2, c)[:, 1:-1, 1:-1].contiguous()

    @staticmethod
    def backward(context: Any, image: Tensor) -> Any:
        return _Gather.apply(image), None  # type: ignore[no-untyped-call]
