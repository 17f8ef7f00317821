"""Convolutions as matrix products, and spectral normalisation, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, conv_transpose2d, conv_transpose3d
from torch.nn.utils import parametrizations

from radsynth.device import module_channels_last
from radsynth.models import _products
from radsynth.models._blocks import Doubling
from radsynth.models._products import HALVING, Halving, doubled, thinly_doubled
from radsynth.models._spectral import spectral_norm


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def test_both_products_are_the_convolutions_and_so_are_their_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    image, coarse, weight = double(2, 3, 8, 12), double(2, 4, 4, 6), double(4, 3, 4, 4)
    layer = Halving(3, 4).double()
    usual = layer(image)
    assert torch.allclose(doubled(coarse, weight), conv_transpose2d(coarse, weight, stride=2, padding=1))
    monkeypatch.setattr(_products, "as_product", lambda *_: True)
    assert torch.allclose(layer(image), usual)
    for function, inputs in ((layer, (image,)), (doubled, (coarse, weight))):
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("space", [(4, 6), (2, 3, 4)])
def test_thin_layers_are_the_convolutions_and_so_are_their_derivatives(space: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    convolve, transpose = (conv2d, conv_transpose2d) if len(space) == 2 else (conv3d, conv_transpose3d)
    image, coarse = double(2, 2, *(2 * side for side in space)), double(2, 4, *space)
    weight, bias = double(4, 2, *[4] * len(space)), double(4)
    assert torch.allclose(thinly_doubled(coarse, weight), transpose(coarse, weight, stride=2, padding=1))
    halved = _products._ThinHalving.apply
    assert torch.allclose(halved(image, weight, bias), convolve(image, weight, bias, stride=2, padding=1))
    for function, inputs in ((thinly_doubled, (coarse, weight)), (halved, (image, weight, bias))):
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("space", [(16, 16), (8, 8, 8)])
def test_thin_layers_in_bf16_draw_the_same_image_whatever_the_number_of_images(space: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, features = Doubling(32, 1, len(space)), torch.randn(5, 32, *space)
    with torch.no_grad():
        usual = layer(features)
        with torch.autocast("cpu", torch.bfloat16):
            drawn, alone = layer(features), layer(features[3:4])
    assert drawn.dtype == torch.float32 and torch.equal(drawn[3:4], alone)
    assert torch.allclose(drawn, usual, atol=0.02 * float(usual.std()), rtol=0.02)


@pytest.mark.parametrize("layer", [Halving(128, 64), Doubling(64, 128, 2)])
def test_products_are_taken_in_training_and_agree_within_bf16(layer: nn.Module) -> None:
    torch.manual_seed(0)
    features = torch.randn(4, layer.weight.shape[1 if isinstance(layer, Halving) else 0], 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        product, taken = layer(features), layer(features).grad_fn
        with torch.no_grad():
            usual = layer(features)
    assert "Convolution" not in type(taken).__name__ and "mkldnn" not in str(taken).lower()
    assert product.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(product.float(), usual.float(), atol=0.02 * float(usual.float().std()), rtol=0.02)


def test_a_layer_of_one_channel_is_channels_last_too() -> None:
    layer = module_channels_last(Halving(1, 32), 2)
    assert layer(torch.randn(2, 1, 8, 8)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [2, 64])
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (9, 11), (8, 8, 8), (9, 8, 6)])
def test_halving_takes_any_size_in_bf16_as_a_convolution_does(channels: int, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, image = HALVING[len(size)](channels, 64), torch.randn(2, channels, *size).requires_grad_()
    usual = (conv2d if len(size) == 2 else conv3d)(image, layer.weight, layer.bias, stride=2, padding=1)
    expected, = torch.autograd.grad(usual.square().sum(), image)
    with torch.autocast("cpu", torch.bfloat16):
        halved = layer(image.bfloat16())
    found, = torch.autograd.grad(halved.float().square().sum(), image)
    for mine, theirs in ((halved.float(), usual), (found, expected)):
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, atol=0.03 * float(theirs.std()), rtol=0.03)


@pytest.mark.parametrize("shape", [(6, 5, 4, 4), (6, 5)])
def test_spectral_normalisation_is_torchs_with_its_names_and_gradients(shape: tuple[int, ...]) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return (nn.Conv2d(5, 6, 4) if len(shape) == 4 else nn.Linear(5, 6)).double()

    ours, torchs = spectral_norm(make()), parametrizations.spectral_norm(make())
    assert list(ours.state_dict()) == list(torchs.state_dict())
    ours.load_state_dict(torchs.state_dict())
    given = torch.randn(shape, dtype=torch.float64)
    for layer in (ours, torchs):
        if len(shape) == 4:
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        first = layer.weight
        second = layer.weight  # the vectors have moved on
        ((first + 2 * second) * given).sum().backward()
    for (name, mine), theirs in zip(ours.named_parameters(), torchs.parameters(), strict=True):
        assert (mine.grad is None and theirs.grad is None) or torch.allclose(mine.grad, theirs.grad), name
    assert all(torch.allclose(mine, theirs) for mine, theirs in zip(ours.buffers(), torchs.buffers(), strict=True))
    assert torch.allclose(ours.eval().weight, torchs.eval().weight)
