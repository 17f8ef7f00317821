"""Whether an image that a run is applied to may be a label map: it has a few whole numbers alone.

A network makes something of it that can look usual by every number, and that means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from radsynth.image import Image
from radsynth.progress import tell

FEW = 16
"""Values at most."""
FLAG = "few_values"
"""What samples.csv flags such an image with."""
GLANCE = 10_000
"""Values that are looked at first: nearly every image has more than a few among them."""


def has_few_values(image: Image) -> bool:
    """From two to FEW values, all whole numbers. A single one is a blank image."""
    values = image.pixels.ravel()
    if len(np.unique(values[::max(1, len(values) // GLANCE)])) > FEW:
        return False
    found = np.unique(values)
    return 2 <= len(found) <= FEW and bool((found == np.rint(found)).all())


def flagged(others: str, image: Image) -> str:
    """The flags of an image: others, as of `doubts.flags`, and FLAG where it has few values."""
    if not has_few_values(image):
        return others
    return FLAG if others in ("", "unknown") else f"{others} {FLAG}"


def tell_of(rows: Sequence[Mapping[str, object]]) -> None:
    """Say of which images, by their rows of samples.csv, the results may mean nothing."""
    found = list(dict.fromkeys(str(row["source"]) for row in rows if FLAG in str(row["flagged"]).split()))
    if found:
        who = f"{found[0]} has" if len(found) == 1 else f"{len(found):,} images, the first of them {found[0]}, have"
        tell(f"mind: {who} at most {FEW} different values, all whole numbers. If that is a label map, what was made of "
             f"it means nothing; samples.csv flags it ({FLAG}).")
