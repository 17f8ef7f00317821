"""Verdicts on realism, variety, usefulness and privacy for a reader who has a minute, each with its limits."""

from __future__ import annotations

from typing import Any

from radsynth.verbs._pairs.found import GIVEN
from radsynth.verbs._report.facts import alone, held_out, promised, testable
from radsynth.verbs._report.pair_verdicts import QUESTION, keeping, pair_verdicts, turned
from radsynth.verbs._report.verdict import Sign, Verdict
from radsynth.verbs._report.words import SEEN, UNDECIDED, count, figure, named, verdict
from radsynth.verbs._run_files import RunFiles
from radsynth.verbs._usefulness.words import SOLVED, learned, per_cent, points

ANSWERS: dict[str, str] = {"good": "Yes", "note": "Partly", "warning": "No", "open": "Not measured"}
OTHERS = "Other images"
"""What was measured says nothing of this generator's images."""
NO_VERDICT = "No verdict"
"""It was tried, and there was too little to tell."""
UNKNOWABLE = "Cannot be known"
"""No image was held out, so that no audit could tell anything."""
BESIDE_FEW = "With few patients"
"""They help beside a share of the real patients, and are not shown to beside all of them, or harm there."""


def verdicts(files: RunFiles) -> list[Verdict]:
    """The answers; for a task from image to image those on its results."""
    results = files.get("results.json")
    if "pairs" in results:
        return pair_verdicts(results["pairs"])
    if files.paired:
        reasons = [one["reason"] for one in results.get("refused") or () if one["name"] == "pairs"]
        return [_open("Quality", QUESTION, reasons[0] if reasons else "Results have not been held against the truth: "
                      "'radsynth run' does it after training.")]
    found = {one["name"]: one for one in results.get("measurements", [])}
    why, context = _unmeasured(results), results.get("context", {})
    if files.unpaired:
        return [*turned(found, results), _realism(found, why, context),
                _variety(found, results.get("classes", {}), why), keeping(results.get("findings", []), GIVEN)]
    return [_realism(found, why, context), _variety(found, results.get("classes", {}), why), *_masks(found),
            _usefulness(files), _privacy(files, found)]


def bottom_line(found: list[Verdict], meant: str = "") -> str:
    """What to do, in one or two sentences. meant: what the results of a task from image to image are meant for"""
    signs, answers = {one.heading: one.sign for one in found}, {one.heading: one.answer for one in found}
    if "Privacy" not in signs:
        return meant
    share = {
        "good": "No leak was found; whether the images may leave the building is still a decision for people.",
        "warning": "Do not give these images away as they are.",
    }.get(signs["Privacy"], "Do not give these images away before 'radsynth audit' has been run and read.")
    if answers["Privacy"] == NO_VERDICT:
        share = "Do not give these images away: the audit came to no verdict on them."
    if answers["Privacy"] == UNKNOWABLE:
        share = "Do not give these images away: no image was held out, so nobody can tell whether they are copies."
    quality = {signs["Realism"], signs["Variety"]}
    if "warning" in quality:
        use = "The images are far from real ones: good for trying out software, not for conclusions about patients."
    elif signs["Realism"] == "open":
        use = "How good the images are has not been measured."
    elif signs["Variety"] == "open":
        use = "Whether all kinds of images are there has not been measured."
    elif signs["Usefulness"] == "good":
        use = "The images are close enough to real ones to help in training, as tested on real patients."
    elif signs["Usefulness"] == "warning":
        use = "Do not train with these images: that made results on real patients worse."
    elif answers.get("Usefulness") == BESIDE_FEW:
        use = ("Tested on real patients, these images help in training where few real ones are at hand, and not beside "
               "all of them.")
    elif signs["Usefulness"] == "note":
        use = "A test on real patients did not show that these images help in training."
    else:
        use = "Before training with these images, test on real patients that it helps."
    return f"{use} {share}"


