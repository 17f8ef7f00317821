"""A measurement that is stopped before all of it is written leaves the earlier one as it was, with its pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.files import write_atomically
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
    if document == "pairs/results.json":
        return write(run / "pairs", {}, np.zeros((2, 2, 8, 8), np.float32), PIXELS)
    if document == "control/control.json":
        return control(run)
    if document == "explain/explain.json":
        return explain(run, starts=1, steps=1)
    made = write_labelled(run / "made", Prepared(data), False)
    if document == "audit.json":
        return audit(run, made, settings=AuditSettings(images=50))
    return utility(run, made, settings=SHORT)


@pytest.mark.parametrize(("document", "picture", "module"), [
    ("results.json", "pictures/synthetic.npy", "_evaluating.pictures"),
    ("pairs/results.json", "pictures/doubts.npy", "_pairs.document"),
    ("control/control.json", "truncation.png", "control"),
    ("explain/explain.json", "inversion.png", "explain"),
    ("audit.json", "pictures/audit_pairs.npy", "audit"),
    ("utility.json", "utility.png", "utility"),
])
def test_a_measurement_that_is_stopped_leaves_the_earlier_one(document: str, picture: str, module: str,
                                                              make_prepared: Callable[..., Path], tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while it writes the document itself, which comes last."""
    def stopped(path: Path, content: str | bytes) -> None:
        if path.name == Path(document).name:
            raise KeyboardInterrupt
        write_atomically(path, content)

    run = tmp_path / "run"
    untrained_run(make_prepared(200, labels=LABELS, name="run/data"), run, "model.width=8")
    former = [run / document, (run / document).parent / picture]
    for path in former:
        path.parent.mkdir(exist_ok=True)
        path.write_text("former")
    monkeypatch.setattr(f"radsynth.verbs.{module}.write_atomically", stopped)
    with pytest.raises(KeyboardInterrupt):
        again(document, run)
    assert [path.read_text() for path in former] == ["former"] * 2
    assert not list(run.rglob("*.part"))
