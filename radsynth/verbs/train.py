"""Trains: prepared data in, a run folder with an averaged generator out. The same command again resumes it.

With a budget in images the result is a function of data, settings and seed alone, bit for bit on a CPU, interrupted or
not. With a budget in seconds the schedule follows the clock.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from radsynth.arrays import Prepared
from radsynth.checkpoints import load_checkpoint
from radsynth.errors import FolderError, Interrupted, OutOfMemory, TrainingError
from radsynth.files import check_writable
from radsynth.parallel import join, launch, launched, speaks
from radsynth.progress import Progress, tell
from radsynth.run_folder import TRAINING, RunFolder
from radsynth.settings import Resolved, resolve
from radsynth.stopping import stop_signals
from radsynth.tasks import Private, Task, build
from radsynth.tasks._differential import never_less
from radsynth.verbs._given import given
from radsynth.verbs._preparing.preparation import without_source
from radsynth.verbs._report.words import privacy_bound
from radsynth.verbs._training.board import board
from radsynth.verbs._training.checks import check_parts, processes_of, tried
from radsynth.verbs._training.idle import tell_of_idle
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.memory import memory_guarded
from radsynth.verbs._training.options import Settings
from radsynth.verbs._training.parts import told_of_memory
from radsynth.verbs._training.start import Start, read_start, started

__all__ = ["Settings", "train"]

LOG_SECONDS = 2.0
"""Seconds between lines of log.jsonl."""
EPSILON = "discriminator/epsilon"
"""The term of a task with differential privacy that says how much is spent."""
BUDGET = ("images", "seconds")
"""The settings of `train` that say how long."""
CHANGEABLE = (*BUDGET, "accumulate", "processes", "checkpoint_minutes", "previews", "graphs", "select")
"""The settings of `train` that may change when a run is continued: what is learned does not depend on them."""


def train(prepared: Path, run: Path, *, settings: Resolved | None = None, overrides: Sequence[str] = (),
          preset: str | None = None, budget: str | None = None, seed: int | None = None) -> RunFolder:
    """Train until the budget is spent, from the last checkpoint of `run` if there is one.

    settings: all of them, resolved; or instead what the command line takes: overrides ("model.kind=dcgan"), a preset, a
    budget ("5min") and a seed, on top of what goes with the network, which train.start brings.

    Raises SettingsError for settings that cannot work, FolderError for a run of other settings or data, a damaged
    checkpoint or a full disk, TrainingError when values stop being finite, Interrupted after SIGINT, SIGTERM or SIGHUP,
    when the step under way is saved, or after a second SIGINT at once.
    """
    settings = settings or given(TRAINING, overrides, preset=preset, budget=budget, seed=seed, with_recipe=True)
    check_writable(Path(run))
    RunFolder(run).check_own(prepared)
    data = Prepared(prepared)
    settings, start = started(settings)
    settings = _as_prepared(settings, data)
    task = tried(settings, data.spec, data.manifest.patients["train"], start)  # or an error, before anything is written
    if not len(data.indices("train")):
        raise FolderError(f"{data.folder} has no training images. Prepare more patients or raise the training share.")
    if speaks() and not (Path(run) / "plan.json").exists():  # `run`, which makes plans, has said it before it prepared
        tell_of_idle(settings, task, data.spec)
    options = settings.section("train", Settings)
    processes = processes_of(options, task)
    if isinstance(task, Private):
        task.promise(data, options.batch, options.images, processes)  # or an error
    with nullcontext() if launched() else RunFolder(run).held():  # those that something else starts come one by one
        if processes > 1:
            launch(_train, processes, (data.folder, Path(run), settings.document()))
        else:
            _train(data.folder, Path(run), settings.document())
    gc.collect()  # a loop and its parts know each other; what comes next may need their memory
    return RunFolder(run)


def _train(prepared: Path, run: Path, document: dict[str, Any]) -> None:
    """Train in this process, together with those that were started beside it, if any."""
    settings, ranks = resolve(document, sections=("train",)), join()
    data, folder = Prepared(prepared), RunFolder(run, writes=ranks.first)
    options = settings.section("train", Settings)
    start = read_start(options.start) if options.start else None
    check_parts(options, ranks.size)
    task = build(settings, data.spec)
    with folder.lock() if ranks.first else nullcontext():
        if ranks.first:
            _begin(folder, _named(settings, start), data)
        ranks.wait()
        if folder.trained and _done(folder.load_weights()[1], options):
            return
        loop = Loop(task, options, data, folder, settings.seed, ranks, start)
        if start and not folder.checkpoints.exists():
            folder.event("started", 0, f"Training starts from the weights of {start.name}.")
        _resume(loop, folder)
        if loop.promise and not loop.images:
            folder.event("privacy", 0, loop.promise)  # before anything is learned
        elif loop.promise and ranks.first:
            tell(loop.promise)
        shown = Progress(1.0, "training", begun=loop.progress) if ranks.first else nullcontext()
        with _stop_requests(tells=ranks.first) as stopping, shown as progress:
            try:
                with memory_guarded(loop.gradients.memory_ran_out), told_of_memory(loop.gradients.memory_ran_out):
                    _drive(loop, folder, stopping, progress)
            except TrainingError as error:
                folder.event("stopped", loop.images, str(error), silent=True)
                if isinstance(error, OutOfMemory):
                    raise
                raise TrainingError(_stopped(error, folder, task, settings.section("task"))) from None
        with told_of_memory(loop.gradients.memory_ran_out):
            _deliver(loop, folder, settings)
        ranks.wait()


def _stopped(error: TrainingError, folder: RunFolder, task: Task, options: Any) -> str:
    """What to say of a training whose values are not finite, or have run away, and what to do. options: the task's"""
    more = {True: " or raise task.penalty_weight", False: " or take a task.penalty" * hasattr(options, "penalty"),
            None: ""}
    term = str(error).partition(" ")[0].rpartition("/")[2]  # most losses are called like their weights
    named = (term, {"penalty": "penalty_weight", "divergence": "beta"}.get(term, term))
    weight = next((name for name in named if isinstance(getattr(options, name, None), float)), "")
    lower = f" or task.{weight}" if weight else more[getattr(task, "penalised", None)]
    return (f"Training stopped: {error} The last good checkpoint is in {folder.checkpoints}. Lower train.rate{lower}, "
            "and train into a new run folder.")


