"""Tiles: the same result as the whole image at once, whatever the tile's size, and bounded memory."""

from __future__ import annotations

import math

import pytest
import torch

from radsynth.image import ImageSpec
from radsynth.models._blocks import unfold_patches
from radsynth.models.unet import UNet
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._applying.tiles import convert_tiled, core_size


def network(dimensions: int, patch: int = 2, halvings: int = 1, size: tuple[int, ...] = ()) -> UNet:
    torch.manual_seed(0)
    net = UNet(1, 1, size or (64,) * dimensions, 4, patch, halvings, 1)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5 / math.sqrt(max(1, weight[0].numel())))
    return net.eval()


@pytest.mark.parametrize(("space", "limit"), [
    ((150, 131), 80 * 80), ((150, 131), 100 * 90), ((64, 300), 1), ((110, 33, 35), 1), ((12, 90, 50), 1),
])
@pytest.mark.parametrize("side", [64, 35])
def test_tiles_equal_the_whole(space: tuple[int, ...], limit: int, side: int) -> None:
    net = network(len(space), size=(side,) * len(space))
    images = torch.randn(2 if len(space) == 2 else 1, 1, *space)
    with torch.no_grad():
        whole = net(images)
    seen: list[int] = []

    def convert(part: torch.Tensor) -> torch.Tensor:
        seen.append(part.shape[2:].numel())
        return net(part)

    tiled = torch.from_numpy(convert_tiled(convert, net, images, limit))
    assert whole.std() > 0.1 and torch.allclose(tiled, whole, atol=1e-5)
    assert max(seen) < math.prod(space), "the test must cut the image"


def test_what_lies_beyond_the_reach_does_not_matter_and_something_near_it_does() -> None:
    for patch, halvings in ((1, 2), (2, 2), (4, 1)):
        net = network(2, patch, halvings)
        side = 2 * net.reach + 64
        images = torch.randn(1, 1, side, side, requires_grad=True)
        centre = side // 2 + 1
        net(images)[0, 0, centre, centre].backward()
        assert images.grad is not None
        touched = images.grad[0, 0].abs().amax(0).nonzero()[:, 0] - centre
        assert int(touched.abs().max()) <= net.reach
        assert int(touched.abs().max()) > net.reach / 2, "the stated reach is far too wide"


def test_the_limit_holds_where_it_can() -> None:
    core = core_size((160, 256, 256), halo=56, stride=8, limit=5 << 20)
    assert math.prod(min(c + 112, s) for c, s in zip(core, (160, 256, 256), strict=True)) <= 5 << 20
    assert core_size((64, 64), 56, 8, 1 << 22) == (64, 64)


@pytest.mark.parametrize(("trained", "side", "wanted"), [
    (35, 35, 5), (35, 40, 8), (35, 34, 6), (40, 40, 0), (40, 35, 5),
])
def test_no_side_ends_nearer_to_the_zeros_of_convolutions_than_those_of_training(
        trained: int, side: int, wanted: int) -> None:
    net, seen = network(2, halvings=2, size=(24, trained)), []
    net.enter.register_forward_pre_hook(lambda _, given: seen.append(unfold_patches(given[0], 2)))
    images = torch.randn(1, 1, 24, side)
    with torch.no_grad():
        net(images)
    assert seen[0].shape == (1, 1, 24, side + wanted)
    assert torch.equal(seen[0][..., side:], (images[..., -1:] + 1).expand(1, 1, 24, wanted))


def test_a_restoration_knows_the_sides_that_its_training_images_are_cut_to() -> None:
    settings = resolve(overrides=("task.kind=restore", "task.factor=2"), sections=("task", "model"))
    task = build(settings, ImageSpec(size=(50, 35)))
    assert task.networks()["generator"].size == (50, 34)
