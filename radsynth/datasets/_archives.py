"""Zip and tar archives, unpacked into a temporary folder that ends with the process. Archives are not trusted."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from radsynth.datasets import Rejected
from radsynth.datasets._layout import printable
from radsynth.errors import DataError
from radsynth.files import scratch_folder
from radsynth.progress import track

MAX_FILES = 2_000_000
MAX_RATIO = 300
"""Expansion above which an entry (zip) or the whole (tar) counts as a bomb, asked only above MIN_BYTES."""

MIN_BYTES = 2 * 2**20
BLOCK = 2**20
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
GLANCE = 5000
"""Names of an archive that are looked at to recognise a data set: a compressed tar must be read to be listed."""


def is_archive(path: Path) -> bool:
    """A zip file or a tar file (also compressed), by its content."""
    return path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def unpack(path: Path) -> Path:
    """The folder with the archive's files, unpacked once a process. DataError when the archive is refused."""
    state = path.stat()
    return _unpack(path.resolve(), state.st_size, state.st_mtime_ns)


def listed(path: Path) -> Iterator[str]:
    """Names of the first files in an archive, or in each archive directly in a folder. Nothing is unpacked."""
    for archive in filter(is_archive, _packed_in(path) if path.is_dir() else [path]):
        state = archive.stat()
        yield from _names(archive.resolve(), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _names(archive: Path, size: int, modified: int) -> tuple[str, ...]:
    """Read once, because every kind of data set asks, and a compressed tar takes minutes. () for what is damaged."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened_zip:
                return tuple(opened_zip.namelist()[:GLANCE])
        with tarfile.open(archive) as opened_tar:  # seeks past the files' content where it is not compressed
            entries = itertools.islice(opened_tar, GLANCE)
            return tuple(entry.name for entry in track(entries, label=f"looking into {archive.name}", unit="files"))
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, ValueError):
        return ()  # unpacking says what is wrong


def opened(path: Path, rejected: list[Rejected]) -> Path:
    """The folder to look into: an archive unpacked, or a folder together with what the archives directly in it hold.

    Each archive of a folder appears as a folder with its name without ending. One beside a folder of that name was
    unpacked before and is left alone; where fewer files lie there than in it, `rejected` says so. DataError when an
    archive is refused, or cut short on its way.
    """
    if not path.is_dir():
        return unpack(path) if is_archive(path) else path
    if broken := [archive for archive in _packed_in(path) if not is_archive(archive)]:
        raise DataError(f"{broken[0]} cannot be opened as the archive that its name promises: it may have been cut "
                        "short on its way. Fetch it again, or move it out of the folder.")
    rejected += [Rejected(path=printable(name), reason=reason, skipped=True)
                 for name in _named_as_archives(path) if (reason := half_unpacked(path / name))]
    packed = tuple((archive, archive.stat().st_mtime_ns) for archive in _packed_in(path))
    return _merged(path.resolve(), packed) if packed else path


def _packed_in(folder: Path) -> list[Path]:
    """The files that are named as archives and were not unpacked beside them, sorted."""
    return [folder / name for name in _named_as_archives(folder) if not (folder / _stem(name)).exists()]


def _named_as_archives(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder)
                      if entry.name.lower().endswith(ENDINGS) and not entry.is_dir())
    except OSError:
        return []


def half_unpacked(archive: Path) -> str:
    """What to say of an archive that holds more files than the folder of its name beside it; "" of others, and of a
    compressed tar, which must be read as a whole to be counted."""
    folder = archive.parent / _stem(archive.name)
    if not folder.is_dir():
        return ""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened_zip:
                inside = [entry.filename for entry in opened_zip.infolist() if not entry.is_dir()]
        else:
            with tarfile.open(archive, "r:") as opened_tar:
                inside = [entry.name for entry in opened_tar if entry.isfile()]
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, ValueError):
        return ""
    count = sum(not name.startswith("__MACOSX/") for name in inside)
    there = sum(len(files) for _, _, files in os.walk(folder))
    if there >= count:
        return ""
    return (f"an archive of {count:,} files beside a folder of its name with {there:,}: if unpacking stopped half way, "
            "unpack it again")


def _stem(name: str) -> str:
    return name[: -max(len(ending) for ending in ENDINGS if name.lower().endswith(ending))]


@functools.lru_cache(maxsize=8)
def _merged(folder: Path, packed: tuple[tuple[Path, int], ...]) -> Path:
    """A temporary folder of links to the folder's entries and to its unpacked archives."""
    archives = {archive.name for archive, _ in packed}
    parts = {_stem(archive.name): unpack(archive) for archive, _ in packed}
    whole = scratch_folder()
    parts |= {entry.name: folder / entry.name for entry in os.scandir(folder) if entry.name not in archives}
    for name, target in parts.items():
        (whole / name).symlink_to(target)
    return whole


FEW = 16
"""Folders of each level that are searched for a data set's own."""


def find_folders(root: Path, wanted: Callable[[Path], bool], levels: int = 4) -> list[Path]:
    """Folders that are `wanted`, sorted, at most `levels` below the root; what lies in a wanted one is not asked."""
    try:
        below = sorted(Path(entry.path) for entry in os.scandir(root) if entry.is_dir())
    except OSError:
        return []
    found = [folder for folder in below if wanted(folder)]
    if levels > 1:
        others = [folder for folder in below if folder not in set(found)]
        found += [deeper for folder in others[:FEW] for deeper in find_folders(folder, wanted, levels - 1)]
    return found


@functools.lru_cache(maxsize=64)
def _unpack(path: Path, size: int, modified: int) -> Path:
    folder = scratch_folder()
    try:
        if zipfile.is_zipfile(path):
            _unpack_zip(path, folder)
        else:
            _unpack_tar(path, folder, size)
    except DataError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        tarfile.TarError,
        ValueError,
    ) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"{path} cannot be unpacked: {error}. Unpack it yourself and give the folder.") from None
    return folder


