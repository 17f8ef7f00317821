"""How fast is `prepare`, and what memory does it take? 10,000 slices of made-up NIfTI volumes, and the brain cohort.

python benchmarks/prepare.py [--slices 10000] prints one table and writes build/prepare.json.
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

import nibabel
import numpy as np

from radsynth.settings import resolve
from radsynth.verbs.prepare import prepare

SIDE, DEPTH = 128, 100


def write_volumes(folder: Path, slices: int) -> None:
    """Volumes of 100 slices of 128x128, 16 bits: a ball of its own brightness and noise in each."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (SIDE, SIDE, DEPTH)), indexing="ij")
    ball = (np.sqrt(sum(axis**2 for axis in axes)) < 0.8).astype(np.float32)
    for number in range(slices // DEPTH):
        pixels = ball * rng.uniform(300, 2000) + rng.normal(0, 20, ball.shape).astype(np.float32)
        image = nibabel.Nifti1Image(pixels.astype(np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
        nibabel.save(image, folder / f"{number:04d}.nii")


def measure(overrides: list[str], workers: int, queue: Any) -> None:
    """In a process of its own, so that peaks do not add up."""
    settings = resolve(overrides=overrides, sections=["data", "prepare"])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        prepared = prepare(settings.section("data"), Path(folder) / "out", settings=settings, workers=workers)
        seconds = time.perf_counter() - start
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    queue.put({"images": len(prepared.rows), "seconds": seconds, "main_mb": peaks[0], "worker_mb": peaks[1]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=10_000)
    slices = parser.parse_args().slices
    context, rows = multiprocessing.get_context("spawn"), []
    with tempfile.TemporaryDirectory() as folder:
        write_volumes(Path(folder), slices)
        nifti = ["data.kind=folder", f"data.path={folder}", "prepare.size=[64,64]"]
        print("| data | workers | images | images/s | peak of the main process, MB | peak of a worker, MB |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, overrides in (("NIfTI slices, 128 to 64 px", nifti), ("brain cohort, 64 px", ["data.kind=brain"])):
            for workers in (1, 2):
                queue = context.Queue()
                process = context.Process(target=measure, args=(overrides, workers, queue))
                process.start()
                found = queue.get()
                process.join()
                rows.append({"data": name, "workers": workers, **found})
                worker = f"{found['worker_mb']:.0f}" if workers > 1 else ""
                print(f"| {name} | {workers} | {found['images']} | {found['images'] / found['seconds']:.0f} | "
                      f"{found['main_mb']:.0f} | {worker} |", flush=True)
    build = Path("build")
    build.mkdir(exist_ok=True)
    (build / "prepare.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
