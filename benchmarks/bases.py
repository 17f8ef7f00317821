"""What a base generator saves: distance to unseen real images after a small budget, with it and without.

A few images of a kind are learned twice with what `radsynth run` chooses, once from the base and once from chance. None
of them, nor the unseen ones, were in a base's training: the chest radiographs are MedNIST's (another hospital, adults),
the brains are of real patients (the base's were virtual; the unseen slices are of a patient of their own, whose number
is in the set's name: t1-26, t2-07, flair-19, ...). What happens when the size agrees and the anatomy or the modality
does not is shown by MedNIST's other classes (BreastMRI, HeadCT, ChestCT, AbdomenCT, told to be MR). Frechet distance of
N against N on the offline ImageNet features, recall, coverage, and other real images for comparison.

Usage: python benchmarks/bases.py [--mednist mednist_64.npz] [--brains brain_contrasts_3patients.npz]
[--sets chest,t1-26,t2-26,flair-26,BreastMRI] [--few 100] [--images 2000,8000] [--n 300] [--seed 0]. Prints one table,
writes build/bases.json and pictures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _data import prepared
from _images import as_stored, by_parts, scaled
from _told import told
from numpy.typing import NDArray

from radsynth.bases import fitting
from radsynth.choices import document
from radsynth.device import here
from radsynth.metrics._features import features
from radsynth.metrics._frechet import frechet_distance
from radsynth.metrics.coverage import precision_recall_density_coverage
from radsynth.plan import Fingerprint, plan
from radsynth.settings import resolve
from radsynth.verbs._grid import save_grid
from radsynth.verbs.generate import sample
from radsynth.verbs.train import train

Images = NDArray[np.uint8]
PATIENTS = ("07", "19", "26")


class Few(NamedTuple):
    """Images for training, for choosing the moment, and unseen ones: (n, 1, *space); other: real ones to compare."""

    modality: str
    train: Images
    validation: Images
    unseen: Images
    other: Images


def resized(images: NDArray[Any], size: int) -> Images:
    """(n, h, w) -> (n, 1, size, size), the longer side filled, the rest black."""
    factor = size / max(images.shape[1:])
    shape = [round(side * factor) for side in images.shape[1:]]
    small = torch.nn.functional.interpolate(torch.from_numpy(images.astype(np.float32))[:, None], size=shape,
                                            mode="bilinear", antialias=True)
    pad = [part for gap in (size - shape[1], size - shape[0]) for part in (gap // 2, gap - gap // 2)]
    return np.rint(torch.nn.functional.pad(small, pad).numpy()).clip(0, 255).astype(np.uint8)


def mednist(path: Path, name: str, modality: str, size: int, few: int, n: int) -> Few:
    with np.load(path) as data:
        names = [str(one) for one in data["classes"]]
        images = data["images"][np.ravel(data["labels"]) == names.index(name)]
    images = resized(images[np.random.default_rng(0).permutation(len(images))], size)
    ends = np.cumsum([few, 32, n, n])
    return Few(modality, *np.split(images, ends)[:4])


def brains(path: Path, contrast: str, apart: str, few: int) -> Few:
    """Slices of one contrast (T1, T2, FLAIR): two patients for training and validation, the one `apart` is unseen."""
    with np.load(path) as data:
        slices = {number: np.rot90(data[f"patient{number}_{contrast}"], axes=(0, 1)).transpose(2, 0, 1)
                  for number in PATIENTS}
    unseen = resized(slices.pop(apart), 64)
    both = resized(np.concatenate(list(slices.values())), 64)
    return Few("MR", both[np.arange(len(both)) % 5 != 0][:few], both[::5], unseen, both[: len(unseen)])


def learn(data: Few, images: int, with_base: bool, count: int, seed: int) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepared(Path(scratch) / "data", data.train, data.unseen[:0], validation=data.validation)
        found = Fingerprint(images=len(data.train), patients=len(data.train), modality=data.modality, channels=1,
                            size=data.train.shape[2:], labels={})
        chosen = document(plan(found, here(), {"images": images}, alike=(lambda base: True) if with_base else None))
        run = train(folder, Path(scratch) / "run", settings=resolve(chosen, overrides=[f"seed={seed}"])).path
        made = sample(run, count)[0]
    return as_stored(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mednist", type=Path, default=Path("../shared/data/mednist_64.npz"))
    parser.add_argument("--brains", type=Path, default=Path("../shared/data/brain_contrasts_3patients.npz"))
    parser.add_argument("--sets", default="chest,t1-26,t2-26,flair-26,BreastMRI")
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--images", default="2000,8000")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    sets = {"chest": partial(mednist, options.mednist, "CXR", "DX", 28, options.few, options.n),
            **{name: partial(mednist, options.mednist, name, "MR", 64, options.few, options.n)
               for name in ("BreastMRI", "HeadCT", "ChestCT", "AbdomenCT")},
            **{f"{contrast.lower()}-{number}": partial(brains, options.brains, contrast, number, options.few)
               for contrast in ("T1", "T2", "FLAIR") for number in PATIENTS}}
    rows: list[dict[str, Any]] = []
    print(f"{here().name}\nset | start | images | n | frechet_distance | recall | coverage")
    for name in options.sets.split(","):
        data = sets[name]()
        base = fitting(data.modality, 1, data.train.shape[2:], lambda base: True)
        assert base is not None, name
        truth = by_parts(features, scaled(data.unseen))
        marks = [(images, start) for images in map(int, options.images.split(",")) for start in (base.name, "chance")]
        for images, start in [(0, "other real images"), *marks]:
            made = (learn(data, images, start == base.name, len(truth), options.seed) if images
                    else scaled(data.other))
            found = by_parts(features, made)
            _, recall, _, coverage = precision_recall_density_coverage(truth, found)
            rows.append({"set": name, "start": start, "images": images, "n": len(found),
                         "frechet_distance": round(frechet_distance(truth, found), 1),
                         "recall": round(float(recall), 3), "coverage": round(float(coverage), 3)})
            print(" | ".join(map(str, rows[-1].values())), flush=True)
            save_grid(made[:32], Path("build") / f"bases_{name}_{start.replace(' ', '_')}_{images}.png", 8)
            Path("build/bases.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    told(main)
