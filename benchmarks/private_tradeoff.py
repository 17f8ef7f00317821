"""What privacy costs: epsilon against distance and usefulness, beside no noise and ordinary training.

Each generator learns the classes of DATA from the same patients with a budget in images. Its images are compared with
unseen patients (Frechet distance), and a small classifier is trained on them alone and tested on unseen patients, with
the same steps and seeds for all; the row "real" is that classifier trained on the real training patients.

Usage: python benchmarks/private_tradeoff.py DATA [--images 51200] [--ordinary 100000] [--epsilons inf,10,3,1]
[--size 32] [--steps 200] [--seeds 2] [--work build/private_tradeoff] [section.key=value ...]. DATA is an npz in
MedMNIST's layout, or any folder with classes. Rows that are finished are not done again. Prints one table, writes
build/private_tradeoff.json and a picture of each row.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from _data import fingerprint
from _told import machine, told

from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.datasets import recognise
from radsynth.device import here
from radsynth.metrics import Comparison, Sample, coverage, fidelity
from radsynth.metrics import _utility as scores
from radsynth.metrics._features import NAME, describe
from radsynth.plan import plan
from radsynth.settings import Resolved, resolve
from radsynth.shorthand import read_privacy
from radsynth.verbs._grid import save_grid
from radsynth.verbs._usefulness.sources import Real, real
from radsynth.verbs._usefulness.training import Examples, Recipe, fit, predict
from radsynth.verbs.generate import sample
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train

SECTIONS = ("task", "model", "augment", "train")


def ordinary(data: Prepared, images: int) -> Resolved:
    """What `radsynth run` would choose."""
    return resolve(document(plan(fingerprint(data), here(), {"images": images})),
                   {"train": {"seconds": 0, "previews": 0}}, sections=SECTIONS)


def private(epsilon: float, images: int, overrides: list[str]) -> Resolved:
    return resolve(read_privacy("dp"), {"task": {"epsilon": epsilon}, "train": {"images": images, "previews": 0}},
                   overrides=overrides, sections=SECTIONS)


def usefulness(data: Prepared, examples: Examples, test: Real, steps: int, seeds: int) -> dict[str, float]:
    """Balanced accuracy on unseen patients of a classifier that learned from these images, with its interval."""
    recipe = Recipe(kind="classification", classes=len(data.spec.labels), steps=steps, batch=32, rate=2e-3)
    chosen = scores.draws(test.patients, seeds, 500, 0)
    each = [scores.sensitivities(predict(recipe, fit(recipe, [examples], False, seed), test.examples.images),
                                 test.examples.labels, test.owners, chosen.patients) for seed in range(seeds)]
    found = scores.estimate(scores.over_classes(scores.over_seeds(np.stack(each), chosen)), test.patients)
    return {"accuracy": round(found.value, 3), "low": round(found.low, 3), "high": round(found.high, 3)}


def real_sides(data: Prepared, scratch: Path) -> tuple[Sample, Sample]:
    """As many unseen and training images as there are of both, at most 1000."""
    generator = np.random.default_rng(0)
    rows = [np.concatenate([data.indices(split) for split in ("validation", "test")]), data.indices("train")]
    count = min(1000, *map(len, rows))
    sides = [describe(data.images(np.sort(generator.permutation(some)[:count])), np.arange(count), cache=scratch)
             for some in rows]
    return sides[0], sides[1]


def row(name: str, settings: Resolved, data: Prepared, test: Real, sides: tuple[Sample, Sample],
        options: argparse.Namespace) -> dict[str, Any]:
    run = train(data.folder, options.work / name, settings=settings)
    facts = run.load_weights()[1]
    count = len(data.indices("train"))
    images, labels = sample(run.path, count, seed=0)
    images = np.clip(images, -1, 1)
    save_grid(images[:64], options.work / f"{name}.png", 8)
    chosen = np.random.default_rng(0).permutation(count)[: len(sides[0])]
    pair = Comparison(real=sides[0], floor=sides[1], synthetic=describe(images[chosen], chosen), features=NAME)
    frechet, *_ = fidelity.measure(pair, repetitions=20, seed=0)
    numbers = {one.name: one for one in coverage.measure(pair, repetitions=20, seed=0)}
    spent = facts.get("privacy", {})
    return {"generator": name, "epsilon": spent.get("epsilon") and round(spent["epsilon"], 2),
            "noise_multiplier": spent.get("noise_multiplier") and round(spent["noise_multiplier"], 3),
            "images": facts["images"], "seconds": round(facts["seconds"]),
            "n": frechet.n, "frechet": round(frechet.value, 1), "frechet_low": round(frechet.low, 1),
            "frechet_high": round(frechet.high, 1), "floor": round(frechet.floor, 1),
            "recall": round(numbers["recall"].value, 3), "coverage": round(numbers["coverage"].value, 3),
            **usefulness(data, Examples(images=images, labels=labels), test, options.steps, options.seeds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("overrides", nargs="*", help="settings of the private rows")
    parser.add_argument("--images", type=int, default=51200)
    parser.add_argument("--ordinary", type=int, default=100000)
    parser.add_argument("--epsilons", default="inf,10,3,1")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("build/private_tradeoff"))
    options = parser.parse_args()
    print(machine())
    given = resolve({"data": {"kind": recognise(options.data), "path": str(options.data)},
                     "prepare": {"size": [options.size, options.size]}}, sections=("data", "prepare"))
    data = prepare(given.section("data"), options.work / "data", settings=given)
    test = real(data, "test", "classification")
    sides = real_sides(data, options.work / "features")
    out = options.work.parent / f"{options.work.name}.json"
    table: list[dict[str, Any]] = json.loads(out.read_text()) if out.exists() else []
    rows: list[tuple[str, Resolved | None]] = [("real", None), ("ordinary", ordinary(data, options.ordinary))]
    for epsilon in map(float, options.epsilons.split(",")):
        name = "no_noise" if math.isinf(epsilon) else f"epsilon_{epsilon:g}"
        rows.append((name, private(epsilon, options.images, options.overrides)))
    for name, settings in rows:
        if any(line["generator"] == name for line in table):
            continue
        if settings:
            table.append(row(name, settings, data, test, sides, options))
        else:
            found = usefulness(data, real(data, "train", "classification").examples, test, options.steps, options.seeds)
            table.append({"generator": name, "n": len(test.examples), **found})
        out.write_text(json.dumps(table, indent=1))
    columns = list(dict.fromkeys(key for line in reversed(table) for key in line))
    print(" | ".join(columns))
    for line in table:
        print(" | ".join("-" if line.get(key) is None else str(line[key]) for key in columns))


if __name__ == "__main__":
    told(main)
