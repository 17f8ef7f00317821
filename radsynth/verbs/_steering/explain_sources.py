"""The images that `explain` looks at: given, held-out or synthetic ones, with their classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError
from radsynth.run_folder import RunFolder
from radsynth.verbs._other_images import other_images
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._steering.explained import Given
from radsynth.verbs._steering.inversion import starting_codes
from radsynth.verbs._steering.latents import LatentSpace

MOST = 8
"""Images explained at most: each is a row of pictures."""
SYNTHETIC = 4
"""Synthetic images explained beside them: their codes are known, so they show what the search itself can do."""


def prepared_data(run: Path, data: Path | None) -> Prepared | None:
    """The prepared data of the run, if it is at hand; FolderError for another one."""
    if data is None and not (run / "data" / "manifest.json").exists():
        return None
    prepared = Prepared(data if data is not None else run / "data")
    if prepared.manifest.data_hash != RunFolder(run).description()["data_hash"]:
        raise FolderError(f"{prepared.folder} is not the data that {run} was trained on: give that with --data.")
    return prepared


def given_images(sampler: Sampler, paths: Sequence[Path], label: str | None, prepared: Prepared | None, seed: int,
                 ) -> Given:
    """The images of the paths, or held-out ones without any; SettingsError for a class that the run has not learned.
    """
    index = -1 if label is None else sampler.index_of(label)
    if not paths:
        return _held_out(sampler, prepared, None if label is None else index, seed)
    images, told = [], []
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path} does not exist. Give image files or folders of them.")
        with other_images(path, sampler.spec, sampler.intensity, sampler.preparing) as (_, values):
            images += list(values)
            told += [path.name if len(values) == 1 else f"{path.name} {k + 1}" for k in range(len(values))]
    return Given(images=np.stack(images[:MOST]), labels=np.full(len(images[:MOST]), index), names=tuple(told[:MOST]),
                 kind="given", assumed=label is None and len(sampler.spec.labels) > 1)


def _held_out(sampler: Sampler, prepared: Prepared | None, label: int | None, seed: int) -> Given:
    """Held-out images of as many learned classes as there are rows."""
    if prepared is None:
        raise DataError("Give images to explain: the run has no prepared data (RUN/data) to take held-out ones from.")
    rows = prepared.indices("test" if len(prepared.indices("test")) else "validation")
    names = sampler.spec.labels
    wanted = [names.index(name) for name in sampler.learned] if label is None else [label]
    if len(names) > 1:
        rows = rows[np.isin(prepared.labels(rows), wanted)]
    if not len(rows):
        of = f" of {', '.join(names[value] for value in wanted)}" if len(names) > 1 else ""
        raise DataError(f"{prepared.folder} has no held-out images{of}. Give images to explain.")
    rows = np.random.default_rng(seed).permutation(rows)
    labels = prepared.labels(rows)
    turn = np.zeros(len(rows), np.int64)  # the first of every class, then the second of every class, and so on
    for value in np.unique(labels):
        turn[labels == value] = np.arange((labels == value).sum())
    chosen = rows[np.lexsort((labels, turn))][:6]
    return Given(images=prepared.images(chosen), labels=prepared.labels(chosen), kind="held-out",
                 names=tuple(f"held-out {k + 1}" for k in range(len(chosen))),
                 numbers=numbers_of(sampler, prepared, chosen))


def numbers_of(sampler: Sampler, prepared: Prepared, rows: NDArray[np.int64]) -> Tensor | None:
    """The numbers (n, k) of prepared images, as networks take them; None for a run that learned none."""
    return torch.from_numpy(prepared.conditions(rows)).to(sampler.device) if sampler.spec.conditions else None


def made_images(sampler: Sampler, seed: int) -> Given:
    """Synthetic images; those of `generate` with the same seed, from item 2,000 on, which the search does not draw."""
    ((images, labels),) = list(sampler.images(2000, SYNTHETIC, seed=seed))
    return Given(images=np.clip(images, -1, 1), labels=labels, kind="synthetic",
                 names=tuple(f"synthetic {k + 1}" for k in range(SYNTHETIC)),
                 numbers=sampler.conditions(range(2000, 2000 + SYNTHETIC), seed))


def guess_classes(space: LatentSpace, given: Given, seed: int) -> Given:
    """Each image's class: that of the nearest of as many images drawn from every class."""
    targets = torch.from_numpy(given.images).to(space.device)
    errors = []
    for label in space.learned:
        labels = space.classes_of(len(targets), label)
        _, nearest = starting_codes(space, targets, labels, 128, 1, seed)
        errors.append((nearest - targets).square().flatten(1).mean(1))
    chosen = torch.stack(errors).argmin(0).cpu().numpy()
    return dataclasses.replace(given, labels=np.asarray(space.learned)[chosen])
