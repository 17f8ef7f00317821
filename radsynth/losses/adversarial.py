"""Adversarial losses: what the discriminator and the generator want of the logits.

r are the logits D(x) of real images, f those of generated ones D(G(z)), both (n,); the mean over the batch is returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu, softplus

LossFunction = Callable[[Tensor, Tensor], Tensor]


# Minimax (Goodfellow et al. 2014): D maximises log s(r) + log(1 - s(f)), s the logistic function.
#   -log s(r) = softplus(-r),  -log(1 - s(f)) = softplus(f)
def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss of minimax and non-saturating GANs."""
    return (softplus(-real) + softplus(fake)).mean()


# G minimises log(1 - s(f)) = -softplus(f): its gradient vanishes where D wins ("saturates").
def minimax_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The generator's loss of the minimax game as first written."""
    return -softplus(fake).mean()


# Non-saturating (Goodfellow et al. 2014, section 3): G minimises -log s(f).
def non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The generator's loss that keeps its gradient where the discriminator wins."""
    return softplus(-fake).mean()


# Least squares (Mao et al. 2017, eq. 9 with a=0, b=c=1): D 1/2 (r - 1)^2 + 1/2 f^2;  G 1/2 (f - 1)^2
def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """LSGAN's discriminator loss."""
    return 0.5 * ((real - 1).square() + fake.square()).mean()


def least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    """LSGAN's generator loss."""
    return 0.5 * (fake - 1).square().mean()


# Wasserstein (Arjovsky et al. 2017, eq. 2 and 3): D f - r;  G -f. Needs a Lipschitz constraint on D.
def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's loss: minus the estimate of the Wasserstein-1 distance."""
    return (fake - real).mean()


def linear_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The generator's loss of Wasserstein and hinge GANs."""
    return -fake.mean()


# Hinge (Lim and Ye 2017; Miyato et al. 2018, eq. 16 and 17): D max(0, 1 - r) + max(0, 1 + f);  G -f
def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """The hinge loss of the discriminator."""
    return (relu(1 - real) + relu(1 + fake)).mean()


# Relativistic pairing (Jolicoeur-Martineau 2019; Huang et al. 2024, R3GAN, eq. 2):
#   D softplus(-(r - f));  G softplus(-(f - r)). Each generated image is judged against one real image.
def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """The relativistic pairing loss of the discriminator."""
    return softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The relativistic pairing loss of the generator."""
    return softplus(real - fake).mean()


@dataclass(frozen=True, kw_only=True)
class AdversarialLoss:
    """Both sides of one game. pairs: the generator's side looks at real logits too."""

    discriminator: LossFunction
    generator: LossFunction
    pairs: bool = False


LOSSES = {
    "minimax": AdversarialLoss(discriminator=cross_entropy, generator=minimax_generator),
    "non_saturating": AdversarialLoss(discriminator=cross_entropy, generator=non_saturating_generator),
    "least_squares": AdversarialLoss(discriminator=least_squares_discriminator, generator=least_squares_generator),
    "wasserstein": AdversarialLoss(discriminator=wasserstein_discriminator, generator=linear_generator),
    "hinge": AdversarialLoss(discriminator=hinge_discriminator, generator=linear_generator),
    "relativistic": AdversarialLoss(
        discriminator=relativistic_discriminator, generator=relativistic_generator, pairs=True
    ),
}
