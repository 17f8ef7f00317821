"""A trained run of two classes, which each test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radsynth.settings import resolve
from radsynth.verbs.train import train
from radsynth.web import study
from tests.discs import prepared_discs

LABELS = ("common", "rare")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    train(prepared_discs(root, labels=LABELS, name="run/data"), root / "run", settings=resolve(
        overrides=("model.kind=mlp", "train.batch=8", "train.images=32", "train.previews=0")))
    return root / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(autouse=True)
def readers_who_look_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests rate at once, faster than anybody can look."""
    monkeypatch.setattr(study, "SOONEST", 0.0)
