"""The main job: inspect, plan, prepare, train, generate, evaluate, report. The same command again goes on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from radsynth.arrays import Prepared
from radsynth.choices import Choice, document
from radsynth.errors import DataError, FolderError, SettingsError
from radsynth.files import check_writable, write_atomically
from radsynth.image import ImageSpec
from radsynth.metrics._inception import InceptionFeatures
from radsynth.parallel import together
from radsynth.progress import tell
from radsynth.run_folder import RunFolder
from radsynth.settings import SECTIONS, Resolved, constant, resolve
from radsynth.shorthand import for_patients, read_budget, read_preset
from radsynth.tasks import Private, draws, registers, segments, takes_images
from radsynth.verbs._agreement import add_agreement, side_by_side, write_agreement
from radsynth.verbs._applying.anatomy import learn_anatomy
from radsynth.verbs._auditing.copy_filter import check_enough_held_out, check_not_private
from radsynth.verbs._choosing import asked_budget, choices, grows, told_of_modality
from radsynth.verbs._evaluating.options import MOST_IMAGES
from radsynth.verbs._given import documents
from radsynth.verbs._in_vain import in_vain, unused_by_run
from radsynth.verbs._inspecting.page import problems
from radsynth.verbs._measured import measured
from radsynth.verbs._pairs.document import forget_pictures, kept_pictures
from radsynth.verbs._pairs.paired import evaluate_pairs
from radsynth.verbs._pairs.registration import evaluate_registration
from radsynth.verbs._pairs.segmentation import evaluate_segmentation
from radsynth.verbs._preparing.options import Settings as PrepareSettings
from radsynth.verbs._preparing.preparation import without_source
from radsynth.verbs._preparing.size import size_of
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._training.checks import tried
from radsynth.verbs._training.idle import tell_of_idle
from radsynth.verbs._training.start import read_start, started
from radsynth.verbs._writing import check_format
from radsynth.verbs.evaluate import Settings as EvaluateSettings
from radsynth.verbs.evaluate import evaluate_prepared, write_unmeasured
from radsynth.verbs.generate import Generated, draw, generate
from radsynth.verbs.generate import Settings as GenerateSettings
from radsynth.verbs.inspect import look_at
from radsynth.verbs.prepare import prepare
from radsynth.verbs.report import report
from radsynth.verbs.train import Settings as TrainSettings
from radsynth.verbs.train import train


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the main job leaves: the run folder, the synthetic data set, the report, the measurements.

    synthetic: None for a task from image to image, which `apply` uses
    """

    run: Path
    synthetic: Path | None
    report: Path
    results: dict[str, Any]


def run(
    data: Path | None = None,
    out: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    settings_file: Path | None = None,
    preset: str | None = None,
    privacy: str | None = None,
    budget: str | None = None,
    seed: int | None = None,
) -> Result:
    """Learn from `data` (without: the embedded virtual brain cohort) and leave everything in the run folder `out`.

    `out` is runs/NAME by default. Raises our errors; whatever was finished stays, and the same call goes on from there.
    """
    if (count := together()) > 1:
        raise SettingsError(f"This command was started {count} times together, by srun or torchrun, and prepares, "
                            "measures and reports for all of them. Start it once (srun --ntasks=1): it uses the GPUs "
                            "of one machine by itself. For several machines start 'radsynth train' so, after "
                            "'radsynth prepare'.")
    layers = documents(overrides, settings_file, preset, seed=seed, data=Path(data) if data else None, privacy=privacy)
    layers = layers if data else [{"data": {"kind": "brain"}}, *layers]
    given = resolve(*layers, overrides=overrides)  # every section that was given, so that all mistakes come at once
    out = Path(out) if out else Path("runs") / (Path(data).resolve().name if data else "brain")
    check_writable(out)
    RunFolder(out).check_own(data)
    _refuse_missing(given)
    budgeted = read_budget(budget) if budget else {}
    begun = _begun(out, given)
    found, planned = begun or _plan(given, dict(budgeted.get("train", asked_budget(given))))
    fitted = for_patients(layers, _learned_from(given, found))
    settings = resolve(document(planned), *fitted, budgeted, overrides=overrides, sections=tuple(SECTIONS))
    planned = _with_batch(planned, settings, given)
    if not any(choice.setting == "data.contrasts" for choice in planned):  # other images than those looked at
        _refuse_impossible(settings, found, planned, read_preset(preset) if preset else {})
    with RunFolder(out).held():
        if begun is None:
            if _begun(out, given):
                raise FolderError(f"{out} was begun by another process in the meantime. Repeat the command to go on "
                                  "with it, or choose another output folder.")
            _write_plan(out, found, planned)
        return _follow(settings, out)


def _follow(settings: Resolved, out: Path) -> Result:
    """Everything that comes after the plan."""
    prepared = prepare(settings.section("data"), out / "data", settings=settings)
    if settings.section("generate", GenerateSettings).copy_filter and not constant("tasks", settings.kind("task"),
                                                                                   "RESULTS"):
        check_enough_held_out(prepared)
    train(out / "data", out, settings=settings)
    task, options = Sampler(out).task, settings.section("evaluate", EvaluateSettings)
    if not draws(task):
        if takes_images(task) and not segments(task):
            learn_anatomy(out, prepared, task, settings, options.anatomy)
        measure = (evaluate_registration if registers(task) else evaluate_segmentation if segments(task)
                   else evaluate_pairs)
        if not options.real_pictures:  # earlier ones, which older versions kept all the same
            forget_pictures(out)
        results = measured(out, out / "data", asdict(options), lambda: kept_pictures(
            out, options.real_pictures, measure(out, prepared, out=out, images=min(options.images, 500),
                                                repetitions=options.repetitions, seed=options.seed)))
        return Result(run=out, synthetic=None, report=report(out), results=results)
    made = _generate(settings, prepared, out)
    results = measured(out, out / "data", asdict(options), lambda: _evaluate(settings, prepared, out, made))
    return Result(run=out, synthetic=made.folder, report=report(out), results=results)


