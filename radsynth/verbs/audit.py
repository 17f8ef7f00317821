"""Audits privacy: whether synthetic images are copies of training images, and what they betray of who was in training.

Every attack stands beside a control (the same attack on patients of whom nobody was in training) and a baseline (an
attacker without the synthetic images). What the audit cannot promise is told with it: see docs/privacy.md.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError, in_command
from radsynth.files import check_writable, replacing, write_atomically
from radsynth.metrics._features import Rows
from radsynth.metrics._privacy_copies import most_alike
from radsynth.run_folder import RunFolder
from radsynth.settings import settings as settings_section
from radsynth.verbs._auditing.attacks import Attack, Side, attacks
from radsynth.verbs._auditing.copies import Copies, find_copies
from radsynth.verbs._auditing.words import LIMITS, limits_of_added, verdict
from radsynth.verbs._evaluating.sides import all_of, refuse_real
from radsynth.verbs._evaluating.synthetic import read_synthetic
from radsynth.verbs._grid import black_and_white, in_colour, save_grid, save_pictures, shades, shown_window
from radsynth.verbs.generate import check_draws

INTERVAL = "95 %: of attacks by patients drawn with replacement, of copies exact, of closer by half-samples of patients"


@settings_section
class Settings:
    """The privacy audit."""

    images: int = Field(default=1000, ge=50, le=5000)
    """Held-out images, and as many training images, that the attacks are tried on at most."""
    training_images: int = Field(default=20000, ge=50)
    """Training images searched for copies at most, drawn at random."""
    synthetic_images: int = Field(default=2000, ge=50)
    """Synthetic images looked at, at most."""
    pairs: int = Field(default=12, ge=0, le=200)
    """Closest pairs of a synthetic and a training image to keep as pictures."""
    real_pictures: bool = True
    """Keep pictures of real images. Turn it off for a run folder that may leave the building."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draws of images and patients."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the audit found. audit: the file that holds all of it.

    passed: no attack with the images alone was better than its control and baseline, and there are no more copies than
    chance gives; None when copies could not be told from chance or no attack could be tried
    refused: what could not be tried, with the reason
    """

    audit: Path
    verdict: str
    passed: bool | None
    copies: Copies | None
    attacks: list[Attack]
    refused: list[dict[str, str]]
    limits: list[str]

    def table(self) -> dict[str, Any]:
        """What a reader needs at once; `audit` has the rest."""
        numbers = [(attack.title, "AUC", part, getattr(attack, part).auc)
                   for attack in self.attacks for part in ("main", "control", "baseline")]
        numbers += [(attack.title, "found at 1 % false alarms", part, getattr(attack, part).hits)
                    for attack in self.attacks for part in ("main", "control", "baseline")]
        if self.copies:
            numbers = [("Aligned copies", "share", "main", self.copies.share),
                       *(("Closer to training", "share", one.by.partition(",")[0], one.closer)
                         for one in self.copies.nearness), *numbers]
        rows = [{"attack": title, "number": number, "of": of, "value": estimate.value, "low": estimate.low,
                 "high": estimate.high} for title, number, of, estimate in numbers]
        return {"verdict": self.verdict, "audit": self.audit, "numbers": rows,
                "not_tried": [{"title": line["title"], "reason": line["reason"]} for line in self.refused],
                "limits": self.limits}


def audit(run: Path, synthetic: Path | None = None, *, settings: Settings | None = None) -> Result:
    """Attack the synthetic data set of a run; writes RUN/audit.json and RUN/pictures/audit_pairs.npy and .png.

    synthetic: what `generate` wrote, RUN/synthetic by default; RUN/data must hold the prepared data of the training.
    Raises FolderError for folders that are none of this, DataError for images that cannot be compared, and
    for held-out images among the synthetic ones.
    """
    start, options, folder = time.monotonic(), settings or Settings(), RunFolder(Path(run))
    prepared, weights = _data(folder), folder.weights_hash
    check_writable(folder.path)
    place = Path(synthetic) if synthetic else folder.path / "synthetic"
    if not synthetic and not place.is_dir():
        check_draws(folder.path, "its results show the patients whose images were given, and there is nothing "
                                 "synthetic to audit but what you name (--synthetic DIR).")
        raise FolderError(f"{run} has no synthetic images to audit. Make some with 'radsynth generate "
                          f"{in_command(run)} {in_command(place)} --count 1000', or name a folder (--synthetic).")
    found = read_synthetic(place, prepared.spec, prepared.intensity)
    generator = np.random.default_rng(options.seed)
    drawn = np.sort(generator.permutation(len(found))[: options.synthetic_images])
    made = found[drawn]
    held_out, own, training = prepared.own("validation", "test"), prepared.own("train"), prepared.showing("train")

    def side(rows: NDArray[np.int64], most: int) -> Side:
        rows = np.sort(generator.permutation(rows)[:most])
        return Side(prepared=prepared, rows=rows, patients=prepared.patients(rows))

    others, searched = side(held_out, options.images), side(training, options.training_images)
    refuse_real("synthetic", all_of(made), all_of(others))
    members = side(np.intersect1d(searched.rows, own), len(others))
    refused: list[dict[str, str]] = []
    copies = _copies(made, searched, members, others, refused)
    tried = attacks(folder, made, members, others, refused, seed=options.seed)
    text, passed = verdict(copies, tried, refused)
    pairs = _pairs(copies, made, searched, options.pairs)
    if copies is None and pairs and options.real_pictures:
        text += " Look at the closest pairs (pictures/audit_pairs.png)."
    of_run = folder.made(place)
    text += "" if of_run else " These images are not known to be of this run's generator."
    result = Result(audit=folder.path / "audit.json", verdict=text, passed=passed, copies=copies, attacks=tried,
                    refused=refused, limits=[*LIMITS, *limits_of_added(prepared)])
    context = {"synthetic_images": len(made), "of_run": of_run, "held_out_images": len(others), "members": len(members),
               "held_out_patients": len(np.unique(others.patients)), "training_searched": len(searched),
               "training_images": len(training), "data_hash": prepared.manifest.data_hash, "seed": options.seed,
               "virtual": prepared.spec.virtual, "interval": INTERVAL,
               "seconds": round(time.monotonic() - start, 1)}
    folder.check_weights(weights)
    named = [pair | {"synthetic": int(drawn[pair["synthetic"]]), "training": int(searched.rows[pair["training"]])}
             for pair in pairs]
    pictures = _side_by_side(pairs, made, searched) if options.real_pictures else None
    _write(folder.path, result, context, named, pictures, searched.prepared)
    return result


def _data(folder: RunFolder) -> Prepared:
    """The run's own prepared data."""
    place = folder.path / "data"
    if not (place / "manifest.json").exists():
        if not folder.begun:
            raise folder.no_run("it has no spec.json")
        raise FolderError(
            f"{place} does not hold the prepared data that the run was trained on; the audit needs it. "
            f"'radsynth run' leaves it there; after 'radsynth train DATA {in_command(folder.path)}' copy or link DATA "
            f"to {place}."
        )
    prepared = Prepared(place)
    if folder.begun:
        folder.settings()  # or an error: what looks at the network opens them when the other attacks are done
        if folder.description()["data_hash"] != prepared.manifest.data_hash:
            raise FolderError(f"{place} is not the data that {folder.path} was trained on. Put that data there.")
    return prepared


