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


def test_details_of_a_fault_are_shown_where_no_file_can_hold_them() -> None:
    code = ("import os, tempfile\nfrom radsynth import cli\n"
            "def app(args): raise KeyError('wall')\n"
            "cli.app, tempfile.mkstemp = app, lambda **_: (os.open('/dev/full', os.O_WRONLY), 'full')\n"
            "cli.main()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={name: value for name, value in os.environ.items() if name != "RADSYNTH_DEBUG"})
    assert done.returncode == 1 and "line 3, in app" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == "radsynth: unexpected KeyError: 'wall' - a fault of radsynth; details are above"
