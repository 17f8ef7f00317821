"""Images of made-up patients, to audit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def phantoms(n: int, seed: int, size: tuple[int, ...] = (32, 32)) -> NDArray[np.float32]:
    """A body of common shape with an inner texture of its own, (n, 1, *size)."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in size], indexing="ij"))
    axes = tuple(range(1, 1 + len(size)))
    noise = np.fft.fftn(generator.normal(size=(n, *size)), axes=axes)
    frequency = sum(np.fft.fftfreq(side).reshape([-1 if k == axis else 1 for k in range(len(size))]) ** 2
                    for axis, side in enumerate(size))
    texture = np.real(np.fft.ifftn(noise / (0.03 + np.sqrt(frequency)), axes=axes))
    texture = texture / texture.std(axes, keepdims=True)
    body = (grid**2).sum(0) < 0.75
    return np.clip(np.where(body, 0.25 * texture, -0.9), -1, 1)[:, None].astype(np.float32)
