"""Several GANs on several organs: distance to unseen real images, and a U-Net trained on synthetic pairs (question 8).

The design of "GANs for Medical Image Synthesis: An Empirical Study" (Skandarani, Jodoin and Lalande 2023) on the data
that we have. Where there are masks, the unconditional networks draw each image with its mask (`task.masks`), so that
each of them makes pairs; `spade` makes images from masks. A U-Net then learns from real pairs, synthetic pairs and
both, with equal steps, and is tested on real patients that neither it nor the generator has seen.

Usage: python benchmarks/empirical_study.py DATA [--only cardiac/sngan,heads] [--seconds 300 | --images 100000]
[--unet-seconds 300] [--seeds 3] [--size 64] [--work build/empirical_study]. DATA is the folder with
acdc_slices_128.npz, hippocampus/ and mednist_64.npz. A part is ORGAN/NETWORK; parts that are finished are not done
again, and the table always shows all of them. Writes build/empirical_study.json and a picture of each part.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.device import here
from radsynth.errors import RadsynthError
from radsynth.plan import document, recipe
from radsynth.settings import resolve
from radsynth.verbs._grid import save_grid
from radsynth.verbs.evaluate import HELD_OUT, evaluate_arrays
from radsynth.verbs.evaluate import Settings as EvaluateSettings
from radsynth.verbs.generate import draw
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from radsynth.verbs.utility import Settings as UtilitySettings
from radsynth.verbs.utility import utility

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
    "sngan": {**document(recipe("sngan")), "model": {"kind": "sngan"}},
    "style": {**document(recipe("style")), "model": {"kind": "style"}},
    "spade": {"task": {"kind": "semantic"}},
}
"""The paper's networks as settings: "sngan" is our default and stands for its hinge GAN. Recipes as in the papers."""


def real_data(organ: str, root: Path, size: int, work: Path) -> Prepared:
    """The organ's images, prepared once: patients split, masks kept."""
    source = dict(ORGANS[organ])
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


def part(organ: str, network: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    place = options.work / organ / network
    real = real_data(organ, options.data, options.size, options.work)
    masked = real.spec.mask_classes > 1
    if network == "spade" and not masked:
        raise RadsynthError("spade makes images from masks: the data has none.")
    budget = {"images": options.images} if options.images else {"seconds": options.seconds}
    masks = {"task": {"masks": True}} if masked and network != "spade" else {}
    settings = resolve(NETWORKS[network], {"train": {"previews": 0, **budget}}, masks,
                       sections=("task", "model", "augment", "train"))
    train(real.folder, place / "run", settings=settings)
    images = draw(place / "run", max(60, min(2000, len(real.indices("train")))), data=real.folder).images
    facts = json.loads((place / "run" / "generator.json").read_text())
    row = {"organ": organ, "network": network, "px": options.size, "images_seen": facts["images"],
           "seconds": round(facts["seconds"]), **distance(real, images)}
    save_grid(images[:36], place / "samples.png", 6)
    return row | (overlap(real, place, options) if masked else {})


def distance(real: Prepared, images: NDArray[np.float32]) -> dict[str, Any]:
    """Frechet distance to unseen patients with its interval and floor, and the share of them that is covered."""
    held_out = np.concatenate([real.indices(split) for split in HELD_OUT])
    training = real.indices("train")
    patients = np.unique([row.patient for row in real.rows], return_inverse=True)[1]
    found = evaluate_arrays(real.images(held_out), real.images(training), np.clip(images, -1, 1),
                            held_out_patients=patients[held_out], training_patients=patients[training],
                            copies=False,
                            settings=EvaluateSettings(images=600, training_images=600, repetitions=20, pairs=0))
    numbers = {one["name"]: one for one in found["measurements"]}
    frechet, coverage = numbers["frechet_distance"], numbers["coverage"]
    return {"n": found["context"]["images"], "frechet": round(frechet["value"], 1),
            "low": round(frechet["low"], 1), "high": round(frechet["high"], 1), "floor": round(frechet["floor"], 1),
            "coverage": round(coverage["value"], 3)}


def overlap(real: Prepared, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Dice of U-Nets on unseen real patients, trained on real pairs, on pairs drawn from the run, and on both."""
    settings = UtilitySettings(target="segmentation", shares=(1.0,), seeds=options.seeds, steps=1000,
                               seconds=options.unet_seconds, batch=16)
    study = utility(place / "run", data=real.folder, settings=settings, out=place)
    arms = {line["arm"]: line for line in study["arms"]}
    gap = next(line for line in study["differences"] if (line["arm"], line["against"]) == ("both", "real"))
    return {"unet_steps": study["steps"], "dice_real": round(arms["real"]["value"], 3),
            "dice_synthetic": round(arms["synthetic"]["value"], 3), "dice_both": round(arms["both"]["value"], 3),
            "both_minus_real": f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"}


def show(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print(" | ".join(columns))
    for row in rows:
        print(" | ".join(str(row.get(name, "-")) for name in columns), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="", help="parts ORGAN/NETWORK, ORGAN or NETWORK, with commas")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--unet-seconds", type=float, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--work", type=Path, default=Path("build/empirical_study"))
    options = parser.parse_args()
    wanted = [word for word in options.only.split(",") if word]
    unknown = [word for word in wanted if not {*word.split("/")} <= {*ORGANS, *NETWORKS}]
    if unknown:
        parser.error(f"{', '.join(unknown)}: organs are {', '.join(ORGANS)}; networks are {', '.join(NETWORKS)}")
    out = options.work.parent / "empirical_study.json"
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = json.loads(out.read_text()) if out.exists() else []
    print(f"{here().name}, {here().cores} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for organ in ORGANS:
        for network in NETWORKS:
            named = not wanted or any({*word.split("/")} <= {organ, network} for word in wanted)
            if not named or any((row["organ"], row["network"]) == (organ, network) for row in rows):
                continue
            try:
                rows.append(part(organ, network, options))
                out.write_text(json.dumps(rows, indent=1))
            except RadsynthError as error:
                print(f"{organ}/{network}: {error}")
    show(rows)


if __name__ == "__main__":
    main()
