"""Files and folders that are whole or not there: written under a temporary name, forced to disk, renamed.

And temporary folders, which end with their process even when it is killed.
"""

from __future__ import annotations

import atexit
import csv
import errno
import functools
import io
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from radsynth.errors import FolderError, Interrupted

LOCK = ".lock"
"""The file of a folder that `locked` holds. It stays: a lock on a file that is being deleted keeps nobody out."""

SCRATCH = "radsynth-scratch-"
"""What names of temporary folders begin with that end with their process."""

PATIENCE = 2.0
"""Seconds that a lock is waited for: workers of a process that was killed live on for up to half a second."""

_BEGUN = os.urandom(4).hex()
"""Tells this process from earlier ones of the same number, which in a container may be 1 each time."""

OWN_FILES = {"generate.json": ("README.md", "CLAIM.md", "samples.csv", "copy_filter.json"),
             "apply.json": ("samples.csv", "rejected.csv", "report.html"),
             "inspection.json": ("inspect.html", "rejected.csv", "settings.yaml"), "pull.csv": (), "push.csv": ()}
"""What radsynth leaves in folders that are other people's, or of images that it made -> what it writes beside it."""


class NotWritten(FolderError):
    """A file that could not be written whole; its cause is what the operating system says."""


def own_folder(names: Container[str]) -> str:
    """What radsynth made a folder for that holds these: "run", "prepared", "explanation" or "" for any other folder."""
    if ("spec.json" in names and "settings.yaml" in names) or ("plan.json" in names and "inspection.json" in names):
        return "run"
    if "explain.json" in names or ("control.json" in names and "directions.npz" in names):
        return "explanation"
    return "prepared" if "shards" in names and ("manifest.json" in names or "begun.json" in names) else ""


def own_files(names: Container[str]) -> set[str]:
    """Those files of a folder that are no data but radsynth's tables, cards and notes."""
    return {file for first, others in OWN_FILES.items() if first in names for file in (first, *others) if file in names}


def check_writable(folder: Path) -> None:
    """FolderError for an output folder that cannot be made or written, before hours are spent on what it is to hold."""
    _check_place(Path(folder), Path(folder).absolute())


def is_free(out: Path) -> bool:
    """Whether a new folder can take its place: it is missing, or an empty folder."""
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def check_new(out: Path) -> None:
    """The same for a folder of `whole_folder`, which is begun beside it; not for one that holds something already."""
    if is_free(out):
        _check_place(out, _place_of(out, there=False).parent)


def _check_place(folder: Path, place: Path) -> None:
    """FolderError, which names `folder`, where nothing can be written in `place`."""
    there = next(one for one in (place, *place.parents) if os.path.exists(one))
    if not _in_utf8(str(folder)):
        why = "its name is not written in UTF-8"
    elif not there.is_dir():
        why = f"{there} is a file"
    elif not os.access(there, os.W_OK | os.X_OK):
        why = f"there is no permission to write in {there}"
    else:
        return
    raise FolderError(f"{folder} cannot be written: {why}. Choose another output folder.")


