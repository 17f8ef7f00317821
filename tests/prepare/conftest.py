"""Preparing records that no file stands behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from radsynth.arrays import Prepared
from radsynth.datasets import Record, folder
from radsynth.verbs.prepare import prepare
from tests.prepare.records import Prepare, with_options


@pytest.fixture
def from_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepare records that a test made up: (records, name of the folder, workers, settings of `prepare`)."""

    def make(records: Sequence[Record], name: str = "out", workers: int = 1, **options: Any) -> Prepared:
        module = SimpleNamespace(records=lambda settings, rejected: iter(records))
        monkeypatch.setattr("radsynth.verbs._preparing.steps.dataset", lambda kind: module)
        return prepare(
            folder.Settings(path=tmp_path), tmp_path / name, settings=with_options(**options), workers=workers
        )

    return make
