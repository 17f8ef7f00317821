"""Commands that are stopped by real signals: what they say, what they leave, and that the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth.settings import resolve
from radsynth.verbs.apply import apply
from radsynth.verbs.train import train
from tests.apply.examples import SMALL

Make = Callable[..., Path]


@contextmanager
def command(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "radsynth", *map(str, arguments)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        Pillow.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(folder / f"{k}.png")
    return folder


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_apply_says_what_is_kept_and_goes_on(how: signal.Signals, make_prepared: Make, tmp_path: Path) -> None:
    run = train(make_prepared(), tmp_path / "run", settings=resolve(overrides=(*SMALL, "task.kind=restore"))).path
    given, journal = pictures(tmp_path / "in", 600), tmp_path / ".out.part" / ".journal.jsonl"
    with command("apply", run, given, tmp_path / "out") as process:
        wait_for(process, lambda: journal.exists() and journal.read_bytes().count(b"\n") > 3)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert said.endswith("was whole. What is finished is kept: the same command goes on from there.\n"), said
    assert "Traceback" not in said and journal.exists() and not (tmp_path / "out").exists()
    made = {path: path.stat().st_ino for path in (tmp_path / ".out.part" / "images").iterdir() if path.name[0] != "."}
    assert apply(run, given, tmp_path / "out").count == 600
    images = tmp_path / "out" / "images"
    assert made and all((images / path.name).stat().st_ino == inode for path, inode in made.items())


def test_prepare_is_stopped_by_sigterm_with_its_workers(tmp_path: Path) -> None:
    given, out = pictures(tmp_path / "in", 1000), tmp_path / "out"
    with command("prepare", given, out, "prepare.shard=50") as process:
        wait_for(process, lambda: any(out.glob("shards/*.json")))
        process.terminate()
        _, said = process.communicate(timeout=30)  # which ends when no worker holds stderr any more
    assert process.returncode == 130, said
    assert said.endswith("radsynth: Interrupted. What is finished is kept: the same command goes on from there.\n")
    assert "Traceback" not in said and not (out / "manifest.json").exists()
