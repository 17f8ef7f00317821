"""Reports: everything a run folder holds, as one self-contained page that a reader without radsynth can judge it by."""

from __future__ import annotations

import csv
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import FolderError
from radsynth.files import write_atomically
from radsynth.verbs import _report_pictures as pictures
from radsynth.verbs._report_words import figure, interval, summary, verdict

COLUMNS = 6
PREVIEWS = 4


class _Missing(Exception):
    """A section has to be left out; the text says why."""


def report(run: Path) -> Path:
    """Write RUN/report.html from the files in the run folder alone; what is missing is left out with a sentence.

    Raises FolderError when `run` is no run folder.
    """
    run = Path(run)
    if not any((run / name).is_file() for name in ("spec.json", "results.json", "settings.yaml")):
        raise FolderError(f"{run} is not a run folder: it has no spec.json. 'radsynth run' makes one.")
    page = _template().render(_document(run))
    write_atomically(run / "report.html", page)
    return run / "report.html"


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("radsynth"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html")


def _document(run: Path) -> dict[str, Any]:
    """All sections by name; `missing` holds a sentence for each that is left out."""
    builders: dict[str, Callable[[Path], Any]] = {
        "summary": _summary, "pairs": _pairs, "sheets": _sheets, "numbers": _numbers, "copies": _copies,
        "histogram": _histogram, "course": _course, "data": _data, "plan": _plan, "settings": _settings,
        "versions": _versions,
        "rejected": _rejected,
    }
    document: dict[str, Any] = {"missing": {}, "virtual": _virtual(run),
                                "version": importlib.metadata.version("radsynth"),
                                "real_pictures": (run / "pictures" / "real.npy").is_file()}
    for name, build in builders.items():
        try:
            document[name] = build(run)
        except _Missing as reason:
            document[name], document["missing"][name] = None, str(reason)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            # Files of another version, or edited by hand: the rest of the page is worth having.
            document[name], document["missing"][name] = None, "This part of the run folder could not be read."
    return document


def _json(run: Path, name: str, otherwise: str) -> Any:
    try:
        return json.loads((run / name).read_text(encoding="utf-8"))
    except OSError:
        raise _Missing(otherwise) from None
    except ValueError:
        raise _Missing(f"{name} is damaged.") from None


def _optional(run: Path, name: str) -> Any:
    try:
        return _json(run, name, "")
    except _Missing:
        return None


def _array(run: Path, name: str) -> NDArray[np.uint8] | None:
    try:
        array = np.load(run / "pictures" / f"{name}.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.dtype == np.uint8 and array.ndim >= 4 and len(array) else None


def _virtual(run: Path) -> bool:
    for name, key in (("spec.json", "spec"), ("results.json", "context")):
        found = _optional(run, name)
        section = found.get(key) if isinstance(found, dict) else None
        if isinstance(section, dict) and section.get("virtual"):
            return True
    return False


def _summary(run: Path) -> Any:
    return summary(_optional(run, "spec.json"), _optional(run, "results.json"))


def _sheets(run: Path) -> list[dict[str, str]]:
    """Real and synthetic images as two sheets of the same layout."""
    found = {name: _array(run, name) for name in ("real", "synthetic")}
    if found["synthetic"] is None:
        raise _Missing("No pictures were kept in this run folder.")
    count = min(len(array) for array in found.values() if array is not None)
    columns = min(COLUMNS, count) if found["synthetic"].ndim == 4 else 2
    who = "Virtual patients" if _virtual(run) else "Real: patients"
    captions = {"real": f"{who} that training never saw", "synthetic": "Synthetic"}
    return [{"kind": name, "caption": captions[name], "image": pictures.sheet(array[:count], columns),
             "alt": f"{count} {'real' if name == 'real' else 'synthetic'} images in rows of {columns}"}
            for name, array in found.items() if array is not None]


def _pairs(run: Path) -> dict[str, Any] | None:
    """Results against the truth, for a task from image to image; None for others."""
    found = (_optional(run, "results.json") or {}).get("pairs")
    if not found:
        return None
    array = _array(run, "pairs")
    picture = None if array is None else pictures.sheet(array.reshape(-1, 1, *array.shape[2:]), array.shape[1])
    rows = [{"title": number["title"], "meaning": number["meaning"], "better": number["better"],
             "methods": [_method(line, number["unit"]) for line in number["methods"]]} for number in found["numbers"]]
    return {**found, "rows": rows, "picture": picture}


def _method(line: dict[str, Any], unit: str) -> dict[str, Any]:
    gain = line.get("gain")
    verdict = "" if gain is None else "beaten" if gain["low"] > 0 else "better" if gain["high"] < 0 else "equal"
    return {"name": line["method"], "value": figure(line["value"], unit), "verdict": verdict,
            "interval": interval(line["low"], line["high"], unit)}


def _numbers(run: Path) -> dict[str, Any]:
    results = _json(run, "results.json", "Nothing has been measured yet: 'radsynth evaluate' does it.")
    if "pairs" in results:
        raise _Missing("A task from image to image is measured against the truth, see above.")
    return {"rows": [_row(one) for one in results["measurements"]], "refused": results["refused"],
            "context": results["context"]}


def _row(one: dict[str, Any]) -> dict[str, Any]:
    """A measurement as text, and as positions from 0 to 100 for its little chart."""
    ends = [one[name] for name in ("low", "high", "floor_low", "floor_high")]
    low, high = min(*ends, 0.0), max(ends)
    span = (high - low) or 1.0
    tone, words = verdict(one)
    unit = one["unit"]
    places = {name: round(4 + 92 * (one[name] - low) / span, 2)
              for name in ("value", "low", "high", "floor", "floor_low", "floor_high")}
    return {"title": one["title"], "meaning": one["meaning"], "tone": tone, "verdict": words, "n": one["n"],
            "value": figure(one["value"], unit), "interval": interval(one["low"], one["high"], unit),
            "floor": figure(one["floor"], unit), "floor_interval": interval(one["floor_low"], one["floor_high"], unit),
            "places": places}


def _copies(run: Path) -> list[dict[str, Any]]:
    results = _json(run, "results.json", "Nothing has been measured yet.")
    array = _array(run, "neighbours")
    if array is None or not results["neighbours"]:
        raise _Missing("No pictures of the closest pairs were kept in this run folder.")
    found = []
    for pair, (synthetic, training) in zip(results["neighbours"], array, strict=True):
        near = "no image of an unseen patient is" if pair["rarity"] == 0 else (
            f"{figure(pair['rarity'], 'share')} of unseen patients' images are")
        found.append({
            "image": pictures.png(np.concatenate([pictures.flat(synthetic), pictures.flat(training)], axis=1)),
            "alt": f"Synthetic image {pair['synthetic']} beside training image {pair['training']}",
            "copy": pair["copy"],
            "text": f"Image {pair['synthetic']}: {pair['distance']:.2f} of the usual distance by {pair['by']}; "
                    f"{near} as near.",
        })
    return found


def _histogram(run: Path) -> dict[str, str]:
    results = _json(run, "results.json", "Nothing has been measured yet.")
    return {"svg": pictures.histogram(results["histogram"]), "units": results["histogram"]["units"]}


def _course(run: Path) -> dict[str, Any]:
    lines = _log(run)
    measured = [line for line in lines if "step" in line and isinstance(line.get("images"), int | float)]
    events = [{"images": f"{line.get('images', 0):,}", "event": line["event"], "text": line.get("text", "")}
              for line in lines if "event" in line]
    previews = _previews(run)
    if not measured and not events and not previews:
        raise _Missing("There is no record of the training in this run folder.")
    names = list(dict.fromkeys(name for line in measured for name in line))
    groups: dict[str, list[str]] = {
        "Losses": [name for name in names if name.endswith("/loss")],
        "What the discriminator gives real and synthetic images": [
            name for name in ("discriminator/real", "discriminator/fake") if name in names],
        "Images per second": ["images_per_second"] if "images_per_second" in names else [],
    }
    charts = [{"title": title, "svg": pictures.course(measured, group)} for title, group in groups.items()
              if group and sum(group[0] in line for line in measured) > 1]
    last = measured[-1] if measured else {}
    facts = f"{last['images']:,} images in {_duration(last['seconds'])}" if "seconds" in last else ""
    return {"charts": charts, "events": events, "previews": previews, "facts": facts}


def _log(run: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl that can be read; the last may be half written."""
    try:
        texts = (run / "log.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    lines = []
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _previews(run: Path) -> list[dict[str, str]]:
    """A few fixed-seed grids, evenly over the training, the last included."""
    from PIL import Image as Pillow

    files = sorted((run / "previews").glob("*.png"))
    steps = {round(k * (len(files) - 1) / (PREVIEWS - 1)) for k in range(PREVIEWS)} if files else set()
    found = []
    for path in (files[step] for step in sorted(steps)):
        try:
            with Pillow.open(path) as picture:
                image = pictures.png(np.asarray(picture.convert("RGB" if picture.mode == "RGB" else "L")))
        except (OSError, ValueError):
            continue
        images = f"{int(path.stem):,}" if path.stem.isdigit() else path.stem
        found.append({"image": image, "caption": f"after {images} images"})
    return found


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _data(run: Path) -> list[tuple[str, str]]:
    found = _json(run, "inspection.json", "The source was not inspected in this run.")
    facts = [("Images", f"{found['n_images']:,}"), ("Patients", f"{found['n_patients']:,}"),
             ("Modality", found["modality"]),
             ("Median size", " \u00d7 ".join(str(side) for side in found["median_size"]))]
    if found.get("spacing"):
        facts.append(("Spacing, mm", " \u00d7 ".join(f"{step:.3g}" for step in found["spacing"])))
    if found.get("labels"):
        facts.append(("Classes", ", ".join(f"{name} {count:,}" for name, count in found["labels"].items())))
    return facts + [("Odd", f"{text} ({count:,})") for text, count in found.get("notes", {}).items()]


def _plan(run: Path) -> list[dict[str, Any]]:
    lines = _json(run, "plan.json", "No plan was made: all settings were given or are the defaults.")
    return [{"setting": line["setting"], "value": json.dumps(line["value"]), "reason": line["reason"]}
            for line in lines]


def _settings(run: Path) -> str:
    try:
        return (run / "settings.yaml").read_text(encoding="utf-8")
    except OSError:
        raise _Missing("The run folder holds no settings.") from None


def _versions(run: Path) -> list[tuple[str, str]]:
    """Software, and the hashes of what went in and came out."""
    facts = [(str(name), str(value)) for name, value in (_optional(run, "versions.json") or {}).items()]
    spec, weights = _optional(run, "spec.json") or {}, _optional(run, "generator.json") or {}
    results = _optional(run, "results.json") or {}
    facts += [(name, str(value)) for name, value in (
        ("Prepared data, hash", spec.get("data_hash")), ("Generator weights, SHA-256", weights.get("sha256")),
        ("Feature network", results.get("context", {}).get("features"))) if value]
    if not facts:
        raise _Missing("The run folder holds no versions.")
    return facts


def _rejected(run: Path) -> dict[str, Any]:
    """How many files were rejected, and where they are named: not here, for names and reasons may name patients."""
    path = run / "data" / "rejected.csv"
    if not path.is_file():
        raise _Missing("The run folder holds no table of rejected files.")
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        count = sum(line["skipped"] != "yes" for line in csv.DictReader(file))
    return {"count": count, "file": path.relative_to(run).as_posix()}
