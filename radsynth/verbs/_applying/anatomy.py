"""Anatomy as a check of results from image to image: segmenters, learned from the same training images and their masks,
look at what was given and at what was made, and must find the same. Without masks they learn classes of intensity.

Translation can invent and remove lesions without a trace in the intensities (Cohen, Luck and Honari 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.choices import document
from radsynth.plan import warps
from radsynth.progress import tell
from radsynth.recipes import recipe
from radsynth.run_folder import RunFolder
from radsynth.settings import Resolved, resolve
from radsynth.tasks import ImageTask
from radsynth.verbs.train import Settings as TrainSettings
from radsynth.verbs.train import train

Images = NDArray[np.float32]
FOLDER = "anatomy"
SIDES = {"given": "a segmenter of what is given", "made": "a segmenter of what is made"}
TISSUES = 4
"""Classes of intensity that stand in for masks, the background among them: as a brain's air, fluid, grey and white."""
BLACK = 1e-3
"""What rounding leaves of black, -1, on another grid."""
THIN = 1
"""Regions where labels differ that disappear when this many pixels are taken off all around are borders."""


class Sees(Protocol):
    """A trained segmentation (an `Applier` of one)."""

    @property
    def may_lack(self) -> bool:
        """Whether it has learned to go without some of its channels."""

    def network_of(self, stack: Images, target: str) -> Images:
        """Network values (n, channels, *space) to labels (n, 1, *space)."""


class Anatomy:
    """The segmenters of a run: `given` of what it takes, `made` of what it makes; the same one if those are alike."""

    def __init__(self, given: Sees, made: Sees) -> None:
        self.given, self.made = given, made

    def labels(self, made: Images) -> NDArray[np.uint8]:
        """The label maps (n, *space) of results (n, outputs, *space)."""
        return self.made.network_of(made, "")[:, 0].astype(np.uint8)

    def labels_of_given(self, given: Images) -> NDArray[np.uint8]:
        """The label maps (n, *space) of what was given (n, inputs, *space), on the result's grid."""
        return self.given.network_of(given, "")[:, 0].astype(np.uint8)

    def differences(self, given: Images, made: Images, crops: bool = False,
                    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Where (n, *space) labels of what was given and of what was made differ, both on the result's grid, borders
        left aside; and how much that is (n,), in percent of the pixels that have a label: NaN, and nowhere, of images
        that lack a given channel where the segmenter has not learned to go without: it finds another anatomy then.

        crops: the images are crops of one, and percents are of the labelled pixels that these have on average: of the
        few that some crops show, any difference is a large share."""
        from scipy.ndimage import binary_opening

        before, after = self.labels_of_given(given), self.labels(made)
        cube, axes = np.ones((2 * THIN + 1,) * (before.ndim - 1), bool), tuple(range(1, before.ndim))
        places = np.stack([binary_opening(one != other, cube) for one, other in zip(before, after, strict=True)])
        labelled = ((before > 0) | (after > 0)).sum(axes)
        labelled = np.maximum(labelled.mean() if crops else labelled, 1)
        lacks = lacking(given) & (not self.given.may_lack)
        share = np.where(lacks, np.nan, 100 * places.sum(axes) / labelled)
        return places & ~lacks.reshape(-1, *[1] * len(axes)), np.asarray(share, np.float64)


def lacking(given: Images) -> NDArray[np.bool_]:
    """(n,) whether images (n, channels, *space) in network values lack a channel: one is blank, and another is not."""
    blank = given.max(axis=tuple(range(2, given.ndim))) <= -1 + BLACK
    return np.asarray(blank.any(axis=1) & ~blank.all(axis=1))


def learn_anatomy(run: Path, prepared: Prepared, task: ImageTask, settings: Resolved, share: float) -> None:
    """Train the segmenters into RUN/anatomy, each with a share of the run's budget; none without a share.

    Without masks they learn classes of intensity, those of the first channel that is made. They must find these in what
    was given as well, where the same tissues may have other intensities: so without registered pairs there are none.
    """
    masks = prepared.spec.mask_classes >= 2
    if not share or (task.targets and not masks):
        return
    labels = {} if masks else {"tissues": TISSUES, "tissues_of": task.outputs[0]}
    rows = np.arange(len(prepared.rows))
    patients = len(np.unique(prepared.patients(rows[prepared.masked(rows)]))) if masks else 0
    budget, missing = settings.section("train", TrainSettings), getattr(settings.section("task"), "missing", 0.0)
    given = {"seed": settings.seed, "train": {
        "images": int(np.ceil(share * budget.images)), "seconds": share * budget.seconds, "previews": 0}}
    segment = {"kind": "segment", "adversarial": 0.0, "deform": warps(patients), **labels}
    for side, channels in _sides(task).items():
        if not RunFolder(Path(run) / FOLDER / side).trained:
            tell(f"Now {SIDES[side]}, for the check of anatomy (evaluate.anatomy):")
        own = {**segment, "inputs": list(channels), "missing": missing if side == "given" else 0.0}
        train(prepared.folder, Path(run) / FOLDER / side, settings=resolve(
            document(recipe("unet", "segment")), {**given, "task": own}))


def segmenters(run: Path) -> dict[str, str | None]:
    """The hash of each segmenter's weights; None of one that is not yet trained."""
    return {folder.name: RunFolder(folder).weights_hash for folder in sorted((Path(run) / FOLDER).glob("*/"))}


def read_anatomy(run: Path, task: ImageTask, open: Callable[[Path], Sees]) -> Anatomy | None:
    """The segmenters of a run, if it has any; open: what makes one of its run folder."""
    folders = {side: Path(run) / FOLDER / side for side in _sides(task)}
    if not all(RunFolder(folder).trained for folder in folders.values()):  # being learned, or stopped in the middle
        return None
    found = {side: open(folder) for side, folder in folders.items()}
    return Anatomy(found["given"], found.get("made", found["given"]))


def _sides(task: ImageTask) -> dict[str, tuple[str, ...]]:
    sides = {"given": task.inputs}
    return sides if task.inputs == task.outputs else {**sides, "made": task.outputs}
