"""A registration network against B-splines and demons (SimpleITK), on patients that it never saw.

Overlap of warped labels (Dice), target registration error for known warps, folding and time for a pair, with 95 %
intervals over patients; for networks trained with labels, without, and with a discriminator. Three sets:
  brain        slices of the embedded virtual cohort, 64 x 64, tissue masks
  hippocampus  volumes, 40 x 56 x 40, of --hippocampus FOLDER (Medical Segmentation Decathlon, task 4)
  hearts       slices in two phases of the same patient's heart, 96 x 96, of --acdc FILE.npz (images, masks and names
               such as patient003_frame01_slice_1)

Usage: python benchmarks/registration.py [--minutes 5 | --images 50000] [--hippocampus FOLDER] [--acdc FILE.npz]
[--variants labels,plain,adversarial] [--sets brain,hippocampus,hearts] [--pairs 60] [--seed 0]. Prints rows, writes
build/registration.json and, for each training, pictures as a report in build/registration/.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from _table import method_rows, print_row
from _told import machine, told

from radsynth.choices import document
from radsynth.recipes import recipe
from radsynth.settings import resolve
from radsynth.verbs._pairs.found import OWN
from radsynth.verbs._pairs.registration import evaluate_registration
from radsynth.verbs.prepare import prepare
from radsynth.verbs.report import report
from radsynth.verbs.train import train

SETS = {
    "brain": ("data.kind=brain", "prepare.size=[64,64]"),
    "hippocampus": ("data.kind=folder", "data.plane=whole", "prepare.size=[40,56,40]", "data.modality=MR"),
    "hearts": ("data.kind=folder", "prepare.size=[96,96]", "data.modality=MR"),
}
VARIANTS = {"labels": (), "plain": ("task.labels=0",), "adversarial": ("task.labels=0", "task.adversarial=0.05")}
MORE = {"brain": (), "hippocampus": ("train.batch=4", "model.width=16"), "hearts": ("task.same_patient=true",)}
"""Volumes are slow: fewer and thinner. Hearts: pairs of one patient."""


def volumes(file: Path, folder: Path, side: int = 96) -> Path:
    """The middles of slices as volumes of each patient and phase, with masks; no scale is known: pixels of 2 mm."""
    with np.load(file) as data:
        images, masks, names = data["images"], data["masks"], [str(name) for name in data["names"]]
    first = (images.shape[1] - side) // 2
    rows: dict[str, list[tuple[int, int]]] = {}
    for row, name in enumerate(names):
        phase, _, number = name.partition("_slice_")
        rows.setdefault(phase, []).append((int(number), row))
    folder.mkdir(parents=True, exist_ok=True)
    for phase, slices in rows.items():
        chosen = [row for _, row in sorted(slices)]
        for end, values in (("", images), ("_seg", masks)):
            pixels = values[chosen, first:first + side, first:first + side].transpose(2, 1, 0)
            path = folder / f"{phase}{end}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(pixels, np.diag([-2, -2, 10, 1])), path)
            shutil.copystat(file, path)  # files of another time would be other data, which has to be prepared anew
    return folder


def rows(name: str, variant: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train one variant on one set; a row for each method (the others' rows with the first variant alone)."""
    folder = Path("build/registration")
    where = {"hippocampus": lambda: options.hippocampus, "hearts": lambda: volumes(options.acdc, folder / "phases")}
    path = [f"data.path={where[name]()}"] if name in where else []
    given = resolve(overrides=[*path, *SETS[name]], sections=("data", "prepare"))
    prepared = prepare(given.section("data"), folder / name, settings=given)
    budget = f"train.images={options.images}" if options.images else f"train.seconds={60 * options.minutes:g}"
    settings = resolve(document(recipe("unet")), {"seed": options.seed}, overrides=[
        "task.kind=register", *MORE[name], *VARIANTS[variant], budget])
    run = folder / f"{name}_{variant}_{options.images or f'{options.minutes:g}min'}_{options.seed}"
    train(prepared.folder, run, settings=settings)
    found = evaluate_registration(run, prepared, out=run, pairs=options.pairs)
    report(run)
    facts = json.loads((run / "generator.json").read_text())
    first = variant == options.variants.split(",")[0]
    return [row for row in method_rows(found, set=name, trained=variant, images_seen=facts["images"])
            if first or row["method"] == OWN]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--hippocampus", type=Path)
    parser.add_argument("--acdc", type=Path)
    parser.add_argument("--sets", default="brain,hippocampus,hearts")
    parser.add_argument("--variants", default="labels,plain,adversarial")
    parser.add_argument("--pairs", type=int, default=0, help="0: as many as `radsynth run` measures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    print(machine())
    table: list[dict[str, Any]] = []
    for name in options.sets.split(","):
        needed = {"hippocampus": "hippocampus", "hearts": "acdc"}.get(name)
        if needed and getattr(options, needed) is None:
            print(f"{name} is left out: give its data with --{needed}")
            continue
        for variant in options.variants.split(","):
            for row in rows(name, variant, options):
                print_row(row)
                table.append(row)
                Path("build/registration.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    told(main)
