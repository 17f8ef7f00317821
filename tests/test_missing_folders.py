"""Every verb that takes a run or another folder says when it does not exist, and what to give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import radsynth
from radsynth.errors import RadsynthError
from radsynth.verbs.utility import utility
from radsynth.web.serve import serve

NOWHERE = Path("nowhere")
VERBS: dict[str, Callable[[], Any]] = {
    "inspect": lambda: radsynth.inspect(NOWHERE),
    "prepare": lambda: radsynth.prepare(NOWHERE, Path("out")),
    "train": lambda: radsynth.train(NOWHERE, Path("out"), budget="10img"),
    "run": lambda: radsynth.run(NOWHERE, Path("out")),
    "generate": lambda: radsynth.generate(NOWHERE, Path("out"), count=2),
    "apply": lambda: radsynth.apply(NOWHERE, Path("data"), Path("out")),
    "evaluate": lambda: radsynth.evaluate(NOWHERE, Path("images")),
    "evaluate synthetic": lambda: radsynth.evaluate(Path("data"), NOWHERE),
    "audit": lambda: radsynth.audit(NOWHERE),
    "audit synthetic": lambda: radsynth.audit(Path("run"), NOWHERE),
    "utility": lambda: radsynth.utility(NOWHERE),
    "utility synthetic": lambda: utility(Path("data"), NOWHERE),
    "utility data": lambda: radsynth.utility(Path("data"), data=NOWHERE),
    "report": lambda: radsynth.report(NOWHERE),
    "export": lambda: radsynth.export(NOWHERE, Path("out")),
    "control": lambda: radsynth.control(NOWHERE),
    "explain": lambda: radsynth.explain(NOWHERE),
    "serve": lambda: serve(NOWHERE),
    "push": lambda: radsynth.push(NOWHERE, "http://127.0.0.1:9"),
    "show": lambda: radsynth.show("nowhere"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_does_not_exist_is_named(
    verb: str, make_prepared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_prepared(60, labels=("a", "b"))
    make_prepared(60, name="run/data")
    (tmp_path / "images").mkdir()
    PIL.Image.fromarray(np.eye(16, dtype=np.uint8) * 255).save(tmp_path / "images" / "0.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RadsynthError) as caught:
        VERBS[verb]()
    text = str(caught.value)
    assert "nowhere" in text and ("does not exist" in text or "no folder of this name" in text), text
    assert any(word in text for word in ("Give", "Generate", "makes one", "Run 'radsynth", "there are 'show")), text
    assert not Path("out").exists() and not NOWHERE.exists()


def test_an_audit_of_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RadsynthError, match=r"is not a run folder: it has no spec\.json"):
        radsynth.audit(tmp_path)
