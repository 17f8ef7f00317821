"""Generates: a trained run in, a synthetic data set out, in the input's format. Image k depends on (seed, k) alone."""

from __future__ import annotations

import csv
import io as text_io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from torch import Tensor

from radsynth.arrays import Batch, IntensityMap
from radsynth.device import here
from radsynth.errors import FolderError, SettingsError
from radsynth.files import write_atomically
from radsynth.image import Image, ImageSpec
from radsynth.io import Provenance, format_module, write
from radsynth.io._geometry import placed
from radsynth.progress import track
from radsynth.run_folder import RunFolder
from radsynth.settings import read_yaml, resolve, settings
from radsynth.tasks import build, registers, takes_images
from radsynth.verbs._copy_filter import REDRAWS, CopyFilter, given_up

REDRAWN = 2**32
"""Image k is drawn again as item k + REDRAWN, then k + 2 REDRAWN: so it still depends on (seed, k) alone."""
CHUNK = 16
"""Images computed at once. Chunks begin at multiples of it, so that rounding does not depend on what was asked for."""


@settings
class Settings:
    """The synthetic data set that `run` makes."""

    count: NonNegativeInt = 0
    """Images to make; 0: as many as there are training images, between 500 and 2000."""
    format: Literal["", "dicom", "nifti", "metaimage", "picture", "npz"] = ""
    """File format; empty: the input's."""
    truncation: float = Field(1.0, gt=0, le=1)
    """Scale of the latents: 1 is the full variety, smaller values are more typical and less varied."""
    copy_filter: bool = False
    """Draw images again that are more like a training image than unseen patients' images are; needs RUN/data."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A synthetic data set on disk: its folder, the number of images, their format."""

    folder: Path
    count: int
    format: str


