"""The scorecard for synthetic medical data with its seven Cs (Zamzmi et al., Commun Eng 2025;4:130).

Under each C stands what was measured, what holds by the way the images are made, and what was not measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from radsynth._rounding import rounded
from radsynth.verbs._report.facts import held_out, promised, testable
from radsynth.verbs._report.words import count, extent, figure, format_name, named, reach, sides
from radsynth.verbs._run_files import RunFiles

QUESTIONS = {
    "Congruence": "Are the synthetic images, as a group, like those of patients?",
    "Coverage": "Are they as varied as patients are, and new?",
    "Constraint": "Do they keep to what anatomy and the scanner allow?",
    "Completeness": "Is everything there that the intended task needs?",
    "Compliance": "Do they keep to privacy, marking and format rules?",
    "Comprehension": "Can a reader understand how they were made?",
    "Consistency": "Is their quality the same in all groups, and when repeated?",
}
NUMBERS = {
    "Congruence": ("fid", "frechet_distance", "frechet_distance_extrapolated", "inception_distance", "kernel_distance",
                   "frechet_distance_first_axis", "frechet_distance_second_axis", "frechet_distance_third_axis",
                   "precision", "radiomics_distance", "intensity_distance", "spectrum_distance"),
    "Coverage": ("coverage", "recall", "density", "pair_likeness", "inception_score", "training_distance"),
    "Constraint": ("mask_agreement", "area_distance", "tissue_distance", "symmetry_distance", "position_distance"),
    "Compliance": ("copies", "near_copies_features", "near_copies_pixels"),
}
"""Where each measurement of `evaluate` stands (a test checks that every one does)."""
MARKS = {"dicom": "Synthetic Data (0008,001C) YES and the equipment that made them",
         "nifti": "the header's description and extension",
         "metaimage": "a comment and a field of the header",
         **dict.fromkeys(("picture", "png", "tiff"), "text fields of the file"), "npz": "an array that says so"}


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One C. measurements: names of numbers in results.json; facts: (what, how it is); open: what was not measured."""

    name: str
    question: str
    measurements: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def scorecard(files: RunFiles) -> list[Criterion]:
    """All seven, in their order."""
    results = files.get("results.json")
    measured = [one["name"] for one in results.get("measurements", [])]
    facts = {"Congruence": _judged, "Constraint": _constraint, "Completeness": _completeness, "Compliance": _compliance,
             "Comprehension": _comprehension, "Consistency": _consistency}
    placed = {one for names in NUMBERS.values() for one in names}
    places = NUMBERS | {"Congruence": (*NUMBERS["Congruence"], *(one for one in measured if one not in placed))}
    return [Criterion(name=name, question=question,
                      measurements=[one for one in places.get(name, ()) if one in measured],
                      facts=facts[name](files) if name in facts else [],
                      open=_open(name, files, results)) for name, question in QUESTIONS.items()]


def _open(name: str, files: RunFiles, results: dict[str, Any]) -> list[str]:
    """What was refused, then what this run has not looked at."""
    if not results:
        return ["Nothing: 'radsynth evaluate' has not been run.", *_never(name, files)]
    refused = [one for one in results.get("refused", []) if one["name"] in (*NUMBERS.get(name, ()), "all")]
    by_reason: dict[str, list[str]] = {}
    for one in refused:
        by_reason.setdefault(one["reason"], []).append(one["title"])
    told = [f"{'; '.join(titles)}: {reason}" for reason, titles in by_reason.items()]
    return [*(told if name in NUMBERS else []), *_never(name, files)]


def _never(name: str, files: RunFiles) -> list[str]:
    """What no number of this run speaks of."""
    tested, audited = bool(files.get("utility.json")), bool(files.get("audit.json"))
    judged = bool(files.get("study/results.json").get("readers"))
    explained = any((files.run / place).is_file() for place in ("control/control.json", "explain/explain.json"))
    given = "the results of such a run are made of images that you give"
    told = {
        "Congruence": [] if judged else
        ["What radiologists say of single images: " + (
            "there is no reader study of images that are made of images." if files.of_images else
            "nobody has finished a reader study ('radsynth serve').")],
        "Coverage": ["Rare findings one by one."],
        "Constraint": ["Whether every organ and every lesion is possible in number, place and shape: the numbers above "
                       "are coarse statistics of brightness and outline.",
                       "The physics of the scanner: noise and artefacts are imitated, not simulated."],
        "Completeness": [f"Age, sex, diagnosis, scanner and site beyond {_learned(files)}: the generator does not "
                         "learn them."]
        + ([] if tested else ["Whether they suffice for a task: " + (
            f"{given}, and 'radsynth utility RUN --synthetic DIR' tests them." if files.of_images else
            "'radsynth utility' has not been run." if testable(files) else
            "it cannot be tested without classes or masks.")]),
        "Compliance": ([] if audited else ["Attacks on privacy: " + (
            f"{given}, and show whom these show." if files.of_images else
            "'radsynth audit' has not been run." if held_out(files) else "no image was held out to try them with.")])
        + ["Law, consent and ethics: for people to judge."],
        "Comprehension": [] if explained else
        ["What the generator has learned: 'radsynth control' and 'radsynth explain' " + (
            "need one that draws images from noise alone." if files.of_images or files.of_masks else
            "have not been run.")],
        "Consistency": ["Other trainings with other seeds: these are the images of one training.",
                        "Sites, scanners, age and sex: not known here."],
    }
    return told[name]