def _refuse(archive: Path, entry: str, reason: str) -> DataError:
    return DataError(f"{archive} is refused: its entry {entry!r} {reason}. Nothing of it was used.")


def _target(archive: Path, folder: Path, name: str) -> Path:
    """Where an entry goes; DataError for absolute names and for names that climb out of the folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise _refuse(archive, name, "would be written outside the folder")
    return folder.joinpath(*parts)


def _check_space(archive: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free * 0.9:
        raise DataError(
            f"{archive} unpacks to {needed:,} bytes, but {tempfile.gettempdir()} has only {free:,} free. "
            "Unpack it elsewhere and give the folder, or set TMPDIR."
        )


def _unpack_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_FILES:
            raise DataError(f"{path} is refused: it has {len(entries):,} entries; the limit is {MAX_FILES:,}")
        for entry in entries:
            _target(path, folder, entry.filename)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refuse(path, entry.filename, "is a link or a device")
            if entry.flag_bits & 1:
                raise _refuse(path, entry.filename, "is encrypted")
            if entry.file_size > MIN_BYTES and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
                ratio = entry.file_size // max(entry.compress_size, 1)
                raise _refuse(
                    path, entry.filename, f"grows {ratio} times when unpacked: it may be a decompression bomb"
                )
        _check_space(path, folder, sum(entry.file_size for entry in entries))
        for entry in track(entries, label=f"unpacking {path.name}", unit="files"):
            if not entry.filename.endswith(("/", "\\")):  # some programs of Windows end folders so
                with archive.open(entry) as source:
                    _copy(path, entry.filename, source, _target(path, folder, entry.filename), entry.file_size)


def _unpack_tar(path: Path, folder: Path, size: int) -> None:
    total = files = 0
    with tarfile.open(path, mode="r|*") as archive:
        for entry in track(archive, label=f"unpacking {path.name}", unit="files"):
            if entry.isdir():
                continue
            target = _target(path, folder, entry.name)
            if not entry.isreg():
                raise _refuse(path, entry.name, "is a link or a device")
            total, files = total + entry.size, files + 1
            if total > MIN_BYTES and total > MAX_RATIO * size:
                raise _refuse(path, entry.name, f"brings the whole to {total // size} times its size: it may be a bomb")
            if files > MAX_FILES:
                raise DataError(f"{path} is refused: it has more than {MAX_FILES:,} entries")
            _check_space(path, folder, entry.size)
            source = archive.extractfile(entry)
            assert source is not None
            _copy(path, entry.name, source, target, entry.size)


def _copy(archive: Path, name: str, source: IO[bytes], target: Path, size: int) -> None:
    """At most `size` bytes, whatever the entry's stream goes on to give."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        left = size
        while left > 0 and (block := source.read(min(BLOCK, left))):
            file.write(block)
            left -= len(block)
        if left > 0 or source.read(1):
            raise _refuse(archive, name, "does not have the size that the archive says")
    when = archive.stat().st_mtime_ns  # the same archive gives the same files: `prepare` asks for their times
    os.utime(target, ns=(when, when))
