"""Commands that measure what was made, and the page about it: evaluate, audit, utility, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radsynth._summaries import numbers, ranked
from radsynth.cli._options import Json, Overrides, Preset, Seed, SettingsFile, argument, out_folder
from radsynth.cli._words import resolved, show_result, split_words


def evaluate(
    real: Annotated[str, argument("REAL", "Real images: a folder or a prepared folder.")],
    synthetic: Annotated[str, argument("SYNTHETIC", "Synthetic images or a run folder; several are ranked.")],
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    seed: Seed = None,
    out: Annotated[Path | None, out_folder("Write results.json and pictures there.")] = None,
    as_json: Json = False,
) -> None:
    """Measure synthetic images against real ones. Fidelity, variety, nearness to training images.

    Several sets (REAL A B C) are measured on the same real images and ranked, with intervals of their differences.
    With --out DIR, 'radsynth report DIR' makes a page of either.
    """
    words = [real, synthetic, *(overrides or [])]
    (real, *sets), overrides = split_words(words, "REAL", "SYNTHETIC", "[SYNTHETIC...]")
    given = [] if seed is None else [f"evaluate.seed={seed}"]
    settings = resolved(["evaluate"], [*given, *overrides], settings_file, preset)
    from radsynth.progress import tell
    from radsynth.verbs._evaluating.unprepared import shrinks
    from radsynth.verbs._in_vain import in_vain, unused_by_evaluate
    from radsynth.verbs.evaluate import evaluate as verb

    for line in in_vain(settings, unused_by_evaluate(shrinks(Path(real), Path(sets[0]))), {}):
        tell(f"mind: {line}")
    results = verb(Path(real), *map(Path, sets), settings=settings.section("evaluate"), out=out)
    show_result(results if as_json else ranked(results) if "ranking" in results else numbers(results), as_json)


def audit(
    run: Annotated[str, argument("RUN", "A run folder with its prepared data in RUN/data.")],
    overrides: Overrides = None,
    synthetic: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Synthetic images. [default: RUN/synthetic]")
    ] = None,
    settings_file: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Attack the synthetic images: copies, members, re-identification. Writes RUN/audit.json."""
    (run,), overrides = split_words([run, *(overrides or [])], "RUN")
    settings = resolved(["audit"], overrides, settings_file, None)
    from radsynth.verbs.audit import audit as verb

    result = verb(Path(run), synthetic, settings=settings.section("audit"))
    show_result(result if as_json else result.table(), as_json)


def utility(
    run: Annotated[str, argument("RUN", "A run folder, or a prepared folder when SYNTHETIC is given.")],
    overrides: Overrides = None,
    synthetic: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Synthetic images with classes or masks. [default: drawn from the run]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The prepared folder of the training. [default: RUN/data]")
    ] = None,
    settings_file: SettingsFile = None,
    out: Annotated[Path | None, out_folder("Where to write. [default: RUN]")] = None,
    as_json: Json = False,
) -> None:
    """Measure how useful synthetic images are for training.

    Trains a small classifier or segmenter on real, synthetic, both and augmented images, and tests it on real patients
    that no training saw. Writes RUN/utility.json and RUN/utility.png.
    """
    (run,), overrides = split_words([run, *(overrides or [])], "RUN")
    settings = resolved(["utility"], overrides, settings_file, None)
    from radsynth.verbs.utility import utility as verb

    found = verb(Path(run), synthetic, data=data, settings=settings.section("utility"), out=out)
    rows = [{"real_share": line["share"], "trained_on": line["arm"], "against": line["against"],
             "difference": line["value"], "low": line["low"], "high": line["high"], "verdict": line["verdict"]}
            for line in found["differences"]]
    table = {"differences": rows, "findings": [{"in_words": text} for text in found["words"]]}
    show_result(found if as_json else table, as_json)


def report(
    run: Annotated[Path, argument("RUN", "A run folder, or what 'evaluate --out' or 'apply' wrote.")],
    as_json: Json = False,
) -> None:
    """Write report.html (one self-contained file) and report.json."""
    from radsynth.verbs.report import report as verb

    show_result(verb(run), as_json)
