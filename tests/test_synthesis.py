"""The discriminator's turn of synthesis: what its logits and penalties may depend on."""

from __future__ import annotations

import re

import pytest
import torch

from radsynth.augment import augment
from radsynth.batch import Batch, Care
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.models import build as build_networks
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.tasks.synthesis import Synthesis


class Still(Batch):
    """A batch whose steps of finite differences are of no size."""

    def normal(self, stream: str, *shape: int) -> torch.Tensor:
        made = super().normal(stream, *shape)
        return made * 0 if stream.startswith("finite") else made


def synthesis(*overrides: str) -> Synthesis:
    settings = resolve(overrides=overrides)
    task = build(settings, ImageSpec(size=(16, 16)))
    assert isinstance(task, Synthesis)
    return task


def test_finite_differences_do_not_measure_how_spectral_normalisation_moves_on() -> None:
    task = synthesis("model.kind=sngan", "task.penalty=finite_r1_r2")
    torch.manual_seed(0)
    networks = task.networks()
    with torch.no_grad():
        for weight in networks["discriminator"].parameters():
            weight += 0.3 * torch.randn_like(weight)  # so that its singular vectors are no longer known
    batch = Still(images=torch.rand(8, 1, 16, 16) * 2 - 1, seed=0, items=tuple(range(8)))
    assert float(task.discriminator_loss(networks, batch)["penalty"]) == 0


@pytest.mark.parametrize("kind", ["style", "progressive"])
@pytest.mark.parametrize("n", [5, 6, 8])
def test_logits_of_real_images_do_not_depend_on_generated_ones(kind: str, n: int) -> None:
    """Also where a network looks at groups of four images, and the batch is no multiple of it."""
    task, images = synthesis(f"model.kind={kind}"), torch.randn(3, n, 1, 16, 16)
    discriminator = task.networks()["discriminator"]
    one, other = (task._judge(discriminator, [images[0], fake], (None,))[0] for fake in images[1:])
    assert torch.equal(one, other)


CONSISTENT = ("model.kind=dcgan", "model.width=8", "model.discriminator_norm=none", "task.consistency=3")


@pytest.mark.parametrize("doctor", [0.0, 0.8])
def test_consistency_compares_two_augmentations_of_each_real_image(doctor: float) -> None:
    strength = 0.0 if doctor else 1.0
    task = synthesis(*CONSISTENT, f"augment.strength={strength}")
    networks = task.networks()
    batch = Batch(images=torch.rand(8, 1, 16, 16) * 2 - 1, seed=0, items=tuple(range(8)), care=Care(augment=doctor))
    term = task.discriminator_loss(networks, batch)["consistency"]
    one, other = (networks["discriminator"](augment(batch.images, batch, stream, task.augmentation))
                  for stream in ("real", "again"))
    assert float(term.detach()) == pytest.approx(3 * float((one - other).square().mean()), rel=1e-4) and term > 1e-6
    # Both logits are to move, none of them is the other's truth.
    weights = list(networks["discriminator"].parameters())
    found = torch.autograd.grad(term, weights, retain_graph=True)
    wanted = torch.autograd.grad(3 * (one - other).square().mean(), weights)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted, strict=True))


def test_consistency_costs_nothing_where_nothing_is_augmented() -> None:
    task = synthesis(*CONSISTENT, "augment.strength=0")
    networks, seen = task.networks(), []
    networks["discriminator"].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    batch = Batch(images=torch.rand(8, 1, 16, 16) * 2 - 1, seed=0, items=tuple(range(8)))
    assert "consistency" not in task.discriminator_loss(networks, batch) and sum(seen) == 16


@pytest.mark.parametrize("words", [("model.kind=sngan",), ("model.kind=dcgan", "model.discriminator_norm=spectral")])
def test_spectral_normalisation_bounds_every_layer_that_of_classes_too(words: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    spec = ImageSpec(size=(16, 16), labels=("a", "b", "c"))
    discriminator = build_networks(resolve(overrides=words).section("model"), spec)["discriminator"].eval()
    with torch.no_grad():
        for weight in discriminator.parameters():
            weight *= 30
        widest = {name: float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2))  # type: ignore[operator, union-attr]
                  for name, layer in discriminator.named_modules()
                  if isinstance(getattr(layer, "weight", None), torch.Tensor)}
    assert len(widest) >= 3 and max(widest.values()) < 1.2, widest


def test_a_class_takes_nothing_of_what_latents_vary() -> None:
    """Latents of one class point everywhere; with a vector of the class as long as they are half would be alike."""
    torch.manual_seed(0)
    spec = ImageSpec(size=(16, 16), labels=("a", "b", "c"))
    generator = build_networks(resolve(overrides=("model.kind=sngan",)).section("model"), spec)["generator"]
    of_a_class = generator.condition(torch.randn(200, 128), torch.ones(200, dtype=torch.long))
    directions = torch.nn.functional.normalize(of_a_class, dim=1)
    assert float((directions @ directions.T).fill_diagonal_(0).mean()) < 0.02


@pytest.mark.parametrize("kind", ["dcgan", "mlp", "progressive", "r3gan", "style"])
def test_what_a_wasserstein_critic_is_said_to_need_can_be_given(kind: str) -> None:
    overrides = (f"model.kind={kind}", "task.loss=wasserstein")
    with pytest.raises(SettingsError, match="Lipschitz") as refused:
        synthesis(*overrides)
    advice = re.findall(r"((?:task|model)\.\w+=[\w.]*\w)", str(refused.value))[1:]
    ways = [[one for one in advice if "penalty" in one or one.endswith("=none")],
            *([one] for one in advice if "clip" in one or one.endswith("=spectral"))]
    assert len(ways) == (3 if kind == "dcgan" else 2)
    for way in ways:
        synthesis(*overrides, *way)
