"""Images with masks: do they look real, do they show what their masks say, does a segmenter learn from them?

Five sets of images with masks, equally many and from the same training patients:
  painted     `task.kind=semantic` (SPADE): training masks deformed and painted
  drawn       `task.masks=true`: the default network draws image and mask together, for as many training images
  repainted   the masks of `drawn`, painted by the run of `painted`: no patient's mask is needed
  mixture     no network: every label of the deformed masks gets normal noise with the mean and the standard deviation
              that it has in a training image drawn at random (Billot et al. 2023, SynthSeg, in the data's contrasts)
  real        the training images themselves: the floor
Frechet distance against unseen patients; Dice, against the masks, of a U-Net trained on real pairs; Dice on unseen
real patients of U-Nets trained on each set alone and, half of each batch, together with the real pairs.

Usage: python benchmarks/semantic.py [--images 30000] [--hippocampus FOLDER] [--acdc FILE.npz] [--sets brain,acdc]
[--steps 400] [--seeds 2] [--only painted,drawn,repainted,mixture] [section.key=value ... for the painted run].
"repainted" needs "painted" and "drawn", "mixture" needs "painted". Prints one table, writes build/semantic.json and
pictures, mask beside image, in build/semantic/SET/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from _data import fingerprint
from _told import machine, measured, told
from numpy.typing import NDArray
from scipy import ndimage

from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.device import here
from radsynth.metrics import _utility as scores
from radsynth.plan import plan
from radsynth.settings import resolve
from radsynth.verbs._agreement import measure_agreement, side_by_side
from radsynth.verbs._grid import grid
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._usefulness.sources import Real, real
from radsynth.verbs._usefulness.training import Examples, Recipe, fit, predict
from radsynth.verbs._writing import Drawn
from radsynth.verbs.evaluate import Settings as Measured
from radsynth.verbs.evaluate import evaluate_prepared
from radsynth.verbs.generate import draw
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train

BLUR = 0.6
"""Pixels that the mixture's images are blurred by: neighbouring pixels of an image are alike."""


def data_of(name: str, options: argparse.Namespace, place: Path) -> Prepared:
    """The prepared images of one set; made once."""
    given = {"brain": ["data.kind=brain"],
             "acdc": ["data.kind=medmnist", f"data.path={options.acdc}", "data.modality=MR", "prepare.size=[64,64]"],
             "hippocampus": ["data.kind=folder", f"data.path={options.hippocampus}", "data.modality=MR"]}[name]
    settings = resolve(overrides=given, sections=("data", "prepare"))
    return prepare(settings.section("data"), place / "data", settings=settings)


def trained(data: Prepared, run: Path, images: int, task: str, more: tuple[str, ...]) -> Path:
    """A run with what `radsynth run` would choose for the data."""
    found = dataclasses.replace(fingerprint(data), labels={})
    chosen = document(plan(found, here(), {"images": images}, task=task))
    chosen["task"] = {**chosen.get("task", {}), "kind": task}
    settings = resolve(chosen, {"train": {"seconds": 0, "previews": 0}}, overrides=more,
                       sections=("task", "model", "augment", "train"))
    train(data.folder, run, settings=settings)
    return run


