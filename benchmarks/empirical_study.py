"""Several GANs on several organs: distance to unseen real images, and a U-Net trained on synthetic pairs (question 8).

The design of "GANs for Medical Image Synthesis: An Empirical Study" (Skandarani, Jodoin and Lalande 2023) on the data
that we have. Where there are masks, the unconditional networks draw each image with its mask (`task.masks`), so that
each of them makes pairs; `spade` makes images from masks. A U-Net then learns from real pairs, synthetic pairs and
both, with equal steps, and is tested on real patients that neither it nor the generator has seen.

Usage: python benchmarks/empirical_study.py DATA [--only cardiac/sngan,heads] [--seconds 300] [--images 100000]
[--batch 64] [--unet-steps 1000] [--repeats 3] [--trainings 1] [--size 64] [--work build/empirical_study]. DATA is the
folder with acdc_slices_128.npz, hippocampus/ and mednist_64.npz; ORGAN_slices.npz (images, masks, names) may stand for
a folder, at no more than its own size. U-Nets on real pairs are trained once for an organ and count in every row of it.
A part is ORGAN/NETWORK/SEED, one training each; with --seconds and --images the first that is reached ends it. What a
part has is not done again: its training, its distance, its U-Nets. The table shows all parts that have a distance,
WORK/ORGAN/NETWORK/SEED/row.json holds each, and build/empirical_study.json all of them; samples.png beside each.

Many parts side by side on one GPU, each in its own process: --list prepares the data and prints the parts to do.
  export OMP_NUM_THREADS=1; study="python benchmarks/empirical_study.py DATA --seconds 120 --images 200000"
  $study --list --only cardiac,hippocampus | xargs -P 12 -I PART sh -c "$study --unet-steps 0 --only PART"
  $study --list --only cardiac,hippocampus | xargs -P 4 -I PART sh -c "$study --only PART" ; $study --table
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from _told import machine, told
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.errors import RadsynthError
from radsynth.files import write_atomically
from radsynth.metrics import _utility as scores
from radsynth.recipes import recipe
from radsynth.settings import resolve
from radsynth.verbs._evaluating.sides import Source
from radsynth.verbs._grid import save_grid
from radsynth.verbs._usefulness.sources import Real, synthetic
from radsynth.verbs._usefulness.sources import real as pairs_of
from radsynth.verbs._usefulness.training import Examples, Recipe, fit, predict
from radsynth.verbs.evaluate import HELD_OUT, evaluate_sources
from radsynth.verbs.evaluate import Settings as EvaluateSettings
from radsynth.verbs.generate import draw
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train

ORGANS: dict[str, dict[str, Any]] = {
    "cardiac": {"kind": "medmnist", "path": "acdc_slices_128.npz", "modality": "MR"},
    "hippocampus": {"kind": "folder", "path": "hippocampus", "plane": "coronal"},
    "heads": {"kind": "medmnist", "path": "mednist_64.npz", "class": "HeadCT"},
    "chests": {"kind": "medmnist", "path": "mednist_64.npz", "class": "CXR"},
}
"""Where the images are; those of MedNIST are one class of the file and have no masks."""

WGAN_GP = {"task": {"loss": "wasserstein", "penalty": "wgan_gp", "penalty_weight": 10.0, "penalty_weight_end": 10.0,
                    "discriminator_steps": 5},
           "model": {"kind": "dcgan", "discriminator_norm": "none"},
           "train": {"batch": 64, "rate": 1e-4, "beta1": 0.0, "beta2": 0.9}}
NETWORKS: dict[str, dict[str, Any]] = {
    "dcgan": {**document(recipe("dcgan")), "model": {"kind": "dcgan"}},
    "lsgan": {**document(recipe("dcgan")), "model": {"kind": "dcgan"}, "task": {"loss": "least_squares"}},
    "wgan_gp": WGAN_GP,
    "r3gan": {**document(recipe("r3gan")), "model": {"kind": "r3gan"}},
    "sngan": {**document(recipe("sngan")), "model": {"kind": "sngan"}},
    "style": {**document(recipe("style")), "model": {"kind": "style"}},
    "spade": {"task": {"kind": "semantic"}},
}
"""The paper's networks as settings: "sngan" is our default and stands for its hinge GAN. Recipes as in the papers."""


