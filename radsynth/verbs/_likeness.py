"""Whether images look like those that a base generator was trained on: the same modality may show another organ.

The sample that `inspect` has read is compared by the mean of its features (those of the Frechet distance). Of real T1,
T2 and FLAIR slices of brains the squared distance is 0.5 to 1.4 times the spread of the base's images, of heart, breast
and hippocampus in MR 1.6 to 2.2 times (docs/lab-notebook.md).
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radsynth.bases import Facts, read_base
from radsynth.verbs._inspecting.page import Thumbnail

FAR = 1.5
"""So many times the spread of the base's images between the means is another kind of image."""
NEAR = 0.85
"""The same where the modality is not known and the look decides alone: brains of one hospital are as near as 0.5 to
0.9, other radiographs of chests 0.5. HeadCT is 0.9 from brains, breasts 1.1 and noise 1.5 from chests, all of 28 px."""
FEWEST = 8
"""Pictures below which nothing can be said."""


class Likeness:
    """Asked for a base, says whether the pictures of a sample look like its images."""

    def __init__(self, pictures: Sequence[Thumbnail]) -> None:
        self.pictures = pictures

    def __call__(self, base: Facts) -> bool:
        """False where there are too few pictures to tell."""
        return len(self.pictures) >= FEWEST and self.distance(base) <= FAR

    def distance(self, base: Facts) -> float:
        """Squared distance between the mean features, in units of the spread (summed variances) of the base's."""
        from radsynth.metrics._features import features

        look = read_base(base.name).look
        shown = np.stack([_framed(picture.png, base.spec.size) for picture in self.pictures])
        gap = features(shown).mean(0) - look["mean"].float().numpy()
        return float((gap**2).sum() / float(look["spread"]))


def _framed(png: bytes, size: tuple[int, ...]) -> NDArray[np.float32]:
    """A picture (1, *size) in [-1, 1], fitted into the base's frame on black and not stretched."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    grey = Pillow.open(io.BytesIO(png)).convert("L")
    framed = ImageOps.pad(grey, (size[1], size[0]), Pillow.Resampling.BOX)
    return np.asarray(framed, dtype=np.float32)[None] / 127.5 - 1
