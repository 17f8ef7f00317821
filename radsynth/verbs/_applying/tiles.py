"""Large images in bounded memory, without seams: each tile is computed with all that its pixels depend on around it.

Networks of `radsynth.models` say how far their input reaches. A tile's border of that width is computed and thrown
away, so the result is that of the whole image at once; blending overlapping windows would only hide the seams.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from radsynth.progress import track

LIMIT = {2: 1 << 22, 3: 11 << 20}
"""Pixels (with borders) that are computed at once: 1 to 2 GB of features with the default widths."""


def convert_tiled(convert: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor, limit: int = 0,
                  ) -> NDArray[np.float32]:
    """`convert` of (n, c, *space) as (n, outputs, *space) float32 on the CPU, in tiles of at most `limit` pixels.

    convert: uses `network` (with its `reach` and `stride`, see `radsynth.models`) and otherwise treats pixels alone
    """
    space, dimensions = tuple(images.shape[2:]), images.ndim - 2
    limit = limit or LIMIT[dimensions]
    stride, reach = cast(int, network.stride), cast(int, network.reach)
    halo = math.ceil(reach / stride) * stride
    core = core_size(space, halo, stride, limit)
    together = max(1, limit // math.prod(min(c + 2 * halo, s) for c, s in zip(core, space, strict=True)))
    result: NDArray[np.float32] | None = None
    tiles = list(itertools.product(range(0, len(images), together),
                                   *(range(0, s, c) for s, c in zip(space, core, strict=True))))
    with torch.no_grad():
        for first, *corner in track(tiles, label="  windows") if len(tiles) > 1 else tiles:
            outer = [slice(max(0, a - halo), min(s, a + c + halo))
                     for a, c, s in zip(corner, core, space, strict=True)]
            made = convert(images[(slice(first, first + together), slice(None), *outer)])
            inner = [slice(a - o.start, min(a + c, s) - o.start)
                     for a, c, s, o in zip(corner, core, space, outer, strict=True)]
            kept = made[(slice(None), slice(None), *inner)].float().cpu().numpy()
            if result is None:
                result = np.empty((len(images), kept.shape[1], *space), np.float32)
            where = [slice(a, a + c) for a, c in zip(corner, core, strict=True)]
            result[(slice(first, first + together), slice(None), *where)] = kept
    assert result is not None, "there are no images"
    return result


def core_size(space: tuple[int, ...], halo: int, stride: int, limit: int) -> tuple[int, ...]:
    """Sides of the tiles, multiples of `stride`: the whole image if it fits, else the longest sides are halved.

    A side is never cut below the halo: then most of a tile would be border, and `limit` is passed instead.
    """
    core = [math.ceil(side / stride) * stride for side in space]

    def pixels() -> int:
        return math.prod(min(c + 2 * halo, s) for c, s in zip(core, space, strict=True))

    smallest = max(halo, stride)
    while pixels() > limit and max(core) > smallest:
        longest = core.index(max(core))
        core[longest] = max(smallest, math.ceil(core[longest] / 2 / stride) * stride)
    return tuple(core)
