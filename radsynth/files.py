"""Files that are whole or not there: written under a temporary name, forced to disk, renamed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from radsynth.errors import FolderError

LOCK = ".lock"
"""The file of a folder that `locked` holds. It stays: a lock on a file that is being deleted keeps nobody out."""

PATIENCE = 2.0
"""Seconds that a lock is waited for: workers of a process that was killed live on for up to half a second."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file (text as UTF-8). FolderError when that fails (disk full, ...); nothing is left then."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FolderError(
            f"{path} could not be written: {error.strerror} ({len(data) / 1e6:.1f} MB needed). What was written before "
            "is kept. Free some space or check the permissions, then repeat the command: it goes on from there."
        ) from None


@contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Make the folder and keep other processes out of it; FolderError with the text `busy` when one is in.

    The kernel ends the lock when this process and the workers that it forked have ended, however they did.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w", encoding="ascii")
    except OSError as error:
        raise FolderError(f"{folder} cannot be written: {error.strerror}.") from None
    with file:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise FolderError(busy) from None
                time.sleep(0.1)
        yield
