"""Masks that lie beside DICOM series, and masks whose names are not those of their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from radsynth import io
from radsynth.image import Image
from tests.folder.examples import PROVENANCE, ct_series, found, picture, reasons, volume


def mask_of(series: Path, path: Path) -> np.ndarray:
    """A mask on the grid of a series, as other programs write it; its label values (slice, row, column)."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    scan = reader.Execute()
    labels = np.zeros(scan.GetSize()[::-1], np.uint8)
    labels[1, 2:5, 3] = 2
    mask = SimpleITK.GetImageFromArray(labels)
    mask.CopyInformation(scan)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(mask, str(path), useCompression=path.suffix == ".nrrd")
    return labels


def masks_of(folder: Path, **settings: object) -> dict[str, list[str]]:
    """Image or volume -> names of its masks."""
    records, _ = found(folder, plane="whole", **settings)
    return {record.source: [Path(mask).relative_to(folder).as_posix() for mask in record.masks] for record in records}


@pytest.mark.parametrize(("series", "mask"), [
    ("P1/CT", "P1/seg.nii.gz"),  # beside the folder of the series
    ("P1/CT", "P1/Segmentation.seg.nrrd"),  # as 3D Slicer calls it
    ("P1/CT", "P1/Segmentation-label.nrrd"),
    ("P1/CT", "P1/CT/Segmentation.seg.nrrd"),  # among the slices
    ("P1/CT", "P1/CT_seg.nii.gz"),  # named after the folder
    ("P1/CT", "P1/masks/liver.nii.gz"),
    ("P1/CT", "masks/P1.nii.gz"),
    ("P1", "masks/P1/liver.nii.gz"),
    ("images/P1/1.2.840.113", "labels/P1/1.2.840.113.nii.gz"),
    ("P1/CT", "P1/lung lesions_label.mhd"),
])
def test_a_mask_beside_a_dicom_series_is_its_own(series: str, mask: str, tmp_path: Path) -> None:
    for number in (1, 2):
        place = tmp_path / series.replace("P1", f"P{number}")
        place.parent.mkdir(parents=True, exist_ok=True)
        ct_series(tmp_path / "made", seed=number)[0].parent.rename(place)
        labels = mask_of(place, tmp_path / mask.replace("P1", f"P{number}"))
    records, rejected = found(tmp_path, plane="volume")
    assert not rejected
    for number, record in enumerate(records, 1):
        assert record.masks == (str(tmp_path / mask.replace("P1", f"P{number}")),)
        loaded = record.load()
        assert loaded.mask is not None and not loaded.regridded and np.array_equal(loaded.mask, labels)


def test_of_several_series_a_mask_is_of_the_one_with_its_grid(tmp_path: Path) -> None:
    ct_series(tmp_path / "P1/scout", count=1)
    ct_series(tmp_path / "P1/native", count=5, seed=1)
    ct_series(tmp_path / "P1/venous", count=6, seed=2)
    mask_of(tmp_path / "P1/venous", tmp_path / "P1/seg.nii.gz")
    records, rejected = found(tmp_path, plane="volume")
    assert [record.header.size[0] for record in records if record.header and record.masks] == [6]
    assert len(records) == 1 and len(rejected) == 2 and all("no mask" in line.reason for line in rejected)
    assert len(found(tmp_path, plane="volume", unmasked="keep")[0]) == 2
    ct_series(tmp_path / "P1/late", count=6, seed=3)
    records, rejected = found(tmp_path, plane="volume")
    assert len(records) == 3 and not any(record.masks for record in records)
    assert "several images" in reasons(rejected)["P1/seg.nii.gz"] and "folder of a series" in rejected[0].reason
    (tmp_path / "P1/seg.nii.gz").rename(tmp_path / "P1/late_seg.nii.gz")
    assert [record.source for record in found(tmp_path, plane="volume")[0]] == ["P1/late/0001.dcm"]