def _in_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8, as names on disks of old systems cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_atomically(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a whole file (text as UTF-8). FolderError when that fails (disk full, ...); nothing is left then.

    mode: who may read and write it from its first moment on, less what the umask forbids
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = temporary_of(path)
    try:
        with open(temporary, "wb", opener=functools.partial(os.open, mode=mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        clear_killed(path)
    except BaseException as error:
        with suppress(OSError):  # a disk for reading alone, which refuses this too: its first refusal is what is told
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: a limit on the size of files
        needed, todo = ((f" ({-(-len(data) // 1000):,} kB needed)", "Free some space") if full
                        else ("", "Check the disk and the permissions"))
        raise NotWritten(f"{path} could not be written: {error.strerror or error}{needed}. What was written before is "
                         f"kept. {todo}, then repeat the command: it goes on from there.") from error


def write_csv(path: Path, head: Iterable[str], lines: Iterable[Iterable[object]]) -> None:
    """Write a whole table; errors as of `write_atomically`."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(head)
    table.writerows(lines)
    write_atomically(path, text.getvalue())


def temporary_of(path: Path) -> Path:
    """Where to write a file until it is whole: beside it, under a name that is nobody else's; see `clear_killed`."""
    return path.with_name(f".{path.name}.{os.getpid()}.{_BEGUN}.{threading.get_ident()}.part")


def is_unfinished(name: str) -> bool:
    """Whether this is the name of what a command has not finished: see `temporary_of` and `whole_folder`."""
    return name.startswith(".") and name.endswith(".part")


def clear_killed(path: Path) -> None:
    """Remove what processes left that were killed while they wrote this file: it may be large, or show patients."""
    before = f".{path.name}."
    with suppress(OSError):  # no folder yet, or one that nobody may list
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(before) and entry.name.endswith(".part")]
        for name in names:
            process, _, rest = name.removeprefix(before).partition(".")
            earlier = process == str(os.getpid()) and not rest.startswith(_BEGUN)
            if process.isdecimal() and (earlier or not _running(int(process))):
                left = path.with_name(name)
                if left.is_dir():  # of `replacing`
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


@contextmanager
def replacing(document: Path, earlier: Iterable[Path] = ()) -> Iterator[Path]:
    """A folder for a new document, such as a results.json, and the files that it tells of. In the end they take the
    place of the earlier ones, which stay as they are after an error, such as a full disk.

    earlier: files that go with the earlier document
    It goes first, and the new one comes last: a command that is killed in between leaves none that tells of another
    one's pictures.
    """
    partial = temporary_of(document)
    clear_killed(document)
    try:
        partial.mkdir(parents=True)
        yield partial
        document.unlink(missing_ok=True)
        for path in earlier:
            path.unlink(missing_ok=True)
        _move_into(document.parent, partial, document.name)
    except NotWritten as error:  # by the name that the file was to have
        raise NotWritten(str(error).replace(str(partial), str(document.parent))) from error.__cause__
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _running(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


@contextmanager
def locked(folder: Path, busy: str, name: str = LOCK) -> Iterator[None]:
    """Make the folder and keep other processes out of it; FolderError with the text `busy` when one is in.

    name: of the file that is held
    The kernel ends the lock when this process and the workers that it forked have ended, however they did.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("w", encoding="ascii")
    except OSError as error:
        raise FolderError(f"{folder} cannot be written: {error.strerror}.") from None
    with file:
        if not _taken(file.fileno()):
            raise FolderError(busy)
        yield


def _taken(handle: int) -> bool:
    """Lock an open file or folder; False while another process has it, after some patience."""
    import fcntl

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)


def in_use(partial: Path) -> bool:
    """Whether a process writes into an unfinished folder of `whole_folder`."""
    if not partial.exists():
        return False
    handle = os.open(partial, os.O_RDONLY)
    try:
        return not _taken(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_folder(out: Path, keep: Callable[[Path], bool] = lambda partial: False, last: str = "") -> Iterator[Path]:
    """A new folder to write into, which becomes `out` (missing or empty) in the end; after an error nothing is left.

    last: the file that says of what `out` is the whole, where it holds a part already: what was written is moved into
    it, over files of the same names, and that file at the end; hidden ones, notes of what is unfinished, are not
    keep: whether what a process has left that was killed or interrupted, or that the disk refused, can be gone on with;
    else it is removed. An error that it raises at first leaves all as it is.
    FolderError when writing fails (disk full, ...), or while another process writes `out`: it would not be whole.
    Interrupted, in place of KeyboardInterrupt, where something is kept.
    """
    whole = _place_of(out, there=bool(last))
    partial = whole.with_name(f".{whole.name}.part")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        handle = os.open(partial, os.O_RDONLY)
    except OSError as error:
        raise FolderError(f"{out} cannot be written: {error.strerror}.") from None
    try:
        # The folder itself is locked, for a file in it would become a part of it; it may have become `out` just now.
        if not _taken(handle) or not partial.exists() or not os.path.samestat(partial.stat(), os.fstat(handle)):
            raise FolderError(f"{out} is being written by another process. Wait until that one has ended, then repeat "
                              "the command, or choose another output folder.")
        if not keep(partial):
            _empty(partial)
        try:
            yield partial
            if last:
                _move_into(whole, partial, last)
            else:
                partial.rename(whole)
        except BaseException as error:
            kept = (isinstance(error, KeyboardInterrupt) or _of_disk(error)) and keep(partial)
            if not kept:
                shutil.rmtree(partial, ignore_errors=True)
            elif isinstance(error, KeyboardInterrupt):
                raise Interrupted(f"Stopped before {out} was whole. What is finished is kept: the same command goes on "
                                  "from there.") from None
            if not _of_disk(error):
                raise
            # Of a file that was not written, the reason alone: what is kept, and what to do, is said here.
            cause = error.__cause__ if isinstance(error, NotWritten) and error.__cause__ else error
            what = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause).rstrip(".")
            rest = ("What is finished is kept: put that right, and the same command goes on from there." if kept else
                    "Nothing was left there: put that right, then try again.")
            raise FolderError(f"{out} could not be written: {what}. {rest}") from None
    finally:
        os.close(handle)


def _place_of(out: Path, there: bool) -> Path:
    """Where a new folder is to lie, links followed; FolderError, before the work, for a place that none can take.

    there: it holds a part of it already, and files are moved into it
    """
    whole = Path(os.path.realpath(out))
    called = not there and whole.exists() and os.path.samefile(whole, ".")
    if why := "the root of a disk" if whole.is_mount() else "where the command was called" if called else "":
        raise FolderError(f"{out} is {why}, whose place no new folder can take. Choose a new folder in it, such as "
                          f"{out / 'results'}.")
    return whole


def _move_into(out: Path, partial: Path, last: str) -> None:
    """Every file of a folder into `out`: first those of its sub-folders, then its own, then the one named `last`."""
    files = (path for path in partial.rglob("*") if path.is_file() and not path.name.startswith("."))
    for path in sorted(files, key=lambda path: (path.parent == partial, path.name == last, path)):
        target = out / path.relative_to(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            write_atomically(target, path.read_bytes())  # a folder that is a link to another disk
    shutil.rmtree(partial)


def _of_disk(error: BaseException) -> bool:
    """Whether an error comes from the operating system, be it in the words of whoever wrote the file."""
    return isinstance(error, OSError) or isinstance(error.__context__, OSError)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def scratch_folder() -> Path:
    """A new temporary folder for what is unpacked, which ends with this process."""
    outer, _ = _scratch()
    atexit.register(_remove_own, outer, os.getpid())
    return outer / "files"


@contextmanager
def scratch() -> Iterator[Path]:
    """The same for images of patients that are needed for a moment: it ends with the `with` statement."""
    outer, handle = _scratch()
    try:
        yield outer / "files"
    finally:
        shutil.rmtree(outer, ignore_errors=True)
        os.close(handle)


def _scratch() -> tuple[Path, int]:
    """A new temporary folder, whose files are to lie in `files`, and the handle that locks it.

    A killed process cannot clear up, and what it leaves is large or shows patients: the first folder that a process
    asks for removes what those before it have left. The kernel knows which they are, for it ends their locks (workers
    that were forked hold them, too).
    """
    import fcntl

    _clear_scratch(tempfile.gettempdir())
    outer = Path(tempfile.mkdtemp(prefix=SCRATCH))
    handle = os.open(outer / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)  # open, and so locked, until this process and its workers have ended
    if not os.fstat(handle).st_nlink:  # another process, which began just now, took it for a leftover
        os.close(handle)
        return _scratch()
    (outer / "files").mkdir()
    return outer, handle


@functools.cache
def _clear_scratch(parent: str) -> None:
    """Remove the scratch folders of processes that have ended; once a process."""
    import fcntl

    for lock in Path(parent).glob(f"{SCRATCH}*/{LOCK}"):
        try:
            with lock.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:
            continue  # in use, or somebody else's


def _remove_own(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker that ends must not take the files away
        shutil.rmtree(folder, ignore_errors=True)
