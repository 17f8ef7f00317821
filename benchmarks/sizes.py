"""Which size in a given time? The default network at several sizes, judged at the largest of them, in equal time.

Rows are PIXELS:IMAGES[:SETTING=VALUE,...]; give each as many images as take the same time (printed: in training, by the
clock, also of a row that was stopped and gone on with; run it on a core of its own). Smaller
images are enlarged (bicubic) and compared with real ones of the largest size, so that what they cannot show counts.
All rows are judged on the same validation patients (30 %), so that recipes may be tried; test patients (10 %) are left
alone. A finished row is not done again. `brain` is the embedded cohort, 300 patients with 8 slices, drawn at --largest.

Usage: python benchmarks/sizes.py DATA --rows 64:118000 128:80000 128:36000:model.width=32 [--largest 128]
[--modality MR] [--work build/sizes]. DATA: brain, or what `radsynth prepare` takes. Prints a table and writes
WORK/NAME/sizes.json; samples.png beside each row's run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import Array, fingerprint
from _told import told
from torch.nn import functional

from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.device import here
from radsynth.files import write_atomically
from radsynth.plan import plan
from radsynth.settings import resolve
from radsynth.verbs._evaluating.sides import Source
from radsynth.verbs._grid import save_grid
from radsynth.verbs.evaluate import Settings as EvaluateSettings
from radsynth.verbs.evaluate import evaluate_sources
from radsynth.verbs.generate import draw
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train

NUMBERS = {"frechet_distance": 0, "radiomics_distance": 2, "recall": 3, "precision": 3, "coverage": 3}
"""What is shown, with its decimals."""


def prepared(options: argparse.Namespace, size: int) -> Prepared:
    """The data at one size; patients are split the same way at each."""
    source: dict[str, Any] = {"modality": options.modality} if options.modality else {}
    if options.data == "brain":
        source = {"kind": "brain", "patients": 300, "slices": 8, "size": [options.largest] * 2}
    settings = {"data": source, "prepare": {"size": [size, size], "train": 0.6, "validation": 0.3, "masks": "off"}}
    folder = options.work / f"data{size}"
    if options.data == "brain":
        whole = resolve(settings, sections=("data", "prepare"))
        return prepare(whole.section("data"), folder, settings=whole)
    overrides = [f"{section}.{key}={json.dumps(value)}" for section, part in settings.items()
                 for key, value in part.items()]
    return prepare(Path(options.data), folder, overrides=overrides)


def trained(row: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one row and measure what it makes."""
    pixels, images, *settings = row.split(":")
    data = prepared(options, int(pixels))
    found = dataclasses.replace(fingerprint(data), labels={})
    planned = document(plan(found, here(), {"images": int(images)}, size=data.spec.size))
    chosen = resolve(planned, overrides=settings[0].split(",") if settings else [])
    run = options.work / row.replace(":", "_")
    train(data.folder, run, settings=chosen)
    largest = prepared(options, options.largest)
    made = draw(run, max(400, len(largest.indices("validation"))), data=data.folder).images
    made = enlarged(made, largest.spec.size)
    save_grid(made[:24], run / "samples.png", 6)
    facts = json.loads((run / "generator.json").read_text())
    return {"row": row, "seconds": round(facts["seconds"]), "images": facts["images"], **numbers(largest, made)}


def enlarged(images: Array, size: tuple[int, ...]) -> Array:
    """Images (n, c, h, w) at a larger size."""
    if images.shape[2:] != size:
        images = functional.interpolate(torch.from_numpy(images), size, mode="bicubic").numpy()
    return np.clip(images, -1, 1)


def numbers(real: Prepared, made: Array) -> dict[str, Any]:
    """The distance to validation images and others, each with that of training images in brackets."""
    held_out, training = (Source(images=real.images(rows), patients=real.patients(rows))
                          for rows in (real.indices("validation"), real.indices("train")))
    found = evaluate_sources(held_out, training, Source(images=made), copies=False, settings=EvaluateSettings(
        images=1000, training_images=2000, repetitions=20, pairs=0))
    measured = {one["name"]: one for one in found["measurements"]}
    return {"n": found["context"]["images"],
            **{name: f"{measured[name]['value']:.{digits}f} ({measured[name]['floor']:.{digits}f})"
               if name in measured else "too few images" for name, digits in NUMBERS.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="brain, or a file or folder of images")
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--largest", type=int, default=128)
    parser.add_argument("--modality", default="")
    parser.add_argument("--work", type=Path, default=Path("build/sizes"))
    options = parser.parse_args()
    options.work /= Path(options.data).stem
    rows: list[dict[str, Any]] = []
    for row in options.rows:
        kept = options.work / row.replace(":", "_") / "row.json"
        if not kept.exists():
            write_atomically(kept, json.dumps(trained(row, options)))
        rows.append(json.loads(kept.read_text()))
    print("| " + " | ".join(rows[0]) + " |\n" + "| --- " * len(rows[0]) + "|")
    for line in rows:
        print("| " + " | ".join(str(value) for value in line.values()) + " |")
    write_atomically(options.work / "sizes.json", json.dumps(rows, indent=1))


if __name__ == "__main__":
    told(main)
