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
from radsynth.models._blocks import classes_of
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.tasks import BUILT_OF, build, draws_masks, paints
from radsynth.tasks.semantic import Semantic
from radsynth.verbs._discriminator import load_discriminator
from radsynth.verbs._evaluating.sides import PreparedRows

Values = NDArray[np.float64]
Suspicion = dict[str, Values]
"""Of every image of `members` and of `others`, higher for who seems to be a member."""
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
          "membership_calibrated": "Membership by calibrated nearness",
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
    found = {name: describe(side, np.arange(len(side)))
             for name, side in (("members", members), ("others", others), ("made", made))}
    halves = {"members": _half(members.patients, seed), "others": _half(others.patients, seed)}
    asked = _Asked(members=members, others=others, half=halves["others"], seed=seed)
    features = _near({name: sample.features for name, sample in found.items()}, halves)
    pixels = _near({name: sample.thumbnails for name, sample in found.items()}, halves)
    tried: list[Attack] = []

    def attempt(name: str, make: Callable[[str, str], Attack]) -> None:
        try:
            tried.append(make(name, TITLES[name]))
        except DataError as error:
            refused.append({"name": name, "title": TITLES[name], "reason": str(error)})

    attempt("membership_nearness", lambda name, title: asked.attack(
        name, title, "Whether an image's nearness to the synthetic images tells that it was used in "
        "training.", features.synthetic, features.real))
    attempt("membership_calibrated", lambda name, title: asked.attack(
        name, title, "The same in plain pixels, by how much nearer an image is to the synthetic images than to real "
        "ones of unseen patients: usual images are near to anything.", pixels.calibrated(), pixels.real))
    attempt("membership_discriminator", lambda name, title: asked.attack(
        name, title, "Whether the discriminator's judgement of an image tells that it was used "
        "in training. It is not part of a release: whoever can try this has the run folder.",
        {"members": _judged(folder, members), "others": _judged(folder, others)}, features.real))
    attempt("reidentification", lambda name, title: asked.by_patient(
        name, title, "Whether the images of one patient, taken together, tell by their calibrated nearness to the "
        "synthetic images that the patient was in training.", pixels.calibrated(), pixels.real))
    return tried


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """Who is asked about. half: which of the others make up the control's first side."""

    members: Side
    others: Side
    half: NDArray[np.bool_]
    seed: int

    def attack(self, name: str, title: str, meaning: str, scores: Suspicion, naive: Suspicion) -> Attack:
        """From the suspicion of every image of `members` and `others`, and that of who has no synthetic images."""
        who, whom = self.members.patients, self.others.patients
        main, baseline = (strength(Scores(values=found["members"], patients=who),
                                   Scores(values=found["others"], patients=whom), seed=self.seed)
                          for found in (scores, naive))
        control = strength(Scores(values=scores["others"][self.half], patients=whom[self.half]),
                           Scores(values=scores["others"][~self.half], patients=whom[~self.half]), seed=self.seed)
        return Attack(name=name, title=title, meaning=meaning, main=main, control=control, baseline=baseline,
                      found=_better(main, control, baseline))

    def by_patient(self, name: str, title: str, meaning: str, scores: Suspicion, naive: Suspicion) -> Attack:
        """The same with one score a patient, the mean over the patient's images."""
        owners = {"members": self.members.patients, "others": self.others.patients}
        who, whom = (np.unique(patients) for patients in owners.values())
        if len(who) == len(self.members) and len(whom) == len(self.others):
            raise DataError("Every patient has one image here, so that this is the same as membership by nearness.")
        whole = dataclasses.replace(self, half=np.isin(whom, self.others.patients[self.half]),
                                    members=dataclasses.replace(self.members, patients=who),
                                    others=dataclasses.replace(self.others, patients=whom))
        means = ({name: _per_patient(values, owners[name]) for name, values in found.items()}
                 for found in (scores, naive))
        return whole.attack(name, title, meaning, *means)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Near:
    """Of every image minus the distance to the nearest synthetic image, and to the nearest real one of unseen patients:
    of that half of the others to which it does not belong. Members are halved, too: all are asked about alike."""

    synthetic: Suspicion
    real: Suspicion

    # Chen et al. 2020 (GAN-Leaks) subtract how near a generator that never saw the image comes to it; van Breugel et
    # al. 2023 (DOMIAS) divide densities. Of densities by the nearest neighbour the logarithm is this, up to a factor.
    def calibrated(self) -> Suspicion:
        """The logarithm of how many times nearer the synthetic image is than the real one."""
        tiny = np.finfo(np.float32).tiny  # the same image
        return {name: np.log(np.maximum(-self.real[name], tiny)) - np.log(np.maximum(-self.synthetic[name], tiny))
                for name in self.real}


def _near(images: dict[str, NDArray[np.float32]], halves: dict[str, NDArray[np.bool_]]) -> _Near:
    """From rows of numbers of `members`, `others` and `made`, and who of the first two is in the first half."""
    unseen = halves["others"]
    synthetic = {name: -nearest(images[name], images["made"])[0] for name in halves}
    real = {name: np.empty(len(first)) for name, first in halves.items()}
    for name, first in halves.items():
        real[name][first] = -nearest(images[name][first], images["others"][~unseen])[0]
        real[name][~first] = -nearest(images[name][~first], images["others"][unseen])[0]
    return _Near(synthetic=synthetic, real=real)


def _half(patients: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Whether each image is of the one half of the patients."""
    names = np.random.default_rng(seed).permutation(np.unique(patients))
    return np.isin(patients, names[: len(names) // 2])


def _per_patient(values: Values, patients: NDArray[np.int64]) -> Values:
    """The mean of each patient's, in the order of their numbers."""
    owner = np.unique(patients, return_inverse=True)[1]
    return np.bincount(owner, weights=values) / np.bincount(owner)


@torch.no_grad()
def _judged(folder: RunFolder, side: Side) -> Values:
    """The last checkpoint's discriminator's logits; DataError when the run has none."""
    spec = side.prepared.spec
    task = build(resolve(folder.settings(), sections=BUILT_OF), spec)
    discriminator, reason = load_discriminator(task, folder.path)
    if discriminator is None:
        raise DataError(reason)
    logits = []
    prepared = PreparedWithMasks(side.prepared.folder) if draws_masks(task) else side.prepared
    for start in range(0, len(side), BATCH):
        rows = side.rows[start:start + BATCH]
        images = torch.from_numpy(prepared.images(rows))
        labels = torch.from_numpy(prepared.labels(rows)) if classes_of(spec) else None
        if paints(task):
            masks = torch.from_numpy(prepared.masks(rows))
            found = cast(Semantic, task).judgement(discriminator, images, masks, labels)
        else:
            numbers = [torch.from_numpy(prepared.conditions(rows))] if spec.conditions else []
            found = discriminator(images, labels, *numbers)
        logits.append(found.float().numpy())
    return np.concatenate(logits).astype(np.float64)
