"""The layers of semantic synthesis: the normalisation by a mask, and the encoder of styles."""

from __future__ import annotations

import torch

from radsynth.models.spade import Encoder, Spade


def test_the_normalisation_is_that_of_the_paper() -> None:
    """Equation 1, gamma as 1 + what is learned: where the mask says nothing, features are normalised and no more."""
    torch.manual_seed(0)
    layer, features, mask = Spade(3, 2, 4, 2), 5 + 3 * torch.randn(6, 3, 8, 8), torch.rand(6, 2, 8, 8)
    mean, variance = features.mean((0, 2, 3), keepdim=True), features.var((0, 2, 3), unbiased=False, keepdim=True)
    normalised = (features - mean) / (variance + layer.norm.eps).sqrt()
    scale, shift = layer.change(torch.relu(layer.read(mask))).chunk(2, dim=1)
    torch.testing.assert_close(layer(features, mask), normalised * (1 + scale) + shift)
    torch.nn.init.zeros_(layer.change.weight)
    torch.nn.init.zeros_(layer.change.bias)
    torch.testing.assert_close(layer(features, mask), normalised)


def test_an_example_of_another_size_lies_in_the_middle_of_background() -> None:
    encoder, images = Encoder(1, 4, 8, 16, (16, 16)), torch.rand(2, 1, 12, 21)
    middle = torch.nn.functional.pad(images[..., 2:18], (0, 0, 2, 2), value=-1.0)
    torch.testing.assert_close(encoder(images), encoder(middle))
