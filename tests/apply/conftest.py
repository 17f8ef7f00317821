"""A run that takes images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radsynth.settings import resolve
from radsynth.verbs.train import train
from tests.apply.examples import SMALL, Make


@pytest.fixture
def make_run(make_prepared: Make, tmp_path: Path) -> Callable[..., Path]:
    def make(*overrides: str, size: tuple[int, ...] = (16, 16), **spec: Any) -> Path:
        settings = resolve(overrides=(*SMALL, *overrides))
        train(make_prepared(n=24, size=size, **spec), tmp_path / "run", settings=settings)
        return tmp_path / "run"

    return make
