"""StyleGAN2 (Karras et al. 2020), written from the paper, with the settings of StyleGAN2-ADA's table for small images:
min(16384 / side, 512) channels, two mapping layers, batch 32, Adam 2.5e-3 (0, 0.99), R1 of weight 0.0002 side^2 / batch
every 16 steps, path lengths of weight 2 every 4, style mixing 0.9, average over 10,000 images; without the adaptive
augmentation.

`thinner` divides the channels, for a machine that makes few steps of the published network in minutes.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import torch
from _peers import Peer, some, update
from torch import Tensor, nn
from torch.nn import functional

LATENT, BATCH, RATE = 512, 32, 2.5e-3


class Linear(nn.Module):
    """Equalised learning rate: weights of unit variance, scaled as they are used; `speed` scales their rate."""

    def __init__(self, inputs: int, outputs: int, speed: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / speed)
        self.bias = nn.Parameter(torch.full((outputs,), bias / speed))
        self.scale, self.speed = speed / math.sqrt(inputs), speed

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.scale, self.bias * self.speed)


class Convolution(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, down: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.down = 1 / math.sqrt(inputs * kernel**2), down

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        if self.down:
            x = blur(x, (2, 2) if kernel == 3 else (1, 1))
        padding = 0 if self.down else kernel // 2
        return functional.conv2d(x, self.weight * self.scale, self.bias, stride=2 if self.down else 1, padding=padding)


def blur(x: Tensor, pad: tuple[int, int], gain: float = 1.0) -> Tensor:
    """The [1, 3, 3, 1] filter along both axes."""
    line = x.new_tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (line[:, None] * line[None]) * (gain / line.sum() ** 2)
    x = functional.pad(x, (*pad, *pad))
    return functional.conv2d(x, kernel.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2) * math.sqrt(2)


class Styled(nn.Module):
    """Modulated convolution with demodulation (eq. 1 to 3), noise, bias, rectifier; the filter after an up-sampling."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, up: bool = False, image: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.style = Linear(LATENT, inputs, bias=1.0)
        self.bias, self.noise = nn.Parameter(torch.zeros(outputs, 1, 1)), nn.Parameter(torch.zeros(()))
        self.up, self.image, self.scale = up, image, 1 / math.sqrt(inputs * kernel**2)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        n, outputs, kernel = len(x), *self.weight.shape[::2][:2]
        weight = self.weight * self.scale * self.style(w)[:, None, :, None, None]
        if not self.image:
            weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        x = x.reshape(1, -1, *x.shape[2:])
        if self.up:
            weight = weight.transpose(1, 2).flatten(0, 1)
            x = functional.conv_transpose2d(x, weight, stride=2, groups=n)
            x = blur(x.unflatten(1, (n, outputs))[0], (1, 1), gain=4.0)
        else:
            x = functional.conv2d(x, weight.flatten(0, 1), padding=kernel // 2, groups=n).unflatten(1, (n, outputs))[0]
        if self.image:
            return x + self.bias
        return activate(x + self.noise * torch.randn(n, 1, *x.shape[2:]) + self.bias)


class Generator(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.mapping = nn.ModuleList(Linear(LATENT, LATENT, speed=0.01) for _ in range(2))
        self.start = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        layers = [Styled(widths[0], widths[0])]
        for coarse, fine in pairwise(widths):
            layers += [Styled(coarse, fine, up=True), Styled(fine, fine)]
        self.layers = nn.ModuleList(layers)
        self.images = nn.ModuleList(Styled(width, 1, 1, image=True) for width in widths)

    def map(self, latent: Tensor) -> Tensor:
        w = latent * (latent.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = activate(layer(w))
        return w

    def draw(self, styles: list[Tensor]) -> Tensor:
        """Images of one style (n, 512) a layer."""
        x = self.start.expand(len(styles[0]), -1, -1, -1)
        image: Tensor | None = None
        for index, layer in enumerate(self.layers):
            x = layer(x, styles[index])
            if index % 2 == 0:
                made = self.images[index // 2](x, styles[min(index + 1, len(styles) - 1)])
                if image is not None:
                    image = blur(_zeros_between(image), (2, 1), gain=4.0)
                image = made if image is None else made + image
        assert image is not None
        return image

    def forward(self, latent: Tensor) -> Tensor:
        return self.draw([self.map(latent)] * len(self.layers))


def _zeros_between(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return functional.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1)).reshape(n, c, 2 * h, 2 * w)


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = Convolution(inputs, inputs, 3), Convolution(inputs, outputs, 3, down=True)
        self.shortcut = Convolution(inputs, outputs, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = activate(self.second(activate(self.first(x))))
        return (y + self.shortcut(x)) * math.sqrt(0.5)


class Discriminator(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        widths = widths[::-1]
        self.stem = Convolution(1, widths[0], 1)
        self.blocks = nn.Sequential(*[Residual(fine, coarse) for fine, coarse in pairwise(widths)])
        self.last = Convolution(widths[-1] + 1, widths[-1], 3)
        self.project, self.head = Linear(16 * widths[-1], widths[-1]), Linear(widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks(activate(self.stem(images)))
        groups = x.view(4, -1, *x.shape[1:])  # deviation among four images (ProGAN's minibatch statistic)
        deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True)
        x = torch.cat([x, deviation.repeat(4, 1, 1, 1).expand(-1, -1, *x.shape[2:])], dim=1)
        x = activate(self.last(x)).flatten(1)
        return self.head(activate(self.project(x)))


def stylegan2(images: Tensor, thinner: int = 1) -> Peer:
    """StyleGAN2 in its published settings, or with 1 / `thinner` of the channels."""
    size = images.shape[-1]
    widths = [min(16384 // 2**level, 512) // thinner for level in range(2, int(math.log2(size)) + 1)]
    generator, discriminator = Generator(widths), Discriminator(widths)
    averaged = copy.deepcopy(generator).requires_grad_(False)
    # Lazy regularisation: rate and decay as if the regularised steps were shared out (appendix B).
    optimisers = [torch.optim.Adam(net.parameters(), RATE * c, (0.0, 0.99**c))
                  for net, c in ((generator, 4 / 5), (discriminator, 16 / 17))]
    weight, done, mean_length = 0.0002 * size**2 / BATCH, 0, torch.zeros(())

    def made() -> Tensor:
        styles = [generator.map(torch.randn(BATCH, LATENT)) for _ in range(2)]
        cut = int(torch.randint(1, len(generator.layers), ())) if torch.rand(()) < 0.9 else len(generator.layers)
        return generator.draw([styles[index >= cut] for index in range(len(generator.layers))])

    def regularise_discriminator() -> None:
        real = some(images, BATCH).requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
        update(optimisers[1], 16 * weight / 2 * slope.square().flatten(1).sum(1).mean())

    def regularise_generator() -> None:
        nonlocal mean_length
        w = generator.map(torch.randn(BATCH // 2, LATENT))
        styles = [w.clone() for _ in generator.layers]
        image = generator.draw(styles)
        noise = torch.randn_like(image) / math.sqrt(image[0].numel())
        slopes = torch.autograd.grad((image * noise).sum(), styles, create_graph=True)
        length = torch.stack(slopes, 1).square().sum(2).mean(1).sqrt()
        mean_length = mean_length.lerp(length.mean().detach(), 0.01)
        update(optimisers[0], 4 * 2 * (length - mean_length).square().mean())

    def step() -> int:
        nonlocal done
        real = functional.softplus(-discriminator(some(images, BATCH))).mean()
        update(optimisers[1], real + functional.softplus(discriminator(made().detach())).mean())
        if done % 16 == 0:
            regularise_discriminator()
        update(optimisers[0], functional.softplus(-discriminator(made())).mean())
        if done % 4 == 0:
            regularise_generator()
        done += 1
        keep = 0.5 ** (BATCH / min(10_000, 0.05 * BATCH * done))
        with torch.no_grad():
            for kept, new in zip(averaged.parameters(), generator.parameters(), strict=True):
                kept.lerp_(new, 1 - keep)
        return BATCH

    return Peer(step, averaged, (LATENT,))
