"""What is wrong with settings, in words: where, what was given, what is allowed, the nearest right name."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from radsynth._describe import Setting
from radsynth.errors import SettingsError

ELSEWHERE = {
    "lr": "rate", "learning_rate": "rate", "batch_size": "batch", "ema": "average",
    "epochs": "images", "steps": "images", "iterations": "images", "kimg": "images",
    "lsgan": "least_squares", "wgan": "wasserstein", "wgan_gp": "wasserstein", "rpgan": "relativistic",
    "bce": "non_saturating", "vanilla": "non_saturating", "gp": "wgan_gp", "gradient_penalty": "wgan_gp",
    "fp32": "32-true", "float32": "32-true", "progan": "progressive", "stylegan": "style",
    "stylegan2": "style", "devices": "processes", "gpus": "processes",
}
"""What papers and other programs call settings and their values, with what it is here, wherever there is such a one."""
NO_SETTING = dict.fromkeys(("device", "accelerator", "cuda", "gpu", "use_gpu", "use_cuda"), (
    "a GPU is used where there is one; the environment variable CUDA_VISIBLE_DEVICES says which, and empty, that none "
    "is"))
"""What others have a setting for, and how it is decided here."""


def explain(name: str, title: str, fields: dict[str, Setting], problem: dict[str, Any]) -> str:
    """One line: path, what was given, what is allowed, the nearest right name."""
    key, *inner = [str(part) for part in problem["loc"]] or [""]
    path = ".".join([name, *([key] if key else [])]) + "".join(f"[{part}]" for part in inner if part.isdigit())
    if problem["type"] == "unexpected_keyword_argument":
        return no_such(name, title, key, fields)
    if problem["type"] == "missing":
        return f"{path}: must be given: {fields[key].meaning} Allowed: {fields[key].allowed}"
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("value_error", "assertion_error"):
        return f"{path}: {reason}" if not key else f"{path}: given {shown(problem['input'])}: {reason}"
    allowed = fields[key].allowed if key in fields else reason
    given = problem["input"]
    list_meant = problem["type"] in ("tuple_type", "list_type") and isinstance(given, str | int | float) and given != ""
    least = re.match(r"a list of (\d)", allowed)
    count = allowed.count(";") + 1 if allowed.startswith("a list: ") else int(least[1] if least else 1)
    parts = re.findall(r"[^\s,;x]+", str(given)) if re.match(r"\d", str(given)) else [str(given)]
    example = ", ".join(parts if len(parts) > 1 else parts * count)
    how = f"; a list is written in brackets, as in '{path}=[{example}]'" if list_meant else ""
    meant = nearest(str(given), allowed.split(", ")) if problem["type"] == "literal_error" else ""
    return f"{path}: given {shown(given)}, allowed: {allowed}{meant}{how}"


def no_such(name: str, title: str, key: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The same for a name that does not exist."""
    hint = f" ({NO_SETTING[key]})" if key in NO_SETTING else nearest(key, known, f"{name}.")
    return f"{name}.{key}: no such setting{hint}; {title} has {listed(known)}"


def raise_all(problems: list[str]) -> None:
    """SettingsError with all problems at once, if there are any."""
    if problems:
        count = "A problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {line}" for line in dict.fromkeys(problems))
        raise SettingsError(f"{count} in the settings:{lines}\n'radsynth show settings' lists every setting.")


def nearest(name: str, known: Sequence[str] | Mapping[str, Any], prefix: str = "") -> str:
    """The end of a message, "(did you mean X?)", with the known name that is called `name`
    elsewhere or closest to it, whatever the case; empty when none is close."""
    given, names = name.lower().replace("-", "_"), {each.lower(): each for each in known}
    same = [each for each in (given, ELSEWHERE.get(given, "")) if each in names]
    close = same or difflib.get_close_matches(given, list(names), n=1, cutoff=0.5)
    return f" (did you mean {prefix}{names[close[0]]}?)" if close else ""


def listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    """Names between commas."""
    return ", ".join(names) or "none"


def shown(value: Any) -> str:
    """A value as it is written, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
