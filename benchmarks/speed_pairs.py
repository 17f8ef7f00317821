"""How fast tasks from image to image train: radsynth's loop against the same networks in plain fp32 PyTorch, in pairs.

A step is that of `benchmarks/speed.py`: loader, both networks, optimisers, averaging. Rows: each task's whole step, and
generator and patch discriminator alone, forward and backward, with bf16 and channels-last against fp32 as it comes.

Usage: python benchmarks/speed_pairs.py [--size 64] [--pairs 5] [--steps 10] [--tasks translate,segment,cycle,cut].
Prints one table and writes build/speed_pairs.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import prepared
from speed import plain
from torch import nn

from radsynth.arrays import Prepared
from radsynth.device import channels_last, here, module_channels_last
from radsynth.plan import document, recipe
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._training.loop import Loop, Settings


def noise(folder: Path, side: int) -> Prepared:
    """Two channels, two classes and masks of three values, where only the speed matters."""
    images = np.random.default_rng(0).integers(0, 256, (256, 2, side, side), dtype=np.uint8)
    prepared(folder, images[:192], images[192:], channels=("t1", "flair"))
    np.save(folder / "shards" / "00000.masks.npy", images[:, 0] // 100)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["spec"] |= {"mask_classes": 3, "labels": ["t1", "flair"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    table = (folder / "records.csv").read_text().splitlines()
    label = table[0].split(",").index("label")
    for k, line in enumerate(table[1:], 1):
        cells = line.split(",")
        cells[label] = str(k % 2)
        table[k] = ",".join(cells)
    (folder / "records.csv").write_text("\n".join(table) + "\n")
    return Prepared(folder)


def make_loop(task: str, data: Prepared, out: Path) -> Loop:
    settings = resolve(document(recipe("unet", task)), overrides=[f"task.kind={task}", f"train.images={10**9}"])
    sections = (settings.section(name) for name in ("task", "model", "augment"))
    loop = Loop(build(*sections, data.spec), settings.section("train", Settings), data, RunFolder(out), 0)
    out.mkdir()
    loop.images = 5 * 10**8  # the middle of the schedule, where most steps are
    return loop


def both_ways(network: nn.Module, images: torch.Tensor, fast: bool) -> Callable[[], None]:
    """Forward and backward through one network."""
    module = module_channels_last(network, 2) if fast else network.to(memory_format=torch.contiguous_format)
    given = channels_last(images) if fast else images.contiguous()

    def step() -> None:
        module.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = module(given).float().square().mean()
        loss.backward()

    return step


def row(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], batch: int, options: argparse.Namespace,
        ) -> dict[str, Any]:
    rate(ours, 3, batch)
    rate(theirs, 3, batch)
    pairs = [(rate(ours, options.steps, batch), rate(theirs, options.steps, batch)) for _ in range(options.pairs)]
    return {"what": name, "radsynth_images_per_second": round(statistics.median(a for a, _ in pairs), 1),
            "plain_images_per_second": round(statistics.median(b for _, b in pairs), 1),
            "ratio": round(statistics.median(a / b for a, b in pairs), 2),
            "ratio_range": [round(min(a / b for a, b in pairs), 2), round(max(a / b for a, b in pairs), 2)]}


def rows(task: str, data: Prepared, scratch: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The whole step of a task and, of the first task, its networks alone."""
    ours, theirs = (make_loop(task, data, scratch / f"{task}_{side}") for side in ("ours", "plain"))
    found = [row(f"{task}, a step", ours.take_step, plain(theirs), ours.options.batch, options)]
    if task == options.tasks.split(",")[0]:
        for name, channels in (("generator", 1), ("discriminator", 2)):
            images = torch.randn(ours.options.batch, channels, options.size, options.size)
            nets = [loop.networks[name].requires_grad_(True) for loop in (ours, theirs)]
            found.append(row(f"{name} alone", both_ways(nets[0], images, True), both_ways(nets[1], images, False),
                             len(images), options))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--tasks", default="translate,segment,cycle,cut")
    options = parser.parse_args()
    print(f"{here().name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.size} px")
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        data = noise(Path(scratch) / "data", options.size)
        for task in options.tasks.split(","):
            for one in rows(task, data, Path(scratch), options):
                print(" | ".join(f"{name} {value}" for name, value in one.items()), flush=True)
                table.append(one)
    Path("build").mkdir(exist_ok=True)
    Path("build/speed_pairs.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
