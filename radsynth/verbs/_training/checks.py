"""What cannot work together is refused here: by `run` before anything is prepared, by `train` before it begins."""

from __future__ import annotations

from radsynth.device import here
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.parallel import launched
from radsynth.settings import Resolved
from radsynth.tasks import Private, Task, build, needs_both_sides, registers, repeats
from radsynth.verbs._training.memory import memory_guarded
from radsynth.verbs._training.options import Settings
from radsynth.verbs._training.parts import told_of_memory
from radsynth.verbs._training.start import Start


def processes_of(options: Settings, task: Task) -> int:
    """Processes that this one is to start, all of which share a batch; 1 when it is one of several itself.

    Where no number is asked for: the most GPUs that every batch can be shared among, but one where steps are recorded.
    SettingsError for more than there are.
    """
    device = here()
    if launched():
        return 1
    if options.processes > device.count and device.accelerator == "cuda":
        raise SettingsError(f"train.processes={options.processes}: each process needs a GPU of its own, and this "
                            f"machine has {device.count}. Set train.processes={device.count}, or leave it out.")
    # A recorded step is several times as fast as one whose kernels are launched singly, into however many parts it is
    # cut: docs/benchmarks-speed.md, "On a GPU".
    recorded = options.graphs and options.accumulate == 1 and repeats(task)
    if options.processes or isinstance(task, Private) or recorded:
        return options.processes or 1
    least = 2 if needs_both_sides(task) else 1
    sizes = [size // options.accumulate for size in (options.batch, max(options.batch, options.batch_end))]
    return next((count for count in range(device.count, 1, -1)
                 if all(size % count == 0 and size >= least * count for size in sizes)), 1)


def tried(settings: Resolved, spec: ImageSpec, patients: int, start: Start | None) -> Task:
    """The task for images as `spec` says; its networks were made once. SettingsError with what to change.

    patients: those to learn from, or the most that there can be
    """
    options = settings.section("train", Settings)
    task = build(settings, spec)
    processes = processes_of(options, task)
    check_parts(options, processes)
    if needs_both_sides(task):
        _check_both_sides(settings.kind("task"), options, processes)
    if registers(task) and settings.given("prepare").get("fit") == "patches":
        raise SettingsError("task.kind=register with prepare.fit=patches: crops of two patients show different places, "
                            "which no warp brings onto each other. Prepare whole images, with prepare.fit=pad: those "
                            "larger than prepare.size are shrunk to it.")
    if start and isinstance(task, Private):
        raise SettingsError("task.kind=private starts from chance: what train.start has seen is outside its bound. "
                            "Set train.start=''.")
    if start:
        start.suit(task, spec, options.freeze)
    else:
        with memory_guarded(lambda: _too_large(settings)), told_of_memory(lambda reason: _too_large(settings)):
            task.networks()
    if isinstance(task, Private):
        if settings.given("prepare").get("extra"):
            raise SettingsError("task.kind=private with prepare.extra: what a network made of the same patients, or "
                                "what else shows them, would tell of them outside of the bound. Leave prepare.extra "
                                "out, and prepare the data without it.")
        if options.batch_end:
            raise SettingsError("task.kind=private promises for batches of one size: set train.batch_end=0.")
        task.check(options.batch, options.images, processes, patients)
    return task


def _too_large(settings: Resolved) -> str:
    sizes = [f"model.{name}={value}" for name, value in settings.given("model").items() if name != "kind"]
    given = f" with {', '.join(sizes)}" if sizes else ""
    return (f"The networks of model.kind={settings.kind('model')}{given} do not fit into memory. Lower their sizes, or "
            "prepare smaller images (prepare.size).")


def check_parts(options: Settings, processes: int) -> None:
    """SettingsError for a training without an end, or for batches that cannot be parted as they are to be."""
    if not options.images and not options.seconds:
        raise SettingsError("train needs a budget: set train.images or train.seconds, or give --budget 5min.")
    for name in ("batch", "batch_end"):
        if getattr(options, name) % (options.accumulate * processes):
            accumulate = [f"train.accumulate={options.accumulate}"] if options.accumulate > 1 else []
            shared = [f"{processes} processes"] if processes > 1 else []
            raise SettingsError(f"{' times '.join(accumulate + shared)} must divide "
                                f"train.{name}={getattr(options, name)} without remainder.")
    if options.freeze and not options.start:
        raise SettingsError(f"train.freeze={options.freeze} keeps layers as train.start has them: give train.start.")


def _check_both_sides(kind: str, options: Settings, processes: int) -> None:
    parts = options.accumulate * processes
    if options.batch < 2 * parts:
        raise SettingsError(
            f"task.kind={kind} learns from batches with images of both classes: set train.batch={2 * parts} or more "
            f"({parts} part{'s' if parts > 1 else ''} of at least two images), or it would learn nothing."
        )
