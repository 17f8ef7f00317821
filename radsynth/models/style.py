"""StyleGAN2 (Karras et al. 2020): a mapping network, modulated convolutions, output skips; 2-D and 3-D, any size."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from radsynth.device import channels_last
from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.models._blocks import MODE, LatentCondition, ProjectionHead, classes_of, crop, starting_grid, widths
from radsynth.models._equalised import (
    EqualisedConvolution,
    EqualisedLinear,
    halve,
    pixel_norm,
    with_deviation,
)
from radsynth.models._volumes import convolved
from radsynth.settings import settings


@settings
class Settings:
    """A mapping network and modulated convolutions: latents that can be steered. The paper's penalty is r1."""

    kind: Literal["style"] = "style"
    latent: PositiveInt = 128
    """Length of the latent vector, and of the style."""
    mapping_layers: int = Field(4, ge=1, le=100)
    """Layers from the latent to the style; they learn at a hundredth of the rate."""
    width: PositiveInt = 16
    """Channels at the full resolution; they double at each halving."""
    widest: PositiveInt = 256
    """Upper limit of the channels."""
    noise: bool = False
    """Add noise to every layer, for fine grain. An image's noise follows from its latent, so that it can be made again;
    it costs time on a GPU."""


class Mapping(nn.Module):
    """Latent (n, latent) and class to the style (n, latent)."""

    def __init__(self, latent: int, layers: int, classes: int) -> None:
        super().__init__()
        self.condition = LatentCondition(classes, latent)
        self.layers = nn.ModuleList(EqualisedLinear(latent, latent, speed=0.01) for _ in range(layers))

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        style = pixel_norm(self.condition(latent, labels))
        for layer in self.layers:
            style = functional.leaky_relu(layer(style), 0.2)
        return style


class ModulatedConvolution(nn.Module):
    """A convolution whose input channels are scaled by the style (equations 1 to 3 of the paper).

    w'_ijk = s_i w_ijk;  w''_ijk = w'_ijk / sqrt(sum_ik w'_ijk^2). Scaling the input by s and the output by the root is
    the same, and needs one weight for the whole batch.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dimensions: int, style: int, demodulate: bool = True
    ) -> None:
        super().__init__()
        gain = math.sqrt(2) if demodulate else 1.0
        self.convolution = EqualisedConvolution(inputs, outputs, kernel, dimensions, gain)
        self.style = EqualisedLinear(style, inputs, gain=1.0, bias=1.0)
        self.demodulate, self.gain = demodulate, gain

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        space, layer = [1] * (x.ndim - 2), self.convolution
        scale = self.style(style).float()
        y = x * scale.view(*scale.shape, *space).to(x.dtype)
        weight = layer.weight * layer.scale
        y = convolved(y, weight, padding=layer.padding)
        if self.demodulate:
            with torch.autocast(x.device.type, enabled=False):
                power = scale.square() @ weight.float().square().flatten(2).sum(2).T
                y = y * (self.gain * (power + 1e-8).rsqrt()).view(*power.shape, *space).to(y.dtype)
        if noise is not None:
            y = y + noise.to(y.dtype)
        shifted: Tensor = y + layer.bias.view(-1, *space).to(y.dtype)
        return shifted


class Generator(nn.Module):
    """Latent (n, latent) to images (n, c, *space) in [-1, 1]: each resolution adds to the image of the one before."""

    def __init__(
        self, latent: int, mapping_layers: int, width: int, widest: int, channels: int, size: tuple[int, ...],
        classes: int, noise: bool,
    ) -> None:
        super().__init__()
        self.latent, self.size = latent, size
        dimensions = len(size)
        levels, grid = starting_grid(size, "style")
        wide = widths(width, widest, levels)
        self.mapping = Mapping(latent, mapping_layers, classes)
        self.start = nn.Parameter(torch.randn(1, wide[0], *grid))
        shapes = [(wide[0], wide[0]), *[shape for a, b in pairwise(wide) for shape in ((a, b), (b, b))]]
        self.convolutions = nn.ModuleList(ModulatedConvolution(a, b, 3, dimensions, latent) for a, b in shapes)
        self.to_image = nn.ModuleList(
            ModulatedConvolution(n, channels, 1, dimensions, latent, demodulate=False) for n in wide
        )
        self.noise = nn.Parameter(torch.zeros(len(shapes))) if noise else None
        self.asks = noise  # for the latents, which the noise is drawn from

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        style = self.mapping(latent, labels)
        x = channels_last(self.start.expand(latent.shape[0], *self.start.shape[1:]))
        draws = _noise_sources(latent) if self.noise is not None else []
        image: Tensor | None = None
        for index, convolution in enumerate(self.convolutions):
            if index % 2:  # the first of each resolution's two, after the single one at the start
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = functional.leaky_relu(convolution(x, style, self._noise(index, draws, x)), 0.2)
            if index % 2 == 0:
                made = self.to_image[index // 2](x, style).float()
                image = made if image is None else made + functional.interpolate(
                    image, scale_factor=2, mode=MODE[x.ndim - 2], align_corners=False)
        assert image is not None
        return torch.tanh(crop(image, self.size))

    def _noise(self, index: int, draws: list[torch.Generator], x: Tensor) -> Tensor | None:
        if self.noise is None:
            return None
        planes = [torch.randn(1, *x.shape[2:], generator=draw) for draw in draws]
        return self.noise[index] * torch.stack(planes).to(x.device)


def _noise_sources(latent: Tensor) -> list[torch.Generator]:
    """A source of noise for each latent (n, latent), seeded by its first numbers' bits: the same wherever it runs."""
    bits = latent.detach()[:, :2].float().cpu().contiguous().view(torch.int32).tolist()
    return [torch.Generator().manual_seed(sum((word & 0x7FFFFFFF) << 16 * k for k, word in enumerate(row)))
            for row in bits]


