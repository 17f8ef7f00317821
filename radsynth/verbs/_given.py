"""The settings that a verb's words ask for: a preset, a file, a budget, a seed, single settings; later wins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    documents: list[dict[str, Any]] = [read_preset(preset)] if preset else []
    documents += [read_privacy(privacy)] if privacy else []
    documents += [read_yaml(settings_file)] if settings_file else []
    documents += [read_budget(budget)] if budget else []
    documents += [{"seed": seed}] if seed is not None else []
    if data is not None:
        from radsynth.datasets import at

        documents = at(data, documents, overrides)
    if with_recipe:
        documents.insert(0, _recipe(resolve(*documents, overrides=overrides, sections=())))
    return resolve(*documents, overrides=overrides, sections=sections)


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
