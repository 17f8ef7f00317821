"""How sharp the audit's attacks are: what each of them finds of generators that saw few images often.

Chest radiographs, each of another child (1,000 with pneumonia of PneumoniaMNIST's training split, 400 to learn from,
28 px), and ten slices each of 60 virtual patients (32 px); 40,000 images shown, which is 100 and 67 times each. Once
without augmentation and doctor, so that they are learned by heart, radiographs also as `run` does it.

Usage: python benchmarks/attacks.py pneumoniamnist.npz [--images 40000] [--out build/attacks]
Prints one table. The same command again goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from _table import print_row
from _told import told
from PIL import Image

import radsynth

BY_HEART = ("train.doctor=false", "augment.strength=0")
COHORT = ("data.patients=150", "data.size=[32,32]")


def radiographs(source: Path, folder: Path) -> Path:
    """A thousand of them as files."""
    with np.load(source) as data:
        images, ill = data["train_images"], np.flatnonzero(data["train_labels"][:, 0] == 1)
    folder.mkdir(parents=True, exist_ok=True)
    for row in np.random.default_rng(0).permutation(ill)[:1000]:
        Image.fromarray(images[row]).save(folder / f"p{row:05d}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--out", type=Path, default=Path("build/attacks"))
    options = parser.parse_args()
    files = radiographs(options.data, options.out / "data")
    for name, data, settings in (("radiographs", files, BY_HEART), ("radiographs, as run does it", files, ()),
                                 ("virtual patients", None, (*BY_HEART, *COHORT))):
        run = options.out / name.replace(", ", "-").replace(" ", "-")
        radsynth.run(data, run, budget=f"{options.images}img",
                     overrides=[*settings, "prepare.train=0.4", "generate.count=2000"])
        for attack in radsynth.audit(run).attacks:
            print_row({"images": name, "attack": attack.title, "of": f"{attack.main.members} and {attack.main.others}",
                       **{part: "{value:.3f} ({low:.3f} to {high:.3f})".format(**asdict(getattr(attack, part).auc))
                          for part in ("main", "control", "baseline")},
                       "hits": f"{100 * attack.main.hits.value:.1f} %", "found": attack.found})


if __name__ == "__main__":
    told(main)
