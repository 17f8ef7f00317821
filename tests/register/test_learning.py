"""The task: partners, refinement, resume, learning, and the other methods that it is measured against."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from radsynth.arrays import Prepared
from radsynth.batch import Batch
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.metrics._registration import folding, target_registration_error
from radsynth.settings import resolve
from radsynth.tasks import registers
from radsynth.tasks._partners import Partners
from radsynth.tasks._refine import refined
from radsynth.tasks._warp import compose, grid, integrate, random_velocity, smooth, warp
from radsynth.tasks.register import Register
from radsynth.verbs._pairs import itk_registration as itk
from radsynth.verbs._pairs.paired import OWN
from radsynth.verbs._pairs.registration import NOTHING, evaluate_registration
from radsynth.verbs.report import report
from tests.register.examples import SIZES, SMALL, Make, inner, task_of, velocity_of
from tests.trained import resumes, weights


class Stretch(nn.Module):
    """Velocities of up to three pixels."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(20 * values)


def test_partners_are_of_other_patients_and_alike(make_prepared: Make) -> None:
    prepared = Prepared(make_prepared(n=30, labels=("small", "large")))
    rows = prepared.indices("train")
    near = Partners(prepared, rows, 3)
    for draw in (0.0, 0.5, 0.99):
        found = near.of(rows, np.full(len(rows), draw, np.float32))
        assert (found != rows).all() and set(found) <= set(rows)
    closest = near.of(rows, np.zeros(len(rows), np.float32))
    distances = [np.abs(prepared.images(rows) - image).mean((1, 2, 3)) for image in prepared.images(rows)]
    ranks = [int(np.argsort(d).tolist().index(np.flatnonzero(rows == row)[0]))
             for d, row in zip(distances, closest, strict=True)]
    assert np.mean(ranks) < 3, "the most similar ones are taken"
    far = Partners(prepared, rows, 0).of(rows, np.linspace(0, 0.99, len(rows), dtype=np.float32))
    assert len(set(far)) > len(rows) // 3


def test_the_only_patient_has_partners_among_its_own_images(make_prepared: Make) -> None:
    folder = make_prepared(n=30)
    table = re.sub(r",p\d+,", ",p0,", (folder / "records.csv").read_text())
    (folder / "records.csv").write_text(table)
    prepared = Prepared(folder)
    rows = prepared.indices("train")
    draw = np.linspace(0, 0.99, len(rows), dtype=np.float32)
    found = Partners(prepared, rows, 10).of(rows, draw)
    assert (found != rows).all() and len(set(found)) > len(rows) // 3
    assert Partners(prepared, rows[:1], 10).of(rows[:1], draw[-1:]).tolist() == [rows[0]], "nothing else is there"


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


def test_refinement_does_not_catch_on_the_wrong_edge_of_what_is_far_off() -> None:
    def head(high: int, wide: int) -> torch.Tensor:
        """A brain with a ventricle, a dark skull and a bright scalp."""
        places = (grid((64, 64)) - 31.5) / torch.tensor([high, wide])
        radius = places.square().sum(-1).sqrt() * high
        image = torch.full((64, 64), -1.0)
        image[radius < high - 4] = 0.6
        image[radius < 0.3 * high] = -0.4
        image[(radius > high - 1.5) & (radius < high)] = 1
        return image[None, None]

    moving, fixed = head(25, 18), head(20, 20)
    found = refined(torch.zeros(1, 2, 64, 64), moving, fixed, 20, 9)
    before, after = ((image - fixed).abs().mean() for image in (moving, warp(moving, found)))
    assert after < 0.4 * before and not folding(found.numpy()).any()


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
    variant: str, size: tuple[int, ...], make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared(n=24, size=size, channels=("t1", "t2"))
    settings = resolve(overrides=(*SMALL, *VARIANTS[variant], "train.images=48"))
    assert settings.kind("model") == "unet", "the task brings its own network"
    assert resumes(data, tmp_path, settings)
    learned = [weight for key, weight in weights(tmp_path / "cut").items() if "leave.weight" in key]
    assert any(weight.abs().sum() > 0 for weight in learned), "nothing was learned"


@pytest.mark.parametrize("loss", ["relativistic", "hinge"])
def test_a_discriminator_learns_from_images_that_have_labels_too(loss: str, make_run: Callable[..., Path]) -> None:
    run = make_run("task.adversarial=0.1", f"task.loss={loss}", channels=("t1", "t2"), mask_classes=2)
    assert "generator/adversarial" in (run / "log.jsonl").read_text(encoding="utf-8")


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
    assert 0 < document["limits"]["disagreement"] < 60 and document["limits_from_patients"] > 1
    assert numbers["dice"][OWN]["value"] > numbers["dice"][NOTHING]["value"] + 0.1
    assert 1 < numbers["target_error"][NOTHING]["value"] < 3, "in mm: known warps of 3 % of 24 pixels of 2 mm"
    assert numbers["similarity"][OWN]["low"] > numbers["similarity"][NOTHING]["value"]
    assert numbers["folding"][OWN]["value"] < 1 and "gain" in numbers["dice"][NOTHING]
    if itk.methods():
        assert {"B-spline (SimpleITK)", "demons (SimpleITK)"} < set(numbers["time"])
    else:
        assert "itk" in document["refused"][0]["reason"]


def test_labels_that_no_pair_shares_are_told_where_their_overlap_would_stand(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(itk, "methods", dict)
    run = make_run("task.refinement=0", n=24, mask_classes=25, size=(16, 16))
    data = tmp_path / "data"
    own = np.arange(24, dtype=np.uint8)[:, None, None] + 1  # each image has a label of its own
    np.save(data / "shards" / "00000.masks.npy", np.broadcast_to(own, (24, 16, 16)))
    document = evaluate_registration(run, Prepared(data), out=run, images=4)
    assert "dice" not in {number["name"] for number in document["pairs"]["numbers"]}
    told = "of the 4 pairs 0 are of that kind"
    assert [told in one["reason"] for one in document["refused"] if one["name"] == "dice"] == [True]
    assert told in report(run).read_text(encoding="utf-8")


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
