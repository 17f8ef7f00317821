"""The plan: from what the data is, what the machine has and how long it may take, to settings with a reason each.

Every choice can be overridden; what was chosen and why is written to the run's plan.json and into the report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from radsynth.bases import Facts, fitting
from radsynth.device import Device
from radsynth.settings import constant

DEFAULT_SECONDS = 300.0
"""Training time when no budget is given."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What the plan looks at of the data.

    images, patients: numbers; modality: DICOM's code; channels: number; size: median (rows, columns) or (slices, ...)
    labels: images of each class; masked: patients with masks; virtual: the embedded cohort
    """

    images: int
    patients: int
    modality: str
    channels: int
    size: tuple[int, ...]
    labels: dict[str, int]
    masked: int = 0
    virtual: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One setting that was chosen, and why."""

    setting: str
    value: Any
    reason: str


RECIPES: dict[str, dict[str, Any]] = {
    # docs/lab-notebook.md has the trials behind the first. The others take their papers' losses, and batches and rates
    # for short runs; they are not tuned.
    "sngan": {
        "task.loss": "hinge", "task.penalty": "none", "task.discriminator_rate": 2.0, "task.warm_start": 0.03,
        "task.warm_start_rate": 1.25, "task.anchor": 10.0, "train.batch": 16, "train.rate": 1.6e-3,
    },
    "r3gan": {
        "task.loss": "relativistic", "task.penalty": "r1_r2", "task.penalty_weight": 1.0,
        "task.penalty_weight_end": 0.1, "train.batch": 32, "train.rate": 4e-4,
    },
    "dcgan": {"task.loss": "non_saturating", "train.batch": 64, "train.rate": 2e-4, "train.beta1": 0.5,
              "train.beta2": 0.999},
    "mlp": {"task.loss": "non_saturating", "train.batch": 64, "train.rate": 2e-4, "train.beta1": 0.5,
            "train.beta2": 0.999},
    "progressive": {"task.loss": "wasserstein", "task.penalty": "wgan_gp", "task.penalty_weight": 10.0,
                    "task.penalty_weight_end": 10.0, "train.batch": 16, "train.rate": 1e-3},
    "style": {"task.loss": "non_saturating", "task.penalty": "r1", "task.penalty_weight": 1.0,
              "task.penalty_weight_end": 1.0, "task.penalty_every": 8, "train.batch": 16, "train.rate": 1e-3},
    "spade": {"train.batch": 16, "train.rate": 1e-3},
    "unet": {"train.batch": 16, "train.rate": 1e-3, "train.beta1": 0.9},
}
"""Losses and rates that go with a network."""
TASK_RECIPES: dict[str, dict[str, Any]] = {
    "translate": {"train.rate": 3e-3, "train.clip": 1.0}, "segment": {"train.rate": 3e-3, "train.clip": 1.0},
    "cycle": {"train.rate": 4e-4, "train.beta1": 0.5}, "cut": {"train.rate": 4e-4, "train.beta1": 0.5},
}
"""What a task needs other than its network's recipe. A truth bears a high rate; where nothing but the discriminator
leads, it loses the thread at one."""
DEFAULT_MODEL = "sngan"
FEW = 500
"""Images below which training starts from a base generator, if one is of the same kind."""
MANY = 5000
"""Images from which training goes without augmentation, unless they are shown often."""
PASSES = 15
"""Times that each image may be shown without augmentation: what `MANY` are in five minutes of one core."""
CONTRAST = 0.2
"""How far augmentation changes contrast: what is physically right would differ by modality, and lost in trials."""
WHY_CONTRAST = {
    "CT": "Grey values of CT mean something, yet less change of contrast made less varied images.",
    "MR": "MR has no scale of grey values; more change than this, and a coil's bias, made breasts nearer to real ones "
          "and virtual brains farther from them.",
    **dict.fromkeys(("CR", "DX", "RG", "MG", "XA", "RF"),
                    "Exposure makes radiographs brighter and more contrasted; twice as much was worse."),
}
"""Why, by modality (lab notebook); others were not tried."""
FEW_MASKED = 100
"""Patients with masks, held-out ones too, below which images are warped to learn their masks: with 20 and 45 of them in
training results were better so, with 182 as good, with 280 worse (lab notebook)."""
WARPS = 0.03
"""Size of these warps, as a share of the longest side."""
SPEED = {"cpu": 250.0, "cuda": 5000.0}
"""Images of 64 x 64 pixels a second that the default network learns from, at its batch, on one core or one GPU."""
TUNING: dict[str, Any] = {"train.freeze": 2}
"""What goes with a start from other weights when images are few. Smaller steps did not help (lab notebook)."""
UNEQUAL = 5
"""So many times more images of one class than of another are very unequal."""
GROWTH: dict[str, Any] = {"train.batch_end": 64, "train.augment_end": 0.6, "train.grow_images": 60_000}
"""How batches of the default network grow, where time is the limit: at first steps count, then images. Sooner, four
sets of four were farther (lab notebook)."""
RESIDUAL = Choice(setting="model.residual", value=1, reason=(
    "Further convolutions of the generator where pixels are few: it was behind the discriminator."))
