"""Words of the command line that stand for settings: --preset, --privacy, --budget."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from radsynth._problems import listed, nearest
from radsynth.errors import SettingsError
from radsynth.settings import read_yaml

PRESETS = Path(__file__).parent / "presets"

_BUDGET = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([a-z]*)")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}
_IMAGES = {"img": 1, "kimg": 1000}


def read_preset(name: str) -> dict[str, Any]:
    """The settings of a preset that ships with radsynth."""
    presets = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in presets:
        raise SettingsError(f"There is no preset {name!r}{nearest(name, presets)}; there are {listed(presets)}.")
    return read_yaml(PRESETS / f"{name}.yaml")


def read_privacy(name: str) -> dict[str, Any]:
    """The settings of `--privacy NAME`: those of the preset "dp"."""
    if name != "dp":
        raise SettingsError(f"--privacy {name}: there is only dp, differential privacy.")
    return read_preset(name)


def read_budget(text: str) -> dict[str, dict[str, float]]:
    """A budget ("30s", "5min", "2h", "100000img") as a document of settings: train.seconds or train.images."""
    match = _BUDGET.fullmatch(text.strip().lower())
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    if number > 0 and unit in _SECONDS:
        return {"train": {"seconds": number * _SECONDS[unit], "images": 0}}
    if number > 0 and unit in _IMAGES and round(number * _IMAGES[unit]) > 0:
        return {"train": {"images": round(number * _IMAGES[unit]), "seconds": 0}}
    meant = f" Did you mean {match[1]}min?" if match and number > 0 and not unit else ""
    raise SettingsError(
        f"The budget {text!r} means nothing: give a time (30s, 5min, 2h) or a number of training images (100000img)."
        f"{meant}"
    )
