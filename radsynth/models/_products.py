"""4x4 convolutions with a stride of 2 as matrix products, where a processor is faster so.

Few images on coarse grids: there the weights are larger than the images, and a convolution lays them out anew at each
of its three passes; a product takes them as they lie. Elsewhere it costs more to gather patches than is won.
From many channels to one or two, at full resolution: a convolution computes sixteen and throws the others away.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from radsynth.models._volumes import Convolution3d

FEW = 512
"""Pixels of the coarser grid, of all images together, up to which a product is faster."""

THIN = 2
"""Channels of an image up to which its layer takes a product (three channels: hardly faster)."""


def as_product(features: Tensor, pixels: int) -> bool:
    """Whether a layer between grids takes a product; pixels: of the coarser grid, of all images together.

    Only where a gradient is wanted: what is drawn must not depend on how many images are drawn at once.
    """
    return (torch.is_grad_enabled() and features.dtype == torch.bfloat16 and features.ndim == 4
            and features.device.type == "cpu" and pixels <= FEW)  # last: a graph of any number of images asks not


def thin(features: Tensor, channels: int) -> bool:
    """Whether the layer between these features and an image of so many channels takes a product."""
    given = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
    return channels <= THIN and given == torch.bfloat16 and features.device.type == "cpu"


class Halving(nn.Conv2d):
    """A 4x4 convolution with a stride of 2: (n, inputs, 2h, 2w) to (n, outputs, h, w); odd sides are no product."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        height, width = (side // 2 for side in features.shape[2:])
        if _thinly(self, features):
            return _thinly_halved(self, features)
        if _odd(features) or not as_product(features, len(features) * height * width):
            return super().forward(features)
        patches: Tensor = _Gather.apply(features.movedim(1, -1))  # type: ignore[no-untyped-call]
        halved = functional.linear(patches, self.weight.movedim(1, -1).flatten(1), self.bias)
        return halved.view(-1, height, width, self.out_channels).movedim(-1, 1)


class HalvingVolumes(Convolution3d):
    """The same of volumes: (n, inputs, 2d, 2h, 2w) to (n, outputs, d, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        return _thinly_halved(self, features) if _thinly(self, features) else super().forward(features)


HALVING: dict[int, Any] = {2: Halving, 3: HalvingVolumes}


def _odd(features: Tensor) -> bool:
    return any(side % 2 for side in features.shape[2:])


def _thinly(layer: Halving | HalvingVolumes, image: Tensor) -> bool:
    return image.requires_grad and not _odd(image) and thin(image, layer.in_channels)


def _thinly_halved(layer: Halving | HalvingVolumes, image: Tensor) -> Tensor:
    given = (part.to(torch.bfloat16) for part in (image, layer.weight, layer.bias) if part is not None)
    halved: Tensor = _ThinHalving.apply(*given)  # type: ignore[no-untyped-call]
    return halved


def doubled(features: Tensor, weight: Tensor) -> Tensor:
    """The transposed convolution: (n, inputs, h, w) and (inputs, outputs, 4, 4) to (n, outputs, 2h, 2w)."""
    n, inputs, height, width = features.shape
    patches = features.movedim(1, -1).reshape(-1, inputs) @ weight.movedim(1, -1).reshape(inputs, -1)
    shape = (n, 2 * height, 2 * width, weight.shape[1])
    image: Tensor = _Scatter.apply(patches, shape)  # type: ignore[no-untyped-call]
    return image.movedim(-1, 1)


def thinly_doubled(features: Tensor, weight: Tensor) -> Tensor:
    """The same to one or two channels, of volumes too; in fp32, which the sums of several products are taken in."""
    image: Tensor = _ThinDoubling.apply(features, weight.to(features.dtype))  # type: ignore[no-untyped-call]
    return image


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


class _ThinDoubling(torch.autograd.Function):
    """`thinly_doubled`. Backward it is a convolution like any other, whose few channels come first."""

    @staticmethod
    def forward(context: Any, features: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(features, weight)
        n, inputs, *space = features.shape
        axes = range(len(space))
        pixels = features.movedim(1, -1).reshape(n, -1, inputs)
        # As in `_Scatter`, plane by plane: pair and pixel along each axis.
        parts = (weight.flatten(1).T @ pixels.mT).view(n, -1, *[2, 2] * len(space), *space)
        image = parts.new_zeros((n, parts.shape[1], *[2] * len(space), *(side + 1 for side in space)),
                                dtype=torch.promote_types(parts.dtype, torch.float32))
        every = slice(None)
        for pair in itertools.product((0, 1), repeat=len(space)):
            where: Any = (..., *(slice(first, first + side) for first, side in zip(pair, space, strict=True)))
            which: Any = (every, every, *(index for first in pair for index in (first, every)))
            image[where] += parts[which]
        image = image.permute(0, 1, *(index + 2 for axis in axes for index in (len(space) + axis, axis)))
        image = image.reshape(n, -1, *(2 * side + 2 for side in space))
        inside: Any = (..., *[slice(1, -1)] * len(space))
        return image[inside].contiguous()

    @staticmethod
    def backward(context: Any, given: Tensor) -> Any:
        return _gradients(context, given, transposed=True)[:2]


class _ThinHalving(torch.autograd.Function):
    """A convolution from one or two channels; its image's gradient is `thinly_doubled`."""

    @staticmethod
    def forward(context: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        context.save_for_backward(image, weight)
        convolve = functional.conv2d if image.ndim == 4 else functional.conv3d
        return convolve(image, weight, bias, stride=2, padding=1)

    @staticmethod
    def backward(context: Any, given: Tensor) -> Any:
        gradients = _gradients(context, given, transposed=False)
        if not context.needs_input_grad[0]:
            return gradients
        image, weight = context.saved_tensors
        return thinly_doubled(given, weight).to(image.dtype), *gradients[1:]


def _gradients(context: Any, given: Tensor, transposed: bool) -> tuple[Tensor | None, ...]:
    """What torch's own layer gives back, but for the image's gradient of a convolution."""
    inputs, weight = context.saved_tensors
    axes = weight.ndim - 2
    wanted = [context.needs_input_grad[0] and transposed, *context.needs_input_grad[1:], False][:3]
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        given.to(inputs.dtype), inputs, weight, [len(weight)], [2] * axes, [1] * axes, [1] * axes, transposed,
        [0] * axes, 1, wanted)
    return found
