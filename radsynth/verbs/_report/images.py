"""The report's pictures of images: samples beside real ones, results beside the truth, closest pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.verbs._applying.limits import BY_CROPS, FROM, false_alarms
from radsynth.verbs._grid import apart, greys
from radsynth.verbs._report import pictures
from radsynth.verbs._report.landmarks import unlike
from radsynth.verbs._report.words import count, extent, figure, interval, level, reach, sides
from radsynth.verbs._run_files import Missing, RunFiles

COLUMNS = 6
EMPTY = 40
"""Grey of a sheet's places without an image."""
VOLUMES = 12
"""Volumes on a sheet at most: each is three slices."""
AT_ONCE = 6
"""Rows of results against the truth that are shown at once: the numbers come below them."""


def sheets(files: RunFiles) -> list[dict[str, str]]:
    """Real and synthetic images as two sheets of the same layout."""
    found = {name: files.array(name) for name in ("real", "synthetic")}
    if found["synthetic"] is None:
        raise Missing("No pictures were kept in this run folder.")
    most = min(len(array) for array in found.values() if array is not None)
    most = most if found["synthetic"].ndim == 4 else min(most, VOLUMES)
    columns = min(columns_of(found["synthetic"], files), most)
    shown = {name: pictures.evenly(array, columns, most, files.spacing, colour=files.colour)
             for name, array in found.items() if array is not None}
    who = "Virtual patients" if files.virtual else "Real: patients"
    captions = {"real": f"{who} that training never saw", "synthetic": "Synthetic"}
    return [{"kind": name, "caption": captions[name], "scale": _scale(files),
             "image": pictures.sheet(array, columns, files.spacing, colour=files.colour),
             "alt": f"{len(array)} {'real' if name == 'real' else 'synthetic'} images in rows of {columns}"}
            for name, array in shown.items()]


