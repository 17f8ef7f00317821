"""How fast a training step is: radsynth's loop against the same networks and losses in plain fp32 PyTorch, in pairs.

Usage: python benchmarks/speed.py [--size 64] [--pairs 5] [--steps 20]. Prints one table and writes build/speed.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _data import prepared_noise

from radsynth.arrays import Prepared
from radsynth.device import here
from radsynth.plan import Fingerprint, document, plan
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._loop import Loop, Settings


def make_loop(folder: Path, out: Path) -> Loop:
    data = Prepared(folder)
    found = Fingerprint(images=len(data.rows), patients=len(data.rows), modality="CT", channels=1, size=data.spec.size,
                        labels={})
    settings = resolve(document(plan(found, here(), {"images": 10**9})))
    task = build(settings.section("task"), settings.section("model"), settings.section("augment"), data.spec)
    loop = Loop(task, settings.section("train", Settings), data, RunFolder(out), 0)
    out.mkdir()  # for what the doctor has to say
    loop.images = 5 * 10**8  # the middle of the schedule, where most steps are
    return loop


def plain(loop: Loop) -> Callable[[], None]:
    """The same step as a user would write it: fp32, default layout, Adam as it comes, all weights keep gradients."""
    options, networks = loop.options, {k: v.to(memory_format=torch.contiguous_format) for k, v in loop.networks.items()}
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

    return step


def rate(step: Callable[[], Any], steps: int, batch: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * batch / (time.perf_counter() - start)


def outside(loop: Loop, steps: int) -> dict[str, float]:
    """Shares of a step that are neither forward nor backward: batches, averaging, optimisers."""
    spent = {"batches": 0.0, "averaging": 0.0, "optimisers": 0.0}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            spent[name] += time.perf_counter() - start
            return result

        return call

    loop.batch = timed("batches", loop.batch)  # type: ignore[method-assign]
    loop.average.update = timed("averaging", loop.average.update)  # type: ignore[method-assign]
    for optimiser in loop.optimisers:
        optimiser.step = timed("optimisers", optimiser.step)  # type: ignore[method-assign]
    start = time.perf_counter()
    for _ in range(steps):
        loop.take_step()
    total = time.perf_counter() - start
    return {f"share_{name}": round(seconds / total, 3) for name, seconds in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = prepared_noise(Path(scratch) / "data", 512, (options.size, options.size))
        ours, theirs = make_loop(data, Path(scratch) / "a"), make_loop(data, Path(scratch) / "b")
        step, batch = plain(theirs), ours.options.batch
        rate(ours.take_step, 5, batch)
        rate(step, 5, batch)
        pairs = [(rate(ours.take_step, options.steps, batch), rate(step, options.steps, batch))
                 for _ in range(options.pairs)]
        shares = outside(ours, options.steps)
    result = {
        "device": here().name, "threads": torch.get_num_threads(), "size": options.size, "batch": batch,
        "radsynth_images_per_second": round(statistics.median(a for a, _ in pairs), 1),
        "plain_images_per_second": round(statistics.median(b for _, b in pairs), 1),
        "ratio_median": round(statistics.median(a / b for a, b in pairs), 2),
        "ratio_range": [round(min(a / b for a, b in pairs), 2), round(max(a / b for a, b in pairs), 2)],
        **shares,
    }
    for name, value in result.items():
        print(f"{name:32} {value}")
    Path("build").mkdir(exist_ok=True)
    Path("build/speed.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
