"""What commands do before and after the verb: words become paths and settings, results are printed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from radsynth.errors import SettingsError

if TYPE_CHECKING:
    from radsynth.settings import Resolved


def split_words(words: list[str], *names: str) -> tuple[list[str], list[str]]:
    """Paths and overrides among the words after a command. SettingsError for another number of paths, and for
    an empty word, which would be the current folder.

    "[NAME]" may be missing, and "[NAME...]" may be there any number of times.

    A word with "=" whose left side is a setting's name is an override unless a file of that name exists.
    """
    if "" in words:
        raise SettingsError("A word after the command is empty, as a variable of the shell is that was never set. This "
                            f"command takes {' '.join(names)} and then settings as section.key=value.")
    overrides = [w for w in words if re.match(r"[a-z_]+(\.[\w.]+)?=", w) and not os.path.exists(w)]
    paths = [w for w in words if w not in overrides]
    required = [name for name in names if not name.startswith("[")]
    most = len(paths) if names[-1].endswith("...]") else len(names)
    if not len(required) <= len(paths) <= most:
        given = ", ".join(paths) or "none"
        parted = any(word.startswith("=") or word.endswith("=") for word in words)
        raise SettingsError(
            f"This command takes {' '.join(names)} and then settings as section.key=value; the paths given: {given}."
            f"{' Write a setting without blanks.' if parted else ''}"
        )
    return paths, overrides


def check_placed(words: Sequence[str], commands: Mapping[str, Any]) -> None:
    """SettingsError for a setting that is written as an option, or given to a command that takes options alone.

    words: the command and what follows it; commands: typer's, by name
    """
    if not words or words[0] not in commands:
        return
    takes = commands[words[0]].params
    flags = {option: each.is_flag for each in takes for option in each.opts if option.startswith("--")}
    for before, word in pairwise(words):
        found = re.fullmatch(r"(--)?(?:([a-z]+)\.)?(\w+)=(.*)", word, re.DOTALL)
        if not found or before.startswith("--") or os.path.exists(word):
            continue
        dashes, section, name, value = found.groups()
        option = f"--{name.replace('_', '-')}"
        if any(each.name == "overrides" for each in takes):
            if dashes and section:
                raise SettingsError(f"{word}: settings are written without dashes: {word.removeprefix('--')}")
        elif option in flags and (section or not dashes):
            raise SettingsError(f"{word}: '{words[0]}' takes options instead of settings: write {option}"
                                f"{'' if flags[option] else f' {value}'}.")
        elif section:
            raise SettingsError(f"{word}: '{words[0]}' takes no settings. 'radsynth {words[0]} -h' lists its options.")


def resolved(sections: Sequence[str] | None, *words: Any, **options: Any) -> Resolved:
    """The settings that the words of a command ask for. sections: those validated now; None: all that are given."""
    from radsynth.verbs._given import given

    return given(sections, *words, **options)


def show_result(result: Any, as_json: bool) -> None:
    """Print what a verb returned: as tables, or as JSON."""
    from radsynth._tables import print_json, print_tables

    (print_json if as_json else print_tables)(result)
