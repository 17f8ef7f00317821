"""What was done, for the report: source, rejected files, settings and their reasons, versions and hashes."""

from __future__ import annotations

import json
from typing import Any

from radsynth.choices import Choice, as_given
from radsynth.verbs._rejected import count_rejected, in_words
from radsynth.verbs._report.effort import effort as measured
from radsynth.verbs._report.words import duration, extent, figure, named
from radsynth.verbs._run_files import Missing, RunFiles


def data(files: RunFiles) -> list[tuple[str, str]]:
    """What was learned from: facts of the source, without its path."""
    found = files.need("inspection.json", "The source was not inspected in this run.")
    alone = ", each image counted as one" if found["n_patients"] == found["n_images"] else ""
    modality = "not stated in the files" if found["modality"] == "OT" else found["modality"]
    facts = [("Images", f"{found['n_images']:,}"), ("Patients", f"{found['n_patients']:,}{alone}"),
             ("Modality", modality),
             ("Median size", f"{extent(found['median_size'])}")]
    if found.get("spacing"):
        facts.append(("Spacing, mm", " \u00d7 ".join(f"{step:.3g}" for step in found["spacing"])))
    if len(files.channels) > 1 and not files.colour:
        facts.append(("Channels", ", ".join(files.channels)))
    if found.get("labels"):
        facts.append(("Classes", "; ".join(f"{named(name)}: {count:,}" for name, count in found["labels"].items())))
    return facts + [("Odd", f"{text} ({count:,})") for text, count in found.get("notes", {}).items()]


def plan(files: RunFiles) -> list[dict[str, Any]]:
    """The settings that were chosen, with their reasons, and as they were used where others were asked for."""
    lines = files.need("plan.json", "No plan was made: all settings were given or are the defaults.")
    used = files.settings()
    planned = as_given([Choice(**line) for line in lines], lambda section, key: (used.get(section) or {}).get(key))
    return [{"setting": line.setting, "value": json.dumps(line.value), "reason": line.reason} for line in planned]


def settings(files: RunFiles) -> str:
    """All settings, as YAML."""
    try:
        return (files.run / "settings.yaml").read_text(encoding="utf-8")
    except OSError:
        raise Missing("The run folder holds no settings.") from None


def versions(files: RunFiles) -> list[tuple[str, str]]:
    """Software, and the hashes of what went in and came out."""
    facts = [(str(name), str(value)) for name, value in files.get("versions.json").items()]
    spec, weights = files.get("spec.json"), files.get("generator.json")
    results = files.get("results.json")
    facts += [(name, str(value)) for name, value in (
        ("Prepared data, hash", spec.get("data_hash")), ("Generator weights, SHA-256", weights.get("sha256")),
        ("Feature network", results.get("context", {}).get("features"))) if value]
    if not facts:
        raise Missing("The run folder holds no versions.")
    return facts


def rejected(files: RunFiles) -> dict[str, Any]:
    """How many files were rejected, and where they are named: not here, for names and reasons may name patients.

    duplicates, left_out: second copies of an image, and slices of background, which were not used either
    """
    path = files.run / "data" / "rejected.csv"
    if not path.is_file():
        raise Missing("The run folder holds no table of rejected files.")
    count = count_rejected(path)
    if count is None:
        raise Missing("data/rejected.csv is damaged.")
    made = files.get("data/manifest.json")
    dicom = files.get("spec.json").get("spec", {}).get("format") == "dicom"
    return {"count": count, "files": in_words(count, dicom), "file": path.relative_to(files.run).as_posix(),
            "duplicates": made.get("duplicates", 0), "left_out": made.get("left_out", 0)}


def effort(files: RunFiles) -> dict[str, Any]:
    """Time by step, and an estimate of the energy with what it assumes."""
    found = measured(files)
    if not found.seconds:
        raise Missing("The run folder holds no times.")
    facts = [(step.capitalize(), duration(seconds)) for step, seconds in found.seconds.items()]
    facts.append(("Energy, estimated", f"{figure(found.watt_hours, 'Wh')}"))
    return {"facts": facts, "assumption": found.assumption, "seconds": found.seconds, "watt_hours": found.watt_hours}
