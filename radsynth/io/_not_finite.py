"""NaN around the body, as programs write it outside of a mask, is background; anything else that is no number is wrong.

Background is 0, or the lowest value where there are values below 0 (Hounsfield units, images of mean 0).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile


def without_nan(channels: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Channels (c, *space) with NaN that reaches the image's edge as background, and whether there was any.

    RejectedFile for infinite values, for NaN inside of what is shown, where nobody knows what ought to be there, and
    for NaN alone.
    """
    if channels.dtype.kind != "f" or np.isfinite(channels).all():
        return channels, False
    if infinite := int(np.isinf(channels).sum()):
        raise RejectedFile(f"{infinite:,} of its {channels.size:,} pixels are infinite")
    missing = np.isnan(channels)
    if missing.all():
        raise RejectedFile("it has no finite value: all its pixels are NaN")
    if inside := sum(_inside(one) for one in missing):
        raise RejectedFile(f"{inside:,} of its {channels.size:,} pixels are NaN (no number) in the midst of others. "
                           "Set them to what they ought to be; around what is shown NaN is read as background")
    return np.where(missing, min(0, np.nanmin(channels)), channels).astype(channels.dtype), True


def _inside(missing: NDArray[np.bool_]) -> int:
    """Pixels (*space) of regions that do not reach the image's edge."""
    from scipy.ndimage import label

    regions, count = label(missing, np.ones((3,) * missing.ndim))
    edge = np.ones(missing.shape, bool)
    edge[tuple(slice(1, -1) if side > 2 else slice(None, 0) for side in missing.shape)] = False
    outer = np.isin(np.arange(count + 1), regions[edge])
    return int((~outer[regions] & missing).sum())
