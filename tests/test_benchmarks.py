"""Benchmarks end with radsynth's own reason, in one line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.errors import DataError
from radsynth.verbs._usefulness.sources import real, some_patients


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


def test_the_few_patients_are_those_of_the_study(
    repository: Path, make_prepared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    utility, data = importlib.import_module("utility"), Prepared(make_prepared(60, labels=("a", "b")))
    few = utility.fewer(data, 0.3, tmp_path / "few")
    wanted = some_patients(real(data, "train", "classification"), 0.3, 0).examples
    rows = few.indices("train")
    assert np.array_equal(few.images(rows), wanted.images) and np.array_equal(few.labels(rows), wanted.labels)
