"""Reports: everything a run folder holds, as one self-contained page that a reader without radsynth can judge it by.

A part of the page is one function of the run folder's files (in `_report_*.py`) and, where it has a heading of its own,
one template in templates/report/.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radsynth.errors import FolderError
from radsynth.files import write_atomically
from radsynth.verbs import _report_done as done
from radsynth.verbs import _report_images as images
from radsynth.verbs import _report_numbers as numbers
from radsynth.verbs import _report_training as training
from radsynth.verbs._report_words import summary
from radsynth.verbs._run_files import Missing, RunFiles

PARTS: dict[str, Callable[[RunFiles], Any]] = {
    "summary": lambda files: summary(files.get("spec.json") or None, files.get("results.json") or None),
    "pairs": images.pairs, "sheets": images.sheets, "copies": images.copies,
    "numbers": numbers.numbers, "histogram": numbers.histogram, "course": training.course,
    "data": done.data, "rejected": done.rejected, "plan": done.plan, "settings": done.settings,
    "versions": done.versions,
}
"""What the templates are filled with, by name."""
SECTIONS = {
    "minute": "In one minute", "pairs": "Results against the truth", "images": "Images", "numbers": "Numbers",
    "copies": "Closest copies", "intensities": "Intensities", "training": "Training", "source": "Source",
    "settings": "Settings", "versions": "Versions",
}
"""The page's sections in their order: the template's name, which is the anchor too, and the entry in the contents."""


def report(run: Path) -> Path:
    """Write RUN/report.html from the files in the run folder alone; what is missing is left out with a sentence.

    Raises FolderError when `run` is no run folder.
    """
    run = Path(run)
    if not any((run / name).is_file() for name in ("spec.json", "results.json", "settings.yaml")):
        raise FolderError(f"{run} is not a run folder: it has no spec.json. 'radsynth run' makes one.")
    page = _template().render(_document(RunFiles(run)))
    write_atomically(run / "report.html", page)
    return run / "report.html"


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("radsynth"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html")


def _document(files: RunFiles) -> dict[str, Any]:
    """All parts by name; `missing` holds a sentence for each that is left out."""
    document: dict[str, Any] = {"missing": {}, "virtual": files.virtual,
                                "version": importlib.metadata.version("radsynth"),
                                "real_pictures": (files.run / "pictures" / "real.npy").is_file()}
    for name, build in PARTS.items():
        try:
            document[name] = build(files)
        except Missing as reason:
            document[name], document["missing"][name] = None, str(reason)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            # Files of another version, or edited by hand: the rest of the page is worth having.
            document[name], document["missing"][name] = None, "This part of the run folder could not be read."
    left_out = set() if document["pairs"] else {"pairs"}
    document["sections"] = {name: title for name, title in SECTIONS.items() if name not in left_out}
    return document
