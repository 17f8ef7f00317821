"""Asks the decoding child (`_dicom_worker`) for frames: one a process, started when needed, replaced when it dies."""

from __future__ import annotations

import atexit
import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile

TIME_LIMIT = 60.0
"""Seconds for one frame; the slowest JPEG 2000 mammogram takes about five."""


def has_gdcm() -> bool:
    """Is the extra decoder for JPEG Lossless and 12-bit JPEG installed?"""
    return importlib.util.find_spec("gdcm") is not None


class Child:
    """A running decoder that belongs to this process (not to the process that it was forked from)."""

    def __init__(self) -> None:
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "radsynth.io._dicom_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **threads},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends the child by closing its input
        )

    def alive(self) -> bool:
        """Usable by this process."""
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The answer's head and its pixels; RejectedFile when the child died or took too long."""
        assert self.process.stdin is not None and self.process.stdout is not None
        clock = threading.Timer(TIME_LIMIT, self.process.kill)
        clock.start()
        try:
            self.process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            self.process.stdin.flush()
            head: dict[str, Any] = json.loads(self.process.stdout.readline())
            payload = self.process.stdout.read(head.get("bytes", 0))
            if len(payload) < head.get("bytes", 0):
                raise EOFError
        except (OSError, ValueError, EOFError):
            waited = not clock.is_alive()
            self.close()
            reason = f"was stopped after {TIME_LIMIT:.0f} s" if waited else f"crashed ({self._death()})"
            raise RejectedFile(f"its compressed pixels cannot be decoded: the decoder {reason}") from None
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


def decode(path: str, frame: int | None, expected: tuple[int, ...]) -> NDArray[Any]:
    """One frame of a compressed file as stored, of the `expected` shape (rows, columns[, 3]), or RejectedFile.

    None: all frames at once, (frames, rows, columns[, 3]).
    """
    global _child
    with _lock:
        if _child is None or not _child.alive():
            if _child is None:
                atexit.register(_close)
            _child = Child()
        head, payload = _child.ask({"path": os.path.abspath(path), "frame": frame, "gdcm": has_gdcm()})
    if "error" in head:
        raise RejectedFile(f"its compressed pixels cannot be decoded: {' '.join(head['error'].split())[:300]}")
    shape, dtype = tuple(head["shape"]), np.dtype(head["dtype"])
    if frame is None and len(shape) == len(expected) - 1:
        shape = (1, *shape)  # pydicom leaves the axis out where there is one frame
    if shape != expected or math.prod(shape) * dtype.itemsize != len(payload):
        raise RejectedFile(f"its compressed pixels have the shape {shape}, its header says {expected}")
    return np.frombuffer(payload, dtype=dtype).reshape(shape)


def _close() -> None:
    if _child is not None and _child.owner == os.getpid():
        _child.process.kill()
        _child.close()