def columns_of(images: NDArray[np.uint8], files: RunFiles) -> int:
    """How many images stand in a row: less where each is several pictures, slices or channels."""
    if images.ndim > 4:
        return 2
    return COLUMNS if files.colour else max(1, COLUMNS // images.shape[1])


def _scale(files: RunFiles) -> str:
    """Pixels, their size, and which value is black and which is white."""
    document = files.get("spec.json")
    if not {"spec", "intensity"} <= document.keys():
        return ""
    spec = document["spec"]
    step = f" of {sides(spec['spacing'])} mm" if spec.get("spacing") else ""
    told = apart(len(spec["size"]), files.channels)
    return f"{extent(spec['size'])}{step}; {_ends(document, _window(files))}. {told}".rstrip()


def _ends(document: dict[str, Any], window: list[float] | None) -> str:
    """The values that are black and white. document: spec.json"""
    spec, grey = document["spec"], document["intensity"]
    units = "grey levels" if spec.get("units", "stored") == "stored" else spec["units"]
    if not window and grey.get("ranges"):
        return (f"black to white is {reach(spec, grey)} (medians: each channel of each real image is shown between "
                "percentiles of its own)")
    low, high = window or (grey["low"], grey["high"])
    own = not window and grey.get("method") == "percentiles"
    return (f"black is {level(low)}, white {level(high)} {units}"
            f"{' (medians: each real image is shown between percentiles of its own)' if own else ''}")


def masked(files: RunFiles) -> dict[str, str] | None:
    """Masks above the images made of them, and above those of the patients; None where no masks are made."""
    array = files.array("masks")
    if array is None:
        return None
    array = array if array.ndim == 5 else array[:, :, None]  # of older versions, which kept the first channel alone
    own = f"the {'virtual patient' if files.virtual else 'patient'}'s own"
    kinds = ["the synthetic image", f"{own} image, which training never saw"][:array.shape[1] - 1]
    parts = [array] if files.colour else [array[:, :, [k]] for k in range(array.shape[2])]
    rows = np.concatenate([parts[0][:, :1], *(part[:, 1:] for part in parts)], axis=1).swapaxes(0, 1)
    empty = max(0, COLUMNS - len(array))  # a pair alone would be as wide as the page
    rows = np.pad(rows, [(0, 0), (0, empty), *[(0, 0)] * (rows.ndim - 2)], constant_values=EMPTY)
    several = f"for each of {', '.join(files.channels)}: " if len(parts) == len(files.channels) > 1 else ""
    told = f"the mask; {several}{' and '.join(kinds)}" if several else ", ".join(["the mask", *kinds])
    return {"image": pictures.sheet(rows.reshape(-1, *rows.shape[2:]), rows.shape[1], files.spacing),
            "alt": f"Rows of {len(array)}: {told}",
            "caption": " ".join(filter(None, [f"From top to bottom: {told}.", _greys(files), _black_of_images(files)]))}


def _black_of_images(files: RunFiles) -> str:
    """The grey window of images that stand beside masks; empty where nobody knows it."""
    document = files.get("spec.json")
    return (f"Of images, {_ends(document, _window(files))}."
            if {"spec", "intensity"} <= document.keys() else "")


def _window(files: RunFiles) -> list[float] | None:
    """The window that pictures are shown in, in the images' units; None for the whole range."""
    results = files.get("results.json")
    found: list[float] | None = results.get("context", results).get("window")
    return found


def _greys(files: RunFiles) -> str:
    """Which label is which grey in pictures of label maps; empty where nobody knows, or they are too many to tell."""
    spec = files.get("spec.json").get("spec", {})
    values = spec.get("mask_values") or range(spec.get("mask_classes", 0))
    return greys(spec.get("mask_names") or [f"label {value}" for value in values])


def pairs(files: RunFiles) -> dict[str, Any] | None:
    """Results against the truth, for a task from image to image; None for others."""
    results = files.get("results.json")
    found = results.get("pairs")
    if not found:
        return None
    array = files.array("pairs")
    # They lie in the order of the split: every second one is of all patients, too.
    parts = () if array is None else (array,) if len(array) <= AT_ONCE else (array[::2], array[1::2])
    sheets = [pictures.sheet(part.reshape(-1, 1, *part.shape[2:]), part.shape[1], files.spacing) for part in parts]
    return {"same_patient": False, **found, "rows": _rows(found["numbers"]), "pictures": sheets,
            "crops": files.of_crops, "greys": _greys(files) if found["task"] == "segment" else "",
            "shown": _shown(files, found),
            "unlike": unlike(results) if found["task"] == "register" else "",
            "ratios": [f"{pictures.ratio(one):.3f}" for one in sheets]}


def _shown(files: RunFiles, found: dict[str, Any]) -> str:
    """How the images of results against the truth are shown."""
    document = files.get("spec.json")
    if not {"spec", "intensity"} <= document.keys():
        return ""
    told = ["Of each volume the middle slice is shown."] if len(document["spec"]["size"]) == 3 else []
    told.append(f"Of images, {_ends(document, found.get('window'))}.")
    if found["task"] == "register":
        told.append("Differences: black is none, white one as large as from black to white.")
    return " ".join(told)


def findings(files: RunFiles) -> list[dict[str, Any]] | None:
    """What a segmenter finds in results that have no truth, and in what was given; None for others."""
    found = files.get("results.json").get("findings")
    return _rows(found) if found else None


def _rows(numbers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    alone = " All images that count are of one patient: the interval does not tell how patients differ."
    return [{"title": number["title"], "meaning": number["meaning"] + alone * number.get("of_one_patient", False),
             "better": number["better"], "methods": [_method(line, number["unit"]) for line in number["methods"]]}
            for number in numbers]


def doubts(files: RunFiles) -> dict[str, Any] | None:
    """The most doubtful results with what speaks against them, for a task from image to image; None for others."""
    found, array = files.get("results.json").get("doubts"), files.array("doubts")
    results = files.get("results.json")
    if not found or (array is None and results.get("real_pictures") is not False):
        return None
    rows = [] if array is None else [{"flags": flags, "image": pictures.sheet(array[k], array.shape[1], files.spacing)}
                                     for k, flags in enumerate(found["flags"])]
    of_whole = results.get(BY_CROPS) and results["limits"]
    return {"columns": found["columns"], "rows": rows, "chance": false_alarms(found.get(FROM, 0)),
            "slices": found.get("slices"),
            "of_whole": false_alarms(results.get(FROM, 0)) if of_whole else "", "crops": files.of_crops,
            "worth": _worth(found, files.of_crops) if "flagged" in found else ""}


def _worth(found: dict[str, Any], crops: bool) -> str:
    """How much worse flagged results are than others, and how many labels that are lost or made up are flagged."""
    flagged, caught = (f"{found.get(key, 0):,} {'is' if found.get(key) == 1 else 'are'} flagged"
                       for key in ("flagged", "wrong_flagged"))
    one = "crop" if crops else "image"
    text = f"Of {count(found['images'], one)} {flagged}."
    if found["of_flagged"] is not None and found["of_others"] is not None:
        text += (f" {found['error']}: {figure(found['of_flagged'], found['unit'])} of these, "
                 f"{figure(found['of_others'], found['unit'])} of the others.")
    if found.get("order"):
        ranks = ", ".join(f"{name} {value:.2f}" for name, value in found["order"].items())
        text += (f" Rank correlation of each check with the {found['error'].lower()} (1: it puts {one}s in the order "
                 f"of their errors; 0: it says nothing about them): {ranks}.")
    if found.get("wrong"):
        text += (f" In {count(found['wrong'], one)} the segmenter misses a whole label that it finds in the truth, "
                 f"or finds one that is not there; of these {caught}.")
    return text


def _method(line: dict[str, Any], unit: str) -> dict[str, Any]:
    gain = line.get("gain")
    verdict = "" if gain is None else "beaten" if gain["low"] > 0 else "better" if gain["high"] < 0 else "not decided"
    return {"name": line["method"], "value": figure(line["value"], unit), "verdict": verdict,
            "interval": interval(line["low"], line["high"], unit if unit == "share" else "")}


def walks(files: RunFiles) -> list[dict[str, Any]]:
    """The sheets of `radsynth control` and `radsynth explain`, and what they found in words; empty without them."""
    found = []
    for place, title in (("control", "Steering"), ("explain", "Explanation")):
        document = files.get(f"{place}/{place}.json")
        sheets = [{"image": image, "alt": f"{title}: {name.replace('_', ' ')}"}
                  for name in document.get("pictures", []) if (image := files.picture(f"{place}/{name}"))]
        if document:
            found.append({"title": title, "words": document.get("words", []), "sheets": sheets})
    return found
