"""A run that takes images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radsynth.settings import resolve
from radsynth.verbs.train import train
from tests.apply.examples import SMALL
from tests.discs import prepared_discs


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that trains such a run, of the same settings and images once: most tests ask for the same few."""
    made: dict[Any, Path] = {}

    def of(*overrides: str, **images: Any) -> Path:
        asked = (overrides, *sorted(images.items()))
        if asked not in made:
            folder = tmp_path_factory.mktemp("trained")
            train(prepared_discs(folder, n=24, **images), folder / "run", settings=resolve(
                overrides=(*SMALL, *overrides)))
            made[asked] = folder / "run"
        return made[asked]

    return of


@pytest.fixture
def make_run(trained: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a run folder of a test's own."""
    return lambda *overrides, **images: shutil.copytree(trained(*overrides, **images), tmp_path / "run")
