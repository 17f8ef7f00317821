"""Segmentation: losses against closed forms, learning, resume, label maps in the input's geometry, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from radsynth.arrays import NO_MASK, Prepared
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import Image, ImageSpec
from radsynth.io import write
from radsynth.settings import resolve
from radsynth.tasks import segments, takes_images
from radsynth.tasks._again import images_to_draw_again
from radsynth.verbs._applying.limits import limits
from radsynth.verbs._applying.segmenter import Segmenter
from radsynth.verbs._pairs.label_baselines import label_baselines
from radsynth.verbs._pairs.segmentation import evaluate_segmentation
from radsynth.verbs.apply import apply
from radsynth.verbs.report import report
from radsynth.verbs.train import train
from tests.discs import in_patients
from tests.segment.examples import SMALL, Make, Unmask, task_of
from tests.tables import rows
from tests.trained import resumes, weights
from tests.written import FROM


def test_data_without_masks_and_a_loss_of_nothing_are_refused() -> None:
    with pytest.raises(SettingsError, match="learns from masks"):
        task_of(spec=ImageSpec(size=(16, 16)))
    with pytest.raises(SettingsError, match="those of this data are empty: they hold 0 everywhere"):
        task_of(spec=ImageSpec(size=(16, 16), mask_classes=1, mask_values=(0,)))
    with pytest.raises(SettingsError, match=r"129 different values.*prepare\.masks=instances"):
        task_of(spec=ImageSpec(size=(16, 16), mask_classes=129))
    with pytest.raises(SettingsError, match="which labels are right"):
        task_of("task.dice=0", "task.entropy=0", spec=ImageSpec(size=(16, 16), mask_classes=2))


def test_plain_means_no_discriminator_and_several_channels_are_taken() -> None:
    spec = ImageSpec(size=(16, 16), channels=("t1", "t2"), mask_classes=4)
    task = task_of("task.adversarial=0", spec=spec)
    assert set(task.networks()) == {"generator"} and len(task.turns()) == 1
    assert set(task_of("task.adversarial=0.01", spec=spec).networks()) == {"generator", "discriminator"}
    assert segments(task) and takes_images(task) and task.inputs == ("t1", "t2")
    made = task.convert(task.networks()["generator"], torch.zeros(2, 2, 16, 16))
    assert made.shape == (2, 1, 16, 16) and set(made.flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_it_sees_the_named_channels_alone() -> None:
    spec = ImageSpec(size=(16, 16), channels=("t1", "t2"), mask_classes=2)
    task = task_of("task.inputs=[t2]", "task.adversarial=0", spec=spec)
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)], dim=1)
    batch = Batch(images=images, masks=torch.zeros(3, 16, 16, dtype=torch.long), seed=0, items=(0, 1, 2))
    assert task.inputs == ("t2",) and torch.equal(task.vary(batch).images, images[:, 1:])
    with pytest.raises(SettingsError, match="no channel of these images"):
        task_of("task.inputs=[t3]", spec=spec)


def test_images_with_the_rarest_label_are_drawn_again_up_to_their_share(make_masked: Make) -> None:
    data = make_masked(n=64)
    masks = np.load(data / "shards" / "00000.masks.npy")
    masks[masks == 2] = 1
    masks[::16] *= 2  # one image in 16 has label 2
    np.save(data / "shards" / "00000.masks.npy", masks)
    prepared = Prepared(data)
    again = images_to_draw_again(prepared, 0.5)
    assert again is not None and (prepared.stored(again.rows, "masks") == 2).any((1, 2)).all()
    items = tuple(range(400))
    batch = Batch(images=torch.full((400, 1, 16, 16), -2.0), masks=torch.zeros(400, 16, 16, dtype=torch.long), seed=1,
                  items=items)
    mixed = again.mixed_in(batch)
    assert mixed.masks is not None
    replaced = (mixed.masks == 2).any(2).any(1)
    assert float(replaced.float().mean()) == pytest.approx(again.chance, abs=0.07)
    assert torch.equal(replaced, (mixed.images > -2).flatten(1).any(1)), "image and mask together"
    part = again.mixed_in(Batch(images=batch.images[5:9], masks=batch.masks[5:9], seed=1, items=items[5:9]))
    assert torch.equal(part.images, mixed.images[5:9]), "from (seed, item) alone"
    assert images_to_draw_again(prepared, 0.01) is None


def test_warps_move_image_and_mask_together() -> None:
    inside = torch.zeros(4, 32, 32, dtype=torch.long)
    inside[:, 8:24, 8:24] = 1
    task = task_of("task.deform=0.05", spec=ImageSpec(size=(32, 32), mask_classes=2))
    batch = Batch(images=inside[:, None] * 2.0 - 1, masks=inside, seed=0, items=(0, 1, 2, 3))
    varied = task.vary(batch)
    assert not torch.equal(varied.masks, inside)
    assert ((varied.images[:, 0] > 0).long() == varied.masks).float().mean() > 0.98


def test_channels_that_may_be_missing_are_blanked_in_training(make_masked: Make, tmp_path: Path) -> None:
    spec = ImageSpec(size=(16, 16), channels=("t1", "t2"), mask_classes=2)
    task = task_of("task.missing=0.9", "task.deform=0.05", spec=spec)
    images = torch.stack([torch.zeros(64, 16, 16), torch.ones(64, 16, 16)], dim=1)
    batch = Batch(images=images, masks=torch.zeros(64, 16, 16, dtype=torch.long), seed=0, items=tuple(range(64)))
    blank = (task.vary(batch).images == -1).flatten(2).all(2)
    assert blank.any(0).all() and not blank.all(1).any()
    with pytest.raises(SettingsError, match="only t2 is given"):
        task_of("task.missing=0.5", "task.inputs=[t2]", spec=spec)
    data = make_masked(n=12, channels=("t1", "t2"))
    train(data, tmp_path / "run", settings=resolve(overrides=(*SMALL, "train.images=8", "task.missing=0.5")))
    write(Image(pixels=np.load(data / "shards" / "00000.images.npy")[0, 1:], channels=("t2",)), tmp_path / "t2.npz",
          provenance=FROM)
    made = apply(tmp_path / "run", tmp_path / "t2.npz", tmp_path / "out")
    assert [row["missing"] for row in rows(made.folder)] == ["t1"]


def test_losses_of_an_untrained_network_are_those_of_equal_shares() -> None:
    """The last layer begins at zero: every label has the share 1/3, for which both losses have a closed form."""
    masks = torch.zeros(1, 16, 16, dtype=torch.long)
    masks[:, :, 8:] = 1
    task = task_of("task.adversarial=0", spec=ImageSpec(size=(16, 16), mask_classes=3))
    batch = Batch(images=torch.zeros(1, 1, 16, 16), masks=masks, seed=0, items=(0,))
    terms = task.generator_loss(task.networks(), batch)
    assert float(terms["entropy"].detach()) == pytest.approx(np.log(3), rel=1e-5)
    assert float(terms["dice"].detach()) == pytest.approx(1 - 2 * (128 / 3) / (256 / 3 + 128), rel=1e-5)


def test_images_without_a_mask_are_left_out_of_overlap_and_entropy() -> None:
    images, masks = torch.rand(4, 1, 16, 16), torch.randint(0, 3, (4, 16, 16))
    masks[1] = masks[3] = NO_MASK
    task = task_of("task.adversarial=0", spec=ImageSpec(size=(16, 16), mask_classes=3, partly_masked=True))
    nets = task.networks()
    torch.nn.init.normal_(nets["generator"].leave.weight)
    some = task.generator_loss(nets, Batch(images=images, masks=masks, seed=0, items=(0, 1, 2, 3)))
    known = task.generator_loss(nets, Batch(images=images[::2], masks=masks[::2], seed=0, items=(0, 2)))
    assert set(some) == set(known) == {"dice", "entropy"}
    assert all(float(some[name].detach()) == pytest.approx(float(known[name].detach()), rel=1e-4) for name in known)
    assert task.generator_loss(nets, Batch(images=images[1:2], masks=masks[1:2], seed=0, items=(1,))) == {}


@pytest.mark.parametrize("loss", ["least_squares", "relativistic"])
def test_the_discriminator_takes_true_labels_of_images_with_masks_alone(loss: str) -> None:
    masks = torch.randint(0, 3, (4, 16, 16))
    masks[1] = masks[3] = NO_MASK
    spec = ImageSpec(size=(16, 16), mask_classes=3, partly_masked=True)
    task = task_of("task.adversarial=1", f"task.loss={loss}", spec=spec)
    batch = Batch(images=torch.rand(4, 1, 16, 16), masks=masks, seed=0, items=(0, 1, 2, 3))
    known, shares = torch.tensor([0, 2]), torch.full((4, 3, 16, 16), 1 / 3)
    real = task._true(batch, shares, known)
    assert torch.equal(real[:, 0], batch.images[[0, 2, 0, 2], 0]), "as many as there are images"
    assert torch.equal(real[:, 1:].argmax(1), masks[[0, 2, 0, 2]])
    nets = task.networks()
    assert set(task.discriminator_loss(nets, batch)) == {"loss", "_real", "_fake"}
    assert set(task.generator_loss(nets, batch)) == {"dice", "entropy", "adversarial"}
    none = dataclasses.replace(batch, masks=torch.full_like(masks, NO_MASK))
    assert task.discriminator_loss(nets, none) == {}


def test_rare_labels_count_for_more_by_a_power_of_their_pixels() -> None:
    masks = torch.tensor([[[0] * 15 + [1]]])
    spec = ImageSpec(size=(1, 16), mask_classes=2)
    for balance, ratio in ((0, 1), (0.5, 15**0.5), (1, 15)):
        task = task_of(f"task.balance={balance}", spec=spec)
        weights = task._weights(task._one_hot(masks))
        assert float(weights[1] / weights[0]) == pytest.approx(ratio, rel=1e-5)


def test_softened_truth_is_luc_et_al_and_sums_to_one() -> None:
    task = task_of(spec=ImageSpec(size=(1, 2), mask_classes=3))
    shares = torch.tensor([[[[0.2, 0.96]], [[0.6, 0.03]], [[0.2, 0.01]]]])
    soft = task._softened(shares, torch.tensor([[[1, 0]]]))
    assert torch.allclose(soft[0, :, 0, 0], torch.tensor([0.05, 0.9, 0.05]), atol=1e-6)
    assert torch.allclose(soft[0, :, 0, 1], torch.tensor([0.96, 0.03, 0.01]), atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (8, 12, 10)])
@pytest.mark.parametrize(("adversarial", "masked"), [(0, 24), (0.05, 24), (0, 5), (0.05, 5)])
def test_training_resumes_to_the_same_weights(
    adversarial: float, masked: int, size: tuple[int, ...], make_masked: Make, without_masks: Unmask, tmp_path: Path
) -> None:
    data = make_masked(n=24, size=size)
    if masked < 24:
        assert without_masks(data, range(masked, 24)).spec.partly_masked
    settings = resolve(overrides=(*SMALL, f"task.adversarial={adversarial}", "train.images=48", "augment.strength=1"))
    assert resumes(data, tmp_path, settings)
    assert list((tmp_path / "whole" / "previews").glob("*.png"))
    learned = [weight for key, weight in weights(tmp_path / "cut").items() if "leave.weight" in key]
    assert any(weight.abs().sum() > 0 for weight in learned), "nothing was learned"
    logged = (tmp_path / "whole" / "log.jsonl").read_text()
    assert ("discriminator/loss" in logged) == ("generator/adversarial" in logged) == bool(adversarial)


def test_only_images_with_masks_are_measured(make_masked: Make, without_masks: Unmask, tmp_path: Path) -> None:
    data = make_masked(n=48)
    without_masks(data, [k for k in range(48) if k % 6 > 2])
    train(data, tmp_path / "run", settings=resolve(overrides=(*SMALL, "train.images=80")))
    document = evaluate_segmentation(tmp_path / "run", Prepared(data), out=tmp_path / "run")["pairs"]
    assert (document["images"], document["patients"], document["split"]) == (8, 8, "test")
    assert {number["name"].partition("_")[0] for number in document["numbers"]} == {"dice", "hausdorff"}, (
        "what is stored for images without a mask is label 2, and no image with a mask has it")
    assert document["untested"] == ["label 2"]


def test_without_an_adversary_no_image_without_a_mask_is_drawn(make_masked: Make, without_masks: Unmask) -> None:
    data = without_masks(make_masked(n=48), range(8, 48))
    chosen = data.indices("train")
    batch = Batch(images=torch.from_numpy(data.images(chosen)), masks=torch.from_numpy(data.masks(chosen)), seed=0,
                  items=tuple(range(len(chosen))))
    for adversarial, share in ((0, 1.0), (0.1, 0.5)):
        task = task_of(f"task.adversarial={adversarial}", spec=data.spec)
        task.study(data, 0)
        known = (task.vary(batch).masks.flatten(1)[:, 0] != NO_MASK).float().mean()
        assert float(known) == pytest.approx(share, abs=0.2), adversarial


def test_gaps_between_label_values_cost_no_channels() -> None:
    """Values that do not occur are no labels: scores, losses and results are those of 0, 1, 2."""
    spec = ImageSpec(size=(16, 16), mask_classes=118, mask_values=(0, 3, 117))
    without = ImageSpec(size=(16, 16), mask_classes=3)
    task, plain = (task_of("task.adversarial=0.01", spec=one) for one in (spec, without))
    places = torch.arange(256).reshape(1, 16, 16) % 3
    batch, same = (Batch(images=torch.zeros(1, 1, 16, 16), masks=masks, seed=0, items=(0,))
                   for masks in (torch.tensor(spec.mask_values)[places], places))
    torch.manual_seed(0)
    nets = task.networks()
    ours, theirs = task.generator_loss(nets, batch), plain.generator_loss(nets, same)
    assert {name: float(term.detach()) for name, term in ours.items()} == {
        name: float(term.detach()) for name, term in theirs.items()}
    scores = torch.nn.functional.one_hot(places, 3).movedim(-1, 1).float()
    assert torch.equal(task.convert(torch.nn.Identity(), scores)[:, 0].long(), batch.masks)


def test_it_tells_by_size_what_intensity_cannot(make_masked: Make, tmp_path: Path) -> None:
    data = make_masked(spacing=(2.0, 2.0), values=(3, 117))
    train(data, tmp_path / "run", settings=resolve(overrides=(*SMALL, "train.images=2400")))
    document = evaluate_segmentation(tmp_path / "run", Prepared(data), out=tmp_path / "run")
    numbers = {number["name"]: number for number in document["pairs"]["numbers"]}
    assert {name for name in numbers if not name.startswith("missed_")} == {
        f"{name}_{label}" for name in ("dice", "hausdorff_95", "invented") for label in (3, 117)}
    assert numbers["hausdorff_95_3"]["unit"] == "mm" and set(document["limits"]) == {"mismatch"}
    overlap = [{line["method"]: line for line in numbers[name]["methods"]} for name in ("dice_3", "dice_117")]
    for found in overlap:
        assert set(found) == {"this run", "multi-Otsu", "k-means"}
        own = found["this run"]  # intervals are symmetric: near 1 their upper end may pass it
        assert 0.8 < own["low"] <= own["value"] <= own["high"] and own["value"] <= 1
    assert min(found["k-means"]["value"] for found in overlap) < 0.5, "one label alone has this brightness for k-means"
    assert any(found["k-means"]["gain"]["low"] > 0 for found in overlap)
    assert np.load(tmp_path / "run" / "pictures" / "pairs.npy").shape == (12, 5, 16, 16)
    page = report(tmp_path / "run").read_text(encoding="utf-8")
    assert "Segmented images" in page and "Overlap of label 117" in page and "multi-Otsu</span>" in page


def test_limits_are_set_by_all_held_out_patients(make_masked: Make, tmp_path: Path) -> None:
    data = make_masked(n=72)
    train(data, tmp_path / "run", settings=resolve(overrides=(*SMALL, "train.images=16")))
    held_out = in_patients(data, 12)
    prepared = Prepared(data)
    document = evaluate_segmentation(tmp_path / "run", prepared, images=12)
    assert document["pairs"]["images"] == 12 and document["limits_from_patients"] == 6, "three are of validation"
    found = Segmenter(tmp_path / "run").mismatches(prepared.images(held_out))
    assert document["limits"] == pytest.approx(limits(found, prepared.patients(held_out)))


@pytest.mark.parametrize("size", [(32, 32), (8, 16, 16)])
def test_baselines_find_labels_that_intensity_tells(size: tuple[int, ...]) -> None:
    masks = np.random.default_rng(0).integers(0, 3, (6, *size)).astype(np.uint8)
    shades = np.array([-0.9, 0.8, 0.0], np.float32)  # label 1 is the brightest: classes and labels differ in order
    images = (shades[masks] + np.random.default_rng(1).normal(0, 0.05, masks.shape).astype(np.float32))[:, None]
    for name, method in label_baselines(images[:4], masks[:4]).items():
        assert (method(images[4:]) == masks[4:]).mean() > 0.99, name
    assert (label_baselines(images[:4], masks[:4])["multi-Otsu"](np.zeros((1, 1, *size), np.float32)) >= 0).all()


@pytest.mark.parametrize(("rare", "labels"), [(4, [0, 1, 1]), (30, [0, 1, 2])])
def test_classes_of_intensity_become_the_labels_that_they_cover_best(rare: int, labels: list[int]) -> None:
    """Three grey values, label 1 on two of them but for `rare` pixels of label 2: a label of its own for each class
    loses half of label 1, for next to nothing or for a third of the other label."""
    shades = np.repeat([-1, 0, 1], 100).reshape(1, 1, 15, 20).astype(np.float32)
    masks = np.minimum(shades[:, 0] + 1, 1).astype(np.uint8)
    masks.reshape(-1)[300 - rare:] = 2
    for method in label_baselines(shades, masks).values():
        assert method(shades).reshape(-1)[[0, 150, 299]].tolist() == labels
