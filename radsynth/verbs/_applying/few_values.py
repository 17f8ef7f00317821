"""Whether an image that a run is applied to may be a label map: it has a few whole numbers alone.

A network makes something of it that can look usual by every number, and that means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radsynth.image import Image
from radsynth.progress import tell
from radsynth.verbs._applying.limits import with_flag
from radsynth.verbs._preparing.few_values import FEW, has_few_values

FLAG = "few_values"
"""What samples.csv flags such an image with."""
USUAL = 0.1
"""Share of the training images from which on an image with few values is a usual one, which says nothing. Fewer may
be dark slices at the ends of volumes, or label maps that lay among them."""


def looks_like_labels(image: Image, usual: float) -> bool:
    """An image with few values, where the share of such among the training images, `usual`, is below USUAL."""
    return usual < USUAL and has_few_values(image.pixels)


def flagged(others: str, image: Image, usual: float) -> str:
    """The flags of an image: others, as of `limits.flags`, and FLAG where it looks like labels."""
    return with_flag(others, FLAG) if looks_like_labels(image, usual) else others


def tell_of(rows: Sequence[Mapping[str, object]]) -> None:
    """Say of which images, by their rows of samples.csv, the results may mean nothing."""
    found = list(dict.fromkeys(str(row["source"]) for row in rows if FLAG in str(row["flagged"]).split()))
    if found:
        who = f"{found[0]} has" if len(found) == 1 else f"{len(found):,} images, the first of them {found[0]}, have"
        tell(f"mind: {who} at most {FEW} different values, all whole numbers. If that is a label map, what was made of "
             f"it means nothing; samples.csv flags it ({FLAG}).")