def _begun(out: Path, given: Resolved) -> tuple[dict[str, Any], list[Choice]] | None:
    """What was found and planned when the run began, None where it has not: a plan is made once.

    Until training begins it is made anew where other data, another task or another network is asked for.
    """
    kept = out / "plan.json"
    if not kept.exists():
        return None
    try:
        planned = [Choice(**line) for line in json.loads(kept.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        raise FolderError(f"{kept} cannot be read or is damaged. Remove it and repeat the command, which makes the "
                          "plan anew.") from None
    found: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        found = dict(json.loads((out / "inspection.json").read_text(encoding="utf-8")))
    same = RunFolder(out).begun or found.get("asked") in (None, _asked(given))  # an older run does not say
    return (found, planned) if same else None


def _asked(given: Resolved) -> str:
    """A hash of what a plan looks at of the settings, paths and the budget left aside."""
    asked = without_source({**{name: given.given(name) for name in ("data", "prepare", "task", "model")},
                            "start": given.given("train").get("start"), "grows": grows(given)})
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _plan(given: Resolved, budget: dict[str, float]) -> tuple[dict[str, Any], list[Choice]]:
    """Look at the data and plan."""
    found = look_at(given.section("data"), given)
    if not found.mixed:  # `prepare` refuses it with the same words
        found = told_of_modality(found, given, budget)
        for problem in problems(found):
            tell(f"mind: {problem}")
    return {"asked": _asked(given), **found.without_names().to_json()}, choices(given, found, budget)


def _write_plan(out: Path, found: dict[str, Any], planned: list[Choice]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "inspection.json", json.dumps(found, indent=1))
    write_atomically(out / "plan.json", json.dumps([asdict(choice) for choice in planned], indent=1))


def _learned_from(given: Resolved, found: dict[str, Any]) -> int:
    """Of how many patients training is to learn, about. found: an inspection as JSON, which may be damaged"""
    return int(found.get("n_patients", sys.maxsize) * given.section("prepare", PrepareSettings).train)


def _with_batch(planned: list[Choice], settings: Resolved, given: Resolved) -> list[Choice]:
    """The plan, with the batch where it is another than a preset's, for few patients."""
    batch = settings.section("train", TrainSettings).batch
    if given.given("train").get("batch", batch) == batch:
        return planned
    reason = "Half of the patients to learn from: privacy lives by drawing a part of them in each turn."
    return [*(choice for choice in planned if choice.setting != "train.batch"),
            Choice(setting="train.batch", value=batch, reason=reason)]


def _refuse_missing(given: Resolved) -> None:
    """An error for files that settings name and that cannot be used, which would be opened minutes or hours later."""
    if start := given.given("train").get("start"):
        read_start(start)
    if inception := given.section("evaluate", EvaluateSettings).inception:
        InceptionFeatures(inception)


def _refuse_impossible(settings: Resolved, found: dict[str, Any], planned: list[Choice],
                       usual: dict[str, Any]) -> None:
    """SettingsError for what `train` or `generate` would refuse after `prepare`, which may take hours.

    found: an inspection as JSON, an older one without what `prepare` would make; usual: settings of a preset
    """
    if not found.get("spec"):
        return
    spec = ImageSpec.from_json(found["spec"])
    preparing = settings.section("prepare", PrepareSettings)
    spec = replace(spec, size=size_of(preparing.size, preparing.fit, [spec.size]))
    settings, start = started(settings)
    task = tried(settings, spec, found["n_patients"], start)
    tell_of_idle(settings, task, spec, planned)
    for line in in_vain(settings, unused_by_run(task, spec), usual):
        tell(f"mind: {line}")
    if not draws(task):
        return
    options = settings.section("generate", GenerateSettings)
    if options.copy_filter:
        check_not_private(isinstance(task, Private))
    if options.format:
        check_format(replace(spec, spacing=found["spacing"]), options.format)


def _generate(settings: Resolved, prepared: Prepared, out: Path) -> Generated:
    options = settings.section("generate", GenerateSettings)
    count = options.count or min(max(len(prepared.indices("train")), 500), 2000)
    RunFolder(out).set_images_aside()
    return generate(out, out / "synthetic", count=count, format=options.format or None,
                    truncation=options.truncation, seed=settings.seed, copy_filter=options.copy_filter)


def _evaluate(settings: Resolved, prepared: Prepared, out: Path, made: Generated) -> dict[str, Any]:
    """Measure the very images that were written: the same items, before they were rounded for their files."""
    options = settings.section("generate", GenerateSettings)
    # Image k depends on the seed and k alone: the first are as good as any, and all of many would fill the memory.
    drawn = draw(out, min(made.count, MOST_IMAGES), seed=settings.seed, truncation=options.truncation,
                 copy_filter=options.copy_filter)
    evaluating = settings.section("evaluate", EvaluateSettings)
    try:
        results = evaluate_prepared(prepared, drawn.images, labels=drawn.labels, settings=evaluating, out=out)
    except DataError as error:  # too few patients to measure on: the images are made, and the report says why no more
        return write_unmeasured(prepared, drawn.images, str(error), evaluating, out)
    results["context"]["synthetic_images"] = made.count
    if drawn.masks is not None:
        add_agreement(results, prepared, drawn, repetitions=evaluating.repetitions, seed=evaluating.seed)
        pictures = side_by_side(Sampler(out), prepared, drawn, settings.seed, evaluating.real_pictures)
        write_agreement(out, results, pictures)
    return results
