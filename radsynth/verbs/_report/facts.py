"""What a report says beside its verdicts: what was learned from, what was made, what it is meant for, what is open."""

from __future__ import annotations

from typing import Any

from radsynth.bases import names, origin
from radsynth.verbs._report.words import count, extent, named, odds, privacy_bound
from radsynth.verbs._run_files import RunFiles
from radsynth.verbs._scarce import untaught

USE = (
    "Meant for developing and testing methods, for teaching, and for enlarging training sets whose result is then "
    "tested on real patients. Not for diagnosis, and no replacement for real data in a clinical validation."
)
USE_IMAGES = (
    "Meant for developing and testing methods. A network of this kind can invent or remove findings: its results are "
    "no acquisition and not for diagnosis."
)
USE_OF = {
    "segment": "Meant for developing and testing methods. A network of this kind can miss a finding and mark one where "
               "there is none: its label maps are not for diagnosis.",
    "register": "Meant for developing and testing methods. A warp squeezes or stretches what only one of the two "
                "images has, and can lay the wrong places upon each other: its results are not for diagnosis.",
}
"""Of tasks whose results are other than pictures that a network has made."""


def facts(files: RunFiles) -> list[tuple[str, str]]:
    """What was learned from, what was made, what to mind, what could not be measured."""
    spec, results = files.get("spec.json"), files.get("results.json")
    lines = [("Learned from", _learned(spec, files.of_crops) + _of_domains(files, spec))] if spec else []
    lines += [("Started from", text) for text in [_began(files)] if text]
    if "pairs" in results or files.paired:
        return [*lines, *_not_measured(results)]
    if problem := untaught(spec.get("labels", {})):
        lines.append(("Mind", f"{problem[0].upper()}{problem[1:]}"))
    context = results.get("context")
    if context:
        lines.append(("Made", (
            f"{count(context['synthetic_images'], 'synthetic image')}; {context['images']:,} of them were compared "
            f"with as many real images{_of_patients(context)} that training never saw.")))
        lines += [("Mind", text) for text in context["warnings"]]
    lines += [("Mind", line["text"]) for line in files.log() if line.get("event") == "not usable"]
    if results.get("direction"):
        lines.append(("Direction", "From {} to {}; only this way was measured.".format(*results["direction"])))
    return [*lines, *_not_measured(results)]


def _not_measured(results: dict[str, Any]) -> list[tuple[str, str]]:
    """A line for each reason, with all that was left out for it."""
    by_reason: dict[str, list[str]] = {}
    for one in results.get("refused", []):
        by_reason.setdefault(one["reason"], []).append(one["title"])
    return [("Not measured", f"{'; '.join(dict.fromkeys(titles))}: {why}") for why, titles in by_reason.items()]


def use(files: RunFiles) -> str:
    """What the images, or the results of a task from image to image, are meant for."""
    if files.of_images or "pairs" in files.get("results.json"):
        return USE_OF.get(files.get("generator.json").get("task", ""), USE_IMAGES)
    return USE


def limits(files: RunFiles) -> list[str]:
    """What no part of this run speaks of, whatever its numbers say."""
    context = files.get("results.json").get("context", {})
    readers = len(files.get("study/results.json").get("readers") or ())
    found = [f"{count(readers, 'reader')} judged a sample of the images, blinded: see Readers." if readers else
             "No doctor has judged the images."]
    if files.virtual:
        found.append("The patients are virtual, made from a public template: nothing here carries over to patients.")
    if "held_out_patients" in context:
        whose = _of_patients(context).removeprefix(" of ") or count(context["images"], "image")
        found.append(f"The numbers hold for {whose} of the same source that training never saw, not for another "
                     "hospital, scanner or time.")
    if privacy_bound(files.get("generator.json")):
        found.append("The bound of differential privacy holds for the synthetic images and the generator's weights, "
                     "not for checkpoints, which hold its secret key, nor for reports and numbers, which look at real "
                     "images.")
    return [*found, "All this is of one training: another seed gives other images and other numbers."]


def _learned(spec: dict[str, Any], crops: bool) -> str:
    size = f"{extent(spec['spec']['size'])}"
    images, patients = own(spec)
    what = {"MR": "MR ", "CT": "CT "}.get(spec["spec"]["modality"], "") + ("crop" if crops else "image")
    if spec["spec"]["virtual"]:
        source = (f"{count(images, what)} of {count(patients, 'virtual patient')}: made from a public template, "
                  "not from anybody")
    else:
        source = count(images, what) + (f" of {count(patients, 'patient')}" if 0 < patients < images else "")
        if patients == images:
            size += "; each counted as a patient of its own"
    added = spec.get("added", {}).get("images", 0)
    more = f", and {count(added, 'crop' if crops else 'image')} that prepare.extra added" if added else ""
    return f"{source} ({size}){more}."


def _of_domains(files: RunFiles, spec: dict[str, Any]) -> str:
    """How many of the training images are of the two classes that a translation without pairs looks at; "" if all."""
    labels, domains = spec.get("labels", {}), files.settings().get("task", {}).get("domains") or ()
    if not files.unpaired or not domains or not set(domains) < set(labels):
        return ""
    classes = " and ".join(map(named, domains))
    return f" Only the {sum(labels[one] for one in domains):,} of the classes {classes} were looked at."


def _began(files: RunFiles) -> str:
    """Whose weights training began with, which may know of other images than the run's; "" where it was chance."""
    name = files.settings().get("train", {}).get("start")
    if not name:
        return ""
    whose = "what the page of that run tells"
    if name in names():
        known = origin(name)
        whose = f"{known['source']}. {known['licence'].rstrip('.')}"
    return (f"The weights of {name}, learned from {whose}. What is peculiar to those images can show in these, and "
            "copies of them were not looked for.")


def own(spec: dict[str, Any]) -> tuple[int, int]:
    """Images and patients of the training split without those that prepare.extra added, which show nobody or others."""
    added = spec.get("added", {})
    images, patients = spec["counts"].get("train", 0), spec.get("patients", {}).get("train", 0)
    return images - added.get("images", 0), patients - added.get("patients", 0)


def _of_patients(context: dict[str, Any]) -> str:
    """Nothing where every image counts as a patient: the source may not have told them apart."""
    patients = context["held_out_patients"]
    if patients == context["images"]:
        return ""
    return f" of {count(patients, 'virtual patient' if context['virtual'] else 'patient')}"


def alone(files: RunFiles) -> bool:
    """Every training image was counted as a patient of its own."""
    spec = files.get("spec.json")
    images, patients = own(spec) if "counts" in spec else (0, 0)
    return bool(patients and patients == images)


def held_out(files: RunFiles) -> bool:
    """Whether training left images out, without which an audit can tell nothing; True where nobody knows."""
    counts = files.get("spec.json").get("counts", {})
    return "validation" not in counts or counts["validation"] + counts.get("test", 0) > 0


def testable(files: RunFiles) -> bool:
    """Whether there are classes or masks that `radsynth utility` could learn."""
    spec = files.get("spec.json").get("spec", {})
    return len(spec.get("labels", ())) > 1 or spec.get("mask_classes", 0) > 1


def promised(files: RunFiles) -> str:
    """What differential privacy promises, "" where it was not used."""
    made = files.get("generator.json")
    if not (bound := privacy_bound(made)):
        return ""
    return (f"{bound}: but for that chance, whether one {'image' if alone(files) else 'patient'} was learned from "
            f"changes the odds of any conclusion by a factor of at most {odds(made['privacy']['epsilon'])}")
