"""How good images are after so many minutes: `radsynth run`'s own choice against peers in plain PyTorch, equal time.

Frechet distance of N generated images against N that training never saw, on the offline ImageNet features, over the
distance of N training images to the same N (the floor); the distance of radiomics features and the recall beside it.
The numbers of one row come from one training, looked at after each of the `--minutes`; radsynth's schedule is the one
of the last of them. Peers are in _peers.py, _stylegan2.py and _r3gan.py; "thin" ones have an eighth of the channels.

Usage: python benchmarks/quality_at_budget.py DATA [DATA ...] [--cells 'radsynth/HeadCT/64' ...] [--minutes 1,2,5]
[--list]
DATA: MedNIST's npz (images, labels, classes: every class is one data set) or a MedMNIST npz (train_images, ...).
A cell is NETWORK/DATA SET/PIXELS[/SEED]; * matches anything. Each finished cell becomes lines of
build/quality_at_budget.jsonl and is not trained again; the table of all of them is printed at the end.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import prepared
from _images import Array, as_stored, by_parts, scaled
from _peers import Peer, dcgan, mlp_gan, wgan_gp
from _r3gan import r3gan
from _stylegan2 import stylegan2
from _table import finished
from _told import told
from numpy.typing import NDArray
from torch import nn

import radsynth.verbs.train as training
from radsynth.batch import Batch
from radsynth.choices import document
from radsynth.device import here
from radsynth.metrics._features import features
from radsynth.metrics.coverage import precision_recall_density_coverage
from radsynth.metrics.fidelity import frechet_distance
from radsynth.metrics.radiomics import describe as radiomics
from radsynth.metrics.radiomics import radiomics_distance
from radsynth.plan import Fingerprint, plan
from radsynth.settings import resolve
from radsynth.verbs._grid import save_grid
from radsynth.verbs._preparing.options import Settings as Preparation
from radsynth.verbs._training.loop import Loop

Stored = NDArray[np.uint8]
PEERS: dict[str, Callable[[torch.Tensor], Peer]] = {
    "mlp_gan": mlp_gan, "dcgan": dcgan, "wgan_gp": wgan_gp, "stylegan2": stylegan2,
    "stylegan2_thin": partial(stylegan2, thinner=8), "r3gan_thin": partial(r3gan, thinner=8),
}
"""R3GAN in its published width and batch takes more memory than these machines have, and a step more than 5 minutes."""
RESULTS = Path("build/quality_at_budget.jsonl")


def data_sets(paths: list[Path]) -> dict[str, tuple[Path, str]]:
    """Names of data sets with their file, and their class in it or ""."""
    found: dict[str, tuple[Path, str]] = {}
    for path in paths:
        with np.load(path) as data:
            found |= {str(name): (path, str(name)) for name in data["classes"]} if "classes" in data else {
                path.stem: (path, "")}
    return found


def load(path: Path, name: str, size: int) -> tuple[Stored, Stored]:
    """Training images and those that training never sees, (n, 1, size, size): the official split, or half and half."""
    with np.load(path) as data:
        if not name:
            return _sized(data["train_images"], size), _sized(data["test_images"], size)
        names = [str(c) for c in data["classes"]]
        images = data["images"][np.ravel(data["labels"]) == names.index(name)]
    images = _sized(images, size)[np.random.default_rng(0).permutation(len(images))]
    return images[: len(images) // 2], images[len(images) // 2:]


def _sized(images: Stored, size: int) -> Stored:
    """(n, h, h) averaged down to `size` pixels, or continued by their borders up to it: peers need powers of two."""
    factor, missing = max(1, images.shape[1] // size), max(0, size - images.shape[1])
    if missing:
        margins = (missing // 2, missing - missing // 2)
        images = np.pad(images, ((0, 0), margins, margins), mode="edge")
    cells = images.reshape(len(images), size, factor, size, factor).astype(np.float32)
    return np.rint(cells.mean((2, 4))).astype(np.uint8)[:, None]


class Clock:
    """Seconds and processor time since training began, with the milliseconds in which networks are kept for later."""

    def __init__(self, marks: list[float]) -> None:
        self.marks, self.wall, self.used = marks, time.monotonic(), time.process_time()

    def passed(self) -> bool:
        """Whether the next mark has come."""
        return bool(self.marks) and time.monotonic() - self.wall >= self.marks[0]

    def keep(self, seen: int, network: nn.Module) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        wall, used = time.monotonic() - self.wall, time.process_time() - self.used
        facts = {"minutes": round(self.marks.pop(0) / 60, 2), "images_seen": seen,
                 "images_per_second": round(seen / wall, 1), "cores_used": round(used / wall, 2)}
        return facts, {name: value.detach().clone() for name, value in network.state_dict().items()}


class Watched(Loop):
    """radsynth's own loop, its averaged network kept at each mark: some milliseconds each."""

    clock: Clock
    kept: list[tuple[dict[str, Any], dict[str, torch.Tensor]]]
    last: Loop

    def take_step(self) -> dict[str, float]:
        terms = super().take_step()
        Watched.last = self
        if len(Watched.clock.marks) > 1 and Watched.clock.passed():
            Watched.kept.append(Watched.clock.keep(self.images, self.average.network))
        return terms


