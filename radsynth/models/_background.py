"""A flat background: small deviations of drawn pixels from its one value are shrunk (Donoho 1995, soft thresholding).

Exported pictures often have one grey value behind the patient. A generator's last layers draw ripples of some grey
values there, which a Lipschitz-bounded discriminator hardly feels, but a reader, and a distance of features, do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from radsynth.models._greys import of_classes, older_stored

WIDTH = 0.04
"""Deviations in [-1, 1] that are shrunk: five grey values of 8 bits."""
LEFT = 0.1
"""Share of them that is left: less than a grey value, and enough of a slope to learn from."""


class Background(nn.Module):
    """Numbers (n, c, *space) before tanh of images of classes (n,), those around their background shrunk.

    Each class and channel has its own. The identity until `set`. One class needs no labels.
    """

    value: Tensor
    width: Tensor

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        for name in ("value", "width"):
            self.register_buffer(name, torch.zeros(max(classes, 1), channels))
        self.register_load_state_dict_pre_hook(older_stored)  # type: ignore[no-untyped-call]

    def set(self, values: Tensor) -> None:
        """Backgrounds (classes or 1, c) in (-1, 1); NaN where there is none."""
        flat = ~values.isnan()
        self.value.copy_(torch.where(flat, values, 0.0).atanh())
        self.width.copy_(torch.where(flat, WIDTH / (1 - values.square()), 0.0))  # the slope of atanh

    def forward(self, numbers: Tensor, labels: Tensor | None = None) -> Tensor:
        value, width = (of_classes(part, labels, numbers.ndim) for part in (self.value, self.width))
        return numbers - (1 - LEFT) * (numbers - value).clamp(-width, width)
