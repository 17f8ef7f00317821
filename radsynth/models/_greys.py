"""Grey values as the default network sees them: square roots of distances to the one value of a flat background.

Exported CT pictures often have one grey value behind the patient, soft tissue within some steps of it, and bone far
away. To a Lipschitz-bounded discriminator such tissue is hardly there, and ripples that a generator draws on the
background are not either. The root (the power-law companding of signal coding) spreads what lies near the background,
and its inverse, a square, leaves the background flat. The ends of the images' range become -1 and 1. Classes of
several kinds, such as organs, each have a background and a range of their own, or none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SOFT = 4e-4
"""Distance in [-1, 1] below which the root becomes a line, so that its slope stays finite: a twentieth of 1 in 255."""


class Greys(nn.Module):
    """Images (n, c, *space) in [-1, 1] of classes (n,) to their roots, about [-1, 1], and `back`.

    The identity until `set`, and for classes and channels that have no background. One class needs no labels.
    """

    background: Tensor
    middle: Tensor
    reach: Tensor

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        for name in ("background", "middle", "reach"):
            self.register_buffer(name, torch.zeros(max(classes, 1), channels))
        self.used = False
        self.register_load_state_dict_pre_hook(older_stored)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_used_where_one_is_stored)  # type: ignore[no-untyped-call]

    def set(self, backgrounds: Tensor, low: Tensor, high: Tensor) -> None:
        """Backgrounds (classes or 1, c), NaN where there is none, and the ends of the images' range, as many."""
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
            channels = min(mine.shape[1], theirs.shape[1])
            mine[:, :channels] = theirs[:, :channels]
        self.used = other.used

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        if not self.used:
            return images
        background, middle, reach = self._of(images, labels)
        roots = (_root(images.float() - background) - middle) / torch.where(reach > 0, reach, 1.0)
        return torch.where(reach > 0, roots, images)

    def back(self, roots: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images from their roots."""
        if not self.used:
            return roots
        background, middle, reach = self._of(roots, labels)
        root = roots.float() * reach + middle
        images = background + root * (root.abs() + 2 * SOFT**0.5)
        return torch.where(reach > 0, images, roots)

    def _of(self, images: Tensor, labels: Tensor | None) -> list[Tensor]:
        return [of_classes(part, labels, images.ndim) for part in (self.background, self.middle, self.reach)]


def _root(distances: Tensor) -> Tensor:
    """sign(d) (sqrt(|d| + s) - sqrt(s)), written so that its slope at 0 is right."""
    roots: Tensor = distances / ((distances.abs() + SOFT).sqrt() + SOFT**0.5)
    return roots


def of_classes(values: Tensor, labels: Tensor | None, dimensions: int) -> Tensor:
    """Values (classes or 1, c) as (n or 1, c, 1, ...) for images of classes (n,)."""
    if len(values) > 1:
        assert labels is not None, "classes that differ need labels"
        values = values[labels]
    return values.view(*values.shape, *[1] * (dimensions - 2))


def as_many(values: Tensor, own: Tensor) -> Tensor:
    """Values of other classes (classes, c), or (c,) of older weights, for as many classes as `own` has.

    What all of them agree on holds for new classes, too; where they differ, these keep their own.
    """
    values = values.view(-1, values.shape[-1])
    if len(values) == len(own):
        return values
    return values[:1].expand(len(own), -1) if torch.equal(values, values[:1].expand_as(values)) else own


def older_stored(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Complete older weights: from before there were any, or when there was one for all classes (c,)."""
    for name, own in module.state_dict().items():
        stored = state.get(prefix + name, torch.zeros_like(own))
        state[prefix + name] = as_many(stored, own) if stored.ndim == 1 else stored


def _used_where_one_is_stored(greys: Any, _: Any) -> None:
    greys.used = bool(greys.get_buffer("reach").any())