class Sampler:
    """A trained generator with everything that sampling needs, read from a run folder."""

    def __init__(self, run: Path) -> None:
        folder = RunFolder(run)
        state, self.facts = folder.load_weights()
        self.spec, self.intensity = folder.spec()
        self.label_counts: dict[str, int] = folder.description()["labels"]
        resolved = resolve(read_yaml(folder.path / "settings.yaml"), sections=("task", "model", "augment"))
        task, model, augment = (resolved.section(name) for name in ("task", "model", "augment"))
        self.task = build(task, model, augment, self.spec)
        self.network = self.task.networks()[self.task.keeps]
        self.network.load_state_dict(state)
        self.device = torch.device(here().accelerator)
        self.network.to(self.device).eval()

    def labels(self, items: range, seed: int, label: str | None) -> NDArray[np.int64]:
        """Class indices: the one asked for, or drawn as often as in the training data, by (seed, item) alone."""
        names = self.spec.labels
        if label is not None:
            if label not in names:
                allowed = ", ".join(names) if names else "none, the run has no classes"
                raise SettingsError(f"label={label!r} is no class of this run; there are: {allowed}.")
            return np.full(len(items), names.index(label), np.int64)
        if len(names) < 2:
            return np.full(len(items), len(names) - 1, np.int64)
        shares = np.cumsum([self.label_counts[name] for name in names], dtype=np.float64)
        draw = Batch(images=torch.empty(len(items), 0), seed=seed, items=tuple(items)).uniform("label", 1)[:, 0]
        return np.searchsorted(shares / shares[-1], draw.numpy(), side="right").clip(0, len(names) - 1)

    @torch.no_grad()
    def images(self, first: int, count: int, *, seed: int, label: str | None = None, truncation: float = 1.0,
               ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Chunks of images (n, c, *space) in [-1, 1] and their class indices (n,), items `first` to `first + count`."""
        for start in range(first - first % CHUNK, first + count, CHUNK):
            items = range(start, start + CHUNK)
            labels = self.labels(items, seed, label)
            batch = Batch(images=torch.empty(CHUNK, 0, device=self.device), seed=seed, items=tuple(items),
                          labels=torch.from_numpy(labels).to(self.device), truncation=truncation)
            made: Tensor = self.task.sample(self.network, batch)
            wanted = slice(max(first - start, 0), min(first + count - start, CHUNK))
            yield made[wanted].float().cpu().numpy(), labels[wanted]


@dataclass(kw_only=True)
class Filtered:
    """Chunks of images without copies. redraws: item -> how often it was drawn again, filled while they are made."""

    sampler: Sampler
    filter: CopyFilter
    redraws: dict[int, int] = field(default_factory=dict)

    def images(self, count: int, *, seed: int, label: str | None, truncation: float,
               ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """As `Sampler.images` from item 0 on. DataError when an image comes out as a copy `REDRAWS` times in a row."""
        first = 0
        for images, labels in self.sampler.images(0, count, seed=seed, label=label, truncation=truncation):
            images = images.copy()
            for place in np.flatnonzero(self.filter.copies(images)):
                name = self.sampler.spec.labels[labels[place]] if labels[place] >= 0 else None
                images[place] = self._redrawn(first + int(place), seed, name, truncation)
            yield images, labels
            first += len(images)

    def _redrawn(self, item: int, seed: int, label: str | None, truncation: float) -> NDArray[np.float32]:
        for time in range(1, REDRAWS + 1):
            ((made, _),) = self.sampler.images(item + time * REDRAWN, 1, seed=seed, label=label, truncation=truncation)
            if not self.filter.copies(made)[0]:
                self.redraws[item] = time
                return np.asarray(made[0], dtype=np.float32)
        raise given_up(item)


def _filter(run: Path) -> CopyFilter:
    if RunFolder(run).load_weights()[1].get("privacy"):
        raise SettingsError(
            f"{run} was trained with differential privacy, and the copy filter would look at its training images "
            "again, which the bound does not cover: leave it off."
        )
    return CopyFilter(Path(run) / "data", RunFolder(run).description()["data_hash"])


def sample(run: Path, count: int, *, seed: int = 0, label: str | None = None, truncation: float = 1.0,
           copy_filter: bool = False) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first `count` images as one array (n, c, *space) in [-1, 1], with their class indices (n,), -1 without."""
    sampler = Sampler(run)
    if copy_filter:
        source = Filtered(sampler=sampler, filter=_filter(run))
        chunks = list(source.images(count, seed=seed, label=label, truncation=truncation))
    else:
        chunks = list(sampler.images(0, count, seed=seed, label=label, truncation=truncation))
    return np.concatenate([images for images, _ in chunks]), np.concatenate([labels for _, labels in chunks])


def load(run: Path) -> Sampler:
    """A trained run's generator, ready to sample: `load(run).images(0, 10, seed=0)`."""
    return Sampler(run)


def generate(run: Path, out: Path, *, count: int, format: str | None = None, label: str | None = None,
             truncation: float = 1.0, seed: int = 0, copy_filter: bool = False) -> Generated:
    """Write `count` synthetic images with samples.csv (file, index, seed, label) into the new folder `out`.

    copy_filter: draw images again that are copies of training images, by the run folder's prepared data; samples.csv
    then says how often (redrawn), and copy_filter.json by which rule.

    A folder that holds the same request already is left as it is. Raises FolderError when `out` holds something else,
    SettingsError for a class that does not exist.
    """
    if count < 1:
        raise SettingsError(f"count={count}: ask for at least one image.")
    if not 0 < truncation <= 1:
        raise SettingsError(f"truncation={truncation}: must be above 0 and at most 1.")
    sampler, out = Sampler(run), Path(out)
    if takes_images(sampler.task) or registers(sampler.task):
        raise SettingsError(f"{run} makes images from images: give it some with 'radsynth apply {run} INPUT OUT'.")
    chosen = format or sampler.spec.format
    request = {"count": count, "format": chosen, "label": label, "truncation": truncation, "seed": seed,
               "weights": sampler.facts["sha256"], **({"copy_filter": True} if copy_filter else {})}
    if _done(out, request):
        return Generated(folder=out, count=count, format=chosen)
    filtered = Filtered(sampler=sampler, filter=_filter(run)) if copy_filter else None
    partial = out.with_name(f".{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        chunks = (filtered.images(count, seed=seed, label=label, truncation=truncation) if filtered else
                  sampler.images(0, count, seed=seed, label=label, truncation=truncation))
        rows = list(_write_all(sampler, chunks, partial, chosen, count, seed))
        if filtered:
            rows = [{**row, "redrawn": filtered.redraws.get(int(str(row["index"])), 0)} for row in rows]
            record = {**filtered.filter.rule(), "rejected": sum(filtered.redraws.values()), "kept": count}
            write_atomically(partial / "copy_filter.json", json.dumps(record, indent=1))
        _write_table(partial / "samples.csv", rows)
        write_atomically(partial / "generate.json", json.dumps(request, indent=1))
        partial.rename(out)
    except OSError as error:
        raise FolderError(f"{out} could not be written: {error.strerror}. Nothing was left there; try again.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Generated(folder=out, count=count, format=chosen)


def _done(out: Path, request: dict[str, object]) -> bool:
    """Whether `out` holds the same request; FolderError when it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        if json.loads((out / "generate.json").read_text(encoding="utf-8")) == request:
            return True
    except (OSError, ValueError):
        pass
    raise FolderError(f"{out} exists and holds something else. Choose another output folder, or remove it first.")


def _write_all(sampler: Sampler, chunks: Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]], folder: Path,
               format: str, count: int, seed: int) -> Iterator[dict[str, object]]:
    """Write every image; yields its row of samples.csv."""
    if format == "npz":
        yield from _write_npz(sampler, list(chunks), folder, seed)
        return
    names, suffix = sampler.spec.labels, _suffix(format, sampler.spec)
    singles = ((image, int(label)) for images, labels in chunks for image, label in zip(images, labels, strict=True))
    for index, (values, label) in enumerate(track(singles, count, "writing", "images")):
        place = folder / "images" / (_folder_name(names[label]) if label >= 0 else "")
        place.mkdir(parents=True, exist_ok=True)
        provenance = _provenance(sampler, seed, index)
        path = place / f"{index:06d}{suffix}"
        written = write(_image(values, sampler.spec, sampler.intensity), path, provenance=provenance, format=format)
        for file in written:
            yield {"file": file.relative_to(folder).as_posix(), "index": index, "seed": seed,
                   "label": names[label] if label >= 0 else ""}


def _write_npz(sampler: Sampler, chunks: list[tuple[NDArray[np.float32], NDArray[np.int64]]], folder: Path,
               seed: int) -> Iterator[dict[str, object]]:
    """One file in MedMNIST's layout: train_images (n, *space[, c]), train_labels (n, 1), class names, the mark."""
    images = _values(np.concatenate([images for images, _ in chunks]), sampler.spec, sampler.intensity)
    labels = np.concatenate([labels for _, labels in chunks])
    images = images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)
    mark = {"synthetic": True, **vars(_provenance(sampler, seed, 0))}
    np.savez_compressed(folder / "synthetic.npz", train_images=images, train_labels=labels[:, None],
                        classes=np.asarray(sampler.spec.labels, dtype=str), synthetic=np.asarray(json.dumps(mark)))
    for index, label in enumerate(labels):
        yield {"file": "synthetic.npz", "index": index, "seed": seed,
               "label": sampler.spec.labels[label] if label >= 0 else ""}


def _suffix(format: str, spec: ImageSpec) -> str:
    """The usual ending, but TIFF where PNG cannot hold the image."""
    if format == "picture" and (spec.dimensions == 3 or spec.bits > 16):
        return ".tiff"
    return format_module(format).SUFFIXES[0]


def _provenance(sampler: Sampler, seed: int, index: int) -> Provenance:
    virtual = " It was trained on a virtual cohort, not on patients." if sampler.spec.virtual else ""
    text = f"Synthetic image {index}, made by a radsynth generator from noise (seed {seed}). Not a patient.{virtual}"
    if (sampler.facts.get("privacy") or {}).get("epsilon"):
        bound = sampler.facts["privacy"]
        text += f" Trained with differential privacy: epsilon {bound['epsilon']:.2f}, delta {bound['delta']:g}."
    low, high = sampler.spec.window or (sampler.intensity.low, sampler.intensity.high)
    return Provenance(model=sampler.facts["model"], weights=sampler.facts["sha256"], seed=seed, index=index,
                      description=text, window=(low, high))


def _folder_name(label: str) -> str:
    """A class name as a folder: nothing that could leave the folder or that a file system refuses."""
    return "".join(c if c.isalnum() or c in "-_ ." else "_" for c in label).strip(". ") or "_"


def _values(images: NDArray[np.float32], spec: ImageSpec, intensity: IntensityMap) -> NDArray[np.generic]:
    """Network values as real values in the source's integer type (floating point for 32 bits)."""
    values = intensity.decode(images)
    if spec.bits > 16:
        return values
    signed = spec.units == "HU" or intensity.low < 0
    small = np.int16 if signed else np.uint8 if spec.bits <= 8 else np.uint16
    return np.rint(values).astype(small)


def _image(values: NDArray[np.float32], spec: ImageSpec, intensity: IntensityMap) -> Image:
    known = spec.spacing is not None and spec.directions is not None
    affine = placed(spec.size, spec.spacing or (), spec.directions or ()) if known else None
    return Image(pixels=_values(values, spec, intensity), modality=spec.modality, units=spec.units, bits=spec.bits,
                 spacing=spec.spacing, channels=spec.channels, affine=affine)


def _write_table(path: Path, rows: list[dict[str, object]]) -> None:
    buffer = text_io.StringIO()
    table = csv.DictWriter(buffer, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    write_atomically(path, buffer.getvalue())
