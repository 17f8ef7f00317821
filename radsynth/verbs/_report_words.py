"""The report's sentences and figures in words: what was learned from, what was made, how good it is, what it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FAR = 4
"""A number that is this many times its floor, or this many times below it, is called far from it."""
PERCENT = "\u00a0%"
USE = (
    "Meant for developing and testing methods, for teaching, and for enlarging training sets whose result is then "
    "tested on real patients. Not for diagnosis, and no replacement for real data in a clinical validation."
)
USE_IMAGES = (
    "Meant for developing and testing methods. A network of this kind can invent or remove findings: its results are "
    "no acquisition and not for diagnosis."
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One sentence of the summary. tone: "good", "note" or "warning"."""

    tone: str
    heading: str
    text: str


def figure(value: float, unit: str) -> str:
    """A number as a reader expects it: three digits, shares as percentages."""
    if unit == "share":
        return f"{100 * value:.0f}{PERCENT}" if value == 0 or value >= 0.0995 else f"{100 * value:.1f}{PERCENT}"
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 3)}f}".replace("-", "\u2212")
    return f"{text}\u00a0{unit}" if unit else text


def interval(low: float, high: float, unit: str) -> str:
    """Two numbers with a dash, the unit once."""
    if unit == "share":
        return f"{figure(low, unit).removesuffix(PERCENT)} to {figure(high, unit)}"
    return f"{figure(low, '')} to {figure(high, unit)}"


def verdict(one: dict[str, Any]) -> tuple[str, str]:
    """(tone, words): where a measurement lies relative to its floor, by their intervals."""
    if one["name"] == "copies" and one["value"] > 0:
        return "warning", "look at them"
    if one["low"] <= one["floor_high"] and one["floor_low"] <= one["high"]:
        return "good", "as real images" if one["better"] != "lower" else "as chance gives"
    above = one["value"] > one["floor"]
    if one["better"] == "lower":
        return ("warning", "above chance") if above else ("good", "below chance")
    if one["name"] == "training_distance" and above:
        return "note", "farther than real ones"
    if above and one["name"] in ("precision", "recall", "coverage"):
        return "good", "above real images"
    far = one["value"] > FAR * one["floor"] > 0 if above else one["value"] * FAR < one["floor"]
    return ("warning" if far else "note"), f"{'far ' if far else ''}{'above' if above else 'below'} real images"


def summary(spec: dict[str, Any] | None, results: dict[str, Any] | None) -> list[Line]:
    """The report in one minute."""
    lines = [_learned(spec)] if spec else []
    if results is None:
        return [*lines, Line(tone="note", heading="Quality", text="Nothing has been measured yet.")]
    if "pairs" in results:
        return [*lines, _against_truth(results["pairs"]), Line(tone="plain", heading="Use", text=USE_IMAGES)]
    found = {one["name"]: one for one in results["measurements"]}
    context = results["context"]
    lines.append(Line(tone="plain", heading="Made", text=(
        f"{_count(context['synthetic_images'], 'synthetic image')}; {context['images']:,} of them were compared with "
        f"as many real images{_of_patients(context)} that training never saw.")))
    lines += [line for line in (_realism(found), _variety(found), _copies(found)) if line]
    if results["refused"]:
        lines.append(Line(tone="warning", heading="Not measured", text=_refused(results["refused"])))
    lines += [Line(tone="note", heading="Mind", text=text) for text in context["warnings"]]
    return [*lines, Line(tone="plain", heading="Use", text=USE)]


def _against_truth(pairs: dict[str, Any]) -> Line:
    """Whether the run beats every method without a network, in every number."""
    gains = [(number["title"], line) for number in pairs["numbers"] for line in number["methods"] if "gain" in line]
    lost = sorted({f"{title} ({line['method']})" for title, line in gains if line["gain"]["low"] <= 0})
    if not lost:
        return Line(tone="good", heading="Quality",
                    text="In every number the results are nearer to the truth than those of methods without a network.")
    text = f"Not better than a method without a network: {', '.join(lost)}."
    return Line(tone="warning", heading="Quality", text=text)


