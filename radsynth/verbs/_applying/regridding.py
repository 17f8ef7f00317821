"""From an image's own grid to pixels of the size that a network knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from radsynth.verbs._preparing.fit import Fit, resample

TOLERANCE = 0.1
"""Relative difference of spacing that a network is trusted with."""

Steps = tuple[float, ...]


def near(have: Steps, want: Steps) -> bool:
    """Whether each spacing (mm) of an image is one that a network which expects `want` is trusted with."""
    return all(abs(h / w - 1) <= TOLERANCE for h, w in zip(have, want, strict=True))


def to_training(space: tuple[int, ...], have: Steps, want: Steps) -> Fit:
    """The field of an image of this size and spacing, in pixels of the spacing `want`; along an axis where the
    network is trusted with the image's own pixels in those."""
    ratios = tuple(1.0 if near((h,), (w,)) else w / h for h, w in zip(have, want, strict=True))
    content = tuple(max(1, round(side / ratio)) for side, ratio in zip(space, ratios, strict=True))
    return Fit(source=space, target=content, ratios=ratios, content=content,
               spacing=tuple(h * ratio for h, ratio in zip(have, ratios, strict=True)))


def regridded(stack: NDArray[np.float32], fit: Fit) -> NDArray[np.float32]:
    """(n, c, *source) on the target's grid."""
    n, c, *space = stack.shape
    return resample(stack.reshape(n * c, *space), fit).reshape(n, c, *fit.target)
