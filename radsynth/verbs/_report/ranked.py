"""The page on several synthetic sets that `evaluate` ranked: who is first, how surely, and every number of all sets."""

from __future__ import annotations

from typing import Any

from radsynth.verbs._grid import apart
from radsynth.verbs._report import pictures
from radsynth.verbs._report.images import VOLUMES, columns_of
from radsynth.verbs._report.numbers import row
from radsynth.verbs._report.words import PERCENT, figure, interval, level
from radsynth.verbs._run_files import RunFiles

LIMITS = (
    "The order follows one number. A set can be first there and behind in another: read all numbers.",
    "A place is certain only against the sets named beside it. Between all others the difference may be chance.",
    "The order holds for these real images and this many of them. Numbers of other data, sizes or numbers of images "
    "must not be set beside it.",
    "Each set is one training. Another seed of the same recipe can come out elsewhere.",
    "A generator that repeats its training images would win. Audit a set before you share it.",
    "Nothing here says whether a set is useful: 'radsynth utility' measures that.",
)


def ranked(files: RunFiles) -> dict[str, Any]:
    """Everything that the page is filled with. KeyError and the like for files of another version."""
    found = files.get("results.json")
    measured = {name: {one["name"]: one for one in document["measurements"]}
                for name, document in found["sets"].items()}
    contexts = [document["context"] for document in found["sets"].values()]
    titles = {number["name"]: number["title"] for number in found["numbers"]}
    return {
        "title": titles.get(found["ordered_by"], ""), "lead": lead(found, titles),
        "copied": _copied(measured),
        "warnings": dict.fromkeys(text for context in contexts for text in context["warnings"]),
        "places": [_place(line, [measured[one["set"]][found["ordered_by"]] for one in found["ranking"]])
                   for line in found["ranking"]],
        "numbers": [_number(number, measured, found["differences"]) for number in found["numbers"]],
        "sheets": _sheets(files, list(found["sets"])), "scale": _scale(found),
        "refused": _refused(found), "context": contexts[0], "interval": found["interval"],
        "virtual": files.virtual or any(context.get("virtual") for context in contexts), "limits": LIMITS,
        "real_pictures": files.array("real") is not None,
    }


def lead(found: dict[str, Any], titles: dict[str, str]) -> str:
    """The sentence that says who is first, and how surely."""
    if not found["ranking"]:
        return "The sets could not be put into an order: no number that orders them was measured for all."
    first, *others = found["ranking"]
    behind = {line["set"] for line in others}
    unsure = sorted(behind - set(first["better_than"]))
    says = f"{first['set']} is closest to real images by the {titles[found['ordered_by']]}"
    if not unsure:
        return f"{says}, and more than chance would give before {'the other' if len(others) == 1 else 'every other'}."
    return f"{says}, but not beyond chance: {', '.join(unsure)} may be as good."


def _copied(measured: dict[str, dict[str, Any]]) -> list[str]:
    """A sentence for each set that holds copies."""
    return [f"{name}: {figure(one['copies']['value'], 'share')} of the images may be copies of training images. "
            "Its place means nothing before that is explained: repeated real images win any ranking."
            for name, one in measured.items() if "copies" in one and one["copies"]["value"] > 0]


def _place(line: dict[str, Any], ordered: list[dict[str, Any]]) -> dict[str, Any]:
    """A line of the ranking; ordered: the number that orders, of all sets in their order."""
    return {"place": line["place"], "set": line["set"], "row": row(ordered[line["place"] - 1], ordered),
            "better_than": ", ".join(line["better_than"]), "wins": line["wins"], "losses": line["losses"]}


def _number(number: dict[str, Any], measured: dict[str, dict[str, Any]], differences: list[dict[str, Any]],
            ) -> dict[str, Any]:
    """One number: its sets from best to worst on one scale, and the differences of all pairs."""
    ones = {line["set"]: measured[line["set"]][number["name"]] for line in number["sets"]}
    first = next(iter(ones.values()))
    pairs = [_pair(gap, first["unit"]) for gap in differences if gap["name"] == number["name"]]
    return {"name": number["name"], "title": number["title"], "meaning": first["meaning"], "n": number["n"],
            "pairs": pairs,
            "sets": [{"set": line["set"], "row": row(ones[line["set"]], list(ones.values())),
                      "better_than": ", ".join(line["better_than"])} for line in number["sets"]]}


def _pair(gap: dict[str, Any], unit: str) -> dict[str, Any]:
    """A difference as text, from the better to the worse set, so that it is above zero."""
    first, second, sign = (gap["first"], gap["second"], -1) if gap["difference"] < 0 else (
        gap["second"], gap["first"], 1)
    low, high = sorted((sign * gap["low"], sign * gap["high"]))
    return {"first": first, "second": second, "real": gap["real"],
            "value": figure(sign * gap["difference"], unit).replace(PERCENT, " points"),
            "interval": interval(low, high, unit).replace(PERCENT, " points")}


def _sheets(files: RunFiles, names: list[str]) -> list[dict[str, str]]:
    """Real images and those of every set, in sheets of the same layout."""
    arrays = {"real": files.array("real")} | {name: files.array(f"set_{k}") for k, name in enumerate(names)}
    found = {name: array for name, array in arrays.items() if array is not None}
    if not found:
        return []
    flat = next(iter(found.values())).ndim == 4
    most = min([len(array) for array in found.values()] + ([] if flat else [VOLUMES]))
    who = "Virtual patients" if files.virtual else "Real: patients"
    columns = min(columns_of(next(iter(found.values())), files), most)
    shown = {name: pictures.evenly(array, columns, most, files.spacing, colour=files.colour)
             for name, array in found.items()}
    told = apart(3 if not flat else 2, files.channels)
    return [{"kind": "real" if name == "real" else "synthetic", "told": told,
             "image": pictures.sheet(array, columns, files.spacing, colour=files.colour),
             "caption": f"{who} that training never saw" if name == "real" else name,
             "alt": f"{len(array)} images of {name} in rows of {columns}"} for name, array in shown.items()]


def _scale(found: dict[str, Any]) -> str:
    """Which value is black and which is white."""
    document = next(iter(found["sets"].values()))
    histogram = document["histogram"]
    if any("low" in one for one in histogram.get("channels", ())):
        return "Black and white are the ends of each channel's own range."
    low, high = document["context"].get("window") or (histogram["low"], histogram["high"])
    return f"Black is {level(low)}, white {level(high)} {histogram['units']}."


def _refused(found: dict[str, Any]) -> list[str]:
    """What was not measured, once for sets that share the reason."""
    sets: dict[str, list[str]] = {}
    for name, document in found["sets"].items():
        for one in document["refused"]:
            sets.setdefault(f"{one['title']}: {one['reason']}", []).append(name)
    return [text if len(names) == len(found["sets"]) else f"{text} ({', '.join(names)})"
            for text, names in sets.items()]
