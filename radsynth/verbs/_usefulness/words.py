"""What a utility study found, in words: whether synthetic images help, and plainly when they do not."""

from __future__ import annotations

from typing import Any

MARGIN = 0.02
"""Differences within this much (2 points of 100) are called none when the whole interval is."""
SOLVED = 0.985
"""From this score on a task leaves nothing to gain."""
LEARNED = {"classification": 0.1, "segmentation": 0.3}
"""What the score of all real images must exceed chance by, or the comparison says nothing. Cardiac masks
of a U-Net of 94 steps overlap by 0.19, and it has hardly begun."""
MANY_SEEDS = 5


def verdict(low: float, high: float) -> str:
    """"helps", "harms", "no difference" or "open", by the interval of a difference (positive is better)."""
    if low > 0:
        return "helps"
    if high < 0:
        return "harms"
    return "no difference" if low >= -MARGIN and high <= MARGIN else "open"


def learned(document: dict[str, Any], value: float) -> bool:
    """Whether this score, of all real images, shows that the task was learned at all."""
    return bool(value >= document["chance"] + LEARNED[document["kind"]])


def points(value: float) -> str:
    """A difference of scores in points of 100, with its sign."""
    return f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", "\u2212")  # 0 has no sign of its own


def per_cent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.1f} %"


def of_share(share: float) -> str:
    """How much of the real data, as a reader says it."""
    return "all real training patients" if share == 1 else f"{100 * share:g} % of the real training patients"


def sentences(document: dict[str, Any]) -> list[str]:
    """The findings, most important first; every sentence stands alone."""
    found = [_share_sentence(document, share) for share in reversed(document["shares"])]
    found.append(_alone(document))
    return found + _limits(document)


def _arm(document: dict[str, Any], share: float, name: str) -> dict[str, Any]:
    return next(arm for arm in document["arms"] if arm["share"] == share and arm["arm"] == name)


def _difference(document: dict[str, Any], share: float, name: str, against: str) -> dict[str, Any]:
    return next(line for line in document["differences"]
                if (line["share"], line["arm"], line["against"]) == (share, name, against))


def _share_sentence(document: dict[str, Any], share: float) -> str:
    own, both = _arm(document, share, "augmented"), _difference(document, share, "both", "augmented")
    plain = _arm(document, share, "real")
    start = (f"With {of_share(share)} ({own['images']:,} images) and classical augmentation, {document['metric']} is "
             f"{per_cent(own['value'])} ({per_cent(plain['value'])} without augmentation)")
    if own["value"] >= SOLVED and both["verdict"] != "harms":
        return f"{start}: the task is solved without synthetic images, so there is nothing that they could add."
    change = f"{points(both['value'])} points (95 % interval {points(both['low'])} to {points(both['high'])})"
    return {
        "helps": f"{start}; adding synthetic images helps: {change}.",
        "harms": f"{start}; adding synthetic images makes it worse: {change}.",
        "no difference": f"{start}; adding synthetic images does not help: {change}, no difference that matters.",
        "open": f"{start}; that adding synthetic images helps is not shown: {change}, an interval that includes zero.",
    }[both["verdict"]]


def _alone(document: dict[str, Any]) -> str:
    line, arm = _difference(document, 1.0, "synthetic", "augmented"), _arm(document, 1.0, "synthetic")
    told = {"helps": "is better than", "harms": "is worse than", "no difference": "is as good as",
            "open": "is not shown to differ from"}[line["verdict"]]
    return (f"Trained on synthetic images alone, {document['metric']} on real patients is {per_cent(arm['value'])}, "
            f"which {told} training on all real patients ({points(line['value'])} points, {points(line['low'])} to "
            f"{points(line['high'])}).")


def _limits(document: dict[str, Any]) -> list[str]:
    limits = [
        f"Every training took {document['steps']} optimiser steps of {document['batch']} images, whatever it learned "
        "from, and nothing was tuned for one of them.",
    ]
    if document["generator_saw"] == "all":
        limits.append("The generator had learned from all real training patients: at a smaller share the comparison is "
                      "that of a hospital which has few patients and is given synthetic images of others, not that of "
                      "a generator trained on the few.")
    else:
        limits.append("Who made the synthetic images, and from which patients, is not known: their generator may have "
                      "seen the test patients.")
    real = _arm(document, 1.0, "augmented")
    if not learned(document, real["value"]):
        limits.append(f"{document['metric'].capitalize()} is as little as {per_cent(real['value'])} even with all real "
                      "images: the network has not learned the task in these steps, and the comparison says nothing. "
                      "Give it more time (utility.seconds) or fewer utility.shares.")
    if document["seeds"] < MANY_SEEDS:
        limits.append(f"Only {document['seeds']} repeats with other seeds: the intervals are rough.")
    if document["test"]["patients"] < 50:
        limits.append(f"Only {document['test']['patients']} test patients: small differences cannot be seen.")
    return limits
