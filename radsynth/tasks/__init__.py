"""Tasks: what is learned, as networks and turns. A module is one kind and offers:

Settings                                         its settings, `kind` first
build(settings, model, augment, spec) -> Task    `model` and `augment` are those sections of the settings
MODEL: str                                       the kind of network it uses when none is named; if absent, the default
RESULTS: str                                     what reports call the results of a task from image to image, which must
                                                 say so: such results show whom the given images show
UNPAIRED = True                                  there is no truth that results can be compared with
KEEPING = True                                   results show what was given, of which something can get lost on the
                                                 way: reports ask whether it did
PATCHES = True                                   what surrounds a pixel is enough to make it: where images are large,
                                                 crops of them are learned
idle(settings) -> dict[str, str]                 names of settings that do nothing beside the others, and why
OF_MASKS: tuple[str, ...]                        names of settings that do nothing where images have no masks
CONDITIONS = True                                it can learn images with numbers (data.conditions); else it is refused

`build` gives a `Task`; of a task from image to image an `ImageTask`, or a `PairedTask` where a batch holds the truth,
which its results are measured against. What else a task can do it says by offering what the protocols below name, and
`verbs/_training/examination.Judging` where the training doctor is to watch a discriminator.

A task calls networks only as `net(x, ...)`, so that they may be wrapped for data parallelism.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.settings import Resolved

BUILT_OF = ("task", "model", "augment")
"""The sections of the settings that a task is built of."""
Terms = dict[str, Tensor]
"""Named scalars; their sum goes down. A name that begins with "_" is only logged."""


def _no_terms(networks: Networks, batch: Batch) -> Terms:
    return {}


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Whose weights move, down which loss, how often in one step, and at which multiple of the learning rate.

    loss: {} leaves the turn out this time, or a part of a batch. All turns of a step get the same batch (of a turn that
    repeats, the last).
    after: called after each step of the optimiser, for a constraint on weights
    makes: networks that make something which a later turn of the same step trains on, so that they keep their graph
    gradients: in place of `loss`, sets the weights' gradients itself, for the whole batch; its terms are only logged
    """

    nets: tuple[str, ...]
    loss: Callable[[Networks, Batch], Terms] = _no_terms
    repeats: int = 1
    rate: float = 1.0
    after: Callable[[Networks], None] | None = None
    makes: tuple[str, ...] = ()
    gradients: Callable[[Networks, Batch], Terms] | None = None


class Task(Protocol):
    """What the training loop knows of a task."""

    keeps: str
    """The network that is averaged, saved and sampled."""

    def networks(self) -> Networks:
        """Name -> module, freshly initialised."""

    def turns(self) -> list[Turn]:
        """The turns of one step, in order."""

    def sample(self, network: nn.Module, batch: Batch) -> Tensor:
        """What the kept network makes of a batch: (n, c, *space) in [-1, 1]."""


@runtime_checkable
class Varying(Protocol):
    """A task that learns from batches other than the loop draws."""

    def vary(self, batch: Batch) -> Batch:
        """What the turns of a step get in place of a batch: some images drawn again or warped, by (seed, item) alone.
        Here, and not in a turn, belongs what the processor decides or looks up."""


@runtime_checkable
class Repeatable(Protocol):
    """A task whose step can be recorded and repeated with other tensors in place of the batch's.

    Its turns ask for no value on the device, bring nothing to it, and take numbers that change from step to step as
    tensors (`Batch.now`, `Batch.augmenting`) or name them here.
    """

    def constant(self, batch: Batch) -> Hashable | None:
        """What of a batch decides how its step goes, tensors and random numbers left aside (see `Batch.constant`); None
        where its step cannot be recorded."""


@runtime_checkable
class Studious(Protocol):
    """A task that looks at the training data before its networks are made, at every start."""

    def study(self, prepared: Prepared, seed: int) -> None:
        """Take from the data what the networks start from."""


@runtime_checkable
class Recalling(Protocol):
    """A task whose networks stay tied to what was studied: a training that starts from their weights needs it too."""

    def studied(self) -> dict[str, Tensor]:
        """What was taken, {} for nothing."""

    def recall(self, studied: dict[str, Tensor], *, resumed: bool = False) -> None:
        """In place of `study`: take what the training had taken whose weights this one starts from; or, resumed, what
        it had itself: another machine or version would find it a little otherwise."""


