"""Data for benchmarks: prepared folders of given arrays without going through files of images, and shared data sets."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import ROW_FIELDS, IntensityMap, Manifest, Prepared, Row
from radsynth.image import GREY, ImageSpec
from radsynth.plan import Fingerprint

Array = NDArray[np.float32]


def prepared(folder: Path, train: NDArray[np.uint8], test: NDArray[np.uint8], patients: Sequence[str] = (), *,
             validation: NDArray[np.uint8] | None = None, channels: tuple[str, ...] = GREY,
             classes: Sequence[str] = (), labels: Sequence[int] = (), masks: NDArray[np.uint8] | None = None) -> Path:
    """A prepared folder of 8-bit images (n, channels, *space), in the order training, test, validation.

    patients: of all of them, else each is its own; classes: their names; labels: which of them each image is of;
    masks: of all of them, (n, *space) label values
    """
    parts = {"train": train, "test": test, "validation": train[:0] if validation is None else validation}
    images = np.concatenate(list(parts.values()))
    (folder / "shards").mkdir(parents=True)
    np.save(folder / "shards" / "00000.images.npy", images)
    if masks is not None:
        np.save(folder / "shards" / "00000.masks.npy", masks)
    splits = [split for split, part in parts.items() for _ in part]
    names = patients or [str(i) for i in range(len(images))]
    numbers = labels or [-1] * len(images)
    rows = [Row(split=split, label=label, patient=name, shard=0, row=i, low=0, high=255)
            for i, (split, label, name) in enumerate(zip(splits, numbers, names, strict=True))]
    write_rows(folder, rows)
    counts = {split: len(part) for split, part in parts.items()}
    people = {split: len({row.patient for row in rows if row.split == split}) for split in counts}
    spec = ImageSpec(size=tuple(images.shape[2:]), channels=channels, labels=tuple(classes),
                     mask_classes=0 if masks is None else int(masks.max()) + 1)
    manifest = Manifest(spec=spec, counts=counts, patients=people,
                        intensity=IntensityMap(method="bits", low=0, high=255, levels=255), shard_size=len(images),
                        source_hash="benchmark", data_hash="benchmark")
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    return folder


def with_few_masks(whole: Prepared, folder: Path, patients: int, seed: int) -> Path:
    """The same prepared data, as if only so many training patients, drawn by `seed`, had been given masks."""
    training = sorted({whole.rows[int(row)].patient: int(row) for row in whole.indices("train")[::-1]}.items(),
                      key=lambda item: item[1])  # hashes differ from one preparation to the next, their order does not
    chosen = {training[k][0] for k in np.random.default_rng(seed).permutation(len(training))[:patients]}
    rows = [dataclasses.replace(row, masked=int(row.split != "train" or row.patient in chosen)) for row in whole.rows]
    shutil.copytree(whole.folder, folder)
    write_rows(folder, rows)
    manifest = dataclasses.replace(whole.manifest, data_hash=f"{whole.manifest.data_hash} {patients} {seed}",
                                   spec=dataclasses.replace(whole.spec, partly_masked=True))
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    return folder


def fingerprint(data: Prepared) -> Fingerprint:
    """What the plan looks at of prepared data, as if its training images were all."""
    spec, manifest = data.spec, data.manifest
    return Fingerprint(images=manifest.counts["train"], patients=manifest.patients["train"], modality=spec.modality,
                       channels=len(spec.channels), size=spec.size, virtual=spec.virtual,
                       masked=manifest.patients["train"] if spec.mask_classes and not spec.partly_masked else 0,
                       labels={name: len(data.indices("train", k)) for k, name in enumerate(spec.labels)})


def write_rows(folder: Path, rows: list[Row]) -> None:
    """The table of a prepared folder's images."""
    with (folder / "records.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ROW_FIELDS)
        table.writeheader()
        table.writerows(vars(row) for row in rows)


def prepared_noise(folder: Path, count: int, size: tuple[int, ...]) -> Path:
    """Noise, where only the speed matters."""
    images = np.random.default_rng(0).integers(0, 256, (count, 1, *size), dtype=np.uint8)
    return prepared(folder, images[: count - 64], images[count - 64:])


def mednist(path: Path, name: str) -> tuple[Array, NDArray[np.int64]]:
    with np.load(path) as data:
        names = [str(c) for c in data["classes"]]
        stored = np.unique(data["images"][np.ravel(data["labels"]) == names.index(name)], axis=0)  # as `prepare` does
    return (stored.astype(np.float32) / 127.5 - 1)[:, None], np.arange(len(stored))


def hippocampus(folder: Path, offsets: Sequence[int] = range(-9, 10, 3)) -> tuple[Array, NDArray[np.int64]]:
    """Slices of each volume so far from its middle one, 48x64, and whose they are."""
    import nibabel

    images, patients = [], []
    for number, path in enumerate(sorted((folder / "imagesTr").glob("hippo*.nii.gz")) or
                                  sorted(folder.rglob("hippo*.nii.gz"))):
        volume = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)  # type: ignore[attr-defined]
        if len(np.unique(volume)) < 20:
            continue  # a label map
        low, high = np.percentile(volume, (0.5, 99.5))
        for offset in offsets:
            picture = np.clip((volume[:, :, volume.shape[2] // 2 + offset] - low) / (high - low), 0, 1) * 2 - 1
            canvas = np.full((48, 64), -1, np.float32)
            canvas[: picture.shape[0], : picture.shape[1]] = picture[:48, :64]
            images.append(canvas)
            patients.append(number)
    return np.asarray(images)[:, None], np.asarray(patients)
