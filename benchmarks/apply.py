"""Large scans through `radsynth apply`: peak memory of the process, time, and whether the window's size shows.

Made-up volumes go through an untrained network whose last layer is filled with noise, so that every weight takes
part: memory, time and equality do not depend on what was learned. Each row is a process of its own; its peak is what
the kernel says (resident memory). Networks of slices (2) and of volumes (3), denoising, default widths; or a
registration of volumes, its default improvement of each pair included (register).
`difference` is the largest one, in steps of the result's 16 bits, between this row and the same volume in smaller
windows, of which each slice (2-D) or volume (3-D) takes several. Only rows that end in ":equal" have it: they take up
to five times longer.

Usage: python benchmarks/apply.py [--rows 2:160x256x256:equal,3:160x256x256:equal,2:300x512x512,3:300x512x512,
register:160x256x256].
Prints one table, writes build/apply.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import prepared_noise
from _told import machine, told

from radsynth.image import Image
from radsynth.io import Provenance, read, write
from radsynth.settings import resolve
from radsynth.tasks import register, restore
from radsynth.verbs._applying import tiles as _tiles
from radsynth.verbs.apply import apply
from radsynth.verbs.train import train

ROWS = "2:160x256x256:equal,3:160x256x256:equal,2:300x512x512,3:300x512x512,register:160x256x256"
WINDOWS = {"usual": _tiles.LIMIT, "smaller": {2: 1 << 15, 3: 9_300_000}}
"""Pixels with borders that are computed at once."""
FROM = Provenance(model="none", weights="", seed=0, index=0)


def scan(space: tuple[int, ...], path: Path, first: float = 0) -> None:
    """Smooth waves under noise, 12 bits, as NIfTI; `first` moves the waves."""
    z, y, x = (np.linspace(first, first + side / 9, side, dtype=np.float32) for side in space)
    volume = np.empty(space, np.uint16)
    rng = np.random.default_rng(0)
    for k, level in enumerate(z):
        plane = 1500 + 700 * np.sin(y[:, None] + level) * np.cos(x[None] - level)
        volume[k] = plane + rng.normal(0, 100, plane.shape)
    write(Image(pixels=volume[None], bits=12), path, provenance=FROM)


def a_run(folder: Path, kind: str) -> Path:
    """A run folder of the task with noise in the network's last layer."""
    task: Any = register.Register if kind == "register" else restore.Restore
    networks = task.networks

    def noisy(self: Any) -> Any:
        made = networks(self)
        torch.nn.init.normal_(made["generator"].leave.weight, std=0.01)
        return made

    task.networks = noisy
    data = prepared_noise(folder / "data", 96, (32,) * (2 if kind == "2" else 3))
    chosen = ["task.kind=register"] if kind == "register" else ["task.kind=restore", "task.what=rician"]
    train(data, folder / "run", settings=resolve(overrides=[
        *chosen, "train.images=4", "train.batch=4", "train.previews=0", "train.rate=1e-9"]))
    return folder / "run"


def one(folder: Path, windows: str, onto: Path | None, answer: Any) -> None:
    """In a process of its own: apply; its seconds and the peak of the process's memory."""
    _tiles.LIMIT = WINDOWS[windows]
    start = time.monotonic()
    apply(folder / "run", folder / "scan.nii.gz", folder / windows, onto=onto)
    answer.put((time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def measured(kind: str, space: tuple[int, ...], equal: bool) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        onto = folder / "onto.nii.gz" if kind == "register" else None
        for target, arguments in ((a_run, (folder, kind)), (scan, (space, folder / "scan.nii.gz")),
                                  *([(scan, (space, onto, 0.3))] if onto else [])):
            process = context.Process(target=target, args=arguments)  # type: ignore[arg-type]
            process.start()
            process.join()
            assert process.exitcode == 0
        found = []
        for windows in WINDOWS if equal else ("usual",):
            answer = context.Queue()
            process = context.Process(target=one, args=(folder, windows, onto, answer))
            process.start()
            found.append(answer.get())
            process.join()
        difference: int | str = "not measured"
        if equal:
            results = []
            for windows in WINDOWS:
                image = read(next((folder / windows / "images").iterdir()))
                assert isinstance(image, Image)
                results.append(image.pixels.astype(np.int64))
            difference = int(np.abs(results[0] - results[1]).max())
    return {"network": kind if onto else f"{kind}-D", "volume": "x".join(map(str, space)),
            "seconds": round(found[0][0]), "peak_GiB": round(found[0][1], 2), "difference": difference,
            "peak_GiB_smaller_windows": round(found[-1][1], 2) if equal else "not measured"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=ROWS)
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    print(machine())
    table: list[dict[str, Any]] = []
    for row in options.rows.split(","):
        kind, space, *more = row.split(":")
        table.append(measured(kind, tuple(map(int, space.split("x"))), more == ["equal"]))
        if len(table) == 1:
            print(" | ".join(table[0]))
        print(" | ".join(map(str, table[-1].values())), flush=True)
        Path("build/apply.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    told(main)
