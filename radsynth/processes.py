"""Runs independent jobs in a pool of forked processes. A lost worker is an error, and none outlives its parent."""

from __future__ import annotations

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

from radsynth.errors import RadsynthError

T = TypeVar("T")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(call: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[tuple[int, T]]:
    """(position, result) of `call(*job)` for every job as they finish. One worker runs them here, in order.

    Raises what a job raises (the others are not started any more), RadsynthError when a worker dies.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from ((position, call(*job)) for position, job in enumerate(jobs))
    else:
        yield from _pooled(call, jobs, min(workers, len(jobs)))


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
    """In a new worker: Ctrl-C is the parent's to answer, and without a parent there is nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
