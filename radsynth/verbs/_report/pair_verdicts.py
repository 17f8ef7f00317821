"""Verdicts on results from image to image: whether the network is worth having, and whether it keeps what is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from radsynth.settings import constant, kinds
from radsynth.verbs._pairs.found import GIVEN, OWN, SEGMENTED, TRUE
from radsynth.verbs._report.verdict import Sign, Verdict
from radsynth.verbs._report.words import SEEN, count, figure

QUESTION = "Is the network worth having?"
NO_TRUTH = ("similarity", "time")
"""Numbers of registrations that are compared and do not tell how near to the truth one is."""
DISTANCE = "frechet_distance"
LOST = 0.5
"""A label whose overlap is less than this share of that in the true images counts as lost."""
OFTEN, MOSTLY = 5, 50
"""Percent of the images from which on it is said that a label is not found where it is, or drawn where it is not, and
that this is no success."""
MISTAKES = {"missed_": "Of the images that have the label, nothing of it is found",
            "invented_": "Of the images that have nothing of the label, some of it is drawn"}


def pair_verdicts(pairs: dict[str, Any]) -> list[Verdict]:
    """The answers for a task from image to image, from the part "pairs" of results.json."""
    numbers = pairs["numbers"]
    kept = pairs["task"] in kinds("tasks") and constant("tasks", pairs["task"], "KEEPING")
    quality = _with_mistakes(_quality(numbers), numbers)
    found = [_of_one(quality, [number for number in numbers if not number["name"].startswith(SEGMENTED)]),
             *([keeping(numbers)] if kept else [])]
    if pairs.get("untested"):
        labels = ", ".join(pairs["untested"])
        found[-1] = _limited(found[-1], f"Nothing is known of {labels}: fewer than two test images have it.")
    whose = _same(pairs)
    return [_limited(one, f"{whose}: of others this says nothing.") for one in found] if whose else found


def _same(pairs: dict[str, Any]) -> str:
    """Whose images alone were measured, where that is no sample of patients; "" where it is one."""
    if pairs.get("patients") == 1:
        return "All test images are of one patient"
    # Of two patients each is put onto the other: these are no two pairs that know nothing of each other.
    two = pairs["task"] == "register" and pairs.get("patients") == 2 and not pairs.get("same_patient")
    return "All pairs are of the same two patients" if two else ""


def _limited(verdict: Verdict, limit: str) -> Verdict:
    """A verdict that is not good for this limit: images of a single patient, or pair, are no sample of patients,
    however many, and of a label that no image has nothing is shown."""
    if verdict.sign == "open":
        return verdict
    return replace(verdict, sign="note" if verdict.sign == "good" else verdict.sign,
                   limit=" ".join(text for text in (verdict.limit, limit) if text))


def _of_one(verdict: Verdict, numbers: list[dict[str, Any]]) -> Verdict:
    """With the labels that one patient alone has of those who were tested. numbers: what the verdict rests on"""
    alone = dict.fromkeys(number.get("label", number["title"]) for number in numbers if number.get("of_one_patient"))
    return _limited(verdict, f"What is measured of {', '.join(alone)} is of one patient: of others this says nothing."
                    ) if alone else verdict


def _quality(numbers: list[dict[str, Any]]) -> Verdict:
    """Whether the run beats every method without a network, in every number."""
    gains = {number["title"]: {line["method"]: line["gain"] for line in number["methods"] if "gain" in line}
             for number in numbers if not number["name"].startswith((SEGMENTED, *NO_TRUTH))}
    gains = {title: methods for title, methods in gains.items() if methods}
    rivals = {title: [method for method, gain in methods.items() if gain["low"] <= 0]
              for title, methods in gains.items()}
    question, won = QUESTION, sum(not methods for methods in rivals.values())
    if not rivals:
        return Verdict(heading="Quality", question=question, sign="open", answer="Not measured", text=(
            "There is no number in which another method could be compared: too few of the test images have what the "
            "numbers are about."))
    if won == len(rivals):
        return Verdict(heading="Quality", question=question, sign="good", answer="Yes", text=(
            "In every number the results are nearer to the truth than those of methods without a network."))
    ahead = {title: [method for method, gain in methods.items() if gain["high"] < 0]
             for title, methods in gains.items()}
    lost = [bool(methods) for methods in ahead.values()]
    if all(lost):
        return Verdict(heading="Quality", question=question, sign="warning", answer="No", text=(
            f"In every number a method without a network is nearer to the truth: {_listed(ahead, 'by')}."))
    sign: Sign = "warning" if any(lost) or 2 * won < len(rivals) else "note"
    answer = "Not in everything" if won else "Not shown"
    return Verdict(heading="Quality", question=question, sign=sign, answer=answer, text=(
        f"In {won} of {count(len(rivals), 'number')} the results are nearer to the truth than those of all methods "
        f"without a network. Not in: {_listed(rivals, 'against')}."))


def _with_mistakes(verdict: Verdict, numbers: list[dict[str, Any]]) -> Verdict:
    """With the labels that a segmentation does not find in images that have them, or draws in images that have none:
    overlaps are means, of images that have the label alone, and methods without a network may be hopeless."""
    for start, words in MISTAKES.items():
        shares = {number["label"]: number["methods"][0]["value"] for number in numbers
                  if number["name"].startswith(start) and number["methods"][0]["method"] == OWN}
        told = [f"{label} in {figure(value, '%')}" for label, value in shares.items() if value >= OFTEN]
        if told:
            if verdict.sign == "good" and max(shares.values()) >= MOSTLY:
                verdict = replace(verdict, sign="note", answer="Partly")
            verdict = replace(verdict, text=f"{verdict.text} {words}: {'; '.join(told)}.")
    return verdict


def _listed(methods: dict[str, list[str]], by: str) -> str:
    """Numbers by their titles, each with the methods that it is about; without those that have none.

    No brackets around the methods: titles and methods have some of their own.
    """
    return "; ".join(f"{title} {by} {', '.join(names)}" for title, names in methods.items() if names)


def turned(found: dict[str, dict[str, Any]], results: dict[str, Any]) -> list[Verdict]:
    """Whether results without pairs are nearer to the other class than the given images are, unchanged.

    found: measurements by name; results: those with "before" and "direction" of results.json; nothing without them
    """
    before = {one["name"]: one for one in results.get("before", [])}
    own, as_given = found.get(DISTANCE), before.get(DISTANCE)
    if own is None or as_given is None:
        return []
    sign: Sign = "good" if own["high"] < as_given["low"] else "warning" if own["low"] > as_given["high"] else "note"
    answer = {"good": "Yes", "warning": "No", "note": "Not shown"}[sign]
    start, end = results["direction"]
    return [Verdict(heading="Translation", question=f"Are the results more like {end} than what was given?", sign=sign,
                    answer=answer, text=(
        f"From unseen images of {end} the results have a Fr\u00e9chet distance of {figure(own['value'], '')}, the "
        f"given images of {start}, unchanged, {figure(as_given['value'], '')} (real against real "
        f"{figure(own['floor'], '')})."),
        limit="As groups. Without pairs nobody knows how the same patient looks in the other class.")]


def keeping(numbers: list[dict[str, Any]], best: str = TRUE) -> Verdict:
    """Whether a segmenter finds the labels in results that it finds in the images `best`, and none besides."""
    heading, question = "Findings", "Is everything still there, and nothing made up?"
    tables = {number["name"].removeprefix(SEGMENTED): {line["method"]: line for line in number["methods"]}
              for number in numbers if number["name"].startswith(SEGMENTED)}
    if not tables:
        return Verdict(heading=heading, question=question, sign="open", answer="Not measured", text=(
            "It takes masks beside the images, and time to learn them (evaluate.anatomy), to measure this. The checks "
            "under Doubts look at single images."))
    called = {number["name"].rpartition("_")[2]: number.get("label", f"label {number['name'].rpartition('_')[2]}")
              for number in numbers if number["name"].startswith(SEGMENTED)}
    overlaps = {name.removeprefix("dice_"): (lines[OWN], lines[best])
                for name, lines in tables.items() if name.startswith("dice_")}
    judged = {label: pair for label, pair in overlaps.items() if pair[1]["value"] >= SEEN}
    less = {label: (own, true) for label, (own, true) in judged.items() if _behind(true, true["low"] - own["high"])
            and figure(own["value"], "") != figure(true["value"], "")}  # of less nobody would see why
    lost = {label for label, (own, true) in less.items() if own["value"] < LOST * true["value"]}
    invented = {name.removeprefix("invented_"): (lines[OWN], lines[best]) for name, lines in tables.items()
                if name.startswith("invented_") and _behind(lines[best], lines[OWN]["low"] - lines[best]["high"])}
    told = [f"{_first(called[label])} is {'lost' if label in lost else 'found less well'}: a segmenter covers it with "
            f"an overlap of {figure(true['value'], '')} in {best}, of {figure(own['value'], '')} in the results."
            f"{_in_the_given(tables[f'dice_{label}'], best)}" for label, (own, true) in less.items()]
    told += [f"{_first(called[label])} is made up: it is found in {figure(own['value'], '%')} of the results that "
             f"should have none (of {best} in {figure(true['value'], '%')})."
             for label, (own, true) in invented.items()]
    unseen = [called[label] for label in overlaps if label not in judged]
    if judged and not told:
        found = ", ".join(called[label] for label in judged) if unseen else "the labels"
        told = [f"A segmenter finds {found} in the results as well as in {best}."]
    told += [f"Nothing can be said of {', '.join(unseen)}, which it does not find in {best} either."] if unseen else []
    sign, answer = (("warning", "No") if lost or invented else ("note", "Partly") if less
                    else ("open", "No verdict") if not judged else ("note", "As far as can be told") if unseen
                    else ("good", "Yes"))
    verdict = Verdict(heading=heading, question=question, sign=sign, answer=answer, text=" ".join(told),  # type: ignore[arg-type]  # a Sign
                      limit="What has no label of its own can be lost or made up without this showing it.")
    return _of_one(verdict, [number for number in numbers if number["name"].startswith(SEGMENTED)])


def _behind(best: dict[str, Any], gap: float) -> bool:
    """Whether the results are worse than these images, pair by pair; gap: of the intervals, where results of another
    version do not tell the pairs' difference."""
    return bool(best.get("behind", {"low": gap})["low"] > 0)


def _first(text: str) -> str:
    return text[0].upper() + text[1:]


def _in_the_given(lines: dict[str, dict[str, Any]], best: str) -> str:
    """A label that cannot be seen before cannot be kept: how well a segmenter of the given images finds it there."""
    if best == GIVEN or GIVEN not in lines:
        return ""
    seen = lines[GIVEN]
    dim = " What they do not show can only be guessed." if seen["high"] < lines[best]["low"] else ""
    return f" A segmenter of {GIVEN} finds it there with {figure(seen['value'], '')}.{dim}"
