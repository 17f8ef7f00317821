"""Which images make a shard, and which shards one process makes: so that no volume is decoded twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from radsynth.datasets import Record
from radsynth.verbs._preparing.shards import Plan, is_slice, volume_of

LAYOUT = 4
"""Version of how shards are made: a folder that was begun with another number is begun anew."""

SHARD_BYTES = 2**26
"""A shard takes at most about this much, so that a worker's memory is bounded for volumes too."""
SHARDS, FEWEST = 16, 16
"""Few images make smaller shards, about so many, so that every worker has some; but never of fewer images than this."""


def cut(records: Sequence[Record], plan: Plan, most: int) -> list[list[Record]]:
    """The records of each shard, in order. Slices of one volume stay together: it is decoded once, for all of them.

    Only where they need no common range is a volume divided that has more slices than a shard may take.
    """
    per_image = math.prod(plan.size) * plan.channels * (2 if plan.intensity.levels > 255 else 1)
    most = max(1, min(most, SHARD_BYTES // per_image))
    few = min(most, max(FEWEST, math.ceil(len(records) / SHARDS)))
    common = plan.intensity.method == "percentiles"
    chunks: list[list[Record]] = [[]]
    for _, volume in groupby(records, key=volume_of):
        group = list(volume)
        step = len(group) if common else most if is_slice(group[0]) else 1
        for start in range(0, len(group), step):
            part = group[start : start + step]
            if chunks[-1] and len(chunks[-1]) + len(part) > few:
                chunks.append([])
            chunks[-1] += part
    return chunks


def together(numbers: Sequence[int], chunks: Sequence[Sequence[Record]]) -> list[list[int]]:
    """The shards to be made, those of one volume's slices together: one process decodes it and makes them all."""
    jobs: list[list[int]] = []
    for number in numbers:
        before, first = chunks[number - 1][-1] if number else None, chunks[number][0]
        same = before is not None and is_slice(first) and volume_of(before) == volume_of(first)
        if same and jobs and jobs[-1][-1] == number - 1:
            jobs[-1].append(number)
        else:
            jobs.append([number])
    return jobs
