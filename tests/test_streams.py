"""What real processes of the command line write to their streams, also where nobody reads them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_real_process_ends_without_traceback(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "radsynth", "show", "settings", "nonesuch"]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("radsynth: There is no section or kind 'nonesuch'")


def test_a_closed_pipe_ends_it_as_other_programs_are_ended() -> None:
    with subprocess.Popen([sys.executable, "-m", "radsynth", "show", "kinds"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(("words", "code"), [("kinds >&-", 0), ("kinds nonesuch 2>&-", 2)])
def test_a_stream_that_was_closed_is_written_in_vain(words: str, code: int) -> None:
    done = subprocess.run(f"{sys.executable} -m radsynth show {words}", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_characters_that_the_terminal_lacks_are_escaped() -> None:
    done = subprocess.run([sys.executable, "-m", "radsynth", "show", "kinds", "metrics"], capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"") and b"Fr\\xe9chet radiomic distance" in done.stdout
