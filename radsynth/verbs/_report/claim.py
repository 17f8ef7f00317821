"""The fields of CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300) from a run folder.

An item that the run folder does not know is "not stated"; nothing is guessed.
"""

from __future__ import annotations

from typing import Any

from radsynth.verbs._report.facts import limits, own, use
from radsynth.verbs._report.words import count, extent, reach
from radsynth.verbs._run_files import RunFiles

NOT_STATED = "not stated"
NOT_SOFTWARE = ("system", "threads", "cores", "processor", "gpus")
"""What versions.json says of the machine."""
ITEMS = (
    "Title: identification as a study of AI, with the category of technology", "Abstract",
    "Background, intended use and role", "Aims and hypotheses", "Prospective or retrospective", "Study goal",
    "Data sources", "Inclusion and exclusion criteria", "Data preprocessing", "Selection of data subsets",
    "De-identification", "Handling of missing data", "Image acquisition protocol", "Reference standard: method",
    "Reference standard: reason for choosing it", "Reference standard: source of annotations",
    "Annotation of the test set", "Variability between and within raters", "Assignment of data to partitions",
    "Level at which partitions are disjoint", "Intended sample size", "Description of the model",
    "Software libraries, frameworks, packages", "Initialisation of model parameters", "Training approach",
    "Selection of the final model", "Ensembling", "Metrics of performance", "Measures of significance and uncertainty",
    "Robustness or sensitivity analysis", "Explainability or interpretability", "Evaluation on internal data",
    "Testing on external data", "Clinical trial registration", "Numbers included and excluded",
    "Demographic and clinical characteristics of each partition", "Performance with its uncertainty",
    "Diagnostic performance and its precision", "Failure analysis", "Limitations",
    "Implications for practice, intended use", "Full protocol or further technical details",
    "Availability of software, model and data", "Funding",
)
"""The 44 items in their order, in our words."""


def claim(files: RunFiles) -> list[tuple[int, str, str]]:
    """Number, title and answer of every item."""
    known: dict[int, str] = {}
    for part in (_study, _data, _model, _evaluation):
        known |= part(files)
    return [(number, title, known.get(number) or NOT_STATED) for number, title in enumerate(ITEMS, 1)]


def _study(files: RunFiles) -> dict[int, str]:
    weights = files.get("generator.json")
    found = {40: " ".join(limits(files)), 41: use(files)}
    if weights:
        found[1] = f"Deep learning: network {weights['model']}, task {weights['task']}."
        found[43] = f"Software: radsynth (Apache-2.0). Weights: SHA-256 {weights['sha256']}. Data: {NOT_STATED}."
    if (files.run / "settings.yaml").is_file():
        found[42] = "settings.yaml and log.jsonl in the run folder."
    return found


def _data(files: RunFiles) -> dict[int, str]:
    spec, source, found = files.get("spec.json"), files.get("inspection.json"), dict[int, str]()
    if source:
        found[35] = f"{count(source['n_images'], 'image')} of {count(source['n_patients'], 'patient')} found."
    if not {"spec", "counts", "patients", "intensity"} <= spec.keys():
        return found
    images, patients = dict(spec["counts"]), dict(spec["patients"])
    images["train"], patients["train"] = own(spec)
    parts = [f"{name} {count(images[name], 'image')} of {count(patients.get(name, 0), 'patient')}" for name in images]
    by_image = all(images[name] == patients.get(name) for name in images)
    included = f"{count(sum(images.values()), 'image')} included.{_added(spec)}{_left_out(files)}"
    found[35] = f"{found.get(35, '')} {included}".strip()
    return found | {
        7: "A virtual cohort, made from a public template." if files.virtual else "",
        9: f"Brought to {extent(spec['spec']['size'])} without stretching; intensities mapped "
           f"({spec['intensity']['method']}, {reach(spec['spec'], spec['intensity'])}).",
        11: "Names, dates and identifiers of the sources are not carried beyond preparation.",
        19: f"{'; '.join(parts)}.{_added(spec)}",
        20: "Patient; no patient has two images, or the data does not tell which are of one patient."
            if by_image else "Patient.",
    }


def _added(spec: dict[str, Any]) -> str:
    added = spec.get("added")
    return f" Besides, {count(added['images'], 'training image')} from elsewhere (prepare.extra)." if added else ""


def _left_out(files: RunFiles) -> str:
    """What `prepare` left out; nothing where the prepared data is not there to tell."""
    made = files.get("data/manifest.json")
    if not {"rejected", "duplicates", "left_out"} <= made.keys():
        return ""
    return (f" Left out: files that could not be used: {made['rejected']:,}; second copies of images: "
            f"{made['duplicates']:,}; slices of background: {made['left_out']:,}.")


def _model(files: RunFiles) -> dict[int, str]:
    weights, versions, settings = files.get("generator.json"), files.get("versions.json"), files.settings()
    train, found = settings.get("train", {}), dict[int, str]()
    if settings:
        chosen = {name: settings.get(name, {}).get("kind") for name in ("task", "model")}
        found[22] = f"Network {chosen['model']}, task {chosen['task']}; every setting is in settings.yaml."
        start = train.get("start")
        found[24] = (f"The weights of {start}; what these have not is random, from seed " if start else
                     "Random, from seed ") + f"{settings.get('seed', NOT_STATED)}."
    if versions:
        found[23] = ", ".join(f"{name} {value}" for name, value in versions.items() if name not in NOT_SOFTWARE)
    if weights:
        found[25] = (f"{weights['images']:,} images seen in {weights['steps']:,} steps of {_batches(weights, train)} "
                     f"images, rate {train.get('rate', '?')}; one model.")
        best = any(line.get("event") == "best weights kept" for line in files.log())
        moments = weights.get("chosen")
        found[26] = (f"Of {len(moments['course'])} moments the last averaged weights whose samples were as close as "
                     f"any to {count(moments['validation_images'], 'validation image')} (Frechet distance), those "
                     f"after {moments['images']:,} images." if moments else
                     "The averaged weights whose samples the training doctor found closest." if best else
                     "The averaged weights at the end of training.")
        found[27] = "None."
    return found


def _batches(weights: dict[str, Any], train: dict[str, Any]) -> str:
    """Images of a step, with those after batches had grown."""
    first = train.get("batch", 0)
    grown = first and weights["images"] > weights["steps"] * first
    return f"{first} and later {train['batch_end']}" if grown else str(first or "?")


def _evaluation(files: RunFiles) -> dict[int, str]:
    results, utility = files.get("results.json"), files.get("utility.json")
    measured, context, found = results.get("measurements", []), results.get("context", {}), dict[int, str]()
    if measured:
        found[28] = ", ".join(one["title"] for one in measured) + "."
        found[29] = f"{context['interval']}; {context['repetitions']} half-samples."
        found[32] = (f"{count(context['images'], 'image')} of {count(context['held_out_patients'], 'patient')} of the "
                     "same source, not in training.")
        found[33] = "None in this run."
        found[37] = "See the measurements in README.md."
    done = [place for place in ("control", "explain") if files.get(f"{place}/{place}.json")]
    if done:
        found[31] = f"Done: {', '.join(done)}; see the report."
    if utility:
        found[38] = " ".join(utility["words"])
    return found
