"""show: every setting and every kind, straight from the classes and files that define them; the state of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radsynth._describe import Setting, describe
from radsynth.errors import SettingsError
from radsynth.settings import SECTIONS, kinds, meaning, settings_class
from radsynth.shorthand import presets, read_preset

FOLDERS = ("datasets", "io", "models", "losses", "tasks", "metrics")


@dataclass(frozen=True, kw_only=True)
class SectionHelp:
    """One section of the settings, of one kind if it has kinds."""

    section: str
    kind: str
    is_default: bool
    meaning: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True, kw_only=True)
class KindHelp:
    """One plug-in or preset: the folder it is in, its name, what it is."""

    folder: str
    kind: str
    meaning: str


def show(what: str = "settings", name: str | None = None) -> list[SectionHelp] | list[KindHelp] | dict[str, Any]:
    """Describe the settings ("settings"; `name` is a section or a kind), the plug-ins ("kinds"; `name` is a folder) or
    the presets ("presets"; `name` is one, whose settings are told).

    Any other `what` is a run folder, whose state is told. SettingsError when there is nothing of that name.
    """
    if what not in ("settings", "kinds", "presets") and name is None and Path(what).is_dir():
        from radsynth.verbs._run_shown import shown

        return shown(Path(what))
    if what == "kinds":
        return _kinds(name)
    if what == "presets":
        return read_preset(name) if name else [KindHelp(folder=what, kind=one, meaning=text)
                                               for one, text in presets().items()]
    if what != "settings":
        raise SettingsError(
            f"There is no 'show {what}' and no folder of this name; there are 'show settings "
            "[SECTION|KIND]', 'show kinds [FOLDER]', 'show presets [PRESET]' and 'show RUN', a run folder."
        )
    chosen = [(s, k) for s, where in SECTIONS.items() for k in (kinds(where.module) if where.default_kind else ("",))]
    if name is not None:
        chosen = [(section, kind) for section, kind in chosen if name in (section, kind)]
    if not chosen:
        every = {kind for where in SECTIONS.values() if where.default_kind for kind in kinds(where.module)}
        raise SettingsError(
            f"There is no section or kind {name!r}. Sections: {', '.join(SECTIONS)}. Kinds: {', '.join(sorted(every))}."
        )
    return [_section(section, kind) for section, kind in chosen]


def _section(section: str, kind: str) -> SectionHelp:
    cls = settings_class(section, kind)
    text = meaning(SECTIONS[section].module, kind) if kind else (cls.__doc__ or "").partition("\n")[0]
    return SectionHelp(
        section=section,
        kind=kind,
        is_default=kind == SECTIONS[section].default_kind,
        meaning=text,
        settings=tuple(describe(cls)),
    )


def _kinds(name: str | None) -> list[KindHelp]:
    if name is not None and name not in FOLDERS:
        raise SettingsError(f"There are no kinds of {name!r}; there are kinds of: {', '.join(FOLDERS)}.")
    folders = FOLDERS if name is None else (name,)
    return [
        KindHelp(folder=folder, kind=kind, meaning=meaning(folder, kind))
        for folder in folders
        for kind in kinds(folder)
    ]
