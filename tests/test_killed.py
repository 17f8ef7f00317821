"""A training that is killed by kill -9 and gone on with: its log says each thing once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radsynth.run_folder import RunFolder
from radsynth.verbs._training import doctor
from radsynth.verbs.train import train
from tests.trained import SMALL, options, same

SCRIPT = """
import os, signal, sys
from pathlib import Path
from radsynth.settings import resolve
from radsynth.verbs._training import doctor
from radsynth.verbs._training.loop import Loop
from radsynth.verbs.train import train

doctor.IMAGES_BETWEEN = 80
data, run, saved, killed, *settings = sys.argv[1:]
take_step = Loop.take_step

def step(loop):
    if loop.step == int(saved):
        loop.save()
    if loop.step == int(killed):
        os.kill(os.getpid(), signal.SIGKILL)
    return take_step(loop)

Loop.take_step = step
train(Path(data), Path(run), settings=resolve(overrides=settings))
"""
LONG = "train.images=640"


def said(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "event" in line]


def killed(data: Path, run: Path, *, saved: int, step: int) -> None:
    """Train in a process that is killed at this step; saved: the step before which it writes a checkpoint."""
    command = [sys.executable, "-c", SCRIPT, str(data), str(run), str(saved), str(step), *SMALL, LONG]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL


def test_what_the_doctor_did_is_said_once_after_kill_9(
    make_prepared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "IMAGES_BETWEEN", 80)
    data, run = make_prepared(), tmp_path / "run"
    train(data, tmp_path / "whole", settings=options(LONG))
    killed(data, run, saved=15, step=45)
    before = [line["images"] for line in said(run)]
    assert max(before) > 120, "nothing was said after the checkpoint"
    killed(data, run, saved=35, step=65)
    train(data, run, settings=options(LONG))
    assert same(run, tmp_path / "whole")
    assert [line["images"] for line in said(run) if line["event"] == "resumed"] == [120, 280]
    assert [line for line in said(run) if line["event"] != "resumed"] == said(tmp_path / "whole")


@pytest.mark.parametrize(("after", "kept"), [
    ("step 90, step 100, mode collapse 100, rolled back 110, step 110", "step 90, step 100"),
    ("interrupted 100, resumed 100, mode collapse 110", "interrupted 100, resumed 100"),
    ("mode collapse 110, stopped 110, damaged checkpoint 100", "stopped 110, damaged checkpoint 100"),
    # Weights that were delivered are history; what was chosen for those that were not is chosen again.
    ("step 100, weights chosen 100, set aside 50, trained 100, resumed 100, weights chosen 100",
     "step 100, weights chosen 100, set aside 50, trained 100, resumed 100"),
])
def test_events_after_the_checkpoint_go_but_for_those_of_processes(after: str, kept: str, tmp_path: Path) -> None:
    def lines(texts: str) -> list[str]:
        named = [text.rpartition(" ") for text in texts.split(", ")]
        return [json.dumps({"event": name, "images": int(images)} if name != "step" else
                           {"step": 1, "images": int(images)}) for name, _, images in named]

    folder, path = RunFolder(tmp_path), tmp_path / "log.jsonl"
    before = lines("privacy 0, rolled back 120, step 80, mode collapse 90")
    path.write_text("\n".join(before) + "\n")
    logged = folder.logged()
    whole = "\n".join([*before, *lines(after)]) + '\n{"event": "cut'
    path.write_text(whole)
    folder.rewind(100, logged)
    assert path.read_text().splitlines() == before + lines(kept)
    path.write_text(whole)
    folder.rewind(100)  # of a checkpoint that does not say how far the log had come
    events = [line for line in before + lines(after) if "event" in line]
    assert [line for line in path.read_text().splitlines() if "event" in line] == events
