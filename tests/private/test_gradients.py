"""Differential privacy in one step: clipping, noise, the draw of patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.models import build as build_networks
from radsynth.models.dcgan import Discriminator
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.tasks._differential import Draws, clipped_sum
from tests.private.examples import real_loss


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("norm", [1e-3, 0.05, 1e6])
def test_each_gradient_is_clipped_as_by_hand(classes: int, norm: float) -> None:
    torch.manual_seed(0)
    network = Discriminator(4, 16, 1, (16, 16), classes, "none")
    images = torch.randn(7, 1, 16, 16) * torch.tensor([0.1, 1, 3, 0.5, 10, 1, 2]).view(-1, 1, 1, 1)
    labels = torch.arange(7) % classes if classes else None
    found = clipped_sum(network, real_loss, images, labels, norm, chunk=3)
    wanted = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
    for k in range(7):
        network.zero_grad()
        loss = real_loss(network(images[k:k + 1], None if labels is None else labels[k:k + 1])).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
        size = math.sqrt(sum(float(value.double().square().sum()) for value in gradients.values()))
        for name, value in gradients.items():
            wanted[name] += value * min(1.0, norm / size)
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=2e-3, atol=norm * 1e-6), name


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 16)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("model", ["mlp", "dcgan", "r3gan", "sngan", "style"])
def test_every_network_gives_the_gradients_of_images_with_several_channels(model: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    settings = resolve({"model": {"kind": model, **({"discriminator_norm": "spectral"} if model == "dcgan" else {})}})
    spec = ImageSpec(size=size, channels=("red", "green", "blue"))
    network = build_networks(settings.section("model"), spec)["discriminator"].eval()
    image = torch.randn(1, 3, *size)
    found = clipped_sum(network, real_loss, image, None, 1e6, chunk=3)
    network.eval()
    real_loss(network(image)).sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    for name, weight in network.named_parameters():
        assert weight.grad is not None
        assert torch.allclose(found[name], weight.grad, rtol=2e-3, atol=1e-5), name


@pytest.mark.parametrize(("model", "words"), [("dcgan", "model.discriminator_norm=spectral"), ("progressive", "sngan")])
def test_a_network_that_keeps_more_than_weights_is_refused_with_what_can_be_done(model: str, words: str) -> None:
    settings = resolve(overrides=("task.kind=private", f"model.kind={model}"))
    with pytest.raises(SettingsError, match="keeps more than weights") as refused:
        build(settings, ImageSpec(size=(16, 16)))
    assert str(refused.value).endswith(f"{words}.")


def test_one_image_moves_the_sum_by_at_most_the_norm_even_when_it_is_broken() -> None:
    torch.manual_seed(0)
    network = Discriminator(4, 16, 1, (16, 16), 0, "none")
    images = torch.randn(4, 1, 16, 16)
    without = clipped_sum(network, real_loss, images[:3], None, 0.01, chunk=8)
    for value in (1.0, 1e4, math.inf, math.nan):
        images[3] = value
        added = clipped_sum(network, real_loss, images, None, 0.01, chunk=8)
        moved = torch.cat([(added[name] - without[name]).flatten() for name in added]).norm()
        assert moved <= 0.01 * 1.001, value
    nobody = clipped_sum(network, real_loss, images[:0], None, 1.0, 8)
    assert all(float(value.abs().max()) == 0 for value in nobody.values())


def test_noise_has_its_scale_and_is_another_one_in_every_step_and_for_every_key() -> None:
    draws = Draws()

    def noise(draws: Draws, step: int) -> torch.Tensor:
        sums = {"a": torch.zeros(300, 300), "b": torch.zeros(10000)}
        draws.add_noise(sums, step, 2.5)
        return torch.cat([value.flatten() for value in sums.values()])

    values = [noise(draws, 0), noise(draws, 1), noise(Draws(), 0)]
    for value in values:  # 100,000 numbers: the standard error of their deviation is 0.0056, of their mean 0.008
        assert abs(float(value.std()) - 2.5) < 0.03 and abs(float(value.mean())) < 0.04
    for one, two in ((0, 1), (0, 2)):
        assert abs(float(torch.corrcoef(torch.stack([values[one], values[two]]))[0, 1])) < 0.02
    assert torch.equal(noise(Draws(draws.key), 0), values[0]), "the key decides"


def test_patients_are_drawn_each_on_their_own_with_one_image() -> None:
    groups = [np.asarray([k, 100 + k, 200 + k]) for k in range(100)]
    draws, counts, times = Draws(b"0123456789abcdef"), [], np.zeros(300)
    for step in range(2000):
        chosen = draws.patients(step, groups, 0.1)
        assert len(set(chosen % 100)) == len(chosen), "never two images of one patient"
        counts.append(len(chosen))
        times[chosen] += 1
    assert abs(np.mean(counts) - 10) < 0.3  # the standard error is 0.067
    assert abs(np.var(counts) - 9) < 1.2, "a binomial number of patients, not a fixed one"
    assert abs(times.reshape(3, 100).sum(1) / 2000 - 10 / 3).max() < 0.2, "every image of a patient alike"