def mixture(data: Prepared, masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images of masks by the mean and the standard deviation of each label in a training image."""
    generator, rows = np.random.default_rng(0), data.indices("train")
    images = np.zeros((len(masks), len(data.spec.channels), *data.spec.size), np.float32)
    for k, mask in enumerate(masks):
        row = generator.choice(rows, 1)
        pixels, labels = data.images(row)[0], data.stored(row, "masks")[0]
        for value in np.unique(mask):
            there = pixels[:, labels == value] if (labels == value).any() else pixels.reshape(len(pixels), -1)
            inside = mask == value
            noise = generator.standard_normal((len(pixels), int(inside.sum())))
            images[k][:, inside] = there.mean(1)[:, None] + there.std(1)[:, None] * noise
    blur = (0, 0, *[BLUR] * len(data.spec.size))
    return np.asarray(np.clip(ndimage.gaussian_filter(images, blur), -1, 1), np.float32)


def learned(data: Prepared, sources: list[Examples], test: Real, options: argparse.Namespace) -> NDArray[np.float64]:
    """(seeds, patients) Dice on unseen real patients, the mean over the labels, of U-Nets trained on the sources."""
    classes = data.spec.mask_classes
    recipe = Recipe(kind="segmentation", classes=classes, steps=options.steps, batch=16, rate=2e-3)
    found = []
    for seed in range(options.seeds):
        made = predict(recipe, fit(recipe, sources, True, seed), test.examples.images)
        assert test.examples.masks is not None
        found.append(np.nanmean(scores.dice_of_patients(made, test.examples.masks, test.owners, classes), axis=1))
    return np.stack(found)


def interval(values: NDArray[np.float64]) -> str:
    """Mean over seeds and patients with its 95 % bootstrap interval over both."""
    chosen = scores.draws(values.shape[1], len(values), 500, 0)
    replicates = np.stack([scores.mean_of_patients(one[:, None], chosen.patients) for one in values])
    one = scores.estimate(scores.over_classes(scores.over_seeds(replicates, chosen)), values.shape[1])
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def rows_of(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every method on one data set."""
    place = Path("build/semantic") / name
    data = data_of(name, options, place)
    train_rows, test = data.indices("train"), real(data, "test", "segmentation")
    truth = Drawn(images=data.images(train_rows), labels=data.labels(train_rows),
                  masks=data.stored(train_rows, "masks"))
    sets, runs = {"real": truth}, {}
    for method, task, more in (("painted", "semantic", tuple(options.settings)),
                               ("drawn", "synthesis", ("task.masks=true",))):
        if method in options.only:
            runs[method] = run = trained(data, place / method, options.images, task, more)
            sets[method] = draw(run, len(train_rows), data=data.folder)
            shown = side_by_side(Sampler(run, data.folder), data, sets[method], 0, True)
            save(shown, place / f"{method}.png")
    if "repainted" in options.only:
        sets["repainted"] = made = draw(runs["painted"], len(train_rows), masks=runs["drawn"])
        save(side_by_side(Sampler(runs["painted"]), data, made, 0, False), place / "repainted.png")
    if "mixture" in options.only:
        masks = sets["painted"].masks
        assert masks is not None
        sets["mixture"] = Drawn(images=mixture(data, masks), labels=truth.labels, masks=masks)
    base = Examples(images=truth.images, labels=truth.labels, masks=truth.masks)
    lines = []
    for method, made in sets.items():
        examples = Examples(images=made.images, labels=np.zeros(len(made.images), np.int64), masks=made.masks)
        agreed = measure_agreement(data, made, repetitions=30, seed=0)["measurement"]
        line: dict[str, Any] = {"data": name, "pairs": method, "count": len(made.images)}
        if method == "real":
            line |= {"frechet": "floor", "agreement": f"{agreed['floor']:.3f} on unseen patients", "both": "-"}
        else:
            distance = measured(evaluate_prepared(data, made.images, settings=Measured(classes=False, pairs=0)),
                                "frechet_distance")
            line |= {"frechet": f"{distance['value']:.0f} ({distance['low']:.0f} to {distance['high']:.0f}; floor "
                                f"{distance['floor']:.0f}; n {distance['n']})",
                     "agreement": f"{agreed['value']:.3f} ({agreed['low']:.3f} to {agreed['high']:.3f})",
                     "both": interval(learned(data, [base, examples], test, options))}
        line["alone"] = interval(learned(data, [examples], test, options))
        lines.append(line)
        print(" | ".join(str(line[key]) for key in ("data", "pairs", "count", "frechet", "agreement", "alone", "both")),
              flush=True)
    return lines


def save(shown: NDArray[np.uint8], path: Path) -> None:
    """(n, columns, rows, columns) as one picture, an image a column."""
    from PIL import Image as Picture

    rows = shown.swapaxes(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1])).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=30000)
    parser.add_argument("--acdc", type=Path)
    parser.add_argument("--hippocampus", type=Path)
    parser.add_argument("--sets", default="")
    parser.add_argument("--only", default="painted,drawn,repainted,mixture")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    options.only = options.only.split(",")
    for method, needed in {"repainted": {"painted", "drawn"}, "mixture": {"painted"}}.items():
        if method in options.only and not needed <= {*options.only}:
            parser.error(f"--only: {method} needs {' and '.join(sorted(needed))}")
    given = ["brain", *(["acdc"] if options.acdc else []), *(["hippocampus"] if options.hippocampus else [])]
    print(f"{machine()}; {options.images} training images, U-Nets of {options.steps} steps, {options.seeds} seeds")
    print("data | pairs | count | Frechet distance | agreement (Dice) | U-Net from these alone (Dice) | with the real")
    found = [line for name in (options.sets.split(",") if options.sets else given) for line in rows_of(name, options)]
    Path("build").mkdir(exist_ok=True)
    Path("build/semantic.json").write_text(json.dumps({"images": options.images, "steps": options.steps,
                                                       "rows": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    told(main)
