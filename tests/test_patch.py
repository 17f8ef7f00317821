"""The discriminator of patches: what it normalises, and how often a step asks for the images that it judges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from radsynth._describe import describe
from radsynth.arrays import Prepared
from radsynth.models import spade, unet
from radsynth.models._patch import InstanceNorm, PatchDiscriminator
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings


@pytest.mark.parametrize("size", [(5, 7), (4, 5, 6)])
def test_instances_are_normalised_as_torch_does_it(size: tuple[int, ...]) -> None:
    images = 3 + 2 * torch.randn(2, 3, *size, requires_grad=True)
    mine, theirs = InstanceNorm()(images), functional.instance_norm(images)
    assert torch.allclose(mine, theirs, atol=1e-5)
    weights = torch.randn_like(mine)
    slopes = [torch.autograd.grad((made * weights).sum(), images, retain_graph=True)[0] for made in (mine, theirs)]
    assert torch.allclose(*slopes, atol=1e-5)
    assert InstanceNorm()(torch.randn(2, 3, *[1] * len(size))).abs().max() == 0, "a grid of one pixel has no spread"
    assert InstanceNorm()(images.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("overrides", "spec", "times"), [
    (("task.kind=translate",), {"channels": ("t1", "t2")}, 1),
    (("task.kind=cycle",), {"labels": ("a", "b")}, 6),
    (("task.kind=cut", "task.identity=0"), {"labels": ("a", "b")}, 3),
])
def test_images_are_made_once_a_step(
    overrides: tuple[str, ...], spec: dict[str, Any], times: int, make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    """Cycle: there, back and what stays itself, each both ways; cut: made, and twice asked for its features."""
    prepared = Prepared(make_prepared(n=24, size=(16, 16), **spec))
    settings = resolve(overrides=(*overrides, "model.width=4", "train.batch=8", "train.images=80"))
    task = build(settings, prepared.spec)
    loop = Loop(task, settings.section("train", Settings), prepared, RunFolder(tmp_path / "run"), 0)
    (tmp_path / "run").mkdir()
    calls: list[nn.Module] = []
    loop.networks[task.keeps].register_forward_hook(lambda module, *_: calls.append(module))
    loop.doctor = None
    loop.take_step()
    assert len(calls) == times


@pytest.mark.parametrize("settings", [unet.Settings, spade.Settings])
def test_a_logit_sees_as_many_pixels_as_the_settings_say(settings: Any) -> None:
    net, images = PatchDiscriminator(1, 4, settings().discriminator_halvings, (128, 128)), torch.randn(1, 1, 128, 128)
    images.requires_grad_(True)
    net(images)[0, 0, 8, 8].backward()
    assert images.grad is not None
    seen = images.grad[0, 0].abs().sum(1).nonzero()[:, 0]
    side = int(seen.max() - seen.min()) + 1
    said = next(one.meaning for one in describe(settings) if one.name == "discriminator_halvings")
    assert f"with 3, a logit sees {side} x {side} pixels" in said