"""The default network's, where it was tried."""
WARM_START = 20_000
"""Images of the warm start at most: by counts virtual brains were nearer with as many than with half."""
WARM_PASSES = 3
"""Times at most that it shows each image: heads, hands and radiographs, of 820 images, were never nearer with more."""
SHORT = 60_000
"""Images of a budget below which the recipe's share is left alone: in 75 s heads and radiographs lost by more."""
CHEAP = 3
"""So many of its images take the time of one of the game."""
PATCHED = ("restore", "translate")
"""Tasks whose result at a pixel follows from its surroundings, so that crops of large images are enough to learn it."""
PATCHES = Choice(setting="prepare.fit", value="patches", reason="What surrounds a pixel is enough for this task.")
SMALL = 1600
"""Pixels of an image (a 40 x 40 one) up to which the default network is twice as wide."""
PATIENT = 1200.0
"""Seconds of one core from which images of 128 px are synthesised, unless they are few: after a third of it slices of
128 px were closer to real ones than enlarged ones of 64 px (docs/benchmarks.md, "Larger images")."""
LARGE = 96 * 96
"""Pixels of a slice from which it is half as wide on a processor (docs/benchmarks.md, "Larger images")."""


def plan(data: Fingerprint, device: Device, budget: dict[str, float], *, task: str = "synthesis",
         model: str = "", size: tuple[int, ...] = (), start: Facts | None = None,
         alike: Callable[[Facts], bool] | None = None, grows: bool = True) -> list[Choice]:
    """Settings for this data on this device within this budget; for another task, network or size if one is named.

    start: what training is to start from; alike: whether the images look like those of a base generator, which may
    then be chosen for that where images are few; None: no base may be
    grows: whether batches and augmentation are the plan's, so that batches may grow
    """
    asked, size = size, size or _size(data, device, _seconds(budget, device), task)
    if start:
        return _started(data, device, budget, start, task)
    few = alike is not None and task == "synthesis" and data.images < FEW
    base = fitting(data.modality, data.channels, size, alike) if few and alike else None
    if base:
        reason = (f"{data.images} images are few, and they look like those of {base.name}: they are learned from its "
                  "weights, not from chance.")
        begin = Choice(setting="train.start", value=base.name, reason=reason)
        return [begin, *_started(data, device, budget, base, task)]
    reason = "As asked for." if asked else _size_reason(data, size, device)
    choices = [Choice(setting="prepare.size", value=list(size), reason=reason)]
    if task in PATCHED and any(side < have for side, have in zip(size, data.size, strict=False)):
        choices = [*choices, PATCHES] if asked else _patches(data.size, max(size))
    choices += _budget_choices(budget)
    if task != "synthesis":
        return choices + _image_task_choices(data, task, model)
    if data.labels and len(data.labels) > 1:
        choices.append(Choice(setting="task.kind", value="synthesis",
                              reason=f"Class-conditional: the data has {len(data.labels)} classes."))
        choices += _balance(data.labels)
    chosen = model or DEFAULT_MODEL
    reason = "As asked for." if model else "The default network: the best of the trials in docs/lab-notebook.md."
    choices.append(Choice(setting="model.kind", value=chosen, reason=reason))
    choices += recipe(chosen)
    augmentation = _augmentation(data, _passes(data, device, budget, size, chosen))
    if chosen == DEFAULT_MODEL:
        choices += _width(size, device)
        if _tried(data, size):
            choices.append(RESIDUAL)
            choices = _warm_start(choices, data, *_shown(device, budget, size, chosen))
            choices += _growth(budget) if augmentation and grows else []
    return choices + augmentation + _changes(data.modality)


def _started(data: Fingerprint, device: Device, budget: dict[str, float], start: Facts, task: str) -> list[Choice]:
    """Everything as the start has it; where images are few the lower layers of its discriminator are left alone."""
    have, frame = ("x".join(map(str, size)) for size in (data.size, start.spec.size))
    choices = [Choice(setting="prepare.size", value=list(start.spec.size),
                      reason=f"The images are {have}; {start.name}, which training starts from, makes {frame}.")]
    choices += _budget_choices(budget)
    choices += [Choice(setting=f"model.{name}", value=value, reason=f"As {start.name} has it.")
                for name, value in start.model.items()]
    if task != "synthesis":
        patches = task in PATCHED and max(start.spec.size) < max(data.size)
        return choices + ([PATCHES] if patches else []) + _image_task_choices(data, task, start.model["kind"])
    choices += recipe(start.model["kind"]) + (_balance(data.labels) if len(data.labels) > 1 else [])
    few = [Choice(setting=name, value=value, reason="Few images could only spoil these layers (FreezeD).")
           for name, value in TUNING.items()] if data.images < FEW else []
    passes = _passes(data, device, budget, start.spec.size, start.model["kind"])
    return choices + few + _augmentation(data, passes) + _changes(data.modality)


