"""The course of a synthesis training: its network's width and depth, warm start, batches, rate, augmentation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from radsynth.choices import Choice
from radsynth.device import Device
from radsynth.recipes import DEFAULT_MODEL, recipe

DEFAULT_SECONDS = 300.0
"""Training time when no budget is given."""
SPEED = {"cpu": 250.0, "cuda": 5000.0}
"""Images of 64 x 64 pixels a second that the default network learns from, at its batch, on one core that multiplies
bf16 itself, or one GPU."""
SLOW = 45.0
"""The same on a core that does not (AVX2 alone): on most laptops."""
FEW = 500
"""Images below which training starts from a base generator, if one is of the same kind."""
MANY = 5000
"""Images from which training goes without augmentation, unless they are shown often."""
PASSES = 20
"""Times that each of many images may be shown without augmentation: 7,000 virtual brains, shown 19 times each, were
nearer without it (lab notebook); more was not tried."""
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
GROWTH: dict[str, Any] = {"train.batch_end": 64, "train.augment_end": 0.6, "train.grow_images": 60_000}
"""How batches of the default network grow, where time is the limit: at first steps count, then images. Sooner, four
sets of four were farther (lab notebook)."""
LONG, OFTEN = 200_000, 100
"""Images shown, and times that each is, from which the rate falls over most of a training of one or two classes. Heads
and radiographs were nearer then; virtual brains, shown 67 times each, were farther, and so were six organs."""
FALL = 0.8
"""Share of such a training in which it falls."""
ALIKE = 2
"""Classes up to which the generator is deeper still: virtual brains with and without lesions were nearer with two
convolutions than with one, six organs learned together farther."""
CONSISTENCY = 1.0
"""Weight of consistency where one or two classes are learned: in equal time heads, abdomens and radiographs were nearer
with it, virtual brains and chests as near, and six organs learned together farther (lab notebook)."""
DEEP = 2000
"""Images of more than `SMALL` pixels from which the generator is deeper still: hundreds were hardly nearer with it. Of
`LARGE` slices, and of volumes, hundreds were."""
WARM_START = 20_000
"""Images of the warm start at most: by counts virtual brains were nearer with as many than with half."""
WARM_PASSES = 3
"""Times at most that it shows each image: heads, hands and radiographs, of 820 images, were never nearer with more."""
SHORT = 60_000
"""Images of a budget below which the recipe's share is left alone: in 75 s heads and radiographs lost by more."""
CHEAP = 3
"""So many of its images take the time of one of the game."""
SMALL = 1600
"""Pixels of an image (a 40 x 40 one) up to which the default network is twice as wide."""
SHALLOW = 32
"""Pixels of the shorter side from which the discriminator has three convolutions, and gained nothing by a fourth."""
LARGE = 96 * 96
"""Pixels of a slice from which it is half as wide on a processor (docs/benchmarks-quality.md, "Larger images")."""
HURRIED = 40_000
"""So many images of the full width, of one core, take a time below which half the width is taken where the processor is
slow: heads were as near in half the time of 30,000 (lab notebook)."""
HURRIED_SMALL = 80_000
"""The same of small images: radiographs were nearer by far in the time of 30,000, as near in that of 100,000."""


def speed(device: Device) -> float:
    """Images of 64 x 64 pixels a second that the default network learns from, on one core or one GPU."""
    return SLOW if _slow(device) else SPEED[device.accelerator]


def _slow(device: Device) -> bool:
    """Whether it is a processor that does not multiply bf16."""
    return device.accelerator == "cpu" and not device.bf16


def course(model: str, images: int, classes: int, size: tuple[int, ...], device: Device, budget: dict[str, float], *,
           grows: bool = True) -> list[Choice]:
    """The network's recipe, and how its training goes with so many images of this size within this budget.

    classes: number, 0 without labels
    grows: whether batches and augmentation are the plan's, so that batches may grow
    """
    choices = recipe(model)
    augmented = augmentation(images, passes(images, device, budget, size, model))
    if model == DEFAULT_MODEL:
        choices += _width(size, device, budget)
        choices += _depth(images, classes, size) + _judging(images, classes, size)
        if _tried(images, size):
            shown, limit = _shown(device, budget, size, model)
            choices = _warm_start(choices, images, shown, limit)
            choices += _growth(budget) if augmented and grows else []
            choices += _fall(images, classes, shown)
            choices += _consistency(classes) if augmented else []
    return choices + augmented


def _width(size: tuple[int, ...], device: Device, budget: dict[str, float]) -> list[Choice]:
    """The default network's width where it is not the default: the cost of its finest layers grows with the pixels."""
    small = math.prod(size) <= SMALL
    if _hurried(size, device, budget):
        return [Choice(setting="model.width", value=32 if small else 16, reason="Thin layers where time is short: this "
                       "processor does not multiply bf16, and shows two and a half times as many images so.")]
    if small:
        return [Choice(setting="model.width", value=64, reason="Small images leave time for wider layers.")]
    if not _large(size, device):
        return []
    return [Choice(setting="model.width", value=16, reason="Thin layers for large images: a processor shows twice as "
                   "many of them in the same time, which is worth more.")]


