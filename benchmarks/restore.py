"""Restoration after so many minutes against methods that learn no network: finer pixels (x2, x4), less Rician noise.

The same held-out images for every method, 95 % intervals over patients. Classical denoisers get their strength, and
whether they correct Rician noise's bias, from training images; see radsynth/verbs/_pairs/baselines.py. The sets:
  brain        slices of the embedded virtual cohort, 64 x 64
  hippocampus  crops of slices at their own resolution, 40 x 32, of --hippocampus FOLDER (Decathlon, task 4)
  coronal      the same volumes cut the other way, 32 x 32, for `through`: thin slices from slices twice as thick
  acdc         crops of cardiac slices, 96 x 96, of --acdc FILE.npz (images, names that begin with the patient)

Usage: python benchmarks/restore.py [--minutes 5 | --images 50000] [--hippocampus FOLDER] [--acdc FILE.npz]
[--sets brain,hippocampus,acdc,coronal] [--jobs x2,x4,rician,through] [--seed 0] [section.key=value ...]. Prints rows,
writes build/restore.json and, for each training, pictures as a report in build/restore/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from _data import prepared
from _table import method_rows, print_row
from _told import machine, told

from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.recipes import recipe
from radsynth.settings import resolve
from radsynth.verbs._pairs.paired import evaluate_pairs
from radsynth.verbs.prepare import prepare
from radsynth.verbs.report import report
from radsynth.verbs.train import train

JOBS = {
    "x2": ("task.factor=2",),
    "x4": ("task.factor=4",),
    "rician": ("task.what=rician",),
    "through": ("task.factor=2", "task.axes=rows"),
}
HELD_OUT = 0.3
"""Share of the patients that training never sees."""


def data_of(name: str, options: argparse.Namespace) -> Prepared:
    """The prepared images of one set; made once."""
    folder = Path("build/restore") / name
    if name == "acdc":
        return _acdc(options.acdc, folder)
    overrides = ["data.kind=brain"] if name == "brain" else [
        "data.kind=folder", f"data.path={options.hippocampus}", "data.modality=MR", "prepare.fit=patches",
        "prepare.masks=off",
        *(["prepare.size=[32,32]", "data.plane=coronal"] if name == "coronal" else ["prepare.size=[40,32]"])]
    given = resolve(overrides=[*overrides, "prepare.validation=0"], sections=("data", "prepare"))
    return prepare(given.section("data"), folder, settings=given)


def _acdc(file: Path, folder: Path, side: int = 96) -> Prepared:
    """The middle of each slice. The split follows from the patient's name alone."""
    if (folder / "manifest.json").exists():
        return Prepared(folder)
    with np.load(file) as data:
        first = (data["images"].shape[1] - side) // 2
        images = data["images"][:, None, first:first + side, first:first + side]
        patients = [str(name).split("_")[0] for name in data["names"]]
    unseen = np.asarray([int(hashlib.sha256(one.encode()).hexdigest(), 16) % 1000 < 1000 * HELD_OUT
                         for one in patients])
    order = np.argsort(unseen, kind="stable")
    return Prepared(prepared(folder, images[~unseen], images[unseen], [patients[k] for k in order]))


def rows(name: str, job: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train one job on one set; a row for each method."""
    data = data_of(name, options)
    budget = f"train.images={options.images}" if options.images else f"train.seconds={60 * options.minutes:g}"
    settings = resolve(document(recipe("unet")), {"seed": options.seed}, overrides=[
        "task.kind=restore", *JOBS[job], budget, *options.overrides])
    told = hashlib.sha256(" ".join(options.overrides).encode()).hexdigest()[:6] if options.overrides else "default"
    run = Path("build/restore") / (
        f"{name}_{job}_{options.images or f'{options.minutes:g}min'}_{options.seed}_{told}")
    train(data.folder, run, settings=settings)
    found = evaluate_pairs(run, data, out=run, images=1000)
    report(run)
    facts = json.loads((run / "generator.json").read_text())
    return method_rows(found, set=name, job=job, images_seen=facts["images"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--hippocampus", type=Path)
    parser.add_argument("--acdc", type=Path)
    parser.add_argument("--sets", default="brain,hippocampus,acdc")
    parser.add_argument("--jobs", default="x2,x4,rician")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    print(machine())
    table: list[dict[str, Any]] = []
    for name in options.sets.split(","):
        needs = "hippocampus" if name == "coronal" else name
        if name != "brain" and getattr(options, needs) is None:
            print(f"{name} is left out: say where it is with --{needs}")
            continue
        for job in options.jobs.split(","):
            for row in rows(name, job, options):
                print_row(row)
                table.append(row)
                Path("build/restore.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    told(main)
