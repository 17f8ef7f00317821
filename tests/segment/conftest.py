"""Fixtures of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.segment.examples import Make


@pytest.fixture
def make_masked(make_prepared: Make) -> Make:
    """Discs of two sizes whose masks are 1 and 2 (or `values`); every disc is as bright as the others, its size alone
    tells."""

    def make(n: int = 48, size: tuple[int, ...] = (16, 16), values: tuple[int, ...] = (1, 2), **more: Any) -> Path:
        folder = make_prepared(n=n, size=size, labels=("small", "large"), mask_classes=1 + values[-1],
                               mask_values=(0, *values), **more)
        images = np.load(folder / "shards" / "00000.images.npy")
        inside = images[:, 0] > 70
        images[:, 0] = np.where(inside, 200, 0) + np.random.default_rng(0).integers(0, 20, inside.shape)
        np.save(folder / "shards" / "00000.images.npy", images)
        kind = np.resize(values, n).reshape(-1, *[1] * len(size))
        np.save(folder / "shards" / "00000.masks.npy", (inside * kind).astype(np.uint8))
        return folder

    return make
