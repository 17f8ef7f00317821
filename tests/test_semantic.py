"""Images from masks: what the mask says is painted, one mask has many images, pairs are written, what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.arrays import IntensityMap, Prepared
from radsynth.augment import Settings as Augmentation
from radsynth.datasets import Rejected, recognise
from radsynth.errors import DataError, FolderError, SettingsError
from radsynth.image import Image, ImageSpec
from radsynth.io import Provenance, read, read_mask, write
from radsynth.settings import resolve
from radsynth.tasks import build, paints, segments
from radsynth.verbs._agreement import _segmenter, measure_agreement
from radsynth.verbs._applying.paint import Painter, format_for, mask_records
from radsynth.verbs._writing import Drawn
from radsynth.verbs.apply import apply
from radsynth.verbs.generate import draw, generate
from radsynth.verbs.prepare import prepare
from radsynth.verbs.run import run
from radsynth.verbs.train import train
from tests.tables import rows
from tests.trained import made_grey

Make = Callable[..., Path]
SMALL = ("task.kind=semantic", "model.width=8", "model.widest=16", "model.hidden=8", "model.latent=4", "train.batch=8",
         "model.discriminator_width=8", "task.styles=principal", "train.previews=1", "train.precision=32-true",
         "train.rate=0.002", "train.images=1600")
VALUES = (0, 2, 7)
FROM = Provenance(model="none", weights="", seed=0, index=0)
AFFINE = np.array([[0.0, 2, 0, -10], [2, 0, 0, 7], [0, 0, 3, 30], [0, 0, 0, 1]])


@pytest.fixture
def make_masked(make_prepared: Make) -> Make:
    """Discs of label 2, bright, and of label 7, dim, on black, with noise."""

    def make(n: int = 48, size: tuple[int, ...] = (16, 16), **more: Any) -> Path:
        folder = make_prepared(n=n, size=size, mask_classes=8, mask_values=VALUES, **more)
        images = np.load(folder / "shards" / "00000.images.npy")
        inside = images[:, 0] > 70
        bright = (np.arange(n) % 2).reshape(-1, *[1] * len(size)) > 0
        noise = np.random.default_rng(0).integers(0, 20, images.shape)
        images[:] = np.where(inside & bright, 220, np.where(inside, 110, 10))[:, None] + noise
        np.save(folder / "shards" / "00000.images.npy", images)
        np.save(folder / "shards" / "00000.masks.npy", np.where(inside, np.where(bright, 2, 7), 0).astype(np.uint8))
        return folder

    return make


@pytest.fixture
def trained(make_masked: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained once, with its data beside it."""
    data, kept = make_masked(spacing=(2.0, 2.0)), tmp_path_factory.getbasetemp() / "semantic-run"
    if not kept.exists():
        trained_on(data, kept)
    shutil.copytree(kept, tmp_path / "run")
    return tmp_path / "run"


def trained_on(data: Path, run: Path, *overrides: str) -> Path:
    train(data, run, settings=resolve({"seed": 1}, overrides=(*SMALL, *overrides)))
    return run


def task_of(*overrides: str, spec: ImageSpec) -> Any:
    settings = resolve(overrides=("task.kind=semantic", *overrides), sections=("task", "model"))
    return build(settings.section("task"), settings.section("model"), Augmentation(), spec)


