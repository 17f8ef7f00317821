"""Generates: a trained run in, a synthetic data set out, in the input's format. Image k depends on (seed, k) alone."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from radsynth.errors import SettingsError, in_command
from radsynth.files import check_new, whole_folder, write_atomically
from radsynth.progress import Progress
from radsynth.run_folder import RunFolder
from radsynth.settings import settings
from radsynth.tasks import draws, paints
from radsynth.verbs._auditing.copy_filter import Filtered, filtered
from radsynth.verbs._journal import Journal, begun, close
from radsynth.verbs._made_before import REQUEST, count_made, rows_made
from radsynth.verbs._report.cards import dataset_card, write_cards, write_dataset_card, write_model_card
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._writing import Drawn, Row, Writing, check_name, usual_format, write_table


@settings
class Settings:
    """The synthetic data set that `run` makes."""

    count: NonNegativeInt = 0
    """Images to make; 0: as many as there are training images, between 500 and 2000."""
    format: Literal["", "dicom", "nifti", "metaimage", "picture", "png", "tiff", "npz"] = ""
    """File format; empty: the input's, or NIfTI for channels that it cannot hold; picture: PNG, or TIFF for what PNG
    cannot hold."""
    truncation: float = Field(1.0, gt=0, le=1)
    """Draws codes towards their mean: 1 is the full variety, smaller values are more typical and less varied; below
    about 0.5 images may lose their structure."""
    copy_filter: bool = False
    """Draw images again that are more like a training image than unseen patients' images are; needs RUN/data."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A synthetic data set on disk: its folder, the number of images, their format."""

    folder: Path
    count: int
    format: str


def sample(run: Path, count: int, *, seed: int = 0, label: str | None = None, truncation: float = 1.0,
           copy_filter: bool = False) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first `count` images as one array (n, c, *space) in [-1, 1], with their class indices (n,), -1 without."""
    drawn = draw(run, count, seed=seed, label=label, truncation=truncation, copy_filter=copy_filter)
    return drawn.images, drawn.labels


def draw(run: Path, count: int, *, seed: int = 0, label: str | None = None, truncation: float = 1.0,
         copy_filter: bool = False, data: Path | None = None, masks: Path | None = None) -> Drawn:
    """As `sample`, with masks where the run makes them; data, masks: as in `generate`."""
    sampler = Sampler(run, data, masks=masks)
    source = filtered(sampler) if copy_filter else sampler
    chunks = []
    with Progress(count, "drawing", "images") as progress:
        for chunk in source.drawn(0, count, seed=seed, label=label, truncation=truncation):
            chunks.append(chunk)
            progress.update(sum(len(one.labels) for one in chunks))
    labelled = [chunk.masks for chunk in chunks if chunk.masks is not None]
    return Drawn(images=np.concatenate([chunk.images for chunk in chunks]),
                 labels=np.concatenate([chunk.labels for chunk in chunks]),
                 masks=np.concatenate(labelled) if labelled else None)


def load(run: Path) -> Sampler:
    """A trained run's generator, ready to sample: `load(run).images(0, 10, seed=0)`."""
    return Sampler(run)


def check_draws(run: Path, instead: str) -> None:
    """SettingsError, which says what to do instead, for a trained run that makes images from images."""
    if RunFolder(run).trained and not draws(Sampler(run).task):
        raise SettingsError(f"{run} makes images from images: {instead}")