def _deliver(loop: Loop, folder: RunFolder, settings: Resolved) -> None:
    """When training has ended: choose the moment whose weights are delivered, and write them with what is true of them.

    Weights of an earlier, shorter training are set aside.
    """
    chosen = loop.selection.choose(loop) if loop.selection else None
    kept = loop.doctor.choose(loop) if loop.doctor and not chosen else False
    if loop.selection and not kept:
        loop.selection.say_why_not(loop)
    facts = {"images": loop.images, "steps": loop.step, "seconds": loop.seconds, "budget": _budget(loop.options),
             "select": loop.options.select, "model": settings.kind("model"), "task": settings.kind("task"),
             "keeps": loop.task.keeps, "chosen": chosen}
    if loop.private:
        facts["privacy"] = spent = loop.private.spent()
        bound = privacy_bound(facts) or "no bound"
        folder.event("privacy", loop.images, f"Spent in {spent['turns']:,} turns of the discriminator: {bound}. The "
                     "whole account is in generator.json.", silent=True)
    loop.samples.calibrate()
    if loop.doctor:
        loop.doctor.warn(loop)
    if loop.ranks.first:
        if not folder.trained or _learned(folder.load_weights()[1]) != _learned(facts):
            folder.set_aside()
        digest = folder.save_weights(loop.average.network.state_dict(), facts)
        folder.event("trained", loop.images, f"Training ended after {loop.images:,} images; weights {digest[:16]}.",
                     silent=True)


def _learned(facts: dict[str, Any]) -> tuple[Any, ...]:
    """What decides the weights of a run: how far it was trained, and which moment is delivered."""
    return facts["images"], (facts["chosen"] or {}).get("images")


def _drive(loop: Loop, folder: RunFolder, stopping: Callable[[], bool], progress: Progress | None) -> None:
    """Step until the budget is spent: log, preview, save. Interrupted when a stop is asked for."""
    start = time.monotonic() - loop.seconds
    logged = saved = loop.seconds
    logged_images = loop.images
    previews = _previews_due(loop)
    with board(folder, loop.images) as draw:
        while not loop.finished:
            try:
                terms = loop.take_step()
                now, stop = loop.ranks.agree(time.monotonic() - start, stopping())
                loop.seconds = now
                if _previews_due(loop) > previews:  # before it is saved: what goes on from there does not make it again
                    loop.samples.preview()
                    previews = _previews_due(loop)
                if stop or loop.finished or now - saved >= loop.options.checkpoint_minutes * 60:
                    loop.save()
                    saved = now
            except TrainingError as error:
                ill = not isinstance(error, OutOfMemory)
                if not (ill and loop.doctor and loop.doctor.recover(loop, error)):
                    raise
                logged_images, previews = loop.images, _previews_due(loop)
                continue
            if now - logged >= LOG_SECONDS or loop.finished or stop:
                rate = (loop.images - logged_images) / max(now - logged, 1e-9)
                folder.log({"step": loop.step, "images": loop.images, "seconds": round(now, 2),
                            "images_per_second": round(rate, 1), **terms})
                draw(terms, loop.images)
                logged, logged_images = now, loop.images
            if progress:
                spent = f", epsilon {never_less(terms[EPSILON]):.2f}" if EPSILON in terms else ""
                progress.update(loop.progress, f"{loop.images} images, {loop.images / now:.0f}/s{spent}")
            if stop:
                folder.event("interrupted", loop.images, "Stopped on request; the same command goes on from here.",
                             silent=True)
                raise Interrupted(f"Stopped on request after {loop.images} images. Repeat the command to go on.")


