"""Small batches, known velocities and the smallest task to register them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from radsynth.batch import Batch
from radsynth.image import ImageSpec
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.tasks._warp import random_velocity

Make = Callable[..., Path]
SMALL = ("task.kind=register", "model.width=4", "model.discriminator_width=4", "model.halvings=1", "train.batch=8",
         "train.previews=0", "train.precision=32-true", "task.window=5")


SIZES = [(24, 20), (12, 10, 14)]


def batch_of(images: torch.Tensor, masks: torch.Tensor | None = None) -> Batch:
    return Batch(images=images, masks=masks, seed=3, items=tuple(range(len(images))))


def velocity_of(space: tuple[int, ...], size: float = 1.0, wave: float = 8.0) -> torch.Tensor:
    return random_velocity(batch_of(torch.zeros(2, 1, *space)), "known", space, size, wave)


def inner(space: tuple[int, ...], margin: int = 4) -> tuple[slice, ...]:
    """All but the border of images (n, c, *space)."""
    return (slice(None), slice(None), *(slice(margin, side - margin) for side in space))


def task_of(*overrides: str, spec: ImageSpec) -> Any:
    settings = resolve(overrides=("task.kind=register", *overrides), sections=("task", "model", "augment"))
    return build(settings, spec)
