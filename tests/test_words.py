"""Words of a command line are paths or settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from radsynth.cli._words import split_words
from radsynth.errors import SettingsError


@pytest.mark.parametrize(
    ("words", "names", "paths", "overrides"),
    [
        (["data"], ["DATA"], ["data"], []),
        (["model.kind=mlp", "data", "train.batch=8"], ["DATA"], ["data"], ["model.kind=mlp", "train.batch=8"]),
        (["a", "seed=3", "b"], ["A", "B"], ["a", "b"], ["seed=3"]),
        ([], ["[DATA]"], [], []),
        (["model.names=[a, " + 300 * "b" + "]"], ["[DATA]"], [], [f"model.names=[a, {300 * 'b'}]"]),
        (["/scans/x.y=z"], ["DATA"], ["/scans/x.y=z"], []),
        (["./a.b=c"], ["DATA"], ["./a.b=c"], []),
        (["Scans.2024=x"], ["DATA"], ["Scans.2024=x"], []),
    ],
)
def test_words_are_paths_or_overrides(
    words: list[str], names: list[str], paths: list[str], overrides: list[str]
) -> None:
    assert split_words(words, *names) == (paths, overrides)


def test_a_file_that_looks_like_an_override_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.b=c").mkdir()
    assert split_words(["a.b=c"], "DATA") == (["a.b=c"], [])


@pytest.mark.parametrize("words", [[], ["a", "b"], ["train.batch=3"]])
def test_wrong_number_of_paths(words: list[str]) -> None:
    with pytest.raises(SettingsError, match="takes DATA and then settings"):
        split_words(words, "DATA")