def save_mask(path: Path, values: np.ndarray[Any, Any], **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(Image(pixels=values.astype(np.uint8)[None], **more), path, provenance=FROM)[0]


def test_data_without_masks_is_refused_and_values_become_classes() -> None:
    with pytest.raises(SettingsError, match="learns from images with masks"):
        task_of(spec=ImageSpec(size=(16, 16)))
    task = task_of(spec=ImageSpec(size=(16, 16), mask_classes=8, mask_values=VALUES, labels=("a", "b")))
    assert paints(task) and not segments(task)
    given = task.given(torch.tensor([[[0, 2], [7, 7]]]), torch.tensor([1]))
    assert given.shape == (1, 5, 2, 2)
    assert given[0, :3].argmax(0).tolist() == [[0, 1], [2, 2]] and given[0, 3:, 0, 0].tolist() == [0, 1]


def test_the_image_shows_what_the_mask_says_and_other_seeds_show_it_otherwise(trained: Path) -> None:
    found = draw(trained, 16, seed=5, data=trained.parent / "data")
    assert found.masks is not None and found.images.shape == (16, 1, 16, 16)
    assert set(np.unique(found.masks)) == set(VALUES)
    means = [found.images[:, 0][found.masks == value].mean() for value in VALUES]
    assert means[0] < means[2] - 0.3 < means[1] - 0.6  # background, dim, bright
    again = draw(trained, 3, seed=5, data=trained.parent / "data")
    assert np.allclose(again.images, found.images[:3], atol=1e-5) and np.array_equal(again.masks, found.masks[:3])
    painter = [Painter(trained, None, seed, None) for seed in (0, 1)]
    mask = Image(pixels=found.masks[:1], spacing=(2.0, 2.0))
    one, other = (p.paint(mask, 0).pixels.astype(float) for p in painter)
    assert np.abs(one - other).mean() > 0
    assert np.array_equal(one, painter[0].paint(mask, 0).pixels)


def test_pairs_are_written_and_read_back_as_images_with_masks(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="masks of the training patients"):
        generate(trained, tmp_path / "pairs", count=3)
    data = trained.parent / "data"
    for format in ("picture", "nifti", "dicom", "npz"):
        out = tmp_path / format
        generate(trained, out, count=5, format=format, data=data)
        table = rows(out)
        assert [int(row["index"]) for row in table] == list(range(5))
        if format == "npz":
            with np.load(out / "synthetic.npz", allow_pickle=False) as content:
                assert content["train_masks"].shape == (5, 16, 16)
                assert set(np.unique(content["train_masks"])) <= set(VALUES)
            assert "in train_masks of the same file" in (out / "README.md").read_text(encoding="utf-8")
            continue
        masks = [read_mask(out / row["mask"]) for row in table]
        assert all(set(np.unique(mask.pixels)) <= set(VALUES) for mask in masks)
        assert np.array_equal(np.stack([m.pixels[0].reshape(16, 16) for m in masks]), draw(trained, 5, data=data).masks)
    settings = resolve({"data": {"kind": recognise(tmp_path / "picture"), "path": str(tmp_path / "picture")},
                        "prepare": {"size": [16, 16]}}, sections=("data", "prepare"))
    back = prepare(settings.section("data"), tmp_path / "back", settings=settings)
    assert len(back.rows) == 5 and set(back.spec.mask_values) <= set(VALUES) and back.spec.mask_classes == 8


def test_pairs_learned_from_dicom_are_written_so_that_they_can_be_read_back(trained: Path, tmp_path: Path) -> None:
    described = json.loads((trained / "spec.json").read_text())
    described["spec"] |= {"format": "dicom", "modality": "MR"}
    (trained / "spec.json").write_text(json.dumps(described))
    assert generate(trained, tmp_path / "pairs", count=3, data=trained.parent / "data").format == "nifti"
    settings = resolve({"data": {"kind": "folder", "path": str(tmp_path / "pairs")}, "prepare": {"size": [16, 16]}})
    back = prepare(settings.section("data"), tmp_path / "back", settings=settings)
    assert back.spec.mask_classes and len(back.rows) == 3


def test_masks_come_from_training_patients_alone(trained: Path) -> None:
    prepared = Prepared(trained.parent / "data")
    masks = np.load(trained.parent / "data" / "shards" / "00000.masks.npy")
    held_out = prepared.indices("test")
    masks[held_out] = 0
    np.save(trained.parent / "data" / "shards" / "00000.masks.npy", masks)
    found = draw(trained, 32, data=trained.parent / "data").masks
    assert found is not None and (found > 0).any((1, 2)).all()


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


def drawing_run(data: Path, run: Path, images: int = 1200) -> Path:
    train(data, run, settings=resolve({"seed": 1}, overrides=(
        "task.masks=true", "task.warm_start=0.4", "task.anchor=10", "model.width=8", "model.latent=8", "train.batch=8",
        f"train.images={images}", "train.previews=1", "train.precision=32-true", "train.rate=0.002")))
    return run


def test_masks_that_another_run_draws_are_painted(trained: Path, tmp_path: Path) -> None:
    drawing = drawing_run(trained.parent / "data", tmp_path / "drawing")
    shutil.move(trained.parent / "data", tmp_path / "away")  # no patient's mask is read
    generate(trained, tmp_path / "pairs", count=20, masks=drawing, seed=2)
    table = rows(tmp_path / "pairs")
    masks = np.concatenate([read_mask(tmp_path / "pairs" / row["mask"]).pixels for row in table])
    images = np.concatenate([read(tmp_path / "pairs" / row["file"]).pixels for row in table])
    assert set(np.unique(masks)) == set(VALUES) and len({mask.tobytes() for mask in masks}) > 10
    black, bright, dim = (images[masks == value].astype(float).mean() for value in VALUES)
    assert bright > dim > black + 20, "the images show what the drawn masks say"
    generate(trained, tmp_path / "few", count=2, masks=drawing, seed=2)
    assert np.array_equal(read_mask(tmp_path / "few" / table[1]["mask"]).pixels[0], masks[1])
    generate(trained, tmp_path / "pairs", count=20, masks=drawing, seed=2)  # the same request: left as it is
    with pytest.raises(SettingsError, match="draws no masks"):
        generate(trained, tmp_path / "no", count=2, masks=trained)
    with pytest.raises(SettingsError, match="paints no masks"):
        generate(drawing, tmp_path / "no", count=2, masks=drawing)
    for no_run in (tmp_path / "nowhere", tmp_path / "pairs" / "masks"):
        with pytest.raises(FolderError, match=r"not a run folder.*masks=true.*apply RUN MASKS OUT"):
            generate(trained, tmp_path / "no", count=2, masks=no_run)
    other = tmp_path / "away" / "manifest.json"
    other.write_text(other.read_text().replace('"data_hash": "data"', '"data_hash": "other"'))
    stranger = drawing_run(tmp_path / "away", tmp_path / "stranger", 8)
    with pytest.raises(SettingsError, match="trained on other data"):
        generate(trained, tmp_path / "no", count=2, masks=stranger)


def test_images_are_drawn_together_with_their_masks(make_masked: Make, tmp_path: Path) -> None:
    drawing_run(make_masked(n=48), tmp_path / "run")
    found = draw(tmp_path / "run", 20)
    assert found.masks is not None and found.images.shape == (20, 1, 16, 16) and found.masks.shape == (20, 16, 16)
    assert set(np.unique(found.masks)) <= set(VALUES) and 0.02 < (found.masks > 0).mean() < 0.6
    inside, outside = (found.images[:, 0][(found.masks > 0) == there].mean() for there in (True, False))
    assert inside > outside + 0.3
    generate(tmp_path / "run", tmp_path / "out", count=3)
    for row, mask in zip(rows(tmp_path / "out"), found.masks, strict=False):
        assert np.array_equal(read_mask(tmp_path / "out" / row["mask"]).pixels[0], mask)
    with pytest.raises(SettingsError, match="draws images with masks"):
        settings = resolve(overrides=("task.masks=true",), sections=("task", "model"))
        build(settings.section("task"), settings.section("model"), Augmentation(), ImageSpec(size=(16, 16)))


def test_agreement_is_high_for_true_masks_alone(make_masked: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radsynth.verbs._agreement.STEPS", 60)
    prepared = Prepared(make_masked(n=60, size=(16, 16)))
    chosen = prepared.indices("train")
    made = Drawn(images=prepared.images(chosen), labels=prepared.labels(chosen), masks=prepared.stored(chosen, "masks"))
    true = measure_agreement(prepared, made, repetitions=10, seed=0)
    swapped = Drawn(images=made.images, labels=made.labels, masks=np.roll(made.masks, 5, axis=2))
    false = measure_agreement(prepared, swapped, repetitions=10, seed=0)
    assert true["measurement"]["value"] > 0.8 and true["measurement"]["floor"] > 0.8
    assert false["measurement"]["value"] < 0.6 and false["measurement"]["high"] < true["measurement"]["low"]
    assert [line["label"] for line in true["labels"]] == [2, 7] and true["measurement"]["n"] == 20


def test_the_segmenter_of_the_agreement_learns_from_training_patients_alone(
    make_masked: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, seen = Prepared(make_masked(n=60, size=(16, 16))), []
    monkeypatch.setattr("radsynth.verbs._agreement.fit", lambda recipe, sources, *_: seen.extend(sources))
    _segmenter(prepared, 3, 0)
    (examples,), rows = seen, prepared.indices("train")
    assert np.array_equal(examples.images, prepared.images(rows)) and 0 < len(rows) < 60
    assert np.array_equal(np.array(VALUES)[examples.masks], prepared.stored(rows, "masks"))


def test_the_main_job_makes_pairs_measures_them_and_shows_masks_in_the_report(
    make_masked: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radsynth.verbs._agreement.STEPS", 40)
    stored = make_masked(n=40) / "shards"
    images, masks = np.load(stored / "00000.images.npy"), np.load(stored / "00000.masks.npy")
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        for folder, pixels in (("images", image[0]), ("masks", mask)):
            save_mask(tmp_path / "scans" / folder / f"patient{number}.png", pixels)
    done = run(tmp_path / "scans", tmp_path / "run", overrides=(
        *SMALL, "train.images=240", "generate.count=24", "evaluate.images=50", "evaluate.repetitions=10"))
    assert done.synthetic is not None and len(list((done.synthetic / "masks").glob("*.png"))) == 24
    (found,) = [one for one in done.results["measurements"] if one["name"] == "mask_agreement"]
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1 and found["floor"] > 0.5
    assert [line["label"] for line in done.results["agreement"]["labels"]] == [2, 7]
    page = done.report.read_text(encoding="utf-8")
    assert "Masks and images" in page and "which training never saw" in page and "Agreement with the masks" in page


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_images_of_the_embedded_cohort_show_what_their_masks_say(tmp_path: Path) -> None:
    """As `radsynth run` trains them, but for a fixed number of images."""
    done = run(None, tmp_path / "run", budget="4000img", overrides=(
        "task.kind=semantic", "generate.count=150", "evaluate.images=150", "evaluate.repetitions=10"))
    (found,) = [one for one in done.results["measurements"] if one["name"] == "mask_agreement"]
    assert found["value"] > 0.6 * found["floor"] > 0.3