def _previews_due(loop: Loop) -> int:
    """How many preview grids belong to the training so far."""
    return int(loop.progress * loop.options.previews)


def _as_prepared(settings: Resolved, data: Prepared) -> Resolved:
    """The same settings without sources, and with how the data was prepared where they do not say it."""
    return resolve({**data.manifest.preparation, **without_source(settings.document())}, sections=("train",))


def _named(settings: Resolved, start: Start | None) -> Resolved:
    """The same settings as they are written down: a start by its name or hash, never by its path."""
    document = settings.document()
    if start:
        document["train"]["start"] = start.name
    return resolve(document, sections=("train",))


def _budget(options: Settings) -> dict[str, float]:
    return {name: getattr(options, name) for name in BUDGET}


def _done(facts: dict[str, Any], options: Settings) -> bool:
    """Whether these weights are what is asked for. Older ones do not say whether they were selected."""
    return bool(facts["budget"] == _budget(options)) and facts.get("select", options.select) == options.select


def _begin(folder: RunFolder, settings: Resolved, data: Prepared) -> None:
    """Write down what the run is, or check that a run which has begun is the same."""
    for name in TRAINING:
        settings.section(name)
    if not folder.begun:
        folder.begin(settings.to_yaml(), data.manifest, data.training_labels())
        return
    new = settings.document()
    old = _completed(folder.settings(), new)
    changed = [
        f"{section}.{key}: {_get(old, section, key)} then, {_get(new, section, key)} now"
        for section in TRAINING
        for key in _compared(old.get(section, {}), new.get(section, {}))
        if _get(old, section, key) != _get(new, section, key) and not (section == "train" and key in CHANGEABLE)
    ]
    if old.get("seed") != new.get("seed"):
        changed.append(f"seed: {old.get('seed')} then, {new.get('seed')} now")
    if folder.description()["data_hash"] != data.manifest.data_hash:
        changed.append("the prepared data is not the same")
    if changed:
        alike = old["model"] == new["model"] and all(
            _get(old, "task", key) == _get(new, "task", key) != "private" for key in ("kind", "masks"))
        there = f"; there, train.start={folder.path} begins with what was learned here" if alike else ""  # else refused
        raise FolderError(f"{folder.path} was begun with other settings or data: {'; '.join(changed)}. Repeat it with "
                          f"the same ones, or choose a new run folder{there}.")
    folder.begin(settings.to_yaml(), data.manifest, data.training_labels())


def _compared(old: dict[str, Any], new: dict[str, Any]) -> Iterable[str]:
    """The settings of a section that are compared: of two kinds, which have others, that alone."""
    return {**old, **new} if old.get("kind") == new.get("kind") else ("kind",)


def _completed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that may be older than some of them: those are what is their default now."""
    kinds = {name: _get(new, name, "kind") for name in TRAINING}
    same = [name for name in TRAINING if name in old and _get(old, name, "kind") == kinds[name]]
    defaults = resolve({name: {"kind": kinds[name]} for name in same if kinds[name]}, sections=same).document()
    return {**old, **{name: {**defaults[name], **old[name]} for name in same}}


def _get(document: dict[str, Any], section: str, key: str) -> Any:
    return document.get(section, {}).get(key)


def _resume(loop: Loop, folder: RunFolder) -> None:
    found = load_checkpoint(folder.checkpoints)
    loop.ranks.wait()  # all have looked before the first one writes
    if found is None:
        loop.save()  # the first place that the training doctor can go back to
        return
    state, facts, damaged = found
    loop.restore(state)
    folder.rewind(loop.images, facts.get("logged"))  # a checkpoint of an older run does not say it
    for text in damaged:
        folder.event("damaged checkpoint", loop.images, text)
    if loop.progress < 1 and (setting := loop.ended_by):
        where = "in this run folder" if setting in CHANGEABLE else "in a new run folder"
        folder.event("stays ended", loop.images, (
            f"Training was ended after {loop.images:,} images, as samples only became worse, and does not go on with a "
            f"larger budget. train.{setting}=false {where} trains on; more images or augmentation may do better."))
        return
    if loop.progress < 1:
        folder.event("resumed", loop.images, f"Training went on after {loop.images:,} images.")


@contextmanager
def _stop_requests(tells: bool) -> Iterator[Callable[[], bool]]:
    """Whether a stop was asked for: the step that is under way is finished and saved first. Else as `stop_signals`."""
    received: list[int] = []

    def note(number: int) -> None:
        received.append(number)
        if tells:
            with suppress(RuntimeError):  # in the middle of writing another line: then this one is lost
                tell("Stopping: the step under way is finished and saved. Ctrl-C again stops at once; training then "
                     "goes on from the last checkpoint.")

    with stop_signals(note):
        yield lambda: bool(received)
