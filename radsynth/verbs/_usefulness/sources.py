"""Where the images of a utility study come from: real patients of a prepared folder, synthetic ones of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError
from radsynth.image import ImageSpec
from radsynth.run_folder import RunFolder
from radsynth.tasks import makes_masks
from radsynth.verbs._evaluating.sides import PreparedRows
from radsynth.verbs._evaluating.synthetic import classes_of, read_synthetic
from radsynth.verbs._other_images import other_images
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._usefulness.training import Examples, Kind
from radsynth.verbs.generate import draw


@dataclass(frozen=True, kw_only=True, eq=False)
class Real:
    """Images of one split with the patient of each, as numbers from 0."""

    examples: Examples
    owners: NDArray[np.int64]

    @property
    def patients(self) -> int:
        """How many."""
        return len(np.unique(self.owners))


def open_real(run: Path, data: Path | None) -> Prepared:
    """The prepared data of a run, or a prepared folder itself. FolderError when it is not what the run learned from.

    The check keeps patients apart: another preparation may put the generator's training patients into the test.
    """
    folder = RunFolder(run)
    if data is None:
        data = run if (run / "manifest.json").exists() else run / "data"
        if not run.exists():
            raise FolderError(f"{run} does not exist. Give a run folder, or a prepared folder with --synthetic DIR.")
        if not (data / "manifest.json").exists():
            raise FolderError(f"{run} has no prepared data in {data}: name the folder that it was trained on (--data).")
    prepared = Prepared(data)
    if folder.begun and folder.description()["data_hash"] != prepared.manifest.data_hash:
        raise FolderError(f"{data} is not the data that {run} was trained on: its test patients may have been seen in "
                          "training. Give the prepared folder of that training.")
    return prepared


def kind_of(prepared: Prepared, wanted: str) -> Kind:
    """What can be learned from the data: its classes if it has some, else its masks. DataError if neither or not it."""
    possible: list[Kind] = (["classification"] if len(prepared.spec.labels) > 1 else [])
    possible += ["segmentation"] if prepared.spec.mask_classes > 1 else []
    for kind in possible:
        if wanted in ("auto", kind):
            return kind
    has = " and ".join(possible) or "neither two classes nor masks"
    raise DataError(f"Usefulness is measured by a classifier or a segmenter, but {prepared.folder} has {has} "
                    f"(utility.target={wanted}). Give images in folders of their classes, or with masks.")


def real(prepared: Prepared, split: str, kind: Kind) -> Real:
    """The data's own images of a split that can be used: those with a class, or those with a mask."""
    rows = prepared.own(split)
    labels = prepared.labels(rows)
    if kind == "classification":
        rows, labels = rows[labels >= 0], labels[labels >= 0]
    else:
        rows, labels = rows[prepared.masked(rows)], labels[prepared.masked(rows)]
    if not len(rows):
        raise DataError(f"{prepared.folder} has no {split} images that can be used: prepare more patients.")
    masks = places(prepared.stored(rows, "masks"), prepared.spec) if kind == "segmentation" else None
    owners = np.unique(prepared.patients(rows), return_inverse=True)[1]
    return Real(examples=Examples(images=PreparedRows(prepared=prepared, rows=rows), labels=labels, masks=masks),
                owners=owners.astype(np.int64))


def some_patients(found: Real, share: float, seed: int) -> Real:
    """A share of the patients, of every class alike; a smaller share is part of a larger one with the same seed.

    The images of a part are in memory; where it is the whole, these are `found`'s.
    A patient counts for the class of the first of their images. Every class keeps at least one patient.
    """
    order = np.random.default_rng(seed).permutation(found.patients)
    first = np.unique(found.owners, return_index=True)[1]
    group = found.examples.labels[first]
    kept: list[int] = []
    for label in np.unique(group):
        members = [patient for patient in order if group[patient] == label]
        kept += members[: max(1, round(share * len(members)))]
    rows = np.flatnonzero(np.isin(found.owners, kept))
    if len(rows) == len(found.examples):
        return found
    return Real(examples=found.examples.take(rows), owners=found.owners[rows])


