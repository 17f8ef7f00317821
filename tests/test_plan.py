"""The plan: sizes, budgets, augmentation; every choice has a reason and is a setting that exists."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import radsynth
from radsynth.bases import Facts
from radsynth.choices import document
from radsynth.device import Device
from radsynth.image import ImageSpec
from radsynth.models import takes
from radsynth.plan import Fingerprint, plan
from radsynth.recipes import RECIPES
from radsynth.run_folder import TRAINING
from radsynth.settings import kinds, resolve, settings_class
from radsynth.tasks import build
from radsynth.verbs import _likeness
from radsynth.verbs._choosing import choices
from radsynth.verbs._given import given
from radsynth.verbs._preparing.fit import plan_fit
from radsynth.verbs.inspect import look_at

CPU = Device(accelerator="cpu", name="a processor", cores=2, bf16=True)
LAPTOP = replace(CPU, bf16=False)


def fingerprint(images: int = 3000, size: tuple[int, ...] = (64, 64), **labels: int) -> Fingerprint:
    return Fingerprint(images=images, patients=images, modality="CT", channels=1, size=size, labels=labels)


def chosen(data: Fingerprint, **budget: float) -> dict[str, object]:
    return {choice.setting: choice.value for choice in plan(data, CPU, budget)}


@pytest.mark.parametrize(("have", "want"), [
    ((64, 64), [64, 64]), ((28, 28), [28, 28]), ((512, 512), [64, 64]), ((512, 400), [64, 56]),
    ((10, 10), [10, 10]), ((5, 9), [8, 9]),
    ((36, 50, 35), [24, 32, 24]),
])
def test_size_keeps_proportions_and_fits_the_budget(have: tuple[int, ...], want: list[int]) -> None:
    assert chosen(fingerprint(size=have))["prepare.size"] == want


@pytest.mark.parametrize(("have", "spacing", "want"), [
    ((30, 128, 128), (5.0, 1.8, 1.8), [24, 32, 32]),  # 150 x 230 x 230 mm
    ((300, 512, 512), (1.0, 0.5, 0.5), [32, 32, 32]),
    ((20, 24, 24), (1.2, 1.0, 1.0), [24, 24, 24]), ((20, 24, 24), (1.005, 1.0, 1.0), [20, 24, 24]),
    ((30, 512), (5.0, 0.45), [48, 64]), ((512, 400), (0.5, 0.5), [64, 56]),
])
def test_size_keeps_the_proportions_of_thick_slices_in_mm(have: tuple[int, ...], spacing: tuple[float, ...],
                                                          want: list[int]) -> None:
    assert chosen(replace(fingerprint(size=have), spacing=spacing))["prepare.size"] == want


def test_volumes_of_thick_slices_fill_the_size_that_is_planned_for_them(tmp_path: Path) -> None:
    import nibabel

    for number in range(3):
        values = np.random.default_rng(number).integers(50, 200, (64, 64, 15)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.8, -1.8, 5.0, 1.0])), tmp_path / f"P{number}.nii.gz")
    asked = resolve({"data": {"kind": "folder", "path": str(tmp_path), "plane": "volume"}})
    found = look_at(asked.section("data"), asked)
    size = next(choice for choice in choices(asked, found, {}) if choice.setting == "prepare.size")
    content = plan_fit(found.median_size, tuple(size.value), found.spacing, crop=False, enlarge=False).content
    assert max(frame - side for frame, side in zip(size.value, content, strict=True)) < 8, "no more than is rounded up"
    assert "5x1.8x1.8 mm" in size.reason and "prepare.spacing" in size.reason


def test_longer_budgets_allow_larger_images() -> None:
    def sides(images: int) -> list[int]:
        data = fingerprint(images=images, size=(512, 512))
        return [max(chosen(data, seconds=seconds)["prepare.size"]) for seconds in (300, 1200, 7200, 86400)]

    assert sides(5000) == [64, 128, 128, 256]
    assert sides(200) == [64, 64, 128, 256], "what few images show later was not measured"


@pytest.mark.parametrize(("images", "task", "side"), [
    (3000, "synthesis", 128), (300, "synthesis", 64), (3000, "restore", 64),
])
def test_twenty_minutes_are_enough_for_larger_images_where_it_was_measured(images: int, task: str, side: int) -> None:
    choices = plan(fingerprint(images=images, size=(512, 512)), CPU, {"seconds": 1200}, task=task)
    assert max(next(choice.value for choice in choices if choice.setting == "prepare.size")) == side


@pytest.mark.parametrize(("device", "task", "seconds", "side"), [
    (CPU, "synthesis", 3600, 32), (CPU, "synthesis", 7200, 48), (LAPTOP, "synthesis", 7200, 32),
    (CPU, "segment", 7200, 32)])
def test_volumes_are_larger_where_hours_are_given(device: Device, task: str, seconds: float, side: int) -> None:
    choices = plan(fingerprint(size=(60, 80, 60)), device, {"seconds": seconds}, task=task)
    assert max(next(choice.value for choice in choices if choice.setting == "prepare.size")) == side


@pytest.mark.parametrize(("budget", "side"), [({"seconds": 1200}, 64), ({"seconds": 7200}, 128),
                                              ({"seconds": 48 * 3600}, 256), ({"images": 200_000}, 64),
                                              ({"images": 400_000}, 128), ({"images": 4_000_000}, 128)])
def test_larger_images_take_longer_without_bf16(budget: dict[str, float], side: int) -> None:
    data = fingerprint(size=(512, 512))
    found, fast = ({c.setting: c.value for c in plan(data, device, budget)} for device in (LAPTOP, CPU))
    assert found["prepare.size"] == [side, side]
    assert "seconds" in budget or found["prepare.size"] == fast["prepare.size"], "so many images are what they are"


def test_a_budget_in_images_is_planned_as_the_time_that_they_take() -> None:
    data = fingerprint(size=(512, 512))
    for images, longest in ((5000, 64), (2_000_000, 128), (20_000_000, 256)):
        assert chosen(data, images=images)["prepare.size"] == [longest, longest]
    assert chosen(data, images=20_000_000, seconds=60)["prepare.size"] == [64, 64], "the first that is reached"


def test_budget_is_passed_on_and_has_a_default() -> None:
    assert chosen(fingerprint())["train.seconds"] == 300
    choices = chosen(fingerprint(), images=5000, seconds=0)
    assert choices["train.images"] == 5000 and "train.seconds" not in choices


def test_the_plan_is_made_for_the_size_that_is_asked_for() -> None:
    found = {choice.setting: choice for choice in plan(fingerprint(size=(512, 512)), CPU, {}, size=(24, 24))}
    assert found["prepare.size"].value == [24, 24] and found["prepare.size"].reason == "As asked for."
    assert found["model.width"].value == 64, "small images leave time for wider layers"
    restored = {choice.setting: choice.value for choice in plan(fingerprint(), CPU, {}, task="restore", size=(24, 24))}
    assert restored["prepare.size"] == [24, 24] and restored["prepare.fit"] == "patches", "crops, as of the plan's own"


@pytest.mark.parametrize(("size", "accelerator", "width"), [
    ((24, 24), "cpu", 64), ((24, 24), "cuda", 64), ((64, 64), "cpu", None), ((80, 64), "cpu", None),
    ((128, 128), "cpu", 16), ((128, 104), "cpu", 16), ((256, 256), "cpu", 16), ((128, 128), "cuda", None),
    ((32, 32, 32), "cpu", None),
])
def test_the_finest_layers_are_thin_where_images_are_large(
    size: tuple[int, ...], accelerator: str, width: int | None
) -> None:
    device = replace(CPU, accelerator=accelerator)  # type: ignore[arg-type]
    choices = plan(fingerprint(size=size), device, {}, size=size)
    assert [choice.value for choice in choices if choice.setting == "model.width"] == ([width] if width else [])
    others = plan(fingerprint(size=size), device, {}, size=size, model="dcgan")
    assert "model.width" not in [choice.setting for choice in others]


@pytest.mark.parametrize(("size", "budget", "width"), [
    ((64, 64), {}, 16), ((64, 64), {"seconds": 800}, 16), ((64, 64), {"seconds": 1200}, None),
    ((64, 64), {"images": 20_000}, None), ((64, 64), {"seconds": 300, "images": 10**6}, 16),
    ((64, 64), {"seconds": 300, "images": 10_000}, None),  # reached before
    ((28, 28), {}, 32), ((28, 28), {"seconds": 600}, 32), ((28, 28), {"seconds": 1200}, 64),
    ((28, 28), {"images": 30_000}, 64), ((128, 128), {}, 16), ((32, 32, 32), {}, None),
])
def test_layers_are_thin_where_time_is_short_without_bf16(
    size: tuple[int, ...], budget: dict[str, float], width: int | None
) -> None:
    data = fingerprint(size=size)
    found, fast = ({c.setting: c.value for c in plan(data, device, budget, size=size)} for device in (LAPTOP, CPU))
    assert found.get("model.width") == width
    assert fast.get("model.width") == {(64, 64): None, (28, 28): 64}.get(size, width)


def test_few_images_are_augmented() -> None:
    strengths = [chosen(fingerprint(images=n)).get("augment.strength", 0) for n in (100, 1000, 10000)]
    assert strengths[0] > strengths[1] > strengths[2] == 0


@pytest.mark.parametrize(("images", "accelerator", "budget", "model", "augmented"), [
    (6000, "cpu", {}, "", False), (6000, "cpu", {"seconds": 3600}, "", True), (6000, "cuda", {}, "", True),
    (6000, "cuda", {"seconds": 10}, "", False), (6000, "cpu", {"images": 80_000}, "", False),
    (6000, "cpu", {"images": 1_000_000}, "", True), (6000, "cuda", {"images": 80_000, "seconds": 3600}, "", False),
    (6000, "cpu", {"seconds": 3600}, "r3gan", False), (6000, "cpu", {"images": 1_000_000}, "r3gan", True),
    (100_000, "cuda", {}, "", False), (100_000, "cuda", {"seconds": 3600}, "", True),
    (7000, "cpu", {"images": 130_000}, "", False), (7000, "cpu", {"images": 150_000}, "", True),
])
def test_many_images_that_are_shown_often_are_augmented(
    images: int, accelerator: str, budget: dict[str, float], model: str, augmented: bool
) -> None:
    device = replace(CPU, accelerator=accelerator)  # type: ignore[arg-type]
    choices = plan(fingerprint(images=images), device, budget, model=model)
    found = [choice for choice in choices if choice.setting == "augment.strength"]
    assert [choice.value for choice in found] == [0.3] * augmented
    assert all("times each" in choice.reason for choice in found)


@pytest.mark.parametrize(("data", "budget", "asked", "grows"), [
    ({}, {}, {}, True), ({}, {"seconds": 60}, {}, True), ({"size": (28, 28)}, {}, {}, True),
    ({}, {"images": 100_000}, {}, False),  # steps count where time does not
    ({"images": 6000}, {}, {}, False), ({"images": 6000}, {"seconds": 3600}, {}, True),  # as it is augmented
    ({"images": 300}, {}, {}, False), ({"size": (128, 128)}, {}, {"size": (128, 128)}, False),
    ({"size": (32, 32, 32)}, {}, {}, False), ({}, {}, {"model": "dcgan"}, False), ({}, {}, {"grows": False}, False),
])
def test_batches_grow_where_it_was_measured(
    data: dict[str, Any], budget: dict[str, float], asked: dict[str, Any], grows: bool
) -> None:
    planned = document(plan(fingerprint(**data), CPU, budget, **asked))
    assert ("batch_end" in planned["train"]) == ("augment_end" in planned["train"]) == grows
    training = resolve(planned, sections=("train",)).section("train")
    assert training.batch <= (training.batch_end if grows else training.batch)


@pytest.mark.parametrize(("data", "budget", "asked", "share"), [
    ({}, {}, {}, 0.04), ({}, {"seconds": 75}, {}, 0.03), ({}, {"seconds": 3600}, {}, 0.03),
    ({}, {"images": 100_000}, {}, 0.09), ({}, {"images": 20_000}, {}, 0.03), ({}, {"images": 2_000_000}, {}, 0.03),
    ({}, {"images": 100_000, "seconds": 75}, {}, 0.03),  # the first that is reached
    ({"images": 40_000}, {}, {}, 0.089),  # 20,000 at most
    ({"images": 1000}, {}, {}, 0.03),  # three passes are no more than that
    ({"images": 300}, {}, {}, 0.03), ({"size": (32, 32, 32)}, {}, {}, 0.03),  # not tried there
    ({"size": (128, 128)}, {}, {"size": (128, 128)}, 0.03), ({"size": (28, 28)}, {}, {}, 0.03),
])
def test_a_warm_start_has_its_images_as_far_as_the_budget_goes(
    data: dict[str, Any], budget: dict[str, float], asked: dict[str, Any], share: float
) -> None:
    planned = plan(fingerprint(**data), CPU, budget, **asked)
    assert [choice.value for choice in planned if choice.setting == "task.warm_start"] == [share]
    assert resolve(document(planned), sections=("task",)).section("task").warm_start == share


@pytest.mark.parametrize(("data", "budget", "falls"), [
    ({}, {}, None), ({}, {"seconds": 1200}, 0.8), ({}, {"images": 300_000}, 0.8), ({}, {"images": 299_000}, None),
    ({"images": 1000}, {"images": 199_000}, None), ({"images": 1000}, {"images": 200_000}, 0.8),
    ({"size": (28, 28), "images": 5856}, {}, None), ({"size": (28, 28), "images": 5856}, {"seconds": 1200}, 0.8),
    ({"one": 900, "two": 900}, {"images": 10**6}, 0.8),
    ({"one": 900, "two": 900, "three": 900}, {"images": 10**6}, None),
    ({"images": 300}, {"images": 10**6}, None), ({"size": (32, 32, 32)}, {"images": 10**6}, None),  # not tried there
])
def test_the_rate_falls_longer_in_long_trainings(data: dict[str, Any], budget: dict[str, float], falls: float | None,
                                                 ) -> None:
    planned = document(plan(fingerprint(**data), CPU, budget))
    assert planned["train"].get("fall") == falls


@pytest.mark.parametrize(("data", "asked", "residual"), [
    ({}, {}, 2), ({"images": 1999}, {}, 1), ({"size": (28, 28)}, {}, 1), ({"one": 900, "two": 2100}, {}, 2),
    ({"one": 900, "two": 900, "three": 900}, {}, 1), ({"images": 300}, {}, 0),
    ({"size": (32, 32, 32), "images": 100}, {}, 2), ({"images": 600, "size": (128, 128)}, {"size": (128, 128)}, 2),
    ({"images": 300, "size": (128, 128)}, {"size": (128, 128)}, 0), ({}, {"model": "dcgan"}, None),
])
def test_the_generator_is_deeper_where_that_was_tried(
    data: dict[str, Any], asked: dict[str, Any], residual: int | None
) -> None:
    planned = document(plan(fingerprint(**data), CPU, {}, **asked))
    model = resolve(planned, sections=("model",)).section("model")
    assert getattr(model, "residual", None) == residual


@pytest.mark.parametrize(("data", "further"), [
    ({"size": (28, 28)}, 1), ({"size": (28, 40)}, 1), ({"one": 900, "two": 900, "size": (28, 28)}, 1),
    ({"size": (32, 32)}, 0), ({}, 0), ({"size": (16, 28, 28)}, 0), ({"images": 300, "size": (28, 28)}, 0),
    ({"one": 900, "two": 900, "three": 900, "size": (28, 28)}, 0),  # not tried
])
def test_a_shallow_discriminator_is_deepened(data: dict[str, Any], further: int) -> None:
    planned = document(plan(fingerprint(**data), CPU, {}))
    assert resolve(planned, sections=("model",)).section("model").discriminator_convolutions == further


@pytest.mark.parametrize(("data", "budget", "asked", "consistent"), [
    ({}, {}, {}, True), ({"one": 900, "two": 2100}, {}, {}, True), ({"size": (28, 28)}, {}, {}, True),
    ({"one": 900, "two": 900, "three": 900}, {}, {}, False),
    ({"images": 7000}, {"images": 100_000}, {}, False),  # nothing is augmented
    ({"size": (32, 32, 32)}, {}, {}, False), ({"size": (128, 128)}, {}, {"size": (128, 128)}, False),  # not tried
    ({}, {}, {"model": "dcgan"}, False), ({"images": 300}, {}, {}, False),
])
def test_the_discriminator_is_to_be_consistent_where_that_brought_images_nearer(
    data: dict[str, Any], budget: dict[str, float], asked: dict[str, Any], consistent: bool
) -> None:
    planned = document(plan(fingerprint(**data), CPU, budget, **asked))
    assert resolve(planned, sections=("task",)).section("task").consistency == float(consistent)


@pytest.mark.parametrize("asked", ["train.batch=32", "train.accumulate=3", "train.processes=3", "augment.strength=0"])
def test_batches_do_not_grow_beside_sizes_that_were_asked_for(asked: str) -> None:
    found = SimpleNamespace(fingerprint=fingerprint(), pictures=None, grey_in_colour=False, ct_by_values=False)
    planned = [{choice.setting for choice in choices(resolve(overrides=more), found, {})}  # type: ignore[arg-type]
               for more in ([], [asked])]
    assert ["train.batch_end" in one for one in planned] == [True, False]


@pytest.mark.parametrize(("modality", "changes"), [
    ("CT", {"contrast": 0.2}), ("MR", {"contrast": 0.2}), ("DX", {"contrast": 0.2}),
    ("US", {}), ("OT", {}),
])
def test_what_augmentation_changes_follows_from_the_modality(modality: str, changes: dict[str, float]) -> None:
    """Also of many images: the doctor may begin to augment."""
    planned = plan(replace(fingerprint(images=10_000), modality=modality), CPU, {})
    found = {choice.setting: choice for choice in planned if choice.setting.startswith("augment.")}
    assert {name: choice.value for name, choice in found.items()} == {f"augment.{k}": v for k, v in changes.items()}
    assert all(len(choice.reason) > 20 for choice in found.values())
    settings = resolve(document(planned), overrides=["augment.contrast=0.1"], sections=("augment",))
    assert settings.section("augment").contrast == 0.1 and settings.section("augment").strength == 0


def test_very_unequal_classes_are_evened_out_with_the_reason() -> None:
    assert "train.balance" not in chosen(fingerprint(normal=100, ill=30))
    choice = next(c for c in plan(fingerprint(normal=1000, rare=20), CPU, {}) if c.setting == "train.balance")
    assert choice.value == 0.5 and "rare 20" in choice.reason


def test_every_choice_has_a_reason_and_becomes_a_document() -> None:
    choices = plan(fingerprint(normal=10, rare=5), CPU, {})
    assert all(len(choice.reason) > 10 for choice in choices)
    sections = document(choices)
    assert sections["train"]["seconds"] == 300 and sections["model"]["kind"] == "sngan"
    resolve(sections, sections=("train", "model", "task", "prepare"))


@pytest.mark.parametrize("kind", [kind for kind in RECIPES if takes(settings_class("model", kind)()) == "noise"])
def test_every_recipe_is_made_of_settings_that_work_together(kind: str) -> None:
    sections = document(plan(fingerprint(), CPU, {}, model=kind))
    settings = resolve(sections, sections=("train", "model", "task", "augment"))
    spec = ImageSpec(size=(64, 64))
    build(settings, spec).networks()


@pytest.mark.parametrize("task", ["cycle", "cut"])
def test_translation_without_pairs_gets_one_contrast_of_each_virtual_patient(task: str) -> None:
    cohort = replace(fingerprint(healthy=9, lesion=1), virtual=True)
    found = {choice.setting: choice.value for choice in plan(cohort, CPU, {}, task=task)}
    assert found["data.unpaired"] is True and found["data.contrasts"] == found["task.domains"] == ["t1", "flair"]
    assert (found["train.rate"], found["train.beta1"]) == (4e-4, 0.5), "not unet's own"
    asked = replace(fingerprint(t1=5, t2=5), virtual=True)  # data.contrasts=[t1,t2] data.unpaired=true
    for other in (fingerprint(a=9, b=1), asked):
        assert not {"data.unpaired", "task.domains"} & {one.setting for one in plan(other, CPU, {}, task=task)}


@pytest.mark.parametrize(("masked", "task", "warped"), [
    (20, "segment", True), (261, "segment", False), (0, "segment", False), (20, "restore", False),
    (70, "semantic", True), (260, "semantic", False)])
def test_masks_of_few_patients_are_warped(masked: int, task: str, warped: bool) -> None:
    found = {choice.setting: choice.value for choice in plan(replace(fingerprint(), masked=masked), CPU, {}, task=task)}
    assert found.get("task.deform") == (0.03 if warped else None)


@pytest.mark.parametrize("task", kinds("tasks"))
def test_what_the_plan_says_is_what_a_run_of_the_task_does(task: str) -> None:
    planned = plan(replace(fingerprint(a=9, b=1), virtual=True, masked=20), CPU, {}, task=task)
    settings = resolve(document(planned), {"task": {"kind": task}}, sections=("data", "prepare", "train", "task"))
    done = settings.document()
    for choice in planned:
        section, key = choice.setting.split(".")
        assert section not in done or done[section][key] == choice.value, choice


@pytest.mark.parametrize("task", ["translate", "restore", "segment", "cut"])
def test_a_task_that_starts_from_a_run_is_planned_as_from_chance(task: str) -> None:
    cohort = replace(fingerprint(images=90, size=(128, 128)), virtual=True)
    start = Facts(name="run 1", spec=ImageSpec(size=(48, 48)), model={"kind": "unet", "width": 24})
    fresh, found = ({choice.setting: choice.value for choice in plan(cohort, CPU, {}, task=task, start=of)}
                    for of in (None, start))
    fresh = {name: value for name, value in fresh.items() if not name.startswith("model.")}
    assert found == {**fresh, "prepare.size": [48, 48], "model.kind": "unet", "model.width": 24}


def test_no_base_is_chosen_for_images_with_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_likeness.Likeness, "__call__", lambda self, base: True)
    scans = replace(fingerprint(images=90), modality="MR")
    found = SimpleNamespace(fingerprint=scans, pictures=(), grey_in_colour=False, ct_by_values=False)
    planned = [{choice.setting for choice in choices(resolve(overrides=more), found, {})}  # type: ignore[arg-type]
               for more in ((), ("task.masks=true",))]
    assert ["train.start" in settings for settings in planned] == [True, False]  # they have none of its channels


@pytest.mark.parametrize("task", ["segment", "translate"])
def test_what_has_a_truth_learns_fast_with_gradients_that_are_clipped(task: str) -> None:
    found = {choice.setting: choice.value for choice in plan(fingerprint(), CPU, {}, task=task)}
    assert (found["train.rate"], found["train.clip"], found["train.batch"]) == (3e-3, 1.0, 16)


@pytest.mark.parametrize(("task", "words", "width"), [
    ("translate", (), 16), ("translate", ("model.kind=unet", "model.width=8"), 16), ("cycle", (), 32), ("cut", (), 32),
    ("translate", ("model.discriminator_width=8",), 8)])
def test_translation_with_pairs_has_half_the_discriminator(task: str, words: tuple[str, ...], width: int) -> None:
    planned = document(plan(fingerprint(), CPU, {}, task=task))
    asked = (f"task.kind={task}", *words)
    for settings in (resolve(planned, overrides=asked, sections=("model",)),
                     given(("model",), asked, with_recipe=True)):
        assert settings.section("model").discriminator_width == width


def test_painting_takes_styles_that_nobody_learns_at_a_rate_that_the_discriminator_bears() -> None:
    found = {choice.setting: choice.value for choice in plan(fingerprint(), CPU, {}, task="semantic")}
    assert (found["task.styles"], found["train.rate"], found["task.discriminator_rate"]) == ("principal", 2e-3, 1.0)


@pytest.mark.parametrize(("images", "strength"), [(200, 0.6), (874, None)])
def test_painting_begins_with_augmentation_where_images_are_few(images: int, strength: float | None) -> None:
    found = {choice.setting: choice.value for choice in plan(fingerprint(images=images), CPU, {}, task="semantic")}
    assert found.get("augment.strength") == strength


@pytest.mark.parametrize("preset", sorted(file.stem for file in (Path(radsynth.__file__).parent / "presets").iterdir()))
def test_every_preset_can_be_trained(preset: str) -> None:
    settings = given(TRAINING, preset=preset, with_recipe=True)
    task = build(settings, ImageSpec(size=(32, 32)))
    assert task.keeps in task.networks()
