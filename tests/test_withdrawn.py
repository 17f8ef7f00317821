"""A measurement that is stopped while it replaces its pictures leaves no document that tells of the former ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.verbs._evaluating.pictures import write_results
from radsynth.verbs._pairs.document import write
from radsynth.verbs.audit import Settings as AuditSettings
from radsynth.verbs.audit import audit
from radsynth.verbs.control import control
from radsynth.verbs.explain import explain
from radsynth.verbs.utility import Settings as UtilitySettings
from radsynth.verbs.utility import utility
from tests.test_control import untrained_run
from tests.test_utility import LABELS, write_labelled

PIXELS = np.zeros((2, 1, 8, 8), np.uint8)
SHORT = UtilitySettings(seconds=600, steps=1, seeds=2, shares=(1.0,), repetitions=100, batch=12)


def again(document: str, run: Path) -> Any:
    """Measure what `document` tells of."""
    data = run / "data"
    if document == "results.json":
        return write_results(run, {}, {"synthetic": PIXELS})
    if document == "control/control.json":
        return control(run)
    if document == "explain/explain.json":
        return explain(run, starts=1, steps=1)
    made = write_labelled(run / "made", Prepared(data), False)
    if document == "audit.json":
        return audit(run, made, settings=AuditSettings(images=50))
    return utility(run, made, settings=SHORT)


@pytest.mark.parametrize(("document", "first"), [
    ("results.json", "_evaluating.pictures.save_pictures"),
    ("control/control.json", "control.save_sheets"),
    ("explain/explain.json", "explain.save_pictures_of"),
    ("audit.json", "audit.write_atomically"),
    ("utility.json", "utility.save_chart"),
])
def test_a_document_goes_before_its_pictures_do(document: str, first: str, make_prepared: Callable[..., Path],
                                                tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """first: what writes the first picture (the document itself, where no pair is shown), and is stopped"""
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    untrained_run(make_prepared(200, labels=LABELS, name="run/data"), run, "model.width=8")
    former = run / document
    former.parent.mkdir(exist_ok=True)
    former.write_text("{}")
    monkeypatch.setattr(f"radsynth.verbs.{first}", stopped)
    with pytest.raises(KeyboardInterrupt):
        again(document, run)
    assert not former.exists()


def test_results_of_pairs_go_before_their_pictures_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "pictures").write_text("a file, where no folder can be made")
    with pytest.raises(OSError, match="pictures"):
        write(tmp_path, {}, np.zeros((2, 2, 8, 8), np.float32))
    assert not (tmp_path / "results.json").exists()