def _depth(images: int, classes: int, size: tuple[int, ...]) -> list[Choice]:
    """Further convolutions of the default network's generator, where images were nearer with them (lab notebook)."""
    volumes, pixels = len(size) == 3, math.prod(size)
    if images < FEW and not volumes:
        return []
    two = classes <= ALIKE and (volumes or pixels >= LARGE or (images >= DEEP and pixels > SMALL))
    return [Choice(setting="model.residual", value=2 if two else 1, reason=(
        "Further convolutions of the generator where pixels are few: it was behind the discriminator."))]


def _judging(images: int, classes: int, size: tuple[int, ...]) -> list[Choice]:
    """A further convolution of the default network's discriminator, where it would have but two (lab notebook)."""
    if images < FEW or classes > ALIKE or len(size) == 3 or min(size) >= SHALLOW:
        return []
    return [Choice(setting="model.discriminator_convolutions", value=1, reason=(
        "So small images leave the discriminator two convolutions: with a third one images were nearer and more varied."
    ))]


def _tried(images: int, size: tuple[int, ...]) -> bool:
    """Whether warm starts and growing batches were tried on such data: enough images of up to 64 px."""
    return images >= FEW and len(size) == 2 and math.prod(size) < LARGE


def _warm_start(choices: list[Choice], images: int, shown: float, limit: str) -> list[Choice]:
    """The choices with a warm start of some passes over many images, where the recipe's share of the limit is less."""
    if shown < SHORT:
        return choices
    wanted = min(WARM_START, WARM_PASSES * images)
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


def _fall(images: int, classes: int, shown: float) -> list[Choice]:
    """A longer fall of the learning rate where images are shown many times."""
    if classes > ALIKE or shown < max(LONG, OFTEN * images):
        return []
    return [Choice(setting="train.fall", value=FALL, reason=(
        f"Each image is shown about {shown / images:.0f} times: results were nearer when the rate fell for longer."))]


def _consistency(classes: int) -> list[Choice]:
    """Two augmentations of a real image are to be rated alike, where that brought images nearer."""
    if classes > ALIKE:
        return []
    return [Choice(setting="task.consistency", value=CONSISTENCY, reason=(
        "Two augmentations of a real image are to be rated alike: so images were nearer or as near in the same time."))]


def _large(size: tuple[int, ...], device: Device) -> bool:
    return device.accelerator == "cpu" and len(size) == 2 and math.prod(size) >= LARGE


def _hurried(size: tuple[int, ...], device: Device, budget: dict[str, float]) -> bool:
    """Whether a processor without bf16 has so little time for slices that half the width was nearer."""
    if not _slow(device) or len(size) == 3 or math.prod(size) >= LARGE:
        return False
    shown, limit = _paid(budget, _rate(size, device))
    return limit == "seconds" and shown < (HURRIED_SMALL if math.prod(size) <= SMALL else HURRIED)


def _shown(device: Device, budget: dict[str, float], size: tuple[int, ...], model: str) -> tuple[float, str]:
    """Images that a budget pays for, and which of its limits comes first; (0, "") for seconds of other networks."""
    more = 2.5 if _hurried(size, device, budget) else 2 if _large(size, device) else 1  # by half the width
    return _paid(budget, more * _rate(size, device) if model == DEFAULT_MODEL else 0.0)


def _rate(size: tuple[int, ...], device: Device) -> float:
    """Images of this size a second that the default network learns from at its full width."""
    wider = 2 if _slow(device) and math.prod(size) <= SMALL else 1
    return speed(device) * 64 * 64 / math.prod(size) / wider


def _paid(budget: dict[str, float], rate: float) -> tuple[float, str]:
    """Images that a budget pays for at so many a second, and which of its limits comes first; (0, "") where neither
    tells."""
    seconds = budget.get("seconds") or (0.0 if budget.get("images") else DEFAULT_SECONDS)
    shown = {"images": budget.get("images", 0.0), "seconds": seconds * rate}
    return min(((count, limit) for limit, count in shown.items() if count), default=(0.0, ""))


def passes(images: int, device: Device, budget: dict[str, float], size: tuple[int, ...], model: str) -> float:
    """Times each image is shown: exact for a budget in images, a guess for seconds of the default network, else 0."""
    return _shown(device, budget, size, model)[0] / max(1, images)


def augmentation(images: int, shown: float) -> list[Choice]:
    """What the discriminator would else learn by heart: few images, or many that are shown very often.

    images: number; shown: times that each is shown, 0 where nobody knows
    """
    if images >= MANY and shown <= PASSES:
        return []
    few = "are few" if images < MANY else f"are shown about {shown:.0f} times each in this budget"
    return [Choice(setting="augment.strength", value=0.6 if images < FEW else 0.3, reason=(
        f"{images} images {few}: without augmentation the discriminator learns them by heart."))]


def changes(modality: str) -> list[Choice]:
    """What augmentation does, of which there may be none yet: the training doctor begins with it when it is needed."""
    why = WHY_CONTRAST.get(modality)
    return [Choice(setting="augment.contrast", value=CONTRAST, reason=why)] if why else []
