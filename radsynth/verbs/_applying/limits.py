"""What is usual of the numbers that speak against a result (`doubts.py`), by those of held-out images.

Images of one patient hang together, so that it is patients who are counted: in runs on slices of few patients one who
is unlike the others decides.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radsynth.verbs._applying.anatomy import segmenters
from radsynth.verbs._applying.doubts import NAMES, Doubts
from radsynth.verbs._run_files import RunFiles

Patients = NDArray[np.int64]
FALSE_ALARMS = 0.01
"""Share of a further patient's usual images above a limit, at most and in expectation, where patients are enough."""
ENOUGH = 99
"""Held-out patients that a limit with so few false alarms needs: of K, a further one is the most unusual of all with a
probability of 1 / (K + 1), and nothing is known of how far."""
BY_CROPS = "limits_by_crops"
"""What results.json calls it that its limits are of whole images, checked crop by crop."""
FROM = "limits_from_patients"
"""Where results.json says how many patients its limits rest on; older versions counted images."""


def limit(values: NDArray[np.float64], patients: Patients, rate: float = FALSE_ALARMS) -> float:
    """The lowest of held-out numbers (n,) above which at most this share of a further patient's images is, in
    expectation over patients; the largest where they are too few for that.

    Conformal prediction for groups (Lee, Barber and Willett 2023, "Distribution-free inference with hierarchical data";
    Dunn, Wasserman and Ramdas 2018): any order of patients is alike likely, while images of one are not independent.
    Each of K patients weighs 1 / (K + 1), shared among their images, and so does the further one, whose images may all
    be above the others': held-out images above the limit weigh at most rate - 1 / (K + 1). With one image a patient
    that is the ordinary conformal rule (Vovk, Gammerman and Shafer 2005). The largest number of all has images of a
    further patient above it with a probability of 1 / (K + 1).
    """
    _, of, images = np.unique(patients, return_inverse=True, return_counts=True)
    order = np.argsort(-values, kind="stable")
    weights = 1 / images[of[order]]
    above = np.cumsum(weights) - weights
    allowed = max(0.0, rate * (len(images) + 1) - 1)
    return float(values[order][np.flatnonzero(above <= allowed + 1e-9)[-1]])


def limits(found: Doubts, patients: Patients, share: float = 1, rate: float = FALSE_ALARMS) -> dict[str, float]:
    """What is usual on held-out images (n,): a `limit` for each number that the task has, by the images that have it.

    share: of each image that was looked at. A further one is looked at as a whole, and is 1 / share times as likely to
    be above a limit somewhere: patients count as `counted`, and set no limit where these are none.
    rate: as of `limit`
    """
    known = {name: np.isfinite(values) for name, values in found.items()}
    return {name: limit(found[name][there], patients[there], rate * share) for name, there in known.items()
            if counted(len(np.unique(patients[there])), share)}


def counted(patients: int, share: float) -> int:
    """As how many patients so many count of whose images only a share was looked at."""
    return max(0, math.floor(share * (patients + 1) + 1e-9) - 1)


def limits_from(found: Doubts, patients: Patients, share: float = 1) -> int:
    """How many patients the limit that rests on the fewest rests on; 0 without limits. share: as of `limits`"""
    counts = [counted(len(np.unique(patients[np.isfinite(values)])), share) for values in found.values()]
    return min((count for count in counts if count), default=0)


def false_alarms(patients: int, rate: float = FALSE_ALARMS) -> str:
    """What a check flags by chance, in words, where its limit rests on so many patients (0: nobody knows)."""
    enough, few = enough_for(rate), {FALSE_ALARMS: "a hundred"}.get(rate, f"{1 / rate:.0f}")
    if not patients:
        return ("an unknown share of usual images, because an older version set the limits, which took every image for "
                "one of a patient of its own ('radsynth run' with the same arguments sets them anew)")
    if patients >= enough:
        return f"at most one usual image in {few}"
    held_out = "1 held-out patient" if patients == 1 else f"{patients:,} held-out patients"
    return (f"images of one usual patient in {patients + 1:,}, because the limit is the largest number of {held_out}; "
            f"for one usual image in {few} it takes {enough} patients")


def enough_for(rate: float) -> int:
    """Held-out patients that a limit with such a rate of false alarms needs: as ENOUGH, for FALSE_ALARMS."""
    return round(1 / rate) - 1


def read_limits(run: Path, names: tuple[str, ...] = NAMES, target: str = "", crops: bool = False,
                ) -> tuple[dict[str, float], int]:
    """The limits of these numbers that were measured after training, none when they were not; and how many patients
    they rest on, 0 when nothing says so.

    target: of an unpaired translation, which is measured one way: what is usual there says nothing of the way back
    crops: only limits of whole images by their crops (`BY_CROPS`) will do; older versions measured those of crops
    """
    document = RunFiles(run).get("results.json")
    try:
        if target and document.get("direction", ["", target])[1] != target:
            return {}, 0
        if crops and not document.get(BY_CROPS):
            return {}, 0
        found = {name: float(document["limits"][name]) for name in names if name in document["limits"]}
        return found, int(document.get(FROM, 0))
    except (ValueError, KeyError, TypeError, IndexError):
        return {}, 0


def judged_by(run: Path) -> dict[str, object]:
    """What results are judged by that is measured and learned after the weights: limits, and segmenters of anatomy."""
    document = RunFiles(run).get("results.json")
    measured = {name: document.get(name) for name in ("limits", "direction", BY_CROPS, FROM)}
    return {**measured, "anatomy": segmenters(run)}


def flags(found: dict[str, float], usual: dict[str, float]) -> str:
    """The names of the numbers above their limits, separated by blanks; "unknown" when no limits were measured."""
    if not usual:
        return "unknown"
    return " ".join(name for name, highest in usual.items() if found[name] > highest)


def with_flag(others: str, flag: str) -> str:
    """The flags of an image and one more, which is known where no limits are."""
    return flag if others in ("", "unknown") else f"{others} {flag}"


def flagged_slices(found: Doubts, usual: dict[str, float], turned: bool = False) -> str:
    """The slices of a volume, from 0, in which a number is above its limit: "3-5 9"; empty for a single image.

    turned: the file counts them from the other end
    """
    above = np.any([found[name] > highest for name, highest in usual.items()], axis=0) if usual else np.zeros(1, bool)
    above = above[::-1] if turned else above
    if len(above) == 1:
        return ""
    places = np.flatnonzero(above)
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []
    return " ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
