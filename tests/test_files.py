"""Files and folders that are whole or not there, also when two processes want the same one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radsynth.errors import FolderError
from radsynth.files import check_new, check_writable, replacing, temporary_of, whole_folder, write_atomically

Disk = tuple[Path, Callable[[], None]]


def test_a_folder_is_there_when_it_is_whole_and_takes_the_place_of_an_empty_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with whole_folder(out) as partial:
        (partial / "a").write_text("1")
        assert not list(out.iterdir())
    assert [path.name for path in out.iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_the_place_of_a_folder_is_followed(there: bool, tmp_path: Path) -> None:
    """It was replaced in the end, which no link can be: after hours nothing was left."""
    if there:
        (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to("large disk")
    with whole_folder(tmp_path / "out") as partial:
        (partial / "a").touch()
    assert [path.name for path in (tmp_path / "large disk").iterdir()] == ["a"]
    assert (tmp_path / "out").is_symlink() and (tmp_path / "out" / "a").exists()


def test_a_folder_whose_place_cannot_be_taken_is_told_before_the_work(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    for out, why in ((Path("."), "where the command was called"),
                     (tmp_path / "disk", "the root of a disk")):
        with pytest.raises(FolderError) as told, whole_folder(out):
            pass
        assert str(told.value).startswith(f"{out} is {why}, whose place no new folder can take. Choose a new folder in")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "here"], "nothing was left beside them"
    (tmp_path / "here" / "a").touch()
    with whole_folder(Path("."), last="b") as partial:  # of which a part is there: it stays where it is
        (partial / "b").touch()
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["a", "b"]


def test_a_secret_is_nobody_elses_from_its_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: [seen.append(os.fstat(file).st_mode & 0o777), sync(file)][1])
    write_atomically(tmp_path / "secret", "key", mode=0o600)
    write_atomically(tmp_path / "open", "text")
    assert seen[0] == 0o600 and seen[1] & 0o444 == (tmp_path / "open").stat().st_mode & 0o444 != 0
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("error", "raised"), [(OSError(28, "No space left on device"), FolderError),
                                               (KeyboardInterrupt(), KeyboardInterrupt)])
def test_an_error_leaves_nothing(error: BaseException, raised: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(raised), whole_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("1")
        raise error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("error", "raised"), [(OSError(28, "No space left on device"), FolderError),
                                               (OSError("truncated"), FolderError),
                                               (KeyboardInterrupt(), KeyboardInterrupt)])
def test_a_file_is_whole_or_not_there(error: BaseException, raised: type[BaseException], tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(raised) as told:
        write_atomically(tmp_path / "a.json", "1")
    assert not list(tmp_path.iterdir()) and "None" not in str(told.value)
    assert ("Free some space" in str(told.value)) == (getattr(error, "errno", None) == 28)


@pytest.mark.parametrize(("kept", "rest"), [
    (True, "What is finished is kept: put that right, and the same command goes on from there."),
    (False, "Nothing was left there: put that right, then try again."),
])
def test_a_folder_on_a_full_disk_says_one_thing_of_what_is_kept(kept: bool, rest: str, small_disk: Disk) -> None:
    disk, _ = small_disk
    with pytest.raises(FolderError) as told, whole_folder(disk / "out", keep=lambda partial: kept) as partial:
        write_atomically(partial / "README.md", "1")
        write_atomically(partial / "large.json", "1" * 2_000_000)
    assert str(told.value).replace("File too large", "No space left on device") == (
        f"{disk}/out could not be written: No space left on device. {rest}")
    assert [path.name for path in disk.rglob("*.*")] == [".out.part", "README.md"] * kept


@pytest.mark.parametrize(("name", "says"), [("file", "file is a file"), ("file/new", "file is a file"),
                                            ("M\udcfcller", "not written in UTF-8"), ("shut/a/b", "no permission")])
def test_a_folder_that_cannot_be_written_is_told_before_the_work(name: str, says: str, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "shut").mkdir()
    check_writable(tmp_path)
    check_writable(tmp_path / "new" / "folder")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "shut")  # root may write anywhere
    with pytest.raises(FolderError, match=f"cannot be written: .*{says}.*Choose another output folder"):
        check_writable(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "shut"]


def test_a_whole_folder_is_begun_beside_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for name in ("shut", "shut/empty", "shut/full", "shut/full/images"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "shut")
    check_new(tmp_path / "new")
    check_new(tmp_path / "shut" / "full")  # whoever asks looks at what it holds
    for name, says in (("shut/empty", "no permission"), ("shut/new", "no permission"), ("file/new", "file is a file")):
        with pytest.raises(FolderError, match=rf"{name} cannot be written: .*{says}"):
            check_new(tmp_path / name)


def test_one_process_writes_and_what_a_killed_one_left_is_cleared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = ("import sys, time; from pathlib import Path; from radsynth.files import whole_folder\n"
            "with whole_folder(Path(sys.argv[1])) as partial:\n"
            "    (partial / 'images').mkdir(); (partial / 'images' / 'old').touch(); (partial / 'old').touch()\n"
            "    print('held', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FolderError, match="is being written by another process"), whole_folder(out):
            pass
        assert (tmp_path / ".out.part" / "images" / "old").exists()
        other.kill()
    with whole_folder(out) as partial:
        (partial / "new").touch()
    assert [path.name for path in out.iterdir()] == ["new"]


def test_unpacked_files_end_with_their_process_and_those_of_a_killed_one_with_the_next(tmp_path: Path) -> None:
    code = ("import time; from radsynth.files import scratch_folder\n"
            "folder = scratch_folder(); (folder / 'large').write_text('1'); print(folder, flush=True); time.sleep({})")
    environment = os.environ | {"TMPDIR": str(tmp_path)}

    def started(seconds: int) -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen([sys.executable, "-c", code.format(seconds)], stdout=subprocess.PIPE, text=True,
                                   env=environment)
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    (other, kept), (killed, left) = started(60), started(60)
    try:
        killed.kill()
        killed.communicate()
        assert (left / "large").exists()
        third, own = started(0)
        third.communicate()
        assert own.is_relative_to(tmp_path)
        assert (kept / "large").exists()
        assert [path for path in tmp_path.iterdir()] == [kept.parent]
    finally:
        other.terminate()
        other.communicate()


def test_threads_that_write_the_same_file_do_not_take_each_others_away(tmp_path: Path) -> None:
    texts = [str(k) * 20_000 for k in range(4)]

    def write_often(text: str) -> None:
        for _ in range(50):
            write_atomically(tmp_path / "a.json", text)
            assert (tmp_path / "a.json").read_text() in texts

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(write_often, texts))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_killed_processes_left_of_a_file_goes_with_the_next_writing_of_it(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, same, others = (tmp_path / f".a.json.{process}.140.part" for process in (gone.pid, os.getpid(), os.getppid()))
    unlike, own = tmp_path / f".b.json.{gone.pid}.140.part", temporary_of(tmp_path / "a.json").with_suffix(".1.part")
    for path in (left, same, others, unlike, own):  # same: of an earlier process of this number, as in a container
        path.write_text("half")
    write_atomically(tmp_path / "a.json", "1")
    assert {path.name for path in tmp_path.iterdir()} == {others.name, unlike.name, own.name, "a.json"}


MEASURED_AGAIN = """
import os, signal, sys
from pathlib import Path
from radsynth.files import replacing

