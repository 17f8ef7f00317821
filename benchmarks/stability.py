"""How often training goes wrong: every adversarial loss with every penalty, several seeds, with and without the doctor.

One small DCGAN without batch normalisation in the discriminator, 32 px, the same number of images for every cell: the
table does not depend on how busy the machine is. Columns, over the seeds: the Frechet distance of N generated images to
N that training never saw (offline ImageNet features), median and worst, and the median recall; failures: trainings that
stopped, or whose samples vary less than a fifth of what real images do (collapse); what the doctor did.

Usage: python benchmarks/stability.py DATA.npz [--class HeadCT] [--images 20000] [--seeds 3] [--n 200]
[--losses hinge,...] [--penalties none,...]. DATA.npz as MedNIST's. Each finished training is a line of
build/stability.jsonl and is not repeated; the table of all of them is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import prepared
from _images import by_parts, scaled
from _table import finished
from _told import told
from numpy.typing import NDArray
from quality_at_budget import load

from radsynth.errors import TrainingError
from radsynth.losses.adversarial import LOSSES
from radsynth.metrics._features import features
from radsynth.metrics.coverage import precision_recall_density_coverage
from radsynth.metrics.fidelity import frechet_distance
from radsynth.settings import resolve
from radsynth.verbs._training.compare import compare
from radsynth.verbs.generate import sample
from radsynth.verbs.train import train

RESULTS = Path("build/stability.jsonl")
PENALTIES = {
    "none": (),
    "spectral norm": ("model.discriminator_norm=spectral",),
    "r1": ("task.penalty=r1",),
    "r1_r2": ("task.penalty=r1_r2",),
    "wgan_gp": ("task.penalty=wgan_gp", "task.penalty_weight=10.0"),
    "dragan": ("task.penalty=dragan", "task.penalty_weight=10.0"),
    "clipping": ("task.weight_clip=0.01",),
}
"""The weights of the last three are their papers'."""
FIXED = ("model.kind=dcgan", "model.discriminator_norm=none", "model.width=16", "model.widest=128", "model.latent=64",
         "train.batch=64", "train.rate=1e-3", "train.beta1=0.5", "task.penalty_weight_end=1.0", "train.previews=0")
COLLAPSED = 0.2
"""Limit of variety, see `radsynth.verbs._training.compare`; the doctor acts a little earlier."""


def one(data: Path, unseen: NDArray[np.float32], real: NDArray[np.float32], loss: str, penalty: str, seed: int,
        doctor: bool, images: int) -> dict[str, Any]:
    """Train once and measure."""
    settings = resolve(overrides=[*FIXED, *PENALTIES[penalty], f"task.loss={loss}", f"seed={seed}",
                                  f"train.images={images}", f"train.doctor={str(doctor).lower()}"])
    row: dict[str, Any] = {"loss": loss, "penalty": penalty, "seed": seed, "doctor": doctor, "images": images}
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        try:
            train(data, run, settings=settings)
            made = sample(run, len(real))[0]
        except TrainingError as error:
            return row | {"stopped": str(error)[:100], "events": _events(run)}
        found = by_parts(features, made)
        _, recall, _, _ = precision_recall_density_coverage(real, found)
        variety, _ = compare(torch.from_numpy(made), torch.from_numpy(unseen))
        return row | {"n": len(real), "distance": round(frechet_distance(real, found), 1), "variety": round(variety, 3),
                      "recall": round(float(recall), 3), "events": _events(run)}


def sensible(loss: str, penalty: str) -> bool:
    """Whether the pair is tried: the task refuses Wasserstein without a constraint; clipping belongs to that loss."""
    return penalty != ("none" if loss == "wasserstein" else "clipping")


def _events(run: Path) -> dict[str, int]:
    quiet = {"trained", "resumed"}
    log = run / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    return dict(Counter(line["event"] for line in lines if "event" in line and line["event"] not in quiet))


def failed(row: dict[str, Any]) -> bool:
    return "stopped" in row or row["variety"] < COLLAPSED


def print_table(rows: list[dict[str, Any]]) -> None:
    cells: dict[tuple[str, str, bool], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        cells[row["loss"], row["penalty"], row["doctor"]].append(row)
    columns = ("loss", "penalty", "doctor", "seeds", "distance, median (worst)", "recall, median", "failed",
               "what the doctor did")
    print("| " + " | ".join(columns) + " |")
    print("| --- " * 8 + "|")
    for (loss, penalty, doctor), group in sorted(cells.items()):
        ended = [row for row in group if "stopped" not in row]
        distances = sorted(row["distance"] for row in ended)
        text = f"{statistics.median(distances):.0f} ({distances[-1]:.0f})" if ended else "none"
        recall = f"{statistics.median(row['recall'] for row in ended):.2f}" if ended else "none"
        events = sum((Counter(row["events"]) for row in group), Counter())
        done = ", ".join(f"{name} {count}" for name, count in events.most_common()) or ("nothing" if doctor else "")
        print(f"| {loss} | {penalty} | {'with' if doctor else 'without'} | {len(group)} | {text} | {recall} | "
              f"{sum(map(failed, group))} | {done} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--class", dest="name", default="HeadCT")
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--penalties", default=",".join(PENALTIES))
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    names = ("loss", "penalty", "seed", "doctor", "images")
    done = {tuple(row[name] for name in names) for row in finished(RESULTS)}
    known, test = load(options.data, options.name, 32)
    unseen = scaled(test[:options.n])
    real = by_parts(features, unseen)
    with tempfile.TemporaryDirectory() as scratch:
        data = prepared(Path(scratch) / "data", known[:-100], test[:0], validation=known[-100:])
        for seed in range(options.seeds):
            for loss in options.losses.split(","):
                for penalty in options.penalties.split(","):
                    for doctor in (False, True):
                        key = (loss, penalty, seed, doctor, options.images)
                        if key in done or not sensible(loss, penalty):
                            continue
                        row = one(data, unseen, real, loss, penalty, seed, doctor, options.images)
                        with RESULTS.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(row) + "\n")
    print_table([row for row in finished(RESULTS) if row["images"] == options.images])


if __name__ == "__main__":
    told(main)
