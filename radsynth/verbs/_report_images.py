"""The report's pictures of images: samples beside real ones, results beside the truth, closest pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from radsynth.verbs import _report_pictures as pictures
from radsynth.verbs._report_words import figure, interval
from radsynth.verbs._run_files import Missing, RunFiles

COLUMNS = 6


def sheets(files: RunFiles) -> list[dict[str, str]]:
    """Real and synthetic images as two sheets of the same layout."""
    found = {name: files.array(name) for name in ("real", "synthetic")}
    if found["synthetic"] is None:
        raise Missing("No pictures were kept in this run folder.")
    count = min(len(array) for array in found.values() if array is not None)
    columns = min(COLUMNS, count) if found["synthetic"].ndim == 4 else 2
    who = "Virtual patients" if files.virtual else "Real: patients"
    captions = {"real": f"{who} that training never saw", "synthetic": "Synthetic"}
    return [{"kind": name, "caption": captions[name], "image": pictures.sheet(array[:count], columns),
             "alt": f"{count} {'real' if name == 'real' else 'synthetic'} images in rows of {columns}"}
            for name, array in found.items() if array is not None]


def pairs(files: RunFiles) -> dict[str, Any] | None:
    """Results against the truth, for a task from image to image; None for others."""
    found = files.get("results.json").get("pairs")
    if not found:
        return None
    array = files.array("pairs")
    picture = None if array is None else pictures.sheet(array.reshape(-1, 1, *array.shape[2:]), array.shape[1])
    rows = [{"title": number["title"], "meaning": number["meaning"], "better": number["better"],
             "methods": [_method(line, number["unit"]) for line in number["methods"]]} for number in found["numbers"]]
    return {**found, "rows": rows, "picture": picture}


def _method(line: dict[str, Any], unit: str) -> dict[str, Any]:
    gain = line.get("gain")
    verdict = "" if gain is None else "beaten" if gain["low"] > 0 else "better" if gain["high"] < 0 else "equal"
    return {"name": line["method"], "value": figure(line["value"], unit), "verdict": verdict,
            "interval": interval(line["low"], line["high"], unit)}


def copies(files: RunFiles) -> list[dict[str, Any]]:
    """The closest pairs that the evaluation kept."""
    results = files.need("results.json", "Nothing has been measured yet.")
    array = files.array("neighbours")
    if array is None or not results["neighbours"]:
        raise Missing("No pictures of the closest pairs were kept in this run folder.")
    found = []
    for pair, (synthetic, training) in zip(results["neighbours"], array, strict=True):
        near = "no image of an unseen patient is" if pair["rarity"] == 0 else (
            f"{figure(pair['rarity'], 'share')} of unseen patients' images are")
        found.append({
            "image": pictures.png(np.concatenate([pictures.flat(synthetic), pictures.flat(training)], axis=1)),
            "alt": f"Synthetic image {pair['synthetic']} beside training image {pair['training']}",
            "copy": pair["copy"],
            "text": f"Image {pair['synthetic']}: {pair['distance']:.2f} of the usual distance by {pair['by']}; "
                    f"{near} as near.",
        })
    return found
