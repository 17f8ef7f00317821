"""A batch in parts, one after another, where memory does not suffice for the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from radsynth.arrays import Batch
from radsynth.errors import OutOfMemory


def parts_of(batch: Batch, count: int) -> Iterator[Batch]:
    """A batch in equal parts; each item keeps its own random numbers."""
    if count == 1:
        yield batch
        return
    size = len(batch.items) // count
    for k in range(count):
        where = slice(k * size, (k + 1) * size)
        yield dataclasses.replace(batch, images=batch.images[where], items=batch.items[where],
                                  labels=None if batch.labels is None else batch.labels[where],
                                  masks=None if batch.masks is None else batch.masks[where],
                                  conditions=None if batch.conditions is None else batch.conditions[where])


def more_parts(now: int, sizes: Sequence[int], least: int) -> int | None:
    """The next number of parts, at least twice as many, that all sizes of batches can be cut into; None: there is none.

    least: images that a part must have
    """
    return next((count for count in range(2 * now, min(sizes) // least + 1)
                 if all(size % count == 0 for size in sizes)), None)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out. On a CPU torch has no error class for it, nor for CUDA's libraries."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(text in str(error) for text in (
        "DefaultCPUAllocator", "CUDA error: out of memory", "STATUS_ALLOC_FAILED"))


@contextmanager
def told_of_memory(advice: Callable[[str], str]) -> Iterator[None]:
    """Within it, memory that runs out anywhere ends in OutOfMemory with the advice, which is given the reason."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(advice(str(error).splitlines()[0] if str(error) else "")) from None
