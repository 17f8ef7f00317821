"""How good images are after so many minutes: `radsynth run`'s own choice against peers in plain PyTorch, equal time.

Frechet distance of N generated images against N that training never saw, on the offline ImageNet features, beside the
distance of N training images against the same N (the floor). Peers are in _peers.py.

Usage: python benchmarks/quality_at_budget.py DATA.npz [--classes HeadCT,CXR] [--sizes 32,64] [--minutes 1,5]
[--peers radsynth,mlp_gan,dcgan,wgan_gp]. DATA.npz holds images (n, h, w), labels and classes, as MedNIST's. Prints one
table, writes build/quality_at_budget.json and a picture for each row to build/.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import _peers
import numpy as np
import torch
from _data import prepared
from numpy.typing import NDArray

from radsynth.device import here
from radsynth.metrics._features import features
from radsynth.metrics.coverage import precision_recall_density_coverage
from radsynth.metrics.fidelity import frechet_distance
from radsynth.plan import Fingerprint, document, plan
from radsynth.settings import resolve
from radsynth.verbs._grid import save_grid
from radsynth.verbs.generate import sample
from radsynth.verbs.train import train

Array = NDArray[np.float32]


def load(path: Path, name: str, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Half of the class for training and half that training never sees, (n, 1, size, size), by a fixed seed."""
    with np.load(path) as data:
        names = [str(c) for c in data["classes"]]
        images = data["images"][np.ravel(data["labels"]) == names.index(name)]
    factor = images.shape[1] // size
    if factor > 1:
        cells = images.reshape(len(images), size, factor, size, factor).astype(np.float32)
        images = np.rint(cells.mean((2, 4))).astype(np.uint8)
    images = images[np.random.default_rng(0).permutation(len(images))][:, None]
    return images[: len(images) // 2], images[len(images) // 2:]


def radsynth(folder: Path, training: NDArray[np.uint8], seconds: float, count: int) -> tuple[Array, int]:
    """What `radsynth run` would choose and train."""
    data = prepared(folder / "data", training, training[:0])
    found = Fingerprint(images=len(training), patients=len(training), modality="CT", channels=1,
                        size=training.shape[2:], labels={})
    settings = resolve(document(plan(found, here(), {"seconds": seconds})))
    train(data, folder / "run", settings=settings)
    facts = json.loads((folder / "run" / "generator.json").read_text())
    return sample(folder / "run", count)[0], facts["images"]


def peer(name: str, training: NDArray[np.uint8], seconds: float, count: int) -> tuple[Array, int]:
    torch.manual_seed(0)
    images = torch.from_numpy(training.astype(np.float32) / 127.5 - 1)
    sampler, seen = getattr(_peers, name)(images, seconds)
    return sampler(count).numpy(), seen


def describe(images: Array) -> Array:
    return np.concatenate([features(images[k:k + 50]) for k in range(0, len(images), 50)])


def row(name: str, cls: str, size: int, minutes: float, training: NDArray[np.uint8], unseen: NDArray[np.uint8],
        ) -> dict[str, Any]:
    count = min(2000, len(unseen), len(training))
    real = (unseen[:count].astype(np.float32) / 127.5 - 1, training[:count].astype(np.float32) / 127.5 - 1)
    with tempfile.TemporaryDirectory() as scratch:
        start, used = time.monotonic(), time.process_time()
        if name == "radsynth":
            made, seen = radsynth(Path(scratch), training, 60 * minutes, count)
        else:
            made, seen = peer(name, training, 60 * minutes, count)
        took, used = time.monotonic() - start, time.process_time() - used
    stored = np.clip(np.rint((made + 1) * 127.5), 0, 255) / np.float32(127.5) - 1  # what a file would hold
    seen_features, train_features, made_features = (describe(images) for images in (*real, stored))
    save_grid(made[:64], Path("build") / f"{name}_{cls}_{size}px_{minutes:g}min.png", 8)
    _, recall, _, coverage = precision_recall_density_coverage(seen_features, made_features)
    return {
        "network": name, "class": cls, "px": size, "minutes": minutes, "n": count, "images_seen": seen,
        "images_per_second": round(seen / took), "cores_used": round(used / took, 2),
        "frechet_distance": round(frechet_distance(seen_features, made_features), 1),
        "floor": round(frechet_distance(seen_features, train_features), 1),
        "recall": round(float(recall), 3), "coverage": round(float(coverage), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", default="HeadCT")
    parser.add_argument("--sizes", default="32,64")
    parser.add_argument("--minutes", default="5")
    parser.add_argument("--peers", default="radsynth,mlp_gan,dcgan,wgan_gp")
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    table: list[dict[str, Any]] = []
    print(f"{here().name}, {here().cores} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for cls in options.classes.split(","):
        for size in map(int, options.sizes.split(",")):
            data = load(options.data, cls, size)
            for minutes in map(float, options.minutes.split(",")):
                for name in options.peers.split(","):
                    table.append(row(name, cls, size, minutes, *data))
                    if len(table) == 1:
                        print(" | ".join(table[0]))
                    print(" | ".join(map(str, table[-1].values())), flush=True)
                    Path("build/quality_at_budget.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
