"""Commands from images to a trained run: inspect, prepare, train, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radsynth._summaries import in_one_minute, numbers, rejected
from radsynth.cli._options import (
    Cluster,
    Json,
    Overrides,
    Preset,
    Privacy,
    Seed,
    SettingsFile,
    Strict,
    argument,
    out_folder,
    training_budget,
)
from radsynth.cli._words import resolved, show_result, split_words


def inspect(
    data: Annotated[str, argument("DATA", "A folder of images, a file that holds many, or brain (embedded).")],
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    out: Annotated[
        Path | None, out_folder("Write inspect.html, inspection.json, rejected.csv and settings.yaml there.")
    ] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Say what is in DATA, what is wrong with it, what would be done."""
    (data,), overrides = split_words([data, *(overrides or [])], "DATA")
    settings = resolved(["data"], overrides, settings_file, preset, data=Path(data))
    from radsynth.verbs.inspect import inspect as verb

    found = verb(Path(data), settings=settings, out=out)
    show_result(found, as_json)
    if strict and found.rejected:
        raise typer.Exit(2)


def prepare(
    data: Annotated[str, argument("DATA", "A folder of images, or brain (embedded).")],
    out: Annotated[str, argument("OUT", "The folder of arrays to write.")],
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    cluster: Cluster = "",
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Make fixed-size arrays with a manifest. The same command again goes on where it stopped."""
    (data, out), overrides = split_words([data, out, *(overrides or [])], "DATA", "OUT")
    overrides += ["prepare.strict=true"] if strict else []
    settings = resolved(["data", "prepare"], overrides, settings_file, preset, data=Path(data))
    from radsynth.verbs.prepare import prepare as verb

    made = verb(settings.section("data"), Path(out), settings=settings, cluster=cluster)
    show_result({"folder": made.folder, **made.manifest.to_json()}, as_json)
    if not as_json and (text := rejected(made.folder)):
        show_result(text, as_json)


def train(
    prepared: Annotated[str, argument("PREPARED", "A prepared folder.")],
    run: Annotated[str, argument("RUN", "The run folder to write.")],
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    privacy: Privacy = None,
    budget: Annotated[str | None, training_budget()] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Train on prepared data. The same command again resumes."""
    (prepared, run), overrides = split_words([prepared, run, *(overrides or [])], "PREPARED", "RUN")
    sections = ["task", "model", "augment", "train"]
    settings = resolved(sections, overrides, settings_file, preset, budget=budget, seed=seed, with_recipe=True,
                        privacy=privacy)
    from radsynth.parallel import speaks
    from radsynth.verbs.train import train as verb

    folder = verb(Path(prepared), Path(run), settings=settings)
    if speaks():
        show_result({"run": folder.path, **folder.load_weights()[1]}, as_json)


def run(
    data: Annotated[
        str | None, argument("DATA", "A folder of images. [default: the embedded virtual brain cohort]")
    ] = None,
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    privacy: Privacy = None,
    budget: Annotated[str | None, training_budget("5min")] = None,
    seed: Seed = None,
    out: Annotated[Path | None, out_folder("The run folder. [default: runs/ and the name of DATA]")] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """The main job: all steps from images to report.

    Inspects, prepares, trains, generates, evaluates and reports. The same command again goes on where it stopped.
    """
    paths, overrides = split_words([*([data] if data is not None else []), *(overrides or [])], "[DATA]")
    overrides += ["prepare.strict=true"] if strict else []
    source = Path(paths[0]) if paths else None
    # Most mistakes are found before the networks' library is loaded, which takes seconds.
    resolved(None, overrides, settings_file, preset, budget=budget, seed=seed, data=source, privacy=privacy)
    from radsynth.verbs.run import run as verb

    result = verb(
        source,
        out,
        overrides=overrides,
        settings_file=settings_file,
        preset=preset,
        privacy=privacy,
        budget=budget,
        seed=seed,
    )
    if as_json:
        show_result(result, as_json)
        return
    show_result(numbers(result.results), as_json)
    show_result(in_one_minute(result.report), as_json)
    if text := rejected(result.run / "data"):
        show_result(text, as_json)
    places = {"run": result.run, "synthetic": result.synthetic, "report": result.report}
    show_result({name: place for name, place in places.items() if place}, as_json)
