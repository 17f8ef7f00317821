"""Every adversarial loss and penalty: finite, differentiable, and right where a closed form is known."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from radsynth.image import ImageSpec
from radsynth.losses.adversarial import LOSSES
from radsynth.losses.constraints import clip_weights
from radsynth.losses.contrast import patch_contrast
from radsynth.losses.likelihood import calibrated_normal, divergence_from_normal
from radsynth.losses.penalties import PENALTIES, around_real, finite_difference, one_centred, zero_centred
from radsynth.models import build
from radsynth.models.dcgan import Settings as DCGAN


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_a_finite_scalar_that_teaches_both_sides(name: str) -> None:
    loss = LOSSES[name]
    real = torch.linspace(-3, 3, 8, requires_grad=True)
    fake = torch.linspace(2, -2, 8, requires_grad=True)
    value = loss.discriminator(real, fake)
    assert value.shape == () and math.isfinite(float(value))
    gradient_real, gradient_fake = torch.autograd.grad(value, (real, fake))
    # The discriminator wants real logits up and generated ones down (least squares: towards 1 and 0).
    assert (gradient_real[:3] <= 0).all() and gradient_real.sum() < 0
    assert (gradient_fake[fake > 0.5] > 0).all()
    (gradient,) = torch.autograd.grad(loss.generator(real, fake), fake)
    assert (gradient[fake < 0.5] < 0).all(), "the generator must want unconvincing images to convince"


@pytest.mark.parametrize("name", LOSSES)
def test_only_pairing_losses_look_at_real_logits_in_the_generators_turn(name: str) -> None:
    loss, real, fake = LOSSES[name], torch.zeros(4, requires_grad=True), torch.ones(4)
    value = loss.generator(real, fake)
    assert value.requires_grad == loss.pairs


def test_closed_forms() -> None:
    """As the papers write them, at logits that tell a factor, a sign and a margin; the mean over the batch."""
    r, f = np.array([1.7, -0.4, 0.3, -2.1]), np.array([-1.2, 0.6, 2.3, -0.1])

    def probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-logits))

    game = -np.log(probability(r)) - np.log(1 - probability(f))
    expected = {
        "minimax": (game, np.log(1 - probability(f))), "non_saturating": (game, -np.log(probability(f))),
        "least_squares": (((r - 1) ** 2 + f**2) / 2, (f - 1) ** 2 / 2), "wasserstein": (f - r, -f),
        "hinge": (-np.minimum(0, r - 1) - np.minimum(0, -f - 1), -f),
        "relativistic": (-np.log(probability(r - f)), -np.log(probability(f - r))),
    }
    assert set(expected) == set(LOSSES)
    real, fake = torch.from_numpy(r), torch.from_numpy(f)
    for name, (discriminator, generator) in expected.items():
        assert float(LOSSES[name].discriminator(real, fake)) == pytest.approx(discriminator.mean()), name
        assert float(LOSSES[name].generator(real, fake)) == pytest.approx(generator.mean()), name


def test_minimax_saturates_where_the_discriminator_wins_and_non_saturating_does_not() -> None:
    fake = torch.tensor([-12.0], requires_grad=True)
    (saturated,) = torch.autograd.grad(LOSSES["minimax"].generator(fake.detach(), fake), fake)
    (alive,) = torch.autograd.grad(LOSSES["non_saturating"].generator(fake.detach(), fake), fake)
    assert abs(float(saturated)) < 1e-4 < 0.99 < abs(float(alive))


class Plane(nn.Module):
    """D(x) = <w, x>: its slope is w everywhere."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * self.weight).flatten(1).sum(1)


@pytest.mark.parametrize("space", [(6, 5), (4, 3, 5)])
def test_penalties_of_a_plane_have_closed_forms(space: tuple[int, ...]) -> None:
    plane = Plane((1, *space))
    images = torch.randn(7, 1, *space)
    slope = plane.weight.square().sum()
    assert torch.allclose(zero_centred(plane, images), slope / 2)
    around = around_real(plane, images, torch.randn_like(images))
    assert torch.allclose(around, (slope.sqrt() - 1) ** 2, rtol=1e-4)
    between = one_centred(plane, images, -images, torch.rand(7))
    assert torch.allclose(between, (slope.sqrt() - 1) ** 2, rtol=1e-4)
    between.backward()
    assert plane.weight.grad is not None and plane.weight.grad.abs().sum() > 0