def test_radiographs_have_their_masks_by_name(tmp_path: Path) -> None:
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 4000, (1, 12, 10)).astype(np.uint16)
        io.write(Image(pixels=pixels, modality="DX", bits=12, spacing=(0.2, 0.2)), tmp_path / f"images/{number}.dcm",
                 provenance=PROVENANCE)
        picture(tmp_path / f"masks/{number}.png", number)
    assert masks_of(tmp_path) == {f"images/{number}.dcm": [f"masks/{number}.png"] for number in range(2)}


def test_masks_are_of_the_image_whose_name_begins_with_theirs_or_that_is_alone(tmp_path: Path) -> None:
    for name in ("sub-1_T1w", "sub-1_seg", "sub-2_T1w", "sub-2_seg", "sub-10_T1w", "sub-10_seg"):
        volume(tmp_path / f"bids/{name}.nii.gz")
    assert masks_of(tmp_path / "bids") == {f"sub-{n}_T1w.nii.gz": [f"sub-{n}_seg.nii.gz"] for n in (1, 10, 2)}
    names = {"sub-1/sub-1_space-MNI_T1w": "sub-1/sub-1_space-MNI_label-L_desc-T1lesion_mask",
             "sub-2/sub-2_T1w": "sub-2/sub-2_T1w_label-SC_seg", "sub-3/sub-3_T1w": "sub-3/sub-3_desc-tissues_dseg"}
    for name in [*names, *names.values()]:
        volume(tmp_path / f"more/{name}.nii.gz")
    assert masks_of(tmp_path / "more") == {f"{image}.nii.gz": [f"{mask}.nii.gz"] for image, mask in names.items()}
    for name in ("P1/ct", "P1/segmentation", "P2/ct", "P2/mask"):
        volume(tmp_path / f"own/{name}.nii.gz")
    assert masks_of(tmp_path / "own") == {"P1/ct.nii.gz": ["P1/segmentation.nii.gz"],
                                          "P2/ct.nii.gz": ["P2/mask.nii.gz"]}


def test_masks_of_which_nobody_knows_whose_they_are_are_told_and_never_taken_for_images(tmp_path: Path) -> None:
    for name in ("P1/a", "P1/b", "P1/seg", "P2/ct", "P2/ct_x", "P2/ct2_seg", "P3/ct", "P3/seg", "P3/mask"):
        volume(tmp_path / f"{name}.nii.gz")
    records, rejected = found(tmp_path, plane="volume")
    assert [record.source for record in records] == [f"{name}.nii.gz" for name in
                                                     ("P1/a", "P1/b", "P2/ct", "P2/ct_x", "P3/ct")]
    told = reasons(rejected)
    assert all(line.skipped for line in rejected) and not any(record.masks for record in records)
    assert "P1/a.nii.gz, P1/b.nii.gz" in told["P1/seg.nii.gz"] and "without an image" in told["P2/ct2_seg.nii.gz"]
    assert "of one image (2 of P3/ct.nii.gz)" in told["P3/seg.nii.gz"] == told["P3/mask.nii.gz"]


def test_masks_alone_are_images(tmp_path: Path) -> None:
    for name in ("P1/seg", "P2/seg", "x_label"):
        volume(tmp_path / f"{name}.nii.gz")
    assert len(found(tmp_path, plane="volume")[0]) == 3


def test_slices_of_a_torn_series_are_used_without_its_mask(tmp_path: Path) -> None:
    """The mask is one of the whole; before, every slice was rejected for a mask of another grid."""
    files = ct_series(tmp_path / "P1/CT", count=6)
    mask_of(tmp_path / "P1/CT", tmp_path / "P1/seg.nii.gz")
    files[2].unlink()
    records, rejected = found(tmp_path, incomplete="slices")
    assert len(records) == 5 and not any(record.masks for record in records)
    assert all(record.load().mask is None for record in records)
    assert [line.skipped for line in rejected] == [True] and "without a mask" in rejected[0].reason
