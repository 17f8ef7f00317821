"""The settings of preparing: how images become arrays, and who is in which split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from radsynth.errors import SettingsError
from radsynth.settings import settings

Share = Annotated[float, Field(ge=0, le=1)]
Step = Annotated[float, Field(gt=0, le=1000)]


@settings
class Settings:
    """Preparing: how images become arrays."""

    size: Annotated[tuple[Annotated[int, Field(ge=4, le=2048)], ...], Field(min_length=2, max_length=3)] | None = None
    """Rows and columns, or slices, rows and columns; null: the median size of the data, in squares or cubes as fine
    as its finest pixels, and in multiples of 16 (of 8 for small images)."""
    spacing: Annotated[tuple[Step, ...], Field(min_length=2, max_length=3)] | None = None
    """mm between pixels along each axis of the size, the same in all images: so a child's heart stays smaller than an
    adult's, and thick slices stay thick. Larger images are shrunk as a whole or cut (fit). null: squares or cubes, as
    fine in each image as lets it fit."""
    fit: Literal["pad", "crop", "patches"] = "pad"
    """Images of other sizes: pad shrinks larger ones as a whole until they fit and puts background around; crop shrinks
    them until they fill the size and cuts off the rest. Smaller ones are padded. Never stretched: all axes alike.
    patches: cut crops of the size at the images' own resolution, for tasks from image to image."""
    patches: Annotated[int, Field(ge=0)] = 0
    """With fit=patches: patches of an image, at most; 0: as many as make 20,000 of all images."""
    enlarge: bool = False
    """Enlarge images that are smaller than the size, instead of only padding them."""
    channels: Literal["keep", "grey"] = "keep"
    """Keep the channels, or make colour grey."""
    intensity: Literal["auto", "window", "percentiles", "bits"] = "auto"
    """How values are mapped. auto: window for CT (Hounsfield units), percentiles of each volume for MR, NIfTI and
    floating point, the stored bits for radiographs and pictures."""
    window: tuple[float, float] = (-1024.0, 1500.0)
    """Lowest and highest value that a window keeps, in Hounsfield units."""
    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (0.5, 99.5)
    """Percentiles of a volume that become black and white."""
    extra: Path | None = None
    """More images, added to the training split alone: such as those that 'radsynth generate' made, with their masks."""
    masks: Literal["auto", "all", "instances", "off"] = "auto"
    """auto: keep masks when at least half of the images have one, and reject the images that have none (but see
    data.unmasked). instances: in them every thing (each cell) has its own number; they become 1 inside of a thing and 2
    on its border. all: as auto, but keep label values that one patient alone has, too; else images with such are
    rejected."""
    train: Share = 0.7
    """Share of the patients for training."""
    validation: Share = 0.15
    """Share of the patients for validation; the rest is for the test."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Another number splits the patients otherwise."""
    official: bool = True
    """Keep the split that comes with the data, if one does."""
    shard: Annotated[int, Field(ge=1, le=65536)] = 256
    """Images in a file of arrays, at most (few images make smaller files); a volume's slices stay together."""
    strict: bool = False
    """End with an error if any file has to be rejected."""


def check(options: Settings) -> None:
    """SettingsError for what cannot work whatever the data is."""
    problems = []
    if options.train + options.validation > 1 + 1e-9:
        problems.append(f"prepare.train + prepare.validation is {options.train + options.validation:g}; at most 1")
    for name in ("window", "percentiles"):
        low, high = getattr(options, name)
        if low >= high:
            problems.append(f"prepare.{name}: {low:g} must be below {high:g}")
    if options.spacing is not None:
        problems += _spacing_problems(options)
    if options.extra is not None and not options.extra.exists():
        problems.append(f"prepare.extra={options.extra} does not exist: name a folder of images, such as what "
                        "'radsynth generate' or 'radsynth apply' wrote")
    if options.extra is not None and options.masks == "instances":
        problems.append("prepare.extra brings masks of classes, prepare.masks=instances takes things with numbers of "
                        "their own: turn one of them off")
    if problems:
        raise SettingsError("; ".join(problems) + ".")


def _spacing_problems(options: Settings) -> Iterator[str]:
    """What cannot go with pixels of a given size."""
    if options.size is None or len(options.size) != len(options.spacing or ()):
        yield "prepare.spacing needs prepare.size, with as many numbers: how many such pixels an image has"
    if options.fit == "patches":
        yield "prepare.spacing brings images to other pixels, prepare.fit=patches cuts their own: leave one of them out"
    if options.enlarge:
        yield ("prepare.spacing tells how large pixels are, prepare.enlarge makes them as fine as each image needs: "
               "leave one of them out")
