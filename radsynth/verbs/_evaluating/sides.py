"""The sides of a comparison: which images are drawn of each, and that none is on two sides that must be apart."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.errors import DataError
from radsynth.metrics._features import Rows, content_of, digests

Numbers = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedRows:
    """Some images of a prepared folder, read from disk when asked for."""

    prepared: Prepared
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[np.float32]:
        return self.prepared.images(self.rows[indices])


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Images that can be drawn from. patients, labels: of every image; without, each its own patient, of no class."""

    images: Rows
    patients: Numbers | None = None
    labels: Numbers | None = None

    def draw(self, wanted: int, generator: np.random.Generator) -> Chosen:
        """`wanted` images at random, in their order."""
        n = len(self.images)
        rows = np.sort(generator.permutation(n)[:wanted]).astype(np.int64)
        patients = np.arange(n) if self.patients is None else np.asarray(self.patients, dtype=np.int64)
        labels = np.full(n, -1) if self.labels is None else np.asarray(self.labels, dtype=np.int64)
        return Chosen(images=self.images, rows=rows, patients=patients[rows], labels=labels[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """Images drawn for the comparison: which rows of their source; the patient and the class (or -1) of each."""

    images: Rows
    rows: NDArray[np.int64]
    patients: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[np.float32]:
        return self.images[self.rows[indices]]

    def take(self, which: NDArray[np.int64]) -> Chosen:
        """Some of them."""
        return replace(self, rows=self.rows[which], patients=self.patients[which], labels=self.labels[which])

    @functools.cached_property
    def digests(self) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """A hash of every image's pixels, and whether the image has more than one value."""
        return digests(self)

    @property
    def content(self) -> str:
        """One hash of all pixels."""
        return content_of(self.digests[0])


def all_of(images: Rows) -> Chosen:
    """Every image, each its own patient, of no class."""
    return Source(images=images).draw(len(images), np.random.default_rng(0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """held_out, floor and each synthetic set hold equally many images; floor: positions in `training`."""

    held_out: Chosen
    training: Chosen
    floor: NDArray[np.int64]
    synthetic: Mapping[str, Chosen]

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, *space)."""
        return tuple(self.held_out[np.arange(1)].shape[1:])


def choose(held_out: Source, training: Source, synthetic: Mapping[str, Source], *, images: int, training_images: int,
           seed: int) -> Sides:
    """Equal numbers of held-out, synthetic and floor images, and the training images to search.

    DataError when there are too few, when shapes differ, when an image or a patient is in training and held out, or
    when a synthetic image is a held-out one.
    """
    generator = np.random.default_rng(seed)
    made = min(len(source.images) for source in synthetic.values())
    count = min(len(held_out.images), len(training.images), made, images)
    if count < 2:
        raise DataError(
            f"There are too few images: {len(held_out.images)} held-out real, {len(training.images)} training "
            f"and {made} synthetic ones. Numbers need patients that training never saw: give images of at least "
            "three patients, a larger prepare.validation, or more synthetic images."
        )
    _same_shapes({"the held-out real images": held_out, "the training images": training} | dict(synthetic))
    _refuse_patients(held_out, training)
    searched = training.draw(max(count, min(len(training.images), training_images)), generator)
    floor = np.sort(generator.permutation(len(searched))[:count])
    drawn = held_out.draw(count, generator)
    refuse_overlap(drawn, searched)
    state = generator.bit_generator.state
    sets = {}
    for name, source in synthetic.items():
        generator.bit_generator.state = state  # a set's draw does not depend on the sets before it
        sets[name] = source.draw(count, generator)
        refuse_real(name, sets[name], drawn)
    return Sides(held_out=drawn, training=searched, floor=floor, synthetic=sets)


def _same_shapes(sources: Mapping[str, Source]) -> None:
    shapes = {name: tuple(source.images[np.arange(1)].shape[1:]) for name, source in sources.items()}
    (first, wanted), *others = shapes.items()
    for name, shape in others:
        if shape != wanted:
            raise DataError(
                f"Images must have one shape (channels, *size): {first} have {wanted}, {name} {shape}. "
                "Prepare or generate them at one size."
            )


def _refuse_patients(held_out: Source, training: Source) -> None:
    if held_out.patients is None or training.patients is None:
        return
    both = np.intersect1d(held_out.patients, training.patients)
    if len(both):
        raise DataError(
            f"{len(both)} patient{' is' if len(both) == 1 else 's are'} both in the training images and in the "
            "held-out ones, so nothing measured would hold for new patients. Prepare the data again: 'radsynth "
            "prepare' splits by patient."
        )


def refuse_real(name: str, synthetic: Chosen, held_out: Chosen) -> None:
    """DataError when synthetic images are, pixel for pixel, held-out ones: then nobody held them out."""
    (made, varied), (unseen, _) = synthetic.digests, held_out.digests
    same = np.flatnonzero(varied & np.isin(made, unseen))
    if len(same):
        whose = "" if name == "synthetic" else f" of {name}"
        raise DataError(
            f"{len(same)} of {len(synthetic)} synthetic images{whose} are, pixel for pixel, among the real images to "
            f"compare with (first: number {synthetic.rows[same[0]]}). Either they "
            "are not synthetic, or their generator was trained on these patients: nothing measured would hold for new "
            "ones. Compare with patients that it never saw."
        )


def refuse_overlap(held_out: Chosen, training: Chosen, where: str = "the training images") -> None:
    """DataError when a held-out image is, pixel for pixel, one of the training images. Images of one value may be."""
    (seen, varied), (trained, _) = held_out.digests, training.digests
    same = np.flatnonzero(varied & np.isin(seen, trained))
    if len(same):
        raise DataError(
            f"{len(same)} of {len(held_out)} real images to compare with are, pixel for pixel, among {where} too "
            f"(first: number {held_out.rows[same[0]]}), so nothing measured would hold for new patients. Take images "
            "that training never saw."
        )
