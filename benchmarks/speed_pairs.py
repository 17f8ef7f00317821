"""How fast tasks from image to image train and convert: radsynth against the same networks in plain fp32 PyTorch.

Each measurement is a process of its own, since memory settings last as long as the process, and kinds take turns.
"plain" is the same networks, losses and data as a user writes them: fp32, default layout, `Upsample` and `Conv2d` for
a doubling, Adam as it comes, glibc's memory. Rates are images a second by the clock (ratios by processor time as well,
which say more on a machine that is not idle), of:
  step           loader, both turns, optimisers (and radsynth's averaging and doctor)
  generator      forward and backward of the generator alone (cycle: both generators in turn)
  discriminator  the same of the patch discriminator
  convert        the trained network's results, as training's previews make them

Usage: OMP_NUM_THREADS=2 python benchmarks/speed_pairs.py [--tasks translate,restore] [--batches 0,32,64] [--pairs 3]
[--size 64] [--images 256]. Batch 0 is what the plan chooses. Prints one table and writes build/speed_pairs.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import prepared
from _told import told
from speed import plain, rates
from torch import Tensor, nn

import radsynth.verbs._training.loop as loop_module
from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.device import channels_last, here
from radsynth.recipes import recipe
from radsynth.run_folder import RunFolder
from radsynth.settings import constant, resolve
from radsynth.tasks import build
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings

KINDS = ("ours", "plain")
WHAT = ("step", "generator", "discriminator", "convert")


def noise(folder: Path, side: int) -> Prepared:
    """Two channels, two classes and masks of three values, where only the speed matters."""
    images = np.random.default_rng(0).integers(0, 256, (256, 2, side, side), dtype=np.uint8)
    return Prepared(prepared(folder, images[:192], images[192:], channels=("t1", "flair"), classes=("t1", "flair"),
                             labels=[k % 2 for k in range(len(images))], masks=images[:, 0] // 100))


def make_loop(task: str, data: Prepared, out: Path, batch: int, plainly: bool) -> Loop:
    """A training of what the plan chooses, in the middle of its schedule, where most steps are."""
    given = [f"task.kind={task}", f"train.images={10**9}", *([f"train.batch={batch}"] if batch else []),
             *(["train.precision=32-true"] if plainly else [])]
    settings = resolve(document(recipe(constant("tasks", task, "MODEL") or "", task)), overrides=given)
    task_of = build(settings.section("task"), settings.section("model"), settings.section("augment"), data.spec)
    loop = Loop(task_of, settings.section("train", Settings), data, RunFolder(out), 0)
    out.mkdir()  # for what the doctor has to say
    loop.images = 5 * 10**8
    loop.step = loop.images // loop.options.batch
    return loop


def write_plainly() -> None:
    """Leave memory and layouts as they come; plug-ins that are not there yet take theirs from `device`."""
    for module in [module for module in sys.modules.values() if hasattr(module, "channels_last")]:
        if module.__name__.startswith(("radsynth", "__main__")):
            module.channels_last = lambda x: x  # type: ignore[attr-defined]
    loop_module.keep_freed_memory = lambda: False  # type: ignore[attr-defined]


def work(kind: str, task: str, batch: int, size: int, images: int) -> dict[str, float]:
    """One measurement of every rate, in this process."""
    if kind == "plain":
        write_plainly()
    with tempfile.TemporaryDirectory() as scratch:
        loop = make_loop(task, noise(Path(scratch) / "data", size), Path(scratch) / "run", batch, kind == "plain")
        step = plain(loop, usual=True)[0] if kind == "plain" else loop.take_step
        batch, rows = loop.options.batch, loop.batches.train
        kept = loop.networks[loop.task.keeps] if kind == "plain" else loop.average.network
        found: dict[str, float] = {"batch": batch}
        for name, action in {
            "step": step,
            "generator": forth_and_back(loop, loop.networks[loop.task.keeps], made_of(loop)),
            **({"discriminator": judging(loop, size)} if len(loop.networks) > 1 else {}),
            "convert": lambda: loop.samples.make(kept.eval(), rows[:batch], range(batch), 1),
        }.items():
            rates(action, 3, batch)
            found[name], found[f"{name}_cpu"] = rates(action, max(2, images // batch), batch)
        return found


def forth_and_back(loop: Loop, network: nn.Module, run: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward and backward through one network."""

    def step() -> None:
        network.requires_grad_(True).zero_grad(set_to_none=True)
        with loop.fabric.autocast():
            loss = run().float().square().mean()
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def made_of(loop: Loop) -> Callable[[], Tensor]:
    """The generator's results of one batch."""
    batch = loop.batch()
    return lambda: loop.task.sample(loop.networks[loop.task.keeps], batch)


def judging(loop: Loop, size: int) -> Callable[[], None]:
    """The discriminator's step of one batch of noise."""
    network = next(network for name, network in loop.networks.items() if name.startswith("discriminator"))
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    images = torch.rand(loop.options.batch, first.in_channels, size, size)

    def run() -> Tensor:
        found = network(channels_last(images))
        return found if isinstance(found, Tensor) else torch.stack([looks[-1].float().mean() for looks in found])

    return forth_and_back(loop, network, run)


def measured(kind: str, task: str, batch: int, options: argparse.Namespace) -> dict[str, float]:
    """`work` in a fresh process."""
    command = [sys.executable, __file__, "--work", kind, "--tasks", task, "--batches", str(batch), "--size",
               str(options.size), "--images", str(options.images)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found: dict[str, float] = json.loads(lines[-1])
    return found


def rows(task: str, batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both kinds in turn, a row for each rate: medians, and ratios pair by pair."""
    pairs = [[measured(kind, task, batch, options) for kind in KINDS] for _ in range(options.pairs)]
    table = []
    for what in [what for what in WHAT if what in pairs[0][0]]:
        ratios, of_processor = ([ours[name] / theirs[name] for ours, theirs in pairs] for name in (what, f"{what}_cpu"))
        table.append({"task": task, "batch": pairs[0][0]["batch"], "what": what,
                      "radsynth": statistics.median(ours[what] for ours, _ in pairs),
                      "plain": statistics.median(theirs[what] for _, theirs in pairs),
                      "ratio": round(statistics.median(ratios), 2),
                      "range": [round(min(ratios), 2), round(max(ratios), 2)],
                      "ratio by processor time": round(statistics.median(of_processor), 2)})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="translate,restore")
    parser.add_argument("--batches", default="0,32,64")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=256, help="measured for each rate")
    parser.add_argument("--work", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    tasks, batches = options.tasks.split(","), [int(text) for text in options.batches.split(",")]
    if options.work:
        print(json.dumps(work(options.work, tasks[0], batches[0], options.size, options.images)))
        return
    print(f"{here().name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.size} px")
    table = []
    for task in tasks:
        for batch in batches:
            for row in rows(task, batch, options):
                print(" | ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                table.append(row)
    Path("build").mkdir(exist_ok=True)
    Path("build/speed_pairs.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    told(main)
