"""Do synthetic images help a classifier? A class-conditional run on the data, then `utility`, at 10, 30 and 100 %.

With --low the generator is trained anew on that share alone, which is the case of a researcher with few images:
in the other rows the generator has learned from all of them.

Usage: python benchmarks/utility.py DATA [--images 150000] [--seconds 600] [--steps 500]
[--seeds 3] [--shares 0.1,0.3] [--low 0.1] [--work build/utility]. Each training of a study takes --steps, or fewer
if all together would take longer than --seconds. DATA is an npz in MedMNIST's layout, or any folder with classes.
Prints one table; the runs below build/utility hold utility.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _data import fingerprint, write_rows
from _told import machine, told

from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.datasets import recognise
from radsynth.device import here
from radsynth.plan import plan
from radsynth.settings import resolve
from radsynth.verbs._usefulness.sources import real, some_patients
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from radsynth.verbs.utility import Settings, utility


def prepared(data: Path, work: Path) -> Prepared:
    settings = resolve({"data": {"kind": recognise(data), "path": str(data)}}, sections=("data", "prepare"))
    return prepare(settings.section("data"), work / "data", settings=settings)


def trained(data: Prepared, run: Path, images: int) -> Path:
    """A class-conditional run with what `radsynth run` would choose."""
    settings = resolve(document(plan(fingerprint(data), here(), {"images": images})),
                       {"train": {"seconds": 0, "previews": 0}}, sections=("task", "model", "augment", "train"))
    train(data.folder, run, settings=settings)
    return run


def fewer(data: Prepared, share: float, folder: Path) -> Prepared:
    """The prepared folder with a share of its training patients: the same that `utility` takes with its first seed."""
    if not (folder / "manifest.json").exists():
        rows = data.indices("train")
        rows = rows[data.labels(rows) >= 0]
        kept = some_patients(real(data, "train", "classification"), share, 0)
        owners = np.unique(data.patients(rows), return_inverse=True)[1]  # numbered as `real` does
        chosen = set(rows[np.isin(owners, kept.owners)].tolist())
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "shards").symlink_to((data.folder / "shards").resolve())
        lines = [row for k, row in enumerate(data.rows) if row.split != "train" or k in chosen]
        write_rows(folder, lines)
        counts = {split: sum(row.split == split for row in lines) for split in data.manifest.counts}
        patients = {split: len({row.patient for row in lines if row.split == split}) for split in counts}
        manifest = replace(data.manifest, counts=counts, patients=patients,
                           data_hash=f"{data.manifest.data_hash}/{share}")
        (folder / "manifest.json").write_text(json.dumps(manifest.to_json()), encoding="utf-8")
    return Prepared(folder)


def rows_of(study: dict[str, Any], generator: str) -> list[dict[str, Any]]:
    rows = []
    for arm in study["arms"]:
        gap = next((line for line in study["differences"] if (line["share"], line["arm"], line["against"])
                    == (arm["share"], arm["arm"], "augmented")), None)
        against = f"{100 * gap['value']:+.1f} ({100 * gap['low']:+.1f} to {100 * gap['high']:+.1f})" if gap else "-"
        rows.append({"generator_learned_from": generator, "share": arm["share"], "trained_on": arm["arm"],
                     "real_images": arm["images"], "steps": study["steps"], study["metric"]: round(arm["value"], 3),
                     "low": round(arm["low"], 3), "high": round(arm["high"], 3),
                     "auc": round(arm["auc"]["mean"]["value"], 3), "minus_augmented": against,
                     "verdict": gap["verdict"] if gap else "-"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=150000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", type=lambda text: tuple(map(float, text.split(","))), default=Settings().shares)
    parser.add_argument("--low", type=float, default=0.0)
    parser.add_argument("--work", type=Path, default=Path("build/utility"))
    options = parser.parse_args()
    print(machine())
    data = prepared(options.data, options.work)
    settings = Settings(seconds=options.seconds, steps=options.steps, seeds=options.seeds, shares=options.shares)
    run = trained(data, options.work / "run", options.images)
    studies = [("all", utility(run, data=data.folder, settings=settings))]
    if options.low:
        few = fewer(data, options.low, options.work / "few")
        run = trained(few, options.work / "run_few", options.images)
        # Of the few patients all are taken: its share of 1 is the share of the whole.
        studies.append((f"{100 * options.low:g} %", utility(run, data=few.folder, settings=replace(
            settings, shares=(1.0,), synthetic=len(data.indices("train"))))))
    table = [row for generator, study in studies for row in rows_of(study, generator)]
    print(" | ".join(table[0]))
    for row in table:
        print(" | ".join(map(str, row.values())))
    for generator, study in studies:
        print(f"\nGenerator learned from {generator} training patients:")
        print("\n".join(f"- {text}" for text in study["words"]))


if __name__ == "__main__":
    told(main)
