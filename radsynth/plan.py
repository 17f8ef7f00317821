"""The plan: from what the data is, what the machine has and how long it may take, to settings with a reason each.

Every choice can be overridden; what was chosen and why is written to the run's plan.json and into the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from radsynth.bases import Facts, fitting
from radsynth.choices import ASKED, Choice
from radsynth.course import DEFAULT_SECONDS, FEW, SPEED, augmentation, changes, course, passes, speed
from radsynth.device import Device
from radsynth.io._geometry import even_size, in_proportion
from radsynth.recipes import DEFAULT_MODEL, TASK_RECIPES, TUNING, recipe
from radsynth.settings import constant


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What the plan looks at of the data.

    images, patients: numbers; modality: DICOM's code; channels: number; size: median (rows, columns) or (slices, ...)
    spacing: mm of these pixels, None where unknown; labels: images of each class; masked: patients with masks
    virtual: the embedded cohort
    """

    images: int
    patients: int
    modality: str
    channels: int
    size: tuple[int, ...]
    labels: dict[str, int]
    masked: int = 0
    virtual: bool = False
    spacing: tuple[float, ...] | None = None

    @property
    def even(self) -> tuple[int, ...]:
        """The size in squares or cubes as wide as its finest pixels, which `prepare` makes of all."""
        return even_size(self.size, self.spacing)


FEW_MASKED = 100
"""Patients with masks, held-out ones too, below which images are warped with their masks in training. With 20 and 45 of
them in training segmentation was better so, with 182 as good, with 280 worse; images from masks were nearer with 48,
with 182 farther (lab notebook)."""
WARPS = 0.03
"""Size of these warps, as a share of the longest side."""
PATCHES = Choice(setting="prepare.fit", value="patches", reason="What surrounds a pixel is enough for this task.")
UNEQUAL = 5
"""So many times more images of one class than of another are very unequal."""
PATIENT = 1200.0
"""Seconds of one core that multiplies bf16 itself from which images of 128 px are synthesised, unless they are few:
after a third of it slices of 128 px were closer to real ones than enlarged ones of 64 px (docs/benchmarks-quality.md,
"Larger images")."""
VERY_PATIENT = 8 * 3600.0
"""The same of 256 px: after two hours enlarged ones of 128 px were still closer and more varied (as above)."""
PATIENT_VOLUMES = 7200.0
"""The same from which volumes are synthesised at 48 voxels a side: hippocampi were closer to real ones then than any of
32 can be, and less varied (docs/benchmarks-quality.md, "Volumes")."""


def plan(data: Fingerprint, device: Device, budget: dict[str, float], *, task: str = "synthesis",
         model: str = "", size: tuple[int, ...] = (), start: Facts | None = None,
         alike: Callable[[Facts], bool] | None = None, grows: bool = True) -> list[Choice]:
    """Settings for this data on this device within this budget; for another task, network or size if one is named.

    start: what training is to start from; alike: whether the images look like those of a base generator, which may
    then be chosen for that where images are few; None: no base may be
    grows: whether batches and augmentation are the plan's, so that batches may grow
    """
    asked, size = size, size or _size(data, device, budget, task)
    if start:
        return _started(data, device, budget, start, task)
    few = alike is not None and task == "synthesis" and data.images < FEW
    base = fitting(data.modality, data.channels, size, alike) if few and alike else None
    if base:
        reason = (f"{data.images} images are few, and they look like those of {base.name}: they are learned from its "
                  "weights, not from chance.")
        begin = Choice(setting="train.start", value=base.name, reason=reason)
        return [begin, *_started(data, device, budget, base, task)]
    reason = ASKED if asked else _size_reason(data, size, device)
    choices = [Choice(setting="prepare.size", value=list(size), reason=reason)]
    if constant("tasks", task, "PATCHES") and any(side < have for side, have in zip(size, data.size, strict=False)):
        choices = [*choices, PATCHES] if asked else _patches(data.size, max(size))
    choices += _budget_choices(budget)
    if task != "synthesis":
        return choices + _image_task_choices(data, task, model)
    if data.labels and len(data.labels) > 1:
        choices.append(Choice(setting="task.kind", value="synthesis",
                              reason=f"Class-conditional: the data has {len(data.labels)} classes."))
        choices += _balance(data.labels)
    chosen = model or DEFAULT_MODEL
    reason = ASKED if model else "The default network: the best of the trials in docs/lab-notebook.md."
    choices.append(Choice(setting="model.kind", value=chosen, reason=reason))
    choices += course(chosen, data.images, len(data.labels), size, device, budget, grows=grows)
    return choices + changes(data.modality)


def _started(data: Fingerprint, device: Device, budget: dict[str, float], start: Facts, task: str) -> list[Choice]:
    """Everything as the start has it; where images are few the lower layers of its discriminator are left alone."""
    have, frame = ("x".join(map(str, size)) for size in (data.size, start.spec.size))
    choices = [Choice(setting="prepare.size", value=list(start.spec.size),
                      reason=f"The images are {have}; {start.name}, which training starts from, makes {frame}.")]
    choices += _budget_choices(budget)
    choices += [Choice(setting=f"model.{name}", value=value, reason=f"As {start.name} has it.")
                for name, value in start.model.items()]
    if task != "synthesis":
        patches = constant("tasks", task, "PATCHES") and max(start.spec.size) < max(data.size)
        choices += [PATCHES] if patches else []
        return choices + [choice for choice in _image_task_choices(data, task, start.model["kind"])
                          if not choice.setting.startswith("model.")]
    choices += recipe(start.model["kind"]) + (_balance(data.labels) if len(data.labels) > 1 else [])
    few = [Choice(setting=name, value=value, reason="Few images could only spoil these layers (FreezeD).")
           for name, value in TUNING.items()] if data.images < FEW else []
    shown = passes(data.images, device, budget, start.spec.size, start.model["kind"])
    return choices + few + augmentation(data.images, shown) + changes(data.modality)


