"""The part of the audit that asks who was in training: by nearness to the synthetic images, by the discriminator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from radsynth.arrays import Prepared, PreparedWithMasks
from radsynth.errors import DataError
from radsynth.metrics._distances import nearest
from radsynth.metrics._features import Rows, describe
from radsynth.metrics._privacy_attacks import MINIMUM_PATIENTS, Scores, Strength, guessed, strength
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build, draws_masks, paints
from radsynth.tasks.semantic import Semantic
from radsynth.verbs._discriminator import load_discriminator
from radsynth.verbs._evaluating.sides import PreparedRows

Values = NDArray[np.float64]
BATCH = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Side(PreparedRows):
    """Some images of the prepared data, with the patient of each."""

    patients: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack. main: training against held-out patients; control: held-out against other held-out patients, where
    there is nothing to find; baseline: the same question by somebody who has other real images, not the synthetic ones.

    found: the attack is better than guessing, than its control and than its baseline, beyond its interval
    """

    name: str
    title: str
    meaning: str
    main: Strength
    control: Strength
    baseline: Strength
    found: bool


TITLES = {"membership_nearness": "Membership by nearness",
          "membership_discriminator": "Membership by the discriminator",
          "reidentification": "Re-identification of patients"}


def attacks(folder: RunFolder, made: Rows, members: Side, others: Side, refused: list[dict[str, str]], *,
            seed: int) -> list[Attack]:
    """Every attack that can be tried; the others are told in `refused`."""
    try:
        _check(members, others)
    except DataError as error:
        refused += [{"name": name, "title": title, "reason": str(error)} for name, title in TITLES.items()]
        return []
    features = {name: describe(side, np.arange(len(side))).features
                for name, side in (("members", members), ("others", others), ("made", made))}
    half = _half(others.patients, seed)
    synthetic = {name: _closeness(features[name], features["made"]) for name in ("members", "others")}
    reference = features["others"][~half]
    naive = {"members": _closeness(features["members"], reference),
             "others": _closeness(features["others"][half], reference)}
    asked = _Asked(members=members, others=others, half=half, naive=naive, seed=seed)
    tried: list[Attack] = []

    def attempt(name: str, make: Callable[[str, str], Attack]) -> None:
        try:
            tried.append(make(name, TITLES[name]))
        except DataError as error:
            refused.append({"name": name, "title": TITLES[name], "reason": str(error)})

    attempt("membership_nearness", lambda name, title: asked.attack(
        name, title, "Whether an image's nearness to the synthetic images tells that it was used in "
        "training.", synthetic))
    attempt("membership_discriminator", lambda name, title: asked.attack(
        name, title, "Whether the discriminator's judgement of an image tells that it was used "
        "in training. It is not part of a release: whoever can try this has the run folder.",
        {"members": _judged(folder, members), "others": _judged(folder, others)}))
    attempt("reidentification", lambda name, title: asked.by_patient(
        name, title, "Whether the images of one patient, taken together, tell by their nearness to the "
        "synthetic images that the patient was in training.", synthetic))
    return tried


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """Who is asked about. half: which of the others make up the control's first side."""

    members: Side
    others: Side
    half: NDArray[np.bool_]
    naive: dict[str, Values]
    seed: int

    def attack(self, name: str, title: str, meaning: str, scores: dict[str, Values]) -> Attack:
        """From the suspicion of every image of `members` and `others`."""
        who, whom = self.members.patients, self.others.patients
        main = strength(Scores(values=scores["members"], patients=who),
                        Scores(values=scores["others"], patients=whom), seed=self.seed)
        control = strength(Scores(values=scores["others"][self.half], patients=whom[self.half]),
                           Scores(values=scores["others"][~self.half], patients=whom[~self.half]), seed=self.seed)
        baseline = strength(Scores(values=self.naive["members"], patients=who),
                            Scores(values=self.naive["others"], patients=whom[self.half]), seed=self.seed)
        return Attack(name=name, title=title, meaning=meaning, main=main, control=control, baseline=baseline,
                      found=_better(main, control, baseline))

    def by_patient(self, name: str, title: str, meaning: str, scores: dict[str, Values]) -> Attack:
        """The same with one score a patient, the mean over the patient's images."""
        who, members = _per_patient(scores["members"], self.members.patients)
        whom, others = _per_patient(scores["others"], self.others.patients)
        if len(who) == len(self.members) and len(whom) == len(self.others):
            raise DataError("Every patient has one image here, so that this is the same as membership by nearness.")
        _, naive = _per_patient(self.naive["members"], self.members.patients)
        _, naive_others = _per_patient(self.naive["others"], self.others.patients[self.half])
        whole = dataclasses.replace(
            self, naive={"members": naive, "others": naive_others},
            half=np.isin(whom, self.others.patients[self.half]),
            members=dataclasses.replace(self.members, patients=who),
            others=dataclasses.replace(self.others, patients=whom))
        return whole.attack(name, title, meaning, {"members": members, "others": others})