def generate(run: Path, out: Path, *, count: int, format: str | None = None, label: str | None = None,
             truncation: float = 1.0, seed: int = 0, copy_filter: bool = False, data: Path | None = None,
             at: Mapping[str, float] | None = None, masks: Path | None = None) -> Generated:
    """Write `count` synthetic images with samples.csv (file, index, seed, label) into the new folder `out`.

    Of a run that makes masks too these lie in `masks` as the images lie in `images`, and samples.csv names them (mask).
    data: the prepared folder of the training, where a run that paints masks finds those it deforms; default RUN/data
    masks: a run folder that draws masks (task.masks=true), in place of deformed ones; trained on the same prepared data
    at: numbers that the images are to have, of a run that learned with numbers (data.conditions); without, they are
    drawn from those of the training images. samples.csv holds every image's own

    copy_filter: draw images again that are copies of training images, by the run folder's prepared data; samples.csv
    then says how often (redrawn), and copy_filter.json by which rule.

    README.md (a data-set card) and CLAIM.md are written beside the images, and a model card into the run folder.

    A folder that holds the same request already is left as it is (cards that are not there are written), one where
    images are missing (it was asked for fewer, or they were deleted) gets these, and one that was being made when its
    command was killed is gone on with (not npz, which is one file). Raises FolderError when `out` holds something else,
    SettingsError for a class that the run has not learned.
    """
    if count < 1:
        raise SettingsError(f"count={count}: ask for at least one image.")
    if not 0 < truncation <= 1:
        raise SettingsError(f"truncation={truncation}: must be above 0 and at most 1.")
    check_name(format)
    check_new(Path(out))
    sampler, out = Sampler(run, data, at, masks), Path(out)
    if not draws(sampler.task):
        raise SettingsError(f"{run} makes images from images: give it some with 'radsynth apply {in_command(run)} "
                            "INPUT OUT'.")
    if label is not None:
        sampler.index_of(label)  # or an error, before the images of another class are told
    chosen = format or usual_format(sampler.spec)
    request = {"count": count, "format": chosen, "label": label, "truncation": truncation, "seed": seed,
               "weights": sampler.facts["sha256"], **({"copy_filter": True} if copy_filter else {}),
               **({"at": dict(at)} if at else {}),
               **({"masks": sampler.drawing.weights} if sampler.drawing else {})}
    held = count_made(out, request)
    before = rows_made(out, held) if held else []
    if len(before) == count:
        close(out)  # which the command that made them may not have come to, nor to this
        write_cards((path, text) for path, text in dataset_card(out, Path(run)) if not path.exists())
        _write_model_card(Path(run))
        return Generated(folder=out, count=count, format=chosen)
    before = [] if chosen == "npz" else before  # one file
    source = filtered(sampler) if copy_filter else sampler
    with whole_folder(out, keep=lambda partial: begun(partial, request) and chosen != "npz",
                      last=REQUEST if held else "") as partial:
        journal = Journal(partial, request, out, by="index")
        before = _in_order([*before, *journal.rows.values()])
        first = len(before)
        chunks = source.drawn(first, count - first, seed=seed, label=label, truncation=truncation)
        writing = Writing(spec=sampler.spec, intensity=sampler.intensity, facts=sampler.facts, seed=seed,
                          origin=_origin(sampler))
        made = [*before, *map(journal.add, writing.all(chunks, partial, chosen, first, count))]
        rows = sampler.numbers.told([row for image in made for row in image], seed)
        if isinstance(source, Filtered):
            rejected = sum(int(str(image[0]["redrawn"])) for image in made)
            record = {**source.filter.rule(), "rejected": rejected, "kept": count}
            write_atomically(partial / "copy_filter.json", json.dumps(record, indent=1))
        write_table(partial / "samples.csv", rows)
        write_atomically(partial / REQUEST, json.dumps(request, indent=1))
        write_dataset_card(partial, Path(run))
    close(out)
    _write_model_card(Path(run))
    return Generated(folder=out, count=count, format=chosen)


def _in_order(made: list[list[Row]]) -> list[list[Row]]:
    """The rows of the images 0, 1, 2, ... of which none is missing: one may be, of a folder that was changed since."""
    of = {int(str(rows[0]["index"])): rows for rows in made}
    return [of[index] for index in itertools.takewhile(of.__contains__, itertools.count())]


def _write_model_card(run: Path) -> None:
    if os.access(run, os.W_OK):  # a run that is shared for reading can be sampled too
        write_model_card(run)


def _origin(sampler: Sampler) -> str:
    if not paints(sampler.task):
        return "noise"
    return "a training patient's mask, deformed," if sampler.drawing is None else "a drawn mask"
