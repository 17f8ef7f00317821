"""How fast a whole default run trains: radsynth's own run against plain fp32 PyTorch of the same network and batches.

speed.py measures steps of one batch; here `train` runs for `--seconds` with everything that belongs to it (doctor,
selection, previews, checkpoints), its schedule scaled to that time. "plain fp32" of speed.py is measured at each batch
that the run took, a process each, in turn with it: the ratio is the time in which plain fp32 would have taken the same
images in the same batches, over the run's. The warm start counts for neither side: its steps are cheaper for both.

Usage: OMP_NUM_THREADS=2 python benchmarks/speed_run.py [--seconds 300] [--pairs 2] [--steps 20] [train.batch_end=0].
Prints one table and writes build/speed_run.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from _data import prepared
from _told import told
from speed import measured

import radsynth.verbs.train as training
from radsynth.choices import document
from radsynth.course import DEFAULT_SECONDS
from radsynth.device import here
from radsynth.plan import Fingerprint, plan
from radsynth.settings import resolve
from radsynth.verbs._training.loop import Loop

IMAGES, HELD_OUT, SIDE = 1000, 200, 64


class Counting(Loop):
    """radsynth's own loop, which counts the images of each size of batch once the warm start is over."""

    shown: ClassVar[Counter[int]] = Counter()
    warm: ClassVar[float] = 0.0

    def take_step(self) -> dict[str, float]:
        size, warm = self.size, self.progress < self.task.warm_start  # type: ignore[attr-defined]
        terms = super().take_step()
        if warm:
            Counting.warm = self.seconds  # until the step before
        else:
            Counting.shown[size] += size
        return terms


def work(seconds: float, overrides: list[str]) -> dict[str, Any]:
    """One run in this process: its seconds of training after the warm start, and its images by size of batch."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES + HELD_OUT, 1, SIDE, SIDE), dtype=np.uint8)
    found = Fingerprint(images=IMAGES, patients=IMAGES, modality="CT", channels=1, size=(SIDE, SIDE), labels={})
    settings = resolve(document(plan(found, here(), {"seconds": DEFAULT_SECONDS})),
                       overrides=[f"train.seconds={seconds}", *overrides])
    training.Loop = Counting  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as scratch:
        data = prepared(Path(scratch) / "data", images[:IMAGES], images[:0], validation=images[IMAGES:])
        facts = training.train(data, Path(scratch) / "run", settings=settings).load_weights()[1]
    return {"seconds": facts["seconds"] - Counting.warm, "images": dict(Counting.shown)}


def pair(options: argparse.Namespace) -> dict[str, Any]:
    """A run in a process of its own, then plain fp32 at each of its batches."""
    command = [sys.executable, __file__, "--work", "--seconds", str(options.seconds), *options.overrides]
    run = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    plain = {batch: measured("plain", SIDE, int(batch), options.steps)["train"] for batch in run["images"]}
    theirs = sum(images / plain[batch] for batch, images in run["images"].items())
    total = sum(run["images"].values())
    return {**run, "plain": plain, "radsynth": round(total / run["seconds"], 1),
            "plain fp32": round(total / theirs, 1), "ratio": round(theirs / run["seconds"], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(options.seconds, options.overrides)))
        return
    print(f"{here().name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    for _ in range(options.pairs):
        rows.append(pair(options))
        print(" | ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    ratios = sorted(row["ratio"] for row in rows)
    print(f"radsynth / plain fp32: {statistics.median(ratios)} ({ratios[0]} to {ratios[-1]})")
    Path("build").mkdir(exist_ok=True)
    Path("build/speed_run.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    told(main)
