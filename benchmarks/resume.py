"""What an interruption costs: stopping, a checkpoint, and going on; by the clock and in processor time.

The default network at 64 px trains in a process of its own as `radsynth train` does, is sent SIGTERM after some steps,
and is started again in the same run folder, `--times` times. A start counts from the command to the end of its first
step, a stop from the signal to the end of the process. A new run studies the images for its warm start and writes a
first checkpoint; what is resumed studies them, too. Then the last checkpoint is written and read a few times more.

Usage: OMP_NUM_THREADS=1 python benchmarks/resume.py [--times 3]. Prints one table and writes build/resume.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _data import prepared
from _told import told

import radsynth.verbs.train as training
from radsynth.checkpoints import load_checkpoint, save_tensors
from radsynth.choices import document
from radsynth.course import DEFAULT_SECONDS
from radsynth.device import here
from radsynth.plan import Fingerprint, plan
from radsynth.settings import resolve
from radsynth.verbs._training.loop import Loop

IMAGES, HELD_OUT, SIDE, STEPS = 1000, 200, 64, 20
STEP = "step done, processor time"
Times = tuple[float, float]
"""Seconds by the clock and of processor time."""


class Telling(Loop):
    """radsynth's own loop, which says when a step is done, and what the process has used until then."""

    def take_step(self) -> dict[str, float]:
        terms = super().take_step()
        print(STEP, time.process_time(), flush=True)
        return terms


def work(data: Path, run: Path) -> None:
    """Train in this process until it is asked to stop."""
    found = Fingerprint(images=IMAGES, patients=IMAGES, modality="CT", channels=1, size=(SIDE, SIDE), labels={})
    training.Loop = Telling  # type: ignore[misc]
    training.train(data, run, settings=resolve(document(plan(found, here(), {"seconds": DEFAULT_SECONDS}))))


def interrupted(data: Path, run: Path) -> tuple[Times, Times]:
    """A start and, some steps later, a stop."""
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, __file__, "--work", str(data), str(run)], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    used, first = list[float](), 0.0
    for line in process.stdout:
        if line.startswith(STEP):
            used.append(float(line.removeprefix(STEP)))
            first = first if len(used) > 1 else time.monotonic() - begun
        if len(used) == STEPS:
            break
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    ended = time.monotonic() - asked, usage.ru_utime + usage.ru_stime - used[-1]
    return (first, used[0]), ended


def clocked(function: Callable[[], object], times: int) -> list[Times]:
    """What each call takes."""
    found = []
    for _ in range(times):
        begun, used = time.monotonic(), time.process_time()
        function()
        found.append((time.monotonic() - begun, time.process_time() - used))
    return found


def measured(folder: Path, times: int) -> tuple[dict[str, list[Times]], dict[str, float]]:
    """Rows of the table, and sizes in MB."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES + HELD_OUT, 1, SIDE, SIDE), dtype=np.uint8)
    data = prepared(folder / "data", images[:IMAGES], images[:0], validation=images[IMAGES:])
    checkpoints, path = folder / "run" / "checkpoints", folder / "again.safetensors"
    starts, stops = zip(*[interrupted(data, folder / "run") for _ in range(times + 1)], strict=True)
    found = load_checkpoint(checkpoints)
    assert found is not None
    rows = {
        "stopping": list(stops), "of it writing a checkpoint": clocked(lambda: save_tensors(path, found[0], {}), times),
        "resuming, to its first step": list(starts[1:]),
        "of it reading a checkpoint": clocked(lambda: load_checkpoint(checkpoints), times),
        "beginning, to the first step": [starts[0]],
    }
    generator = sum(value.nbytes for value in found[0]["average"].values())
    return rows, {"a checkpoint": path.stat().st_size / 1e6, "of it a generator": generator / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--work", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    print(f"{here().name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        rows, sizes = measured(Path(scratch), options.times)
    for name, values in rows.items():
        clock, used = (sorted(one) for one in zip(*values, strict=True))
        print(f"{name} | {statistics.median(clock):.2f} s by the clock ({clock[0]:.2f} to {clock[-1]:.2f}) | "
              f"{statistics.median(used):.2f} s of a processor ({used[0]:.2f} to {used[-1]:.2f})")
    print(" | ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()))
    Path("build").mkdir(exist_ok=True)
    Path("build/resume.json").write_text(json.dumps({"seconds": rows, "MB": sizes}, indent=1))


if __name__ == "__main__":
    told(main)
