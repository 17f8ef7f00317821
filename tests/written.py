"""What tests write files with, whether these are still those that were written before, and what can have happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from radsynth.io import Provenance

FROM = Provenance(model="none", weights="", seed=0, index=0)
"""Where images come from of which that does not matter."""
LOSSES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink, "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20])}
"""What leaves a file that is not whole."""


def writings(folder: Path) -> dict[Path, tuple[int, int]]:
    """Which writing each file below a folder is, by its path there: its inode and its time, as some file systems
    give a removed file's inode to the next file."""
    states = {path.relative_to(folder): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (state.st_ino, state.st_mtime_ns) for path, state in states.items()}