def real_data(organ: str, root: Path, size: int, work: Path) -> Prepared:
    """The organ's images, prepared once: patients split, masks kept."""
    source = dict(ORGANS[organ])
    if (slices := root / f"{organ}_slices.npz").exists():
        source = {"kind": "medmnist", "path": slices.name, "modality": "MR"}
        with np.load(slices) as data:
            size = min(size, max(data["images"].shape[1:3]))
    wanted = source.pop("class", None)
    source["path"] = str(root / source["path"])
    if wanted:
        source["path"] = str(_one_class(Path(source["path"]), wanted, work))
    options = {"size": [size, size], "enlarge": organ == "hippocampus"}
    settings = resolve({"data": source, "prepare": options}, sections=("data", "prepare"))
    return prepare(settings.section("data"), work / organ / "data", settings=settings)


def _one_class(path: Path, name: str, work: Path) -> Path:
    out = work / f"{name}.npz"
    if not out.exists():
        work.mkdir(parents=True, exist_ok=True)
        with np.load(path) as data:
            chosen = np.ravel(data["labels"]) == [str(c) for c in data["classes"]].index(name)
            np.savez(out, images=data["images"][chosen])
    return out


def part(organ: str, network: str, seed: int, options: argparse.Namespace) -> None:
    """One row of the table: written as soon as the distance is known, and again when the U-Nets have learned."""
    place = options.work / organ / network / str(seed)
    real = real_data(organ, options.data, options.size, options.work)
    row = json.loads((place / "row.json").read_text()) if (place / "row.json").exists() else {}
    if not row:
        row = {"organ": organ, "network": network, "seed": seed, **generator(real, network, seed, place, options)}
        write_atomically(place / "row.json", json.dumps(row, indent=1))
    if not is_whole(row, options):
        write_atomically(place / "row.json", json.dumps(row | overlap(real, place, options), indent=1))


def is_whole(row: dict[str, Any], options: argparse.Namespace) -> bool:
    """Whether nothing is left to do in a row."""
    return "unet_steps" in row or not options.unet_steps or "class" in ORGANS[row["organ"]]