def test_finite_differences_estimate_the_exact_penalty_of_a_curved_function() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.Tanh(), nn.Linear(32, 1), nn.Flatten(0)).double()
    images = torch.randn(4000, 1, 6, 6, dtype=torch.float64)
    exact = zero_centred(critic, images)
    noise = torch.randn_like(images)
    estimate = finite_difference(critic, images, critic(images), noise, 1e-4)
    assert float(estimate) == pytest.approx(float(exact), rel=0.1)


def test_every_penalty_is_taken_somewhere_except_none() -> None:
    for name, penalty in PENALTIES.items():
        assert (penalty.real or penalty.fake or penalty.between or penalty.around) == (name != "none")


def test_penalties_are_taken_where_the_papers_take_them() -> None:
    """D(x) = |x|^2 / 2 has the slope x, so that the penalty tells at which images it was taken."""
    generator = torch.Generator().manual_seed(0)
    real, fake, noise = torch.randn(3, 3, 2, 4, 5, generator=generator, dtype=torch.float64).unbind()
    mix = torch.tensor([0.0, 0.3, 1.0])

    def bowl(images: torch.Tensor) -> torch.Tensor:
        return images.square().flatten(1).sum(1) / 2

    def expected(places: list[torch.Tensor]) -> float:
        return float(np.mean([(float(place.norm()) - 1) ** 2 for place in places]))

    between = [fake[0], 0.3 * real[1] + 0.7 * fake[1], real[2]]
    assert one_centred(bowl, real, fake, mix).item() == pytest.approx(expected(between), rel=1e-6)
    near = [image + 0.5 * image.std() * by for image, by in zip(real, noise, strict=True)]
    assert around_real(bowl, real, noise).item() == pytest.approx(expected(near), rel=1e-6)
    assert zero_centred(bowl, real).item() == pytest.approx(float(real.square().sum()) / 3 / 2, rel=1e-6)


def test_clipping_keeps_every_weight_within_the_limit_and_spares_the_small_ones() -> None:
    network = nn.Linear(2, 2)
    network.weight.data = torch.tensor([[-3.0, 0.005], [0.01, 0.5]])
    network.bias.data = torch.tensor([-0.02, 0.0])
    clip_weights(network, 0.01)
    assert torch.equal(network.weight, torch.tensor([[-0.01, 0.005], [0.01, 0.01]]))
    assert torch.equal(network.bias, torch.tensor([-0.01, 0.0]))


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)])
def test_spectral_normalisation_brings_every_largest_singular_value_to_one(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    settings = DCGAN(width=8, discriminator_norm="spectral")
    discriminator = build(settings, ImageSpec(size=size))["discriminator"].train()
    for _ in range(60):  # one power iteration each
        discriminator(torch.randn(2, 1, *size))
    layers = [layer for layer in discriminator.modules() if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.Linear))]
    largest = [float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) for layer in layers]
    assert len(largest) >= 2 and largest == pytest.approx([1.0] * len(largest), rel=0.03)


def test_terms_of_the_evidence_lower_bound_have_closed_forms() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4.0)]])
    expected = 0.5 * (1 + 0) + 0.5 * (0 + 4 - 1 - math.log(4))
    assert float(divergence_from_normal(mean, log_variance)) == pytest.approx(expected)
    target, noise = torch.zeros(50, 1, 8, 8), torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal(0.0, float(noise.square().mean().sqrt()))
    exact = -normal.log_prob(noise).flatten(1).sum(1).mean()
    assert float(calibrated_normal(target, noise)) == pytest.approx(float(exact), rel=1e-4)


def test_contrast_of_orthogonal_places_has_its_closed_form_and_swapped_places_cost_more() -> None:
    places = 3 * torch.eye(5)[None].expand(2, -1, -1)  # the length does not count
    assert float(patch_contrast(places, places, 0.5)) == pytest.approx(math.log(1 + 4 * math.exp(-2)), rel=1e-5)
    assert float(patch_contrast(places, places.flip(1), 0.5)) > 1.5
