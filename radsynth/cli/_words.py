"""What commands do before and after the verb: words become paths and settings, results are printed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
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
        raise SettingsError(
            f"This command takes {' '.join(names)} and then settings as section.key=value; the paths given: {given}."
        )
    return paths, overrides


def resolved(sections: Sequence[str] | None, *words: Any, **options: Any) -> Resolved:
    """The settings that the words of a command ask for. sections: those validated now; None: all that are given."""
    from radsynth.verbs._given import given

    return given(sections, *words, **options)


def show_result(result: Any, as_json: bool) -> None:
    """Print what a verb returned: as tables, or as JSON."""
    from radsynth._tables import print_json, print_tables

    (print_json if as_json else print_tables)(result)
