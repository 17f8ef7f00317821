"""A flat background: small deviations of drawn pixels from its one value are shrunk (Donoho 1995, soft thresholding).

Exported pictures often have one grey value behind the patient. A generator's last layers draw ripples of some grey
values there, which a Lipschitz-bounded discriminator hardly feels, but a reader, and a distance of features, do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 0.04
"""Deviations in [-1, 1] that are shrunk: five grey values of 8 bits."""
LEFT = 0.1
"""Share of them that is left: less than a grey value, and enough of a slope to learn from."""


class Background(nn.Module):
    """Numbers (n, c, *space) before tanh, those around each channel's background shrunk. The identity until `set`."""

    value: Tensor
    width: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("value", "width"):
            self.register_buffer(name, torch.zeros(channels))
        self.register_load_state_dict_pre_hook(_none_where_none_is_stored)  # type: ignore[no-untyped-call]

    def set(self, values: Tensor) -> None:
        """Backgrounds (c,) in (-1, 1); NaN for a channel without one."""
        flat = ~values.isnan()
        self.value.copy_(torch.where(flat, values, 0.0).atanh())
        self.width.copy_(torch.where(flat, WIDTH / (1 - values.square()), 0.0))  # the slope of atanh

    def forward(self, numbers: Tensor) -> Tensor:
        value, width = (part.view(-1, *[1] * (numbers.ndim - 2)) for part in (self.value, self.width))
        return numbers - (1 - LEFT) * (numbers - value).clamp(-width, width)


def _none_where_none_is_stored(background: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights from before there was one were learned without."""
    for name, value in background.state_dict().items():
        state.setdefault(prefix + name, torch.zeros_like(value))
