"""What is said before images are brought to the size that was asked for: what of them will not be as one may expect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from radsynth.io import Header
from radsynth.io._geometry import even_size, in_proportion
from radsynth.progress import tell
from radsynth.verbs._preparing.fit import fits
from radsynth.verbs._preparing.options import Settings

EMPTY = 0.4
"""Share of the frame below which it is said that background takes the rest; a square of an image 1 to 2 has half."""


def tell_of_size(options: Settings, headers: Sequence[Header]) -> None:
    """Of prepare.spacing, which images do not get it; without it, whether prepare.size has other proportions than the
    images, so that most of it is background."""
    if options.size is None or options.fit == "patches":
        return
    known = [facts for facts in headers if facts.spacing and len(facts.size) == len(options.size)]
    if options.spacing is not None:
        _tell_of_spacing(options, options.size, options.spacing, known, len(headers))
    elif options.fit == "pad" and known:
        _tell_of_background(options.size, known)


def _tell_of_spacing(options: Settings, size: tuple[int, ...], pixels: tuple[float, ...], known: Sequence[Header],
                     count: int) -> None:
    if unknown := count - len(known):
        tell(f"mind: {unknown:,} of {count:,} images do not say how large their pixels are; they are taken as "
             "prepare.spacing says.")
    larger = sum(not fits(facts.size, size, facts.spacing or (), pixels) for facts in known)
    if larger and options.fit == "pad":
        tell(f"mind: {larger:,} of {count:,} images are larger than prepare.size in pixels of prepare.spacing, and are "
             "shrunk as a whole; a larger size keeps them, prepare.fit=crop cuts them.")


def _tell_of_background(size: tuple[int, ...], known: Sequence[Header]) -> None:
    usual = tuple(round(median(side)) for side in zip(*(facts.size for facts in known), strict=True))
    steps = tuple(median(step) for step in zip(*(facts.spacing or () for facts in known), strict=True))
    even = even_size(usual, steps)
    scale = min(frame / side for frame, side in zip(size, even, strict=True))
    share = math.prod(scale * side / frame for frame, side in zip(size, even, strict=True))
    if share < EMPTY:
        extent = " x ".join(f"{side * step:.0f}" for side, step in zip(usual, steps, strict=True))
        tell(f"mind: images of {extent} mm fill {share:.0%} of prepare.size={list(size)}, background takes the rest: "
             f"{list(in_proportion(even, max(size)))} has their proportions.")
