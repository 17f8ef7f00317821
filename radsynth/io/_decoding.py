"""Asks the decoding child (`_decoder`) for pixels: one a process, started when needed, replaced when it dies."""

from __future__ import annotations

import atexit
import json
import math
import os
import subprocess
import sys
import threading
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.io._limits import MAX_BYTES

TIME_LIMIT = 60.0
"""Seconds for one image, and more for large files; the slowest JPEG 2000 mammogram takes about five."""

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
            env={**os.environ, **threads},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends the child by closing its input
        )

    def alive(self) -> bool:
        """Usable by this process."""
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """The answer's head and its bytes; RejectedFile when the child died or took longer than `seconds`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        clock = threading.Timer(seconds, self.process.kill)
        clock.start()
        try:
            self.process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            self.process.stdin.flush()
            head: dict[str, Any] = json.loads(self.process.stdout.readline())
            payload = np.empty(min(head.get("bytes", 0), MAX_BYTES), np.uint8)
            if cast(BufferedReader, self.process.stdout).readinto(payload.data) < head.get("bytes", 0):
                raise EOFError
        except (OSError, ValueError, EOFError):
            waited = not clock.is_alive()
            self.close()
            reason = f"was stopped after {seconds:.0f} s" if waited else f"crashed ({self._death()})"
            raise RejectedFile(f"its pixels cannot be decoded: the decoder {reason}") from None
        finally:
            clock.cancel()
        return head, payload

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
