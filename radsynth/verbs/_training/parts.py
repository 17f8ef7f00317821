"""A batch in parts, one after another, where memory does not suffice for the whole."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from radsynth.batch import Batch
from radsynth.errors import OutOfMemory, out_of_memory

AT_ONCE = 2**25
"""Numbers that are looked at at once beside the steps: 64 volumes of 80 voxels a side. Memory for that does not follow
train.batch."""


def at_once(count: int, shape: Sequence[int]) -> int:
    """So many of `count` images (c, *space) are looked at at once; all, or a multiple of 4."""
    most = AT_ONCE // math.prod(shape)
    return count if count <= most else max(4, most // 4 * 4)


def parts_of(batch: Batch, count: int) -> Iterator[Batch]:
    """A batch in equal parts; each item keeps its own random numbers."""
    return pieces_of(batch, len(batch.items) // count)


def pieces_of(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in pieces of so many items, the last one with what is left."""
    if size >= len(batch.items):
        yield batch
        return
    for first in range(0, len(batch.items), size):
        where = slice(first, first + size)
        yield dataclasses.replace(batch, images=batch.images[where], items=batch.items[where],
                                  rows=batch.rows[where],
                                  labels=None if batch.labels is None else batch.labels[where],
                                  masks=None if batch.masks is None else batch.masks[where],
                                  conditions=None if batch.conditions is None else batch.conditions[where])


def more_parts(now: int, sizes: Sequence[int], least: int) -> int | None:
    """The next number of parts, at least twice as many, that all sizes of batches can be cut into; None: there is none.

    least: images that a part must have
    """
    return next((count for count in range(2 * now, min(sizes) // least + 1)
                 if all(size % count == 0 for size in sizes)), None)


@contextmanager
def told_of_memory(advice: Callable[[str], str]) -> Iterator[None]:
    """Within it, memory that runs out anywhere ends in OutOfMemory with the advice, which is given the reason."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(advice(str(error).splitlines()[0] if str(error) else "")) from None