class Residual(nn.Module):
    """Half the resolution: two convolutions beside a shortcut, their sum with unit variance."""

    def __init__(self, inputs: int, outputs: int, dimensions: int) -> None:
        super().__init__()
        self.first = EqualisedConvolution(inputs, inputs, 3, dimensions)
        self.second = EqualisedConvolution(inputs, outputs, 3, dimensions)
        self.shortcut = EqualisedConvolution(inputs, outputs, 1, dimensions, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.leaky_relu(self.first(x), 0.2)
        y = functional.leaky_relu(self.second(halve(y)), 0.2)
        total: Tensor = y + self.shortcut(halve(x))
        return total * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Images (n, c, *space) to logits (n,)."""

    def __init__(self, width: int, widest: int, channels: int, size: tuple[int, ...], classes: int) -> None:
        super().__init__()
        dimensions = len(size)
        levels, grid = starting_grid(size, "style")
        wide = widths(width, widest, levels)[::-1]
        self.from_image = EqualisedConvolution(channels, wide[0], 1, dimensions)
        self.blocks = nn.Sequential(*[Residual(fine, coarse, dimensions) for fine, coarse in pairwise(wide)])
        self.last = EqualisedConvolution(wide[-1] + 1, wide[-1], 3, dimensions)
        self.project = EqualisedLinear(wide[-1] * math.prod(grid), wide[-1])
        self.head = ProjectionHead(wide[-1], classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.blocks(functional.leaky_relu(self.from_image(channels_last(images)), 0.2))
        x = functional.leaky_relu(self.last(with_deviation(x)), 0.2)
        logits: Tensor = self.head(functional.leaky_relu(self.project(x.flatten(1)), 0.2), labels)
        return logits


def networks(settings: Settings, spec: ImageSpec) -> Networks:
    """Generator and discriminator for images of `spec`."""
    channels, classes = len(spec.channels), classes_of(spec)
    shape = (settings.width, settings.widest, channels, spec.size, classes)
    return {
        "generator": Generator(settings.latent, settings.mapping_layers, *shape, settings.noise),
        "discriminator": Discriminator(*shape),
    }
