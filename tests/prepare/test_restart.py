"""The same command goes on where it stopped: finished folders, kill -9, a full disk."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.datasets import Record, dataset
from radsynth.errors import FolderError, RadsynthError
from radsynth.image import Image
from radsynth.verbs._preparing.options import Settings
from radsynth.verbs._preparing.source import source_hash
from tests.prepare.records import Prepare, dies, everything, fails, picture, record, with_header


def test_a_finished_folder_is_returned_at_once_and_others_are_refused(from_records: Prepare, tmp_path: Path) -> None:
    records = [record(n) for n in range(4)]
    first = from_records(records, size=[8, 8])
    written = (first.folder / "manifest.json").stat().st_mtime_ns
    again = from_records([Record(**{**vars(r), "load": dies}) for r in records], size=[8, 8])
    assert again.manifest == first.manifest and (again.folder / "manifest.json").stat().st_mtime_ns == written
    for options, others in (({"size": [10, 10]}, records), ({"size": [8, 8]}, records[:3])):
        with pytest.raises(FolderError, match="other files or with other settings"):
            from_records(others, **options)
    assert from_records(records, size=[8, 8], strict=True).manifest == first.manifest, "to be strict changes no array"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    (tmp_path / "file").touch()
    for name, reason in (("photos", "not empty"), ("file", "is a file")):
        with pytest.raises(FolderError, match=reason):  # before anything is read
            from_records([Record(**{**vars(r), "load": partial(fails, AssertionError())}) for r in records], name)


@pytest.mark.parametrize(("kind", "known"), [
    ("brain", "26d55a175745e1c7"), ("brats", "42d72236477e20a2"), ("contrasts", "5637ee7b03a7bd94"),
    ("folder", "691dc3d75b236b2b"), ("lidc", "ab83d90d53bbc1b7"), ("luna16", "ce36e3da80fbb57e"),
    ("medmnist", "740b05f9001b9fd9"), ("nnunet", "a3ea4eb8fe57b828"),
])
def test_folders_of_earlier_versions_are_still_those_of_the_same_settings(kind: str, known: str) -> None:
    """A new setting, which changes the hash, belongs into `LATER` or `LATER_OF`."""
    made = dataset(kind).Settings
    data = made() if kind == "brain" else made(path="x")
    assert source_hash(data, Settings(), []).startswith(known)


def test_an_unfinished_folder_goes_on_with_the_same_source_and_begins_anew_with_another(
    from_records: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = with_header([record(n) for n in range(12)])
    whole = from_records(records, "whole", size=[8, 8], shard=4)
    broken = [*records[:8], *with_header([record(n, partial(fails, KeyboardInterrupt())) for n in range(8, 12)])]
    with pytest.raises(RadsynthError, match="goes on from there"):
        from_records(broken, size=[8, 8], shard=4)
    out = tmp_path / "out"
    assert not (out / "manifest.json").exists()
    with pytest.raises(FolderError, match="not a complete prepared folder"):
        Prepared(out)
    times = {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("*.npy")}
    assert sorted(times) == ["00000.images.npy", "00001.images.npy"]
    (out / "shards" / "00001.images.npy").write_bytes(b"damaged")
    (out / "shards" / ".00002.images.npy.77.part").touch()
    done = from_records(records, size=[8, 8], shard=4)
    assert done.manifest == whole.manifest and "mind" not in capsys.readouterr().err
    assert (out / "shards" / "00000.images.npy").stat().st_mtime_ns == times["00000.images.npy"], "kept"
    np.testing.assert_array_equal(everything(done), everything(whole))
    assert not [path for path in out.rglob("*") if path.suffix in (".part",) or path.name == "begun.json"]

    with pytest.raises(RadsynthError):
        from_records(broken, "two", size=[8, 8], shard=4)
    other = from_records(records[:6], "two", size=[10, 10], shard=4)
    assert len(other.rows) == 6 and len(list((other.folder / "shards").iterdir())) == 2
    assert "two held a part of other data, or of these with other settings" in capsys.readouterr().err


def slow(number: int) -> Image:
    time.sleep(0.02)
    return picture(number)


def test_kill_9_leaves_nothing_running_and_the_same_command_finishes(from_records: Prepare, tmp_path: Path) -> None:
    records = with_header([record(n, partial(slow, n)) for n in range(64)])
    options = {"size": [16, 16], "shard": 8, "workers": 2}
    out = tmp_path / "out"
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            from_records(records, **options)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 60
    while not list(out.glob("shards/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not (out / "manifest.json").exists(), "it was killed too late to show anything"
    while members(child):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)
    finished = [path.with_suffix(".images.npy") for path in out.glob("shards/*.json")]
    kept = {path: path.stat().st_mtime_ns for path in finished}
    done = from_records(records, **options)
    assert done.manifest == from_records(records, "whole", **options).manifest
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "finished shards are kept"


@pytest.mark.parametrize("fault", [signal.SIGKILL, errno.ENOSPC])
def test_a_fault_in_the_first_moment_leaves_no_folder_that_is_refused(
    fault: int, from_records: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before begun.json was there; what was left was taken for somebody else's."""
    def sync(_: int) -> None:
        if fault == signal.SIGKILL:
            os.kill(os.getpid(), fault)
        raise OSError(fault, os.strerror(fault))

    child = os.fork() if fault == signal.SIGKILL else 0
    if child == 0:
        with monkeypatch.context() as patched, pytest.raises(FolderError, match="No space left"):
            patched.setattr(os, "fsync", sync)
            from_records([record(n) for n in range(4)], size=[8, 8])
    else:
        os.waitpid(child, 0)
        assert list((tmp_path / "out").glob(".begun.json.*.part"))
    assert len(from_records([record(n) for n in range(4)], size=[8, 8]).rows) == 4
    assert not list((tmp_path / "out").glob(".*"))


def members(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_a_clear_error_and_no_half_shard(
    workers: int, small_disk: tuple[Path, Callable[[], None]], from_records: Prepare
) -> None:
    place, make_room = small_disk
    records = [record(n, picture(n, (100, 100))) for n in range(200)]
    options = {"size": [100, 100], "shard": 16}
    with pytest.raises(FolderError, match="Free some space") as error:
        from_records(records, str(place / "out"), workers=workers, **options)
    assert str(place) in str(error.value)
    for path in (place / "out" / "shards").glob("*.npy"):
        assert np.load(path).shape == (16, 1, 100, 100), "what has its final name is whole"
    make_room()
    done = from_records(records, str(place / "out"), workers=workers, **options)
    assert done.manifest.data_hash == from_records(records, "elsewhere", **options).manifest.data_hash
