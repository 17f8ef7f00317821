"""Runs independent jobs in a pool of processes, or on a Dask cluster by its address (extra `dask`).

A lost worker of the pool is an error, and none outlives its parent; a cluster does a lost worker's jobs again.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from radsynth.errors import Interrupted, MissingExtra, RadsynthError, SettingsError

T = TypeVar("T")

CONNECT = 10.0
"""Seconds that a Dask scheduler may take to answer."""

LONELY = 60.0
"""Seconds that a cluster may be without any worker: a killed one is started anew within a few."""

GLANCE = 5.0
"""Seconds between two looks at whether there are workers, while nothing finishes."""

_one_at_a_time = threading.Lock()
"""Held by the job that a cluster's worker is doing: threads of one process share what is kept between slices."""


def run_all(
    call: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, cluster: str
) -> Iterator[tuple[int, T]]:
    """(position, result) of `call(*job)` for every job as they finish. One worker runs them here, in order.

    cluster: the address of a Dask scheduler, which is used instead of the `workers`. Raises what a job raises (the
    others are not started any more), RadsynthError when a worker dies or the cluster goes away, Interrupted.
    """
    try:
        if cluster:
            yield from _on_cluster(call, jobs, cluster)
        elif workers <= 1 or len(jobs) <= 1:
            yield from ((position, call(*job)) for position, job in enumerate(jobs))
        else:
            yield from _pooled(call, jobs, min(workers, len(jobs)))
    except KeyboardInterrupt:
        raise Interrupted("Stopped. What is finished is kept: the same command goes on from there.") from None


def _pooled(call: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[tuple[int, T]]:
    # Forked workers start at once and need no `if __name__ == "__main__"` in a user's script. They never call torch,
    # whose threads do not survive a fork.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),))
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Future[T], int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:  # few at a time: a job may hold much
                position, job = waiting.pop()
                running[pool.submit(call, *job)] = position
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
    except BrokenProcessPool:
        raise RadsynthError(
            f"One of {workers} worker processes was killed, most likely because memory ran out. What is finished is "
            "kept: give fewer workers, and the same command goes on from there."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(parent: int) -> None:
    """In a new worker: Ctrl-C and a closed terminal are the parent's to answer, and without a parent there is nothing
    left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the command line takes it for Ctrl-C
    gc.freeze()  # the collector must not touch what came with the fork: each page that it writes to is copied
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def ask_everywhere(cluster: str, call: Callable[..., T], *arguments: Any) -> dict[str, T | BaseException]:
    """Worker -> what `call(*arguments)` gives there, or the error that it ends in; only workers that are there now."""
    client = _connect(cluster)
    try:
        answers: dict[str, T | BaseException] = client.run(call, *arguments, on_error="return")
    finally:
        client.close()
    if not answers:
        raise RadsynthError(f"The Dask cluster at {cluster} has no workers. Start some: dask worker {cluster}")
    return answers


def _connect(cluster: str) -> Any:
    if importlib.util.find_spec("distributed") is None:
        raise MissingExtra("--cluster (Dask)", "dask")
    distributed: Any = importlib.import_module("distributed")  # it is only partly typed
    try:
        return distributed.Client(cluster, timeout=CONNECT, set_as_default=False, name="radsynth")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"There is no Dask scheduler at {cluster}, as --cluster says: {reason}") from None


def _on_cluster(call: Callable[..., T], jobs: Sequence[tuple[Any, ...]], cluster: str) -> Iterator[tuple[int, T]]:
    client = _connect(cluster)
    from distributed import CancelledError, KilledWorker

    waiting = list(enumerate(jobs))[::-1]
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            workers = len(client.scheduler_info(n_workers=-1)["workers"])
            while waiting and len(running) < 2 * max(workers, 1):  # few at a time: a job may hold much
                position, job = waiting.pop()
                running[client.submit(_alone, call, *job, pure=False)] = position
            for future in _finished(client, list(running), cluster):
                yield running.pop(future), future.result()
    except KilledWorker as error:
        raise RadsynthError(
            f"A job ended several workers of {cluster}, most likely because memory ran out: {error}. What is finished "
            "is kept: give the workers more memory, and the same command goes on from there."
        ) from None
    except (CancelledError, OSError) as error:
        raise RadsynthError(
            f"The Dask cluster at {cluster} went away: {error}. What is finished is kept: the same command goes on "
            "from there."
        ) from None
    finally:
        client.cancel(list(running))
        client.close()


def _alone(call: Callable[..., T], *job: Any) -> T:
    with _one_at_a_time:
        return call(*job)


def _finished(client: Any, futures: list[Any], cluster: str) -> list[Any]:
    """Those that have finished, at least one. RadsynthError when there is nobody left to finish any."""
    distributed: Any = importlib.import_module("distributed")
    missing = 0.0
    while missing < LONELY:
        try:
            with client.as_current():
                return list(distributed.wait(futures, timeout=GLANCE, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            missing = 0.0 if client.scheduler_info(n_workers=-1)["workers"] else missing + GLANCE
    raise RadsynthError(
        f"The Dask cluster at {cluster} has had no worker for {LONELY:.0f} s. What is finished is kept: start "
        "workers, and the same command goes on from there."
    )
