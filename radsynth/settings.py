"""Settings: frozen pydantic dataclasses that sit beside the code they configure, merged and validated in one place.

A section of the settings is a class `Settings` in a module, found by the module's file when it is needed. This module
is at the bottom of the house and may import none of those modules: it loads them by name (importlib), so that a new
network is one new file and `inspect` never pays for importing torch. import-linter does not see these late imports.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import importlib.util
import json
import os
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, dataclass_transform, overload

import pydantic
import yaml
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from radsynth._describe import describe, names_in
from radsynth._problems import explain, listed, no_such, raise_all, shown
from radsynth._problems import nearest as nearest  # of use wherever names are given
from radsynth._yaml import dump_yaml, parse_yaml
from radsynth.errors import SettingsError

T = TypeVar("T")
Document = Mapping[str, Any]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(pydantic.Field,))
def settings(cls: type[T]) -> type[T]:
    """Make a class of annotated fields a settings section: frozen, no unknown names, a docstring below each field."""
    config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    make = cast(Callable[[type[T]], type[T]], dataclass(frozen=True, kw_only=True, config=config))
    return make(cls)


class Section(NamedTuple):
    """Where a section's class is: in `module`, or in a module of the package `module` that its `kind` names.

    follows: the section whose kind may bring another default: a constant NAME of its module, NAME this section's name
    """

    module: str
    default_kind: str = ""
    follows: str = ""


SECTIONS = {
    "data": Section("radsynth.datasets", "brain"),
    "prepare": Section("radsynth.verbs._preparing.options"),
    "task": Section("radsynth.tasks", "synthesis"),
    "model": Section("radsynth.models", "sngan", follows="task"),
    "augment": Section("radsynth.augment"),
    "train": Section("radsynth.verbs._training.options"),
    "generate": Section("radsynth.verbs.generate"),
    "evaluate": Section("radsynth.verbs._evaluating.options"),
    "audit": Section("radsynth.verbs.audit"),
    "utility": Section("radsynth.verbs.utility"),
    "study": Section("radsynth.web.study"),
}
LARGEST = 2**31 - 1
"""Of whole numbers: larger ones are the size of nothing, and overflow in the libraries that get them."""
OPTIONS = ("budget", "out", "preset", "privacy", "settings")
"""Words of the command line that are easily taken for settings."""


def kinds(folder: str) -> tuple[str, ...]:
    """The plug-ins of a folder ("models" or "radsynth.models"): its modules without "_", which are not imported."""
    return tuple(sorted(_files(folder)))


def meaning(folder: str, kind: str) -> str:
    """The first sentence of a plug-in's docstring, read without importing it."""
    text = ast.get_docstring(ast.parse(_files(folder)[kind].read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join(text.partition("\n\n")[0].split()))[0]


@functools.cache
def constant(folder: str, kind: str, name: str) -> Any:
    """What a plug-in gives to the name at its top level, read without importing it; None when it does not."""
    for line in ast.parse(_files(folder)[kind].read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in line.targets):
            return ast.literal_eval(line.value)
    return None


def names(section: str, kind: str = "") -> tuple[str, ...]:
    """What a section (of a kind) can be given, read without importing its module, which may take seconds."""
    module = SECTIONS[section].module
    if kind:
        return names_in(_files(module)[kind])
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin, f"{module} is not there"
    return names_in(Path(found.origin))


def _files(folder: str) -> dict[str, Path]:
    spec = importlib.util.find_spec(folder if "." in folder else f"radsynth.{folder}")
    assert spec is not None and spec.submodule_search_locations, f"{folder} is not a package"
    places = list(spec.submodule_search_locations)
    names = [module.name for module in pkgutil.iter_modules(places) if not module.name.startswith("_")]
    return {name: next(p for p in (Path(place) / f"{name}.py" for place in places) if p.exists()) for name in names}


def settings_class(section: str, kind: str | None = None) -> type[Any]:
    """The class of a section (and kind); its module is imported now. The names must exist."""
    where = SECTIONS[section]
    name = f"{where.module}.{kind or where.default_kind}" if where.default_kind else where.module
    found: type[Any] = importlib.import_module(name).Settings
    return found


class Resolved:
    """Settings after merging: validated objects for the sections that were asked for, the others as they were given."""

    def __init__(self, seed: int, given: dict[str, dict[str, Any]], objects: dict[str, Any]) -> None:
        self.seed = seed
        self._given = given
        self._objects = objects

    @overload
    def section(self, name: str) -> Any: ...
    @overload
    def section(self, name: str, cls: type[T]) -> T: ...
    def section(self, name: str, cls: type[Any] | None = None) -> Any:
        """The settings of a section, of type `cls`. Validated now if nobody asked before; SettingsError if wrong."""
        if name not in self._objects:
            problems: list[str] = []
            found = _validate(name, self._given.get(name, {}), problems)
            raise_all(problems)
            self._objects[name] = found
        found = self._objects[name]
        assert cls is None or isinstance(found, cls), f"{name} is a {type(found)}, not a {cls}"
        return found

    def kind(self, name: str) -> str:
        """The kind of a section ("model" -> "r3gan"), without loading it."""
        return str(self._given.get(name, {}).get("kind") or SECTIONS[name].default_kind)

    def given(self, name: str) -> dict[str, Any]:
        """What documents and overrides say about a section, without the defaults."""
        return copy.deepcopy(self._given.get(name, {}))

    def document(self) -> dict[str, Any]:
        """Plain values: validated sections in full, the others as they were given; `resolve` accepts it."""
        document: dict[str, Any] = {"seed": self.seed}
        for name in SECTIONS:
            if name in self._objects:
                found = self._objects[name]
                document[name] = pydantic.TypeAdapter(type(found)).dump_python(found, mode="json")
            elif self._given.get(name):
                document[name] = copy.deepcopy(self._given[name])
        return document

    def to_yaml(self) -> str:
        """`document` as YAML; reading it and resolving again gives equal settings."""
        return dump_yaml(self.document())


def resolve(
    *documents: Document,
    overrides: Sequence[str] = (),
    path: Path | None = None,
    sections: Sequence[str] | None = None,
) -> Resolved:
    """Merge `documents`, the YAML file `path` and "section.key=value" `overrides`, later wins, then validate once.

    A section given with a new `kind` replaces the section. `sections` are validated now (default: those that were
    given), others when they are asked for. SettingsError reports every problem at once.
    """
    problems: list[str] = []
    layers = [*documents, *([read_yaml(path)] if path else []), _parse_overrides(overrides, problems)]
    merged: dict[str, dict[str, Any]] = {}
    seed: Any = 0
    brought = _brought(layers)
    for layer in layers:
        for name, value in layer.items():
            if name == "seed":
                seed = value
            elif name not in SECTIONS:
                known = [*SECTIONS, "seed"]
                meant = f" (did you mean --{name} {value}?)" if name in OPTIONS else nearest(name, known)
                section, dot, key = name.partition(".")
                if dot and section in SECTIONS:
                    meant = f" (in a file, '{key}: {shown(value)}' stands below '{section}:')"
                problems.append(f"{name}: no such section{meant}; there are {listed(known)}")
            elif value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
                problems.append(f"{name}: given {shown(value)}, allowed: names with values{_kind_hint(name, value)}")
            else:
                _merge(merged, name, value or {}, brought.get(name, SECTIONS[name].default_kind))
    for name, kind in brought.items():
        merged[name] = {"kind": kind, **merged.get(name, {})}
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST:
        problems.append(f"seed: given {shown(seed)}, allowed: a whole number from 0 to {LARGEST}")
    wanted = list(merged) if sections is None else sections
    objects = {name: _validate(name, merged.get(name, {}), problems) for name in wanted}
    for name in set(merged) - set(wanted):
        _check_kind(name, merged[name], problems)
    raise_all(problems)
    return Resolved(seed, merged, objects)


def _brought(layers: Sequence[Document]) -> dict[str, str]:
    """The kind of sections that follow another, where they name none: what goes with the kind which that one names."""
    found = dict[str, str]()
    for name, where in SECTIONS.items():
        if where.follows:
            module, leader, _ = SECTIONS[where.follows]
            for given in (layer.get(where.follows) for layer in layers):
                leader = given.get("kind", leader) if isinstance(given, Mapping) else leader
            own = constant(module, leader, name.upper()) if leader in kinds(module) else None
            found |= {} if own is None else {name: own}
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; SettingsError when there is no such file or no such thing in it."""
    try:
        document = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise SettingsError(f"The settings file {path} cannot be read: {reason}.") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"The settings file {path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise SettingsError(f"The settings file {path} must hold sections (such as 'train:') with settings below them.")
    return document


def _parse_overrides(overrides: Sequence[str], problems: list[str]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        section, dot, key = name.strip().partition(".")
        if not equals or not section or (dot and not key):
            problems.append(f"{text!r}: not a setting; write section.key=value")
            continue
        try:
            # A shell makes key= of key='': a text that is empty, where YAML would see null.
            parsed = parse_yaml(value) if value.strip() else ""
        except yaml.YAMLError as error:
            problems.append(f"{name}: {value!r} is not valid YAML: {' '.join(str(error).split())}")
            continue
        if not dot:
            document[section] = {} if parsed is None else parsed
        elif isinstance(document.setdefault(section, {}), dict):
            document[section][key] = parsed
    return document


def _merge(merged: dict[str, dict[str, Any]], name: str, new: Document, usual: str) -> None:
    """Put `new` over a section; another kind replaces it, because settings of one kind mean nothing to another.

    usual: the section's kind where it names none
    """
    old = merged.get(name, {})
    same = new.get("kind") in (None, old.get("kind", usual))
    added = {key: _at_home(value) for key, value in copy.deepcopy(dict(new)).items()}
    merged[name] = {**(old if same else {}), **added}


def _at_home(value: Any) -> Any:
    """A path in the home folder as it is in full: shells leave the ~ of data.path=~/scans alone, YAML does too."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def _check_kind(name: str, given: Document, problems: list[str]) -> str | None:
    """The section's kind, "" for a section without kinds, None (and a problem) when there is no such kind."""
    module, default, _ = SECTIONS[name]
    if not default:
        return ""
    kind, known = given.get("kind", default), kinds(module)
    if kind in known:
        return str(kind)
    problems.append(f"{name}.kind: given {shown(kind)}{nearest(str(kind), known)}; allowed: {listed(known)}")
    return None


def _validate(name: str, given: Document, problems: list[str]) -> Any:
    kind = _check_kind(name, given, problems)
    if kind is None:
        return None
    title = f"{name} ({kind})" if kind else name
    known = names(name, kind)
    strange = [key for key in given if key not in known]
    if known and strange and {*given} <= {*strange, "kind"}:  # all that is wrong is known before it is imported
        problems += [no_such(name, title, key, known) for key in strange]
        return None
    cls = settings_class(name, kind)
    full = {**given, "kind": kind} if kind else given
    try:
        # Strict JSON rules suit YAML best: lists become tuples and texts paths, but no text becomes a number.
        text = json.dumps(full, default=str, ensure_ascii=False).encode()
        found = pydantic.TypeAdapter(cls).validate_json(text, strict=True)
        problems += [f"{name}.{key}: given {shown(value)}, allowed: a whole number, at most {LARGEST}"
                     for key, value in vars(found).items() if isinstance(value, int) and value > LARGEST]
        problems += [f'{name}.{key}: given "", which is no path'  # but would be the current folder
                     for key, value in vars(found).items() if isinstance(value, Path) and given.get(key) == ""]
        return found
    except UnicodeEncodeError:
        problems.append(f"{name}: {shown(full)} has a name that is not written in UTF-8. Rename the file or folder, or "
                        "name a link to it (ln -s).")
    except pydantic.ValidationError as error:
        fields = {setting.name: setting for setting in describe(cls)}
        found = error.errors(include_url=False)
        inner = {problem["loc"][:-1] for problem in found if problem["loc"][1:]}  # lists that lack a wrong value alone
        problems += [explain(name, title, fields, dict(problem)) for problem in found if problem["loc"] not in inner]
    return None


def _kind_hint(name: str, value: Any) -> str:
    where = SECTIONS[name]
    return f"; write {name}.kind={value}" if where.default_kind and value in kinds(where.module) else ""