def _unmeasured(results: dict[str, Any]) -> str:
    """Why images were not compared: the reason of the refusal, else that nobody has tried."""
    reasons = [one["reason"] for one in results.get("refused") or () if one["name"] in ("all", "frechet_distance")]
    return reasons[0] if reasons else "This has not been measured: 'radsynth evaluate' does it."


def _open(heading: str, question: str, why: str) -> Verdict:
    return Verdict(heading=heading, question=question, sign="open", answer=ANSWERS["open"], text=why)


def _worst(numbers: list[dict[str, Any]]) -> Sign:
    found = {verdict(one)[0] for one in numbers}
    return "warning" if "warning" in found else "note" if "note" in found else "good"


def _realism(found: dict[str, dict[str, Any]], why: str, context: dict[str, Any]) -> Verdict:
    heading, question = "Realism", "Do they look like real images?"
    distance, precision = found.get("frechet_distance"), found.get("precision")
    if distance is None or precision is None:
        slices = [number for name, number in found.items() if name.endswith("_axis")]
        return _slices_realism(slices) if slices else _open(heading, question, why)
    sign = _worst([distance, precision])
    if verdict(distance)[0] == "good":
        few = context.get("held_out_patients", context.get("images")) != context.get("images")
        first = ("As a group they cannot be told from unseen real images at this number of "
                 f"{'patients' if few else 'images'}")
    else:
        times = distance["value"] / max(distance["floor"], 1e-9)
        first = f"As a group their distance from unseen real images is {times:,.1f} times that of other real images"
    return Verdict(heading=heading, question=question, sign=sign, answer=ANSWERS[sign], text=(
        f"{first} (Fr\u00e9chet distance {figure(distance['value'], '')}, real against real "
        f"{figure(distance['floor'], '')}). One by one, {figure(precision['value'], 'share')} lie where real images "
        f"lie; of real images themselves {figure(precision['floor'], 'share')} do."),
        limit="As an image network sees them, not a radiologist: a small wrong finding hardly changes these numbers.")


def _slices_realism(slices: list[dict[str, Any]]) -> Verdict:
    """From slices of volumes, of which there are too few to compare them as wholes."""
    sign = _worst(slices)
    told = ", ".join(f"{figure(one['value'], '')} (real against real {figure(one['floor'], '')})" for one in slices)
    text = f"Too few volumes to compare them whole, so their slices were: Fr\u00e9chet distances by axis {told}."
    return Verdict(
        heading="Realism", question="Do they look like real images?", sign=sign, answer=ANSWERS[sign], text=text,
        limit="Slices say nothing of whether they fit together, and a few volumes stand for few patients.")


def _variety(found: dict[str, dict[str, Any]], classes: dict[str, Any], why: str) -> Verdict:
    heading, question = "Variety", "Are all kinds of images there?"
    recall, coverage = found.get("recall"), found.get("coverage")
    if recall is None or coverage is None:
        return _open(heading, question, why)
    sign = _worst([recall, coverage])
    return Verdict(heading=heading, question=question, sign=sign, answer=ANSWERS[sign], text=(
        f"{figure(coverage['value'], 'share')} of the unseen real images have a synthetic one close by (real against "
        f"real {figure(coverage['floor'], 'share')}); {figure(recall['value'], 'share')} lie within the range of the "
        f"synthetic ones (real against real {figure(recall['floor'], 'share')}).{_least_covered(classes)}"),
        limit="A rare kind of patient can be missing without changing these numbers.")


