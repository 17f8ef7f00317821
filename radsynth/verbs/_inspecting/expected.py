"""What `prepare` will make of data, as far as headers and a sample of its images tell before anything is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mode

import numpy as np

from radsynth.datasets import Record
from radsynth.image import GREY, Image, ImageSpec
from radsynth.verbs._preparing.groups import Group
from radsynth.verbs._preparing.options import Settings
from radsynth.verbs._preparing.prepared import sorted_labels


def expected(records: Sequence[Record], images: Sequence[Image], group: Group, options: Settings,
             size: tuple[int, ...]) -> ImageSpec | None:
    """The specification at a size, by the settings of `prepare`; None where nobody can tell.

    records: also what is added to the training split; images: a sample of them; group: what all of them have in common.
    What no network or task asks for is left out, and of the values that -1 and 1 stand for it is known alone that there
    are some.
    """
    grey = options.channels == "grey"
    names = [GREY if grey and len(image.channels) == 3 else image.channels for image in images]
    names = [name for name in names if len(name) == group.channels]
    if not names:
        return None
    values, partly = _labels(records, images, options)
    return ImageSpec(
        channels=mode(names),
        size=size,
        labels=sorted_labels({record.label for record in records} - {None}),
        conditions=tuple(records[0].conditions),
        mask_classes=1 + values[-1] if values else 0,
        mask_values=values,
        partly_masked=partly,
        modality=group.modality,
        units=group.units,
        kinds=group.kinds,
        bits=max(image.bits for image in images),
        values=options.window,
    )


def _labels(records: Sequence[Record], images: Sequence[Image], options: Settings) -> tuple[tuple[int, ...], bool]:
    """The label values of the masks that are kept, () where none are, and whether some of the images have none."""
    masks = [image.mask for image in images if image.mask is not None]
    files, some = sum(bool(record.masks) for record in records), any(record.unmasked for record in records)
    own = [record for record in records if not record.added]
    # Masks of their own files are counted; others lie in the images' files, of which the sample has equal shares.
    most = 2 * sum(bool(one.masks) for one in own) >= len(own) if files else 2 * len(masks) >= len(images)
    if not masks or options.masks == "off" or not (some or most):
        return (), False
    values = (0, 1, 2) if options.masks == "instances" else sorted({0}.union(*(np.unique(m).tolist() for m in masks)))
    return tuple(values), some and 0 < files < len(records)
