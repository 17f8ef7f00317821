"""The virtual brain cohort: reproducible, virtual by name, with labels, masks and deformations that are true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radsynth.datasets import at, brain
from radsynth.datasets._brain_anatomy import _template, atlas, deep_white_matter, patient
from radsynth.errors import DataError, SettingsError
from radsynth.image import Image
from radsynth.settings import resolve

SMALL = brain.Settings(patients=20, slices=4, size=(32, 32))


def white_matter_centre(image: Image) -> np.ndarray:
    """Mean position in LPS mm of what the mask calls white matter."""
    assert image.mask is not None and image.affine is not None
    places = np.argwhere(np.atleast_3d(image.mask.T) == 3)  # (column, row[, slice])
    return (image.affine @ np.c_[places, np.ones(len(places))].T)[:3].mean(axis=1)


def test_an_image_follows_from_seed_and_index_alone() -> None:
    first = brain.image(SMALL, 3, 1)
    for index in (7, 0, 5):
        brain.image(SMALL, index, 2)
    larger = brain.Settings(patients=300, slices=4, size=(32, 32), rare=SMALL.rare)
    again = brain.image(larger, 3, 1)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.mask, again.mask)
    other_seed = brain.image(brain.Settings(patients=20, slices=4, size=(32, 32), seed=1), 3, 1)
    others = [other_seed, brain.image(SMALL, 4, 1), brain.image(SMALL, 3, 2)]
    assert all(np.mean(first.pixels != other.pixels) > 0.5 for other in others)


def test_its_name_stands_for_a_path_unless_there_is_such_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = resolve(*at(Path("brain"), [], ["data.patients=5"]), overrides=["data.patients=5"], sections=("data",))
    assert found.section("data") == brain.Settings(patients=5)
    with pytest.raises(DataError, match="does not exist"):
        at(Path("brian"), [], [])
    Path("brain").mkdir()
    (data,) = (one["data"] for one in at(Path("brain"), [], []) if "path" in one["data"])
    assert data == {"kind": "folder", "path": "brain"}


def test_it_is_named_as_virtual() -> None:
    records = list(brain.records(SMALL, []))
    assert brain.VIRTUAL and len(records) == 80 and records[0].header is not None
    assert {record.patient for record in records} == {f"virtual-{i:04d}" for i in range(1, 21)}
    image = records[-1].load()
    header = records[-1].header
    assert header is not None and (header.size, header.modality, header.bits) == (image.space, "MR", image.bits)
    assert (
        header.spacing == image.spacing == (7.0, 7.0) and image.pixels.dtype == np.uint16 and image.pixels.max() < 4096
    )


def test_a_label_says_what_the_mask_shows() -> None:
    settings = brain.Settings(patients=60, slices=6, size=(64, 64))
    rare = [index for index in range(60) if brain.is_rare(settings, index)]
    assert 7 <= len(rare) <= 11, "15 % of 60 patients"
    cases = [(index, number) for index in rare[:5] for number in range(6)] + [(0, 0)]
    shown = {case: bool((brain.truth(settings, *case).mask == 4).any()) for case in cases}
    assert shown == {case: brain.label(settings, *case) == "lesion" for case in cases}
    assert {True, False} == set(shown.values())
    assert all(any(shown[index, number] for number in range(6)) for index in rare[:5]), (
        "each rare patient shows a lesion"
    )


@pytest.mark.parametrize("index", [0, 5, 9])
def test_the_deformation_is_invertible_and_stays_anatomical(index: int) -> None:
    who = patient(0, index, rare=False)
    axes = [np.arange(low, high, 4.0) for low, high in ((-60, 80), (-80, 110), (-80, 80))]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)
    there = who.to_template(grid.reshape(-1, 3))
    back = who.from_template(there)
    assert np.abs(back - grid.reshape(-1, 3)).max() < 1.0, "mm"
    steps = np.stack(np.gradient(there.reshape(grid.shape), 4.0, axis=(0, 1, 2)), axis=-1)
    assert np.linalg.det(steps).min() > 0.1, "it folds nowhere"
    moved = np.linalg.norm(there - grid.reshape(-1, 3), axis=1)
    assert 1 < moved.mean() < 20


def test_the_true_displacement_leads_to_the_template() -> None:
    settings = brain.Settings(patients=3, slices=3, size=(64, 64))
    found = brain.truth(settings, 1, 1)
    affine = brain.image(settings, 1, 1).affine
    assert affine is not None
    rows, columns = np.indices((64, 64)).reshape(2, -1)
    here = (affine @ np.stack([columns, rows, np.zeros(64**2), np.ones(64**2)]))[2::-1].T  # (z, y, x)
    maps = atlas(3.5).sample((here + found.displacement.reshape(3, -1).T).astype(np.float32))
    white = found.shares[3].reshape(-1)
    assert np.corrcoef(maps[2], white)[0, 1] > 0.98
    here_map = atlas(3.5).sample(here.astype(np.float32))
    assert np.corrcoef(here_map[2], white)[0, 1] < 0.95, "without the displacement it is another place"


def test_contrasts_show_the_same_anatomy_each_in_its_own_way() -> None:
    settings = brain.Settings(patients=40, slices=6, size=(64, 64), contrasts=("t1", "t2", "flair"), rare=1.0)
    number = next(n for n in range(6) if brain.label(settings, 0, n) == "lesion")
    found = brain.truth(settings, 0, number)
    np.testing.assert_allclose(found.shares.sum(axis=0), 1, atol=1e-5)
    level = {(c, t): found.clean[c][found.shares[t] > 0.9].mean() for c in range(3) for t in (2, 3, 4)}
    t1, t2, flair = 0, 1, 2
    grey, white, lesion = 2, 3, 4
    assert level[t1, white] > level[t1, grey] > 0 and level[t2, grey] > level[t2, white]
    assert level[t2, lesion] > level[t2, white] and level[flair, lesion] > 1.3 * level[flair, white]
    assert brain.image(settings, 0, number).channels == ("t1", "t2", "flair")


def test_unpaired_patients_have_one_contrast_each_the_same_as_in_pairs() -> None:
    pairs = brain.Settings(patients=2, slices=1, size=(32, 32), contrasts=("t1", "flair"))
    alone = list(brain.records(replace(pairs, unpaired=True), []))
    assert [record.label for record in alone] == ["t1", "flair"]
    for index, record in enumerate(alone):
        image, both = record.load(), brain.image(pairs, index)
        assert image.channels == ("grey",)
        assert np.corrcoef(image.pixels[0].ravel(), both.pixels[index].ravel())[0, 1] > 0.98
        assert image.mask is not None and both.mask is not None and np.array_equal(image.mask, both.mask)


def test_planes_and_volumes_show_the_same_head_in_the_same_place() -> None:
    volume = brain.image(brain.Settings(patients=2, size=(40, 40, 40)), 1)
    assert volume.space == (40, 40, 40) and volume.spacing == (5.6, 5.6, 5.6)
    centre = white_matter_centre(volume)
    assert (np.abs(centre - [0, 20, 20]) < 15).all(), "(x, y, z) in mm"
    for plane, through in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        settings = brain.Settings(patients=2, slices=12, size=(40, 40), plane=plane)
        slices = [brain.image(settings, 1, number) for number in range(12)]
        middle = np.mean([white_matter_centre(image) for image in slices], axis=0)
        within = [axis for axis in range(3) if axis != through]
        assert (np.abs(middle - centre)[within] < 9).all(), plane
        levels = [white_matter_centre(image)[through] for image in slices]
        assert np.diff(levels).min() > 3, "slices go one way"
        low, high = brain.LEVELS[plane]
        assert low <= levels[0] and levels[-1] <= high


def test_noise_and_contrast_differ_between_patients() -> None:
    settings = brain.Settings(patients=12, slices=1, size=(32, 32))
    images = [brain.image(settings, index).pixels[0].astype(float) for index in range(12)]
    corners = [image[:4, :4] for image in images]
    assert all(corner.std() > 0 for corner in corners), "Rician noise in air"
    assert np.std([image.max() for image in images]) > 100
    likeness = np.corrcoef([image.ravel() for image in images])[np.triu_indices(12, 1)]
    assert 0.3 < likeness.mean() < 0.95 and likeness.max() < 0.99


def test_settings_that_cannot_work_are_named() -> None:
    with pytest.raises(SettingsError, match="contrasts"):
        list(brain.records(brain.Settings(contrasts=("t1", "t1")), []))
    with pytest.raises(SettingsError, match="unpaired needs"):
        list(brain.records(brain.Settings(unpaired=True), []))
    for override in ("data.size=[64]", "data.plane=oblique", "data.patients=0", "data.contrasts=[pd]", "data.rare=2"):
        with pytest.raises(SettingsError, match=override[5:9]):
            resolve(overrides=[override], sections=["data"])


def test_lesions_begin_in_deep_white_matter() -> None:
    deep = deep_white_matter()
    maps = atlas(3.5).sample(deep[::50])
    assert len(deep) > 1000 and maps[2].mean() > 0.85 and (maps[4] == 0).all()


@pytest.mark.slow
def test_the_template_is_what_nilearn_loads() -> None:
    from nilearn.datasets import load_mni152_template, load_mni152_wm_template

    for name, load in (("t1", load_mni152_template), ("wm", load_mni152_wm_template)):
        theirs = np.asarray(load(resolution=1).dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
        ours = _template(name) / 255
        np.testing.assert_allclose(theirs / theirs.max(), ours, atol=0.01)