def _masks(found: dict[str, dict[str, Any]]) -> list[Verdict]:
    """Of images that were made with masks, whether they show them; nothing for others."""
    one = found.get("mask_agreement")
    if one is None:
        return []
    heading, question = "Masks", "Do the images show what their masks say?"
    if one["floor"] < SEEN:
        return [_open(heading, question, "A segmenter that was trained on real images hardly finds the masks of unseen "
                      f"real ones (overlap {figure(one['floor'], '')}, Dice), so that it is no judge of synthetic ones "
                      f"({figure(one['value'], '')}).")]
    tone, words = verdict(one)
    open_yet = words == UNDECIDED
    sign: Sign = "warning" if 2 * one["value"] < one["floor"] and not open_yet else "note"
    sign = "good" if one["value"] >= one["floor"] or tone == "good" else sign
    return [Verdict(heading=heading, question=question, sign=sign,
                    answer="Not shown" if open_yet else ANSWERS[sign], text=(
        f"A segmenter that was trained on real images finds the masks of synthetic images with an overlap of "
        f"{figure(one['value'], '')} (Dice), those of unseen real images with {figure(one['floor'], '')}."),
        limit="So few images may differ as much by chance." if open_yet else
        "Images that are easier than real ones can agree better than these.")]


def _least_covered(classes: dict[str, Any]) -> str:
    """The class whose coverage is the smallest part of its floor, as the scorecard's line on consistency has it."""
    found = {name: number for name, one in classes.items() for number in one["measurements"]
             if number["name"] == "coverage"}
    if len(found) < 2:
        return ""
    name, number = min(found.items(), key=lambda pair: pair[1]["value"] / max(pair[1]["floor"], 1e-9))
    return (f" Least covered: class {named(name)}, {figure(number['value'], 'share')} (real against real "
            f"{figure(number['floor'], 'share')}).")


def _usefulness(files: RunFiles) -> Verdict:
    """From `radsynth utility`: real and synthetic images together, and synthetic ones alone, against the real ones."""
    heading, question = "Usefulness", "Do they help in training?"
    found = files.get("utility.json")
    if not found:
        return Verdict(heading=heading, question=question, sign="open", answer="Not tested", text=(
            "Whether a classifier or segmenter learns from them has not been tested: 'radsynth utility' does it."
            if testable(files) else "It cannot be tested on this data: it has neither classes nor masks to learn."))
    whole = _gain(found, 1.0)
    few = min(found["shares"])
    signs: dict[str, tuple[Sign, str]] = {
        "helps": ("good", "Yes"), "harms": ("warning", "No, they harm"), "no difference": ("note", "No"),
        "open": ("note", "Not shown")}
    sign, answer = signs[whole["verdict"]]
    if whole["real"] >= SOLVED and whole["verdict"] != "harms":
        sign, answer = "note", "Nothing to gain"
    if not learned(found, whole["real"]):
        sign, answer = "open", NO_VERDICT
    text = f"With all real images, classically augmented: {_told(whole, found['metric'])}"
    if few < 1:
        text += f" With {100 * few:g} % of the real patients: {_told(_gain(found, few), found['metric'])}"
        if sign in ("note", "warning") and _gain(found, few)["verdict"] == "helps":
            sign, answer = "note", BESIDE_FEW
    instead = _gain(found, 1.0, "synthetic")
    text += (f" Synthetic images in place of all real ones: {points(instead['value'])} points "
             f"({points(instead['low'])} to {points(instead['high'])}).")
    if found.get("generator_saw") == "unknown":
        sign, answer = "open", OTHERS
        text = f"Measured on images that are not known to be of this generator. {text}"
    if answer == NO_VERDICT:
        text += " The network has not learned the task from real images either, so the comparison says nothing."
    seeds, patients = found["seeds"], found["test"]["patients"]
    return Verdict(heading=heading, question=question, sign=sign, answer=answer, text=text, limit=(
        f"For one task ({found['kind']}), one network and {found['steps']:,} training steps, {count(seeds, 'repeat')}, "
        f"tested on {count(patients, 'unseen patient')}."))


def _gain(found: dict[str, Any], share: float, arm: str = "both") -> dict[str, Any]:
    """What synthetic images change, added to a share of the real patients or alone, and the score of the real ones.

    Classical augmentation, which costs nothing, is on both sides.
    """
    line = next(line for line in found["differences"]
                if (line["share"], line["arm"], line["against"]) == (share, arm, "augmented"))
    real = next(one for one in found["arms"] if (one["share"], one["arm"]) == (share, "augmented"))
    return {**line, "real": real["value"]}


