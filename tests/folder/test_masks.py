"""Masks beside images: found, put together, and refused where they do not fit."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth.datasets import luna16
from radsynth.datasets.folder import Settings
from radsynth.errors import RejectedFile, SettingsError
from radsynth.io import metaimage
from radsynth.verbs._preparing.options import Settings as Prepare
from radsynth.verbs._preparing.source import source_hash
from radsynth.verbs.apply import files_hash
from radsynth.verbs.inspect import REGRIDDED, inspect
from tests.folder.examples import found, picture, reasons, volume


def test_several_masks_of_an_image_are_parts_of_one(tmp_path: Path) -> None:
    picture(tmp_path / "benign (1).png")
    picture(tmp_path / "benign (2).png", 1)
    for name, rows in (("benign (1)_mask", slice(0, 2)), ("benign (1)_mask_1", slice(4, 6)),
                       ("benign (2)_mask", slice(0, 3))):
        values = np.zeros((12, 10), np.uint8)
        values[rows] = 255
        Pillow.fromarray(values).save(tmp_path / f"{name}.png")
    records, rejected = found(tmp_path)
    assert not rejected and [len(record.masks) for record in records] == [2, 1]
    mask = records[0].load().mask
    assert mask is not None and set(np.flatnonzero(mask.any(1))) == {0, 1, 4, 5} and mask.max() == 1
    assert found(tmp_path, mask_names=("1=lesion", "2 = cyst"))[0][0].mask_names == {1: "lesion", 2: "cyst"}
    for wrong in ("lesion", "x=lesion", "256=lesion", "1="):
        with pytest.raises(SettingsError, match=r"data\.mask_names"):
            found(tmp_path, mask_names=(wrong,))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("imagesTr/a_0000.png", "labelsTr/a.png"),
        ("a.png", "a_mask.png"),
        ("ill/images/a.png", "ill/masks/a_seg.png"),
        ("images/ill/a.png", "labels/ill/a.png"),
    ],
)
def test_masks_are_found_beside_images(image: str, mask: str, tmp_path: Path) -> None:
    picture(tmp_path / image)
    (tmp_path / mask).parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.eye(12, 10, dtype=np.uint8) * 255).save(tmp_path / mask)
    [record], rejected = found(tmp_path)
    assert record.source == image and not rejected and record.label is None
    loaded = record.load()
    assert loaded.mask is not None and np.array_equal(loaded.mask, np.eye(12, 10))


def test_masks_without_images_and_images_without_masks_are_told(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/b.png", "imagesTs/t.png", "masks/a.png", "masks/c.png"):
        picture(tmp_path / name)
    records, rejected = found(tmp_path)
    assert [record.source for record in records] == ["images/a.png"]
    assert "no mask" in reasons(rejected)["images/b.png"] and "without an image" in reasons(rejected)["masks/c.png"]
    assert {line.path for line in rejected if line.skipped} == {"masks/c.png", "imagesTs/t.png"}


def test_a_change_of_a_masks_pixels_makes_another_source_where_they_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    """x.raw beside x.mhd, of a mask and of LUNA16's scans, and of a file that a run is applied to."""
    picture(tmp_path / "images/two.png", size=(8, 6))
    (tmp_path / "masks").mkdir()
    metaimage.example(tmp_path / "masks")
    for name in ("one.mha", "three.nrrd"):
        (tmp_path / "masks" / name).unlink()
    records, rejected = found(tmp_path)
    assert len(records[0].masks) == 1 and not rejected, "two.raw is no file of its own"

    def sources() -> tuple[str, str, str]:
        scans = list(luna16.records(scanned, []))
        return (source_hash(Settings(path=tmp_path), Prepare(), records), source_hash(scanned, Prepare(), scans),
                files_hash(tmp_path / "masks/two.mhd"))

    (tmp_path / "luna").mkdir()
    scanned = luna16.example(tmp_path / "luna")
    before = sources()
    assert before == sources()
    for path in (tmp_path / "masks/two.raw", next((tmp_path / "luna").rglob("*.*raw"))):
        os.utime(path, ns=(1, 1))
    assert not {*before} & {*sources()}


def test_a_mask_that_does_not_fit_rejects_its_image(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "masks/a.png", size=(5, 5))
    volume(tmp_path / "images/far.nii", spacing=(2, 2, 2))
    volume(tmp_path / "masks/far.nii", spacing=(2, 2, 2), start=(0, 0, 99))
    volume(tmp_path / "images/part.nii", spacing=(2, 2, 2))
    shares = nibabel.Nifti1Image(np.full((6, 7, 8), 0.5, np.float32), np.diag([-2.0, -2, 2, 1]))
    nibabel.save(shares, tmp_path / "masks/part.nii")
    volume(tmp_path / "images/plane.nii", (6, 7, 1), spacing=(2, 2, 2))
    volume(tmp_path / "masks/plane.nii", (6, 7, 1), spacing=(2, 2, 2), start=(0, 0, 5))
    volume(tmp_path / "images/vague.nii", spacing=(2, 2, 2))
    volume(tmp_path / "masks/vague.nii")
    found_here, _ = found(tmp_path, plane="whole", unmasked="keep")
    for record, reason in zip(found_here, (
        r"its mask a\.png has 5x5 pixels and a\.png 12x10, and their headers do not say",
        r"its mask far\.nii lies beside far\.nii, say their headers",
        r"its mask part\.nii: as a mask it must hold whole numbers from 0 to 255, not fractions such as 0\.5",
        r"its mask plane\.nii lies beside plane\.nii, say their headers",
        r"its mask vague\.nii \(8x7x6 pixels\) .* the header of its mask vague\.nii has pixels of 1 mm that begin at 0",
    ), strict=True):
        with pytest.raises(RejectedFile, match=reason):
            record.load()


