"""Ends a training with a clear text before Linux, which promises more memory than there is, kills it without a word."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from radsynth.errors import TrainingError

SECONDS = 0.1
"""Between two looks. Memory is filled at some GB/s at most."""
LEAST = 0.04
"""Share of the machine's memory that has to be left."""
OURS = 0.25
"""Share of it that this process must have itself: what others take is not its fault."""


@contextmanager
def memory_guarded(advice: Callable[[], str]) -> Iterator[None]:
    """Within it, end the process with `advice()` on stderr and a TrainingError's code when memory runs out.

    An exception would come too late: it could only be raised between two operations, and one can take all that is left.
    Where the machine says nothing of its memory (other than Linux) nothing happens.
    """
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(ended, advice), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch(ended: threading.Event, advice: Callable[[], str]) -> None:
    while not ended.wait(SECONDS):
        left, ours = shares()
        if left < LEAST and ours > OURS:
            print(f"radsynth: {advice()}", file=sys.stderr, flush=True)
            os._exit(TrainingError.exit_code)


def shares() -> tuple[float, float]:
    """Shares of the machine's memory (or of what its control group may use) that are left and that this process has."""
    try:
        known = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        total, free, swap = (int(known[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable", "SwapFree"))
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, KeyError, ValueError):
        return 1.0, 0.0
    limit, left = _group()
    if limit < total:
        return min(left / limit, (free + swap) / total), resident / limit
    return (free + swap) / total, resident / total


def _group() -> tuple[float, float]:
    """Bytes that this process's control group may use, and those left; infinite where there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        cached = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return limit, limit - used + int(cached.get("inactive_file", 0))
    except (OSError, ValueError):
        return float("inf"), float("inf")
