"""Cards: README.md with Hugging Face front matter for a data set and for a model, and CLAIM.md beside them.

Facts come from the run folder alone. What it does not know is listed as "not stated", for people to fill in.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from radsynth.files import write_atomically
from radsynth.run_folder import version_of
from radsynth.verbs._report.claim import claim
from radsynth.verbs._report.effort import effort
from radsynth.verbs._report.facts import facts, limits, promised, use
from radsynth.verbs._report.verdicts import verdicts
from radsynth.verbs._report.words import duration, extent, figure, format_name, interval, named, reach, sides
from radsynth.verbs._run_files import RunFiles

UNKNOWN = ("Licence", "Who made and who answers for it, contact", "Where the images learned from come from",
           "Consent, ethics approval and legal basis", "Age, sex and origin of the patients learned from",
           "Scanners and sites", "Funding")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Hugging Face's categories of the number of examples."""
PIPELINES = {"synthesis": "unconditional-image-generation", "private": "unconditional-image-generation",
             "autoencode": "unconditional-image-generation", "segment": "image-segmentation"}
"""Hugging Face's names of tasks; all others are image-to-image."""

EVIDENCE = ("results.json", "audit.json", "utility.json", "control/control.json", "explain/explain.json",
            "inspection.json", "versions.json")
"""What a card can do without, if it was written by another version or edited by hand: `generate` must not end at it."""
FOREIGN = (KeyError, TypeError, ValueError, IndexError, AttributeError)


Texts = Iterator[tuple[Path, str]]
"""What is to be written where."""


def write_dataset_card(folder: Path, run: Path) -> None:
    """README.md and CLAIM.md of a folder that `generate` wrote (generate.json, samples.csv) from `run`."""
    write_cards(dataset_card(folder, run))


def write_model_card(run: Path) -> None:
    """README.md and CLAIM.md of a run folder; a bundle of `export` keeps its own, which says what each file is."""
    write_cards(model_card(run))


def write_cards(texts: Iterable[tuple[Path, str]]) -> None:
    """Write them; FolderError when that fails."""
    for path, text in texts:
        write_atomically(path, text)


def dataset_card(folder: Path, run: Path) -> Texts:
    """See `write_dataset_card`."""
    try:
        yield from list(_dataset_card(folder, RunFiles(run)))
    except FOREIGN:
        yield from _dataset_card(folder, RunFiles(run, without=EVIDENCE))


def model_card(run: Path) -> Texts:
    """See `write_model_card`."""
    if (run / "export.json").is_file():
        return
    try:
        yield from list(_model_card(RunFiles(run)))
    except FOREIGN:
        yield from _model_card(RunFiles(run, without=EVIDENCE))


def _dataset_card(folder: Path, files: RunFiles) -> Texts:
    made = json.loads((folder / "generate.json").read_text(encoding="utf-8"))
    with (folder / "samples.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    labels = {row["index"]: row["label"] for row in rows}
    classes = dict(sorted(Counter(label for label in labels.values() if label).items()))
    what, masks = _modality(files), rows[0].get("mask")
    front = {"pretty_name": f"Synthetic {what}images", "license": "unknown",
             "annotations_creators": ["machine-generated"], "size_categories": [_size(made["count"])],
             "task_categories": ["unconditional-image-generation",
                                 *(["image-classification"] if len(classes) > 1 else []),
                                 *(["image-segmentation"] if masks else [])],
             "tags": _tags(files)}
    yield folder / "README.md", _filled(front, "dataset", {
        **_shared(files), "title": f"Synthetic {what}images",
        "contents": [*_contents(files, made, classes), ("Masks", _masks(files, masks) if masks else "none")],
        "making": _making(files), "measured_on": _measured_on(files, made)})
    yield folder / "CLAIM.md", _filled({}, "claim", {"items": claim(files)})


def _masks(files: RunFiles, first: str) -> str:
    """Where masks lie, of which the first one is named, and what their values mean where that is known."""
    spec = files.get("spec.json").get("spec", {})
    names = [f"{value} {name}" for value, name in zip(spec.get("mask_values", ()), spec.get("mask_names", ()),
                                                      strict=False)]
    where = "train_masks of the same file" if first.endswith(".npz") else "masks/"
    return f"one for each image, in {where}" + (f": {', '.join(names)}" if names else "")


def _model_card(files: RunFiles) -> Texts:
    run, spent = files.run, effort(files)
    task = files.settings().get("task", {}).get("kind", "synthesis")
    front = {"library_name": "radsynth", "license": "unknown", "tags": _tags(files),
             "pipeline_tag": PIPELINES.get(task, "image-to-image")}
    times = [(step.capitalize(), duration(seconds)) for step, seconds in spent.seconds.items()]
    yield run / "README.md", _filled(front, "model", {
        **_shared(files), "title": f"A network for {_modality(files)}images ({task})", "making": _making(files),
        "pairs": _pairs(files), "effort": [*times, ("Energy, estimated", figure(spent.watt_hours, "Wh"))],
        "assumption": spent.assumption})
    yield run / "CLAIM.md", _filled({}, "claim", {"items": claim(files)})


def _filled(front: dict[str, Any], template: str, content: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("radsynth", "templates/cards"), finalize=_plain, trim_blocks=True,
                              autoescape=False, undefined=StrictUndefined, lstrip_blocks=True)  # Markdown, not HTML
    head = f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n" if front else ""
    return head + environment.get_template(f"{template}.md").render(content) + "\n"


def _plain(value: Any) -> Any:
    """Texts from files as one line in which Markdown and HTML mean nothing."""
    if not isinstance(value, str):
        return value
    return " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;")


