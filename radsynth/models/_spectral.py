"""Spectral normalisation (Miyato et al. 2018, eq. 8 and algorithm 1) of channels-last weights, under torch's names.

torch's own lays such weights out anew at each pass, and passes over them eight times for their gradient: four times as
long for the default network's widest layer.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrize import register_parametrization

Layer = TypeVar("Layer", bound=nn.Module)
LEAST = 1e-12
"""Lower limit of a norm that is divided by."""


def spectral_norm(layer: Layer) -> Layer:
    """The layer, its weight divided by its largest singular value; each training pass is a step of power iteration."""
    register_parametrization(layer, "weight", SpectralNorm(layer.weight))  # type: ignore[arg-type]
    return layer


class SpectralNorm(nn.Module):
    """Weight (outputs, inputs, *kernel) or (outputs, inputs) to W / sigma(W); the singular vectors are buffers."""

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        for name, length in (("_u", len(weight)), ("_v", weight[0].numel())):
            self.register_buffer(name, nn.functional.normalize(weight.new_empty(length).normal_(), dim=0))
        for _ in range(15):
            self._iterate(weight.detach())

    def forward(self, weight: Tensor) -> Tensor:
        if not self.training:
            return weight / torch.dot(self._u, torch.mv(weight.flatten(1), self._v))
        divided: Tensor = _Divided.apply(weight, *self._iterate(weight.detach()))  # type: ignore[no-untyped-call]
        return divided

    @torch.no_grad()
    def _iterate(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of the power iteration; the vectors, the right one in the order of memory, and sigma ()."""
        matrix, order = _matrix(weight), self._v.view(weight.shape[1:])
        # Into given memory: so autocast leaves the products as they are, which it would take in 16 bits on a GPU.
        torch.mv(matrix, order.movedim(0, -1).flatten(), out=self._u)
        self._u /= torch.linalg.vector_norm(self._u).clamp_min(LEAST)
        right = torch.mv(matrix.T, self._u, out=torch.empty_like(self._v))
        sigma = torch.linalg.vector_norm(right).clamp_min(LEAST)  # u' W v, since v is W' u over its norm
        right /= sigma
        order.copy_(right.view(*weight.shape[2:], weight.shape[1]).movedim(-1, 0))
        return self._u.clone(), right, sigma


def _matrix(weight: Tensor) -> Tensor:
    """(outputs, *kernel * inputs): the order in which channels-last memory has a weight."""
    return weight.movedim(1, -1).flatten(1)


class _Divided(torch.autograd.Function):
    """W / sigma with its gradient, eq. 11: that of sigma = u' W v is u v', since u and v are taken as constants."""

    @staticmethod
    def forward(context: Any, weight: Tensor, left: Tensor, right: Tensor, sigma: Tensor) -> Tensor:
        divided = weight / sigma
        context.save_for_backward(divided, left, right, sigma)
        return divided

    @staticmethod
    @once_differentiable
    def backward(context: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        divided, left, right, sigma = context.saved_tensors
        gradient = _matrix(given)
        along = torch.dot(gradient.flatten(), _matrix(divided).flatten())
        gradient = torch.addr(gradient, left * along, right, alpha=-1).div_(sigma)
        shape = (len(given), *given.shape[2:], given.shape[1])
        return gradient.view(shape).movedim(-1, 1), None, None, None