place, replace, moves = Path(sys.argv[1]), Path.replace, [int(sys.argv[2])]

def counted(path, target):
    moves[0] -= 1
    if moves[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)

Path.replace = counted
with replacing(place / "a.json", [place / "pictures" / "former.npy"]) as new:
    (new / "pictures").mkdir()
    for name in ("pictures/real.npy", "a.png", "a.json"):
        (new / name).write_text("new")
"""


@pytest.mark.parametrize("move", range(4))
def test_a_document_killed_while_it_is_replaced_never_tells_of_another_ones_pictures(move: int, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("pictures/real.npy", "pictures/former.npy", "a.png", "a.json"):
        (tmp_path / name).write_text("former")
    for number in (move, 3):  # and the same command again
        done = subprocess.run([sys.executable, "-c", MEASURED_AGAIN, str(tmp_path), str(number)], capture_output=True,
                              text=True, check=False)
        assert done.returncode == (0 if number == 3 else -9), done.stderr
        whole = not list(tmp_path.glob("*.part"))
        assert (tmp_path / "a.json").exists() == whole == (number == 3)
    assert {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {
        "pictures/real.npy": "new", "a.png": "new", "a.json": "new"}


def test_a_folder_that_is_a_link_to_another_disk_is_moved_into(small_disk: Disk, tmp_path: Path) -> None:
    disk, _ = small_disk
    (run := tmp_path / "run").mkdir()
    (run / "pictures").symlink_to(disk)
    with replacing(run / "a.json") as new:
        (new / "pictures").mkdir()
        for name in ("pictures/real.npy", "a.json"):
            (new / name).write_text("new")
    assert (disk / "real.npy").read_text() == (run / "a.json").read_text() == "new"
    assert sorted(path.name for path in run.iterdir()) == ["a.json", "pictures"]


def test_a_disk_for_reading_alone_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.open", refuse)
    monkeypatch.setattr("os.unlink", refuse)  # it refuses to remove what is not there, too
    with pytest.raises(FolderError, match=r"report\.json could not be written: Read-only file system\."):
        write_atomically(tmp_path / "report.json", "1")
