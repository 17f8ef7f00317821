"""Registration: warps against closed forms and other programs, folding against an analytic field, learning, apply."""

from __future__ import annotations

import csv
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from radsynth.arrays import Batch, Prepared
from radsynth.checkpoints import load_tensors
from radsynth.errors import DataError, Interrupted, SettingsError
from radsynth.image import Image, ImageSpec
from radsynth.io import Provenance, read, write
from radsynth.losses.alignment import bending, label_mismatch, local_correlation, roughness
from radsynth.metrics._registration import folding, jacobian_determinants, label_overlap, target_registration_error
from radsynth.settings import resolve
from radsynth.tasks import build, registers
from radsynth.tasks._partners import Partners
from radsynth.tasks._refine import refined
from radsynth.tasks._warp import compose, enlarge, grid, integrate, random_velocity, shrink, smooth, warp
from radsynth.tasks.register import Register
from radsynth.verbs._applying.fields import write_field
from radsynth.verbs._applying.placing import Placing, placings, sampled
from radsynth.verbs._pairs import itk_registration as itk
from radsynth.verbs._pairs.paired import OWN
from radsynth.verbs._pairs.registration import NOTHING, evaluate_registration
from radsynth.verbs._training.loop import Loop
from radsynth.verbs.apply import apply
from radsynth.verbs.generate import generate
from radsynth.verbs.report import report
from radsynth.verbs.train import train

Make = Callable[..., Path]
SMALL = ("task.kind=register", "model.width=4", "model.discriminator_width=4", "model.halvings=1", "train.batch=8",
         "train.previews=0", "train.precision=32-true", "task.window=5")
FROM = Provenance(model="none", weights="", seed=0, index=0)
SIZES = [(24, 20), (12, 10, 14)]


def batch_of(images: torch.Tensor, masks: torch.Tensor | None = None) -> Batch:
    return Batch(images=images, masks=masks, seed=3, items=tuple(range(len(images))))


def velocity_of(space: tuple[int, ...], size: float = 1.0, wave: float = 8.0) -> torch.Tensor:
    return random_velocity(batch_of(torch.zeros(2, 1, *space)), "known", space, size, wave)


def inner(space: tuple[int, ...], margin: int = 4) -> tuple[slice, ...]:
    """All but the border of images (n, c, *space)."""
    return (slice(None), slice(None), *(slice(margin, side - margin) for side in space))


def task_of(*overrides: str, spec: ImageSpec) -> Any:
    settings = resolve(overrides=("task.kind=register", *overrides), sections=("task", "model", "augment"))
    return build(settings.section("task"), settings.section("model"), settings.section("augment"), spec)


