"""The range of values of one volume that becomes black to white: percentiles of its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

COUNTABLE = 2**16
"""Whole numbers that span no more than this are counted, which takes a fifth of the time of sorting them out."""

BLOCK = 2**17
"""Values that are counted at a time: few enough for the processor's cache."""


def ranges(samples: Sequence[NDArray[Any]], wanted: tuple[float, float]) -> NDArray[np.float64]:
    """(channels, 2) low and high of a volume: the `wanted` percentiles of its samples, each (channels, n).

    A channel that is nearly all of one value gets its full range.
    """
    values = np.concatenate(samples, axis=1)
    found = np.stack([percentiles(channel, wanted) for channel in values])
    flat = found[:, 1] <= found[:, 0]
    found[flat] = np.stack([values.min(axis=1), values.max(axis=1)], axis=1)[flat]
    found[found[:, 1] <= found[:, 0], 1] += 1
    return found


def percentiles(values: NDArray[Any], wanted: Sequence[float]) -> NDArray[np.float64]:
    """numpy's percentiles (linear between ranks) of values (n,), float64; faster for whole numbers of a few bits."""
    low, high = values.min(), values.max()
    if values.dtype.kind not in "iu" or int(high) - int(low) >= COUNTABLE:
        return np.asarray(np.percentile(values, wanted), dtype=np.float64)
    counts = np.zeros(int(high) - int(low) + 1, np.intp)
    for start in range(0, len(values), BLOCK):
        counts += np.bincount(values[start : start + BLOCK].astype(np.intp) - int(low), minlength=len(counts))
    upto = np.cumsum(counts)
    places = np.asarray(wanted, np.float64) / 100 * (len(values) - 1)
    ranks = np.floor(places).astype(np.intp)
    below, above = (np.searchsorted(upto, rank, side="right") + int(low) for rank in (ranks, ranks + 1))
    share, above = places - ranks, np.minimum(above, int(high))
    step = (above - below).astype(np.float64)
    return np.where(share < 0.5, below + step * share, above - step * (1 - share))