def _of_patients(context: dict[str, Any]) -> str:
    """Nothing where every image counts as a patient: the source may not have told them apart."""
    patients = context["held_out_patients"]
    if patients == context["images"]:
        return ""
    return f" of {_count(patients, 'virtual patient' if context['virtual'] else 'patient')}"


def _learned(spec: dict[str, Any]) -> Line:
    size = "\u00a0\u00d7\u00a0".join(str(side) for side in spec["spec"]["size"])
    images, patients = spec["counts"].get("train", 0), spec["patients"].get("train", 0)
    what = {"MR": "MR ", "CT": "CT "}.get(spec["spec"]["modality"], "")
    if spec["spec"]["virtual"]:
        source = (f"{images:,} {what}images of {_count(patients, 'virtual patient')}: made from a public template, "
                  "not from anybody")
    else:
        source = f"{images:,} {what}images" + (f" of {_count(patients, 'patient')}" if 0 < patients < images else "")
        if patients == images:
            size += "; each counted as a patient of its own"
    return Line(tone="plain", heading="Learned from", text=f"{source} ({size}).")


def _realism(found: dict[str, dict[str, Any]]) -> Line | None:
    distance, precision = found.get("frechet_distance"), found.get("precision")
    if distance is None or precision is None:
        return None
    times = distance["value"] / max(distance["floor"], 1e-9)
    tone, _ = verdict(distance)
    if tone == "good":
        first = "As a group they cannot be told from unseen real images at this number of images"
    else:
        first = f"As a group they lie {times:.1f} times as far from unseen real images as other real images do"
    return Line(tone=tone, heading="Realism", text=(
        f"{first} (Fr\u00e9chet distance {figure(distance['value'], '')}, real against real "
        f"{figure(distance['floor'], '')}). One by one, {figure(precision['value'], 'share')} lie where real images "
        f"lie; of real images themselves {figure(precision['floor'], 'share')} do."))


def _variety(found: dict[str, dict[str, Any]]) -> Line | None:
    recall, coverage = found.get("recall"), found.get("coverage")
    if recall is None or coverage is None:
        return None
    tone = max((verdict(one)[0] for one in (recall, coverage)), key=("good", "note", "warning").index)
    return Line(tone=tone, heading="Variety", text=(
        f"{figure(coverage['value'], 'share')} of the unseen real images have a synthetic one close by (real against "
        f"real {figure(coverage['floor'], 'share')}); {figure(recall['value'], 'share')} lie within the range of the "
        f"synthetic ones (real against real {figure(recall['floor'], 'share')})."))


def _copies(found: dict[str, dict[str, Any]]) -> Line | None:
    copied = found.get("copies")
    if copied and copied["value"] > 0:
        return Line(tone="warning", heading="Copies", text=(
            f"{_count(round(copied['value'] * copied['n']), 'synthetic image')} of {copied['n']:,} look copied: less "
            "than half as far from a training image as any unseen patient's image is. Look at them below, and do not "
            "share this data set as it is."))
    both = [found[name] for name in ("near_copies_features", "near_copies_pixels") if name in found]
    if not both:
        return None
    worst = max(both, key=lambda one: one["value"])
    chance = f"{figure(worst['value'], 'share')} at most, chance gives about {figure(worst['floor'], 'share')}"
    if any(verdict(one)[0] == "warning" for one in both):
        return Line(tone="warning", heading="Copies", text=(
            f"More synthetic images lie close to a training image than chance explains ({chance}). "
            "Look at the closest pairs below before sharing anything."))
    return Line(tone="good", heading="Copies", text=(
        f"No more synthetic images lie close to a training image than chance explains ({chance}). "
        "This is no proof of privacy: it only looks for near copies."))


def _refused(refused: Sequence[dict[str, str]]) -> str:
    reasons = dict.fromkeys(one["reason"] for one in refused)
    names = ", ".join(dict.fromkeys(one["title"] for one in refused))
    return f"{names}. " + " ".join(reasons)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
