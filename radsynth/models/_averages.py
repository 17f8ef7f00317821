"""Images averaged down, in two and three dimensions alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional


def averaged(images: Tensor, box: int | Sequence[int], *, rest: bool = False) -> Tensor:
    """(n, c, *space) averaged over boxes of so many pixels along each axis; rest: what is left at the ends, too."""
    pool: Any = functional.avg_pool2d if images.ndim == 4 else functional.avg_pool3d
    coarse: Tensor = pool(images, box, ceil_mode=rest)
    return coarse


def averaged_to(images: Tensor, size: Sequence[int]) -> Tensor:
    """(n, c, *space) averaged down to a size."""
    pool: Any = functional.adaptive_avg_pool2d if images.ndim == 4 else functional.adaptive_avg_pool3d
    coarse: Tensor = pool(images, size)
    return coarse
