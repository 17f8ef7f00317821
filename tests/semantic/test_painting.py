"""Masks of one's own painted: geometry, formats, tiles, styles that an example lends."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.arrays import IntensityMap
from radsynth.datasets import Rejected
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.io import read, read_mask, write, write_labels
from radsynth.settings import resolve
from radsynth.verbs._applying.painter import Painter, format_for, mask_records
from radsynth.verbs.apply import apply
from radsynth.verbs.generate import generate
from radsynth.verbs.train import train
from tests.semantic.examples import AFFINE, Make, save_mask, trained_on
from tests.tables import rows
from tests.trained import made_grey
from tests.written import FROM


def test_apply_gives_geometry_back_and_larger_masks_are_painted_in_tiles_as_whole(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.zeros((3, 21, 40))
    values[:, 4:12, 6:16], values[:, 10:18, 25:35] = 2, 7
    save_mask(tmp_path / "masks" / "a.nii.gz", values, spacing=(3.0, 2.0, 2.0), affine=AFFINE)
    save_mask(tmp_path / "masks" / "b.nii.gz", values + 3, spacing=(3.0, 2.0, 2.0), affine=AFFINE)
    save_mask(tmp_path / "masks" / "c.nii.gz", values, spacing=(3.0, 5.0, 5.0),
              affine=AFFINE @ np.diag([2.5, 2.5, 1, 1]))
    found = apply(trained, tmp_path / "masks", tmp_path / "out", format="nifti", seed=4)
    assert found.count == 1
    reasons = {line.path: line.reason for line in found.rejected}
    assert "label values 3, 5, 10; the run was trained on label values 0, 2, 7" in reasons["b.nii.gz"]
    assert "spacing" in reasons["c.nii.gz"]
    image = read(tmp_path / "out" / rows(tmp_path / "out")[0]["file"])
    given = read_mask(tmp_path / "masks" / "a.nii.gz")
    assert isinstance(image, Image) and image.affine is not None and given.affine is not None
    assert image.space == given.space and np.allclose(image.affine, given.affine)
    bright, dim, black = (image.pixels[given.pixels == value].astype(float).mean() for value in (2, 7, 0))
    assert bright > dim > black + 20
    painter = Painter(trained, None, 4, None)
    mask = Image(pixels=np.tile(values[0], (5, 3))[None].astype(np.uint8))
    whole = painter.paint(mask, 0).pixels
    monkeypatch.setattr("radsynth.verbs._applying.tiles.LIMIT", {2: 1 << 10})
    assert np.abs(painter.paint(mask, 0).pixels.astype(int) - whole).max() <= 1


def test_dicom_segmentations_are_painted_by_the_names_of_their_labels(trained: Path, tmp_path: Path) -> None:
    """As `generate` and `apply` write them: segments are numbered 1, 2, whatever label values they have."""
    values = np.zeros((1, 3, 16, 16), np.uint8)
    values[:, :, 4:12, 6:10], values[:, :, 4:12, 10:14] = 2, 7
    mask = Image(pixels=values, spacing=(3.0, 2.0, 2.0), affine=AFFINE, channels=("mask",))
    for name, labels in (("known", {2: "label 2", 7: "label 7"}), ("other", {2: "label 2", 7: "liver"})):
        write_labels(mask, tmp_path / f"{name}.dcm", provenance=FROM, format="dicom", names=labels)
    (known, other), rejected = mask_records(tmp_path, [], labels={2: "label 2", 7: "label 7"}), []
    several = mask_records(tmp_path, [], labels={3: "label 2", 5: "GTV|Liver"})[1].load()
    assert np.array_equal(np.unique(several.pixels), [0, 3, 5])
    given = known.load()
    assert np.array_equal(np.unique(given.pixels), [0, 2, 7]) and given.spacing == pytest.approx((3.0, 2.0, 2.0))
    with pytest.raises(RejectedFile, match="it has liver; the run knows label 2, label 7"):
        other.load()
    found = apply(trained, tmp_path / "known.dcm", tmp_path / "out", seed=4)
    assert found.count == 1 and not rejected
    (image,) = read(tmp_path / "out" / "images" / "000000")  # type: ignore[misc]
    assert np.allclose(image.affine, given.affine, atol=1e-4)
    bright, dim, black = (image.pixels[given.pixels == value].astype(float).mean() for value in (2, 7, 0))
    assert bright > dim > black + 20


def test_images_are_written_in_their_masks_format(trained: Path, tmp_path: Path) -> None:
    """As the results of all tasks are; a picture would show Hounsfield units as other numbers."""
    values = np.zeros((3, 16, 16))
    values[:, 4:12, 6:16] = 2
    save_mask(tmp_path / "in" / "a b.nii", values)
    save_mask(tmp_path / "in" / "c.png", values[0])
    apply(trained, tmp_path / "in", tmp_path / "out")
    assert [row["file"] for row in rows(tmp_path / "out")] == ["images/000000.nii", "images/000001.png"]
    painter = Painter(trained, None, 0, None)
    records = mask_records(tmp_path / "in", [])
    assert [format_for(record, painter) for record in records] == ["nifti", "picture"]
    painter.spec = dataclasses.replace(painter.spec, units="HU", format="dicom")
    assert [format_for(record, painter) for record in records] == ["nifti", "dicom"]


def test_a_dicom_series_of_masks_is_painted_in_one_style_as_a_stack_is(trained: Path, tmp_path: Path) -> None:
    values = np.zeros((4, 16, 16))
    values[:, 4:12, 6:16] = 2
    more: dict[str, Any] = {"spacing": (3.0, 2.0, 2.0), "modality": "MR"}
    files = write(Image(pixels=values.astype(np.uint8)[None], **more), tmp_path / "series" / "a", provenance=FROM,
                  format="dicom")
    assert len(files) == 4
    save_mask(tmp_path / "stack.npz", values, **more)
    found = apply(trained, tmp_path / "series", tmp_path / "out", seed=4)
    assert found.count == 1 and {row["source"] for row in rows(found.folder)} == {"a/0001.dcm"}
    made = [read(found.folder / row["file"]).pixels.astype(int) for row in rows(found.folder)]
    apply(trained, tmp_path / "stack.npz", tmp_path / "stack", seed=4, format="npz")
    stack = read(tmp_path / "stack" / rows(tmp_path / "stack")[0]["file"]).pixels.astype(int)
    assert len(made) == 4 and np.array_equal(np.stack(made, axis=1), stack)
    files[1].unlink()  # no volume any more: slices alone, still of one patient
    save_mask(tmp_path / "series" / "b.png", values[0])
    found = apply(trained, tmp_path / "series", tmp_path / "lacking", seed=4, format="png")
    assert [row["source"] for row in rows(found.folder)] == ["a/0001.dcm", "a/0003.dcm", "a/0004.dcm", "b.png"]
    one, *others, other = (read(found.folder / row["file"]).pixels.astype(int) for row in rows(found.folder))
    assert all(np.array_equal(one, same) for same in others) and not np.array_equal(one, other)


def test_slices_of_one_patient_are_painted_in_one_style_and_others_are_not(trained: Path, tmp_path: Path) -> None:
    values = np.zeros((16, 16))
    values[4:12, 6:14] = 2
    for name in ("patient7/1.png", "patient7/2.png", "patient8/1.png", "x/1.png", "x/2.png"):
        save_mask(tmp_path / "in" / name, values)
    np.savez(tmp_path / "in" / "patient8" / "2.npz", mask=values.astype(np.uint8))
    found = apply(trained, tmp_path / "in", tmp_path / "out", seed=4, format="png")
    made = {row["source"]: read(found.folder / row["file"]).pixels for row in rows(found.folder)}
    same = {(one, other) for one in made for other in made if one < other and np.array_equal(made[one], made[other])}
    assert same == {("patient7/1.png", "patient7/2.png"), ("patient8/1.png", "patient8/2.npz")}


def test_the_pixels_of_a_masks_header_are_no_rejected_file(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    itk.WriteImage(itk.GetImageFromArray(np.zeros((3, 8, 8), np.uint8)), str(tmp_path / "a.mhd"))
    rejected: list[Rejected] = []
    assert [record.source for record in mask_records(tmp_path, rejected)] == ["a.mhd"] and not rejected


def test_masks_of_a_data_set_in_one_npz_are_painted(trained: Path, tmp_path: Path) -> None:
    """As `generate` writes pairs, and as the run may have been trained."""
    made = generate(trained, tmp_path / "pairs", count=3, data=trained.parent / "data", format="npz")
    pairs = made.folder / "synthetic.npz"
    found = apply(trained, pairs, tmp_path / "out", format="png", seed=4)
    assert found.count == 3 and rows(tmp_path / "out")[2]["source"] == "train_images/000002"
    with np.load(pairs) as content:
        np.savez(tmp_path / "blank.npz", images=0 * content["train_images"], masks=content["train_masks"])
        alone = save_mask(tmp_path / "000000.png", content["train_masks"][0])
        np.savez(tmp_path / "bare.npz", images=content["train_images"])
    first = apply(trained, alone, tmp_path / "first", format="png", seed=4)
    assert np.array_equal(*(read(folder / "images" / "000000.png").pixels for folder in (found.folder, first.folder)))
    blank = apply(trained, tmp_path / "blank.npz", tmp_path / "of_blank", format="png", seed=4)
    assert blank.count == 3 and not blank.rejected, "who has masks alone puts nothing where images ought to be"
    with pytest.raises(DataError, match="there is no mask beside it"):
        apply(trained, tmp_path / "bare.npz", tmp_path / "no")


def test_a_smaller_mask_is_painted_as_the_middle_of_one_of_the_training_size(trained: Path, tmp_path: Path) -> None:
    """As `prepare` lays smaller images: styles say what is where, background around the image above all."""
    painter, small = Painter(trained, None, 4, None), np.zeros((1, 9, 14), np.uint8)
    small[:, 3:8, 4:9] = 2
    whole = np.pad(small, [(0, 0), (3, 4), (1, 1)])
    assert painter.spec.size == (16, 16)
    made, of_whole = (painter.paint(Image(pixels=one), 0).pixels for one in (small, whole))
    assert np.array_equal(made, of_whole[:, 3:12, 1:15])
    mask = save_mask(tmp_path / "mask.png", small[0])
    assert apply(trained, mask, tmp_path / "out").unchecked == ("spacing",), "pictures do not say it"


def test_a_smaller_example_lends_the_style_of_one_in_the_middle_of_background(trained: Path, tmp_path: Path) -> None:
    """Also where 0 is not background, as in CT."""
    painter = Painter(trained, None, 0, None)
    painter.intensity = IntensityMap(method="window", low=-1000.0, high=1000.0, levels=painter.intensity.levels)
    small = np.random.default_rng(0).integers(-500, 900, (1, 9, 14)).astype(np.int16)
    whole = np.pad(small, [(0, 0), (3, 4), (1, 1)], constant_values=-1000)
    styles = [painter._style_of(write(Image(pixels=pixels, bits=16), tmp_path / f"{name}.nii.gz", provenance=FROM)[0])
              for name, pixels in (("small", small), ("whole", whole))]
    assert torch.equal(*styles)


def test_an_example_lends_its_style_and_a_mask_of_black_and_white_is_taken(make_masked: Make, tmp_path: Path) -> None:
    data = make_masked(n=24)
    masks = np.load(data / "shards" / "00000.masks.npy")
    np.save(data / "shards" / "00000.masks.npy", (masks > 0).astype(np.uint8))
    text = (data / "manifest.json").read_text().replace('"mask_values": [0, 2, 7]', '"mask_values": [0, 1]')
    (data / "manifest.json").write_text(text)
    run = trained_on(data, tmp_path / "run", "train.images=400")
    mask = save_mask(tmp_path / "mask.png", np.where(masks[1] > 0, 255, 0))
    images = np.load(data / "shards" / "00000.images.npy")
    made = []
    for number in (0, 1):  # a dim disc, a bright one
        example = write(Image(pixels=images[number]), tmp_path / f"{number}.png", provenance=FROM)[0]
        apply(run, mask, tmp_path / f"out{number}", style=example)
        made.append(read(tmp_path / f"out{number}" / rows(tmp_path / f"out{number}")[0]["file"]))
    one, other = (image.pixels[0][masks[1] > 0].astype(float) for image in made)
    assert other.mean() > one.mean() + 10
    for style in (tmp_path / "run" / "log.jsonl", tmp_path / "run"):
        with pytest.raises(DataError, match=r"cannot lend its style.* Give one image"):
            apply(run, mask, tmp_path / "no", style=style)
    colour = Image(pixels=np.concatenate([images[1], images[0], images[0]]), channels=("red", "green", "blue"))
    example = write(colour, tmp_path / "colour.png", provenance=FROM)[0]
    with pytest.raises(DataError, match="its channels are red, green, blue"):
        apply(run, mask, tmp_path / "no", style=example)
    made_grey(run)
    assert apply(run, mask, tmp_path / "out2", style=example).count == 1
    with pytest.raises(SettingsError, match="--seed draws a style for each: give one"):
        apply(run, mask, tmp_path / "no", style=example, seed=0)
    with pytest.raises(DataError, match="which is to lend its style, does not exist"):
        apply(run, mask, tmp_path / "no", style=tmp_path / "nowhere.png")
    deep = write(Image(pixels=images[1].astype(np.uint16) * 16, bits=12), tmp_path / "deep.png", provenance=FROM)[0]
    with pytest.raises(DataError, match=r"cannot lend its style: its values go up to \d+; the run was trained on"):
        apply(run, mask, tmp_path / "no", style=deep)
    shutil.make_archive(str(tmp_path / "masks"), "zip", tmp_path, "mask.png")
    assert apply(run, tmp_path / "masks.zip", tmp_path / "packed").count == 1
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        apply(run, tmp_path / "nowhere", tmp_path / "no")


def test_only_runs_that_paint_take_a_style(make_masked: Make, tmp_path: Path) -> None:
    train(make_masked(n=12), tmp_path / "run", settings=resolve(overrides=(
        "task.kind=segment", "model.width=8", "train.images=16", "train.batch=8", "train.previews=0")))
    with pytest.raises(SettingsError, match="paints no masks"):
        apply(tmp_path / "run", tmp_path / "data", tmp_path / "out", seed=3)
