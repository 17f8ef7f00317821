"""Results of tasks from image to image on CT are shown in the window that the scans ask for, as all other pictures are.

From air to bone soft tissue is one grey, in which nobody could tell a good result from a bad one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from radsynth.arrays import Prepared
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.tasks.register import Register
from radsynth.verbs._grid import shades
from radsynth.verbs._pairs import registration, segmentation
from radsynth.verbs._pairs.document import ends_of
from radsynth.verbs._pairs.found import OWN
from radsynth.verbs._pairs.paired import evaluate_pairs
from radsynth.verbs.report import report
from radsynth.verbs.train import train

LOW, HIGH = 64.0, 128.0
"""The window, of grey values from 0 to 255."""


@pytest.fixture
def data(make_prepared: Callable[..., Path]) -> Path:
    folder = make_prepared(n=24, units="HU", modality="CT", window=(LOW, HIGH), mask_classes=2)
    images = np.load(folder / "shards" / "00000.images.npy")
    np.save(folder / "shards" / "00000.masks.npy", (images[:, 0] > 70).astype(np.uint8))
    return folder


def in_window(stored: np.ndarray) -> np.ndarray:
    """Stored grey values, which are HU here, as they are to be seen."""
    return np.clip(np.rint((stored - LOW) * 255 / (HIGH - LOW)), 0, 255)


def test_restored_images(data: Path, tmp_path: Path) -> None:
    run, prepared = tmp_path / "run", Prepared(data)
    train(data, run, settings=resolve(overrides=(
        "task.kind=restore", "model.width=8", "train.batch=4", "train.images=8", "train.previews=1")))
    found = evaluate_pairs(run, prepared, out=run)
    assert found["pairs"]["window"] == [LOW, HIGH]
    pictures = np.load(run / "pictures" / "pairs.npy")
    truths = prepared.stored(prepared.indices("test"))[:, 0]
    assert np.array_equal(pictures[0, -1], in_window(truths[0]))
    assert {0, 255} <= set(np.load(run / "pictures" / "doubts.npy")[:, :2].ravel().tolist())
    [preview] = (run / "previews").iterdir()
    assert {0, 255} <= set(np.asarray(Picture.open(preview)).ravel().tolist()), "training is shown likewise"
    assert "black is 64, white 128 HU" in report(run).read_text()


def test_images_translated_without_pairs(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    data = make_prepared(n=24, units="HU", modality="CT", window=(LOW, HIGH), labels=("plain", "enhanced"))
    run, prepared = tmp_path / "run", Prepared(data)
    train(data, run, settings=resolve(overrides=(
        "task.kind=cycle", "task.domains=[plain,enhanced]", "model.width=8", "train.batch=4", "train.images=8",
        "train.previews=0")))
    found = evaluate_pairs(run, prepared, out=run)
    assert found["context"]["window"] == [LOW, HIGH]
    shown = set(np.load(run / "pictures" / "real.npy").ravel().tolist())
    assert {0, 255} <= shown, "black and white are the ends of the window"


def test_segmented_images(data: Path) -> None:
    prepared = Prepared(data)
    rows = prepared.indices("test")
    truths = prepared.masks(rows)
    shown = shades(segmentation._pictures(prepared, rows, {OWN: truths}, truths))
    assert np.array_equal(shown[0, 0], in_window(prepared.stored(rows[:1])[0, 0]))
    assert np.array_equal(shown[0, 1], 255 * truths[0]), "labels have no window"


def test_registered_images(data: Path) -> None:
    prepared = Prepared(data)
    settings = resolve(overrides=("task.kind=register",))
    task = cast(Register, build(settings, prepared.spec))
    moving, fixed = prepared.images(prepared.indices("test")[:1]), prepared.images(prepared.indices("train")[:1])
    still = torch.zeros(1, 2, *prepared.spec.size).numpy()
    shown = shades(registration._pictures(task, {OWN: still}, moving, fixed, ends_of(prepared)))
    values = [(images[0, 0] + 1) * 127.5 for images in (moving, fixed)]
    assert all(np.abs(shown[0, k] - in_window(values[k])).max() <= 1 for k in range(2))
    apart = np.clip(np.abs(values[0] - values[1]) * 255 / (HIGH - LOW), 0, 255)
    assert np.abs(shown[0, 4] - apart).max() <= 1, "a difference as large as the window is white"
