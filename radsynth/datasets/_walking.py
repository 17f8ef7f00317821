"""The files below a folder, in an archive, or a single one: broken links and loops are told, none is opened.

Runs often lie below their data (`cd scans; radsynth run .`): their folders are left out, and so are what
radsynth writes beside images (tables, cards) and other versions of the scans in data after BIDS.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from radsynth.datasets import Rejected
from radsynth.datasets._archives import is_archive, unpack
from radsynth.datasets._layout import printable
from radsynth.errors import DataError, RejectedFile
from radsynth.files import is_unfinished, own_files, own_folder
from radsynth.io import detect

VERSIONS = ("derivatives", "sourcedata")
"""Folders in which BIDS keeps what was made of the scans beside them, and what these were made of."""


def files_below(path: Path, rejected: list[Rejected]) -> tuple[Path, list[str]]:
    """(root, names of all files below it, sorted)."""
    if not path.exists():
        raise DataError(f"{path} does not exist. Give a folder, an archive (zip, tar) or an image file.")
    if not holds_files(path):
        return path.parent, [path.name]
    path = path if path.is_dir() else unpack(path)
    names: list[str] = []
    _walk(path, "", {_identity(path)}, names, rejected)
    return path, sorted(names)


def without_data_files(root: Path, files: Iterable[str], rejected: list[Rejected]) -> None:
    """Take out the lines of files that are no images by themselves but hold the pixels of one (x.raw of x.mhd)."""
    used = {printable(os.path.relpath(file, root)) for file in files}
    if used:
        rejected[:] = [line for line in rejected if line.path not in used]


def holds_files(path: Path) -> bool:
    """A folder or an archive; an npz file is an image, though it is a zip file as well."""
    return path.is_dir() or (not _is_image(path) and is_archive(path))


def _is_image(path: Path) -> bool:
    try:
        return bool(detect(path))
    except RejectedFile:
        return False


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def _walk(folder: Path, prefix: str, above: set[tuple[int, int]], names: list[str], rejected: list[Rejected]) -> None:
    """All files below `folder`. Links to folders are followed unless they lead back up."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        rejected.append(
            Rejected(path=printable(prefix) or ".", reason=f"the folder cannot be opened: {error.strerror}")
        )
        return
    there = {entry.name for entry in entries}
    kind, leaflets = own_folder(there) if prefix else "", own_files(there)
    bids = any(name.startswith("sub-") for name in there)
    if kind:
        reason = f"a {kind} folder of radsynth's, whose images are not those of the data"
        rejected.append(Rejected(path=printable(prefix.rstrip("/")), reason=reason, skipped=True))
        return
    for entry in (entry for entry in entries if entry.name not in leaflets):
        name = prefix + entry.name
        if is_unfinished(entry.name):
            reason = "what a command of radsynth has not finished"
            rejected.append(Rejected(path=printable(name), reason=reason, skipped=True))
            continue
        try:
            if not entry.is_dir():
                names.append(name)
                continue
            own = _identity(Path(entry.path))
        except OSError as error:
            rejected.append(Rejected(path=printable(name), reason=f"it cannot be opened: {error.strerror}"))
            continue
        if own in above:
            rejected.append(Rejected(path=printable(name), reason="it links back to a folder above it", skipped=True))
        elif bids and entry.name in VERSIONS:
            reason = ("other versions of the scans beside it, or their masks, as BIDS keeps them: give its own path to "
                      "use these instead, and copy masks that are to be used beside their scans")
            rejected.append(Rejected(path=printable(name), reason=reason, skipped=True))
        else:
            _walk(Path(entry.path), name + "/", above | {own}, names, rejected)