def _told(gain: dict[str, Any], metric: str) -> str:
    return (f"{metric} {per_cent(gain['real'])}, with synthetic images added {points(gain['value'])} points "
            f"({points(gain['low'])} to {points(gain['high'])}).")


def _privacy(files: RunFiles, found: dict[str, dict[str, Any]]) -> Verdict:
    """The audit's verdict; where it has looked for none in these images, what the evaluation saw of copies."""
    heading, question = "Privacy", "Was anything found that gives patients away?"
    promise = promised(files)
    promise = f" Trained with differential privacy, {promise}." if promise else ""
    if files.virtual:
        promise += " The patients of this run are virtual: the verdict shows the method only."
    audit, copied = files.get("audit.json"), _copies(found)
    limit = "An attack that fails proves only that this attack failed."
    if not files.virtual and alone(files):
        limit += (" Every image was counted as a patient of its own. Where patients have several, those of one are on "
                  "both sides of each comparison, which hides copies and attacks.")
    if audit:
        sign, answer = {True: ("good", "Nothing found in the images"), False: ("warning", "Yes")}.get(
            audit["passed"], ("open", NO_VERDICT))
        if audit["passed"] and (audit.get("copies") or {}).get("count"):
            answer = "Nothing beyond chance"
        text, others = audit["verdict"], not audit["context"].get("of_run", True)
        if others:
            sign, answer = "open", OTHERS
        if copied and (others or audit.get("copies") is None):
            sign, (answer, text) = "warning", (copied[0], f"{copied[1]} The audit says: {text}")
        return Verdict(heading=heading, question=question, sign=sign,  # type: ignore[arg-type]  # a Sign by the table
                       answer=answer, text=text + promise, limit=limit)
    if copied:
        answer, text = copied
        return Verdict(heading=heading, question=question, sign="warning", answer=answer, text=text + promise,
                       limit="Attacks on membership have not been tried: 'radsynth audit' does it.")
    if not held_out(files):
        return Verdict(heading=heading, question=question, sign="open", answer=UNKNOWABLE, limit=limit, text=(
            "No image was held out, without which copies cannot be told from chance, nor attacks be tried: give "
            f"images of more patients, or a smaller prepare.train.{promise}"))
    looked = any(name in found for name in ("copies", "near_copies_features", "near_copies_pixels"))
    text = ("No more synthetic images lie close to a training image than chance explains. This looks for near copies "
            "only: attacks have not been tried." if looked else "Neither copies were looked for nor attacks tried.")
    if not looked and files.get("results.json").get("neighbours"):
        text = "From so few images copies cannot be told from chance, and attacks have not been tried."
    return Verdict(heading=heading, question=question, sign="open", answer="Not audited",
                   text=f"{text} 'radsynth audit' does it.{promise}", limit=limit)


def _copies(found: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """The kind of copies that the evaluation found, and how many; None when it found none."""
    copied = found.get("copies")
    if copied and copied["value"] > 0:
        number = round(copied["value"] * copied["n"])
        return "Outright copies", (
            f"{count(number, 'synthetic image')} of {copied['n']:,} {'looks' if number == 1 else 'look'} copied: less "
            "than half as far from a training image as any unseen patient's image is. Look at the closest pairs below.")
    near = [found[name] for name in ("near_copies_features", "near_copies_pixels") if name in found]
    beyond = [one for one in near if verdict(one)[0] == "warning"]
    if beyond:
        worst = max(beyond, key=lambda one: one["value"])
        return "Near copies", (
            f"More synthetic images lie close to a training image than chance explains "
            f"({figure(worst['value'], 'share')} at most, chance gives about {figure(worst['floor'], 'share')}). "
            "Look at the closest pairs below.")
    return None