def draws(run: Path, folder: Path | None, kind: Kind) -> bool:
    """Whether the synthetic images are drawn from the run: where no folder is given, and the run makes the masks."""
    return folder is None and (kind == "classification" or (RunFolder(run).trained and makes_masks(Sampler(run).task)))


def synthetic(run: Path, folder: Path | None, prepared: Prepared, kind: Kind, count: int, seed: int) -> Examples:
    """`count` synthetic images with classes or masks: from `folder`, or drawn from the run. DataError without them."""
    if draws(run, folder, kind):
        drawn = draw(run, count, seed=seed, data=prepared.folder)
        masks = places(drawn.masks, prepared.spec) if kind == "segmentation" and drawn.masks is not None else None
        return Examples(images=np.clip(drawn.images, -1, 1, out=drawn.images), labels=drawn.labels, masks=masks)
    if folder is None:
        folder = run / "synthetic"
    if not folder.exists():
        raise FolderError(f"{folder} does not exist: there are no synthetic images. Generate them (with masks for "
                          "segmentation), or name a folder.")
    if kind == "classification" and (folder / "samples.csv").exists():
        found = _generated(folder, prepared)
    else:
        found = _foreign(folder, prepared, kind)
    if len(found) > count:
        found = found.take(np.sort(np.random.default_rng(seed).permutation(len(found))[:count]))
    return found


def _generated(folder: Path, prepared: Prepared) -> Examples:
    """What `generate` wrote, with the classes of samples.csv."""
    images = read_synthetic(folder, prepared.spec, prepared.intensity)
    names = classes_of(folder)
    if len(names) != len(images):
        raise DataError(f"{folder}/samples.csv lists {len(names)} images, {len(images)} are there. Put the "
                        "others back, or make the images anew.")
    return Examples(images=images, labels=_indices(names, prepared.spec.labels, folder))


def _foreign(folder: Path, prepared: Prepared, kind: Kind) -> Examples:
    """Images of any format with classes or masks, brought to the size and grey scale of the real ones."""
    spec = prepared.spec
    preparing = prepared.manifest.preparation.get("prepare", {})
    with other_images(folder, spec, prepared.intensity, preparing, masks=kind == "segmentation") as (made, images):
        rows = np.arange(len(made.rows), dtype=np.int64)
        if kind == "segmentation":
            if made.spec.mask_classes < 2:
                raise DataError(f"{folder} holds images without masks. A segmenter learns from images with masks.")
            masks = made.stored(rows, "masks")
            unknown = sorted(set(np.unique(masks).tolist()) - set(spec.label_values))
            if unknown:
                raise DataError(f"The masks in {folder} have label {unknown[-1]}; the real ones have "
                                f"{', '.join(map(str, spec.label_values))}.")
            return Examples(images=images, labels=np.zeros(len(rows), np.int64), masks=places(masks, spec))
        names = [made.spec.labels[label] if label >= 0 else "" for label in made.labels(rows)]
        return Examples(images=images, labels=_indices(names, spec.labels, folder))


def places(masks: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8]:
    """Label values as their places among the real masks' values: classes without gaps."""
    table: NDArray[np.uint8] = np.searchsorted(spec.label_values, np.arange(256)).astype(np.uint8)
    return table[masks]


def _indices(names: list[str], known: tuple[str, ...], folder: Path) -> NDArray[np.int64]:
    unknown = sorted(set(names) - set(known))
    if unknown:
        has = f"have the class {unknown[0]}" if unknown[0] else "have no class"
        raise DataError(f"Images in {folder} {has}; the real ones have the classes {', '.join(known)}. Put them into "
                        "folders of these names, or give what 'radsynth generate' wrote.")
    return np.asarray([known.index(name) for name in names], np.int64)