def test_a_mask_on_another_grid_is_brought_onto_that_of_its_image(tmp_path: Path) -> None:
    """Pixels half as large, of which four lie in one of the image's, and the other way round in space; it is said."""
    volume(tmp_path / "images/a.nii.gz", (8, 10, 6), spacing=(2, 2, 3))
    volume(tmp_path / "images/b.nii.gz", (8, 10, 6), spacing=(2, 2, 3))
    labels = np.random.default_rng(0).integers(0, 3, (8, 10, 6)).astype(np.uint8)
    fine = np.repeat(np.repeat(labels, 2, axis=0), 2, axis=1)[::-1]
    affine = np.array([[1, 0, 0, -14.5], [0, -1, 0, 0.5], [0, 0, 3, 0], [0, 0, 0, 1.0]])  # towards the right
    (tmp_path / "masks").mkdir()
    nibabel.save(nibabel.Nifti1Image(fine, affine), tmp_path / "masks/a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-2.0, -2, 3, 1])), tmp_path / "masks/b.nii.gz")
    (moved, same), rejected = found(tmp_path, plane="volume")
    assert not rejected and np.array_equal(moved.load().mask, labels.T) and np.array_equal(same.load().mask, labels.T)
    assert f"6 x {REGRIDDED}" in inspect(tmp_path).text(), "the slices of one of two volumes"


def test_what_cannot_be_read_is_told_as_such_and_not_as_lacking_a_mask(tmp_path: Path) -> None:
    """ACDC's patient001_4d.nii.gz, beside frames of it with masks: data.unmasked=keep was advised, and refused it."""
    for number in (1, 12):
        volume(tmp_path / f"patient001/patient001_frame{number:02d}.nii.gz")
        volume(tmp_path / f"patient001/patient001_frame{number:02d}_gt.nii.gz")
    volume(tmp_path / "patient002/patient002_frame01.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 7, 8, 5), np.int16), np.eye(4)),
                 tmp_path / "patient001/patient001_4d.nii.gz")
    told = reasons(found(tmp_path)[1])
    assert "Split time points" in told["patient001/patient001_4d.nii.gz"]
    assert "data.unmasked=keep uses it" in told["patient002/patient002_frame01.nii.gz"]


def test_masks_of_single_things_beside_that_of_all_are_no_images(tmp_path: Path) -> None:
    """KiTS23 has instances/kidney_instance-1_annotation-1.nii.gz, ..., which were images that lack a mask."""
    volume(tmp_path / "case_0/imaging.nii.gz")
    volume(tmp_path / "case_0/segmentation.nii.gz")
    volume(tmp_path / "case_0/instances/kidney_instance-1_annotation-1.nii.gz")
    records, rejected = found(tmp_path, plane="volume")
    assert [record.masks for record in records] == [(str(tmp_path / "case_0/segmentation.nii.gz"),)]
    assert [line.reason for line in rejected if line.skipped] == ["a mask without an image of its name"]
    assert len(rejected) == 1


def test_learn2regs_masks_are_no_images(tmp_path: Path) -> None:
    """NLST's masksTr were learned as further images; where there are labels, too, they are used."""
    for name in ("imagesTr", "masksTr"):
        volume(tmp_path / name / "NLST_0001_0000.nii.gz")
        volume(tmp_path / name / "NLST_0001_0001.nii.gz")
    records, rejected = found(tmp_path, plane="volume")
    assert [Path(*record.masks).parent.name for record in records] == ["masksTr"] * 2 and not rejected
    volume(tmp_path / "labelsTr" / "NLST_0001_0001.nii.gz")
    records, rejected = found(tmp_path, plane="volume")
    assert [Path(*record.masks).parent.name for record in records] == ["masksTr", "labelsTr"]
    assert [line.reason for line in rejected] == ["another mask of its image is used (labelsTr/NLST_0001_0001.nii.gz)"]


def test_a_mask_that_begins_with_such_a_word_is_of_the_image_that_ends_as_it_does(tmp_path: Path) -> None:
    """LiTS: segmentation-0.nii was learned as an image of a liver."""
    for number in (0, 10):
        volume(tmp_path / f"lits/volume-{number}.nii")
        volume(tmp_path / f"lits/segmentation-{number}.nii")
        picture(tmp_path / f"apart/images/image_{number}.png", number)
        picture(tmp_path / f"apart/masks/mask_{number}.png")
    records, rejected = found(tmp_path / "lits", plane="volume")
    assert [(record.source, *record.masks) for record in records] == [
        (f"volume-{number}.nii", str(tmp_path / f"lits/segmentation-{number}.nii")) for number in (0, 10)]
    assert [len(record.masks) for record in found(tmp_path / "apart")[0]] == [1, 1] and not rejected
    volume(tmp_path / "lits/other-0.nii")
    assert [len(record.masks) for record in found(tmp_path / "lits", plane="volume", unmasked="keep")[0]] == [
        0, 0, 0, 1], "of which of two it is, nobody knows: it stays an image, as files of other names"
