"""How many planted copies the audit finds, and how often it is wrong.

The synthetic set is held-out real images, the hardest clean set (not one is memorised), of which 1 % are replaced by
training images that were shifted by up to 2 pixels, changed in contrast and brightness, half of them flipped, and given
noise. Every second clean image is changed in the same way, so that the change itself is no sign. Repeated with other
splits and other copies, because 1 % of a set are few.

With --few, in place of that: how often an honest generator is told to be copying by few held-out patients with 19
slices each. Its 2,000 images are slices of the patients that are left; 2 % of them or none are replaced by copies that
are found for certain. Once as the audit does it, once as if every slice were of a patient of its own.

Usage: python benchmarks/privacy.py MEDNIST.npz [--classes HeadCT,ChestCT,CXR,Hand] [--hippocampus DIR]
[--repetitions 40] [--clean 200] [--first-seed 0] [--few 8,20,40] [--out build/privacy.json]. Prints one table and
writes it. Of the clean images --clean are looked at. Seeds that the method was tuned on prove nothing: take others.
With --few the images are those of --hippocampus alone (MEDNIST.npz may be any word).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _data import hippocampus, mednist
from _table import print_row
from _told import told
from numpy.typing import NDArray

from radsynth.metrics._privacy_attacks import threshold
from radsynth.metrics._privacy_copies import Whitening, likeness, prints
from radsynth.metrics._resampling import share_of
from radsynth.verbs._auditing.copies import FALSE_ALARMS, Copies
from radsynth.verbs._auditing.words import verdict

Array = NDArray[np.float32]
SHIFT, CONTRAST, BRIGHTNESS, NOISE = 2, 0.3, 0.15, 0.03


def planted(images: Array, generator: np.random.Generator) -> Array:
    """Copies (n, 1, h, w) as told on top."""
    made = []
    for image in images[:, 0]:
        rows, columns = generator.integers(0, 2 * SHIFT + 1, 2)
        height, width = image.shape
        moved = np.pad(image, SHIFT, mode="edge")[rows:rows + height, columns:columns + width]
        moved = moved[:, ::-1] if generator.random() < 0.5 else moved
        contrast, brightness = generator.uniform(-CONTRAST, CONTRAST), generator.uniform(-BRIGHTNESS, BRIGHTNESS)
        moved = moved + contrast * (moved - moved.mean()) + brightness + NOISE * generator.normal(size=moved.shape)
        made.append(np.rint((np.clip(moved, -1, 1) + 1) * 127.5) / 127.5 - 1)
    return np.asarray(made, dtype=np.float32)[:, None]


def trial(images: Array, patients: NDArray[np.int64], seed: int, most: int) -> tuple[int, ...]:
    """Copies found and planted, false alarms and clean images (as they are, then changed), of one split by patient:
    1/2, 1/4, 1/4.
    """
    generator = np.random.default_rng(seed)
    names = generator.permutation(np.unique(patients))
    cuts = np.split(names, [len(names) // 2, 3 * len(names) // 4])
    training, held_out, clean = (images[np.isin(patients, cut)] for cut in cuts)
    count = max(1, round(len(clean) / 100))
    clean = clean[generator.permutation(len(clean))[count:count + most]]
    copies = planted(training[generator.permutation(len(training))[:count]], generator)
    whitening = Whitening.of(training)
    known = prints(training, whitening)
    whose = patients[np.isin(patients, cuts[1])]
    limit = threshold(likeness(prints(held_out, whitening), known)[0], whose, FALSE_ALARMS).likeness
    parts = (copies, clean[::2], planted(clean[1::2], generator))
    found = [likeness(prints(part, whitening), known)[0] > limit for part in parts]
    return tuple(number for part in found for number in (int(part.sum()), len(part)))


def accused(folder: Path, counts: list[int], repetitions: int, seed: int) -> list[dict[str, Any]]:
    """What audits with so many held-out patients say of honest and of copying generators; shares of all audits."""
    images, patients = hippocampus(folder, range(-9, 10))
    generator = np.random.default_rng(seed)
    names = generator.permutation(np.unique(patients))
    trained = np.isin(patients, names[:len(names) // 2])
    training, others, whose = images[trained], images[~trained], patients[~trained]
    whitening = Whitening.of(training)
    likely, _ = likeness(prints(others, whitening), prints(training, whitening))
    table = []
    for count in counts:
        for copied in (0, 40):
            said = Counter[str]()
            for _ in range(repetitions):
                chosen = np.isin(whose, generator.permutation(np.unique(whose))[:count])
                made = np.concatenate([generator.choice(likely[~chosen], 2000 - copied), np.ones(copied)])
                for by, owner in (("patients", whose[chosen]), ("images", np.arange(chosen.sum()))):
                    limit = threshold(likely[chosen], owner, FALSE_ALARMS)
                    beyond = int((made > limit.likeness).sum())
                    found = Copies(count=beyond, share=share_of(beyond, 2000), threshold=limit.likeness,
                                   expected=limit.expected, by="", chance=limit.chance(beyond, 2000), nearness=[],
                                   pairs=[])
                    text, passed = verdict(found, [], [])
                    copying = "no verdict" if text.startswith("No verdict on copies") else "not copying"
                    said[f"{by}: {'copying' if passed is False else copying}"] += 1
            table.append({"held_out_patients": count, "copies": copied,
                          **{f"{by}: {answer}": said[f"{by}: {answer}"] / repetitions for by in ("patients", "images")
                             for answer in ("copying", "no verdict", "not copying")}})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", default="HeadCT,ChestCT,CXR,Hand")
    parser.add_argument("--hippocampus", type=Path)
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--clean", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/privacy.json"))
    parser.add_argument("--few", type=lambda text: [int(part) for part in text.split(",")], default=[])
    options = parser.parse_args()
    options.out.parent.mkdir(exist_ok=True)
    if options.few:
        if not options.hippocampus:
            parser.error("--few draws patients of --hippocampus DIR")
        shares = accused(options.hippocampus, options.few, options.repetitions, options.first_seed)
        for line in shares:
            print_row(line)
        options.out.write_text(json.dumps({"first_seed": options.first_seed, "table": shares}, indent=1))
        return
    sets = {name: mednist(options.data, name) for name in options.classes.split(",")}
    if options.hippocampus:
        sets["hippocampus"] = hippocampus(options.hippocampus)
    seeds = range(options.first_seed, options.first_seed + options.repetitions)
    table = []
    for name, (images, patients) in sets.items():
        start = time.monotonic()
        found, count, *wrong = np.sum([trial(images, patients, seed, options.clean) for seed in seeds], 0).tolist()
        table.append({"images": name, "copies_planted": count, "found": round(found / count, 4),
                      "clean_images": wrong[1] + wrong[3],
                      "false_alarms": round((wrong[0] + wrong[2]) / (wrong[1] + wrong[3]), 4),
                      "of_images_as_they_are": round(wrong[0] / wrong[1], 4),
                      "of_changed_images": round(wrong[2] / wrong[3], 4),
                      "seconds_a_trial": round((time.monotonic() - start) / options.repetitions, 1)})
        if len(table) == 1:
            print(" | ".join(table[0]))
        print(" | ".join(map(str, table[-1].values())), flush=True)
        options.out.write_text(json.dumps({"seeds": [seeds[0], seeds[-1]], "table": table}, indent=1))


if __name__ == "__main__":
    told(main)
