"""Files of a run folder that were cut short or changed: an error in words, or a report without that part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from radsynth.errors import FolderError
from radsynth.verbs.generate import load
from radsynth.verbs.report import report
from radsynth.verbs.show import show
from tests.test_control import untrained_run


@pytest.fixture
def run(make_prepared: Callable[..., Path], tmp_path: Path) -> Path:
    return untrained_run(make_prepared(name="run/data"), tmp_path / "run", "model.width=8")


@pytest.mark.parametrize(("upto", "lost"), [("seed:", "task, model, augment, train"), ("train:", "train"),
                                            ("  width:", "augment, train")])
def test_settings_that_were_cut_short_are_told(upto: str, lost: str, run: Path) -> None:
    """YAML that ends early is YAML: what it lacked was taken for the defaults, or ended in a traceback."""
    path = run / "settings.yaml"
    text = path.read_text()
    path.write_text(text[:f"\n{text}".index(f"\n{upto}") + len(upto)])
    for read in (load, lambda run: show(str(run))):
        with pytest.raises(FolderError, match=rf"settings\.yaml is damaged, it has no {lost}\. Put a copy"):
            read(run)
    assert report(run).exists()


def test_settings_of_another_network_than_the_weights_are_told(run: Path) -> None:
    path = run / "settings.yaml"
    path.write_text(path.read_text().replace("width: 8", "width: 16"))
    with pytest.raises(FolderError, match=r"generator\.safetensors holds the weights of another network than settings"):
        load(run)


@pytest.mark.parametrize("name", ["spec.json", "generator.json", "plan.json", "settings.yaml", "results.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "{\"spec\": "])
def test_a_report_leaves_out_what_cannot_be_read(name: str, content: str, run: Path) -> None:
    (run / name).write_text(content)
    assert "What was done" in report(run).read_text()


def test_a_specification_that_is_none_is_told(run: Path) -> None:
    (run / "spec.json").write_text("[]")
    with pytest.raises(FolderError, match=r"spec\.json is damaged"):
        load(run)
