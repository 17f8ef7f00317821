"""Grey values as the default network sees them: square roots of distances to the one value of a flat background.

Exported CT pictures often have one grey value behind the patient, soft tissue within some steps of it, and bone far
away. To a Lipschitz-bounded discriminator such tissue is hardly there, and ripples that a generator draws on the
background are not either. The root (the power-law companding of signal coding) spreads what lies near the background,
and its inverse, a square, leaves the background flat. The ends of the images' range become -1 and 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SOFT = 4e-4
"""Distance in [-1, 1] below which the root becomes a line, so that its slope stays finite: a twentieth of 1 in 255."""


class Greys(nn.Module):
    """Images (n, c, *space) in [-1, 1] to their roots, about [-1, 1], and `back`. The identity until `set`."""

    background: Tensor
    middle: Tensor
    reach: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("background", "middle", "reach"):
            self.register_buffer(name, torch.zeros(channels))
        self.used = False
        self.register_load_state_dict_pre_hook(_none_where_none_is_stored)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_used_where_one_is_stored)  # type: ignore[no-untyped-call]

    def set(self, backgrounds: Tensor, low: Tensor, high: Tensor) -> None:
        """Backgrounds (c,), NaN for a channel without one, and the ends of the images' range (c,)."""
        flat = ~backgrounds.isnan()
        self.background.copy_(torch.where(flat, backgrounds, 0.0))
        ends = [_root(end - self.background) for end in (low, high)]
        self.middle.copy_(torch.where(flat, (ends[0] + ends[1]) / 2, 0.0))
        self.reach.copy_(torch.where(flat, (ends[1] - ends[0]) / 2, 0.0))
        self.used = bool(flat.any())

    def take(self, other: Greys) -> None:
        """Become the same; further channels, such as numbers or masks, stay as they are."""
        for name, mine in self.named_buffers():
            theirs = other.get_buffer(name)
            mine[:len(theirs)] = theirs[:len(mine)]
        self.used = other.used

    def forward(self, images: Tensor) -> Tensor:
        if not self.used:
            return images
        background, middle, reach = self._shaped(images)
        roots = (_root(images.float() - background) - middle) / torch.where(reach > 0, reach, 1.0)
        return torch.where(reach > 0, roots, images)

    def back(self, roots: Tensor) -> Tensor:
        """Images from their roots."""
        if not self.used:
            return roots
        background, middle, reach = self._shaped(roots)
        root = roots.float() * reach + middle
        images = background + root * (root.abs() + 2 * SOFT**0.5)
        return torch.where(reach > 0, images, roots)

    def _shaped(self, images: Tensor) -> list[Tensor]:
        return [part.view(-1, *[1] * (images.ndim - 2)) for part in (self.background, self.middle, self.reach)]


def _root(distances: Tensor) -> Tensor:
    """sign(d) (sqrt(|d| + s) - sqrt(s)), written so that its slope at 0 is right."""
    roots: Tensor = distances / ((distances.abs() + SOFT).sqrt() + SOFT**0.5)
    return roots


def _none_where_none_is_stored(greys: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights from before there were any were learned without."""
    for name, value in greys.state_dict().items():
        state.setdefault(prefix + name, torch.zeros_like(value))


def _used_where_one_is_stored(greys: Any, _: Any) -> None:
    greys.used = bool(greys.get_buffer("reach").any())
