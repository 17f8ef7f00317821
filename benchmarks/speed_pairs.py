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
[--size 64] [--images 256] [--what step,convert]. Batch 0 is what the plan chooses. Prints one table and writes
build/speed_pairs.json. On a GPU radsynth's steps are CUDA graphs, "single" is radsynth without them; a process measures
all tasks there, since starting takes longer. Give it some thousand images.
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
from radsynth.verbs._training.captured import BEFORE
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings

GPU = torch.cuda.is_available()
KINDS = ("ours", "single", "plain") if GPU else ("ours", "plain")
WHAT = ("step", "generator", "discriminator", "convert")


def noise(folder: Path, side: int) -> Prepared:
    """Two channels, two classes and masks of three values, where only the speed matters."""
    images = np.random.default_rng(0).integers(0, 256, (256, 2, side, side), dtype=np.uint8)
    return Prepared(prepared(folder, images[:192], images[192:], channels=("t1", "flair"), classes=("t1", "flair"),
                             labels=[k % 2 for k in range(len(images))], masks=images[:, 0] // 100))


def make_loop(task: str, data: Prepared, out: Path, batch: int, kind: str) -> Loop:
    """A training of what the plan chooses, in the middle of its schedule, where most steps are."""
    given = [f"task.kind={task}", f"train.images={10**9}", *([f"train.batch={batch}"] if batch else []),
             *(["train.precision=32-true"] if kind == "plain" else []),
             f"train.graphs={str(kind == 'ours').lower()}"]
    settings = resolve(document(recipe(constant("tasks", task, "MODEL") or "", task)), overrides=given)
    task_of = build(settings, data.spec)
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


def work(kind: str, task: str, batch: int, size: int, images: int, what: list[str]) -> dict[str, float]:
    """One measurement of each rate in `what`, in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        loop = make_loop(task, noise(Path(scratch) / "data", size), Path(scratch) / "run", batch, kind)
        step = plain(loop, usual=True)[0] if kind == "plain" else loop.take_step
        batch, rows = loop.options.batch, loop.batches.train
        kept = loop.networks[loop.task.keeps] if kind == "plain" else loop.average.network
        found: dict[str, float] = {"batch": batch}
        actions = {
            "step": step,
            "generator": forth_and_back(loop, loop.networks[loop.task.keeps], made_of(loop)),
            **({"discriminator": judging(loop, size)} if judges(loop) else {}),
            "convert": lambda: loop.samples.make(kept.eval(), rows[:batch], range(batch), 1),
        }
        for name in [name for name in what if name in actions]:
            rates(actions[name], BEFORE + 2, batch)  # on a GPU the step is recorded in these
            found[name], found[f"{name}_cpu"] = rates(actions[name], max(2, images // batch), batch)
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


def judges(loop: Loop) -> list[nn.Module]:
    """The discriminators."""
    return [network for name, network in loop.networks.items() if name.startswith("discriminator")]


def judging(loop: Loop, size: int) -> Callable[[], None]:
    """The discriminator's step of one batch of noise."""
    network = judges(loop)[0]
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    images = torch.rand(loop.options.batch, first.in_channels, size, size, device=loop.fabric.device)

    def run() -> Tensor:
        found = network(channels_last(images))
        return found if isinstance(found, Tensor) else torch.stack([looks[-1].float().mean() for looks in found])

    return forth_and_back(loop, network, run)


def measured(kind: str, tasks: list[str], batch: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """`work` for each task, in one fresh process."""
    command = [sys.executable, __file__, "--work", kind, "--tasks", ",".join(tasks), "--batches", str(batch), "--size",
               str(options.size), "--images", str(options.images), "--what", options.what]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found: dict[str, dict[str, float]] = json.loads(lines[-1])
    return found


def rows(tasks: list[str], batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All kinds in turn, a row for each task and rate: medians, and ratios pair by pair."""
    pairs = [{kind: measured(kind, tasks, batch, options) for kind in KINDS} for _ in range(options.pairs)]
    return [row(task, what, [{kind: found[task] for kind, found in pair.items()} for pair in pairs])
            for task in tasks for what in options.what.split(",") if what in pairs[0]["ours"][task]]


def row(task: str, what: str, pairs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """One line of the table."""
    ratios, of_processor = ([pair["ours"][name] / pair["plain"][name] for pair in pairs]
                            for name in (what, f"{what}_cpu"))
    return {"task": task, "batch": pairs[0]["ours"]["batch"], "what": what,
            **{kind: statistics.median(pair[kind][what] for pair in pairs) for kind in KINDS},
            "ratio": round(statistics.median(ratios), 2), "range": [round(min(ratios), 2), round(max(ratios), 2)],
            "ratio by processor time": round(statistics.median(of_processor), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="translate,restore")
    parser.add_argument("--batches", default="0,32,64")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=256, help="measured for each rate")
    parser.add_argument("--what", default=",".join(WHAT))
    parser.add_argument("--work", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    tasks, batches = options.tasks.split(","), [int(text) for text in options.batches.split(",")]
    if options.work:
        if options.work == "plain":
            write_plainly()
        print(json.dumps({task: work(options.work, task, batches[0], options.size, options.images,
                                     options.what.split(",")) for task in tasks}))
        return
    print(f"{here().name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.size} px")
    table = []
    for together in [tasks] if GPU else [[task] for task in tasks]:
        for batch in batches:
            for line in rows(together, batch, options):
                print(" | ".join(f"{name} {value}" for name, value in line.items()), flush=True)
                table.append(line)
    Path("build").mkdir(exist_ok=True)
    Path("build/speed_pairs.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    told(main)