def _copies(made: Rows, searched: Side, members: Side, others: Side, refused: list[dict[str, str]],
            ) -> Copies | None:
    try:
        return find_copies(made, searched, members, others)
    except DataError as error:
        refused.append({"name": "copies", "title": "Aligned copies", "reason": str(error)})
        return None


def _pairs(copies: Copies | None, made: Rows, searched: Side, count: int) -> list[dict[str, Any]]:
    """The pairs most alike; without a word on chance where copies could not be told from it."""
    if copies is not None:
        return [dataclasses.asdict(pair) for pair in copies.pairs[:count]]
    return [{"synthetic": one, "training": other, "likeness": likeness}
            for one, other, likeness in most_alike(made, searched, count)]


def _side_by_side(pairs: list[dict[str, Any]], made: Rows, searched: Side) -> NDArray[np.float32] | None:
    """(pairs, 2, c, *space): synthetic and training image; None without pairs."""
    if not pairs:
        return None
    left, right = (images[np.asarray([pair[name] for pair in pairs])]
                   for name, images in (("synthetic", made), ("training", searched)))
    return np.stack([left, right], axis=1)


def _write(folder: Path, result: Result, context: dict[str, Any], pairs: list[dict[str, Any]],
           pictures: NDArray[np.float32] | None, prepared: Prepared) -> None:
    """Pictures first, audit.json last."""
    document: dict[str, Any] = {"version": 1, "verdict": result.verdict, "passed": result.passed,
                                "copies": dataclasses.asdict(result.copies) if result.copies else None,
                "attacks": [dataclasses.asdict(attack) for attack in result.attacks],
                "refused": result.refused, "limits": result.limits, "context": context}
    if document["copies"]:
        document["copies"]["pairs"] = pairs
    else:
        document["closest"] = pairs
    names = ("pictures/audit_pairs.npy", "pictures/audit_pairs.png")
    with replacing(folder / "audit.json", [folder / name for name in names]) as new:
        if pictures is not None:
            ends = black_and_white(shown_window(prepared.spec), prepared.intensity)
            save_pictures(new / names[0], shades(pictures, ends))
            save_grid(pictures.reshape(-1, *pictures.shape[2:]), new / names[1], 2, ends,
                      colour=in_colour(prepared.spec.channels))
        write_atomically(new / "audit.json", json.dumps(document, indent=1))
