"""Can a class be learned of which there are 20 images? From chance, beside its common neighbours, or by fine-tuning.

All but a few images of one class are taken away. `scratch`: trained on the few alone, as long as `tuned` and as long as
the others; `conditional`: on all classes, as often as they occur; `balanced`: the same with the balance that the plan
chooses; `tuned`: a generator of the other classes, then trained on the few (train.start), with and without frozen
layers and small steps. Each is measured on images of the class that nobody saw:
Frechet distance of N against N on the offline ImageNet features, precision, recall and coverage, beside other real
images (the floor). Budgets are numbers of images; the tuned ones had the other classes' training before.

Usage: python benchmarks/rare.py DATA.npz [--rare HeadCT] [--few 20] [--size 32] [--images 16000] [--tune 4000]
[--work build/rare]. DATA.npz holds images (n, h, w), labels and classes, as MedNIST's, or is one of MedMNIST's, whose
classes are called 0, 1, ... The work folder keeps the runs,
so that the same command goes on where it stopped. Writes build/rare.json and a picture of each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from _data import prepared
from _images import as_stored, by_parts, scaled
from _told import told
from numpy.typing import NDArray

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
OTHERS = 800
"""Training images of each other class."""


def halves(path: Path, size: int) -> dict[str, tuple[Images, Images]]:
    """Of each class the half that may be trained on and the half that nobody sees, (n, 1, size, size)."""
    with np.load(path) as data:
        if "classes" in data:
            labels, images = np.ravel(data["labels"]), data["images"].astype(np.float32)
            names = [str(name) for name in data["classes"]]
        else:
            labels, images = np.ravel(data["train_labels"]), data["train_images"].astype(np.float32)
            names = [str(label) for label in range(labels.max() + 1)]
    factor = images.shape[1] // size
    small = np.rint(images.reshape(len(images), size, factor, size, factor).mean((2, 4))).astype(np.uint8)[:, None]
    found = {}
    for number, name in enumerate(names):
        own = small[labels == number]
        own = own[np.random.default_rng(0).permutation(len(own))]
        found[name] = (own[: len(own) // 2], own[len(own) // 2:])
    return found


def learn(folder: Path, name: str, classes: dict[str, Images], images: int, *more: str) -> Path:
    """What `radsynth run` would choose for these classes, trained; `more` are settings."""
    stack, names = np.concatenate(list(classes.values())), tuple(classes)
    labels = [number for number, part in enumerate(classes.values()) for _ in part]
    data = folder / f"{name}-data"
    if not (data / "manifest.json").exists():
        prepared(data, stack, stack[:0], classes=names, labels=labels)
    found = Fingerprint(images=len(stack), patients=len(stack), modality="OT", channels=1, size=stack.shape[2:],
                        labels={label: len(part) for label, part in classes.items()})
    chosen = document(plan(found, here(), {"images": images}))
    train(data, folder / name, settings=resolve(chosen, overrides=("train.previews=0", *more)))
    return folder / name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rare", default="HeadCT")
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=16000)
    parser.add_argument("--tune", type=int, default=4000)
    parser.add_argument("--work", type=Path, default=Path("build/rare"))
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    half = halves(options.data, options.size)
    few, unseen = half[options.rare][0][: options.few], half[options.rare][1][:500]
    others = {name: parts[0][:OTHERS] for name, parts in half.items() if name != options.rare}
    everything = {name: few if name == options.rare else others[name] for name in half}
    truth, floor = (by_parts(features, scaled(some)) for some in (unseen, half[options.rare][1][500:1000]))
    rows: list[dict[str, Any]] = []

    def measure(name: str, found: NDArray[np.float32], images: int) -> None:
        precision, recall, _, coverage = precision_recall_density_coverage(truth, found)
        distance = frechet_distance(truth, found)
        rows.append({"trained": name, "images": images, "n": len(found), "frechet_distance": round(distance, 1),
                     "precision": round(float(precision), 3), "recall": round(float(recall), 3),
                     "coverage": round(float(coverage), 3)})
        print(" | ".join(map(str, rows[-1].values())), flush=True)
        document = {**{name: str(value) for name, value in vars(options).items()}, "rows": rows}
        Path("build/rare.json").write_text(json.dumps(document, indent=1))

    def judge(name: str, run: Path, images: int) -> None:
        made = sample(run, len(unseen), label=options.rare)[0]
        save_grid(made[:32], Path("build") / f"rare_{name}_{images}.png", 8)
        measure(name, by_parts(features, as_stored(made)), images)

    print(f"{options.rare}, {options.few} training images, {options.size} px; {here().name}")
    print("trained | images | n | frechet_distance | precision | recall | coverage")
    measure("other real images", floor, 0)
    save_grid(scaled(unseen[:32]), Path("build") / "rare_real.png", 8)
    work, rare = options.work, {options.rare: few}
    source = learn(work, "others", others, options.images)
    for name, more in {"tuned": (), "tuned_frozen": ("train.freeze=2",),
                       "tuned_frozen_small_steps": ("train.freeze=2", "train.rate=4e-4")}.items():
        judge(name, learn(work, name, rare, options.tune, f"train.start={source}", *more), options.tune)
    for images in (options.tune, options.images):
        judge("scratch", learn(work, f"scratch_{images}", rare, images), images)
    judge("conditional", learn(work, "conditional", everything, options.images, "train.balance=0"), options.images)
    judge("balanced", learn(work, "balanced", everything, options.images), options.images)


if __name__ == "__main__":
    told(main)
