"""How sharp the audit's attacks are: what each of them finds of generators that saw few images often, and of innocents.

Chest radiographs (1,000 with pneumonia of PneumoniaMNIST's training split, 400 to learn from, 28 px) and ten slices
each of 150 virtual patients (60 to learn from, 32 px), split anew several times. An innocent generator learned from
other people: what an attack finds of it is chance, which members and others of a split have in common with the
generator that is accused. Once as `run` trains them, once without augmentation and doctor: learned by heart.

Usage: python benchmarks/attacks.py pneumoniamnist.npz [--images 40000] [--splits 0 1 2] [--out build/attacks]
Prints one table, a row for every split and the means. The same command again goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _table import print_row
from _told import told
from PIL import Image

import radsynth

BY_HEART = ("train.doctor=false", "augment.strength=0")
COHORT = ("data.patients=150", "data.size=[32,32]")
INSIDE = "membership_discriminator"
"""It asks the run's own discriminator, whatever images there are."""


def radiographs(source: Path, folder: Path, part: int) -> Path:
    """A thousand of them as files, another thousand for another part."""
    with np.load(source) as data:
        images, ill = data["train_images"], np.flatnonzero(data["train_labels"][:, 0] == 1)
    if not folder.exists():  # files that are written again are other files
        folder.mkdir(parents=True)
        for row in np.random.default_rng(0).permutation(ill)[1000 * part:1000 * (part + 1)]:
            Image.fromarray(images[row]).save(folder / f"p{row:05d}.png")
    return folder


def attacked(run: Path, innocent: Path, name: str, split: int) -> list[dict[str, Any]]:
    """A row for each attack with images."""
    innocents = {attack.name: attack for attack in radsynth.audit(run, innocent / "synthetic").attacks}
    rows = []
    for own in radsynth.audit(run).attacks:  # the last one, so that audit.json is about the run's own images
        if own.name == INSIDE:
            rows.append({"generator": name, "split": split, "attack": own.title, "own": own.main.auc.value,
                         "found": own.found})
            continue
        other = innocents[own.name]
        rows.append({"generator": name, "split": split, "attack": own.title, "own": own.main.auc.value,
                     "low": own.main.auc.low, "high": own.main.auc.high, "hits": own.main.hits.value,
                     "innocent": other.main.auc.value, "more": own.main.auc.value - other.main.auc.value,
                     "found": own.found, "found of the innocent": other.found})
    return rows


def mean_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The means over splits for every generator and attack, and the standard error of `more`."""
    means = []
    for name, attack in dict.fromkeys((row["generator"], row["attack"]) for row in rows):
        of = [row for row in rows if (row["generator"], row["attack"]) == (name, attack)]
        mean: dict[str, Any] = {"generator": name, "splits": len(of), "attack": attack}
        for part in ("own", "innocent", "more", "hits"):
            if part in of[0]:
                mean[part] = float(np.mean([row[part] for row in of]))
        if "more" in mean and len(of) > 1:
            mean["error of more"] = float(np.std([row["more"] for row in of], ddof=1) / len(of) ** 0.5)
        for part in ("found", "found of the innocent"):
            if part in of[0]:
                mean[part] = f"{sum(row[part] for row in of)} of {len(of)}"
        means.append(mean)
    return means


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers to three digits behind the point."""
    return {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("build/attacks"))
    options = parser.parse_args()
    budget = f"{options.images}img"
    sources: dict[str, list[Path | None]] = {
        "radiographs": [radiographs(options.data, options.out / f"data{part}", part) for part in (0, 1)],
        "virtual patients": [None, None]}
    others: dict[str, tuple[str, ...]] = {"radiographs": (), "virtual patients": ("data.seed=1",)}
    rows = []
    for name, (data, elsewhere) in sources.items():
        always = ("prepare.train=0.4", "generate.count=2000", *(COHORT if data is None else ()))
        innocent = options.out / f"{name.replace(' ', '-')}-innocent"
        radsynth.run(elsewhere, innocent, budget=budget, overrides=[*always, *others[name]])
        for way, settings in (("as run does it", ()), ("by heart", BY_HEART)):
            for split in options.splits:
                title = f"{name}, {way}"
                run = options.out / f"{title.replace(', ', '-').replace(' ', '-')}-{split}"
                radsynth.run(data, run, budget=budget,
                             overrides=[*always, *settings, f"prepare.split_seed={split}"])
                for row in attacked(run, innocent, title, split):
                    print_row(shown(row))
                    rows.append(row)
    for row in mean_rows(rows):
        print_row(shown(row))


if __name__ == "__main__":
    told(main)
