"""Label maps of one's own images: grid, marks, shares, what they lack or are expected to miss."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.errors import DataError
from radsynth.image import Image, ImageSpec
from radsynth.io import read, read_mask, write
from radsynth.io._dicom_structures import labels_on
from radsynth.settings import resolve
from radsynth.verbs._applying.not_found import expected_labels
from radsynth.verbs._applying.segmenter import LEAST, expected_mismatch
from radsynth.verbs._pairs.segmentation import evaluate_segmentation
from radsynth.verbs.apply import apply
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from tests.segment.examples import AFFINE, SMALL, Make, Unmask, task_of
from tests.tables import rows
from tests.written import FROM


def test_what_a_label_map_is_expected_to_miss_is_that_of_its_worst_label() -> None:
    labels = np.zeros((4, 16, 16), np.int64)
    labels[:3, :8], labels[:3, 8:12, :4] = 1, 2
    share = np.ones(labels.shape, np.float32)
    second, less = np.zeros_like(labels), np.zeros_like(share)
    share[1:3, 8:12, :4] = less[1:3, 8:12, :4] = 0.5  # label 2, of 16 pixels, could as well be background,
    second[2, 8:12, :4] = 1  # or label 1,
    second[3, :2, :2], less[3, :2, :2], share[3, :2, :2] = 2, 0.4, 0.6  # or be there where none was drawn
    sure, unsure, other, missed = expected_mismatch(labels, second, share, less)
    assert sure == 0 and unsure == pytest.approx(100 * 8 / (24 + LEAST)) == other
    assert missed == pytest.approx(100 * 1.6 / (1.6 + LEAST))


@pytest.mark.parametrize("values", [(0, 1), (0, 3, 117)])
def test_labels_with_their_shares_are_those_that_the_network_gives(values: tuple[int, ...]) -> None:
    task = task_of(spec=ImageSpec(size=(16, 16), mask_classes=values[-1] + 1, mask_values=values))
    scores = torch.randn(2, len(values), 16, 16)
    first, second, share, less = task.likeliest(torch.nn.Identity(), scores).unbind(1)
    assert torch.equal(first, task.convert(torch.nn.Identity(), scores)[:, 0]) and (first != second).all()
    assert {*first.unique().tolist(), *second.unique().tolist()} == set(values)
    shares = scores.softmax(1)
    assert torch.allclose(share, shares.amax(1)) and ((share + less <= 1 + 1e-6) & (less <= share)).all()
    if len(values) == 2:  # with two labels nothing is left out: the overlap of shares with labels, of all pixels
        drawn = (first == values[1]).float()
        wrong, all_ = (shares[:, 1] - drawn).abs().sum((1, 2)), (shares[:, 1] + drawn).sum((1, 2))
        found = expected_mismatch(*(part.numpy() for part in (first, second, share, less)))
        assert np.allclose(found, 100 * wrong / (all_ + LEAST), rtol=1e-5)


def test_label_maps_of_a_volume_lie_on_its_grid(make_masked: Make, tmp_path: Path) -> None:
    data = make_masked(values=(1,), modality="MR", bits=12, format="nifti", spacing=(2.0, 2.0))
    train(data, tmp_path / "run", settings=resolve(overrides=(*SMALL, "train.images=800")))  # intensity alone tells
    row, column = np.ogrid[:24, :18]
    plane = np.where((row - 10) ** 2 + (column - 9) ** 2 < 18, 200, 10).astype(np.uint16)
    volume = Image(pixels=np.stack([plane] * 6)[None], modality="MR", bits=12, spacing=(3.0, 2.0, 2.0), affine=AFFINE)
    for ending, expected in ((".nii.gz", ".nii.gz"), (".mha", ".mha"), (".npz", ".npz"), (".dcm", ".dcm")):
        write(volume, tmp_path / f"scan{ending}", provenance=FROM)
        source, out = tmp_path / ("scan" if ending == ".dcm" else f"scan{ending}"), tmp_path / f"out{ending}"
        apply(tmp_path / "run", source, out)
        line, = rows(out)
        assert line["file"].endswith(expected) and float(line["mismatch"]) >= 0
        original = read(source)
        original = original[0] if isinstance(original, list) else original
        if ending == ".dcm":  # an object of its own, in the same frame of reference
            labels, regridded = labels_on([out / line["file"]], {"label 1": 1}, original)
            assert not regridded
        else:
            made = read(out / line["file"])
            assert isinstance(made, Image) and made.space == original.space
            assert made.affine is not None and original.affine is not None
            assert np.allclose(made.affine, original.affine, atol=1e-3)
            labels = read_mask(out / line["file"]).pixels[0]
        assert set(np.unique(labels)) <= {0, 1}
        inside = original.pixels[0] > 100
        assert (labels[inside] > 0).mean() > 0.9 and (labels[~inside] > 0).mean() < 0.1, "labels lie where the disc is"
    fine = Image(pixels=volume.pixels.repeat(3, 2).repeat(3, 3), modality="MR", bits=12, spacing=(3.0, 2 / 3, 2 / 3))
    write(fine, tmp_path / "fine.nii.gz", provenance=FROM)
    apply(tmp_path / "run", tmp_path / "fine.nii.gz", tmp_path / "resampled", resample=True)
    labels = read_mask(tmp_path / "resampled" / rows(tmp_path / "resampled")[0]["file"]).pixels[0]
    inside = fine.pixels[0] > 100
    assert labels.shape == fine.space and (labels[inside] > 0).mean() > 0.9 and (labels[~inside] > 0).mean() < 0.1


def test_label_maps_of_pictures_are_marked_and_dicom_needs_a_place(make_masked: Make, tmp_path: Path) -> None:
    from PIL import Image as Picture

    train(make_masked(n=24), tmp_path / "run", settings=resolve(overrides=(*SMALL, "train.images=400")))
    write(Image(pixels=np.pad(np.full((1, 9, 9), 200, np.uint8), ((0, 0), (5, 20), (6, 9)))), tmp_path / "one.png",
          provenance=FROM)
    apply(tmp_path / "run", tmp_path / "one.png", tmp_path / "out")
    line, = rows(tmp_path / "out")
    with Picture.open(tmp_path / "out" / line["file"]) as picture:
        assert picture.size == (24, 34) and picture.getextrema()[1] in (1, 2)
        assert "DERIVED" in str(picture.info) and "Task: segment" in str(picture.info)
    with pytest.raises(DataError, match="a DICOM segmentation needs a place, which nobody knows"):
        apply(tmp_path / "run", tmp_path / "one.png", tmp_path / "other", format="dicom")


def test_a_label_of_every_training_mask_that_is_not_found_is_flagged(make_masked: Make, tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    data, run, source = make_masked(values=(1,)), tmp_path / "run", tmp_path / "images"
    train(data, run, settings=resolve(overrides=(*SMALL, "train.images=400")))
    noise = np.random.default_rng(0).integers(0, 20, (1, 16, 16)).astype(np.uint8)
    disc = noise.copy()
    disc[:, 4:12, 4:12] = 200
    source.mkdir()
    for name, pixels in (("a", noise), ("b", disc), ("c", noise[:, ::-1])):
        write(Image(pixels=pixels), source / f"{name}.png", provenance=FROM)
    apply(run, source, tmp_path / "before")
    assert "not_found" not in rows(tmp_path / "before")[0], "nobody has looked at the training masks"
    assert evaluate_segmentation(run, Prepared(data), out=run)["expected_labels"] == [1]
    capsys.readouterr()
    made, lines = apply(run, source, tmp_path / "out"), rows(tmp_path / "out")
    assert [("not_found" in line["flagged"].split(), line["not_found"]) for line in lines] == [
        (True, "label 1"), (False, ""), (True, "label 1")]
    assert made.flagged is not None and made.flagged >= 2
    assert "label 1 is not found in a.png and 1 more image, and nearly every training mask has it" in " ".join(
        capsys.readouterr().err.split())


def test_labels_that_images_may_lack_are_not_expected(make_masked: Make, without_masks: Unmask) -> None:
    prepared = Prepared(make_masked())
    assert expected_labels(prepared) == [], "every image has one of two labels"
    masks = prepared.stored(np.arange(48), "masks")
    half = without_masks(prepared.folder, np.flatnonzero((masks == 2).any((1, 2))))
    assert expected_labels(half) == [1], "of the images with masks"


@pytest.mark.parametrize(("options", "expected"), [
    (["data.plane=axial", "prepare.size=[32,32]"], []), (["data.plane=whole", "prepare.size=[8,32,32]"], [1]),
    (["data.plane=whole", "prepare.fit=patches", "prepare.size=[4,16,16]"], [1])])
def test_slices_of_a_volume_are_masks_each_and_crops_of_an_image_are_one(
    options: list[str], expected: list[int], tmp_path: Path,
) -> None:
    """A label that every volume has, in two slices of eight: single slices without it lack nothing."""
    (tmp_path / "given").mkdir()
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 200, (32, 32, 8)).astype(np.uint8)
        mask = np.zeros_like(values)
        mask[4:12, 4:12, 5:7] = 1
        for end, array in (("", values), ("_seg", mask)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "given" / f"sub-{number}{end}.nii.gz")
    assert expected_labels(prepare(tmp_path / "given", tmp_path / "data", overrides=[
        "data.modality=MR", "prepare.train=1.0", "prepare.validation=0.0", *options])) == expected