def _check(members: Side, others: Side) -> None:
    """DataError with too few patients: the control halves the held-out ones."""
    have, held_out = len(np.unique(members.patients)), len(np.unique(others.patients))
    if have < MINIMUM_PATIENTS or held_out < 2 * MINIMUM_PATIENTS:
        whole = (_patients(members.prepared, "train"), _patients(members.prepared, "validation", "test"))
        drawn = (f"; the {len(members)} and {len(others)} images that were drawn of them are of {have} and {held_out}"
                 if whole[0] >= MINIMUM_PATIENTS and whole[1] >= 2 * MINIMUM_PATIENTS and len(others) else "")
        raise DataError(
            f"Attacks need images of at least {MINIMUM_PATIENTS} training and {2 * MINIMUM_PATIENTS} held-out patients "
            f"(half of them for the control), there are {whole[0]} and {whole[1]}{drawn}. Prepare more patients, or "
            "hold out a larger share (prepare.train)."
        )


def _patients(prepared: Prepared, *splits: str) -> int:
    return len(np.unique(prepared.patients(prepared.own(*splits))))


def _better(main: Strength, control: Strength, baseline: Strength) -> bool:
    """The interval is above guessing, the control and the baseline, by area or by hits: wrong in 1 of 20 at most."""
    by_area = main.auc.low > max(0.5, control.auc.value, baseline.auc.value)
    by_hits = main.hits.low > max(guessed(main.others), control.hits.value, baseline.hits.value)
    return by_area or by_hits


def _closeness(images: NDArray[np.float32], to: NDArray[np.float32]) -> Values:
    return -nearest(images, to)[0]


def _half(patients: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Whether each image is of the one half of the patients."""
    names = np.random.default_rng(seed).permutation(np.unique(patients))
    return np.isin(patients, names[: len(names) // 2])


def _per_patient(values: Values, patients: NDArray[np.int64]) -> tuple[NDArray[np.int64], Values]:
    names, owner = np.unique(patients, return_inverse=True)
    return names, np.bincount(owner, weights=values) / np.bincount(owner)


@torch.no_grad()
def _judged(folder: RunFolder, side: Side) -> Values:
    """The last checkpoint's discriminator's logits; DataError when the run has none."""
    spec = side.prepared.spec
    resolved = resolve(folder.settings(), sections=("task", "model", "augment"))
    options, model, augment = (resolved.section(name) for name in ("task", "model", "augment"))
    task = build(options, model, augment, spec)
    discriminator, reason = load_discriminator(task, folder.path)
    if discriminator is None:
        raise DataError(reason)
    logits = []
    prepared = PreparedWithMasks(side.prepared.folder) if draws_masks(task) else side.prepared
    for start in range(0, len(side), BATCH):
        rows = side.rows[start:start + BATCH]
        images = torch.from_numpy(prepared.images(rows))
        labels = torch.from_numpy(prepared.labels(rows)) if len(spec.labels) > 1 else None
        if paints(task):
            masks = torch.from_numpy(prepared.masks(rows))
            found = cast(Semantic, task).judgement(discriminator, images, masks, labels)
        else:
            numbers = [torch.from_numpy(prepared.conditions(rows))] if spec.conditions else []
            found = discriminator(images, labels, *numbers)
        logits.append(found.float().numpy())
    return np.concatenate(logits).astype(np.float64)
