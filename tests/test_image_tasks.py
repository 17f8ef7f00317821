"""Tasks from image to image: pairs, degradations against closed forms, learning, resume, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radsynth.arrays import NO_MASK, Prepared
from radsynth.batch import Batch
from radsynth.errors import DataError, OutOfMemory, SettingsError
from radsynth.image import ImageSpec
from radsynth.settings import resolve
from radsynth.tasks import _degrade as degrade
from radsynth.tasks import build
from radsynth.tasks._paired import known
from radsynth.tasks._unpaired import sides_of
from radsynth.tasks.cut import Cut
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.doubts import doubts
from radsynth.verbs._applying.limits import limits
from radsynth.verbs._evaluating.sides import Source
from radsynth.verbs._pairs.paired import evaluate_pairs
from radsynth.verbs._training.parts import parts_of
from radsynth.verbs.evaluate import evaluate_sources
from radsynth.verbs.train import train
from tests.discs import in_patients
from tests.trained import resumes, weights

Make = Callable[..., Path]
SMALL = ("model.width=4", "model.discriminator_width=4", "model.halvings=1", "train.batch=8", "train.previews=1",
         "train.precision=32-true")
VARIANTS = {
    "translate": ("task.kind=translate",),
    "plain translate": ("task.kind=translate", "task.adversarial=0", "augment.strength=1"),
    "enlarge": ("task.kind=restore", "task.factor=2"),
    "adversarial denoise": ("task.kind=restore", "task.what=rician", "task.adversarial=0.01", "augment.strength=1"),
    "low dose": ("task.kind=restore", "task.what=low_dose"),
    "pairs": ("task.kind=restore", "task.what=pairs"),
    "cycle": ("task.kind=cycle",),
    "cut": ("task.kind=cut",),
}


def task_of(*overrides: str, spec: ImageSpec) -> Any:
    settings = resolve(overrides=overrides, sections=("task", "model"))
    return build(settings, spec)


def batch_of(images: torch.Tensor, labels: torch.Tensor | None = None) -> Batch:
    return Batch(images=images, labels=labels, seed=3, items=tuple(range(len(images))))


@pytest.mark.parametrize("size", [(16, 16), (8, 12, 10)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_resumes_to_the_same_weights(
    variant: str, size: tuple[int, ...], make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared(n=24, size=size, labels=("small", "large"), channels=("t1", "t2"))
    settings = resolve(overrides=(*SMALL, *VARIANTS[variant], "train.images=48"))
    assert settings.kind("model") == "unet", "the task brings its own network"
    assert resumes(data, tmp_path, settings)
    assert list((tmp_path / "whole" / "previews").glob("*.png"))
    learned = [weight for key, weight in weights(tmp_path / "cut").items() if "leave.weight" in key]
    assert any(weight.abs().sum() > 0 for weight in learned), "nothing was learned"


def test_translation_learns_the_negative(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(n=48, channels=("t1", "t2"))
    settings = resolve(overrides=(*SMALL, "task.kind=translate", "train.images=1600", "train.rate=0.01"))
    train(data, tmp_path / "run", settings=settings)
    document = evaluate_pairs(tmp_path / "run", Prepared(data), out=tmp_path / "run")
    error = document["pairs"]["numbers"][0]["methods"][0]
    assert error["method"] == "this run" and error["low"] <= error["value"] <= error["high"] < 15
    applier, prepared = Applier(tmp_path / "run"), Prepared(data)
    given = prepared.images(prepared.indices("test"))[:, :1]
    found = limits(doubts(applier.task, applier.network_of, given, applier.network_of(given, "")),
                   prepared.patients(prepared.indices("test")))
    assert document["limits"] == pytest.approx(found), "apply must find what the limits were measured on"


@pytest.mark.parametrize("images", [500, 6])
def test_limits_are_set_by_all_held_out_patients(images: int, make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(n=144, channels=("t1", "t2"))
    train(data, tmp_path / "run", settings=resolve(overrides=(*SMALL, "task.kind=translate", "train.images=16")))
    held_out = in_patients(data, 12)
    applier, prepared = Applier(tmp_path / "run"), Prepared(data)
    document = evaluate_pairs(tmp_path / "run", prepared, out=tmp_path / "run", images=images)
    if images < len(held_out):
        assert document["pairs"]["images"] == 6 and 6 < document["limits_from_patients"] <= 12
        return
    assert document["pairs"]["images"] == 24 and document["limits_from_patients"] == 12
    given = prepared.images(held_out)[:, :1]
    found = doubts(applier.task, applier.network_of, given, applier.network_of(given, ""))
    usual = limits(found, prepared.patients(held_out))
    assert document["limits"]["edges"] == pytest.approx(usual["edges"])
    assert document["limits"]["uncertainty"] == pytest.approx(usual["uncertainty"], rel=0.3), "of other noise"


@pytest.mark.parametrize("kind", ["translate", "cycle"])
def test_the_images_that_set_the_limits_are_not_flagged_in_the_report(
        kind: str, make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_prepared(n=72, channels=("t1", "t2")) if kind == "translate" else make_prepared(
        n=72, labels=("small", "large"))
    more = () if kind == "translate" else ("task.domains=[small,large]",)
    train(data, tmp_path / "run", settings=resolve(overrides=(*SMALL, f"task.kind={kind}", *more, "train.images=16")))
    network_of = Applier.network_of

    def alone_otherwise(applier: Applier, images: Any, *further: Any) -> Any:
        """Alone in its batch an image has another result: in truth by the last digit, here by a grid."""
        made = network_of(applier, images, *further)
        made[..., ::2] += 0.5 * (len(images) == 1)
        return made

    monkeypatch.setattr(Applier, "network_of", alone_otherwise)
    document = evaluate_pairs(tmp_path / "run", Prepared(data), out=tmp_path / "run")
    assert document["doubts"].get("flagged", 0) == 0 and not any(document["doubts"]["flags"])


@pytest.mark.parametrize("kind", ["cycle", "cut"])
def test_what_is_made_without_pairs_is_measured_against_the_other_class(
    kind: str, make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_prepared(n=120, size=(16, 16), labels=("other", "small", "large", "another"))
    train(data, tmp_path / "run", settings=resolve(overrides=(
        *SMALL, f"task.kind={kind}", "task.domains=[small,large]", "train.images=16")))
    lines = (data / "records.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines]
    for row in rows[1:]:
        row[2] = f"patient of {row[0]}"
    (data / "records.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    sides: list[Source] = []
    monkeypatch.setattr("radsynth.verbs.evaluate.evaluate_sources", lambda *sources, **options: (
        sides.extend(sources), evaluate_sources(*sources, **options))[1])
    document = evaluate_pairs(tmp_path / "run", Prepared(data), out=tmp_path / "run")
    assert not any(isinstance(side.images, np.ndarray) for side in sides[:2]), "all real images need not fit in memory"
    assert document["context"]["held_out_patients"] <= 2 < document["context"]["images"], "intervals are of patients"
    assert {"edges", "uncertainty"} <= set(document["limits"]) and "refused" in document
    assert document["limits_from_patients"] == 1, "of the class that is given"
    assert ("inconsistency" in document["limits"]) == (kind == "cycle"), "only a way back can be checked by going back"


@pytest.mark.parametrize("kind", ["cycle", "cut"])
@pytest.mark.parametrize("more", ["train.batch=1", "train.accumulate=8"])
def test_batches_that_cannot_hold_both_classes_are_refused(
    kind: str, more: str, make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared(labels=("small", "large"))
    with pytest.raises(SettingsError, match="images of both classes"):
        train(data, tmp_path / "run", settings=resolve(overrides=(
            f"task.kind={kind}", "train.images=16", "train.batch=8", more)))
    assert not (tmp_path / "run").exists()


def test_memory_that_ends_makes_no_parts_without_both_classes(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(self: Any, nets: Any, batch: Batch) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Cut, "generator_loss", greedy)
    with pytest.raises(OutOfMemory, match="with 2 images at a time"):  # parts of one would teach nothing
        train(make_prepared(labels=("small", "large")), tmp_path / "run", settings=resolve(overrides=(
            *SMALL, "task.kind=cut", "train.images=16")))


@pytest.mark.parametrize("kind", ["cycle", "cut"])
def test_a_class_without_images_is_told(kind: str, make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(n=48, labels=("other", "small", "large", "rare"))
    rows, settings = (data / "records.csv").read_text(), resolve(overrides=(
        *SMALL, f"task.kind={kind}", "task.domains=[large,rare]", "train.images=16"))
    (data / "records.csv").write_text(rows.replace("train,3", "train,1"))
    with pytest.raises(DataError, match="no training images of the class rare"):
        train(data, tmp_path / "none", settings=settings)
    (data / "records.csv").write_text(rows.replace("test,3", "test,1"))
    train(data, tmp_path / "run", settings=settings)
    (refused,) = evaluate_pairs(tmp_path / "run", Prepared(data), out=tmp_path / "run")["refused"]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["refused"] == [refused]
    assert "no image of the class rare outside of training" in refused["reason"]
    (data / "records.csv").write_text(rows.replace("test,3", "test,1", rows.count("test,3") - 1))
    (refused,) = evaluate_pairs(tmp_path / "run", Prepared(data), out=tmp_path / "new")["refused"]
    assert "images: 1 held-out real" in refused["reason"] and (tmp_path / "new" / "results.json").is_file()


def test_channels_are_chosen_by_name_and_by_default() -> None:
    spec = ImageSpec(size=(16, 16), channels=("t1", "t2", "flair"))
    images = torch.randn(2, 3, 16, 16)
    for overrides, inputs, outputs in (
        ((), ("t1",), ("t2", "flair")), (("task.outputs=[t2]",), ("t1", "flair"), ("t2",)),
        (("task.inputs=[flair,t1]",), ("flair", "t1"), ("t2",)),
        (("task.inputs=[flair]", "task.outputs=[t1]"), ("flair",), ("t1",)),
    ):
        task = task_of("task.kind=translate", *overrides, spec=spec)
        assert (task.inputs, task.outputs) == (inputs, outputs)
        given, truth = task.pair(batch_of(images))
        assert torch.equal(given, images[:, [spec.channels.index(name) for name in inputs]])
        assert torch.equal(truth, images[:, [spec.channels.index(name) for name in outputs]])


def test_pixels_of_rare_labels_count_for_more_in_a_translation(make_prepared: Make) -> None:
    """An untrained network makes background, -1; the truth is 1 everywhere: the absolute difference is twice the mean
    weight, in which 15 of 16 pixels are background and the lesion counts for (15 / 1) to the power of the balance."""
    data = make_prepared(n=24, channels=("t1", "t2"), mask_classes=8, mask_values=(0, 7))
    masks = np.zeros((24, 16, 16), np.uint8)
    masks[:, :, :1] = 7
    np.save(data / "shards" / "00000.masks.npy", masks)
    prepared = Prepared(data)
    for balance in (0.0, 0.5, 1.0):
        task = task_of("task.kind=translate", *SMALL[:3], f"task.balance={balance}", "task.dissimilarity=0",
                       "task.adversarial=0", "task.deform=0", spec=prepared.spec)
        task.study(prepared, 0)
        seen = torch.tensor(masks[:2], dtype=torch.long)
        seen[1] = NO_MASK  # counts as background does
        batch = dataclasses.replace(batch_of(torch.ones(2, 2, 16, 16)), masks=seen)
        found = float(task.game.generator_loss(task.networks(), batch)["absolute"].detach())
        assert found == pytest.approx((15 + 15**balance + 16) / 16, rel=1e-5)


def test_half_of_the_pairs_are_warped_both_sides_and_the_mask_alike() -> None:
    masks = torch.zeros(64, 32, 32, dtype=torch.long)
    masks[:, 8:24, 8:24] = 1
    spec = ImageSpec(size=(32, 32), channels=("t1", "t2"), mask_classes=2)
    batch = dataclasses.replace(batch_of((masks[:, None] * 2.0 - 1).expand(-1, 2, -1, -1).contiguous()), masks=masks)
    varied = task_of("task.kind=translate", spec=spec).vary(batch)
    warped = (varied.masks != masks).flatten(1).any(1)
    assert 0.3 < float(warped.float().mean()) < 0.7 and torch.equal(varied.images[~warped], batch.images[~warped])
    assert torch.equal(varied.images[:, 0], varied.images[:, 1]), "what is learned stays the same"
    assert ((varied.images[:, 0] > 0).long() == varied.masks).float().mean() > 0.98
    assert task_of("task.kind=translate", "task.deform=0", spec=spec).vary(batch) is batch


def test_nothing_is_learned_of_a_blank_truth_or_from_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    result, truth, given = (2 * torch.rand(3, 2, 8, 8, generator=rng) - 1 for _ in range(3))
    truth[0, 1], given[1] = -1, -1
    given[2, 0] = -1  # the other channel is there
    learned = known(result, truth, given)
    assert torch.equal(learned[0, 1], truth[0, 1]) and torch.equal(learned[1], truth[1])
    assert torch.equal(learned[0, 0], result[0, 0]) and torch.equal(learned[2], result[2])


def test_missing_channels_are_blanked_but_never_all() -> None:
    spec = ImageSpec(size=(16, 16), channels=("a", "b", "c"))
    task = task_of("task.kind=translate", "task.outputs=[c]", "task.missing=0.9", spec=spec)
    images = torch.zeros(64, 3, 16, 16)
    images[::2, 0] = -1  # half of the images lack the first one anyway
    given, _ = task._see(batch_of(images))
    blank = (given == -1).flatten(2).all(2)
    assert blank[1::2].any() and blank[::2, 0].all() and not blank.all(1).any()
    assert torch.equal(given[~blank], torch.zeros_like(given[~blank]))


@pytest.mark.parametrize("factors", [(2, 2), (3, 3), (4, 4), (2, 1, 1), (2, 2, 2)])
def test_enlarging_keeps_planes_and_averaging_down_undoes_it(factors: tuple[int, ...]) -> None:
    space = (13, 14) if len(factors) == 2 else (9, 14, 12)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in space], indexing="ij")
    plane = sum((0.1 * (k + 1) * axis for k, axis in enumerate(axes)), torch.zeros(space))[None, None]
    fine = degrade.enlarge(plane, factors)
    assert fine.shape[2:] == tuple(s * f for s, f in zip(space, factors, strict=True))
    back = degrade.average_down(fine, factors)
    inner = (slice(None), slice(None), *(slice(3, -3) for _ in space))
    assert torch.allclose(back[inner], plane[inner], atol=5e-3)
    assert torch.allclose(degrade.enlarge(torch.full((1, 1, *space), 0.3), factors), torch.tensor(0.3), atol=1e-6)


def test_averaging_down_is_the_mean_of_boxes_and_cuts_what_is_left_over() -> None:
    images = torch.arange(35.0).reshape(1, 1, 5, 7)
    assert degrade.average_down(images, (2, 3)).tolist() == [[[[4.5, 7.5], [18.5, 21.5]]]]


def test_rician_noise_has_its_closed_form_moments() -> None:
    images = torch.cat([torch.full((1, 1, 64, 64), -1.0), torch.full((1, 1, 64, 64), 0.6)])
    noisy = (degrade.add_rician(images, torch.tensor([0.05, 0.05]), batch_of(images)) + 1) / 2
    assert float(noisy[0].mean()) == pytest.approx(0.05 * math.sqrt(math.pi / 2), rel=0.03)  # Rayleigh in air
    assert float(noisy[1].mean()) == pytest.approx(math.sqrt(0.8**2 + 0.05**2), rel=0.01)
    assert float(noisy[1].std()) == pytest.approx(0.05, rel=0.05)


def test_low_dose_noise_has_its_level_and_no_low_frequencies() -> None:
    images = torch.zeros(8, 1, 48, 47)
    noise = degrade.add_low_dose(images, torch.full((8,), 0.1), batch_of(images))
    assert float(noise.std()) == pytest.approx(0.2, rel=0.05)
    power = torch.fft.rfft2(noise).abs().square().mean((0, 1))
    assert float(power[0, 0]) < 1e-6 and power[:2, :2].mean() < 0.6 * power[8:12, 8:12].mean()


def test_noise_depends_on_seed_and_item_alone() -> None:
    images = torch.zeros(6, 1, 8, 8)
    whole = batch_of(images)
    part = Batch(images=images[:2], seed=3, items=(4, 5))
    for add in (degrade.add_rician, degrade.add_low_dose):
        levels = degrade.noise_levels(whole, 0.02, 0.1)
        assert float(levels.min()) >= 0.02 and float(levels.max()) <= 0.1
        again = add(images[:2], degrade.noise_levels(part, 0.02, 0.1), part)
        assert torch.allclose(add(images, levels, whole)[4:], again)


@pytest.mark.parametrize("variant", ["enlarge", "low dose"])
def test_an_untrained_restoration_is_the_plain_method(variant: str) -> None:
    task = task_of(*VARIANTS[variant], spec=ImageSpec(size=(17, 22)))
    given, good = task.pair(batch_of(torch.rand(2, 1, 17, 22) - 0.5))
    fine = task.enlarge(given)
    assert fine.shape == good.shape and torch.equal(task.convert(task.networks()["generator"], fine), fine)


def test_a_volume_of_fewer_slices_than_the_factor_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least as many pixels"):
        task_of("task.kind=restore", "task.factor=2", spec=ImageSpec(size=(1, 32, 32)))


def test_cycle_takes_equal_sides_whatever_the_draw_and_survives_a_batch_of_one_class() -> None:
    spec = ImageSpec(size=(16, 16), labels=("a", "b", "c"))
    with pytest.raises(SettingsError, match="two different"):
        task_of("task.kind=cycle", spec=spec)
    task = task_of("task.kind=cycle", "task.domains=[c,a]", "model.width=4", spec=spec)
    nets = task.networks()
    assert task.targets == ("a", "c")
    images = torch.randn(6, 1, 16, 16)
    sides = sides_of(task.vary(batch_of(images, torch.tensor([2, 0, 0, 1, 0, 0]))), task._labels)
    assert sides is not None and [len(side) for side in sides] == [3, 3] and torch.equal(sides[0][1], images[0])
    for labels in ([2, 0, 0, 1, 0, 0], [1] * 6, [0] * 6):
        for turn in task.turns():
            terms = turn.loss(nets, task.vary(batch_of(images, torch.tensor(labels))))
            assert bool(terms) == (2 in labels and 0 in labels), "a batch without one of the classes is left out"
            if not terms:
                continue
            loss = torch.stack([value for name, value in terms.items() if not name.startswith("_")]).sum()
            loss.backward()
            assert torch.isfinite(loss)


@pytest.mark.parametrize(("items", "parts", "each"), [
    (8, 1, 4), (8, 2, 2), (6, 2, 2), (12, 4, 2), (5, 1, 3), (9, 3, 2)])
def test_sides_are_equal_and_their_own_in_all_parts_of_a_batch(items: int, parts: int, each: int) -> None:
    task = task_of("task.kind=cut", "task.domains=[c,a]", spec=ImageSpec(size=(16, 16), labels=("a", "b", "c")))
    labels = torch.tensor([0, 1, 2, 0, 0, 2, 0, 1, 2, 0, 1, 1])[:items]
    images = (labels + torch.arange(items) / 100).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    shown, found = set(), list(parts_of(task.vary(batch_of(images, labels)), parts))
    assert len(found) == parts, "gradients are divided by that number"
    for part in found:
        sides = sides_of(part, task._labels)
        assert sides is not None and all(side.shape == (each, 1, 16, 16) for side in sides)
        assert (sides[0] >= 2).all() and (sides[1] < 1).all()
        shown |= set(torch.cat(sides)[:, 0, 0, 0].tolist())
    assert shown <= set(images[:, 0, 0, 0].tolist()) and len(shown) > 1


@pytest.mark.parametrize(("overrides", "spec", "message"), [
    (("task.kind=translate",), ImageSpec(size=(16, 16)), "at least two registered channels"),
    (("task.kind=translate", "task.inputs=[t3]"), ImageSpec(size=(16, 16), channels=("t1", "t2")), "did you mean"),
    (("task.kind=translate", "task.inputs=[t1]", "task.outputs=[t1]"), ImageSpec(size=(16, 16), channels=("t1", "t2")),
     "none twice"),
    (("task.kind=translate", "task.missing=0.3"), ImageSpec(size=(16, 16), channels=("t1", "t2")), "only t1 is given"),
    (("task.kind=restore", "task.axes=slices"), ImageSpec(size=(16, 16)), "needs volumes.*task.axes=rows"),
    (("task.kind=restore", "task.axes=rows"), ImageSpec(size=(8, 16, 16)), "needs slices.*task.axes=slices"),
    (("task.kind=restore", "task.what=rician", "task.noise=[0.2,0.1]"), ImageSpec(size=(16, 16)),
     "smallest <= largest"),
    (("task.kind=restore", "task.what=pairs", "task.given=low", "task.clean=low"),
     ImageSpec(size=(16, 16), channels=("low", "full")), "must be another channel of low, full"),
    (("task.kind=cycle",), ImageSpec(size=(16, 16)), "two classes"),
    (("task.kind=cycle", "task.domains=[ct,pt]"), ImageSpec(size=(16, 16), labels=("ct", "pet")), "did you mean pet"),
    (("task.kind=cycle",), ImageSpec(size=(16, 16), labels=("ct", "mr", "pet")),
     r"have 3 \(ct, mr, pet\).*task.domains=\[ct,mr\]"),
    (("task.kind=cut", "task.domains=[ct,ct]"), ImageSpec(size=(16, 16), labels=("ct", "pet")), "two different ones"),
    (("task.kind=translate", "task.adversarial=0", "task.absolute=0", "task.dissimilarity=0"),
     ImageSpec(size=(16, 16), channels=("t1", "t2")),
     "task.absolute=0, task.dissimilarity=0 and task.adversarial=0 leave nothing to learn"),
    (("task.kind=restore", "task.charbonnier=0", "task.dissimilarity=0"), ImageSpec(size=(16, 16)),
     "task.charbonnier=0, task.dissimilarity=0 and task.adversarial=0 leave nothing to learn"),
    (("task.kind=translate", "task.inputs=[t1,t1]"), ImageSpec(size=(16, 16), channels=("t1", "t2")),
     "share the channels t1, t2, and name none twice"),
    (("task.kind=segment", "task.tissues=2", "task.inputs=[t1,t1]"), ImageSpec(size=(16, 16), channels=("t1", "t2")),
     "names a channel twice"),
    (("task.kind=translate", "task.missing=0.5"), ImageSpec(size=(16, 16), channels=("t1", "t2")),
     "only t1 is given: set task.missing=0"),
    (("task.kind=register", "task.window=1"), ImageSpec(size=(16, 16)), "task.window: given 1, allowed: .*at least 2"),
    (("task.kind=register", "task.blur=1e9"), ImageSpec(size=(16, 16)), "task.blur: given .*, allowed: .*at most 100"),
    (("task.kind=translate", "model.kind=dcgan"), ImageSpec(size=(16, 16), channels=("t1", "t2")), "must take image"),
    (("task.kind=synthesis", "model.kind=unet"), ImageSpec(size=(16, 16)), "must take noise"),
])
def test_what_cannot_work_is_refused_with_the_reason(overrides: tuple[str, ...], spec: ImageSpec, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        task_of(*overrides, spec=spec).networks()


def test_a_named_network_is_kept_and_its_settings_too() -> None:
    assert resolve(overrides=["task.kind=restore", "model.width=12"]).section("model").width == 12
    assert resolve(overrides=["task.kind=restore", "model.kind=dcgan"]).kind("model") == "dcgan"
    named = {"model": {"kind": "unet", "width": 12}}
    assert resolve(named, overrides=["task.kind=restore"]).section("model").width == 12
    assert resolve(overrides=["task.kind=synthesis"]).kind("model") == "sngan"
    assert np.isclose(resolve(overrides=["task.kind=restore"]).section("task").charbonnier, 1)
