"""Prepares: images of any kind in, shards of fixed-size integer arrays with a manifest out.

The same command again goes on where it stopped, or returns the finished folder at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radsynth.arrays import Prepared
from radsynth.progress import tell
from radsynth.settings import Resolved, constant
from radsynth.verbs._given import given
from radsynth.verbs._in_vain import in_vain, unused_by_prepare
from radsynth.verbs._preparing.options import Settings
from radsynth.verbs._preparing.steps import make_prepared
from radsynth.verbs._scarce import rare, untaught


def prepare(data: Any, out: Path, *, settings: Resolved | None = None, overrides: Sequence[str] = (),
            workers: int | None = None, cluster: str = "") -> Prepared:
    """Make the prepared folder `out` from `data`: a path, or the settings section that describes a data set.

    settings: all of them, resolved; or instead overrides, such as ["prepare.size=[64, 64]"].
    workers: processes, default one for each core. cluster: the address of a Dask scheduler (tcp://host:port), whose
    workers do it instead and must see the same files. The arrays are the same whoever makes them. Raises DataError when
    the data cannot be used as a whole, FolderError when `out` holds something else, is being filled by another process
    or cannot be written, Interrupted.
    """
    path = Path(data) if isinstance(data, str | Path) else None
    settings = settings or given(("data", "prepare"), overrides, data=path)
    source: Any = data if path is None else settings.section("data")
    made = make_prepared(source, Path(out), settings, workers, cluster)
    kind, counts = settings.kind("task"), made.training_labels()
    # From image to image classes are not told apart, but for the two of a translation without pairs.
    learned = not constant("tasks", kind, "RESULTS") or constant("tasks", kind, "UNPAIRED")
    few = rare(counts, source.kind, "training images")
    for problem in filter(None, (untaught(counts), few) if learned else ()):
        tell(f"mind: {problem}")
    for line in in_vain(settings, unused_by_prepare(settings.section("prepare", Settings), made), {}):
        tell(f"mind: {line}")
    return made
