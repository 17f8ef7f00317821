"""Runs independent jobs in processes of this machine, or on a Dask cluster by its address (extra `dask`).

A cluster does a lost worker's jobs again.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from radsynth.errors import Interrupted, MissingExtra, RadsynthError, SettingsError
from radsynth.processes import spread

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
    call: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, cluster: str = ""
) -> Iterator[tuple[int, T]]:
    """(position, result) of `call(*job)` for every job as they finish. One worker runs them here, in order.

    cluster: the address of a Dask scheduler, which is used instead of the `workers`. Raises what a job raises (the
    others are not started any more), RadsynthError when a worker dies or the cluster goes away, Interrupted.
    """
    try:
        if cluster:
            yield from _on_cluster(call, jobs, cluster)
        else:
            yield from spread(call, jobs, workers)
    except KeyboardInterrupt:
        raise Interrupted("Interrupted. What is finished is kept: the same command goes on from there.") from None


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
