"""Whether the 95 % intervals of the metrics hold what they promise.

Real images are drawn, whole patients at a time, into four groups that have nothing to do with each other: held out,
floor, training and one in place of the synthetic images, again and again. All are real, so the true excess over the
floor is zero, and its interval should hold zero in at least 93 of 100 repetitions; so should the interval of the floor
itself for the kernel distance, whose floor is zero on average. For images that do differ (every second one of MedNIST
is taken from one class alone, the hippocampus' are blurred a little) the interval of the value should hold the mean
value of all repetitions.

Usage: python benchmarks/intervals.py MEDNIST.npz [--hippocampus DIR] [--repetitions 100] [--images 400] [--pool 6000]
[--without diversity | --only diversity] [--first-seed 0] [--few 3,6,12]. Prints one table for each data set, writes
build/intervals.json and what it keeps of the images to build/metrics_features/. Seeds that the intervals were mended
on prove nothing: take others.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _data import hippocampus
from _told import told
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from radsynth.device import here
from radsynth.metrics import Comparison, Sample, modules
from radsynth.metrics._features import NAME, describe, keep

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
Samples = dict[str, Sample]
Draw = Callable[[np.random.Generator], tuple[Rows, Rows, Rows, Rows, tuple[str, Rows]]]
"""Held out, floor, training, in place of the synthetic images; and the pool and rows of images that do differ."""
SCRATCH = Path("build/metrics_features")


def kept(images: Array, patients: Rows, without: list[str]) -> Samples:
    """Everything that metrics keep of all images, by metric."""
    whole = describe(images, patients, cache=SCRATCH, progress=lambda n: print(f"\r{n}", end=""))
    samples = {}
    for kind, module in modules().items():
        if kind in without:
            continue
        if not hasattr(module, "OWN"):
            samples[kind] = whole
        elif hasattr(module, "describe") and (not hasattr(module, "applies") or module.applies(images.shape[1:])):
            own = keep(module.OWN, {"own": module.describe}, images, cache=SCRATCH)["own"]
            samples[kind] = dataclasses.replace(whole, own=own)
    print()
    return samples


def mednist(path: Path, most: int, images: int, without: list[str]) -> tuple[dict[str, Samples], Draw]:
    """Images of six classes, each its own patient; those that differ are drawn from the same images."""
    with np.load(path) as data:
        stored, labels = data["images"], np.ravel(data["labels"]).astype(np.int64)
    order = np.unique(stored.reshape(len(stored), -1), axis=0, return_index=True)[1]  # a copy would not be independent
    order = np.random.default_rng(0).permutation(order)[:most]
    labels = labels[order]
    pixels = (stored[order].astype(np.float32) / 127.5 - 1)[:, None]

    def draw(generator: np.random.Generator) -> tuple[Rows, Rows, Rows, Rows, tuple[str, Rows]]:
        rows = generator.permutation(len(labels))
        held_out, floor, training, other = (rows[k * images:(k + 1) * images] for k in range(4))
        differing, rest = other.copy(), rows[4 * images:]
        differing[::2] = rest[labels[rest] == 0][: len(other[::2])]
        return held_out, floor, training, other, ("all", differing)

    return {"all": kept(pixels, np.arange(len(pixels)), without)}, draw


def hippocampi(folder: Path, without: list[str]) -> tuple[dict[str, Samples], Draw]:
    """Three slices of each patient, which are alike; those that differ are the same images, blurred."""
    pixels, patients = hippocampus(folder)
    some = np.isin(np.arange(len(pixels)) % 7, (0, 3, 6))  # it gives seven a patient
    pixels, patients = pixels[some], patients[some]
    blurred = np.asarray(gaussian_filter(pixels, (0, 0, 0.6, 0.6)), dtype=np.float32)

    def draw(generator: np.random.Generator) -> tuple[Rows, Rows, Rows, Rows, tuple[str, Rows]]:
        names = generator.permutation(np.unique(patients))
        quarter = len(names) // 4
        groups = [np.flatnonzero(np.isin(patients, names[k * quarter:(k + 1) * quarter])) for k in range(4)]
        return *groups, ("blurred", groups[3])  # type: ignore[return-value]  # four of them

    return {"all": kept(pixels, patients, without), "blurred": kept(blurred, patients, without)}, draw


def few_patients(folder: Path, count: int, without: list[str]) -> tuple[dict[str, Samples], Draw]:
    """Up to 19 neighbouring slices of each of `count` held-out patients, against one of each of as many other patients
    in place of the synthetic images, which have no patients; the floor is drawn from all slices of the rest.
    """
    pixels, patients = hippocampus(folder, range(-9, 10))
    blurred = np.asarray(gaussian_filter(pixels, (0, 0, 0.6, 0.6)), dtype=np.float32)
    where = np.flatnonzero(np.diff(patients, prepend=-1))  # each patient's first

    def draw(generator: np.random.Generator) -> tuple[Rows, Rows, Rows, Rows, tuple[str, Rows]]:
        first = generator.permutation(where)
        half = (len(first) - count) // 2
        each = min(19, half // count)
        held_out = (first[:count, None] + np.linspace(0, 18, each).round().astype(np.int64)).ravel()
        training = (first[count:count + half, None] + np.arange(19)).ravel()
        other = first[count + half:][:len(held_out)] + generator.integers(19, size=len(held_out))
        return held_out, generator.permutation(training)[:len(held_out)], training, other, ("blurred", other)

    return {"all": kept(pixels, patients, without), "blurred": kept(blurred, patients, without)}, draw


def coverage(pools: dict[str, Samples], draw: Draw, seeds: range) -> Iterator[list[dict[str, Any]]]:
    """The table so far, after every ten repetitions."""
    generator = np.random.default_rng(seeds[0])
    alike, floors = Counter[str](), Counter[str]()
    values: dict[str, list[tuple[float, float, float]]] = {}
    widths: dict[str, list[float]] = {}
    for done, seed in enumerate(seeds, start=1):
        held_out, floor, training, other, differing = draw(generator)
        for kind, sample in pools["all"].items():
            for name, synthetic in (("alike", sample.take(other)),
                                    ("differing", pools[differing[0]][kind].take(differing[1]))):
                pair = Comparison(real=sample.take(held_out), synthetic=synthetic, features=NAME,
                                  floor=sample.take(floor), training=sample.take(training))
                for one in modules()[kind].measure(pair, repetitions=30, seed=seed):
                    if name == "differing":
                        values.setdefault(one.name, []).append((one.low, one.value, one.high))
                        continue
                    alike[one.name] += one.excess_low <= 0 <= one.excess_high
                    floors[one.name] += one.floor_low <= 0 <= one.floor_high
                    widths.setdefault(one.name, []).append(one.excess / max(one.excess_high - one.excess_low, 1e-12))
        print(f"\r{done} of {len(seeds)}", end="", flush=True)
        if done % 10 == 0 or done == len(seeds):
            yield _table(values, alike, floors, widths, done)
    print()


def _table(values: dict[str, list[tuple[float, float, float]]], alike: Counter[str], floors: Counter[str],
           widths: dict[str, list[float]], repetitions: int) -> list[dict[str, Any]]:
    table = []
    for name, found in values.items():
        truth = float(np.mean([value for _, value, _ in found]))
        table.append({"number": name, "zero_excess_in_interval": alike[name], "of": repetitions,
                      "floor_holds_zero": floors[name] if name == "kernel_distance" else None,
                      "differing_hold_their_mean": sum(low <= truth <= high for low, _, high in found),
                      # 0.255 is an interval of exactly 95 %: width 3.92 deviations; less is wider than needed
                      "deviation_over_width": round(float(np.std(widths[name])), 3)})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--hippocampus", type=Path)
    parser.add_argument("--few", type=lambda text: [int(part) for part in text.split(",")], default=[],
                        help="numbers of held-out patients with many slices each, with commas (hippocampus)")
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--pool", type=int, default=6000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--without", default="", help="metrics to leave out, with commas: diversity takes long")
    parser.add_argument("--only", default="", help="metrics to take, with commas")
    options = parser.parse_args()
    if options.few and not options.hippocampus:
        parser.error("--few draws patients of --hippocampus DIR")
    only = options.only.split(",") if options.only else list(modules())
    without = [*options.without.split(","), *(modules().keys() - set(only))]
    seeds = range(options.first_seed, options.first_seed + options.repetitions)
    print(f"{here().name}, {here().cores} cores, seeds {seeds[0]} to {seeds[-1]}")
    sets = {"mednist": lambda: mednist(options.data, options.pool, options.images, without)}
    if options.hippocampus:
        sets["hippocampus"] = lambda: hippocampi(options.hippocampus, without)
    if options.few:
        sets = {f"{count} held-out patients": partial(few_patients, options.hippocampus, count, without)
                for count in options.few}
    found: dict[str, Any] = {}
    Path("build").mkdir(exist_ok=True)
    for name, load in sets.items():
        for found[name] in coverage(*load(), seeds):
            Path("build/intervals.json").write_text(json.dumps(found, indent=1))
        print(f"\n{name}\n" + " | ".join(found[name][0]))
        for row in found[name]:
            print(" | ".join("-" if value is None else str(value) for value in row.values()), flush=True)


if __name__ == "__main__":
    told(main)
