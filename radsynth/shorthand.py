"""Words of the command line that stand for settings: --preset, --privacy, --budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radsynth._problems import listed, nearest
from radsynth.errors import SettingsError
from radsynth.settings import read_yaml

PRESETS = Path(__file__).parent / "presets"

_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?(?:e[0-9])?)\s*([a-z]*)\s*")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_IMAGES = {"img": 1, "kimg": 1000}
_CALLED = {"": "min", "sec": "s", "second": "s", "minute": "min", "hr": "h", "hour": "h", "day": "d", "image": "img"}
"""What people write for a unit, without an s at the end."""


def presets() -> dict[str, str]:
    """The presets that ship with radsynth, by name, and what each is (its file's first line)."""
    return {path.stem: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            for path in sorted(PRESETS.glob("*.yaml"))}


def read_preset(name: str) -> dict[str, Any]:
    """The settings of a preset that ships with radsynth."""
    names = [path.stem for path in sorted(PRESETS.glob("*.yaml"))]
    if name not in names:
        raise SettingsError(f"There is no preset {name!r}{nearest(name, names)}; there are {listed(names)}.")
    return read_yaml(PRESETS / f"{name}.yaml")


def read_privacy(name: str) -> dict[str, Any]:
    """The settings of `--privacy NAME`: those of the preset "dp"."""
    if name != "dp":
        raise SettingsError(f"--privacy {name}: there is only dp, differential privacy.")
    return read_preset(name)


def for_patients(documents: Sequence[Any], patients: int) -> list[Any]:
    """The documents with the batch of the preset "dp" for so few patients to learn from.

    What it draws in a turn must be fewer than all, as the chance of not being drawn is part of what protects them:
    half of them where there are fewer than it asks for.
    """
    usual = read_preset("dp")
    if patients >= usual["train"]["batch"]:
        return list(documents)
    lower = {**usual, "train": {**usual["train"], "batch": max(1, patients // 2)}}
    return [lower if one == usual else one for one in documents]


def read_budget(text: str) -> dict[str, dict[str, float]]:
    """A budget ("30s", "2h30min", "1d", "100000img") as a document of settings: train.seconds or train.images."""
    given = text.strip().lower()
    if found := _seconds_or_images(given):
        return {"train": found}
    meant = _meant(given)
    raise SettingsError(
        f"The budget {text!r} means nothing: give a time (30s, 5min, 2h30min, 1d) or a number of training images "
        f"(100000img).{f' Did you mean {meant}?' if _seconds_or_images(meant) else ''}"
    )


def _seconds_or_images(given: str) -> dict[str, float]:
    """One of them above 0, the other 0; empty for what means nothing, and for a share of an image (100.000img)."""
    parts = _PART.findall(given)
    numbers, units = [float(number) for number, _ in parts], [unit for _, unit in parts]
    if _PART.sub("", given) == "" and sum(numbers) > 0:
        if all(unit in _SECONDS for unit in units):
            return {"seconds": sum(number * _SECONDS[unit] for number, unit in zip(numbers, units, strict=True)),
                    "images": 0}
        images = round(numbers[0] * _IMAGES.get(units[0], 0))
        if len(parts) == 1 and images > 0 and (units != ["img"] or "." not in given):
            return {"images": images, "seconds": 0}
    return {}


def _meant(given: str) -> str:
    """What a number means that has no unit or another word for it, a decimal comma, or thousands of images apart."""
    found = re.fullmatch(r"([0-9]{1,12}(?:[.,][0-9]+)*)\s*([a-z]*)", given)
    if not found:
        return ""
    number, word = found.groups()
    unit = _CALLED.get(word.removesuffix("s"), word)
    if unit == "img" and re.fullmatch(r"[0-9]{1,3}([.,][0-9]{3})+", number):
        number = re.sub("[.,]", "", number)
    return number.replace(",", ".") + unit
