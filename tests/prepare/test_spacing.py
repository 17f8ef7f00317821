"""prepare.spacing: all images in pixels of one size in mm, thick slices among them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from radsynth.errors import SettingsError
from radsynth.image import Image
from radsynth.settings import resolve
from radsynth.verbs._evaluating.unprepared import open_unprepared
from radsynth.verbs._other_images import other_images
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from tests.prepare.records import Prepare, everything, picture, record


def disc(side: int, step: float, radius: float) -> Image:
    """A disc of `radius` mm in the middle of side x side pixels of `step` mm, with its mask."""
    distance = np.hypot(*(np.indices((side, side)) - (side - 1) / 2)) * step
    return Image(pixels=(100 * (distance < radius) + 50)[None].astype(np.uint8), spacing=(step, step),
                 mask=(distance < radius).astype(np.uint8))


def test_equal_lengths_are_equally_many_pixels_whatever_the_field_of_view(from_records: Prepare) -> None:
    """A disc of 40 mm in fields of 60 and 120 mm is 20 and 10 pixels wide without the setting."""
    images = [disc(60, 1.0, 20), disc(60, 2.0, 20)]
    records = [record(n, image) for n, image in enumerate(images)]
    fixed = from_records(records, "fixed", size=[30, 30], spacing=[2.0, 2.0], fit="crop")
    fitted = from_records(records, "fitted", size=[30, 30])
    assert sorted(np.any(mask, 0).sum() for mask in fitted.masks(np.arange(2))) == [10, 20]
    assert [np.any(mask, 0).sum() for mask in fixed.masks(np.arange(2))] == [20, 20]
    steps = fixed.spacings(np.arange(2))
    assert steps is not None and np.array_equal(steps, np.full((2, 2), 2.0)) and fixed.spec.spacing == (2.0, 2.0)
    assert (everything(fixed) > 0).all(), "nothing of the field is empty"


def test_slices_stay_as_thick_as_they_are(from_records: Prepare) -> None:
    volume = np.random.default_rng(0).integers(1, 250, (1, 6, 20, 20)).astype(np.uint8)
    records = [record(0, Image(pixels=volume, spacing=(10.0, 2.0, 2.0)))]
    prepared = from_records(records, size=[8, 20, 20], spacing=[10, 2, 2])
    assert prepared.spec.spacing == (10, 2, 2)
    stored = everything(prepared)[0]
    assert np.array_equal(stored[:, 1:7], volume) and not stored[:, [0, 7]].any(), "to the bit, and padded"


def test_larger_images_are_shrunk_as_a_whole_or_cut_and_what_is_not_so_is_told(
    from_records: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [picture(0, (40, 20), spacing=(1.0, 1.0)), picture(1, (20, 20), spacing=(1.0, 1.0)), picture(2, (20, 20))]
    records = [record(n, image) for n, image in enumerate(images)]
    prepared = from_records(records, size=[20, 20], spacing=[1, 1])
    told = capsys.readouterr().err
    assert "1 of 3 images are larger than prepare.size" in told and "1 of 3 images do not say how large" in told
    rows = prepared.spacings(np.arange(3))
    assert rows is None and prepared.spec.spacing is None, "one of them is unknown"
    shrunk = next(stored for stored in everything(prepared)[:, 0] if not stored[:, 0].any())
    assert (shrunk.max(0) > 0).sum() == 10 and (shrunk.max(1) > 0).sum() == 20
    cut = everything(from_records(records, "cut", size=[20, 20], spacing=[1, 1], fit="crop"))[:, 0]
    assert any(np.array_equal(stored, images[0].pixels[0, 10:30]) for stored in cut)
    untold = [record(n, picture(n, (20, 20))) for n in range(3)]
    assert from_records(untold, "untold", size=[20, 20], spacing=[1, 1]).spec.spacing is None
    assert "3 of 3 images do not say how large" in capsys.readouterr().err


@pytest.mark.parametrize("size, told", [
    ([8, 48, 48], "images of 90 x 192 x 192 mm fill 13% of prepare.size=[8, 48, 48]"), ([24, 48, 48], ""),
    ([32, 32, 32], "")])
def test_a_frame_that_is_mostly_background_is_told(size: list[int], told: str, from_records: Prepare,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    volume = np.random.default_rng(0).integers(1, 250, (1, 9, 96, 96)).astype(np.uint8)
    stack = record(0, Image(pixels=volume, spacing=(10.0, 2.0, 2.0)))
    stored = everything(from_records([stack], size=size))[0, 0]
    said = capsys.readouterr().err
    assert ("background takes the rest" in said) == bool(told) == ((stored > 0).mean() < 0.4) and told in said
    assert not told or "[24, 48, 48] has their proportions" in said


@pytest.mark.parametrize("settings, said", [
    ({"spacing": [1, 1]}, "needs prepare.size"), ({"spacing": [5, 1, 1], "size": [16, 16]}, "as many numbers"),
    ({"spacing": [1, 1], "size": [16, 16], "fit": "patches"}, "leave one of them out"),
    ({"spacing": [1, 1], "size": [16, 16], "enlarge": True}, "leave one of them out"),
    ({"spacing": [1, 0], "size": [16, 16]}, "above 0")])
def test_what_cannot_be_brought_to_it_is_refused(settings: dict[str, object], said: str,
                                                 from_records: Prepare) -> None:
    with pytest.raises(SettingsError, match=said):
        from_records([record(0, picture(0, (20, 20)))], **settings)


@pytest.mark.parametrize("asked, patches", [((), True), (("prepare.spacing=[2,2]",), False)])
def test_the_plan_cuts_no_patches_of_images_in_other_pixels(asked: tuple[str, ...], patches: bool,
                                                            tmp_path: Path) -> None:
    for n in range(6):
        pixels = np.random.default_rng(n).integers(1, 250, (64, 64)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(pixels[..., None], np.diag([-1, -1, 5, 1])), tmp_path / f"case{n}.nii.gz")
    overrides = ["prepare.size=[32,32]", "task.kind=restore", *asked]
    planned = inspect(tmp_path, overrides=overrides).planned
    assert ("prepare.fit" in {choice["setting"] for choice in planned}) == patches


def test_images_given_later_are_brought_to_it_as_well(tmp_path: Path) -> None:
    """Volumes of thick slices, whole and as `generate` writes them: as cubes they would shrink to a fraction."""
    for folder, count in (("real", 6), ("given", 2)):
        (tmp_path / folder).mkdir()
        for n in range(count):
            pixels = np.random.default_rng(n).integers(1, 250, (16, 16, 8)).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(pixels, np.diag([-2, -2, 9, 1])), tmp_path / folder / f"case{n}.nii.gz")
    settings = {"data": {"kind": "folder", "path": str(tmp_path / "real"), "plane": "volume"},
                "prepare": {"size": [8, 16, 16], "spacing": [9, 2, 2]}}
    made = prepare(tmp_path / "real", tmp_path / "data",
                   settings=resolve(settings, sections=("data", "prepare")))
    preparing = made.manifest.preparation["prepare"]
    first = Image(pixels=np.zeros((1, 8, 16, 16), np.uint8), spacing=(9.0, 2.0, 2.0))
    opened = open_unprepared(tmp_path / "real", tmp_path / "made", first, tmp_path, shrink=False)
    assert (everything(opened.prepared) > 0).mean() > 0.9 and "pixels of the synthetic ones, 9 x 2 x 2 mm" in str(
        opened.notes)
    with other_images(tmp_path / "given", made.spec, made.intensity, preparing) as (_, found):
        assert found.shape == (2, 1, 8, 16, 16) and (found > -1).mean() > 0.9
