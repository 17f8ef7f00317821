"""Files that are whole or not there: written under a temporary name, forced to disk, renamed."""

from __future__ import annotations

import os
from pathlib import Path

from radsynth.errors import FolderError


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
