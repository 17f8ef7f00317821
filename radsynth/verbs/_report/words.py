"""Figures, intervals and the verdict on a single number, as a reader expects them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from radsynth.tasks._differential import never_less

FAR = 4
"""A number that is this many times its floor, or this many times below it, is called far from it."""
LOGARITHMS = ("radiomics_distance",)
"""Numbers that are logarithms: a difference is a factor."""
IMAGENET = "its 1008 classes"
"""What the name of a measurement's classifier says where its classes are those of photographs."""
PERCENT = "\u00a0%"


def figure(value: float, unit: str) -> str:
    """A number as a reader expects it: three digits, shares as percentages."""
    if unit == "share":
        return _percentage(100 * value) + PERCENT
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    tiny = 0 < abs(value) < 5e-4  # would be 0.000
    text = f"{value:.6f}".rstrip("0").rstrip(".") if tiny else f"{value:,.{min(digits, 3)}f}"
    text = text.replace("-", "\u2212")
    return f"{text}\u00a0{unit}" if unit else text


def _percentage(value: float) -> str:
    """0 and 100 are said of none and of all alone: one copy in 5,000 images is no 0 %."""
    if value < 0:
        return f"\u2212{_percentage(-value)}"
    if 0 < value < 0.05:
        return f"{value:.1g}"
    if 99.5 <= value < 100:
        return f"{min(value, 99.9):.1f}"
    return f"{value:.0f}" if value == 0 or value >= 9.95 else f"{value:.1f}"


def interval(low: float, high: float, unit: str) -> str:
    """Two numbers with a dash, the unit once."""
    if unit == "share":
        return f"{figure(low, unit).removesuffix(PERCENT)} to {figure(high, unit)}"
    return f"{figure(low, '')} to {figure(high, unit)}"


def privacy_bound(found: dict[str, Any]) -> str:
    """What differential privacy promises, from the facts of the weights; "" without a bound. Never rounded down."""
    bound = found.get("privacy") or {}
    if not bound.get("epsilon"):
        return ""
    return f"epsilon {never_less(bound['epsilon']):g} at delta {bound['delta']:g}"


def odds(epsilon: float) -> str:
    """e to the power of epsilon, by which the odds of any conclusion change at most, in two digits, rounded up."""
    factor = math.exp(epsilon)
    step = 10.0 ** (math.floor(math.log10(factor)) - 1)
    most = math.ceil(factor / step) * step
    return f"{most:,.1f}" if most < 10 else f"{most:,.0f}" if most < 1e9 else f"{most:.1e}"


NEARLY = 0.9
"""Share of its floor below which an agreement with masks is not called alike: intervals of few images hold anything."""
UNDECIDED = "not decided"
SEEN = 0.3
"""Overlap (Dice) in real images below which a segmenter is no judge of others."""


def verdict(one: dict[str, Any]) -> tuple[str, str]:
    """(tone, words): where a measurement lies relative to its floor, by their intervals."""
    if one["name"] == "copies" and one["value"] > 0:
        return "warning", "look at them"
    if one["name"] == "inception_score" and (blind := _blind(one)):
        return "note", blind
    if one["name"] == "mask_agreement" and one["floor"] < SEEN:
        return "note", "cannot tell: masks hardly found in real images"
    if one["name"] == "mask_agreement" and _alike(one) and one["value"] < NEARLY * one["floor"]:
        return "note", UNDECIDED
    if _alike(one):
        return "good", "as real images" if one["better"] != "lower" else "as chance gives"
    above = one["value"] > one["floor"]
    if one["better"] == "down to floor" and not above:
        return "good", "as real images"
    if one["better"] == "lower":
        return ("warning", "above chance") if above else ("good", "below chance")
    if one["name"] == "training_distance" and above:
        return "note", "farther than real ones"
    if above and one["name"] in ("precision", "recall", "coverage"):
        return "good", "above real images"
    far = _times(one) > FAR if above else one["value"] * FAR < one["floor"]
    return ("warning" if far else "note"), f"{'far ' if far else ''}{'above' if above else 'below'} real images"


def _blind(one: dict[str, Any]) -> str:
    """Why a likeness in the Inception Score says nothing; "" where it does say something.

    1 is the score where all images look alike to the classifier: it is blind where it cannot tell a set that has lost
    half of what lies between that and real images.
    """
    if not _alike(one):
        return ""
    if IMAGENET in one.get("features", ""):
        return "not the classes of these images"
    lost = (1 - one["floor"]) / 2
    least = one["excess_low"] if one.get("excess_low") is not None else one["low"] - one["floor"]
    return "" if least > lost else "cannot tell: classes hardly found"


def _times(one: dict[str, Any]) -> float:
    """How many times its floor a number is. Where real images may give 0, a floor that lies near it by chance is no
    measure: then how many times the upper end of the floor's interval."""
    if one["name"] in LOGARITHMS:
        return math.exp(one["value"] - one["floor"])
    base = one["floor"] if one["floor_low"] > 0 else one["floor_high"]
    return float(one["value"] / base) if base > 0 else 0.0


def _alike(one: dict[str, Any]) -> bool:
    """Whether value and floor can be the same: by the interval of their difference, else by their own intervals."""
    if one.get("excess_low") is not None and one.get("excess_high") is not None:
        return bool(one["excess_low"] <= 0 <= one["excess_high"])
    return bool(one["low"] <= one["floor_high"] and one["floor_low"] <= one["high"])


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where that is due."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def named(name: str) -> str:
    """A name as it can stand beside numbers: one that is written from the right would change sides with them."""
    from_right = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)
    return f"\u2068{name}\u2069" if from_right else name


def level(value: float) -> str:
    """A grey value, which is a whole number in most data."""
    return f"{value:,.0f}".replace("-", "\u2212") if float(value).is_integer() else figure(value, "")


def reach(spec: dict[str, Any], intensity: dict[str, Any]) -> str:
    """The values that images can have, of each channel where each has its own, and their unit. Arguments as in
    spec.json."""
    units = "grey levels" if spec.get("units", "stored") == "stored" else spec["units"]
    ranges = dict(zip(spec["channels"], intensity["ranges"], strict=True)) if intensity.get("ranges") else {
        "": (intensity["low"], intensity["high"])}
    return ", ".join(f"{name} {level(low)} to {level(high)}".strip() for name, (low, high) in ranges.items()
                     ) + f" {units}"


def duration(seconds: float) -> str:
    """A time as people say it."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def sides(size: Sequence[float]) -> str:
    """A size or a spacing: its numbers with crosses between them."""
    return "\u00a0\u00d7\u00a0".join(f"{side:.4g}" if side < 1e4 else f"{side:.0f}" for side in size)


def extent(size: Sequence[int]) -> str:
    """The size of an image in pixels, of a volume in voxels."""
    return f"{sides(size)}\u00a0{'voxels' if len(size) == 3 else 'pixels'}"


def format_name(kind: str) -> str:
    """A file format as people call it."""
    return {"dicom": "DICOM", "nifti": "NIfTI", "metaimage": "MetaImage", "picture": "PNG or TIFF",
            "png": "PNG", "tiff": "TIFF", "npz": "NPZ"}.get(kind, kind)