def _patches(have: tuple[int, ...], longest: int) -> list[Choice]:
    """Crops at the images' own resolution instead of shrunken images."""
    size = [min(side, longest) for side in have]
    reason = (f"The images are {'x'.join(map(str, have))}: crops of {'x'.join(map(str, size))} are learned at their "
              "own resolution, so that apply takes whole images as they are.")
    return [Choice(setting="prepare.size", value=size, reason=reason), PATCHES]


def _image_task_choices(data: Fingerprint, task: str, model: str) -> list[Choice]:
    """What goes with the task's own network, and channels for a task that needs several."""
    chosen = model or constant("tasks", task, "MODEL") or DEFAULT_MODEL
    choices = [choice for choice in recipe(chosen, task)
               if choice.setting.startswith("train.") or choice.setting in TASK_RECIPES.get(task, {})]
    if task == "translate" and data.virtual and data.channels == 1:
        choices.append(Choice(setting="data.contrasts", value=["t1", "flair"],
                              reason="Translation needs two registered contrasts of the same patient."))
    unpaired = {"t1", "t2", "flair"} & set(data.labels)  # as was asked for: contrasts are the classes already
    if constant("tasks", task, "UNPAIRED") and data.virtual and data.channels == 1 and not unpaired:
        reason = "Unpaired translation: one of two contrasts of each virtual patient."
        choices += [Choice(setting="data.contrasts", value=["t1", "flair"], reason=reason),
                    Choice(setting="data.unpaired", value=True, reason=reason),
                    Choice(setting="task.domains", value=["t1", "flair"], reason=reason)]
    if task in ("segment", "semantic") and warps(data.masked):
        choices.append(Choice(setting="task.deform", value=warps(data.masked), reason=(
            f"Masks of {data.masked} patients are few: warped at random, they are not learned by heart.")))
    if any(choice.setting.startswith("task.") for choice in choices):
        # Without its kind the section would be another task's, and that which the user names would replace it.
        choices.append(Choice(setting="task.kind", value=task, reason=ASKED))
    if task == "semantic" and data.images < FEW:  # of more images the training doctor begins with it when it is needed
        choices += augmentation(data.images, 0.0)
    return choices


def warps(masked: int) -> float:
    """Size of the random warps in which masks of so many patients are learned, as a share of the longest side."""
    return WARPS if 0 < masked < FEW_MASKED else 0.0


def _seconds(budget: dict[str, float], device: Device) -> float:
    """Seconds of a budget; of one in images about as many as these take at 64 x 64 pixels."""
    images = budget.get("images", 0.0) / speed(device)
    limits = [limit for limit in (budget.get("seconds"), images) if limit]
    return min(limits, default=DEFAULT_SECONDS)


def _size(data: Fingerprint, device: Device, budget: dict[str, float], task: str) -> tuple[int, ...]:
    """The largest size that can be learned in the time, at the data's own proportions (in mm, where these are known):
    others would leave background around what `prepare` shrinks alike along all axes."""
    have, gpu = data.even, device.accelerator == "cuda"
    patience = _seconds(budget, device) * (40 if gpu else speed(device) / SPEED["cpu"])
    if len(have) == 3:
        longest = 64 if gpu else 48 if task == "synthesis" and patience >= PATIENT_VOLUMES else 32
    else:
        measured = task == "synthesis" and data.images >= FEW
        longest = 256 if patience >= VERY_PATIENT else 128 if patience >= (PATIENT if measured else 3600) else 64
    return tuple(max(8, side) for side in have) if longest >= max(have) else in_proportion(have, longest)


def _size_reason(data: Fingerprint, size: tuple[int, ...], device: Device) -> str:
    have, make = "x".join(map(str, data.size)), "x".join(map(str, size))
    if data.even != data.size:
        steps = "x".join(f"{step:.3g}" for step in data.spacing or ())
        become = "cubes (prepare.spacing keeps slices as thick as they are)" if len(size) == 3 else "squares"
        have += f" pixels of {steps} mm, which become {become}"
    if max(size) < max(data.even):
        return f"The images are {have}; {make} is what a {device.accelerator} learns in this budget."
    return f"The images are {have}, small enough to be learned as they are."


def _budget_choices(budget: dict[str, float]) -> list[Choice]:
    given = {name: value for name, value in budget.items() if value} or {"seconds": DEFAULT_SECONDS}
    reason = ASKED if budget else "No budget was given: 5 minutes show whether the data can be learned."
    return [Choice(setting=f"train.{name}", value=value, reason=reason) for name, value in given.items()]


def _balance(labels: dict[str, int]) -> list[Choice]:
    """Classes are evened out half-way (square-root sampling) when some are much rarer than others."""
    rare, common = min(labels, key=labels.__getitem__), max(labels, key=labels.__getitem__)
    if labels[common] < UNEQUAL * labels[rare]:
        return []
    return [Choice(setting="train.balance", value=0.5,
                   reason=f"{common} has {labels[common]} images and {rare} {labels[rare]}: the rare class is shown "
                          "more often than it occurs, so that it is learned.")]