def _shared(files: RunFiles) -> dict[str, Any]:
    """What both cards say."""
    results = files.get("results.json")
    numbers = [{"title": one["title"], "value": figure(one["value"], one["unit"]), "n": f"{one['n']:,}",
                "interval": interval(one["low"], one["high"], one["unit"]),
                "floor": figure(one["floor"], one["unit"]),
                "floor_interval": interval(one["floor_low"], one["floor_high"], one["unit"])}
               for one in results.get("measurements", [])]
    return {"version": version_of("radsynth"), "virtual": files.virtual, "numbers": numbers,
            "features": results.get("context", {}).get("features", ""), "verdicts": verdicts(files) if results else [],
            "use": use(files), "limits": limits(files), "unknown": UNKNOWN}


def _modality(files: RunFiles) -> str:
    modality = files.get("spec.json").get("spec", {}).get("modality", "OT")
    return "" if modality == "OT" else f"{modality} "


def _tags(files: RunFiles) -> list[str]:
    return ["synthetic", "medical", "radiology", "radsynth", *(word.lower() for word in _modality(files).split())]


def _size(number: int) -> str:
    return next((name for most, name in SIZES if number < most), "n>1M")


def _contents(files: RunFiles, made: dict[str, Any], classes: dict[str, int]) -> list[tuple[str, str]]:
    document = files.get("spec.json")
    spec, grey = document["spec"], document["intensity"]
    spacing = f"{sides(spec['spacing'])} mm" if spec.get("spacing") else "not stated"
    return [("Images", f"{made['count']:,}"), ("Format", format_name(made["format"])),
            ("Size", f"{extent(spec['size'])}"),
            ("Spacing", spacing), ("Intensities", f"{reach(spec, grey)} at most"),
            ("Classes", ", ".join(f"{named(name)} {number:,}" for name, number in classes.items()) or "none"),
            ("Seed", str(made["seed"])), ("Truncation", f"{made['truncation']:g} (1 is the full variety)"),
            ("Copy filter", "used, see copy_filter.json" if made.get("copy_filter") else "not used")]


def _making(files: RunFiles) -> list[tuple[str, str]]:
    weights = files.get("generator.json")
    found = [pair for pair in facts(files) if pair[0] in ("Learned from", "Started from")]
    if weights:
        found += [("Network, task", f"{weights['model']}, {weights['task']}"),
                  ("Training", f"{weights['images']:,} images seen in {weights['steps']:,} steps"),
                  ("Differential privacy", promised(files) or "not used"), ("Weights, SHA-256", weights["sha256"])]
    return found


def _measured_on(files: RunFiles, made: dict[str, Any]) -> str:
    """On which images the run's numbers were measured, and whether they are these."""
    own = files.get("synthetic/generate.json")
    if not files.get("results.json").get("measurements"):
        return "Nothing was measured."
    if own == made:
        return "Measured on these images against held-out patients of the same source."
    changed = [name.replace("_", " ") for name in ("label", "truncation", "copy_filter", "weights")
               if own.get(name) != made.get(name)]
    if not own or changed:
        return (f"Measured on other images of the run ({', '.join(changed) or 'which ones is not known'} differ): the "
                "numbers need not hold for these. Measure them with 'radsynth evaluate'.")
    return "Measured on other images of the same generator, drawn in the same way, against held-out patients."


def _pairs(files: RunFiles) -> list[dict[str, str]]:
    numbers = files.get("results.json").get("pairs", {}).get("numbers", [])
    return [{"title": number["title"], "method": line["method"], "value": figure(line["value"], number["unit"]),
             "interval": interval(line["low"], line["high"], number["unit"])}
            for number in numbers for line in number["methods"]]
