"""A choice: one setting, its value and why; and a list of them as settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ASKED = "As asked for."


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One setting that was chosen, and why."""

    setting: str
    value: Any
    reason: str


def as_given(choices: list[Choice], given: Callable[[str, str], Any]) -> list[Choice]:
    """The choices as they are after what was given, as `given(section, key)`, None where nothing was."""
    found = []
    for choice in choices:
        value = given(*choice.setting.split("."))
        planned = "" if choice.reason == ASKED else f" The plan had {json.dumps(choice.value)}: {choice.reason}"
        same = value is None or value == choice.value
        found.append(choice if same else Choice(setting=choice.setting, value=value, reason=ASKED + planned))
    return found


def document(choices: list[Choice]) -> dict[str, Any]:
    """The choices as settings that `resolve` takes."""
    sections: dict[str, Any] = {}
    for choice in choices:
        section, key = choice.setting.split(".")
        sections.setdefault(section, {})[key] = choice.value
    return sections
