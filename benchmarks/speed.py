"""How fast the default network trains and samples: radsynth's loop against plain fp32 PyTorch, in pairs.

Each measurement is a process of its own, since memory settings last as long as the process. "plain" is the same
networks, losses and data as a user writes them: fp32, default layout, `Upsample` and `Conv2d` for a doubling, Adam as
it comes; "plain, our layers" keeps radsynth's folded doubling: number format, layout and memory are what is left.

Usage: python benchmarks/speed.py [--pairs 5] [--steps 20] [--sizes 32,64,128] [--batches 8,16,32,64]
[--only pairs | --only growth]. "growth" is radsynth alone at other sizes and batches. Prints tables and writes
build/speed.json. OMP_NUM_THREADS=1 measures one core; rates are then given by processor time as well, which says more
on a machine that is not idle. On a GPU radsynth's steps are CUDA graphs, "no graphs" shows what they bring; give it
some hundred steps. CUDA_VISIBLE_DEVICES= measures the processor where there is a GPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _data import prepared_noise
from _told import told
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import radsynth.verbs._training.gradients as gradients_module
import radsynth.verbs._training.loop as loop_module
from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.device import here, torch_device
from radsynth.models import sngan
from radsynth.models._blocks import Doubling
from radsynth.models._patch import InstanceNorm
from radsynth.plan import Fingerprint, plan
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._training.doctor import IMAGES_BETWEEN
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings

KINDS = {"ours": "radsynth", "plain": "plain fp32", "layers": "plain fp32, our layers"}
if torch.cuda.is_available():
    KINDS["single"] = "radsynth, no graphs"
SAMPLES = 256


def make_loop(folder: Path, out: Path, batch: int = 0, graphs: bool = True) -> Loop:
    """A training of what the plan chooses, in the middle of its schedule but with batches of one size."""
    data = Prepared(folder)
    found = Fingerprint(images=len(data.rows), patients=len(data.rows), modality="CT", channels=1, size=data.spec.size,
                        labels={})
    settings = resolve(document(plan(found, here(), {"images": 10**9}, size=data.spec.size)), overrides=[
        f"train.graphs={str(graphs).lower()}", *([f"train.batch={batch}"] if batch else [])])
    task = build(settings, data.spec)
    loop = Loop(task, settings.section("train", Settings), data, RunFolder(out), 0)
    out.mkdir()  # for what the doctor has to say
    loop.images = 5 * 10**8
    loop.step = loop.images // loop.options.batch
    return loop


class UsualDoubling(nn.Module):
    """The doubling of radsynth's layer as two layers."""

    def __init__(self, folded: Doubling) -> None:
        super().__init__()
        kernel = folded.weight.detach().transpose(0, 1).flip(2, 3)
        self.enlarge = nn.Upsample(scale_factor=2)
        self.convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, bias=False, device=kernel.device)
        self.convolution.weight.data.copy_(kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(self.enlarge(x))


def plain(loop: Loop, usual: bool) -> tuple[Callable[[], None], Callable[[], Tensor]]:
    """A training step and a sampling of 64 images as a user would write them."""
    networks = {k: v.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub lacks it
                for k, v in loop.networks.items()}
    for parent in [part for network in networks.values() for part in network.modules()] if usual else []:
        for name, child in parent.named_children():
            if isinstance(child, Doubling):
                setattr(parent, name, UsualDoubling(child))
            if isinstance(child, InstanceNorm):
                setattr(parent, name, nn.InstanceNorm2d(1))  # without weights it does not care for the number
    options = loop.options
    optimisers = [
        torch.optim.Adam([p for name in turn.nets for p in networks[name].parameters()], options.rate * turn.rate,
                         (options.beta1, options.beta2)) for turn in loop.turns
    ]

    def step() -> None:
        for network in networks.values():
            network.requires_grad_(True)
        batch = loop.batch()
        for turn, optimiser in zip(loop.turns, optimisers, strict=True):
            terms = turn.loss(networks, batch)
            if not terms:
                continue
            optimiser.zero_grad()
            torch.stack([value for name, value in terms.items() if not name.startswith("_")]).sum().backward()
            optimiser.step()

    @torch.no_grad()
    def sample() -> Tensor:
        made: Tensor = networks["generator"].eval()(torch.randn(64, 128, device=loop.fabric.device))
        return made

    return step, sample


def rates(function: Callable[[], Any], count: int, images: int) -> tuple[float, float]:
    """Images a second by the clock and by processor time."""
    wait()
    wall, used = time.perf_counter(), time.process_time()
    for _ in range(count):
        function()
    wait()
    total = images * count
    return round(total / (time.perf_counter() - wall), 1), round(total / (time.process_time() - used), 1)


def wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def work(kind: str, size: int, batch: int, steps: int) -> dict[str, Any]:
    """One measurement, in this process."""
    plainly, graphs = kind not in ("ours", "single"), kind == "ours"
    if plainly:
        loop_module.keep_freed_memory = lambda: False
        sngan.channels_last = lambda x: x  # type: ignore[assignment,misc]
    with tempfile.TemporaryDirectory() as scratch:
        data = prepared_noise(Path(scratch) / "data", 512, (size, size))
        loop = make_loop(data, Path(scratch) / "run", batch, graphs)
        if not plainly:
            rows = loop.batches.train[:64]
            step, sample = loop.take_step, lambda: loop.samples.make(loop.average.network, rows, range(64), 1)
        else:
            step, sample = plain(loop, usual=kind == "plain")  # type: ignore[assignment]
        rates(step, 10, 1)
        trained = rates(step, steps, loop.options.batch)
        sample()
        sampled = rates(sample, SAMPLES // 64, 64)
        if loop.graphs:
            loop.graphs.refuse()  # what a graph does is not counted
        with FlopCounterMode(display=False) as counter:
            step()
        found = {"train": trained[0], "train_cpu": trained[1], "sample": sampled[0], "sample_cpu": sampled[1],
                 "batch": loop.options.batch, "gflop_an_image": counter.get_total_flops() / loop.options.batch / 1e9,
                 "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
        if torch.cuda.is_available():
            return found | {"gpu_peak_mb": torch.cuda.max_memory_allocated() >> 20}
        return found | (outside(loop, steps) if kind == "ours" else {})


def outside(loop: Loop, steps: int) -> dict[str, float]:
    """Shares of a step that are neither forward nor backward, in percent."""
    spent: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            return result

        return call

    loop.batch = timed("loader", loop.batch)  # type: ignore[method-assign]
    loop.average.update = timed("averaging", loop.average.update)  # type: ignore[method-assign]
    for module, name in ((loop_module, "move"), (gradients_module, "clear")):
        setattr(module, name, timed("optimisers", getattr(module, name)))
    if loop.doctor:
        loop.doctor.feel = timed("doctor", loop.doctor.feel)  # type: ignore[method-assign]
    start = time.perf_counter()
    for _ in range(steps):
        loop.take_step()
    total = time.perf_counter() - start
    if loop.doctor:
        start = time.perf_counter()
        loop.doctor.examine(loop)
        spent["doctor"] += (time.perf_counter() - start) * steps * loop.size / IMAGES_BETWEEN
    return {f"share_{name}": round(100 * seconds / total, 2) for name, seconds in spent.items()}


def peak(dtype: torch.dtype) -> float:
    """GFLOP/s of the best of some large matrix products, by the clock."""
    best = 0.0
    device = torch_device()
    for side in (4096, 8192) if device.type == "cuda" else (1024, 2048, 3072):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        a @ b
        for _ in range(3):
            wait()
            start = time.perf_counter()
            a @ b
            wait()
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def measured(kind: str, size: int, batch: int, steps: int) -> dict[str, Any]:
    """`work` in a fresh process."""
    command = [sys.executable, __file__, "--work", kind, "--sizes", str(size), "--batches", str(batch), "--steps",
               str(steps)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def compare(size: int, pairs: int, steps: int) -> dict[str, Any]:
    """All kinds in turn, `pairs` times; medians, and ratios pair by pair."""
    rounds = [{kind: measured(kind, size, 0, steps) for kind in KINDS} for _ in range(pairs)]
    best = {"fp32": peak(torch.float32), "bf16": peak(torch.bfloat16)}
    result: dict[str, Any] = {"size": size, "peak_gflops": {k: round(v) for k, v in best.items()}}
    for kind, name in KINDS.items():
        middle = {key: statistics.median(r[kind][key] for r in rounds) for key in rounds[0][kind]}
        result[kind] = {key: round(value, 2) for key, value in middle.items()}
        reached = middle["train"] * middle["gflop_an_image"]
        result[kind]["percent_of_peak"] = round(100 * reached / best["bf16" if kind in ("ours", "single") else "fp32"])
        print(f"{name:24} " + ", ".join(f"{key} {value}" for key, value in result[kind].items()))
    for kind in [kind for kind in KINDS if kind != "ours"]:
        for what in ("train", "train_cpu", "sample", "sample_cpu"):
            each = sorted(r["ours"][what] / r[kind][what] for r in rounds)
            result[f"{what}_over_{kind}"] = [round(each[0], 2), round(statistics.median(each), 2), round(each[-1], 2)]
            print(f"radsynth / {KINDS[kind]}, {what}: {result[f'{what}_over_{kind}']} (least, median, most)")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="32,64,128")
    parser.add_argument("--batches", default="8,16,32,64")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=("pairs", "growth"))
    parser.add_argument("--work", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes, batches = ([int(v) for v in text.split(",")] for text in (options.sizes, options.batches))
    if options.work:
        print(json.dumps(work(options.work, sizes[0], batches[0], options.steps)))
        return
    report: dict[str, Any] = {"device": here().name, "threads": torch.get_num_threads()}
    print(f"{report['device']}, {report['threads']} threads, torch {torch.__version__}")
    if options.only != "growth":
        report["pairs"] = compare(64, options.pairs, options.steps)
    if options.only != "pairs":
        report["growth"] = []
        for size, batch in dict.fromkeys([*((size, 0) for size in sizes), *((64, batch) for batch in batches)]):
            row = {"size": size, **measured("ours", size, batch, options.steps)}
            report["growth"].append(row)
            print(f"{size} px, batch {row['batch']}: {row['train']} images/s trained ({row['train_cpu']} a processor "
                  f"second), {row['sample']} sampled, {row['gflop_an_image']:.2f} GFLOP an image, {row['peak_mb']} MB")
    Path("build").mkdir(exist_ok=True)
    Path("build/speed.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    told(main)
