"""What cannot work together is refused here: by `run` before anything is prepared, by `train` before it begins."""

from __future__ import annotations

from radsynth.device import here
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.parallel import launched
from radsynth.settings import Resolved, constant
from radsynth.tasks import Private, Task, build
from radsynth.verbs._training.options import Settings
from radsynth.verbs._training.start import Start


def processes_of(options: Settings) -> int:
    """Processes that this one is to start, all of which share a batch; 1 when it is one of several itself."""
    return 1 if launched() else options.processes or here().count


def tried(settings: Resolved, spec: ImageSpec, patients: int, start: Start | None) -> Task:
    """The task for images as `spec` says; its networks were made once. SettingsError with what to change.

    patients: those to learn from, or the most that there can be
    """
    options = settings.section("train", Settings)
    processes = processes_of(options)
    check_parts(options, processes)
    _check_both_sides(settings.kind("task"), options, processes)
    task = build(settings.section("task"), settings.section("model"), settings.section("augment"), spec)
    if start:
        start.suit(task, spec.size)
    else:
        task.networks()
    if isinstance(task, Private):
        if start:
            raise SettingsError("task.kind=private starts from chance: what train.start has seen is outside its bound.")
        if options.batch_end:
            raise SettingsError("task.kind=private promises for batches of one size: set train.batch_end=0.")
        task.check(options.batch, options.images, processes, patients)
    return task


def check_parts(options: Settings, processes: int) -> None:
    """SettingsError for a training without an end, or for batches that cannot be parted as they are to be."""
    if not options.images and not options.seconds:
        raise SettingsError("train needs a budget: set train.images or train.seconds, or give --budget 5min.")
    for name in ("batch", "batch_end"):
        if getattr(options, name) % (options.accumulate * processes):
            shared = f" among {processes} processes" if processes > 1 else ""
            raise SettingsError(f"train.accumulate={options.accumulate}{shared} must divide "
                                f"train.{name}={getattr(options, name)} without remainder.")
    if options.freeze and not options.start:
        raise SettingsError(f"train.freeze={options.freeze} keeps layers as train.start has them: give train.start.")


def _check_both_sides(task: str, options: Settings, processes: int) -> None:
    parts = options.accumulate * processes
    if constant("tasks", task, "UNPAIRED") and options.batch < 2 * parts:
        raise SettingsError(
            f"task.kind={task} learns from batches with images of both classes: set train.batch={2 * parts} or more "
            f"({parts} parts of at least two images), or it would learn nothing."
        )