def generator(real: Prepared, network: str, seed: int, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train one network, keep samples of it, measure its images."""
    masked = real.spec.mask_classes > 1
    if network == "spade" and not masked:
        raise RadsynthError("spade makes images from masks: the data has none.")
    masks = {"task": {"masks": True}} if masked and network != "spade" else {}
    batch = {"train": {"batch": options.batch}} if options.batch else {}
    given = {"train": {"previews": 0, "images": options.images, "seconds": options.seconds}, "seed": seed}
    settings = resolve(NETWORKS[network], batch, given, masks, sections=("task", "model", "augment", "train"))
    train(real.folder, place / "run", settings=settings)
    images = draw(place / "run", max(60, min(2000, len(real.indices("train")))), data=real.folder).images
    facts = json.loads((place / "run" / "generator.json").read_text())
    save_grid(images[:36], place / "samples.png", 6)
    return {"px": max(real.spec.size), "images_seen": facts["images"], "steps": facts["steps"],
            "seconds": round(facts["seconds"]), **distance(real, images)}


def distance(real: Prepared, images: NDArray[np.float32]) -> dict[str, Any]:
    """Frechet distance to unseen patients with its interval and floor, and the share of them that is covered."""
    held_out = np.concatenate([real.indices(split) for split in HELD_OUT])
    training = real.indices("train")
    patients = np.unique([row.patient for row in real.rows], return_inverse=True)[1]
    found = evaluate_sources(
        Source(images=real.images(held_out), patients=patients[held_out]),
        Source(images=real.images(training), patients=patients[training]), Source(images=np.clip(images, -1, 1)),
        copies=False, settings=EvaluateSettings(images=600, training_images=600, repetitions=20, pairs=0))
    numbers = {one["name"]: one for one in found["measurements"]}
    frechet, coverage = numbers["frechet_distance"], numbers["coverage"]
    return {"n": found["context"]["images"], "frechet": round(frechet["value"], 1),
            "low": round(frechet["low"], 1), "high": round(frechet["high"], 1), "floor": round(frechet["floor"], 1),
            "coverage": round(coverage["value"], 3)}


def overlap(real: Prepared, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Dice of U-Nets on unseen real patients, trained on real pairs, on pairs drawn from the run, and on both."""
    train, test = pairs_of(real, "train", "segmentation"), pairs_of(real, "test", "segmentation")
    made = synthetic(place / "run", None, real, "segmentation", len(train.examples), 0)
    unet = Recipe(kind="segmentation", classes=real.spec.mask_classes, steps=options.unet_steps, batch=32, rate=2e-3)
    chosen = scores.draws(test.patients, options.repeats, 500, 0)
    kept = real.folder.parent / f"unet_augmented_{options.unet_steps}_{options.repeats}.npy"
    if not kept.exists():
        np.save(whole := io.BytesIO(), segmented(unet, [train.examples], test, options.repeats))
        write_atomically(kept, whole.getvalue())
    arms = {"real": np.load(kept), "synthetic": segmented(unet, [made], test, options.repeats),
            "both": segmented(unet, [train.examples, made], test, options.repeats)}
    dice = {arm: dice_of(masks, test, chosen) for arm, masks in arms.items()}
    gap = scores.estimate(dice["both"] - dice["real"], test.patients, -1)
    return {"unet_steps": options.unet_steps, "unet_pairs": len(train.examples), "test_patients": test.patients,
            **{f"dice_{arm}": round(float(values[0]), 3) for arm, values in dice.items()},
            "both_minus_real": f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"}


def segmented(unet: Recipe, sources: list[Examples], test: Real, repeats: int) -> NDArray[np.uint8]:
    """(repeats, n, *space) masks of the test images by U-Nets that learned from augmented sources in equal parts."""
    return np.stack([predict(unet, fit(unet, sources, True, seed), test.examples.images)
                     for seed in range(repeats)])


def dice_of(predicted: NDArray[np.uint8], test: Real, chosen: scores.Draws) -> NDArray[np.float64]:
    """(1 + draws,) Dice overlap, the mean over labels and patients: itself, then with patients and repeats redrawn."""
    assert test.examples.masks is not None
    classes = int(test.examples.masks.max()) + 1
    each = [scores.dice_of_patients(one, test.examples.masks, test.owners, classes) for one in predicted]
    means = np.stack([scores.mean_of_patients(one, chosen.patients) for one in each])
    return scores.over_classes(scores.over_seeds(means, chosen))


def show(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print(" | ".join(columns))
    for row in rows:
        print(" | ".join(str(row.get(name, "-")) for name in columns), flush=True)


def wanted_parts(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """The parts that --only names, all of them without it."""
    asked = [set(word.split("/")) for word in options.only.split(",") if word]
    every = [(organ, network, seed) for seed in range(options.trainings) for organ in ORGANS for network in NETWORKS
             if network != "spade" or "class" not in ORGANS[organ]]
    return [one for one in every if not asked or any(words <= set(map(str, one)) for words in asked)]


def finished(work: Path) -> list[dict[str, Any]]:
    """The rows of all parts whose distance is known."""
    return [json.loads(path.read_text()) for path in sorted(work.glob("*/*/*/row.json"))]


def name_of(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["organ"], row["network"], row["seed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="", help="parts ORGAN/NETWORK/SEED, or fewer of these words, with commas")
    parser.add_argument("--seconds", type=float, default=0, help="of each training; 300 without --images")
    parser.add_argument("--images", type=int, default=0, help="that each training sees")
    parser.add_argument("--batch", type=int, default=0, help="images a step; as each network's recipe says without it")
    parser.add_argument("--unet-steps", type=int, default=1000, help="of 32 pairs; 0: no U-Nets")
    parser.add_argument("--repeats", type=int, default=3, help="U-Nets of each kind")
    parser.add_argument("--trainings", type=int, default=1, help="trainings of each network, with seeds 0, 1, ...")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--work", type=Path, default=Path("build/empirical_study"))
    parser.add_argument("--list", action="store_true", help="prepare the data and print the parts that are to be done")
    parser.add_argument("--table", action="store_true", help="print the table of what is done, and do nothing else")
    options = parser.parse_args()
    options.seconds = options.seconds or (0 if options.images else 300)
    options.work.mkdir(parents=True, exist_ok=True)
    parts = wanted_parts(options)
    if not parts:
        parser.error(f"--only {options.only}: organs are {', '.join(ORGANS)}; networks are {', '.join(NETWORKS)}")
    done = [name_of(row) for row in finished(options.work) if is_whole(row, options)]
    todo = [] if options.table else [one for one in parts if one not in done]
    if options.list:
        for organ in dict.fromkeys(organ for organ, _, _ in todo):
            real_data(organ, options.data, options.size, options.work)
        print("\n".join("/".join(map(str, one)) for one in todo))
        return
    print(machine())
    for organ, network, seed in todo:
        try:
            part(organ, network, seed, options)
        except RadsynthError as error:
            print(f"{organ}/{network}/{seed}: {error}", flush=True)
    rows = finished(options.work)
    write_atomically(options.work.parent / "empirical_study.json", json.dumps(rows, indent=1))
    show(rows if options.table or len(parts) > 1 else [row for row in rows if name_of(row) == parts[0]])


if __name__ == "__main__":
    told(main)
