"""The settings that a verb's words ask for: a preset, a file, a budget, a seed, single settings; later wins."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from radsynth.errors import SettingsError
from radsynth.settings import Resolved, read_yaml, resolve
from radsynth.shorthand import read_budget, read_preset, read_privacy


def given(
    sections: Sequence[str] | None,
    overrides: Sequence[str] = (),
    settings_file: Path | None = None,
    preset: str | None = None,
    *,
    budget: str | None = None,
    seed: int | None = None,
    data: Path | None = None,
    with_recipe: bool = False,
    privacy: str | None = None,
) -> Resolved:
    """Merge the network's recipe, preset, file, options and overrides, later wins; validate `sections` (None: given).

    data: a path, whose kind is recognised; with_recipe: begin with the losses and rates that go with the network.
    SettingsError for all problems at once.
    """
    layers = documents(overrides, settings_file, preset, budget=budget, seed=seed, data=data, privacy=privacy)
    if with_recipe:
        layers.insert(0, _recipe(resolve(*layers, overrides=overrides, sections=())))
    return resolve(*layers, overrides=overrides, sections=sections)


def documents(overrides: Sequence[str], settings_file: Path | None, preset: str | None, *, budget: str | None = None,
              seed: int | None, data: Path | None, privacy: str | None) -> list[Any]:
    """What was given but for `overrides`, weakest first: the kind that the data looks like, presets, a file, a budget,
    a seed, the data's path."""
    found: list[Any] = [read_preset(preset)] if preset else []
    found += [read_privacy(privacy)] if privacy else []
    found += [_of_kinds(read_yaml(settings_file), overrides)] if settings_file else []
    found += [read_budget(budget)] if budget else []
    found += [{"seed": seed}] if seed is not None else []
    if privacy:
        _check_private(privacy, found, overrides)
    if data is None:
        return found
    from radsynth.datasets import at

    return at(data, found, overrides)


def _of_kinds(document: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A file whose sections are of the kinds that `overrides` name, where it names none: another kind would replace
    them, and what is in the file would be lost without a word."""
    with suppress(SettingsError):  # whoever resolves the result hears of all problems at once
        asked = resolve(overrides=overrides, sections=())
        for name, own in document.items():
            kind = asked.given(name).get("kind")
            if kind and isinstance(own, dict):
                document[name] = {"kind": kind, **own}
    return document


def _check_private(privacy: str, found: Sequence[Any], overrides: Sequence[str]) -> None:
    """SettingsError where what was asked for with privacy would be learned without."""
    kind = "private"
    with suppress(SettingsError):  # whoever resolves the result hears of all problems at once
        kind = resolve(*found, overrides=overrides, sections=()).kind("task")
    if kind != "private":
        raise SettingsError(f"--privacy {privacy} with task.kind={kind}: task.kind=private alone learns with "
                            f"differential privacy. Leave out task.kind, or --privacy {privacy}.")


def _recipe(asked: Resolved) -> dict[str, Any]:
    """The losses and rates that go with the network asked for, else with that of `train.start`."""
    from radsynth.choices import document
    from radsynth.recipes import recipe

    model, source = asked.kind("model"), asked.given("train").get("start")
    if isinstance(source, str) and source and "kind" not in asked.given("model"):
        from radsynth.verbs._training.start import read_start

        model = str(read_start(source).model["kind"])
    found = document(recipe(model, asked.kind("task")))
    if source:
        found.pop("model", None)  # networks are as the start has them
    return found
