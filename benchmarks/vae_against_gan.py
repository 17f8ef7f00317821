"""A variational autoencoder against the generative adversarial network on the same data, at equal time or equal images.

Each is trained as `radsynth run` would with that network (the plan's recipe), writes as many images as there are
training images (500 to 2000), and `radsynth evaluate` ranks them on the same held-out patients with paired intervals.

Usage: python benchmarks/vae_against_gan.py DATA.npz [--class HeadCT] [--budget 60s] [--patients 200] [--size 32]
[--seed 0]
DATA.npz holds images (n, h, w), labels and classes, as MedNIST's; the other data set is the embedded brain cohort. A
budget of images (100000img) makes a fair comparison on a busy machine. Prints a table for each data set, writes
build/vae_against_gan.json and a grid of images of each network to build/.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _told import told
from PIL import Image as Pillow

import radsynth
from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.device import here
from radsynth.plan import plan
from radsynth.settings import resolve
from radsynth.shorthand import read_budget
from radsynth.verbs._evaluating.synthetic import Synthetic
from radsynth.verbs._grid import save_grid
from radsynth.verbs.evaluate import Settings, rank_prepared
from radsynth.verbs.generate import sample
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train

NETWORKS = {"GAN": {}, "VAE": {"task": {"kind": "autoencode"}, "model": {"kind": "vae"}}}


def sources(path: Path, name: str, scratch: Path, patients: int, size: int) -> dict[str, dict[str, Any]]:
    """The `data` settings of both data sets; the class's images are written as files."""
    with np.load(path) as data:
        names = [str(c) for c in data["classes"]]
        images = data["images"][np.ravel(data["labels"]) == names.index(name)]
    folder = scratch / name
    folder.mkdir()
    for number, image in enumerate(images):
        Pillow.fromarray(image).save(folder / f"{number:05d}.png")
    return {"brain cohort": {"kind": "brain", "patients": patients, "size": [size, size]},
            name: {"kind": "folder", "path": str(folder)}}


def compare(name: str, data: dict[str, Any], budget: str, size: int, scratch: Path, seed: int) -> dict[str, Any]:
    """Train both, rank them, and print the table."""
    sets, facts = {}, {}
    found = None
    for network, chosen in NETWORKS.items():
        given = resolve({"data": data, "prepare": {"size": [size, size]}, "seed": seed}, chosen)
        found = found or inspect(given.section("data"))
        limits = read_budget(budget)
        choices = plan(found.fingerprint, here(), limits["train"], task=given.kind("task"), model=given.kind("model"))
        settings = resolve(document(choices), given.document(), limits)
        prepared = prepare(settings.section("data"), scratch / "data", settings=settings)
        start = time.monotonic()
        run = train(scratch / "data", scratch / network, settings=settings)
        count = min(max(len(prepared.indices("train")), 500), 2000)
        facts[network] = {"seconds": round(time.monotonic() - start, 1), "images": run.load_weights()[1]["images"]}
        images, labels = sample(scratch / network, count, seed=seed)
        sets[network] = Synthetic(images=images, labels=labels)
        save_grid(images[:64], Path("build") / f"vae_against_gan_{name.replace(' ', '_')}_{network}.png", 8)
    results = rank_prepared(Prepared(scratch / "data"), sets, settings=Settings(pairs=0, classes=False))
    print(f"\n{name}, {size} px, {budget} each: " + "; ".join(
        f"{network} {fact['images']:,} images in {fact['seconds']:.0f} s" for network, fact in facts.items()))
    print("number | GAN | VAE | floor | difference GAN - VAE, distance from the best | better beyond chance")
    gaps = {gap["name"]: gap for gap in results["differences"]}
    for number in results["numbers"]:
        values, gap = {line["set"]: line for line in number["sets"]}, gaps[number["name"]]
        print(f"{number['title']} | {values['GAN']['value']:.4g} | {values['VAE']['value']:.4g} | "
              f"{values['GAN']['floor']:.4g} | {gap['difference']:.3g} [{gap['low']:.3g}, {gap['high']:.3g}] | "
              f"{gap['better'] or '-'}")
    return {"trained": facts, **results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--class", dest="name", default="HeadCT")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    print(f"radsynth {radsynth.__version__}, {here().name}, {here().cores} cores, seed {options.seed}")
    table = {}
    with tempfile.TemporaryDirectory() as scratch:
        found = sources(options.data, options.name, Path(scratch), options.patients, options.size)
        for name, data in found.items():
            place = Path(scratch) / f"work {name}"
            place.mkdir()
            table[name] = compare(name, data, options.budget, options.size, place, options.seed)
            Path("build/vae_against_gan.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    told(main)