def _patches(have: tuple[int, ...], longest: int) -> list[Choice]:
    """Crops at the images' own resolution instead of shrunken images."""
    size = [min(side, longest) for side in have]
    reason = (f"The images are {'x'.join(map(str, have))}: crops of {'x'.join(map(str, size))} are learned at their "
              "own resolution, so that apply takes whole images as they are.")
    return [Choice(setting="prepare.size", value=size, reason=reason), PATCHES]


def _image_task_choices(data: Fingerprint, task: str, model: str) -> list[Choice]:
    """What goes with the task's own network, and channels for a task that needs several."""
    chosen = model or constant("tasks", task, "MODEL") or DEFAULT_MODEL
    choices = [choice for choice in recipe(chosen, task) if choice.setting.startswith("train.")]
    if task == "translate" and data.virtual and data.channels == 1:
        choices.append(Choice(setting="data.contrasts", value=["t1", "flair"],
                              reason="Translation needs two registered contrasts of the same patient."))
    if constant("tasks", task, "UNPAIRED") and data.virtual and data.channels == 1:
        reason = "Unpaired translation: one of two contrasts of each virtual patient."
        choices += [Choice(setting="data.contrasts", value=["t1", "flair"], reason=reason),
                    Choice(setting="data.unpaired", value=True, reason=reason),
                    Choice(setting="task.domains", value=["t1", "flair"], reason=reason)]
    if task == "segment" and warps(data.masked):
        choices.append(Choice(setting="task.deform", value=warps(data.masked), reason=(
            f"Masks of {data.masked} patients are few: warped at random, they are not learned by heart.")))
    if any(choice.setting.startswith("task.") for choice in choices):
        # Without its kind the section would be another task's, and that which the user names would replace it.
        choices.append(Choice(setting="task.kind", value=task, reason="As asked for."))
    if task == "semantic":
        choices += _augmentation(data, 0.0)
    return choices


def warps(masked: int) -> float:
    """Size of the random warps in which masks of so many patients are learned, as a share of the longest side."""
    return WARPS if 0 < masked < FEW_MASKED else 0.0


def recipe(model: str, task: str = "") -> list[Choice]:
    """The losses and rates that go with a network, and with a task."""
    own = TASK_RECIPES.get(task, {})
    choices = [Choice(setting=setting, value=value, reason=f"What goes with {model}.")
               for setting, value in RECIPES.get(model, {}).items() if setting not in own]
    return choices + [Choice(setting=setting, value=value, reason=f"What goes with {task}.")
                      for setting, value in own.items()]


def as_given(choices: list[Choice], given: Callable[[str, str], Any]) -> list[Choice]:
    """The choices as they are after what was given, as `given(section, key)`, None where nothing was."""
    found = []
    for choice in choices:
        value = given(*choice.setting.split("."))
        reason = f"As asked for. The plan had {json.dumps(choice.value)}: {choice.reason}"
        same = value is None or value == choice.value
        found.append(choice if same else Choice(setting=choice.setting, value=value, reason=reason))
    return found


def document(choices: list[Choice]) -> dict[str, Any]:
    """The choices as settings that `resolve` takes."""
    sections: dict[str, Any] = {}
    for choice in choices:
        section, key = choice.setting.split(".")
        sections.setdefault(section, {})[key] = choice.value
    return sections


def _seconds(budget: dict[str, float], device: Device) -> float:
    """Seconds of a budget; of one in images about as many as these take at 64 x 64 pixels."""
    images = budget.get("images", 0.0) / SPEED[device.accelerator]
    limits = [limit for limit in (budget.get("seconds"), images) if limit]
    return min(limits, default=DEFAULT_SECONDS)


def _size(data: Fingerprint, device: Device, seconds: float, task: str) -> tuple[int, ...]:
    """The largest size that can be learned in the time, at the data's own proportions, never larger than the data."""
    have = data.size
    if len(have) == 3:
        longest = 64 if device.accelerator == "cuda" else 32
    else:
        patience = seconds * (40 if device.accelerator == "cuda" else 1)
        measured = task == "synthesis" and data.images >= FEW
        longest = 256 if patience >= 8 * 3600 else 128 if patience >= (PATIENT if measured else 3600) else 64
    scale = min(1.0, longest / max(have))
    if scale == 1:
        return tuple(max(8, side) for side in have)
    return tuple(max(16, 8 * math.ceil(round(side * scale) / 8)) for side in have)


