"""Preparing on a Dask cluster and by two processes at once: the same arrays, a killed worker costs nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from radsynth import files
from radsynth.arrays import Prepared
from radsynth.datasets import folder
from radsynth.errors import FolderError, MissingExtra, RadsynthError, SettingsError
from radsynth.settings import resolve
from radsynth.verbs._preparing import pool as _pool
from radsynth.verbs.prepare import prepare

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers of one thread each, as processes of this machine, without a web page."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1", silence_logs=50
    ) as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """60 pictures of 30 patients, one of which is broken."""
    (tmp_path / "in").mkdir()
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 20)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "in" / f"patient{number // 2:02d}_{number}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "in"


def made(pictures: Path, out: Path, **how: Any) -> Prepared:
    given = {"data": {"kind": "folder", "path": str(pictures)}, "prepare": {"size": [16, 16], "shard": 4}}
    settings = resolve(given, sections=["data", "prepare"])
    return prepare(settings.section("data"), out, settings=settings, **how)


def test_a_cluster_makes_the_same_arrays(cluster: Any, pictures: Path, tmp_path: Path) -> None:
    alone = made(pictures, tmp_path / "alone", workers=1)
    shared = made(pictures, tmp_path / "shared", cluster=cluster.scheduler_address)
    assert shared.manifest == alone.manifest and len(shared.rows) == 60
    for path in sorted((tmp_path / "alone" / "shards").iterdir()):
        assert path.read_bytes() == (tmp_path / "shared" / "shards" / path.name).read_bytes()


def test_paths_mean_the_same_in_every_process(
    cluster: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(made(Path("in"), Path("out"), cluster=cluster.scheduler_address).rows) == 60
    assert (tmp_path / "out" / "manifest.json").exists()


def slow_unless_marked(place: Path, number: int) -> int:
    """Job 3 waits to be killed the first time."""
    with (place / f"{number}.{os.getpid()}").open("a") as file:
        file.write("x")
    if number == 3 and not (place / "killed").exists():
        time.sleep(60)
    return number * number


def test_a_killed_worker_costs_nothing(cluster: Any, tmp_path: Path) -> None:
    jobs = [(tmp_path, number) for number in range(12)]
    found = {}
    for position, value in _pool.run_all(slow_unless_marked, jobs, 1, cluster.scheduler_address):
        found[position] = value
        waiting = [path for path in tmp_path.glob("3.*")]
        if waiting and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(int(waiting[0].suffix[1:]), signal.SIGKILL)
    assert (tmp_path / "killed").exists() and found == {number: number * number for number in range(12)}


def fails(number: int) -> int:
    if number == 2:
        raise FolderError("the disk is full")
    return number


def test_an_error_of_a_job_comes_back_as_it_is(cluster: Any) -> None:
    with pytest.raises(FolderError, match="the disk is full"):
        list(_pool.run_all(fails, [(number,) for number in range(4)], 1, cluster.scheduler_address))


def test_a_worker_that_does_not_see_the_files_is_named(
    cluster: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radsynth.verbs._preparing.steps.probe", lambda *_: f"pixels of {os.getpid()}")
    with pytest.raises(RadsynthError, match=r"The Dask worker tcp://.* does not load patient00_0\.png"):
        made(pictures, tmp_path / "out", cluster=cluster.scheduler_address)
    assert not (tmp_path / "out").exists()


def test_no_scheduler_and_no_extra_are_one_clear_error(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "CONNECT", 1.0)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(SettingsError, match=f"no Dask scheduler at {address}"):
            made(pictures, tmp_path / "out", cluster=address)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(MissingExtra, match=r"radsynth\[dask\]"):
        list(_pool.run_all(fails, [(0,)], 1, "tcp://127.0.0.1:1"))


def test_a_cluster_without_workers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool, "LONELY", 0.2)
    monkeypatch.setattr(_pool, "GLANCE", 0.1)
    with distributed.LocalCluster(
        n_workers=0, processes=True, dashboard_address=None, host="127.0.0.1", silence_logs=50
    ) as empty:
        with pytest.raises(RadsynthError, match="has no workers"):
            _pool.ask_everywhere(empty.scheduler_address, os.getpid)
        with pytest.raises(RadsynthError, match="has had no worker"):
            list(_pool.run_all(fails, [(0,)], 1, empty.scheduler_address))


def test_a_killed_client_is_gone_on_with(cluster: Any, pictures: Path, tmp_path: Path) -> None:
    """SIGKILL of `radsynth prepare` on a cluster, then the same command with a process pool."""
    out = tmp_path / "out"
    words = ["prepare", str(pictures), str(out), "prepare.size=[16,16]", "prepare.shard=1"]
    program = [sys.executable, "-m", "radsynth", *words, "--cluster", cluster.scheduler_address]
    with subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 60
        while not list(out.glob("shards/*.json")) and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        child.kill()
    assert not (out / "manifest.json").exists(), "it was killed too late to show anything"
    settings = resolve(
        {"data": {"kind": "folder", "path": str(pictures)}, "prepare": {"size": [16, 16], "shard": 1}},
        sections=["data", "prepare"],
    )
    again, whole = (
        prepare(settings.section("data"), place, settings=settings, workers=1) for place in (out, tmp_path / "whole")
    )
    assert again.manifest == whole.manifest


# Two processes and one folder


def test_a_folder_that_is_being_filled_is_left_alone(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    out = tmp_path / "out"
    holder = (
        "import sys, time; from pathlib import Path; from radsynth.files import locked\n"
        "with locked(Path(sys.argv[1]), 'busy'): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(out)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(FolderError, match="is being filled by another process"):
            made(pictures, out, workers=1)
        other.kill()
    assert len(made(pictures, out, workers=1).rows) == 60, "the kernel ends the lock of a killed process"
    assert not (out / ".lock").exists()
    assert len(made(pictures, out, workers=1).rows) == 60


def test_a_folder_that_was_finished_meanwhile_is_not_filled_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = made(pictures, tmp_path / "out", workers=1)
    monkeypatch.setattr("radsynth.verbs._preparing.steps.open_finished", lambda *_: None)
    monkeypatch.setattr("radsynth.verbs._preparing.steps.check_free", lambda *_: None)
    before = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*.npy")}
    with pytest.raises(FolderError, match="finished by another process"):
        made(pictures, tmp_path / "out", workers=1)
    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("*.npy")} == before


def test_a_lock_is_waited_for_a_moment(tmp_path: Path) -> None:
    first = files.locked(tmp_path, "first")
    first.__enter__()
    timer = threading.Timer(0.3, first.__exit__, (None, None, None))
    timer.start()
    with files.locked(tmp_path, "second"):
        assert not timer.is_alive()


def test_another_mask_is_another_source(tmp_path: Path) -> None:
    for number in range(6):
        for place, top in (("images", 256), ("masks", 2)):
            (tmp_path / "in" / place).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, top, (24, 20)).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "in" / place / f"{number}.png")
    first = list(folder.records(folder.Settings(path=tmp_path / "in"), []))
    assert all(len(record.masks) == 1 for record in first)
    made(tmp_path / "in", tmp_path / "out", workers=1)
    changed = tmp_path / "in" / "masks" / "3.png"
    PIL.Image.fromarray(np.eye(24, 20, dtype=np.uint8)).save(changed)
    os.utime(changed, ns=(1, 1))
    with pytest.raises(FolderError, match="other files or with other settings"):
        made(tmp_path / "in", tmp_path / "out", workers=1)
