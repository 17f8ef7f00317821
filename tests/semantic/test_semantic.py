"""Images from masks: what the mask says is painted, one mask has many images, pairs are written, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.datasets import folder, recognise
from radsynth.errors import FolderError, SettingsError
from radsynth.image import Image, ImageSpec
from radsynth.io import read, read_mask
from radsynth.settings import resolve
from radsynth.tasks import build, paints, segments
from radsynth.verbs._agreement import _segmenter, measure_agreement, side_by_side
from radsynth.verbs._applying.painter import Painter
from radsynth.verbs._grid import black_and_white, shades
from radsynth.verbs._writing import Drawn
from radsynth.verbs.generate import draw, generate
from radsynth.verbs.prepare import prepare
from radsynth.verbs.run import run
from tests.semantic.examples import SMALL, VALUES, Make, drawing_run, save_mask, task_of
from tests.tables import rows


def test_data_without_masks_is_refused_and_values_become_classes() -> None:
    with pytest.raises(SettingsError, match="learns from images with masks"):
        task_of(spec=ImageSpec(size=(16, 16)))
    task = task_of(spec=ImageSpec(size=(16, 16), mask_classes=8, mask_values=VALUES, labels=("a", "b")))
    assert paints(task) and not segments(task)
    given = task.given(torch.tensor([[[0, 2], [7, 7]]]), torch.tensor([1]))
    assert given.shape == (1, 5, 2, 2)
    assert given[0, :3].argmax(0).tolist() == [[0, 1], [2, 2]] and given[0, 3:, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("styles", ["learned", "principal"])
def test_a_network_that_takes_no_masks_is_refused(styles: str) -> None:
    with pytest.raises(SettingsError, match=r"model.kind=unet takes image, but this task's network must take mask"):
        task_of("model.kind=unet", f"task.styles={styles}", spec=ImageSpec(size=(16, 16), mask_classes=2)).networks()


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
        if format == "dicom":  # segmentation objects, which name the images that they are of
            records = list(folder.records(folder.Settings(path=out), rejected := []))
            assert not rejected and [Path(record.files[0]).name for record in records] == [
                Path(record.masks[0]).name for record in records]
            masks = [record.load().mask for record in records]
        else:
            masks = [read_mask(out / row["mask"]).pixels[0].reshape(16, 16) for row in table]
        assert np.array_equal(np.stack(masks), draw(trained, 5, data=data).masks)
    settings = resolve({"data": {"kind": recognise(tmp_path / "picture"), "path": str(tmp_path / "picture")},
                        "prepare": {"size": [16, 16]}}, sections=("data", "prepare"))
    back = prepare(settings.section("data"), tmp_path / "back", settings=settings)
    assert len(back.rows) == 5 and set(back.spec.mask_values) <= set(VALUES) and back.spec.mask_classes == 8


def test_pairs_learned_from_dicom_are_written_so_that_they_can_be_read_back(trained: Path, tmp_path: Path) -> None:
    """Also where it has no pixel size, as pictures that were put into DICOM."""
    described = json.loads((trained / "spec.json").read_text())
    described["spec"] |= {"format": "dicom", "modality": "OT", "spacing": None}
    (trained / "spec.json").write_text(json.dumps(described))
    assert generate(trained, tmp_path / "pairs", count=3, data=trained.parent / "data").format == "dicom"
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
        build(settings, ImageSpec(size=(16, 16)))


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
    monkeypatch.setattr("radsynth.verbs._agreement.STEPS", 1)
    _segmenter(prepared, 3, 0)
    assert len(seen[1]) == 16 < len(rows)  # all of them would fill the memory, for no more than is shown


def test_pictures_beside_masks_have_every_channel_and_the_window_of_ct(make_masked: Make) -> None:
    """Only the first contrast was kept, and CT from air to bone, where soft tissue is one grey."""
    prepared = Prepared(make_masked(n=12, units="HU", window=(0.0, 100.0), channels=("native", "contrast")))
    chosen = np.arange(3)
    images = np.stack([prepared.images(chosen)[:, 0]] * 2, axis=1)
    images[:, 1] *= -1
    made = Drawn(images=images, labels=prepared.labels(chosen), masks=prepared.stored(chosen, "masks"))
    nobody: Any = None  # without real images nothing is painted
    kept = side_by_side(nobody, prepared, made, seed=0, real=False)
    assert kept.shape == (3, 2, 2, 16, 16), "image, mask or synthetic, channel"
    ends = black_and_white((0.0, 100.0), prepared.intensity)
    assert ends != (-1.0, 1.0) and np.array_equal(kept[:, 1], shades(images, ends))
    assert np.array_equal(kept[:, 0, 0], kept[:, 0, 1]) and set(np.unique(kept[:, 0])) <= {0, 127, 255}


def test_the_main_job_makes_pairs_measures_them_and_shows_masks_in_the_report(
    make_masked: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radsynth.verbs._agreement.STEPS", 40)
    stored = make_masked(n=40) / "shards"
    images, masks = np.load(stored / "00000.images.npy"), np.load(stored / "00000.masks.npy")
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        for part, pixels in (("images", image[0]), ("masks", mask)):
            save_mask(tmp_path / "scans" / part / f"patient{number}.png", pixels)
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
