"""Commands that are stopped by real signals: what they say, what they leave, and that the same command goes on."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth.checkpoints import load_checkpoint
from radsynth.settings import resolve
from radsynth.verbs.apply import apply
from radsynth.verbs.train import train
from tests import trained
from tests.apply.examples import SMALL
from tests.written import writings

Make = Callable[..., Path]
SLOW = """
import os, sys, time
from pathlib import Path
from radsynth.cli import main
from radsynth.verbs._training.loop import Loop

run, where = Path(sys.argv[3]), sys.argv.pop()
take_step, save = Loop.take_step, Loop.save

def linger(seconds):
    (run / "slow").touch()
    for _ in range(10 * seconds):
        time.sleep(0.1)

def step(loop):
    if loop.step == 3:
        save(loop)
    if loop.step == 6:
        linger(60 if where == "step" else 2)
        if where == "save":
            os.fsync = lambda file: linger(60)  # the tensors are written, and lie under a temporary name
    return take_step(loop)

Loop.take_step = step
main()
"""
"""A training whose seventh step takes a minute; "save": not the step, but what is saved when it is to stop then."""


@contextmanager
def command(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process of its own."""
    how = ["-c", SLOW] if arguments[0] == "train" else ["-m", "radsynth"]
    process = subprocess.Popen([sys.executable, *how, *map(str, arguments)], stdout=subprocess.DEVNULL,
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
    assert process.returncode == 128 + how, said
    assert said.endswith("was whole. What is finished is kept: the same command goes on from there.\n"), said
    assert "Traceback" not in said and journal.exists() and not (tmp_path / "out").exists()
    # Of those that the journal names: the one under way may be there without a line, and is made again.
    files = [row["file"] for line in journal.read_text().splitlines()[1:] for row in json.loads(line)]
    before = writings(tmp_path / ".out.part")
    made = {Path(file): before[Path(file)] for file in files}
    assert apply(run, given, tmp_path / "out").count == 600
    assert len(made) >= 3 and made.items() <= writings(tmp_path / "out").items()


def test_prepare_is_stopped_by_sigterm_with_its_workers(tmp_path: Path) -> None:
    given, out = pictures(tmp_path / "in", 1000), tmp_path / "out"
    with command("prepare", given, out, "prepare.shard=50") as process:
        wait_for(process, lambda: any(out.glob("shards/*.json")))
        process.terminate()
        _, said = process.communicate(timeout=30)  # which ends when no worker holds stderr any more
    assert process.returncode == 143, said
    assert said.endswith("radsynth: Stopped. What is finished is kept: the same command goes on from there.\n")
    assert "Traceback" not in said and not (out / "manifest.json").exists()


@pytest.mark.skipif(not shutil.which("setsid"), reason="setsid (util-linux) gives a process a terminal of its own")
@pytest.mark.parametrize("how", ["", "nohup", "disown"])
def test_a_closed_terminal_saves_and_stops_unless_told_to_go_on(how: str, make_prepared: Make, tmp_path: Path) -> None:
    """disown: where no SIGHUP comes, and what is told is still written to the terminal."""
    run, (terminal, inside) = tmp_path / "run", pty.openpty()
    arguments = ["train", str(make_prepared()), str(run), *trained.SMALL, "train.images=160", "short"]
    before = ["setsid", "--ctty", *(["nohup"] if how == "nohup" else [])]
    answer = signal.SIG_IGN if how == "disown" else signal.SIG_DFL  # whatever it is here, as under nohup
    process = subprocess.Popen([*before, sys.executable, "-c", SLOW, *arguments], stdin=inside, stdout=inside,
                               stderr=inside, text=True, cwd=tmp_path,
                               preexec_fn=lambda: signal.signal(signal.SIGHUP, answer))
    try:
        os.close(inside)
        wait_for(process, (run / "slow").exists)
        os.close(terminal)
        assert process.wait(timeout=60) == (0 if how else 128 + signal.SIGHUP)
    finally:
        process.kill()
        process.wait()
    found = load_checkpoint(run / "checkpoints")
    assert found and found[0]["images"] == (160 if how else 56)
    assert trained.events(run) == (["trained"] if how else ["interrupted"])


@pytest.mark.parametrize("where", ["step", "save"])
def test_a_second_ctrl_c_stops_training_at_once(where: str, make_prepared: Make, tmp_path: Path) -> None:
    data, run = make_prepared(), tmp_path / "run"
    settings = (*trained.SMALL, "train.images=160", "train.checkpoint_minutes=1000")
    with command("train", data, run, *settings, where) as process:
        assert process.stderr
        wait_for(process, (run / "slow").exists)
        (run / "slow").unlink()
        for _ in range(2):  # as where something between passes on what the terminal has sent already
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert "Ctrl-C again stops at once" in process.stderr.readline()
        if where == "save":
            wait_for(process, (run / "slow").exists)
            assert list(run.rglob("*.part"))
        time.sleep(1.5)
        assert process.poll() is None, "the step is not finished"
        process.send_signal(signal.SIGTERM)  # no second Ctrl-C
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in said, said
    assert said.endswith("radsynth: Stopped at once. Repeat the command to go on from the last checkpoint.\n")
    assert not list(run.rglob("*.part"))
    found = load_checkpoint(run / "checkpoints")
    assert found and found[0]["images"] == 24 and not found[2], "the last good one"
    for folder in (run, tmp_path / "whole"):
        train(data, folder, overrides=settings)
    assert trained.events(run) == ["resumed", "trained"] and trained.same(run, tmp_path / "whole")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_after_one_signal_the_step_is_finished_and_saved(how: signal.Signals, make_prepared: Make, tmp_path: Path,
                                                         ) -> None:
    run = tmp_path / "run"
    with command("train", make_prepared(), run, *trained.SMALL, "train.images=160", "short") as process:
        wait_for(process, (run / "slow").exists)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + how and trained.events(run) == ["interrupted"]
    assert "after 56 images. Repeat the command to go on." in said and said.count("again stops at once") == 1
    found = load_checkpoint(run / "checkpoints")
    assert found and found[0]["images"] == 56


ENDING = """
import atexit, time
from radsynth import cli

def linger():
    print("ending", flush=True)
    for _ in range(100):
        time.sleep(0.1)

atexit.register(linger)
def work(**given):
    print("working", flush=True)
    time.sleep(100)

cli.app = work
cli.main()
"""
"""A command whose end takes ten seconds."""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_process_ends_leaves_no_traceback(how: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDING], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == "working\n"
        for _ in range(2):  # passed on by what is between, beside the terminal's own
            process.send_signal(how)
            time.sleep(0.05)
        assert process.stdout.readline() == "ending\n"
        process.send_signal(how)
        time.sleep(1.5)
        assert process.poll() is None, "one request"
        process.send_signal(how)
        _, said = process.communicate(timeout=5)
    finally:
        process.kill()
    assert process.returncode == 128 + how and said == "radsynth: Stopped.\n"


LOADING = """
import os, runpy, signal, sys

class Stops:
    def find_spec(self, name, *more):
        if name == "radsynth.cli.learning":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Stops())
runpy.run_module("radsynth", run_name="__main__")
"""
"""A command that is stopped while the command line is loaded."""


def test_ctrl_c_before_the_command_line_is_loaded_leaves_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", LOADING, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT and not done.stdout + done.stderr
    with Path(__file__).parents[1].joinpath("pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["scripts"] == {"radsynth": "radsynth.__main__:main"}
