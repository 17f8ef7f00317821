"""The guard of the machine's memory: a clear end before the kernel's, and only where this process is the cause."""

from __future__ import annotations

import subprocess
import sys

from radsynth.errors import TrainingError
from radsynth.verbs._training.memory import shares

PROGRAM = """
import sys, time
from radsynth.verbs._training import memory
memory.shares = lambda: (float(sys.argv[1]), float(sys.argv[2]))
with memory.memory_guarded(lambda: "Memory ran out with 7 images at a time."):
    time.sleep(0.5)
print("went on")
"""


def guarded(left: float, ours: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, str(left), str(ours)], capture_output=True, text=True,
                          check=False, timeout=60)


def test_a_process_that_takes_all_memory_says_so_and_ends() -> None:
    done = guarded(0.01, 0.9)
    assert (done.returncode, done.stdout) == (TrainingError.exit_code, "")
    assert done.stderr == "radsynth: Memory ran out with 7 images at a time.\n"


def test_what_others_take_and_what_is_left_end_nothing() -> None:
    assert guarded(0.01, 0.1).stdout == guarded(0.5, 0.4).stdout == "went on\n"


def test_the_machine_tells_its_shares() -> None:
    left, ours = shares()
    assert 0 < left <= 1.01 and 0 <= ours < 1  # free memory and swap together may be a little more than the memory
