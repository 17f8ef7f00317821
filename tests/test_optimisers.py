"""The optimisers' own step against torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from radsynth.verbs._training.optimisers import adam, clear, move, restore, set_rate, state_of


def test_only_gradients_that_are_too_long_together_are_shortened() -> None:
    for gradients, longest, wanted in (([[3.0], [0.0, 4.0]], 1.0, [[0.6], [0.0, 0.8]]),
                                       ([[3.0], [0.0, 4.0]], 6.0, [[3.0], [0.0, 4.0]]),
                                       ([[0.0], [0.0, 0.0]], 1.0, [[0.0], [0.0, 0.0]])):
        weights = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = torch.tensor(gradient)
        move(adam(weights, 1e-2, (0.9, 0.99), recorded=False), longest)
        for weight, gradient in zip(weights, wanted, strict=True):
            torch.testing.assert_close(weight.grad, torch.tensor(gradient))


@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_a_step_is_torchs_to_the_last_bit_also_for_weights_that_join_later(beta1: float) -> None:
    torch.manual_seed(0)
    start = [torch.randn(3, 4, 4, 4).contiguous(memory_format=torch.channels_last), torch.randn(5), torch.randn(2, 300)]
    ours, torchs = ([nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    optimiser, reference = (adam(weights, 1e-2, (beta1, 0.99), recorded=False) for weights in (ours, torchs))
    for step in range(6):
        if step == 4:  # after a pause
            restore(optimiser, copy.deepcopy(state_of(reference)))
        for one in (optimiser, reference):
            set_rate(one, 1e-2 / (step + 1))
        gradients = [torch.randn_like(weight) for weight in start]
        for weights in (ours, torchs):
            for weight, gradient in list(zip(weights, gradients, strict=True))[: 2 if step < 2 else 3]:
                weight.grad = gradient.clone()
        move(optimiser)
        reference.step()
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours, torchs, strict=True))
        clear(optimiser)
        assert all(weight.grad is None for weight in ours)
        reference.zero_grad()
