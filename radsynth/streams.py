"""stdout and stderr that take whatever comes, also where nobody reads them any more."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO


def open_streams() -> None:
    """Write into nothing where a stream was closed (`>&-`) or its terminal goes, and escape what its encoding lacks."""
    sys.stdout, sys.stderr = _opened(sys.stdout), _opened(sys.stderr)


def let_go(place: int) -> None:
    """Let what is written there, a file descriptor, go nowhere from now on."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, place)
    os.close(nothing)


class _Terminal(io.FileIO):
    """One that may be closed while a process goes on that ignores SIGHUP, or that its shell has let go (`disown`)."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            let_go(self.fileno())
            return len(data)


def _opened(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # of whoever runs the command line in a process of their own
    if not stream.isatty():
        stream.reconfigure(errors="backslashreplace")  # as stderr does
        return stream
    return io.TextIOWrapper(io.BufferedWriter(_Terminal(stream.fileno(), "w", closefd=False)), stream.encoding,
                            errors="backslashreplace", line_buffering=True)
