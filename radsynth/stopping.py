"""How a process is asked to stop, and its answer: SIGINT (Ctrl-C), SIGTERM (a batch system, a container, `kill`) or
SIGHUP (a closed terminal, a lost connection).

The command line ends with the exit code that shells give such an end: 128 and the signal's number.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from radsynth.errors import Interrupted
from radsynth.streams import let_go

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_PRESS = 1.0
"""Seconds in which several signals are one request: what is between (uv, make) passes on what the terminal has sent to
its whole group already."""

_asked: list[tuple[float, int]] = []
"""When, and by which signal, the command was asked to stop."""


def listen() -> None:
    """From now on the others are answered as SIGINT is: by one KeyboardInterrupt a request."""
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
    """That of a command which was asked to stop, 129, 130 or 143."""
    return 128 + (_asked[0][1] if _asked else signal.SIGINT)


def _again(number: int) -> bool:
    """Note a signal. Whether it belongs to a request that was made before."""
    now = time.monotonic()
    again = bool(_asked) and now - _asked[-1][0] <= ONE_PRESS
    _asked.append((now, number))
    return again


def _let_go_of_terminal() -> None:
    """What is written to a terminal that is gone is an error: from now on it goes nowhere."""
    for place in (1, 2):
        try:
            os.tcgetpgrp(place)
        except OSError as error:
            if error.errno == errno.EIO:
                let_go(place)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _let_go_of_terminal()
    if not _again(number):
        raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    if not _again(number):
        os._exit(exit_code())


@contextmanager
def stop_signals(first: Callable[[int], None]) -> Iterator[None]:
    """Call `first` with the first signal of SIGNALS that comes; Interrupted after a second SIGINT, at once.

    Files are whole or not there, so that the last checkpoint stays good. A second SIGTERM changes nothing: who sends it
    comes with SIGKILL next. SIGHUP stays ignored where it was (`nohup`). In another thread than the main one, which
    gets no signals, nothing changes.
    """
    begun: list[float] = []

    def answer(number: int, frame: FrameType | None) -> None:
        _let_go_of_terminal()
        _again(number)
        if not begun:
            begun.append(time.monotonic())
            first(number)
        elif number == signal.SIGINT and time.monotonic() - begun[0] > ONE_PRESS:
            raise KeyboardInterrupt  # which, unlike an error, nothing on the way takes for its own

    main = threading.current_thread() is threading.main_thread()
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
    before = {number: signal.signal(number, answer) for number in SIGNALS if main and number not in ignored}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("Stopped at once. Repeat the command to go on from the last checkpoint.") from None
    finally:
        for number, former in before.items():
            signal.signal(number, former)
