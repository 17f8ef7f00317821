"""What tests of segmentation share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.arrays import Prepared
from radsynth.image import ImageSpec
from radsynth.settings import resolve
from radsynth.tasks import build

Make = Callable[..., Path]
Unmask = Callable[[Path, Iterable[int]], Prepared]
SMALL = ("task.kind=segment", "model.width=8", "model.discriminator_width=4", "model.halvings=1", "train.batch=8",
         "train.previews=1", "train.precision=32-true", "train.rate=0.003")
AFFINE = np.array([[0.0, 2, 0, -10], [2, 0, 0, 7], [0, 0, 3, 30], [0, 0, 0, 1]])


def task_of(*overrides: str, spec: ImageSpec) -> Any:
    settings = resolve(overrides=("task.kind=segment", *overrides), sections=("task", "model"))
    return build(settings, spec)