def _width(size: tuple[int, ...], device: Device) -> list[Choice]:
    """The default network's width where it is not the default: the cost of its finest layers grows with the pixels."""
    if math.prod(size) <= SMALL:
        return [Choice(setting="model.width", value=64, reason="Small images leave time for wider layers.")]
    if not _large(size, device):
        return []
    return [Choice(setting="model.width", value=16, reason="Thin layers for large images: a processor shows twice as "
                   "many of them in the same time, which is worth more.")]


def _tried(data: Fingerprint, size: tuple[int, ...]) -> bool:
    """Whether the course of a training was tried on such data: enough images of up to 64 px."""
    return data.images >= FEW and len(size) == 2 and math.prod(size) < LARGE


def _warm_start(choices: list[Choice], data: Fingerprint, shown: float, limit: str) -> list[Choice]:
    """The choices with a warm start of some passes over many images, where the recipe's share of the limit is less."""
    if shown < SHORT:
        return choices
    wanted = min(WARM_START, WARM_PASSES * data.images)
    share = round(wanted / (shown * CHEAP if limit == "seconds" else shown), 3)
    reason = f"About {wanted:,} images: by counts virtual brains were nearer with more than a short share of the time."
    return [replace(choice, value=share, reason=reason)
            if choice.setting == "task.warm_start" and choice.value < share else choice for choice in choices]


def _growth(budget: dict[str, float]) -> list[Choice]:
    """Larger batches later in a run where time is the limit."""
    if budget.get("images"):
        return []
    return [Choice(setting=name, value=value, reason=(
        "Larger batches learn more images in the same time, and augmentation keeps their variety."))
        for name, value in GROWTH.items()]


def _large(size: tuple[int, ...], device: Device) -> bool:
    return device.accelerator == "cpu" and len(size) == 2 and math.prod(size) >= LARGE


def _size_reason(data: Fingerprint, size: tuple[int, ...], device: Device) -> str:
    have, make = "x".join(map(str, data.size)), "x".join(map(str, size))
    if max(size) < max(data.size):
        return f"The images are {have}; {make} is what a {device.accelerator} learns in this budget."
    return f"The images are {have}, small enough to be learned as they are."


def _budget_choices(budget: dict[str, float]) -> list[Choice]:
    given = {name: value for name, value in budget.items() if value} or {"seconds": DEFAULT_SECONDS}
    reason = "As asked for." if budget else "No budget was given: 5 minutes show whether the data can be learned."
    return [Choice(setting=f"train.{name}", value=value, reason=reason) for name, value in given.items()]


def _balance(labels: dict[str, int]) -> list[Choice]:
    """Classes are evened out half-way (square-root sampling) when some are much rarer than others."""
    rare, common = min(labels, key=labels.__getitem__), max(labels, key=labels.__getitem__)
    if labels[common] < UNEQUAL * labels[rare]:
        return []
    return [Choice(setting="train.balance", value=0.5,
                   reason=f"{common} has {labels[common]} images and {rare} {labels[rare]}: the rare class is shown "
                          "more often than it occurs, so that it is learned.")]


def _augmentation(data: Fingerprint, passes: float) -> list[Choice]:
    """What the discriminator would else learn by heart: few images, or many that are shown very often."""
    if data.images >= MANY and passes <= PASSES:
        return []
    few = "are few" if data.images < MANY else f"are shown about {passes:.0f} times each in this budget"
    return [Choice(setting="augment.strength", value=0.6 if data.images < FEW else 0.3, reason=(
        f"{data.images} images {few}: without augmentation the discriminator learns them by heart."))]


def _changes(modality: str) -> list[Choice]:
    """What augmentation does, of which there may be none yet: the training doctor begins with it when it is needed."""
    why = WHY_CONTRAST.get(modality)
    return [Choice(setting="augment.contrast", value=CONTRAST, reason=why)] if why else []


def _passes(data: Fingerprint, device: Device, budget: dict[str, float], size: tuple[int, ...], model: str) -> float:
    """Times each image is shown: exact for a budget in images, a guess for seconds of the default network, else 0."""
    return _shown(device, budget, size, model)[0] / max(1, data.images)


def _shown(device: Device, budget: dict[str, float], size: tuple[int, ...], model: str) -> tuple[float, str]:
    """Images that a budget pays for, and which of its limits comes first; (0, "") for seconds of other networks."""
    speed = SPEED[device.accelerator] * 64 * 64 / math.prod(size) if model == DEFAULT_MODEL else 0.0
    speed *= 2 if _large(size, device) else 1  # half the width
    seconds = budget.get("seconds") or (0.0 if budget.get("images") else DEFAULT_SECONDS)
    shown = {"images": budget.get("images", 0.0), "seconds": seconds * speed}
    return min(((count, limit) for limit, count in shown.items() if count), default=(0.0, ""))
