"""Images are made larger or smaller without stretching, and their masks with them."""

from __future__ import annotations

import numpy as np
import pytest

from radsynth.errors import SettingsError
from radsynth.image import Image
from radsynth.plan import Fingerprint
from radsynth.settings import resolve
from radsynth.verbs._preparing.size import automatic_size, size_of
from tests.prepare.records import Prepare, everything, picture, record


@pytest.mark.parametrize(
    "space, spacing", [((30, 90), (3.0, 1.0)), ((60, 30), (0.7, 1.4)), ((12, 60, 60), (5.0, 1.0, 1.0))]
)
def test_images_are_never_stretched(space: tuple[int, ...], spacing: tuple[float, ...], from_records: Prepare) -> None:
    """A ball in mm is a ball in pixels, whatever the pixels were."""
    axes = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(space, spacing, strict=True)), indexing="ij")
    radius = 0.4 * min(n * s for n, s in zip(space, spacing, strict=True))
    ball = np.clip((radius - np.sqrt(sum(axis**2 for axis in axes))) + 0.5, 0, 1)
    image = Image(pixels=(ball[None] * 255).astype(np.uint8), spacing=spacing, mask=(ball > 0.5).astype(np.uint8))
    prepared = from_records([record(0, image)], size=[32] * len(space))
    for kind in ("images", "masks"):
        shown = prepared.stored(np.arange(1), kind).reshape((32,) * len(space))
        inside = shown > shown.max() / 2
        widths = [
            int(inside.any(axis=tuple(a for a in range(len(space)) if a != axis)).sum()) for axis in range(len(space))
        ]
        assert max(widths) - min(widths) <= 1, (kind, widths)
        diameter = 2 * radius / prepared.spec.spacing[0]
        assert abs(widths[0] - diameter) <= 1.5 and len(set(prepared.spec.spacing)) == 1


def test_each_image_keeps_the_mm_of_its_pixels(from_records: Prepare) -> None:
    records = [record(n, picture(n, (20, 20), spacing=(step, step))) for n, step in enumerate((0.5, 0.8, 2.0))]
    prepared = from_records(records, size=[10, 10])
    found = prepared.spacings(np.arange(3))
    assert found is not None and sorted(found[:, 0].tolist()) == [1.0, 1.6, 4.0] and prepared.spec.spacing == (1.6, 1.6)
    untold = from_records([record(n, picture(n, (20, 20))) for n in range(3)], "untold", size=[10, 10])
    assert untold.spacings(np.arange(3)) is None


def test_background_is_added_and_borders_are_cut_evenly(from_records: Prepare) -> None:
    image = Image(pixels=np.full((1, 10, 20), 200, np.uint8))
    image.pixels[0, 0, 0] = 201
    padded = everything(from_records([record(0, image)], "pad", size=[20, 20]))[0, 0]
    assert (padded[:5] == 0).all() and (padded[15:] == 0).all() and (padded[5:15] >= 200).all()
    image.pixels[0, :, 10] = 90
    cropped = everything(from_records([record(0, image)], "crop", size=[10, 10], fit="crop"))[0, 0]
    assert (cropped[:, 5] == 90).all() and cropped.min() == 90 and (cropped[:, 0] == 200).all()
    small = everything(from_records([record(0, image)], "small", size=[40, 40]))[0, 0]
    large = everything(from_records([record(0, image)], "large", size=[40, 40], enlarge=True))[0, 0]
    assert (small > 0).sum() == 200 and (large > 0).sum() == 800


def test_fine_patterns_do_not_alias(from_records: Prepare) -> None:
    stripes = np.indices((64, 64)).sum(axis=0)[None] % 2 * 255
    shown = everything(from_records([record(0, Image(pixels=stripes.astype(np.uint8)))], size=[24, 24]))
    assert np.ptp(shown[..., 2:-2, 2:-2].astype(int)) < 40, "a checkerboard finer than the pixels becomes grey"


def test_masks_follow_the_majority(from_records: Prepare) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:] = 3
    mask[8:20, 4:16] = 1
    mask[30, 30] = 2
    prepared = from_records([record(0, picture(0, (40, 40)).replace(mask=mask))], size=[10, 10])
    shown = prepared.stored(np.arange(1), "masks")[0]
    np.testing.assert_array_equal(shown, mask[1::4, 1::4])
    assert prepared.spec.mask_classes == 4


def test_the_automatic_size_is_the_medians() -> None:
    assert automatic_size([(28, 28)] * 3) == (32, 32)
    assert automatic_size([(512, 400), (500, 390), (4000, 3000)]) == (512, 400)
    assert automatic_size([(35, 50, 36)]) == (40, 64, 40)


def test_thick_slices_are_sized_in_mm() -> None:
    """Cubes fill the frame: a frame of as many pixels along the slices as these have would shrink all axes."""
    volumes, steps = [(30, 64, 64)] * 3, (5.0, 1.0, 1.0)
    assert automatic_size(volumes, [steps] * 3) == (160, 64, 64)
    assert automatic_size(volumes, [steps, None, steps]) == (160, 64, 64)
    assert automatic_size(volumes, [None] * 3) == automatic_size(volumes, [(1.0, 1.0, 1.005)] * 3) == (32, 64, 64)
    assert size_of(None, "patches", volumes, [steps] * 3) == size_of(None, "patches", volumes), "of their own pixels"


def test_prepare_keeps_the_detail_of_thick_slices(from_records: Prepare) -> None:
    prepared = from_records([record(n, picture(n, (10, 40), spacing=(4.0, 1.0))) for n in range(3)], size=None)
    assert prepared.spec.size == (40, 40) and prepared.spec.spacing == (1.0, 1.0)


def test_the_plan_and_prepare_take_the_same_proportions() -> None:
    data = Fingerprint(images=3, patients=3, modality="MR", channels=1, size=(30, 64, 64), spacing=(5.0, 1.0, 1.0),
                       labels={})
    assert data.even == (150, 64, 64)
    assert automatic_size([data.size], [data.spacing]) == tuple(16 * -(-side // 16) for side in data.even)


def test_a_wrong_number_in_the_size_is_one_problem() -> None:
    """That the list lacked it was told as a second one."""
    with pytest.raises(SettingsError, match=r"^A problem in the settings:\n  prepare\.size\[1\]: given 1234567,"):
        resolve(overrides=("prepare.size=[32,1234567]",))