def radsynth(images: Stored, marks: list[float], seed: int, count: int) -> Iterator[tuple[dict[str, Any], Array]]:
    """What `radsynth run` would choose and train; the last images are those of the weights that it delivers.

    As it would, it keeps some of the training images for validation.
    """
    train = round(len(images) * Preparation.train / (Preparation.train + Preparation.validation))
    with tempfile.TemporaryDirectory() as scratch:
        data = prepared(Path(scratch) / "data", images[:train], images[:0], validation=images[train:])
        found = Fingerprint(images=train, patients=train, modality="OT", channels=1, size=images.shape[2:], labels={})
        settings = resolve(document(plan(found, here(), {"seconds": marks[-1]})), overrides=[f"seed={seed}"])
        Watched.clock, Watched.kept = Clock(marks), []
        training.Loop = Watched  # type: ignore[misc]
        training.train(data, Path(scratch) / "run", settings=settings)
        loop = Watched.last
        Watched.kept.append(Watched.clock.keep(loop.images, loop.average.network))
        for facts, state in Watched.kept:
            loop.average.network.load_state_dict(state)
            loop.samples.calibrate()
            yield facts, _drawn(loop, count)


def _drawn(loop: Loop, count: int) -> Array:
    made = []
    for start in range(0, count, 50):
        batch = Batch(images=torch.empty(min(50, count - start), 0, device=loop.fabric.device), seed=10**6,
                      items=tuple(range(start, min(start + 50, count))))
        with torch.no_grad(), loop.fabric.autocast():
            made.append(loop.task.sample(loop.average.network, batch).float().cpu().numpy())
    return np.concatenate(made)


def peer(name: str, images: Stored, marks: list[float], seed: int, count: int,
         ) -> Iterator[tuple[dict[str, Any], Array]]:
    torch.manual_seed(seed)
    built = PEERS[name](torch.from_numpy(scaled(images)))
    clock, seen, kept = Clock(marks), 0, []
    while clock.marks:
        seen += built.step()
        while clock.passed():
            kept.append(clock.keep(seen, built.sampled))
    for facts, state in kept:
        built.sampled.load_state_dict(state)
        yield facts, built.sample(count).numpy()


def cell(name: str, data: str, source: tuple[Path, str], size: int, seed: int, minutes: list[float],
         ) -> list[dict[str, Any]]:
    """The rows of one training, one for each of the minutes."""
    known, unseen = load(*source, size)
    count = min(2000, len(unseen), len(known))
    real, floor = (scaled(images[:count]) for images in (unseen, known))
    seen_features, seen_texture = by_parts(features, real), by_parts(radiomics, real)
    least = frechet_distance(seen_features, by_parts(features, floor))
    least_texture = radiomics_distance(seen_texture, by_parts(radiomics, floor))
    marks, rows = [60 * m for m in minutes], []
    for facts, made in (radsynth if name == "radsynth" else partial(peer, name))(known, marks, seed, count):
        stored = as_stored(made)
        found = by_parts(features, stored)
        _, recall, _, coverage = precision_recall_density_coverage(seen_features, found)
        distance = frechet_distance(seen_features, found)
        save_grid(made[:64], Path("build") / f"{name}_{data}_{size}px_{facts['minutes']:g}min_{seed}.png", 8)
        rows.append({
            "network": name, "data": data, "px": size, "seed": seed, **facts, "n": count,
            "distance": round(distance, 1), "floor": round(least, 1), "over_floor": round(distance - least, 1),
            "recall": round(float(recall), 3), "coverage": round(float(coverage), 3),
            "radiomics": round(radiomics_distance(seen_texture, by_parts(radiomics, stored)), 2),
            "radiomics_floor": round(least_texture, 2), "threads": torch.get_num_threads(), "device": here().name,
        })
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    columns = ("network", "data", "px", "seed", "minutes", "n", "images_seen", "images_per_second", "cores_used",
               "distance", "floor", "over_floor", "recall", "coverage", "radiomics", "radiomics_floor")
    print("| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|")
    for row in sorted(rows, key=lambda r: (r["px"], r["data"], r["minutes"], r["distance"])):
        print("| " + " | ".join(str(row[column]) for column in columns) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--cells", nargs="*", default=["*/*/64/0", "*/pneumoniamnist/32/0"])
    parser.add_argument("--minutes", default="1,2,5")
    parser.add_argument("--list", action="store_true", help="only say which cells there are and which are done")
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    minutes = sorted(map(float, options.minutes.split(",")))
    done = {(r["network"], r["data"], r["px"], r["seed"]) for r in finished(RESULTS)}
    sets = data_sets(options.data)
    for data, source in sets.items():
        for size in (32, 64) if source[1] else (32,):
            for name in ("radsynth", *PEERS):
                for seed in range(3):
                    wanted = f"{name}/{data}/{size}/{seed}"
                    if not any(fnmatch.fnmatch(wanted, p if p.count("/") == 3 else f"{p}/0") for p in options.cells):
                        continue
                    state = "done" if (name, data, size, seed) in done else "to do"
                    print(f"{wanted}: {state}", flush=True)
                    if state == "to do" and not options.list:
                        rows = cell(name, data, source, size, seed, minutes)
                        with RESULTS.open("a", encoding="utf-8") as file:
                            file.writelines(json.dumps(row) + "\n" for row in rows)
    print_table(finished(RESULTS))


if __name__ == "__main__":
    told(main)
