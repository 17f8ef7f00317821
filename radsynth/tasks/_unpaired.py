"""What tasks without pairs share: two classes of images as domains, and equally many images of both in each turn.

The smaller side of a batch is repeated.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.augment import augment
from radsynth.batch import Batch
from radsynth.device import channels_last
from radsynth.errors import DataError, SettingsError
from radsynth.image import ImageSpec
from radsynth.settings import nearest


def domains_of(kind: str, names: tuple[str, ...], spec: ImageSpec) -> tuple[str, str]:
    """The two classes that were named, or the data's; SettingsError when they are not two of the data's."""
    known = ", ".join(spec.labels) or "none"
    if len(spec.labels) < 2:
        raise SettingsError(f"task.kind={kind} needs images of two classes, such as sub-folders; these have: {known}. "
                            "Sub-folders of DICOM, NIfTI and MetaImage files are taken for patients: "
                            "data.labels=folders takes them for classes.")
    for name in names:
        if name not in spec.labels:
            raise SettingsError(f"task.domains: {name!r} is no class of these images{nearest(name, spec.labels)}; "
                                f"they have {known}.")
    chosen = names or spec.labels
    if len(chosen) != 2 or chosen[0] == chosen[1]:
        raise SettingsError(f"task.kind={kind} translates between two classes, the images have {len(spec.labels)} "
                            f"({known}): name two different ones, such as task.domains=[{','.join(spec.labels[:2])}].")
    return chosen[0], chosen[1]


def need_both(prepared: Prepared, domains: tuple[str, str]) -> None:
    """DataError when no training image is of one of the two classes."""
    for name in domains:
        if not len(prepared.indices("train", prepared.spec.labels.index(name))):
            raise DataError(f"{prepared.folder} has no training images of the class {name}, which is to be learned: "
                            "give more patients, or name other classes (task.domains).")


def by_turns(batch: Batch, labels: list[int]) -> Batch:
    """Equally many images of the two labels, by turns, one more than items where these are an odd number; none of a
    batch that lacks one of them."""
    assert batch.labels is not None
    found = [torch.nonzero(batch.labels == label)[:, 0] for label in labels]
    # Always half a batch of each, so that a step costs the same whatever the draw.
    half = (len(batch.items) + 1) // 2 if min(len(rows) for rows in found) else 0
    turn = torch.arange(half, device=batch.images.device)
    rows = torch.stack([of[turn % max(1, len(of))] for of in found], dim=1).flatten()
    return dataclasses.replace(batch, images=batch.images[rows], labels=batch.labels[rows], masks=None,
                               items=batch.items[:2 * half])


def sides_of(batch: Batch, labels: list[int]) -> list[Tensor] | None:
    """As many images of the first label as of the second, of a batch `by_turns` or a part of one; None where there are
    none."""
    if len(batch.images) % 2:  # a part, whose first image may be of the second label
        batch = by_turns(batch, labels)
    return [channels_last(side) for side in (batch.images[::2], batch.images[1::2])] if len(batch.images) else None


def seen(images: Tensor, batch: Batch, stream: str, augmentation: Augmentation) -> Tensor:
    """Augmented by the numbers of as many items as there are images."""
    return augment(images, first_of(batch, len(images)), stream, augmentation)


def first_of(batch: Batch, count: int) -> Batch:
    """The first items of a batch, without masks."""
    return dataclasses.replace(batch, images=batch.images[:count], items=batch.items[:count],
                               labels=None if batch.labels is None else batch.labels[:count], masks=None)
