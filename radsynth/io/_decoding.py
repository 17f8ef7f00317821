"""Asks the decoding child (`_decoder`) for pixels: one a process, started when needed, replaced when it dies."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import math
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.io._decoder import HEAD_BYTES
from radsynth.io._limits import MAX_BYTES, MAX_HEADER

TIME_LIMIT = 60.0
"""Seconds for one image, and more for large files; the slowest JPEG 2000 mammogram takes about five."""

PIPE_BYTES = 2**20
"""What the pipe of the answers holds, where the system lets it be set; a CT slice has half of it."""

SLOWEST = 5e6
"""Bytes of a file that are decoded in one more second, at least."""


class Child:
    """A running decoder that belongs to this process (not to the process that it was forked from)."""

    def __init__(self) -> None:
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "radsynth.io._decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **threads},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends the child by closing its input
        )
        assert self.process.stdout is not None
        self.answers = select.poll()
        self.answers.register(self.process.stdout.fileno(), select.POLLIN)
        with contextlib.suppress(AttributeError, OSError):  # Linux: a slice in one piece, not in many of 64 kB
            fcntl.fcntl(self.process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def alive(self) -> bool:
        """Usable by this process."""
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """The answer's head and its bytes; RejectedFile when the child died or took longer than `seconds`."""
        assert self.process.stdin is not None
        deadline, whole = time.monotonic() + seconds, False
        try:
            self.process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            length = int.from_bytes(self._receive(HEAD_BYTES, deadline).tobytes(), "little")
            head: dict[str, Any] = json.loads(self._receive(min(length, MAX_HEADER), deadline).tobytes())
            payload = self._receive(min(head.get("bytes", 0), MAX_BYTES), deadline)
            whole = True
        except (OSError, ValueError, EOFError) as error:
            waited = isinstance(error, TimeoutError)
            if waited:
                self.process.kill()
            self.close()
            reason = f"was stopped after {seconds:.0f} s" if waited else f"crashed ({self._death()})"
            raise RejectedFile(f"its pixels cannot be decoded: the decoder {reason}") from None
        finally:
            if not whole:  # the rest of this answer must not be taken for the next one's
                self.process.kill()
        return head, payload

    def _receive(self, count: int, deadline: float) -> NDArray[np.uint8]:
        """So many bytes of the answer. TimeoutError after the deadline, EOFError when the child ends before."""
        assert self.process.stdout is not None
        values, there = np.empty(count, np.uint8), 0
        while there < count:
            left = deadline - time.monotonic()
            if left <= 0 or not self.answers.poll(left * 1000):
                raise TimeoutError
            new = self.process.stdout.readinto(values[there:].data)  # type: ignore[attr-defined]
            if not new:
                raise EOFError
            there += new
        return values

    def _death(self) -> str:
        code = self.process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def close(self) -> None:
        """End the child."""
        if self.owner != os.getpid():
            return
        try:
            self.process.wait(timeout=1 if self.process.poll() is None else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


_child: Child | None = None
_lock = threading.Lock()


def decode(kind: str, path: str | Path, **options: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    """What the child's function `kind` gives for a file: an array, and facts beside it. RejectedFile when it fails."""
    global _child
    path = os.path.abspath(path)
    seconds = TIME_LIMIT + os.path.getsize(path) / SLOWEST
    with _lock:
        if _child is None or not _child.alive():
            if _child is None:
                atexit.register(_close)
            _child = Child()
        head, payload = _child.ask({"kind": kind, "path": path, **options}, seconds)
    if "rejected" in head:
        raise RejectedFile(head["rejected"])
    if "error" in head:
        raise RejectedFile(f"its pixels cannot be decoded: {' '.join(head['error'].split())[:300]}")
    shape, dtype = tuple(head["shape"]), np.dtype(head["dtype"])
    if math.prod(shape) * dtype.itemsize != len(payload):
        raise RejectedFile(f"its pixels cannot be decoded: {len(payload)} bytes came for the shape {shape}")
    return payload.view(dtype).reshape(shape), head["facts"]


def _close() -> None:
    if _child is not None and _child.owner == os.getpid():
        _child.process.kill()
        _child.close()
