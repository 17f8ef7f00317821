"""Benchmarks end with radsynth's own reason, in one line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from radsynth.errors import DataError


@pytest.fixture
def told(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", ["benchmarks/semantic.py"])
    spec = importlib.util.spec_from_file_location("_told", repository / "benchmarks" / "_told.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_was_refused_ends_in_its_reason(told: Any) -> None:
    found = {"measurements": [{"name": "recall", "value": 0.5}],
             "refused": [{"name": "frechet_distance", "title": "", "reason": "At least 2 images are needed."}]}
    assert told.measured(found, "recall")["value"] == 0.5
    with pytest.raises(DataError, match=r"frechet_distance was not measured: At least 2 images"):
        told.measured(found, "frechet_distance")
    with pytest.raises(SystemExit, match=r"^semantic\.py: frechet_distance was not measured: At least 2 images"):
        told.told(lambda: told.measured(found, "frechet_distance"))


def test_every_benchmark_ends_so(repository: Path) -> None:
    for benchmark in repository.glob("benchmarks/[a-z]*.py"):
        assert benchmark.read_text(encoding="utf-8").endswith('if __name__ == "__main__":\n    told(main)\n'), benchmark
