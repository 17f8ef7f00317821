"""Settings that do nothing beside the others, a budget of a single step, more processes than cores, and channels that
none names: told before training, so that nobody waits for what he did not mean."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from radsynth.choices import Choice, document
from radsynth.device import here
from radsynth.image import ImageSpec
from radsynth.progress import tell
from radsynth.recipes import recipe
from radsynth.settings import Resolved
from radsynth.tasks import Private, Recalling, Task, registers, takes_images
from radsynth.verbs._in_vain import Idle, in_vain
from radsynth.verbs._training.examination import Judging
from radsynth.verbs._training.options import Settings


def tell_of_idle(settings: Resolved, task: Task, spec: ImageSpec, planned: list[Choice] | None = None) -> None:
    """Say which settings were changed in vain, that a budget is one step, that processes are more than cores, and which
    channels are taken where none is named.

    spec: of the images; planned: else the network's recipe
    """
    for line in (*idle(settings, task, spec, planned), *_one_step(train := settings.section("train", Settings)),
                 *_crowded(train), *_unnamed(settings.section("task"), task)):
        tell(f"mind: {line}")


def idle(settings: Resolved, task: Task, spec: ImageSpec, planned: list[Choice] | None = None) -> list[str]:
    """A sentence for each setting that can do nothing, and is neither its default nor what was planned."""
    usual = document(recipe(settings.kind("model"), settings.kind("task")) if planned is None else planned)
    return in_vain(settings, _without_effect(settings, task, spec), usual)


def _without_effect(settings: Resolved, task: Task, spec: ImageSpec) -> Iterator[Idle]:
    """Section, name and reason of each setting that has no effect beside the others."""
    options, train, augment = settings.section("task"), settings.section("train", Settings), settings.section("augment")
    module = sys.modules[type(options).__module__]
    own = getattr(module, "idle", _nothing)(options)
    for name, why in own.items():
        yield "task", name, why
    if hasattr(options, "masked") and "masked" not in own and not spec.partly_masked:
        yield "task", "masked", "every image has a mask"
    for name in () if spec.mask_classes else getattr(module, "OF_MASKS", ()):
        yield "task", name, "the images have no masks"
    if train.start and isinstance(task, Recalling):
        for name in ("warm_start", "warm_start_rate"):
            yield "task", name, "training starts from weights that have learned before (train.start)"
    if not any(name.startswith("discriminator") for turn in task.turns() for name in turn.nets):
        for section in ("task", "model"):
            for name in vars(settings.section(section)):
                if name.startswith("discriminator") or name == "loss":  # the adversarial one
                    yield section, name, "no discriminator is trained"
        yield from _augmentation(augment, "no discriminator is trained")
    elif registers(task) or isinstance(task, Private):
        yield from _augmentation(augment, f"task.kind={options.kind} takes no augmentation")
    elif not (augment.strength or train.augment_end or (train.doctor and isinstance(task, Judging))):
        yield from _augmentation(augment, why := "nothing is augmented (augment.strength=0)")
        if hasattr(options, "consistency"):
            yield "task", "consistency", why
    if train.grow_at == 1 or 0 < train.images <= train.grow_images:
        for name in ("batch_end", "augment_end"):
            yield "train", name, (f"batches never grow (train.grow_at={train.grow_at:g}, "
                                  f"train.grow_images={train.grow_images})")
    elif train.batch_end <= train.batch:
        yield "train", "batch_end", f"batches only grow, and train.batch is {train.batch}"
        if not train.augment_end:
            for name in ("grow_at", "grow_images"):
                yield "train", name, "batches do not grow (train.batch_end)"
    if (few := len(spec.labels) < 2) or isinstance(task, Private):
        why = "the images have no classes" if few else "each patient is drawn with the same chance"
        yield "train", "balance", why
    if not train.fall:
        yield "train", "rate_end", "the learning rate does not fall (train.fall=0)"
    if train.rate_end == 1:
        yield "train", "fall", "the learning rate does not fall (train.rate_end=1)"


def _one_step(train: Settings) -> Iterator[str]:
    """A sentence where a batch holds the whole budget: one step moves weights by a hair, and nothing is learned."""
    if 0 < train.images <= train.batch:
        yield (f"the budget of {train.images:,} images is spent in one step (train.batch={train.batch}), of which "
               "hardly anything is learned. Give a larger budget or a smaller batch.")


def _crowded(train: Settings) -> Iterator[str]:
    """A sentence where processes would wait for each other's cores. On GPUs more than there are is an error."""
    device = here()
    if device.accelerator == "cpu" and train.processes > device.cores:
        yield (f"train.processes={train.processes} is more than the {device.cores} cores that radsynth may use here: "
               "training is slower so, and takes the memory of as many programs.")


def _unnamed(options: Any, task: Task) -> Iterator[str]:
    """A sentence where channels are made from others and no setting says which: the order of files decides then."""
    for given, made in (("inputs", "outputs"), ("given", "clean")):
        if hasattr(options, made) and takes_images(task) and task.inputs != task.outputs and not (
                getattr(options, given) or getattr(options, made)):
            yield (f"{' and '.join(task.outputs)} will be made from {' and '.join(task.inputs)}, because the channels "
                   f"come in this order; task.{given} and task.{made} name them otherwise.")


def _augmentation(augment: Any, why: str) -> Iterator[Idle]:
    yield "train", "augment_end", why
    for name in vars(augment):
        yield "augment", name, why


def _nothing(options: Any) -> dict[str, str]:
    return {}
