"""Patches: which crops of an image, at its own resolution, stand for it, so that nothing is shrunk to be learned."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from radsynth.datasets import Record
from radsynth.image import Image
from radsynth.io import Header

TOTAL = 20_000
"""Patches that a data set becomes, at most, if no other number is asked for."""

SPARE = 0.25
"""Share of a patch's side by which an image may be larger without a further patch."""

LARGEST = {2: 64, 3: 32}
"""Longest side of a patch if none is asked for."""

FLAT = 0.02
"""A patch shows nothing when its values span less than this share of what the whole image's do."""


def cut_into(known: Sequence[tuple[Record, Header]], size: tuple[int, ...], most: int) -> list[tuple[Record, Header]]:
    """A record for each patch of `size`; at most `most` an image, 0: TOTAL over all."""
    most = most or max(1, TOTAL // max(1, len(known)))
    found = []
    for number, (record, facts) in enumerate(known):
        every = grid(facts.size, size)
        share = min(1.0, most / len(every))
        found += [(replace(record, source=f"{record.source}@{','.join(map(str, corner))}", corner=corner, image=number,
                           drawn=share), facts) for corner in drawn(every, most, record.source)]
    return found


def grid(space: tuple[int, ...], size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """First pixels of patches spread evenly over an image of `space`."""
    starts = []
    for side, patch in zip(space, size, strict=True):
        count = max(1, math.ceil(side / patch - SPARE))
        spare = max(0, side - patch)
        starts.append([spare // 2] if count == 1 else np.rint(np.linspace(0, spare, count)).astype(int).tolist())
    return list(itertools.product(*starts))


def drawn(every: list[tuple[int, ...]], most: int, name: str) -> list[tuple[int, ...]]:
    """Of too many patches some, drawn by the image's name."""
    if len(every) <= most:
        return every
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], "big")
    return [every[k] for k in sorted(np.random.default_rng(seed).permutation(len(every))[:most])]


def patch_of(image: Image, corner: tuple[int, ...], size: tuple[int, ...]) -> Image:
    """The patch of at most `size` at `corner`, with its mask. Its place in the patient is not kept."""
    within = tuple(slice(first, first + side) for first, side in zip(corner, size, strict=True))
    return image.replace(pixels=image.pixels[(slice(None), *within)], mask=None if image.mask is None else
                         np.ascontiguousarray(image.mask[within]))
