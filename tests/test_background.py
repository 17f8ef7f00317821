"""Flat backgrounds: what is shrunk, which data have one, where it is kept, and older weights, which have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.image import ImageSpec
from radsynth.models import Networks, build
from radsynth.models._background import LEFT, WIDTH, Background
from radsynth.models.sngan import Settings as Sngan
from radsynth.settings import resolve
from radsynth.tasks import _warm_start
from radsynth.tasks import build as build_task
from radsynth.tasks._warm_start import backgrounds
from radsynth.tasks.synthesis import Synthesis
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._training.start import fit
from radsynth.verbs.train import train

GREY = 96 / 127.5 - 1


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images count as lying far from their background; those that do not are learned as roots (test_greys)."""
    monkeypatch.setattr(_warm_start, "NARROW", 0.0)


def networks(**spec: object) -> Networks:
    torch.manual_seed(0)
    return build(Sngan(width=8, latent=8), ImageSpec(**{"size": (16, 16), **spec}))  # type: ignore[arg-type]


def background_of(network: torch.nn.Module) -> Background:
    (found,) = (part for part in network.modules() if isinstance(part, Background))
    return found


def test_small_deviations_are_shrunk_large_ones_kept_less_a_constant_and_order_stays() -> None:
    background = Background(1, 1)
    background.set(torch.tensor([[GREY]]))
    before = torch.linspace(-3, 3, 6001).view(1, 1, 1, -1)
    after, images = background(before), torch.tanh(before)
    assert (after.diff() > 0).all()
    near = (images - GREY).abs() < 0.9 * WIDTH
    assert (torch.tanh(after) - GREY)[near].abs().max() < 1.1 * LEFT * WIDTH < 0.5 / 127.5 + 1e-3
    far = (images - GREY).abs() > 1.2 * WIDTH
    lost = (1 - LEFT) * WIDTH / (1 - GREY**2)
    assert torch.allclose((before - after)[far].abs(), torch.tensor(lost))


def test_without_a_background_nothing_changes_to_the_last_bit() -> None:
    numbers = torch.randn(4, 2, 8, 8)
    background = Background(1, 2)
    assert torch.equal(background(numbers), numbers)
    background.set(torch.tensor([[GREY, torch.nan]]))
    assert torch.equal(background(numbers)[:, 1], numbers[:, 1])
    assert not torch.equal(background(numbers)[:, 0], numbers[:, 0])


def test_which_channels_have_one() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(20, 1, 16, 16, generator=generator) * 2 - 1
    centre = torch.zeros_like(noise, dtype=torch.bool)
    centre[..., 4:12, 4:12] = True
    images = torch.cat([torch.where(centre, noise, GREY), torch.where(centre, noise, -1.0), noise], 1)
    found = backgrounds(images)
    assert float(found[0]) == pytest.approx(GREY, abs=1e-6), "a grey one"
    assert found[1:].isnan().all(), "black, which is left to tanh, and none"


def greyed(folder: Path) -> Path:
    """The prepared images on grey instead of black."""
    stored = folder / "shards" / "00000.images.npy"
    np.save(stored, np.load(stored) // 2 + 96)
    return folder


@pytest.mark.parametrize(("labels", "size"), [((), (16, 16)), (("small", "large"), (16, 16)), ((), (8, 16, 16))])
def test_the_generator_takes_it_from_the_training_images_and_draws_it_flat(
    make_prepared: Callable[..., Path], labels: tuple[str, ...], size: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    data = Prepared(greyed(make_prepared(labels=labels, size=size)))
    settings = resolve(overrides=("model.kind=sngan", "model.width=8", "model.latent=8", "task.anchor=10"),
                       sections=("task", "model", "augment"))
    task = build_task(settings, data.spec)
    assert isinstance(task, Synthesis)
    task.study(data, 0)
    generator = task.networks()["generator"].eval()
    background = background_of(generator)
    assert torch.allclose(torch.tanh(background.value), torch.full((max(len(labels), 1), 1), GREY))
    latents, classes = torch.randn(8, 8), torch.arange(8) % 2 if labels else None
    with torch.no_grad():
        generator.layers[-1].weight.mul_(0.05)  # ripples of some grey values, as a trained one draws
        flat = generator(latents, classes)
        background.width.zero_()
        rippled = generator(latents, classes)
    corner = (..., slice(0, 2), slice(0, 2))
    assert (flat - GREY)[corner].std() < 0.2 * (rippled - GREY)[corner].std()


def test_a_run_keeps_it(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    settings = resolve(overrides=("model.kind=sngan", "model.width=8", "model.latent=8", "task.anchor=10",
                                  "train.images=64", "train.batch=16", "train.previews=0"))
    run = train(greyed(make_prepared()), tmp_path / "run", settings=settings).path
    kept = background_of(Sampler(run).network)
    assert float(torch.tanh(kept.value)) == pytest.approx(GREY, abs=1e-6) and kept.width.all()


def test_older_weights_have_none_and_a_start_keeps_its_own() -> None:
    for more in ({}, {"conditions": ("age",)}):
        generator = networks(**more)["generator"]
        older = {name: value.clone() for name, value in generator.state_dict().items() if "background." not in name}
        background_of(generator).set(torch.tensor([[GREY]]))
        own = generator.state_dict()
        fresh = networks(**more)["generator"]
        fit(fresh, older, "an older base")
        assert not background_of(fresh).width.any()
        fit(fresh, own, "a newer base")
        assert float(torch.tanh(background_of(fresh).value)) == pytest.approx(GREY, abs=1e-6)
        generator.load_state_dict(older)
        assert not background_of(generator).width.any()