@runtime_checkable
class Private(Protocol):
    """A task with differential privacy: it alone looks at training images and labels; the loop's batches hold none."""

    def check(self, batch: int, images: int, processes: int, patients: int) -> None:
        """SettingsError where nothing could be promised. patients: those to learn from, or the most that can be."""

    def promise(self, prepared: Prepared, batch: int, images: int, processes: int) -> str:
        """Fix the noise for a budget in images; what is promised, in words. SettingsError where nothing can be."""

    def spent(self) -> dict[str, float | int | str | None]:
        """The account so far, plain values."""

    def state(self) -> dict[str, Any]:
        """What sampling, noise and account go on from."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from it."""


class ImageTask(Task, Protocol):
    """A task whose network takes images: what `apply` knows of it.

    It may also say whether it `corrects` (a result is the given image, corrected) and whether an image `may_lack` some
    of the channels that it takes (these are -1 all over); where it does not say so, neither is true.
    """

    inputs: tuple[str, ...]
    """Names of the channels that it takes."""
    outputs: tuple[str, ...]
    """Names of the channels that it makes."""
    finer: tuple[int, ...]
    """How many times finer the result's grid is along each axis of space; 1 but for super-resolution."""
    targets: tuple[str, ...]
    """What a result can be asked to be (domains of an unpaired translation), the usual one first; () without choice."""

    def enlarge(self, images: Tensor) -> Tensor:
        """(n, inputs, *space / finer) on the grid of the result, interpolated; the same images when `finer` is 1."""

    def convert(self, network: nn.Module, images: Tensor, target: str = "") -> Tensor:
        """What the kept network makes of enlarged images: (n, inputs, *space) to (n, outputs, *space)."""


def repeats(task: Task) -> TypeGuard[Repeatable]:
    """Whether steps of a task can be recorded, those of whole batches at least."""
    some = Batch(images=torch.empty(1, 0), seed=0, items=(0,))
    return isinstance(task, Repeatable) and task.constant(some) is not None


def takes_images(task: Task) -> TypeGuard[ImageTask]:
    """Whether a task makes images from images; if not, it draws them."""
    return hasattr(task, "convert")


def chosen_target(task: ImageTask, asked: str | None) -> str:
    """The domain or class to go to, the first one unless another is asked for; "" where there is no choice.

    SettingsError for one that the task does not know.
    """
    if asked is not None and asked not in task.targets:
        allowed = f"it can go to {', '.join(task.targets)}" if task.targets else "it has no choice of targets"
        raise SettingsError(f"target={asked!r}: the run does not know it; {allowed}.")
    return asked or (task.targets[0] if task.targets else "")


def registers(task: Task) -> bool:
    """Whether a task warps one image onto another (`radsynth.tasks.register`)."""
    return hasattr(task, "warps")


def segments(task: Task) -> bool:
    """Whether a task makes label maps of images (`radsynth.tasks.segment`)."""
    return getattr(task, "outputs", ()) == ("mask",)


def needs_both_sides(task: Task) -> bool:
    """Whether a batch, and each part of it, teaches only with images of two classes (`radsynth.tasks._unpaired`)."""
    return hasattr(task, "domains")


def paints(task: Task) -> bool:
    """Whether a task makes images of masks (`radsynth.tasks.semantic`): its batches must hold some."""
    return getattr(task, "inputs", ()) == ("mask",)


def draws(task: Task) -> bool:
    """Whether images come out of a trained run by themselves, from noise or masks; if not, `apply` makes them."""
    return paints(task) or not (takes_images(task) or registers(task))


def draws_masks(task: Task) -> TypeGuard[MaskedTask]:
    """Whether a task draws images together with their masks, as further channels of one image."""
    return bool(getattr(task, "joint", False))


def makes_masks(task: Task) -> bool:
    """Whether what is generated are images with masks."""
    return paints(task) or draws_masks(task)


class MaskedTask(Task, Protocol):
    """What is known of a task that draws images together with their masks."""

    def parted(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What `sample` made as images (n, c, *space) and label values (n, *space)."""


class PairedTask(ImageTask, Protocol):
    """An `ImageTask` whose batches hold the truth: what the measurement of pairs knows of it."""

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What a user would have and what it should become: (n, inputs, *space / finer) and (n, outputs, *space)."""


def build(settings: Resolved, spec: ImageSpec) -> Task:
    """The task that these settings ask for; SettingsError for settings that cannot work together."""
    options, model, augment = (settings.section(name) for name in BUILT_OF)
    module = sys.modules[type(options).__module__]
    if spec.conditions and not getattr(module, "CONDITIONS", False):
        raise SettingsError(f"task.kind={options.kind} learns images with no numbers: set data.conditions=[].")
    task: Task = module.build(options, model, augment, spec)
    return task
