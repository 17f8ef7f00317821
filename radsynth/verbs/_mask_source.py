"""Where the masks of a data set of images with masks come from: those of the training patients, deformed, or masks that
another run draws out of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.errors import FolderError, SettingsError
from radsynth.run_folder import RunFolder
from radsynth.tasks import Task, draws_masks
from radsynth.tasks.semantic import Semantic

ANOTHER = 2**48
"""A mask is drawn as item k + ANOTHER, so that its shape and the style of its image are independent."""


class Draws(Protocol):
    """A `Sampler`, as far as it is needed here."""

    task: Task
    facts: dict[str, Any]
    data_hash: str

    def made(self, items: range, labels: NDArray[np.int64], seed: int) -> Tensor:
        """What it draws of these classes (n, c, *space)."""


class MaskSource:
    """New masks for a run that paints masks. No other split than `train` is ever read."""

    def __init__(self, task: Semantic, data: Path, data_hash: str) -> None:
        """data: the prepared folder of the training. FolderError when it is missing or another one."""
        if not (data / "manifest.json").exists():
            raise FolderError(
                f"Images with masks need the masks of the training patients, and {data} is no prepared folder. Name "
                "the one that the run was trained on (--data), or paint masks of your own: 'radsynth apply'."
            )
        self.task, self.prepared = task, Prepared(data)
        if self.prepared.manifest.data_hash != data_hash:
            raise FolderError(f"{data} is not the data that the run was trained on: its masks may be of test patients.")
        self.rows = self.prepared.indices("train")
        self.labels = self.prepared.labels(self.rows)

    def __call__(self, items: range, labels: NDArray[np.int64], seed: int) -> Tensor:
        """Label values (n, *space), of a training image of the item's class, by (seed, item) alone."""
        batch = Batch(images=torch.empty(len(items), 0), seed=seed, items=tuple(items))
        draw = batch.uniform("mask", 1)[:, 0].numpy()
        chosen = []
        for place, label in zip(draw, labels, strict=True):
            fitting = self.rows[self.labels == label] if len(self.task.targets) else self.rows
            chosen.append(fitting[int(place * len(fitting))])
        masks = torch.from_numpy(self.prepared.stored(np.asarray(chosen), "masks").astype(np.int64))
        return self.task.deform(masks, batch)


def need_run(folder: Path) -> None:
    """FolderError for a folder that is no run, such as one of masks."""
    if not RunFolder(folder).begun:
        raise FolderError(f"masks={folder}: not a run folder. Masks can be drawn by a run that was trained with "
                          "task.masks=true. To paint masks of your own give them to 'radsynth apply RUN MASKS OUT'.")


class DrawnMasks:
    """New masks for a run that paints masks, out of nothing: those of a run that draws images together with masks."""

    def __init__(self, data_hash: str, drawing: Draws, run: Path) -> None:
        """SettingsError for a run that draws no masks, or learned from other data: other labels, or test patients."""
        if not draws_masks(drawing.task):
            raise SettingsError(f"{run} draws no masks. They come from a run that was trained on the same prepared "
                                "data with task.kind=synthesis task.masks=true.")
        if drawing.data_hash != data_hash:
            raise SettingsError(f"{run} was trained on other data than the run that is to paint its masks. Train both "
                                "on the same prepared folder ('radsynth prepare', then 'radsynth train' twice).")
        self.task, self.drawing, self.weights = drawing.task, drawing, str(drawing.facts["sha256"])

    def __call__(self, items: range, labels: NDArray[np.int64], seed: int) -> Tensor:
        """Label values (n, *space), of the items' classes, by (seed, item) alone."""
        others = range(items.start + ANOTHER, items.stop + ANOTHER)
        return self.task.parted(self.drawing.made(others, labels, seed))[1]
