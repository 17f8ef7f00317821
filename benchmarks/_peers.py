"""Peers in plain PyTorch, written from their papers in their published settings, as a user would run them.

Each works in fp32 in the default memory layout on images (n, 1, h, w) in [-1, 1]: `step` trains once and returns how
many real images it has shown, `sample` makes images. See also _stylegan2.py and _r3gan.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy


@dataclass(frozen=True)
class Peer:
    """A training that can be stopped after any step. `sampled` is the network that makes images."""

    step: Callable[[], int]
    sampled: nn.Module
    latent: tuple[int, ...]

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        noise = torch.randn(count, *self.latent, generator=torch.Generator().manual_seed(1))
        training = self.sampled.training
        self.sampled.eval()
        made = torch.cat([self.sampled(part) for part in noise.split(100)])
        self.sampled.train(training)
        return made


def update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def some(images: Tensor, batch: int) -> Tensor:
    return images[torch.randint(0, len(images), (batch,))]


def mlp_gan(images: Tensor) -> Peer:
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
    return _cross_entropy_game(generator, discriminator, images, batch=64, latent=(100,))


def dcgan(images: Tensor) -> Peer:
    """DCGAN (Radford et al. 2016): 64 base channels, batch normalisation, cross-entropy, Adam 2e-4 (0.5), batch 128."""
    generator, discriminator = _dcgan_networks(images.shape[-1], norm=True)
    return _cross_entropy_game(generator, discriminator, images, batch=128, latent=(100, 1, 1))


def wgan_gp(images: Tensor) -> Peer:
    """WGAN-GP (Gulrajani et al. 2017): DCGAN without critic normalisation, 5 critic steps, Adam 1e-4 (0, 0.9)."""
    generator, critic = _dcgan_networks(images.shape[-1], norm=False)
    optimisers = [torch.optim.Adam(net.parameters(), 1e-4, (0.0, 0.9)) for net in (generator, critic)]

    def step() -> int:
        for _ in range(5):
            real = some(images, 64)
            with torch.no_grad():
                fake = generator(torch.randn(64, 100, 1, 1))
            mixed = torch.lerp(fake, real, torch.rand(64, 1, 1, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
            penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
            update(optimisers[1], critic(fake).mean() - critic(real).mean() + 10 * penalty)
        update(optimisers[0], -critic(generator(torch.randn(64, 100, 1, 1))).mean())
        return 5 * 64

    return Peer(step, generator, (100, 1, 1))


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


def _cross_entropy_game(generator: nn.Module, discriminator: nn.Module, images: Tensor, *, batch: int,
                        latent: tuple[int, ...]) -> Peer:
    optimisers = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, discriminator)]
    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)

    def step() -> int:
        fake = generator(torch.randn(batch, *latent))
        real_loss = cross_entropy(discriminator(some(images, batch)), ones)
        update(optimisers[1], real_loss + cross_entropy(discriminator(fake.detach()), zeros))
        update(optimisers[0], cross_entropy(discriminator(fake), ones))
        return batch

    return Peer(step, generator, latent)
