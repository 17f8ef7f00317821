"""Fixtures of these tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.semantic.examples import VALUES, Make, trained_on


@pytest.fixture
def make_masked(make_prepared: Make) -> Make:
    """Discs of label 2, bright, and of label 7, dim, on black, with noise."""

    def make(n: int = 48, size: tuple[int, ...] = (16, 16), **more: Any) -> Path:
        folder = make_prepared(n=n, size=size, mask_classes=8, mask_values=VALUES, **more)
        images = np.load(folder / "shards" / "00000.images.npy")
        inside = images[:, 0] > 70
        bright = (np.arange(n) % 2).reshape(-1, *[1] * len(size)) > 0
        noise = np.random.default_rng(0).integers(0, 20, images.shape)
        images[:] = np.where(inside & bright, 220, np.where(inside, 110, 10))[:, None] + noise
        np.save(folder / "shards" / "00000.images.npy", images)
        np.save(folder / "shards" / "00000.masks.npy", np.where(inside, np.where(bright, 2, 7), 0).astype(np.uint8))
        return folder

    return make


@pytest.fixture
def trained(make_masked: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained once, with its data beside it."""
    data, kept = make_masked(spacing=(2.0, 2.0)), tmp_path_factory.getbasetemp() / "semantic-run"
    if not kept.exists():
        trained_on(data, kept)
    shutil.copytree(kept, tmp_path / "run")
    return tmp_path / "run"
