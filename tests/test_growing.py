"""Networks that grow, and noise that follows from the latent."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from radsynth.checkpoints import load_tensors
from radsynth.image import ImageSpec
from radsynth.models import Networks, build, growing
from radsynth.models.progressive import Settings as Progressive
from radsynth.models.style import Settings as Style
from radsynth.settings import resolve
from radsynth.verbs.train import train


def advance(networks: Networks, progress: float) -> None:
    for part in growing(networks):
        part.advance(progress)


@pytest.mark.parametrize("size", [(32, 32), (8, 16, 16)])
def test_a_new_resolution_fades_in_and_only_then_is_computed(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    networks = build(Progressive(width=4, widest=16), ImageSpec(size=size))
    generator, discriminator = networks["generator"], networks["discriminator"]
    latent = torch.randn(2, 128)
    advance(networks, 0.0)
    first = generator(latent)
    block = first[:, :, 0:1, 0:1] if len(size) == 2 else first[:, :, 0:1, 0:1, 0:1]
    corner = first[:, :, :2, :2] if len(size) == 2 else first[:, :, :2, :2, :2]
    assert first.shape == (2, 1, *size) and torch.equal(corner, block.expand_as(corner)), "blocks, at first"
    discriminator(first).sum().backward()
    assert any(weight.grad is None for weight in discriminator.blocks.parameters()), "what has not begun costs nothing"
    images = []
    for progress in torch.linspace(0, 1, 101).tolist():
        advance(networks, progress)
        images.append(generator(latent).detach())
    steps = [float((a - b).abs().mean()) for a, b in zip(images[1:], images[:-1], strict=True)]
    assert max(steps) < 0.2 * float((images[-1] - images[0]).abs().mean()) + 0.05, "no step is a jump"
    assert sum(steps[61:]) == 0 < sum(steps), "after `growing` of the training it is grown"


def test_growth_is_saved_with_the_weights() -> None:
    networks = build(Progressive(width=4, widest=16), ImageSpec(size=(16, 16)))
    advance(networks, 0.2)
    again = build(Progressive(width=4, widest=16), ImageSpec(size=(16, 16)))["generator"]
    again.load_state_dict(copy.deepcopy(networks["generator"].state_dict()))
    latent = torch.randn(2, 128)
    assert torch.equal(again(latent), networks["generator"](latent))


def test_training_grows_the_averaged_network_to_the_end(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    settings = resolve(overrides=("model.kind=progressive", "model.width=4", "model.widest=8", "train.batch=8",
                                  "train.images=80", "train.previews=1", "task.penalty=wgan_gp"))
    train(make_prepared(), tmp_path / "run", settings=settings)
    state = load_tensors(tmp_path / "run" / "generator.safetensors")[0]
    assert 0.8 <= float(state["progress"]) <= 1


def test_noise_of_the_style_network_follows_from_the_latent() -> None:
    torch.manual_seed(0)
    generator = build(Style(width=4, widest=8, noise=True), ImageSpec(size=(16, 16)))["generator"]
    latent = torch.randn(4, 128)
    quiet = generator(latent)
    generator.noise.data.fill_(0.3)  # type: ignore[union-attr]  # a parameter of this network
    noisy = generator(latent)
    assert not torch.allclose(quiet, noisy)
    torch.manual_seed(7)
    assert torch.allclose(noisy[2:3], generator(latent[2:3]), atol=1e-5), "image k depends on its latent alone"
    spread = (noisy - quiet)[0] - (noisy - quiet)[1]
    assert spread.abs().mean() > 1e-3, "and differs between images"


def test_styles_are_demodulated_to_unit_variance() -> None:
    torch.manual_seed(0)
    generator = build(Style(width=16), ImageSpec(size=(16, 16)))["generator"]
    layer, x = generator.convolutions[1], torch.randn(64, 64, 16, 16)  # type: ignore[index]  # a ModuleList
    layer.style.weight.data.mul_(5)
    out = layer(x, torch.randn(64, 128))[..., 2:-2, 2:-2]
    assert float(out.std()) == pytest.approx(2**0.5, rel=0.1), "whatever the style's size (gain of the leaky unit)"
