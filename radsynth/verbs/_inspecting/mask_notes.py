"""Masks that can be meant in two ways: how they are understood, and how the other way is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from radsynth.datasets import Record
from radsynth.verbs._preparing.few_values import FEW

THINGS = 4
DIFFERENT = 3
"""Masks with the values 1 to n, of which one has at least `THINGS`, and which have as many different n, look like
numbers of things: classes are seldom all there up to one of them."""
MANY = 40
"""Values from which on they look like numbers of things anyway."""
TOGETHER = (
    "several masks of one image (x_mask_1, x_mask_2, ...) become one in which all are the label 1. If each shows "
    "another kind of thing, save one mask with the values 1, 2, ...; if each shows a thing of one kind and they must "
    "be told apart, save one mask in which they are numbered and set prepare.masks=instances"
)
FEW_VALUES = (
    f"at most {FEW} different values, all whole numbers, among the sampled images. If these are label maps (masks), "
    "they would be learned as images: data.only chooses files by their path, and a mask that is named as such is used "
    "as the mask of its image"
)
NUMBERED = (
    "a mask whose values are 1 to n, with another n in others: every value counts as a class. If each thing has its "
    "own number, set prepare.masks=instances"
)


def mask_notes(records: Sequence[Record], masks: Sequence[NDArray[np.uint8]]) -> dict[str, int]:
    """What to say of masks, with the number of images that it is said of. masks: those of a sample of the records."""
    values = [set(np.unique(mask).tolist()) - {0} for mask in masks]
    several = sum(len(record.masks) > 1 for record in records)
    counts = Counter(len(found) for found in values if found)
    notes = {TOGETHER: several} if set().union(*values) == {1} and several else {}
    numbered = all(found == set(range(1, len(found) + 1)) for found in values)
    if numbered and len(counts) >= DIFFERENT and THINGS <= max(counts) <= MANY:
        notes[NUMBERED] = sum(bool(record.masks) for record in records) or len(masks)
    return notes
