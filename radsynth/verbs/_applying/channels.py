"""Which of an image's channels a network takes."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.image import GREY, RGB, Image


def taken(image: Image, names: tuple[str, ...], may_lack: bool = False) -> list[NDArray[Any] | None]:
    """The channels (*space) of these names, those of other names in their order; None for one that is missing or blank,
    which all but one may be where the network `may_lack` some. RejectedFile otherwise."""
    have = image.channels
    if not set(names) & set(have) and len(have) == len(names):
        return list(image.pixels)
    blank = {name for name, channel in zip(have, image.pixels, strict=True)
             if len(have) > 1 and have != RGB and channel.min() == channel.max()}  # a colour is not missing
    lacking = [name for name in names if name not in have or name in blank]
    if lacking and not (may_lack and len(lacking) < len(names)):
        there = ", ".join(name for name in have if name not in blank)
        hint = ". Save it in colour (RGB)" if have == GREY and names == RGB else (
            ". Give a folder that holds a file of each for every patient") if len(have) == 1 else (
            ". Save it in grey values" if have == RGB and names == GREY else "")
        raise RejectedFile(f"its channels are {there}; the run expects {', '.join(names)}{hint}")
    return [None if name in lacking else image.pixels[have.index(name)] for name in names]