def _learned(files: RunFiles) -> str:
    """What is told of each image in training."""
    numbers = files.get("spec.json").get("spec", {}).get("conditions") or ()
    return f"the classes and the numbers asked for ({', '.join(numbers)})" if numbers else "the classes"


def _judged(files: RunFiles) -> list[tuple[str, str]]:
    found = files.get("study/results.json")
    return [("Judged blind", found["words"])] if found.get("readers") else []


def _constraint(files: RunFiles) -> list[tuple[str, str]]:
    document = files.get("spec.json")
    if not document:
        return []
    spec, intensity = document["spec"], document["intensity"]
    facts = [("Size", f"{extent(spec['size'])}, in every image")]
    if spec.get("spacing"):
        facts.append(("Spacing", f"{sides(spec['spacing'])} mm, in every image"))
    return [*facts, ("Intensities", f"{reach(spec, intensity)} at most, the range learned from")]


def _completeness(files: RunFiles) -> list[tuple[str, str]]:
    facts, made = [], files.get("synthetic/generate.json")
    spec = files.get("spec.json").get("spec", {})
    if made:
        facts.append(("Images made", f"{made['count']:,} ({format_name(made['format'])}), each with its number and "
                      "seed in samples.csv"))
    if spec:
        labels = spec.get("labels") or ()
        facts.append(("Classes", ", ".join(map(named, labels)) if len(labels) > 1 else "none"))
    found = files.get("utility.json")
    if found:
        arms = {arm["arm"]: arm for arm in found["arms"] if arm["share"] == 1.0}
        for arm, words in (("real", "real images as they are"), ("augmented", "augmented real images"),
                           ("both", "augmented real and synthetic images"),
                           ("synthetic", "augmented synthetic images alone")):
            one = arms[arm]
            facts.append((f"{found['metric'].capitalize()}, trained on {words}",
                          f"{figure(one['value'], 'share')} ({figure(one['low'], 'share')} to "
                          f"{figure(one['high'], 'share')}) on {count(found['test']['patients'], 'unseen patient')}"))
    return facts


def _compliance(files: RunFiles) -> list[tuple[str, str]]:
    facts, made = [], files.get("synthetic/generate.json")
    if made:
        facts.append(("Marked as synthetic", f"every file, by {MARKS.get(made['format'], 'its header')}"))
    aged = "age" in (files.get("spec.json").get("spec", {}).get("conditions") or ())
    taken = "ages, which were asked for" if aged else "nothing"
    facts.append(("From the sources' headers", f"{taken}: no name, date or identifier is copied"))
    facts.append(("Differential privacy", promised(files) or "not used: there is no bound against every attack"))
    audit = files.get("audit.json")
    if audit:
        facts.append(("Audit", audit["verdict"]))
    return facts


def _comprehension(files: RunFiles) -> list[tuple[str, str]]:
    weights, facts = files.get("generator.json"), []
    if weights:
        facts += [("Network, task", f"{weights['model']}, {weights['task']}"),
                  ("Training", f"{weights['images']:,} images seen in {weights['steps']:,} steps"),
                  ("Weights, SHA-256", weights["sha256"])]
    told = {"control": "what can be steered, and with which side effects", "explain": "what it redraws, and what the "
            "discriminator relies on"}
    return facts + [(place.capitalize(), f"{text}: under 'What the generator has learned'")
                    for place, text in told.items() if files.get(f"{place}/{place}.json")]


def _consistency(files: RunFiles) -> list[tuple[str, str]]:
    """How far the classes are apart, and what repeats exactly."""
    facts = []
    for name, title in (("frechet_distance", "Fr\u00e9chet distance"), ("coverage", "Coverage")):
        ratios = {}
        for label, one in files.get("results.json").get("classes", {}).items():
            number = next((number for number in one["measurements"] if number["name"] == name), None)
            if number and number["floor"] > 0:
                ratios[label] = number["value"] / number["floor"]
        if len(ratios) > 1:
            low, high = min(ratios, key=lambda k: ratios[k]), max(ratios, key=lambda k: ratios[k])
            told = (f"{rounded(ratios[low], 2)}, in all" if ratios[low] == ratios[high] else
                    f"{rounded(ratios[low], 2)} (class {named(low)}) to {rounded(ratios[high], 2)} "
                    f"(class {named(high)})")
            facts.append((f"{title} over its floor, by class", told))
    same = "image gives the same result" if files.of_images else "seed and number give the same image"
    return [*facts, ("Repeated", f"the same {same} again")]
