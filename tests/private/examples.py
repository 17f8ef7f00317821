"""The smallest private training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from radsynth.arrays import Prepared
from radsynth.run_folder import RunFolder
from radsynth.settings import Resolved, resolve
from radsynth.tasks import build
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings as TrainSettings

Make = Callable[..., Path]
SMALL = ("task.kind=private", "task.discriminator_steps=2", "model.kind=dcgan", "model.width=4", "model.latent=8",
         "model.discriminator_norm=none", "train.batch=8", "train.images=64", "train.previews=1", "train.processes=1",
         "train.precision=32-true")


def options(*more: str) -> Resolved:
    return resolve(overrides=(*SMALL, *more))


def make_loop(data: Path, folder: Path, *more: str) -> Loop:
    settings = options(*more)
    prepared = Prepared(data)
    train_settings = settings.section("train", TrainSettings)
    return Loop(build(settings, prepared.spec), train_settings, prepared, RunFolder(folder), seed=0)


def groups_of(prepared: Prepared, size: int = 1) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    rows = prepared.indices("train")
    return [rows[k:k + size] for k in range(0, len(rows), size)]


def real_loss(logits: torch.Tensor) -> torch.Tensor:
    return softplus(-logits)
