"""The part of the audit that looks for copies: aligned pixels decide, features and plain pixels stand beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Estimate
from radsynth.metrics._distances import nearest, ratio, squared_distances
from radsynth.metrics._features import NAME, Rows, describe
from radsynth.metrics._privacy_attacks import threshold
from radsynth.metrics._privacy_copies import Whitening, likeness, prints
from radsynth.metrics._resampling import estimate, paired_halves, share_of
from radsynth.progress import Progress
from radsynth.verbs._auditing.attacks import Side

FALSE_ALARMS = 0.0075
"""Share of images of unseen patients that may be called copies: the promise is under 1 %."""
LIKENESS = "whitened pixels at the best shift, flip, brightness and contrast"
KEPT = 200
"""Pairs most alike, from which the report's are taken."""


@dataclass(frozen=True, kw_only=True)
class CopyPair:
    """A synthetic image and the training image most like it (row numbers). likeness: 1 for the same image.

    rarity: share of unseen patients' images that are as like a training image; copy: beyond the threshold
    """

    synthetic: int
    training: int
    likeness: float
    rarity: float
    copy: bool


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """Whether synthetic images are nearer to training than to unseen patients' images, in one space.

    closer: share of synthetic images whose nearest is a training image, of as many of both: 0.5 when neither is
    ratio: median distance to the nearest training image over that to the nearest unseen patient's image
    """

    by: str
    closer: Estimate
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Copies:
    """How many synthetic images are copies. share: of the synthetic images, with its exact interval.

    expected: share of an unseen patient's images that the same threshold calls copies; by: what is compared
    chance: how probable as many are among images of unseen patients, for a threshold from so few
    """

    count: int
    share: Estimate
    threshold: float
    expected: float
    chance: float
    by: str
    nearness: list[Nearness]
    pairs: list[CopyPair] = field(repr=False)


def find_copies(made: Rows, training: Side, members: Side, held_out: Side) -> Copies:
    """Of synthetic images (n, c, *space); the KEPT pairs most alike are returned. DataError for few held-out images.

    training: images that may show somebody; members: no more of them than are held out, of the same data as these
    """
    if not len(held_out):
        threshold(np.empty(0), held_out.patients, FALSE_ALARMS)  # says how many are needed
    whitening = Whitening.of(training)
    known = prints(training, whitening)
    with Progress(len(held_out) + len(made), "looking for copies", "images") as progress:
        real, _ = likeness(prints(held_out, whitening), known, progress.update)
        limit = threshold(real, held_out.patients, FALSE_ALARMS)
        found, where = likeness(prints(made, whitening), known, lambda done: progress.update(len(held_out) + done))
    copied = found > limit.likeness
    pairs = [CopyPair(synthetic=int(k), training=int(where[k]), likeness=round(float(found[k]), 4),
                      rarity=float((real >= found[k]).mean()), copy=bool(copied[k]))
             for k in np.argsort(-found, kind="stable")[:KEPT]]
    return Copies(count=int(copied.sum()), share=share_of(int(copied.sum()), len(found)),
                  threshold=limit.likeness, expected=limit.expected, by=LIKENESS, pairs=pairs,
                  chance=limit.chance(int(copied.sum()), len(found)), nearness=_nearness(made, members, held_out))


def _nearness(made: Rows, members: Side, held_out: Side) -> list[Nearness]:
    """In features and in low-resolution pixels, with as many training as held-out images: of more one lies nearer."""
    few = np.sort(np.random.default_rng(0).permutation(len(held_out))[:len(members)])
    held_out = replace(held_out, rows=held_out.rows[few], patients=held_out.patients[few])
    seen, unseen = describe(members, members.patients), describe(held_out, held_out.patients)
    synthetic = describe(made, np.arange(len(made)))
    found = []
    for name, space in ((NAME, "features"), ("pixels", "thumbnails")):
        images = getattr(synthetic, space)
        near, _ = nearest(images, getattr(seen, space))
        far, _ = nearest(images, getattr(unseen, space))
        to_seen = squared_distances(images, getattr(seen, space))
        to_unseen = squared_distances(images, getattr(unseen, space))
        pairs, units = paired_halves(seen.patients, unseen.patients, 30, 0)
        parts = [_closer(to_seen[:, i].min(1), to_unseen[:, j].min(1)) for i, j in pairs]
        closer = estimate(_closer(near, far), parts, units, low=0.0, high=1.0)
        apart = ratio(float(np.median(near)), float(np.median(far)))
        found.append(Nearness(by=name, ratio=apart, closer=closer))
    return found


def _closer(near: NDArray[np.floating], far: NDArray[np.floating]) -> float:
    return float((near < far).mean() + 0.5 * (near == far).mean())
