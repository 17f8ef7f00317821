"""The report's evidence on privacy and usefulness: what `audit`, `utility` and readers found, and the closest pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics._privacy_attacks import guessed
from radsynth.verbs._grid import grid
from radsynth.verbs._report import pictures
from radsynth.verbs._report.facts import held_out, testable
from radsynth.verbs._report.words import UNDECIDED, figure, interval
from radsynth.verbs._run_files import Missing, RunFiles
from radsynth.verbs._usefulness.words import points

SHOWN = 8
"""Closest pairs on the page at most; the run folder has more."""
ARMS = {"real": "real images as they are", "augmented": "real images, augmented",
        "both": "real and synthetic images, augmented", "synthetic": "synthetic images alone, augmented"}


def audit(files: RunFiles) -> dict[str, Any]:
    """The audit: verdict, every attack beside its control and baseline, how near the images come, limits."""
    found = files.need("audit.json", "The run has not been audited: 'radsynth audit' tries to find copies and members."
                       if held_out(files) else "No image was held out, without which an audit can tell nothing.")
    attacks = [{"title": one["title"], "meaning": one["meaning"], "found": one["found"],
                "cells": [_auc(one[part]) for part in ("main", "control", "baseline")],
                "hits": _estimate(one["main"]["hits"], "share"), "beside": _beside(one)} for one in found["attacks"]]
    copies = found["copies"]
    return {"verdict": found["verdict"], "passed": found["passed"], "attacks": attacks, "limits": found["limits"],
            "refused": found["refused"], "context": found["context"],
            "copies": None if copies is None else _copies(copies, found["context"])}


def _copies(copies: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    return {"count": copies["count"], "of": context["synthetic_images"], "share": _estimate(copies["share"], "share"),
            "expected": figure(copies["expected"], "share"),
            "nearness": [{"by": "pixels" if one["by"] == "pixels" else "an image network's features",
                          "closer": _estimate(one["closer"], "share")} for one in copies["nearness"]]}


def _beside(attack: dict[str, Any]) -> list[str]:
    """What the hits have to be compared with: those of control and baseline, and of guessing."""
    control, baseline = (figure(attack[part]["hits"]["value"], "share") for part in ("control", "baseline"))
    return [f"control {control}", f"baseline {baseline}",
            f"chance {figure(guessed(attack['main']['others']), 'share')}"]


def _auc(strength: dict[str, Any]) -> dict[str, str]:
    return _estimate(strength["auc"], "")


def _estimate(one: dict[str, float], unit: str) -> dict[str, str]:
    return {"value": figure(one["value"], unit), "interval": interval(one["low"], one["high"], unit)}


def readers(files: RunFiles) -> dict[str, Any]:
    """The blinded reader study: every reader who has finished, then all together."""
    found = files.need("study/results.json", "No reader has judged these images: 'radsynth serve' offers a blinded "
                                             "reader study.")
    if not found["readers"]:
        raise Missing("No reader has finished the reader study yet.")
    rows = [{"reader": one["reader"], "cells": {
        "Called rightly": _estimate(one["accuracy"], "share"),
        "Area under the ROC curve": {"value": figure(one["area"], ""), "interval": ""},
        "Synthetic taken for real": _estimate(one["taken_for_real"], "share"),
        "Real called synthetic": _estimate(one["called_synthetic"], "share")}} for one in found["readers"]]
    rows.append({"reader": "All together", "cells": {
        "Called rightly": _estimate(found["accuracy"], "share"),
        "Area under the ROC curve": _estimate(found["area"], "")}})
    kappa = found["kappa"]
    return {**{key: found[key] for key in ("words", "images", "synthetic", "real")}, "rows": rows,
            "agreement": "" if kappa is None else f"Agreement beyond chance (Fleiss' kappa): {figure(kappa, '')}."}


def copies(files: RunFiles) -> dict[str, Any]:
    """The closest pairs: the audit's if there is one, which looks past shift, flip and contrast; else evaluation's.

    Pairs of which it can be said how rare they are go before others.
    """
    audit, results = files.get("audit.json"), files.get("results.json")
    audited = (audit.get("copies") or {}).get("pairs") or audit.get("closest")
    every = [("the audit", files.array("audit_pairs"), audited),
             ("the evaluation", files.array("neighbours"), results.get("neighbours"))]
    kept = [(by, array, pairs) for by, array, pairs in every if array is not None and pairs]
    if not kept:
        files.need("results.json", "Nothing has been measured yet.")
        raise Missing("No pictures of the closest pairs were kept in this run folder.")
    by, array, pairs = min(kept, key=lambda one: "rarity" not in one[2][0])
    how = ", at the best shift, flip, brightness and contrast" if "likeness" in pairs[0] else ""
    return {"by": by + how, "judged": "rarity" in pairs[0], **_pairs([_line(pair) for pair in pairs], array, files)}


def _pairs(lines: list[dict[str, Any]], array: NDArray[np.uint8], files: RunFiles) -> dict[str, Any]:
    """The pairs side by side, or one above the other where an image is several pictures in a row."""
    if len(lines) != len(array):
        raise Missing("The pictures of the closest pairs and their numbers do not belong together.")
    shown = [[pictures.flat(one, files.spacing, colour=files.colour) for one in pair] for pair in array[:SHOWN]]
    rows, columns = shown[0][0].shape[:2]
    above = columns > 2 * rows
    return {"places": ("above", "below") if above else ("left", "right"), "pairs": [
        {**line, "image": pictures.png(grid(np.stack(pair), 1 if above else 2))}
        for line, pair in zip(lines, shown, strict=False)]}


def _line(pair: dict[str, Any]) -> dict[str, Any]:
    alike = "likeness" in pair
    near = (f"likeness {pair['likeness']:.2f} (1 is the same image)" if alike else
            f"{pair['distance']:.2f} of the usual distance by {pair['by']}")
    rare = f"; {_rarity(pair)} as {'like' if alike else 'near'}" if "rarity" in pair else ""
    return {"copied": pair.get("copy", False), "text": f"Image {pair['synthetic']}: {near}{rare}.",
            "alt": f"Synthetic image {pair['synthetic']} beside training image {pair['training']}"}


def _rarity(pair: dict[str, Any]) -> str:
    if pair["rarity"] == 0:
        return "no image of an unseen patient is"
    return f"{figure(pair['rarity'], 'share')} of unseen patients' images are"


def usefulness(files: RunFiles) -> dict[str, Any]:
    """The utility study: scores by share of the real patients and by what was learned from; differences; by class."""
    found = files.need("utility.json", (
        "Not tested: 'radsynth utility' trains a classifier or segmenter on real, synthetic and both kinds of images, "
        "and tests it on unseen real patients." if testable(files) else
        "Not tested: this data has neither classes nor masks that a classifier or segmenter could learn."))
    rows = [{"share": f"{100 * arm['share']:g}\u00a0%" if arm["arm"] != "synthetic" else "none",
             "arm": ARMS[arm["arm"]], "images": f"{arm['images']:,}", **_estimate(arm, "share"),
             "gain": _gain(found, arm)} for arm in found["arms"] if arm["arm"] != "synthetic" or arm["share"] == 1.0]
    return {**{name: found[name] for name in ("kind", "metric", "network", "steps", "seeds", "words", "test",
                                              "interval")},
            "rows": rows, "classes": _by_class(found), "chart": files.picture("utility.png")}


def _gain(found: dict[str, Any], arm: dict[str, Any]) -> str:
    """The difference against the real images with classical augmentation, with its interval and what it means."""
    for line in found["differences"]:
        if (line["share"], line["arm"], line["against"]) == (arm["share"], arm["arm"], "augmented"):
            return (f"{points(line['value'])} points ({points(line['low'])} to {points(line['high'])}): "
                    f"{UNDECIDED if line['verdict'] == 'open' else line['verdict']}")
    return ""


def _by_class(found: dict[str, Any]) -> list[dict[str, Any]]:
    """With all real patients: the score of every class, by what was learned from."""
    score = "sensitivity" if found["kind"] == "classification" else "dice"
    arms = [arm for arm in found["arms"] if arm["share"] == 1.0]
    return [{"name": name, "cells": [{"arm": ARMS[arm["arm"]], **_estimate(arm[score]["classes"][index], "share")}
                                     for arm in arms]} for index, name in enumerate(found["classes"])]
