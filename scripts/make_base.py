"""Makes a base generator: trains on data whose licence allows it, and writes radsynth/bases/NAME with its model card.

Usage: python scripts/make_base.py NAME [--data FILE] [--images 130000] [--work DIR] (NAME: a key of BASES below). The
work folder keeps the run, and the same command goes on where it stopped. What is trained on is the training split;
the card's numbers are measured on the test split, which training never saw. They do not say how good a start it is: a
base of brains that was nearer to its own kind was a worse one (docs/lab-notebook.md), so benchmarks/bases.py decides.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from radsynth.arrays import ROW_FIELDS, Prepared
from radsynth.bases import FOLDER, PART
from radsynth.checkpoints import load_checkpoint, save_tensors
from radsynth.choices import document
from radsynth.device import here
from radsynth.metrics._features import NAME, features
from radsynth.metrics._frechet import frechet_distance
from radsynth.metrics.coverage import precision_recall_density_coverage
from radsynth.plan import Fingerprint, plan
from radsynth.run_folder import RunFolder
from radsynth.settings import Resolved, resolve
from radsynth.tasks._warm_start import PrincipalCodes
from radsynth.verbs.generate import sample
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train

MOST = 1000
"""Images of each side that the card's distance is measured on, at most."""
LOOKED = 400
"""Training images whose look is kept, so that images of another organ are told from them."""


class Recipe(NamedTuple):
    """What a base is made of. images: of the training split; model: settings of its network that the plan is not asked
    for."""

    title: str
    data: dict[str, Any]
    images: int
    modalities: tuple[str, ...]
    size: tuple[int, int]
    model: dict[str, Any]
    source: str
    licence: str


BASES = {
    "chest_28": Recipe(
        "Chest radiographs, front view, 28 x 28 pixels", {"kind": "medmnist", "modality": "DX"}, 4708,
        ("CR", "DX"), (28, 28), {},
        "PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023), training split, 4,708 images of children from Guangzhou "
        "Women and Children's Medical Center (Kermany et al. 2018); classes not used",
        "The images are CC BY 4.0 (MedMNIST; Kermany et al.): attribution as above. No share-alike clause, so that the "
        "weights come under radsynth's own licence, Apache-2.0."),
    "brain_64": Recipe(  # each patient has one contrast; without residual convolutions starts are more varied
        "Axial brain MR (T1, T2 or FLAIR), 64 x 64 pixels",
        {"kind": "brain", "patients": 1500, "slices": 7, "seed": 1000, "contrasts": ["t1", "t2", "flair"],
         "unpaired": True}, 7350, ("MR",), (64, 64), {"residual": 0},
        "the embedded virtual cohort (data.kind=brain, 1,500 virtual patients of seed 1000, not the seed of the demo, "
        "a third each in T1, T2 and FLAIR), made from the MNI152 template; nobody in it exists; classes not used",
        "The template (ICBM 2009, McConnell Brain Imaging Centre) may be used, changed and distributed for any "
        "purpose. The weights are Apache-2.0."),
}