class Stretch(nn.Module):
    """Velocities of up to three pixels."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(20 * values)


# Warps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SIZES)
def test_a_constant_velocity_is_its_own_displacement(space: tuple[int, ...]) -> None:
    velocity = torch.tensor([1.5, -2.25, 0.75][: len(space)]).reshape(1, -1, *[1] * len(space)).expand(1, -1, *space)
    assert torch.allclose(integrate(velocity), velocity, atol=1e-5)


def test_a_linear_velocity_grows_exponentially() -> None:
    space, rate = (41, 33), 0.2
    from_middle = grid(space).movedim(-1, 0)[None] - torch.tensor([20.0, 16.0]).reshape(1, 2, 1, 1)
    displacement = integrate(-rate * from_middle, squarings=8)  # x' = -r x: x e^-r after unit time
    assert torch.allclose(displacement, (math.exp(-rate) - 1) * from_middle, atol=0.02)


@pytest.mark.parametrize("space", SIZES)
def test_scaling_and_squaring_follows_the_flow_of_an_ode_solver(space: tuple[int, ...]) -> None:
    from scipy.integrate import solve_ivp
    from scipy.ndimage import map_coordinates

    velocity = velocity_of(space, wave=10.0)[:1]
    starts = [4.0, 5.25] if len(space) == 2 else [4.0, 5.25, 6.5]

    def flow(time: float, place: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array([map_coordinates(v, place[:, None], order=1, mode="nearest")[0] for v in velocity[0].numpy()])

    end = solve_ivp(flow, (0, 1), np.asarray(starts), rtol=1e-7, atol=1e-8, max_step=0.02).y[:, -1]
    offset = torch.tensor(starts).reshape(1, -1, *[1] * len(space))  # of an image of one pixel, which lies at 0
    found = warp(integrate(velocity, squarings=8), offset)
    assert np.allclose(np.asarray(starts) + found.reshape(-1).numpy(), end, atol=0.02)


@pytest.mark.parametrize("space", SIZES)
def test_the_negative_velocity_is_the_inverse_and_nothing_folds(space: tuple[int, ...]) -> None:
    velocity = velocity_of(space)
    there, back = integrate(velocity), integrate(-velocity)
    assert there.abs().max() > 1, "a test of small warps would show nothing"
    for left in (compose(there, back), compose(back, there)):
        assert left[inner(space)].abs().max() < 0.15
    assert folding(there.numpy()).max() == 0


@pytest.mark.parametrize("space", SIZES)
def test_warping_by_whole_pixels_shifts_and_agrees_with_monai(space: tuple[int, ...]) -> None:
    from monai.networks.blocks.warp import Warp

    images, displacement = torch.rand(2, 3, *space), torch.zeros(2, len(space), *space)
    displacement[:, -1] = 2
    assert torch.allclose(warp(images, displacement)[..., :-2], images[..., 2:], atol=1e-5)
    displacement = velocity_of(space)
    block: Any = Warp  # it has no types
    theirs = block("bilinear", "border")(images, displacement)
    assert torch.allclose(warp(images, displacement), theirs, atol=1e-4)
    assert set(warp(images, displacement, mode="nearest").flatten().tolist()) <= set(images.flatten().tolist())


@pytest.mark.parametrize("space", [(13, 18), (7, 9, 12)])
def test_fields_on_coarser_grids_keep_linear_ones_and_blurring_keeps_the_mean(space: tuple[int, ...]) -> None:
    ramp = grid(space).movedim(-1, 0)[None]
    back = enlarge(shrink(ramp, 2), 2, space)
    assert torch.allclose(back[inner(space, 2)], ramp[inner(space, 2)], atol=1e-4)
    blurred = smooth(torch.rand(1, 2, 40, 40), 2.0)
    assert blurred.std() < 0.1 and abs(float(blurred.mean()) - 0.5) < 0.05
    assert torch.allclose(smooth(torch.full((1, 1, *space), 0.3), 1.0), torch.tensor(0.3))


def test_random_velocities_depend_on_seed_and_item_alone() -> None:
    whole = velocity_of((16, 16), 1.5)
    part = Batch(images=torch.zeros(1, 1, 16, 16), seed=3, items=(1,))
    assert torch.allclose(whole[1:], random_velocity(part, "known", (16, 16), 1.5, 8.0), atol=1e-6)
    assert torch.allclose(whole.square().mean((1, 2, 3)).sqrt(), torch.tensor(1.5))


# Losses and numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [(20, 17), (10, 12, 11)])
def test_local_correlation_is_monais_and_blind_to_brightness_and_contrast(space: tuple[int, ...]) -> None:
    from monai.losses.image_dissimilarity import LocalNormalizedCrossCorrelationLoss

    one, other = torch.rand(2, 1, *space), torch.rand(2, 1, *space)
    found = local_correlation(one, other, 5)
    loss = LocalNormalizedCrossCorrelationLoss(len(space), kernel_size=5, kernel_type="rectangular", reduction="none",
                                               smooth_nr=0, smooth_dr=1e-4)
    theirs = -loss(other, one)[inner(space, 2)].mean(dim=tuple(range(1, one.ndim)))  # whole windows alone
    assert torch.allclose(found, theirs, atol=5e-3)
    assert torch.allclose(local_correlation(one, 0.3 - 2 * one, 5), torch.ones(2), atol=0.02)


def test_roughness_and_label_mismatch_have_their_closed_forms() -> None:
    assert float(roughness(grid((9, 9)).movedim(-1, 0)[None])) == pytest.approx(0.5)  # slopes 1, 0, 0, 1
    flat = grid((1, 9, 9)).movedim(-1, 0)[None]
    assert float(roughness(flat)) == pytest.approx(1 / 3), "an axis of one pixel has no slope"
    a = torch.zeros(1, 2, 4, 4)
    a[0, 0, :2], b = 1, torch.zeros(1, 2, 4, 4)
    b[0, 0, 1:3] = 1
    assert float(label_mismatch(a, b)) == pytest.approx(0.5) and float(label_mismatch(a, a)) == pytest.approx(0)
    assert float(label_mismatch(torch.zeros_like(a), torch.zeros_like(a))) == 0, "a label that neither has"


@pytest.mark.parametrize("space", [(12, 9), (12, 8, 7), (12, 8, 1)])
def test_bending_has_its_closed_form_at_every_size_and_grows_gently(space: tuple[int, ...]) -> None:
    def bent(finer: int) -> torch.Tensor:
        sides = tuple(finer * side if side > 1 else 1 for side in space)
        rows, columns = (grid(sides)[..., axis] / max(sides) for axis in (0, 1))
        field = torch.zeros(1, len(space), *sides)
        field[0, 0], field[0, 1] = 0.3 * rows.square() + 0.2 * columns, 0.4 * rows * columns  # |H|^2 = 0.6^2 + 2 0.4^2
        return field

    squares = 0.6**2 + 2 * 0.4**2
    for finer in (1, 3):
        assert float(bending(bent(finer), 100.0)) == pytest.approx(squares, rel=1e-3)
        assert float(bending(bent(finer), 0.5)) == pytest.approx(0.5 * (math.sqrt(1 + 4 * squares) - 1), rel=1e-3)
    assert float(bending(grid((5, 5)).movedim(-1, 0)[None], 1.0)) == 0, "scaling bends nothing"


def test_folding_is_measured_on_analytic_fields() -> None:
    rows = np.arange(40, dtype=np.float32)
    wave = np.zeros((2, 2, 40, 30), np.float32)
    wave[0, 0] = (2.0 * np.sin(rows / 2))[:, None]  # det = 1 + cos(p / 2): never below 0
    wave[1, 0] = (6.0 * np.sin(rows / 2))[:, None]  # det = 1 + 3 cos(p / 2): below 0 where cos < -1/3
    determinants = jacobian_determinants(wave)
    assert np.allclose(determinants[1, 2:-2], (1 + 6 * np.sin(0.5) * np.cos(rows / 2))[2:-2, None], atol=1e-3)
    share = float((1 + 6 * np.sin(0.5) * np.cos(rows / 2) <= 0).mean())
    assert folding(wave)[0] == 0 and folding(wave)[1] == pytest.approx(share, abs=0.051) and share > 0.3
    scaled = 0.5 * np.stack(np.meshgrid(*[np.arange(6, dtype=np.float32)] * 3, indexing="ij"))[None]
    assert np.allclose(jacobian_determinants(scaled), 1.5**3)


@pytest.mark.parametrize("space", [(11, 7), (9, 4, 5), (1, 6), (6, 1)])
def test_folding_is_the_same_in_parts(space: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    fields = np.random.default_rng(0).normal(0, 3, (2, len(space), *space)).astype(np.float32)
    whole = folding(fields)
    assert np.allclose(whole, (jacobian_determinants(fields) <= 0).reshape(2, -1).mean(1)) and whole.any()
    for pixels in (1, 2 * math.prod(space[1:]), 3 * math.prod(space[1:])):
        monkeypatch.setattr("radsynth.metrics._registration.SLAB", pixels)
        assert np.array_equal(folding(fields), whole)


def test_errors_are_in_mm_and_labels_that_one_patient_lacks_do_not_count() -> None:
    found, truth = np.zeros((2, 2, 8, 8), np.float32), np.zeros((2, 2, 8, 8), np.float32)
    truth[0, 0], truth[0, 1], inside = 3, 4, np.ones((2, 8, 8), bool)
    inside[1] = False
    errors = target_registration_error(found, truth, inside, (2.0, 2.0))
    assert errors[0] == pytest.approx(10) and np.isnan(errors[1])
    fixed = np.zeros((1, 4, 4), np.uint8)
    fixed[0, :2], fixed[0, 3, 3] = 1, 2
    moving = np.where(fixed == 2, 0, fixed)
    assert label_overlap(fixed, fixed, fixed, 3)[0] == 1
    assert label_overlap(moving, fixed, moving, 3)[0] == 1 and np.isnan(label_overlap(fixed, fixed, 0 * fixed, 3)[0])


# The task -------------------------------------------------------------------------------------------------------------


def test_partners_are_of_other_patients_and_alike(make_prepared: Make) -> None:
    prepared = Prepared(make_prepared(n=30, labels=("small", "large")))
    rows = prepared.indices("train")
    images = torch.from_numpy(prepared.images(rows))
    near = Partners(prepared, rows, 3)
    for draw in (0.0, 0.5, 0.99):
        found = near.of(images, torch.full((len(rows),), draw))
        assert (found != rows).all() and set(found) <= set(rows)
    closest = near.of(images, torch.zeros(len(rows)))
    distances = [np.abs(prepared.images(rows) - image).mean((1, 2, 3)) for image in prepared.images(rows)]
    ranks = [int(np.argsort(d).tolist().index(np.flatnonzero(rows == row)[0]))
             for d, row in zip(distances, closest, strict=True)]
    assert np.mean(ranks) < 3, "the most similar ones are taken"
    far = Partners(prepared, rows, 0).of(images, torch.linspace(0, 0.99, len(rows)))
    assert len(set(far)) > len(rows) // 3


@pytest.mark.parametrize("size", [(32, 32), (16, 20, 18)])
def test_refinement_undoes_a_known_warp_and_image_by_image(size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch,
                                                           ) -> None:
    batch = Batch(images=torch.empty(2, 0), seed=1, items=(0, 1))
    fixed = random_velocity(batch, "texture", size, 1.0, 4.0)[:, :1].clamp(-1, 1)
    velocity = random_velocity(batch, "warp", size, 0.8, 10.0)
    moving, truth = warp(fixed, integrate(velocity)), integrate(-velocity)
    nothing = torch.zeros_like(truth)

    def error(found: torch.Tensor) -> float:
        return float((found - truth).square().sum(1).sqrt()[(slice(None), *[slice(3, -3)] * len(size))].mean())

    better = refined(nothing, moving, fixed, 30, 9)
    assert error(better) < 0.5 * error(nothing) and not folding(better.numpy()).any()
    assert torch.equal(refined(nothing[1:], moving[1:], fixed[1:], 30, 9), better[1:])
    assert error(refined(truth, moving, fixed, 30, 9)) < 0.3 * error(nothing), "what is right stays nearly right"
    rough = truth + random_velocity(batch, "network", size, 0.4, 3.0)
    assert error(refined(rough, moving, fixed, 30, 9)) < 0.5 * error(rough), "a network's small errors go"
    monkeypatch.setattr("radsynth.tasks._refine.LARGEST", int(np.prod(size)) // 2)
    assert error(refined(nothing, moving, fixed, 30, 9)) < 0.8 * error(nothing), "coarser, for large images"


@pytest.mark.parametrize("size", SIZES)
def test_an_untrained_registration_changes_nothing_and_the_warps_are_inverse(size: tuple[int, ...]) -> None:
    for passes in (1, 2):
        task: Register = task_of(f"task.passes={passes}", "model.width=4", spec=ImageSpec(size=size))
        network, images = task.networks()["generator"], torch.rand(2, 1, *size)
        assert registers(task) and not task.warps(network, images, images.flip(-1)).forward.any()
        torch.manual_seed(0)
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        task = task_of(f"task.passes={passes}", "task.blur=2", "model.width=4", spec=ImageSpec(size=size))
        with torch.no_grad():
            warps = task.warps(nn.Sequential(network, Stretch()), images, images.flip(-1))
        assert warps.forward.abs().max() > 0.2
        assert compose(warps.forward, warps.backward)[inner(size)].abs().max() < 0.2


VARIANTS = {"plain": (), "adversarial": ("task.adversarial=0.1", "task.loss=relativistic"),
            "one way": ("task.both_ways=false", "task.similarity=squared", "task.passes=2"),
            "multi-modal": ("task.moving=t1", "task.fixed=t2")}


@pytest.mark.parametrize("size", [(16, 16), (8, 12, 10)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_resumes_to_the_same_weights(
    variant: str, size: tuple[int, ...], make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_prepared(n=24, size=size, channels=("t1", "t2"))
    settings = resolve(overrides=(*SMALL, *VARIANTS[variant], "train.images=48"))
    assert settings.kind("model") == "unet", "the task brings its own network"
    train(data, tmp_path / "whole", settings=settings)
    step = Loop.take_step

    def step_then_stop(loop: Loop) -> dict[str, float]:
        if loop.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(loop)

    monkeypatch.setattr(Loop, "take_step", step_then_stop)
    with pytest.raises(Interrupted):
        train(data, tmp_path / "cut", settings=settings)
    monkeypatch.undo()
    train(data, tmp_path / "cut", settings=settings)
    one, two = (load_tensors(tmp_path / name / "generator.safetensors")[0] for name in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(weight.abs().sum() > 0 for key, weight in one.items() if "leave.weight" in key), "nothing was learned"


@pytest.fixture
def make_run(make_prepared: Make, tmp_path: Path) -> Callable[..., Path]:
    def make(*overrides: str, images: int = 16, n: int = 24, **spec: Any) -> Path:
        settings = resolve(overrides=(*SMALL, f"train.images={images}", *overrides))
        data = make_prepared(n=n, **spec)
        if spec.get("mask_classes"):
            pixels = np.load(data / "shards" / "00000.images.npy")[:, 0]
            np.save(data / "shards" / "00000.masks.npy", (pixels > 60).astype(np.uint8))
        train(data, tmp_path / "run", settings=settings)
        return tmp_path / "run"

    return make


def test_learning_brings_discs_together_and_the_measurement_says_so(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run("train.rate=0.01", images=800, n=48, mask_classes=2, spacing=(2.0, 2.0), size=(24, 24))
    document = evaluate_registration(run, Prepared(tmp_path / "data"), out=run, images=8)
    assert (run / "results.json").is_file() and np.load(run / "pictures" / "pairs.npy").shape[:2] == (
        8, len(document["pairs"]["columns"]))
    numbers = {number["name"]: {line["method"]: line for line in number["methods"]}
               for number in document["pairs"]["numbers"]}
    assert document["pairs"]["numbers"][1]["unit"] == "mm"
    assert "Registered images" in report(run).read_text(encoding="utf-8")
    assert numbers["dice"][OWN]["value"] > numbers["dice"][NOTHING]["value"] + 0.1
    assert 1 < numbers["target_error"][NOTHING]["value"] < 3, "in mm: known warps of 3 % of 24 pixels of 2 mm"
    assert numbers["similarity"][OWN]["low"] > numbers["similarity"][NOTHING]["value"]
    assert numbers["folding"][OWN]["value"] < 1 and "gain" in numbers["dice"][NOTHING]
    if itk.methods():
        assert {"B-spline (SimpleITK)", "demons (SimpleITK)"} < set(numbers["time"])
    else:
        assert "itk" in document["refused"][0]["reason"]


@pytest.mark.parametrize(("name", "size"), [("B-spline (SimpleITK)", (48, 40)), ("demons (SimpleITK)", (48, 40)),
                                            ("demons (SimpleITK)", (24, 28, 26))])
def test_the_other_methods_find_a_known_warp(name: str, size: tuple[int, ...]) -> None:
    pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(0)
    image = smooth(torch.from_numpy(rng.random((1, 1, *size), dtype=np.float32)), 2.0)
    image = 2 * (image - image.min()) / (image.max() - image.min()) - 1
    velocity = velocity_of(size, 1.0, 16.0)[:1]
    moving = warp(image, integrate(velocity))
    found = itk.methods()[name](moving[0, 0].numpy(), image[0, 0].numpy())[None]
    everywhere, truth = np.ones((1, *size), bool), integrate(-velocity).numpy()
    before = target_registration_error(np.zeros_like(truth), truth, everywhere)[0]
    assert target_registration_error(found, truth, everywhere)[0] < 0.5 * before


def test_b_splines_that_leave_the_image_are_sought_again() -> None:
    pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(36)
    moving, fixed = (gaussian_filter(rng.random((16, 16)), 2).astype(np.float32) for _ in range(2))
    with pytest.raises(RuntimeError, match="outside moving image"):
        itk._b_spline(moving, fixed, {})
    found = itk.b_spline(moving, fixed)
    assert found.any() and np.abs(found).max() < 16
    assert not itk.b_spline(np.zeros((16, 16), np.float32), fixed).any(), "nothing can be told of an empty image"


# Apply ----------------------------------------------------------------------------------------------------------------


def disc(space: tuple[int, ...], at: tuple[float, ...], radius: float) -> np.ndarray[Any, Any]:
    places = np.stack(np.meshgrid(*[np.arange(side) for side in space], indexing="ij"))
    distance = np.sqrt(((places - np.asarray(at).reshape(-1, *[1] * len(space))) ** 2).sum(0))
    return np.asarray(200 * np.clip(radius - distance + 0.5, 0, 1), np.uint8)[None]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "samples.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def affine_of(spacing: tuple[float, ...], corner: tuple[float, ...]) -> np.ndarray[Any, Any]:
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = corner
    return affine


def test_results_lie_on_the_fixed_grid_and_itk_applies_the_field_alike(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    run = make_run("train.rate=0.01", images=160, size=(12, 16, 16), spacing=(2.0, 2.0, 2.0), format="nifti",
                   bits=16)
    fixed = Image(pixels=disc((14, 22, 18), (7, 11, 9), 6), spacing=(2.0, 2.0, 2.0),
                  affine=affine_of((2.0, 2.0, 2.0), (5.0, -3.0, 8.0)), laid=((1, 2, 0), (True, False, True)))
    moving = Image(pixels=disc((20, 30, 26), (9, 14, 14), 6).astype(np.uint16) * 10, bits=16, spacing=(1.5, 1.5, 1.5),
                   affine=affine_of((1.5, 1.5, 1.5), (5.0, -3.0, 10.0)))
    labels = Image(pixels=(moving.pixels > 1000).astype(np.uint8) * 3, spacing=moving.spacing, affine=moving.affine)
    for name, image in (("fixed", fixed), ("moving", moving), ("labels", labels)):
        write(image, tmp_path / f"{name}.nii.gz", provenance=FROM)
    out = tmp_path / "out"
    result = apply(run, tmp_path / "moving.nii.gz", out, onto=tmp_path / "fixed.nii.gz",
                   labels=tmp_path / "labels.nii.gz")
    assert result.count == 1
    (row,) = rows(out)
    assert row["source"] == "moving.nii.gz" and float(row["folding"]) == 0
    warped, carried = read(out / row["file"]), read(out / row["labels"])
    assert isinstance(warped, Image) and isinstance(carried, Image)
    assert warped.affine is not None and fixed.affine is not None
    assert warped.space == fixed.space and np.allclose(warped.affine, fixed.affine)
    assert set(np.unique(carried.pixels)) == {0, 3}
    assert warped.pixels.dtype == np.uint16 and warped.pixels.max() > 1900, "units are those of the moving image"
    files = [nibabel.load(path) for path in (tmp_path / "fixed.nii.gz", out / row["file"], out / row["labels"],
                                             out / row["field"])]
    assert nibabel.aff2axcodes(files[0].affine) == ("I", "R", "P")
    for file in files:
        assert file.shape[:3] == files[0].shape and np.allclose(file.affine, files[0].affine), "one array on the other"
    # ITK: the field maps points of the fixed image to points of the moving one, in LPS mm.
    field = sitk.Cast(sitk.ReadImage(str(out / row["field"])), sitk.sitkVectorFloat64)
    one, other = (sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"), sitk.sitkFloat32) for name in ("moving", "fixed"))
    theirs = sitk.Resample(one, other, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0)
    difference = np.abs(sitk.GetArrayFromImage(theirs) - sitk.GetArrayFromImage(
        sitk.ReadImage(str(out / row["file"]), sitk.sitkFloat32)))
    assert np.quantile(difference, 0.99) < 20, "at the border of the moving image ITK stops a pixel earlier"
    assert apply(run, tmp_path / "moving.nii.gz", out, onto=tmp_path / "fixed.nii.gz",
                 labels=tmp_path / "labels.nii.gz").count == 1, "the same call again changes nothing"


def test_pictures_and_dicom_in_folders(make_run: Callable[..., Path], tmp_path: Path) -> None:
    import pydicom

    run = make_run("train.rate=0.01", images=80, size=(16, 16), modality="MR", spacing=(4.0, 4.0), format="dicom",
                   bits=12)
    for number in (1, 2, 3):
        image = Image(pixels=disc((64, 60), (30 + number, 30), 14).astype(np.uint16) * 9, modality="MR", bits=12,
                      spacing=(1.0, 1.0))
        write(image, tmp_path / ("fixed" if number == 3 else "in") / f"{number}.dcm",
                  provenance=replace(FROM, index=number))
    (tmp_path / "in" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM nothing")
    result = apply(run, tmp_path / "in", tmp_path / "out", onto=tmp_path / "fixed")
    assert result.count == 2 and [r.path for r in result.rejected if not r.skipped] == ["broken.dcm"]
    for row in rows(tmp_path / "out"):
        dataset = pydicom.dcmread(tmp_path / "out" / row["file"])
        assert (dataset.Rows, dataset.Columns, dataset.SyntheticData) == (64, 60, "YES")
        assert dataset.ImageType[0] == "DERIVED" and float(row["similarity"]) > 0


def test_slices_of_volumes_are_registered_slice_by_slice_a_few_at_a_time(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("train.rate=0.01", "train.images=400", n=48, size=(16, 16), format="nifti")
    fixed = np.stack([disc((16, 16), (8, 8), 5)[0]] * 4)[None]
    moving = np.stack([disc((16, 16), (8, 8 + k % 2), 4)[0] for k in range(4)])[None]
    for name, pixels in (("fixed", fixed), ("moving", moving)):
        write(Image(pixels=pixels, spacing=(3.0, 1.0, 1.0)), tmp_path / f"{name}.nii.gz", provenance=FROM)
    apply(run, tmp_path / "moving.nii.gz", tmp_path / "out", onto=tmp_path / "fixed.nii.gz")
    (row,) = rows(tmp_path / "out")
    warped = read(tmp_path / "out" / row["file"])
    assert isinstance(warped, Image) and warped.space == (4, 16, 16)
    field = read_field(tmp_path / "out" / row["field"])
    assert field.shape == (16, 16, 4, 1, 3) and not field[..., 2].any() and np.abs(field[..., :2]).max() > 0.05
    before, after = (np.abs(a.astype(float) - fixed).mean() for a in (moving, warped.pixels))
    assert after < before
    monkeypatch.setattr("radsynth.verbs._applying.onto.TOGETHER", 3)
    apply(run, tmp_path / "moving.nii.gz", tmp_path / "parts", onto=tmp_path / "fixed.nii.gz")
    assert np.allclose(read_field(tmp_path / "parts" / row["field"]), field, atol=1e-3)
    (again,) = rows(tmp_path / "parts")
    assert float(again["similarity"]) == pytest.approx(float(row["similarity"]), abs=1e-3)
    monkeypatch.setattr("radsynth.verbs._applying.onto.LARGEST", 100)
    write(Image(pixels=fixed[:, 0]), tmp_path / "slice.png", provenance=FROM)
    with pytest.raises(DataError, match=r"million are registered at once: train on coarser ones \(prepare.size\)"):
        apply(run, tmp_path / "slice.png", tmp_path / "no", onto=tmp_path / "slice.png")


@pytest.mark.parametrize(("given", "message"), [
    ({}, "--onto FIXED"), ({"onto": "both"}, "holds 2 images"), ({"onto": "nothing"}, "nothing"),
    ({"onto": "large.png"}, "small.png has 16 x 16 pixels and large.png 24 x 20"),
    ({"onto": "small.png", "labels": "large.png"}, "its labels large.png have the size"),
    ({"onto": "small.png", "labels": "nowhere"}, "nowhere, which holds labels to be warped, does not exist"),
])
def test_what_cannot_be_registered_is_refused(
    given: dict[str, str], message: str, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run()
    for name, space in (("small.png", (16, 16)), ("large.png", (24, 20)), ("both/1.png", (16, 16)),
                        ("both/2.png", (16, 16))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(Image(pixels=disc(space, (8, 8), 5)), tmp_path / name, provenance=FROM)
    onto, labels = (tmp_path / given[key] if key in given else None for key in ("onto", "labels"))
    with pytest.raises((DataError, SettingsError), match=message):
        apply(run, tmp_path / "small.png", tmp_path / "out", onto=onto, labels=labels)
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingsError, match="radsynth apply"):
        generate(run, tmp_path / "drawn", count=1)


def test_other_runs_take_no_fixed_image(make_prepared: Make, tmp_path: Path) -> None:
    settings = resolve(overrides=(*SMALL[1:5], "task.kind=restore", "train.images=8", "train.precision=32-true"))
    train(make_prepared(n=12), tmp_path / "run", settings=settings)
    with pytest.raises(SettingsError, match=r"task\.kind=register"):
        apply(tmp_path / "run", tmp_path, tmp_path / "out", onto=tmp_path)


def test_images_are_laid_on_each_other_by_position_and_by_their_middles() -> None:
    fixed = Image(pixels=np.zeros((1, 6, 8)), spacing=(2.0, 2.0))
    moving = Image(pixels=np.zeros((1, 11, 15)), spacing=(1.0, 1.0))
    (middle,) = placings(moving, fixed, "a", "b")
    assert np.allclose(middle.matrix @ [2.5, 3.5] + middle.offset, [5, 7])
    moving = moving.replace(affine=affine_of((1.0, 1.0, 1.0), (1.0, 2.0, 0.0)))
    header, _ = placings(moving, fixed.replace(affine=affine_of((2.0, 2.0, 2.0), (0.0, 0.0, 0.0))), "a", "b")
    assert np.allclose(header.matrix @ [1, 1] + header.offset, [0, 1])  # 2 mm down, 2 mm right: at (2, 2) mm
    values = np.arange(12.0).reshape(1, 3, 4)
    shifted = sampled(values, Placing(matrix=np.eye(2), offset=np.array([0.0, 1.0])), (3, 3))
    assert np.allclose(shifted, values[:, :, 1:])


@pytest.mark.parametrize("space", [(7, 6), (5, 6, 4)])
def test_places_in_parts_are_those_of_the_whole(space: tuple[int, ...], monkeypatch: pytest.MonkeyPatch,
                                                tmp_path: Path) -> None:
    rng, d = np.random.default_rng(0), len(space)
    pixels, displacement = rng.normal(size=(2, *space)), rng.normal(size=(d, *space)).astype(np.float32)
    placing = Placing(matrix=np.eye(d) + 0.1 * rng.normal(size=(d, d)), offset=rng.normal(size=d))
    image = Image(pixels=pixels[:1].astype(np.float32), spacing=(2.0,) * d)
    found = []
    for part in (10**6, 1, 2 * math.prod(space[1:])):
        monkeypatch.setattr("radsynth.verbs._applying.placing.TOGETHER", part)
        write_field(tmp_path / f"{part}.nii.gz", displacement, placing, image, image)
        found.append((sampled(pixels, placing, space, displacement),
                      read_field(tmp_path / f"{part}.nii.gz")))
    whole, *others = found
    assert whole[0].std() > 0 and whole[1].std() > 0
    assert all(np.allclose(a, b, atol=1e-6) for other in others for a, b in zip(other, whole, strict=True))


def read_field(path: Path) -> np.ndarray[Any, Any]:
    opened: Any = nibabel.load(path)
    return np.asarray(opened.dataobj)


def test_fields_of_slices_lie_in_space(tmp_path: Path) -> None:
    affine = np.array([[0.0, 0, 1, 4], [2.0, 0, 0, 5], [0, -3.0, 0, 6], [0, 0, 0, 1]])  # a sagittal slice, head up
    displacement = np.zeros((2, 5, 4), np.float32)
    displacement[0], displacement[1] = 1, 0.5  # a row down, half a column to the right
    slice_ = Image(pixels=np.zeros((1, 5, 4)), affine=affine)
    stays = Placing(matrix=np.eye(2), offset=np.zeros(2))
    for moving in (slice_, slice_.replace(affine=None)):
        write_field(tmp_path / "field.nii.gz", displacement, stays, moving, slice_)
        found: Any = nibabel.load(tmp_path / "field.nii.gz")
        assert found.shape == (4, 5, 1, 1, 3) and np.allclose(found.dataobj[0, 0, 0, 0], [0, 1, -3])


def test_some_moving_images_are_the_fixed_ones_under_a_known_warp() -> None:
    task = task_of("task.known=0.5", spec=ImageSpec(size=(24, 24)))
    fixed = torch.zeros(40, 1, 24, 24)
    fixed[:, :, 8:16, 8:16] = 1
    batch = Batch(images=fixed, seed=0, items=tuple(range(40)))
    moving = task._some_known(batch, torch.full_like(fixed, -5.0), fixed)
    known = (moving > -4).flatten(1).all(1)
    assert 10 <= int(known.sum()) <= 30 and (moving[~known] == -5).all()
    assert 0.01 < float((moving - fixed)[known].abs().mean()) < 0.2, "warped, not replaced by something else"
    assert torch.equal(task_of("task.known=0", spec=ImageSpec(size=(24, 24)))._some_known(batch, -fixed, fixed), -fixed)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean t1"):
        task_of("task.moving=t11", spec=ImageSpec(size=(16, 16), channels=("t1", "t2")))
    with pytest.raises(SettingsError, match="nothing to learn from"):
        task_of("task.similarity=none", spec=ImageSpec(size=(16, 16)))
    task_of("task.similarity=none", spec=ImageSpec(size=(16, 16), mask_classes=2))
