"""What the checks of single results are worth (`_applying.doubts`): flagged images beside the others, by the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.verbs._applying.segmenter import LEAST
from radsynth.verbs._pairs.found import OWN, TRUE, Found
from radsynth.verbs._pairs.label_baselines import Labels


def checked(doubts: dict[str, NDArray[np.float64]], usual: dict[str, float], error: Found, labels: dict[str, Labels],
            ) -> dict[str, Any]:
    """How many images are flagged, and how far they are from the truth, in the mean, beside the others; the rank
    correlation of each check with the error ("order", 0: it tells nothing).

    labels: of results and of true images, by a segmenter, {} without one; with them also in how many images a whole
    label is missing or made up, and how many of these are flagged.
    """
    flagged = np.any([doubts[name] > limit for name, limit in usual.items()], axis=0)
    errors = error.values[OWN]
    document: dict[str, Any] = {
        "images": len(flagged), "flagged": int(flagged.sum()), "error": error.title, "unit": error.unit,
        "of_flagged": float(errors[flagged].mean()) if flagged.any() else None,
        "of_others": float(errors[~flagged].mean()) if not flagged.all() else None,
        "order": {name: _rank_correlation(doubts[name], errors) for name in usual}}
    if labels:
        wrong = lost_or_made_up(labels[OWN], labels[TRUE])
        document |= {"wrong": int(wrong.sum()), "wrong_flagged": int((wrong & flagged).sum())}
    return document


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's of the images that have both, from -1 to 1; 0 where one of the two never differs."""
    from scipy.stats import spearmanr

    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    return float(spearmanr(first, second).statistic) if len(first) and np.ptp(first) and np.ptp(second) else 0.0


def lost_or_made_up(found: Labels, truths: Labels) -> NDArray[np.bool_]:
    """(n,) whether a label covers at least LEAST pixels of one label map (*space) and none of the other."""
    axes = tuple(range(1, truths.ndim))
    wrong = np.zeros(len(truths), bool)
    for value in np.union1d(found, truths):
        ours, true = (found == value).sum(axes), (truths == value).sum(axes)
        wrong |= (np.maximum(ours, true) >= LEAST) & (np.minimum(ours, true) == 0)
    return wrong
