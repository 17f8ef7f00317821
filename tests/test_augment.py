"""Augmentation: off means off, real and generated get the same kinds of change, twice differentiable, 2-D and 3-D."""

import pytest
import torch

from radsynth.augment import Settings, augment
from radsynth.batch import Batch


def images(*space: int, n: int = 64) -> torch.Tensor:
    return torch.rand(n, 1, *space, generator=torch.Generator().manual_seed(0)) * 2 - 1


def batch(n: int = 64) -> Batch:
    return Batch(images=torch.empty(n, 0), seed=0, items=tuple(range(n)))


def test_strength_zero_changes_nothing() -> None:
    x = images(16, 16)
    assert augment(x, batch(), "real", Settings()) is x


@pytest.mark.parametrize("space", [(16, 12), (8, 16, 12)])
def test_strength_is_the_share_of_images_that_a_transform_changes(space: tuple[int, ...]) -> None:
    x = images(*space, n=400)
    options = Settings(strength=0.5, shift=0, cutout=0)
    spared = Settings(strength=0.5, shift=0, cutout=0, contrast=0, bias=0.3)
    assert abs(float((augment(x, batch(400), "real", spared) == x).flatten(1).all(1).float().mean()) - 0.5) < 0.1
    changed = (augment(x, batch(400), "real", options) != x).flatten(1).any(1).float().mean()
    assert abs(float(changed) - 0.5) < 0.1


def test_contrast_and_brightness_change_by_as_much_as_is_set_at_most() -> None:
    """Contrast about the image's own mean, brightness by half as much of a unit: each evenly up to both ends."""
    x = images(16, 16, n=400)
    found = augment(x, batch(400), "real", Settings(strength=1, contrast=0.4, shift=0, cutout=0))
    gain = found.flatten(1).std(1) / x.flatten(1).std(1) - 1
    lift = found.flatten(1).mean(1) - x.flatten(1).mean(1)
    for change, most in ((gain, 0.4), (lift, 0.2)):
        assert change.abs().max() <= most + 1e-5 and change.min() < -0.95 * most and change.max() > 0.95 * most
        assert float(change.std()) == pytest.approx(most / 3**0.5, rel=0.1)
    assert abs(float(torch.corrcoef(torch.stack([gain, lift]))[0, 1])) < 0.2, "drawn apart"


def test_shifts_reach_as_far_as_is_set_at_most() -> None:
    ramp = torch.arange(16.0).expand(200, 1, 16, 16) / 8 - 1
    options = Settings(strength=1, contrast=0, cutout=0, shift=0.25)
    far = 8 * (augment(ramp, batch(200), "real", options) - ramp)[:, 0, 8, 8]  # pixels along the rows
    assert sorted(set(far.round().int().tolist())) == list(range(-4, 5))


def test_shifts_move_whole_pixels_and_cutouts_blank_boxes() -> None:
    x = images(16, 16)
    moved = augment(x, batch(), "real", Settings(strength=1, contrast=0, cutout=0, shift=0.25))
    assert set(moved.unique().tolist()) <= set(x.unique().tolist())
    assert not torch.equal(moved, x)
    cut = augment(x, batch(), "real", Settings(strength=1, contrast=0, cutout=0.5, shift=0))
    blank = (cut == -1).flatten(1).sum(1)
    assert blank.max() <= 9 * 9 and blank.float().mean() > 16


@pytest.mark.parametrize("space", [(16, 12), (8, 16, 12)])
def test_bias_brightens_from_border_to_border_and_leaves_black_alone(space: tuple[int, ...]) -> None:
    options = Settings(strength=1, contrast=0, cutout=0, shift=0, bias=0.6)
    grey, black = torch.zeros(64, 2, *space), torch.full((64, 2, *space), -1.0)
    assert torch.equal(augment(black, batch(), "real", options), black)
    found = augment(grey, batch(), "real", options)
    for axis in range(len(space)):
        rise = found.select(axis + 2, -1) - found.select(axis + 2, 0)  # each other axis adds the same to both
        slope = rise.flatten(1)[:, :1]
        assert torch.allclose(rise.flatten(1), slope.expand_as(rise.flatten(1)), atol=1e-5)
        assert slope.min() < -0.4 and slope.max() > 0.4 and slope.abs().max() <= 0.6 and abs(float(slope.mean())) < 0.15
    assert torch.allclose(found.flatten(1).mean(1), torch.zeros(64), atol=1e-5), "the image's brightness stays"


def test_gradients_flow_twice() -> None:
    x = images(16, 16, n=8).requires_grad_(True)
    changed = augment(x, batch(8), "fake", Settings(strength=1, bias=0.3))
    (first,) = torch.autograd.grad(changed.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.abs().sum() > 0


def test_the_change_of_an_image_does_not_depend_on_its_batch() -> None:
    x = images(16, 16, n=8)
    options = Settings(strength=1)
    whole = augment(x, batch(8), "real", options)
    one = augment(x[3:4], Batch(images=torch.empty(1, 0), seed=0, items=(3,)), "real", options)
    assert torch.equal(whole[3:4], one)
    assert not torch.equal(augment(x, batch(8), "fake", options), whole)