def prepared(recipe: Recipe, folder: Path, settings: Resolved) -> Prepared:
    """The arrays, without classes."""
    data = prepare(settings.section("data"), folder, settings=settings)
    if data.spec.labels:
        with (folder / "records.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ROW_FIELDS)
            table.writeheader()
            table.writerows({**vars(row), "label": -1} for row in data.rows)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest["spec"]["labels"] = []
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Prepared(folder)


def measured(run: Path, data: Prepared) -> dict[str, Any]:
    """Distance, recall and coverage against test images, beside training images against the same."""
    test, training = data.indices("test"), data.indices("train")
    count = min(MOST, len(test), len(training))
    draw = np.random.default_rng(0)
    sides = [data.images(np.sort(draw.permutation(rows)[:count])) for rows in (test, training)]
    real, floor, made = (np.concatenate([features(part[k:k + 50]) for k in range(0, count, 50)])
                         for part in (*sides, np.clip(sample(run, count)[0], -1, 1)))
    precision, recall, _, coverage = (float(value) for value in precision_recall_density_coverage(real, made))
    return {"n": count, "frechet_distance": round(frechet_distance(real, made), 1),
            "floor": round(frechet_distance(real, floor), 1), "precision": round(precision, 3),
            "recall": round(recall, 3), "coverage": round(coverage, 3)}


def look(data: Prepared) -> dict[str, torch.Tensor]:
    """Mean and spread of the features of training images."""
    rows = data.indices("train")
    some = np.sort(np.random.default_rng(0).permutation(rows)[:LOOKED])
    found = np.concatenate([features(data.images(some[k:k + 50])) for k in range(0, len(some), 50)])
    return {"mean": torch.from_numpy(found.mean(0)), "spread": torch.tensor(found.var(0).sum())}


def half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def card(name: str, recipe: Recipe, facts: dict[str, Any]) -> str:
    numbers = facts["numbers"]
    return f"""# {name}: {recipe.title}

A small generator and its discriminator (`{facts["model"]["kind"]}`), to start from when there are few images of this kind:
`train.start={name}`. `radsynth run` takes it by itself for fewer than 500 images of modality
{" or ".join(recipe.modalities)}, one channel and this size that look like its own; `train.start=''` forbids it.

| | |
| --- | --- |
| trained on | {recipe.source} |
| licence | {recipe.licence} |
| made by | `python scripts/make_base.py {name} --images {facts["planned"]}`; {facts["images"]:,} of {facts["planned"]:,} planned images were shown; {facts["device"]}, {facts["date"]} |
| weights | {PART}, SHA-256 {facts["sha256"][:16]}..., half precision, {facts["megabytes"]:.1f} MB |
| Frechet distance | {numbers["frechet_distance"]} of {numbers["n"]} samples to {numbers["n"]} test images that training never saw; training images reach {numbers["floor"]} |
| precision, recall, coverage | {numbers["precision"]}, {numbers["recall"]}, {numbers["coverage"]} |
| features | {NAME} |

**Meant for** a start of training on images of the same kind, never as a source of images that stand for patients.
**Limits.** It was trained on one source; what it knows of anatomy is that source's. It was not audited for copies of
training images. A set that was made after starting here may carry the source's look: say so when you share it.
"""  # noqa: E501


def export(name: str, recipe: Recipe, run: Path, data: Prepared, settings: Resolved, planned: int) -> None:
    folder, found = FOLDER / name, load_checkpoint(RunFolder(run).checkpoints)
    assert found is not None
    weights, trained = RunFolder(run).load_weights()
    model = settings.document()["model"]
    state = {"weights": {"generator": half(weights), "discriminator": half(found[0]["networks"]["discriminator"])},
             "studied": half(PrincipalCodes(data, model["latent"], settings.seed).state()), "look": look(data)}
    facts = {"spec": data.spec.to_json(), "modalities": recipe.modalities, "model": model, "images": trained["images"],
             "planned": planned, "source": recipe.source, "licence": recipe.licence, "numbers": measured(run, data),
             "device": f"{here().name}, one core", "date": datetime.date.today().isoformat()}
    folder.mkdir(parents=True, exist_ok=True)
    digest = save_tensors(folder / PART, state, facts)
    megabytes = (folder / PART).stat().st_size / 1e6
    (folder / "card.md").write_text(card(name, recipe, {**facts, "sha256": digest, "megabytes": megabytes}))
    print(json.dumps({"base": name, "megabytes": megabytes, **facts["numbers"]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BASES)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=130000)
    parser.add_argument("--work", type=Path, default=Path("build/bases"))
    options = parser.parse_args()
    recipe, work = BASES[options.name], options.work / options.name
    found = Fingerprint(images=recipe.images, patients=1000, modality=recipe.modalities[0], channels=1,
                        size=recipe.size, labels={})
    source = {**recipe.data, **({"path": str(options.data)} if options.data else {})}
    settings = resolve(document(plan(found, here(), {"images": options.images})), {"data": source},
                       {"prepare": {"size": list(recipe.size)}, "model": recipe.model},
                       sections=("data", "prepare", "model", "task", "train"))
    data = prepared(recipe, work / "data", settings)
    run = train(data.folder, work / "run", settings=settings).path
    export(options.name, recipe, run, data, settings, options.images)


if __name__ == "__main__":
    main()
