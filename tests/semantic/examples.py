"""What tests of images from masks share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.image import Image, ImageSpec
from radsynth.io import write
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs.train import train
from tests.written import FROM

Make = Callable[..., Path]
SMALL = ("task.kind=semantic", "model.width=8", "model.widest=16", "model.hidden=8", "model.latent=4", "train.batch=8",
         "model.discriminator_width=8", "task.styles=principal", "train.previews=1", "train.precision=32-true",
         "train.rate=0.002", "train.images=1600")
VALUES = (0, 2, 7)
AFFINE = np.array([[0.0, 2, 0, -10], [2, 0, 0, 7], [0, 0, 3, 30], [0, 0, 0, 1]])


def trained_on(data: Path, run: Path, *overrides: str) -> Path:
    train(data, run, settings=resolve({"seed": 1}, overrides=(*SMALL, *overrides)))
    return run


def task_of(*overrides: str, spec: ImageSpec) -> Any:
    settings = resolve(overrides=("task.kind=semantic", *overrides), sections=("task", "model"))
    return build(settings, spec)


def save_mask(path: Path, values: np.ndarray[Any, Any], **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(Image(pixels=values.astype(np.uint8)[None], **more), path, provenance=FROM)[0]


def drawing_run(data: Path, run: Path, images: int = 1200) -> Path:
    train(data, run, settings=resolve({"seed": 1}, overrides=(
        "task.masks=true", "task.warm_start=0.4", "task.anchor=10", "model.width=8", "model.latent=8", "train.batch=8",
        f"train.images={images}", "train.previews=1", "train.precision=32-true", "train.rate=0.002")))
    return run
