"""How a process is asked to stop, SIGINT (Ctrl-C) or SIGTERM (a batch system, a container, `kill`), and its answer.

The command line ends with the exit code that shells give such an end: 128 and the signal's number.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from radsynth.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_PRESS = 1.0
"""Seconds in which several signals are one request: what is between (uv, make) passes on what the terminal has sent to
its whole group already."""

_asked: list[tuple[float, int]] = []
"""When, and by which signal, the command was asked to stop."""


def listen() -> None:
    """From now on SIGTERM is answered as SIGINT is: by one KeyboardInterrupt a request."""
    _asked.clear()
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as of a command that a script started in the background
            signal.signal(number, _interrupt)


def stop_listening() -> None:
    """For the end of the process, where nobody takes a KeyboardInterrupt: another request ends it at once."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)


def exit_code() -> int:
    """That of a command which was asked to stop, 130 or 143."""
    return 128 + (_asked[0][1] if _asked else signal.SIGINT)


def _again(number: int) -> bool:
    """Note a signal. Whether it belongs to a request that was made before."""
    now = time.monotonic()
    again = bool(_asked) and now - _asked[-1][0] <= ONE_PRESS
    _asked.append((now, number))
    return again


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _again(number):
        raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    if not _again(number):
        os._exit(exit_code())


@contextmanager
def stop_signals(first: Callable[[int], None]) -> Iterator[None]:
    """Call `first` with the first SIGINT or SIGTERM that comes; Interrupted after a second SIGINT, at once.

    Files are whole or not there, so that the last checkpoint stays good. A second SIGTERM changes nothing: who sends it
    comes with SIGKILL next. In another thread than the main one, which gets no signals, nothing changes.
    """
    begun: list[float] = []

    def answer(number: int, frame: FrameType | None) -> None:
        _again(number)
        if not begun:
            begun.append(time.monotonic())
            first(number)
        elif number == signal.SIGINT and time.monotonic() - begun[0] > ONE_PRESS:
            raise KeyboardInterrupt  # which, unlike an error, nothing on the way takes for its own

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, answer) for number in SIGNALS if main}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("Stopped at once. Repeat the command to go on from the last checkpoint.") from None
    finally:
        for number, former in before.items():
            signal.signal(number, former)
