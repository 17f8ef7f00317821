"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!"), written from the paper's section 4 and appendix.

Published settings for 64 px (FFHQ-64): 768 channels, 384 at the finest stage, two blocks a stage, twice the width
inside a block, groups of 16, latent 64, batch 256, Adam 2e-4 with (0, 0.9), R1 and R2 of weight 2 at every step. Its
schedules last 20 M images, so that a run of minutes stays at their beginning (average of the weights: none yet).
`thinner` divides the channels and the batch, for a machine that makes one step of the published network in minutes.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from _peers import Peer, some, update
from torch import Tensor, nn
from torch.nn import functional

LATENT, GROUP, SLOPE, BLOCKS = 64, 16, 0.2, 2


class Block(nn.Module):
    """x + conv1(act(grouped conv3(act(conv1(x))))), fix-up initialised: no normalisation."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        inner = 2 * width
        self.first = nn.Conv2d(width, inner, 1)
        self.second = nn.Conv2d(inner, inner, 3, padding=1, groups=max(1, inner // GROUP))
        self.third = nn.Conv2d(inner, width, 1, bias=False)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            layer.weight.data.mul_(depth**-0.25)  # Zhang 2019: L^(-1 / (2 m - 2)) for m = 3 layers
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.third.weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.leaky_relu(self.second(functional.leaky_relu(self.first(x), SLOPE)), SLOPE)
        return x + self.third(inner)


def _stage(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*[Block(width, depth) for _ in range(BLOCKS)])


class Generator(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.mix = nn.Linear(LATENT, widths[0], bias=False)
        nn.init.normal_(self.mix.weight, std=LATENT**-0.5)
        depth = BLOCKS * len(widths)
        self.stages = nn.ModuleList(_stage(width, depth) for width in widths)
        self.transitions = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.stages[0](self.basis * self.mix(latent)[:, :, None, None])
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(transition(functional.interpolate(x, scale_factor=2, mode="bilinear")))
        return self.head(x)


class Discriminator(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        widths = widths[::-1]
        depth = BLOCKS * len(widths)
        self.stem = nn.Conv2d(1, widths[0], 1)
        self.stages = nn.ModuleList(_stage(width, depth) for width in widths)
        self.transitions = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in pairwise(widths))
        self.basis = nn.Conv2d(widths[-1], widths[-1], 4, groups=widths[-1], bias=False)
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stages[0](self.stem(images))
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            x = stage(transition(functional.interpolate(x, scale_factor=0.5, mode="bilinear")))
        return self.head(self.basis(x).flatten(1))


def r3gan(images: Tensor, thinner: int = 1) -> Peer:
    """R3GAN in its published settings, or with 1 / `thinner` of the channels and of the batch."""
    size, batch, weight = images.shape[-1], 256 // thinner, 2.0
    if size < 64:
        weight = 0.05  # the paper's weight at 32 px (CIFAR-10)
    stages = int(math.log2(size)) - 1
    widths = [768 // thinner] * (stages - 1) + [384 // thinner if size >= 64 else 768 // thinner]
    generator, discriminator = Generator(widths), Discriminator(widths)
    optimisers = [torch.optim.Adam(net.parameters(), 2e-4, (0.0, 0.9)) for net in (generator, discriminator)]

    def slope(samples: Tensor, logits: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(logits.sum(), samples, create_graph=True)
        return found.square().flatten(1).sum(1).mean()

    def step() -> int:
        real = some(images, batch).requires_grad_()
        fake = generator(torch.randn(batch, LATENT)).detach().requires_grad_()
        of_real, of_fake = discriminator(real), discriminator(fake)
        penalty = slope(real, of_real) + slope(fake, of_fake)
        update(optimisers[1], functional.softplus(of_fake - of_real).mean() + weight / 2 * penalty)
        real, fake = some(images, batch), generator(torch.randn(batch, LATENT))
        update(optimisers[0], functional.softplus(discriminator(real) - discriminator(fake)).mean())
        return batch

    return Peer(step, generator, (LATENT,))
