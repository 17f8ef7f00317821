"""The report's course of training: losses, previews, and what the training doctor saw and did."""

from __future__ import annotations

from typing import Any

import numpy as np

from radsynth.verbs._report import pictures
from radsynth.verbs._report.words import duration
from radsynth.verbs._run_files import Missing, RunFiles

PREVIEWS = 4
NO_TERMS = ("real", "fake", "gradient_norm", "weights_norm", "epsilon")
"""What is logged of a network beside the terms of its loss."""
WATCHING = ("doctor", "selection")
"""Who logs besides networks."""


def course(files: RunFiles) -> dict[str, Any]:
    """Charts, events and previews."""
    lines = files.log()
    measured = [line for line in lines if "step" in line and isinstance(line.get("images"), int | float)]
    events = [{"images": f"{line.get('images', 0):,}", "event": line["event"], "text": line.get("text", "")}
              for line in lines if "event" in line]
    previews = _previews(files)
    if not measured and not events and not previews:
        raise Missing("There is no record of the training in this run folder.")
    names = list(dict.fromkeys(name for line in measured for name in line))
    groups: dict[str, list[str]] = {
        **_losses([name for name in names if "/" in name]),
        "Scores that the discriminator gives (higher: more real)": [
            name for name in ("discriminator/real", "discriminator/fake") if name in names],
        "Distance of samples to validation images (lower: closer)": [
            name for name in ("selection/distance",) if name in names],
        "Images per second": ["images_per_second"] if "images_per_second" in names else [],
    }
    charts = [{"title": title, "svg": pictures.course(measured, group)} for title, group in groups.items()
              if group and sum(group[0] in line for line in measured) > 1]
    last = measured[-1] if measured else {}
    facts = f"{last['images']:,} images in {duration(last['seconds'])}" if "seconds" in last else ""
    volumes = len(files.get("spec.json").get("spec", {}).get("size", ())) == 3
    return {"charts": charts, "events": events, "previews": previews, "facts": facts, "volumes": volumes}


def _losses(names: list[str]) -> dict[str, list[str]]:
    """Charts of what goes down, of logged names with a network before the dash.

    A task whose network has no single loss, such as one from image to image, is told by the terms that it adds up.
    """
    losses = [name for name in names if name.endswith("/loss")]
    if any(not name.startswith("discriminator") for name in losses):
        return {"Losses": losses}
    parts = {name: name.split("/", 1) for name in names}
    terms = [name for name, (network, term) in parts.items()
             if network not in WATCHING and not network.startswith("discriminator") and term not in NO_TERMS]
    return {"Terms of the loss, as weighted": terms, "Loss of the discriminator": losses}


def _previews(files: RunFiles) -> list[dict[str, str]]:
    """A few fixed-seed grids, evenly over the training, the last included."""
    from PIL import Image as Pillow

    if files.shows_patients and files.get("results.json").get("real_pictures") is False:
        return []
    paths = sorted((files.run / "previews").glob("*.png"))
    steps = {round(k * (len(paths) - 1) / (PREVIEWS - 1)) for k in range(PREVIEWS)} if paths else set()
    found = []
    for path in (paths[step] for step in sorted(steps)):
        try:
            with Pillow.open(path) as picture:
                image = pictures.png(np.asarray(picture.convert("RGB" if picture.mode == "RGB" else "L")))
        except (OSError, ValueError):
            continue
        images = f"{int(path.stem):,}" if path.stem.isdigit() else path.stem
        found.append({"image": image, "caption": f"after {images} images"})
    return found
