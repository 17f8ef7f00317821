"""Reports: everything a run folder holds, as one self-contained page that a reader without radsynth can judge it by.

A part of the page is one function of the run folder's files (in `_report/`) and, where it has a heading of its own,
one template in templates/report/.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from radsynth.errors import FolderError
from radsynth.files import write_atomically
from radsynth.run_folder import RunFolder, version_of
from radsynth.verbs._report import done, evidence, facts, images, numbers, training
from radsynth.verbs._report import verdicts as words
from radsynth.verbs._report.cards import dataset_card, model_card, write_cards
from radsynth.verbs._report.landmarks import page_again
from radsynth.verbs._report.page import template
from radsynth.verbs._report.ranked import ranked
from radsynth.verbs._report.scorecard import scorecard
from radsynth.verbs._run_files import Missing, RunFiles

PARTS: dict[str, Callable[[RunFiles], Any]] = {
    "verdicts": words.verdicts, "bottom_line": lambda files: words.bottom_line(words.verdicts(files), facts.use(files)),
    "facts": facts.facts, "use": facts.use, "limits": facts.limits,
    "pairs": images.pairs, "doubts": images.doubts, "findings": images.findings, "sheets": images.sheets,
    "masks": images.masked, "walks": images.walks,
    "criteria": numbers.criteria, "context": numbers.context, "classes": numbers.classes,
    "histogram": numbers.histogram, "usefulness": evidence.usefulness, "readers": evidence.readers,
    "audit": evidence.audit, "copies": evidence.copies, "course": training.course,
    "data": done.data, "rejected": done.rejected, "effort": done.effort, "plan": done.plan, "settings": done.settings,
    "versions": done.versions,
}
"""What the templates are filled with, by name."""
SECTIONS = {
    "minute": "In one minute", "pairs": "Results against the truth", "findings": "Findings", "doubts": "Doubts",
    "images": "Images",
    "scorecard": "Scorecard", "usefulness": "Usefulness", "readers": "Readers", "privacy": "Privacy",
    "control": "What it has learned", "intensities": "Intensities", "training": "Training", "source": "Source",
    "done": "What was done", "limits": "Limits",
}
"""The page's sections in their order: the template's name, which is the anchor too, and the entry in the contents."""
REAL = {"evaluate": tuple(f"pictures/{name}.npy" for name in ("real", "neighbours", "pairs", "doubts", "masks")),
        "audit": ("pictures/audit_pairs.npy",), "explain": ("explain/explain.json",)}
"""Files whose pictures show real images, by the verb that writes them."""
ONLY_SYNTHESIS = ("images", "scorecard", "usefulness", "readers", "privacy", "intensities")
"""Sections that a task from image to image has nothing to say in."""


def report(run: Path) -> Path:
    """Write RUN/report.html from the files in the run folder alone; what is missing is left out with a sentence.

    A folder in which `evaluate` wrote a ranking of several sets gets a page on these, one in which `apply` put images
    with landmarks onto another its page on these.

    RUN/report.json holds verdicts, scorecard and effort for programs; the numbers are in results.json, audit.json and
    utility.json. README.md (a model card) and the data-set card of RUN/synthetic are brought up to date.

    Raises FolderError when `run` is neither of these, or when the ranking cannot be read.
    """
    run = Path(run)
    if (run / "apply.json").is_file() and not (run / "spec.json").is_file():
        write_atomically(run / "report.html", page_again(run))
        return run / "report.html"
    if not any((run / name).is_file() for name in ("spec.json", "results.json", "settings.yaml")):
        why = "it has no spec.json" if run.exists() else "it does not exist"
        raise FolderError(f"{run} is not a run folder: {why}. 'radsynth run' makes one, 'radsynth evaluate REAL A B "
                          "--out DIR' a folder with a ranking.")
    if "ranking" in RunFiles(run).get("results.json"):
        return _report_ranking(run)
    weights = RunFolder(run).weights_hash
    document = _document(RunFiles(run))
    summary, page = _summary(RunFiles(run), document), template("report.html").render(document)
    cards = _cards(run)  # all is made before any is written: what stops it on the way leaves no new beside an old one
    if RunFolder(run).weights_hash != weights:
        return report(run)  # training ended meanwhile: what was read is half of the former weights, half of these
    write_atomically(run / "report.json", json.dumps(summary, indent=1))
    write_atomically(run / "report.html", page)
    write_cards(cards)
    return run / "report.html"


def _report_ranking(folder: Path) -> Path:
    try:
        document = ranked(RunFiles(folder))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise FolderError(f"{folder / 'results.json'} holds a ranking that cannot be read: it was edited, or is of "
                          "another version. Evaluate the sets again.") from None
    version = version_of("radsynth")
    write_atomically(folder / "report.html", template("ranking.html").render(document, version=version))
    return folder / "report.html"


def _cards(run: Path) -> list[tuple[Path, str]]:
    """The model card, and the data-set card of RUN/synthetic, as of what is known now."""
    if not (run / "generator.json").is_file():
        return []
    cards: list[tuple[Path, str]] = []
    with suppress(KeyError, TypeError, ValueError, IndexError, AttributeError, OSError):
        cards += model_card(run)  # where the run's own description is damaged, the report says so
        if (run / "synthetic" / "generate.json").is_file():
            cards += dataset_card(run / "synthetic", run)
    return cards


def _document(files: RunFiles) -> dict[str, Any]:
    """All parts by name; `missing` holds a sentence for each that is left out."""
    network = files.get("generator.json")
    document: dict[str, Any] = {"missing": {}, "virtual": files.virtual,
                                "version": version_of("radsynth"),
                                "subject": files.of_images or "Synthetic images",
                                "weights": str(network.get("sha256", ""))[:16],
                                "of_images": bool(files.of_images), "of_masks": files.of_masks,
                                "real_pictures": {verb for verb, names in REAL.items()
                                                  if any((files.run / name).is_file() for name in names)}}
    for name, build in PARTS.items():
        try:
            document[name] = build(files)
        except Missing as reason:
            document[name], document["missing"][name] = None, str(reason)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            # Files of another version, or edited by hand: the rest of the page is worth having.
            document[name], document["missing"][name] = None, "This part of the run folder could not be read."
    previews = document["course"]["previews"] if document["course"] else []
    document["real_pictures"] |= {"evaluate"} if files.shows_patients and previews else set()
    left_out = set() if document["pairs"] else {"pairs"}
    left_out |= set(ONLY_SYNTHESIS) if document["pairs"] or files.paired else set()
    left_out |= {"usefulness", "readers", "privacy"} if files.unpaired else set()
    left_out |= {name for name in ("findings", "doubts") if not document[name]}
    left_out |= set() if document["walks"] else {"control"}
    document["sections"] = {name: title for name, title in SECTIONS.items() if name not in left_out}
    return document


def _summary(files: RunFiles, document: dict[str, Any]) -> dict[str, Any]:
    """What report.json holds."""
    try:
        criteria = [one.to_json() for one in scorecard(files)]
    except (KeyError, TypeError, ValueError, AttributeError):
        criteria = []
    return {"version": 1, "bottom_line": document["bottom_line"],
            "verdicts": [dataclasses.asdict(one) for one in document["verdicts"] or []],
            "scorecard": criteria if "scorecard" in document["sections"] else [], "effort": document["effort"],
            "limits": document["limits"], "use": document["use"]}
