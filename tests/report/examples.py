"""Results, an audit and a study of usefulness as the verbs write them, and a reader of the page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from radsynth.verbs.report import report

MEASURED: dict[str, Any] = {
            "title": "Fréchet distance", "meaning": "A meaning.", "better": "closer to floor", "unit": "",
            "features": "net", "n": 60, "value": 120.0,
            "low": 110.0, "high": 130.0, "floor": 20.0, "floor_low": 18.0, "floor_high": 22.0}
SHARE: dict[str, Any] = MEASURED | {
                    "unit": "share", "value": 0.5, "low": 0.4, "high": 0.6, "floor": 0.9, "floor_low": 0.85,
                    "floor_high": 0.95}
ALIKE = SHARE | {"value": 0.01, "low": 0.0, "high": 0.03, "floor": 0.01, "floor_low": 0.0, "floor_high": 0.02,
                 "better": "lower"}
RESULTS: dict[str, Any] = {
    "version": 1, "refused": [],
    "measurements": [MEASURED | {"name": "frechet_distance"}, *(SHARE | {"name": name, "title": name}
                     for name in ("precision", "recall", "coverage")), ALIKE | {"name": "copies", "value": 0.0},
                     ALIKE | {"name": "near_copies_features"}, ALIKE | {"name": "near_copies_pixels"}],
    "context": {"images": 60, "held_out_images": 60, "held_out_patients": 30, "training_images": 100,
                "training_searched": 100, "synthetic_images": 80, "features": "net", "repetitions": 20,
                "interval": "95 %, half-samples of patients", "seed": 0,
                "real_pictures": True, "warnings": ["Only 3 held-out patients: mind."], "virtual": False,
                "data_hash": "d"},
    "histogram": {"low": 0, "high": 255, "units": "grey levels", "real": [0.5, 0.5], "synthetic": [0.4, 0.6]},
    "classes": {name: {"images": 30, "measurements": [MEASURED | {"name": "frechet_distance", "value": value}],
                       "refused": []} for name, value in (("left lung", 40.0), ("right lung", 80.0))},
    "neighbours": [{"synthetic": 4, "training": 7, "by": "pixels", "distance": 0.4, "rarity": 0.0, "copy": False}],
}
SPEC: dict[str, Any] = {"spec": {"size": [16, 16], "modality": "MR", "virtual": False, "units": "stored"},
        "intensity": {"low": 0, "high": 255}, "counts": {"train": 100},
        "patients": {"train": 50}, "data_hash": "abc123"}


class Page(HTMLParser):
    """What a reader or a screen reader gets: tags of headings, anchors, texts, pictures without words, outer things."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.anchors: set[str] = set()
        self.silent: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.text = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.S)).replace("\u00a0", " ")

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors |= {str(given["id"])} if "id" in given else set()
        if tag == "img" and not given.get("alt"):
            self.silent.append(str(given))
        if tag in ("script", "link", "iframe"):
            self.outside.append(tag)
        self.outside += [v for k, v in attributes if k in ("src", "href") and v and not v.startswith(("data:", "#"))]
        if tag == "th" and "scope" not in given:
            self.silent.append("th without scope")
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)


def page(run: Path) -> Page:
    return Page(report(run).read_text(encoding="utf-8"))


AUC = {"value": 0.51, "low": 0.45, "high": 0.57}
STRENGTH = {"auc": AUC, "hits": {"value": 0.01, "low": 0.0, "high": 0.03}, "members": 45, "others": 45}
AUDIT: dict[str, Any] = {
    "verdict": "No more copies were found than among unseen patients' images.", "passed": True, "limits": ["A limit."],
    "copies": {"count": 0, "share": {"value": 0.0, "low": 0.0, "high": 0.02}, "expected": 0.0075, "threshold": 0.5,
               "nearness": [{"by": "features", "closer": {"value": 0.5, "low": 0.4, "high": 0.6}, "ratio": 1.0}],
               "pairs": [{"synthetic": 3, "training": 9, "likeness": 0.4, "rarity": 0.5, "copy": False},
                         {"synthetic": 5, "training": 2, "likeness": 0.9, "rarity": 0.0, "copy": True}]},
    "attacks": [{"name": "membership_nearness", "title": "Membership by nearness", "meaning": "A meaning.",
                 "main": STRENGTH, "control": STRENGTH, "baseline": STRENGTH, "found": False}],
    "refused": [], "context": {"synthetic_images": 80, "members": 45, "held_out_images": 45, "held_out_patients": 40},
}


def utility(low: float, high: float, value: float = 0.8) -> dict[str, Any]:
    """What a utility study writes, with this interval of the gain."""
    score = {"value": value, "low": value - 0.1, "high": value + 0.1}
    by_class = {"mean": score, "classes": [{"class": name, **score} for name in ("left lung", "right lung")]}
    gain = {"share": 1.0, "value": (low + high) / 2, "low": low, "high": high,
            "verdict": "helps" if low > 0 else "harms" if high < 0 else "open"}
    return {"kind": "classification", "metric": "balanced accuracy", "shares": [1.0], "seeds": 3, "steps": 200,
            "chance": 0.5, "version": 2,
            "network": "a small network", "interval": "95 %", "words": ["A sentence of the study."], "seconds": 60.0,
            "classes": ["left lung", "right lung"], "test": {"images": 60, "patients": 30},
            "arms": [{"share": 1.0, "arm": arm, "images": 100, "patients": 50, **score, "sensitivity": by_class}
                     for arm in ("real", "augmented", "both", "synthetic")],
            "differences": [gain | {"arm": arm, "against": other} for arm, other in (
                ("augmented", "real"), ("synthetic", "augmented"), ("both", "augmented"))]}


def add(run: Path, **documents: dict[str, Any]) -> None:
    for name, document in documents.items():
        (run / f"{name}.json").write_text(json.dumps(document))
