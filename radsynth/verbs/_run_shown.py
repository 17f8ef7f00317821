"""A run folder in a few lines: what it learns, how large its networks are, how far it is, what the doctor did."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

from radsynth.files import LOCK
from radsynth.image import ImageSpec
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.verbs._report.words import count, duration, extent
from radsynth.verbs._run_files import RunFiles

QUIET = ("started", "resumed", "interrupted", "trained")
"""Events that are no news beside the state."""
LAST = 12
"""Events shown at most; log.jsonl has all."""
MEASURED = {"images_per_second": "images per second", "selection/distance": "distance to validation images",
            "doctor/variety": "variety (real images: 1)", "doctor/overfit": "overfitting (aim: below 0.4)",
            "doctor/augmentation": "augmentation that the doctor asks for"}
"""What is shown of the course; docs/when-training-goes-wrong.md says what it means."""


def shown(run: Path) -> dict[str, Any]:
    """The state of a run, under way or ended. FolderError when there is none."""
    files, spec = RunFiles(run), RunFolder(run).description()
    settings, log = RunFolder(run).settings(), files.log()
    lines = [line for line in log if "step" in line]
    previews = sorted((run / "previews").glob("*.png"))
    events = [{"images": line["images"], "event": line["event"], "text": line["text"]}
              for line in log if "event" in line and line["event"] not in QUIET]
    return {"run": run, "state": _state(run, files.get("generator.json"), settings["train"], log),
            "learned_from": f"{count(spec['counts'].get('train', 0), 'image')} of "
                            f"{count(spec['patients'].get('train', 0), 'patient')} ({extent(spec['spec']['size'])})",
            "task": settings["task"]["kind"], "network": settings["model"]["kind"],
            "parameters": _parameters(settings, spec), "last_preview": previews[-1] if previews else None,
            "course": _course(lines), "events": events[-LAST:]}


def _state(run: Path, weights: dict[str, Any], train: dict[str, Any], log: list[dict[str, Any]]) -> str:
    """Whether it runs, how much of its budget is spent, which weights were delivered."""
    events = [line["event"] for line in log if "event" in line]
    if weights:
        chosen = (weights["chosen"] or {}).get("images", weights["images"])
        which = "the last" if chosen == weights["images"] else (
            f"those after {chosen:,}, the last as close to validation images as any")
        if events[-2:] == ["best weights kept", "trained"]:
            which = "the best, not the last"
        return (f"trained with {weights['images']:,} images in {duration(weights['seconds'])}; weights delivered: "
                f"{which} ({weights['sha256'][:16]})")
    images, seconds = next(((line["images"], line["seconds"]) for line in reversed(log) if "step" in line), (0, 0.0))
    budget = [f"{train['images']:,} images"] * bool(train["images"])
    budget += [duration(train["seconds"])] * bool(train["seconds"])
    how = "training now" if _locked(run) else (
        "ended by an error, which the last event names" if events[-1:] == ["stopped"] else
        "stopped; the same command goes on")
    return f"{how}: {images:,} images in {duration(seconds)}, of {' or '.join(budget)}"


def _locked(run: Path) -> bool:
    """Whether a process trains here."""
    try:
        with (run / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _parameters(settings: dict[str, Any], spec: dict[str, Any]) -> dict[str, str]:
    """Of each network."""
    from radsynth.tasks import BUILT_OF, build

    networks = build(resolve(settings, sections=BUILT_OF), ImageSpec.from_json(spec["spec"])).networks()
    return {name: f"{sum(part.numel() for part in network.parameters()):,}" for name, network in networks.items()}


def _course(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """First and last values, and between them the lowest and the highest."""
    found = []
    for name, title in MEASURED.items():
        values = [line[name] for line in lines if isinstance(line.get(name), int | float)]
        if values:
            found.append({"measured": title, "first": values[0], "lowest": min(values), "highest": max(values),
                          "last": values[-1]})
    return found
