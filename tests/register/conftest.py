"""A run that has learned to register discs a little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.settings import resolve
from radsynth.verbs.train import train
from tests.register.examples import SMALL, Make


@pytest.fixture
def make_run(make_prepared: Make, tmp_path: Path) -> Callable[..., Path]:
    def make(*overrides: str, images: int = 16, n: int = 24, **spec: Any) -> Path:
        settings = resolve(overrides=(*SMALL, f"train.images={images}", *overrides))
        data = make_prepared(n=n, **spec)
        if spec.get("mask_classes"):
            pixels = np.load(data / "shards" / "00000.images.npy")[:, 0]
            np.save(data / "shards" / "00000.masks.npy", (pixels > 60).astype(np.uint8))
        train(data, tmp_path / "run", settings=settings)
        return tmp_path / "run"

    return make
