"""Masks in which every thing has its own number: inside and border, from a folder to painted images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.errors import SettingsError
from radsynth.image import Image
from radsynth.io import write
from radsynth.settings import resolve
from radsynth.verbs._applying.painter import Painter
from radsynth.verbs._inspecting.page import problems
from radsynth.verbs._preparing.instances import inside_and_border
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from tests.written import FROM

PREPARED = ("prepare.masks=instances", "prepare.size=[32,32]", "prepare.validation=0")


def cells(seed: int) -> np.ndarray:
    """(32, 32): some 60 cells of 4 x 4 pixels that touch each other, each with a number of its own; 0 between some."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(200)[:64].reshape(8, 8) + 1
    return np.kron(np.where(rng.random((8, 8)) < 0.1, 0, numbers), np.ones((4, 4))).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(12):
        noise = np.random.default_rng(k).integers(0, 255, (1, 32, 32)).astype(np.uint8)
        for name, pixels in (("images", noise), ("masks", cells(k)[None])):
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            write(Image(pixels=pixels), tmp_path / "in" / name / f"p{k}.png", provenance=FROM)
    return tmp_path / "in"


def test_borders_touch_another_thing_or_none_along_an_axis() -> None:
    numbers = np.array([[1, 1, 1, 1, 2, 2], [1, 1, 1, 1, 2, 2], [1, 1, 1, 0, 0, 0]], np.uint8)
    classes = [[1, 1, 1, 2, 2, 1], [1, 1, 1, 2, 2, 2], [1, 1, 2, 0, 0, 0]]  # [1][2] has 0 at a corner alone
    found = inside_and_border(numbers)
    assert found.dtype == np.uint8 and found.tolist() == classes
    assert inside_and_border(np.stack([numbers, numbers])).tolist() == [classes, classes]
    assert inside_and_border(np.stack([numbers, numbers + 3]))[0].tolist() == np.where(numbers, 2, 0).tolist()


def test_a_folder_of_cells_becomes_two_classes_and_its_run_paints_cells(folder: Path, tmp_path: Path) -> None:
    assert any("prepare.masks=instances" in line for line in problems(inspect(folder)))
    given = resolve(overrides=("data.kind=folder", f"data.path={folder}", *PREPARED), sections=("data", "prepare"))
    data = prepare(given.section("data"), tmp_path / "data", settings=given, workers=1)
    assert data.spec.mask_values == (0, 1, 2)
    kept = {row.tobytes() for row in Prepared(tmp_path / "data").stored(data.indices("train"), "masks")}
    assert kept <= {inside_and_border(cells(k)).tobytes() for k in range(12)}
    train(data.folder, tmp_path / "run", settings=resolve(overrides=(
        "task.kind=semantic", "model.width=8", "model.widest=16", "model.hidden=8", "model.latent=4", "train.batch=4",
        "model.discriminator_width=8", "train.previews=0", "train.images=8")))
    painter = Painter(tmp_path / "run", None, 0, None)
    whole, other = (painter.paint(Image(pixels=numbers[None]), 0).pixels
                    for numbers in (cells(0), np.where(cells(0) > 0, cells(0) + 20, 0).astype(np.uint8)))
    assert np.array_equal(whole, other)  # it matters who touches whom, not which number a cell has


def test_classes_and_instances_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    given = resolve(overrides=("data.kind=folder", f"data.path={folder}", *PREPARED, f"prepare.extra={folder}"),
                    sections=("data", "prepare"))
    with pytest.raises(SettingsError, match="turn one of them off"):
        prepare(given.section("data"), tmp_path / "data", settings=given)
