"""Patches at native spacing: they are the image's own pixels, cover it, keep its range, and are chosen by `run`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radsynth.arrays import Prepared
from radsynth.device import Device
from radsynth.image import Image
from radsynth.io import write
from radsynth.plan import Fingerprint, plan
from radsynth.settings import resolve
from radsynth.verbs._preparing.patches import drawn, grid
from radsynth.verbs.prepare import prepare
from tests.written import FROM

CPU = Device(accelerator="cpu", name="a processor", cores=2, bf16=True)


def prepared(folder: Path, out: Path, *overrides: str) -> Prepared:
    given = resolve({"data": {"kind": "folder", "path": str(folder)}}, overrides=[*overrides, "prepare.fit=patches"],
                    sections=("data", "prepare"))
    return prepare(given.section("data"), out, settings=given, workers=1)


@pytest.mark.parametrize(("space", "size"), [
    ((100, 64), (32, 32)), ((16, 90), (32, 32)), ((20, 65, 40), (8, 32, 32))])
def test_patches_cover_the_image_but_for_narrow_gaps(space: tuple[int, ...], size: tuple[int, ...]) -> None:
    seen = np.zeros(space, bool)
    for corner in grid(space, size):
        seen[tuple(slice(a, a + side) for a, side in zip(corner, size, strict=True))] = True
    assert seen.mean() > 0.75


def test_of_too_many_patches_the_name_draws_some() -> None:
    every = grid((200, 200), (16, 16))
    few = drawn(every, 7, "a")
    assert len(few) == 7 and set(few) <= set(every) and few == drawn(every, 7, "a")
    assert few != drawn(every, 7, "b")


def test_patches_are_the_images_own_pixels_with_mask_and_spacing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 1000, (3, 1, 40, 70)).astype(np.uint16)
    for number, image in enumerate(pixels):
        write(Image(pixels=image, bits=16, modality="MR", spacing=(0.5, 0.5)), tmp_path / "in" / f"p{number}.nii.gz",
              provenance=FROM)
    data = prepared(tmp_path / "in", tmp_path / "out", "prepare.size=[20,32]", "prepare.intensity=bits",
                    "prepare.train=1", "prepare.validation=0")
    assert data.spec.spacing == (0.5, 0.5) and data.spec.size == (20, 32)
    assert len(data.rows) == 3 * len(grid((40, 70), (20, 32))) and len({r.patient for r in data.rows}) == 3
    places = grid((40, 70), (20, 32))
    top, left = places[-1]
    stored = data.stored(np.asarray([len(places) - 1]))[0, 0]
    assert any(np.array_equal(stored, image[0, top:top + 20, left:left + 32]) for image in pixels)


def test_the_range_is_the_whole_volumes_and_empty_patches_are_left_out(tmp_path: Path) -> None:
    volume = np.zeros((1, 8, 64, 64), np.float32)
    volume[0, :, :32, :32] = np.random.default_rng(0).uniform(10, 20, (8, 32, 32))
    volume[0, :, :4, :4] = 1000.0
    for number in range(3):
        write(Image(pixels=volume + number, bits=32, modality="MR", spacing=(3.0, 1.0, 1.0),
                    affine=np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / "in" / f"{number}.nii.gz", provenance=FROM)
    data = prepared(tmp_path / "in", tmp_path / "out", "prepare.size=[8,32,32]", "data.plane=volume",
                    "prepare.percentiles=[0,100]", "prepare.train=1", "prepare.validation=0")
    assert len(data.rows) == 3 and data.manifest.left_out == 9 and data.spec.spacing == (3.0, 1.0, 1.0)
    assert {(row.high - row.low) for row in data.rows} == {1000.0}


def test_run_chooses_patches_for_large_images_and_tasks_that_allow_it() -> None:
    def chosen(size: tuple[int, ...], task: str, asked: tuple[int, ...] = ()) -> dict[str, object]:
        data = Fingerprint(images=300, patients=30, modality="MR", channels=2, size=size, labels={})
        return {choice.setting: choice.value for choice in plan(data, CPU, {}, task=task, size=asked)}

    assert chosen((512, 48), "restore") | {"prepare.size": [64, 48], "prepare.fit": "patches"} == chosen(
        (512, 48), "restore")
    assert "prepare.fit" not in chosen((64, 48), "restore") and "prepare.fit" not in chosen((512, 512), "cycle")
    assert chosen((22, 256, 256), "translate")["prepare.size"] == [22, 32, 32]
    own = chosen((512, 512), "restore", (96, 64))
    assert own["prepare.size"] == [96, 64] and own["prepare.fit"] == "patches", "a size of one's own is that of crops"
    assert "prepare.fit" not in chosen((96, 64), "restore", (96, 64))
    assert "prepare.fit" not in chosen((512, 512), "cycle", (96, 64))
