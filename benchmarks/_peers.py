"""Peers in plain PyTorch, written from their papers in their published settings, as a user would run them.

Each trains in fp32 in the default memory layout on images (n, 1, h, w) in [-1, 1] for a number of seconds, and returns
a function from a number of images to samples, with the images seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

Sampler = Callable[[int], Tensor]


def mlp_gan(images: Tensor, seconds: float) -> tuple[Sampler, int]:
    """The survey's example, repaired: multilayer perceptrons, cross-entropy, Adam 2e-4, batch 64, latent 100."""
    pixels, shape = images[0].numel(), images.shape[1:]
    layers: list[nn.Module] = []
    for narrow, wide in ((100, 256), (256, 512), (512, 1024)):
        layers += [nn.Linear(narrow, wide), nn.LeakyReLU(0.2)]
    generator = nn.Sequential(*layers, nn.Linear(1024, pixels), nn.Tanh(), nn.Unflatten(1, shape))
    discriminator = nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, 1),
    )  # fmt: skip
    return _train(generator, discriminator, images, seconds, batch=64, rate=2e-4, latent=(100,))


def dcgan(images: Tensor, seconds: float) -> tuple[Sampler, int]:
    """DCGAN (Radford et al. 2016): 64 base channels, batch normalisation, cross-entropy, Adam 2e-4 (0.5), batch 128."""
    generator, discriminator = _dcgan_networks(images.shape[-1], norm=True)
    return _train(generator, discriminator, images, seconds, batch=128, rate=2e-4, latent=(100, 1, 1))


def wgan_gp(images: Tensor, seconds: float) -> tuple[Sampler, int]:
    """WGAN-GP (Gulrajani et al. 2017): DCGAN without critic normalisation, 5 critic steps, Adam 1e-4 (0, 0.9)."""
    generator, critic = _dcgan_networks(images.shape[-1], norm=False)
    optimisers = [torch.optim.Adam(net.parameters(), 1e-4, (0.0, 0.9)) for net in (generator, critic)]
    seen, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        for _ in range(5):
            real = images[torch.randint(0, len(images), (64,))]
            with torch.no_grad():
                fake = generator(torch.randn(64, 100, 1, 1))
            mixed = torch.lerp(fake, real, torch.rand(64, 1, 1, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
            penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
            loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
            optimisers[1].zero_grad()
            loss.backward()
            optimisers[1].step()
            seen += 64
        loss = -critic(generator(torch.randn(64, 100, 1, 1))).mean()
        optimisers[0].zero_grad()
        loss.backward()
        optimisers[0].step()
    return _sampler(generator, (100, 1, 1)), seen


def _dcgan_networks(size: int, *, norm: bool) -> tuple[nn.Sequential, nn.Sequential]:
    widths = [64 * 2**level for level in range(size.bit_length() - 3)]
    layers: list[nn.Module] = [nn.ConvTranspose2d(100, widths[-1], 4, bias=False)]
    layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    for coarse, fine in pairwise(widths[::-1]):
        layers += [nn.ConvTranspose2d(coarse, fine, 4, 2, 1, bias=False), nn.BatchNorm2d(fine), nn.ReLU()]
    generator = nn.Sequential(*layers, nn.ConvTranspose2d(widths[0], 1, 4, 2, 1), nn.Tanh())
    down: list[nn.Module] = [nn.Conv2d(1, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
    for fine, coarse in pairwise(widths):
        down += [nn.Conv2d(fine, coarse, 4, 2, 1, bias=not norm), *([nn.BatchNorm2d(coarse)] if norm else []),
                 nn.LeakyReLU(0.2)]
    discriminator = nn.Sequential(*down, nn.Conv2d(widths[-1], 1, 4), nn.Flatten())
    for net in (generator, discriminator):
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)
    return generator, discriminator


def _train(generator: nn.Module, discriminator: nn.Module, images: Tensor, seconds: float, *, batch: int, rate: float,
           latent: tuple[int, ...]) -> tuple[Sampler, int]:
    optimisers = [torch.optim.Adam(net.parameters(), rate, (0.5, 0.999)) for net in (generator, discriminator)]
    ones, zeros, seen, start = torch.ones(batch, 1), torch.zeros(batch, 1), 0, time.monotonic()
    while time.monotonic() - start < seconds:
        real = images[torch.randint(0, len(images), (batch,))]
        fake = generator(torch.randn(batch, *latent))
        loss = cross_entropy(discriminator(real), ones) + cross_entropy(discriminator(fake.detach()), zeros)
        optimisers[1].zero_grad()
        loss.backward()
        optimisers[1].step()
        loss = cross_entropy(discriminator(fake), ones)
        optimisers[0].zero_grad()
        loss.backward()
        optimisers[0].step()
        seen += batch
    return _sampler(generator, latent), seen


def _sampler(generator: nn.Module, latent: tuple[int, ...]) -> Sampler:
    @torch.no_grad()
    def sample(count: int) -> Tensor:
        generator.eval()
        noise = torch.randn(count, *latent, generator=torch.Generator().manual_seed(1))
        return torch.cat([generator(part) for part in noise.split(100)])

    return sample
