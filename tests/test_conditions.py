"""Numbers that images are learned with: from tables, headers and geometry to networks, samples and samples.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from radsynth.arrays import Prepared
from radsynth.datasets import Rejected, dataset
from radsynth.errors import SettingsError
from radsynth.image import ImageSpec
from radsynth.io._dicom_header import age_in_years
from radsynth.models import build, takes
from radsynth.settings import kinds, resolve, settings_class
from radsynth.tasks import build as build_task
from radsynth.verbs._discriminator import load_discriminator
from radsynth.verbs._numbers import Numbers
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._steering.explain_sources import given_images, made_images
from radsynth.verbs._steering.inversion import starting_codes
from radsynth.verbs._steering.latents import LatentSpace
from radsynth.verbs._steering.steering import Direction, study
from radsynth.verbs.explain import explain
from radsynth.verbs.generate import generate
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from radsynth.web.explorer import Explorer

NOISE = [kind for kind in kinds("models") if takes(settings_class("model", kind)()) == "noise"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Discs whose brightness follows from a number of the table, dose, and one picture without it."""
    rng, lines, root = np.random.default_rng(0), ["file,label,dose"], tmp_path / "pictures"
    root.mkdir()
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing="ij"))
    for number in range(121):
        dose, centre = rng.uniform(10, 50), rng.uniform(6, 10, 2)
        inside = np.hypot(*(grid - centre[:, None, None])) < 4
        Pillow.fromarray((inside * dose * 5).astype(np.uint8)).save(root / f"{number:03d}.png")
        lines.append(f"{number:03d}.png,,{dose if number else ''}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def made(folder: Path, out: Path) -> Prepared:
    settings = resolve(overrides=("data.kind=folder", f"data.path={folder}", "data.conditions=[dose]",
                                  "prepare.train=0.9", "prepare.validation=0.05"))
    return prepare(settings.section("data"), out, settings=settings, workers=1)


def test_that_uncertain_findings_are_learned_is_told(folder: Path) -> None:
    """-1 of CheXpert was a class beside 0 and 1, or the number farthest from 1, without a word."""
    for values, told in ((("1.0", "0.0", ""), False), (("1.0", "0.0", "-1.0", ""), True)):
        lines = [f"{number:03d}.png,{values[number % len(values)]}" for number in range(24)]
        (folder / "labels.csv").write_text("\n".join(["file,Edema", *lines]))
        for words in (["data.conditions=[Edema]"], [f"data.labels={folder}/labels.csv", "data.columns=[label=Edema]"]):
            given = resolve(overrides=["data.kind=folder", f"data.path={folder}", *words])
            assert ("6 x -1 beside 0 and 1" in inspect(folder, settings=given).text()) == told


def test_a_finding_is_there_or_not() -> None:
    """No image is drawn with a third of an effusion."""
    line = [0.0] * 22 + [0.4] + [1.0] * 10
    drawn = Numbers({"effusion": line, "share": np.linspace(0, 1, 33).tolist()}, {}).of(range(500), seed=0)
    assert set(drawn[:, 0]) == {0, 1} and 0.2 < drawn[:, 0].mean() < 0.4 and len(set(drawn[:, 1])) > 400


def test_a_column_of_the_table_reaches_the_arrays_and_a_missing_number_is_said(folder: Path, tmp_path: Path) -> None:
    prepared = made(folder, tmp_path / "data")
    assert prepared.spec.conditions == ("dose",) and len(prepared.rows) == 120
    rejected = (tmp_path / "data" / "rejected.csv").read_text()
    assert "000.png" in rejected and "no number for dose" in rejected
    training = prepared.indices("train")
    numbers = prepared.conditions(training)
    assert numbers.shape == (len(training), 1) and abs(numbers.min() + 1) < 1e-5 > abs(numbers.max() - 1)
    brightness = prepared.images(training).reshape(len(training), -1).max(1)
    assert np.corrcoef(numbers[:, 0], brightness)[0, 1] > 0.999


def test_the_number_acts_on_what_is_made(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path / "data")
    settings = resolve(overrides=(
        "model.kind=sngan", "model.width=16", "model.latent=16", "task.anchor=10", "task.warm_start=0.1",
        "task.discriminator_rate=2", "train.batch=16", "train.rate=2e-3", "train.images=3200", "train.previews=0",
    ))
    run = train(tmp_path / "data", tmp_path / "run", settings=settings).path
    generate(run, tmp_path / "out", count=40, format="npz", seed=3)
    with (tmp_path / "out" / "samples.csv").open() as file:
        dose = np.array([float(row["dose"]) for row in csv.DictReader(file)])
    images = np.load(tmp_path / "out" / "synthetic.npz")["train_images"].reshape(40, -1)
    assert 10 <= dose.min() < 20 and 40 < dose.max() <= 50, "drawn from the training images' distribution"
    assert np.corrcoef(dose, np.sort(images, 1)[:, -20:].mean(1))[0, 1] > 0.8
    bright = [Sampler(run, at={"dose": value}) for value in (15.0, 45.0)]
    low, high = (next(sampler.images(0, 16, seed=1))[0].reshape(16, -1).max(1).mean() for sampler in bright)
    assert high > low + 0.5, (low, high)  # 5 * 15 and 5 * 45 of 255 grey values are 1.2 apart


def test_a_walk_in_the_browser_begins_at_the_image_with_its_numbers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(folder, tmp_path / "data")
    settings = resolve(overrides=("model.kind=mlp", "train.batch=8", "train.images=8", "train.previews=0"))
    shown = Explorer(train(tmp_path / "data", tmp_path / "run", settings=settings).path)
    known = {"up": Direction(name="up", kind="attribute", vector=np.zeros(1), step=1.0)}
    monkeypatch.setattr(shown, "directions", lambda: known)
    started = []

    def walk(space: LatentSpace, codes: torch.Tensor, labels: None, *_: object) -> np.ndarray:
        started.append(space.images(codes, labels).detach().numpy())
        return np.zeros((1, 5, 1, 16, 16), np.float32)

    monkeypatch.setattr("radsynth.web.explorer.walk", walk)
    for item in (0, 3):
        shown.walk("up", item, 0, None)
        ((images, _),) = shown.sampler.images(item, 1, seed=0)
        np.testing.assert_allclose(started[-1], images, atol=1e-5)


def test_explain_asks_the_discriminator_about_an_image_with_the_images_own_number(folder: Path, tmp_path: Path) -> None:
    prepared = made(folder, tmp_path / "run" / "data")
    settings = resolve(overrides=("model.kind=mlp", "train.batch=8", "train.images=800", "train.previews=0"))
    run = train(tmp_path / "run" / "data", tmp_path / "run", settings=settings).path
    found = explain(run, starts=1, steps=1)
    sampler = Sampler(run)
    discriminator, _ = load_discriminator(sampler.task, run)
    assert discriminator is not None
    given = {"held-out": given_images(sampler, [], None, prepared, 0), "synthetic": made_images(sampler, 0)}
    for kind, one in given.items():
        told = [line["score"] for line in found["images"] if line["kind"] == kind]
        with torch.no_grad():
            own, middle = ([float(discriminator(torch.from_numpy(image[None]), None, *([at[None]] if mine else []))[0])
                            for image, at in zip(one.images, one.numbers, strict=True)] for mine in (True, False))
        assert told == pytest.approx(own, abs=1e-4) and told != pytest.approx(middle, abs=1e-3)
    rows = prepared.indices("test")
    assert given["held-out"].numbers.flatten().tolist() == [
        float(prepared.conditions(rows[[k]])[0, 0]) for image in given["held-out"].images
        for k in range(len(rows)) if np.array_equal(prepared.images(rows[[k]])[0], image)]


def test_explain_and_control_draw_with_the_training_images_numbers(folder: Path, tmp_path: Path) -> None:
    """Candidates of the middle number alone would miss what images of other numbers look like."""
    made(folder, tmp_path / "data")
    settings = resolve(overrides=("model.kind=mlp", "train.batch=8", "train.images=8", "train.previews=0"))
    run = train(tmp_path / "data", tmp_path / "run", settings=settings).path
    sampler, items = Sampler(run), range(5)
    space = LatentSpace.of_run(sampler, run)
    ((images, _),) = sampler.images(0, 5, seed=7)
    targets = torch.from_numpy(images)
    codes, nearest = starting_codes(space, targets, None, 16, 1, 7)
    np.testing.assert_allclose(nearest.numpy(), images, atol=1e-5)
    own = space.codes(space.latents(items, 7), None, sampler.conditions(items, 7))
    assert torch.allclose(codes[:, 0], own) and torch.allclose(study(space, seed=7, count=5).codes, own)
    assert not torch.allclose(own, space.codes(space.latents(items, 7)), atol=1e-3)


def test_extra_images_bring_their_numbers(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name, count in (("data", 20), ("more", 5)):
        np.savez(tmp_path / f"{name}.npz", images=rng.integers(0, 255, (count, 16, 16), np.uint8),
                 labels=rng.integers(0, 2, (count, 3)))
    settings = resolve(overrides=("data.kind=medmnist", f"data.path={tmp_path / 'data.npz'}",
                                  "data.conditions=[label2]", f"prepare.extra={tmp_path / 'more.npz'}"))
    both = prepare(settings.section("data"), tmp_path / "both", settings=settings, workers=1)
    assert both.manifest.added["images"] == 5 and len(both.rows) == 25
    with np.load(tmp_path / "more.npz") as arrays:
        assert both.conditions(np.arange(20, 25)).flatten().tolist() == (2.0 * arrays["labels"][:, 2] - 1).tolist()
    np.savez(tmp_path / "more.npz", images=rng.integers(0, 255, (5, 16, 16), np.uint8), labels=np.arange(5) % 2)
    with pytest.raises(SettingsError, match=r"prepare\.extra=.*more\.npz does not fit: .*no 'label2'"):
        prepare(settings.section("data"), tmp_path / "none", settings=settings, workers=1)


def test_generated_images_are_extra_images_with_their_numbers(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path / "data")
    settings = resolve(overrides=("model.kind=mlp", "train.batch=8", "train.images=8", "train.previews=0"))
    run = train(tmp_path / "data", tmp_path / "run", settings=settings).path
    generate(run, tmp_path / "out", count=4, seed=3)
    with (tmp_path / "out" / "samples.csv").open() as file:
        dose = [float(row["dose"]) for row in csv.DictReader(file)]
    assert [Explorer(run).numbers(k, 3)["dose"] for k in range(4)] == pytest.approx(dose, abs=1e-5), "as pages tell"
    settings = resolve(overrides=("data.kind=folder", f"data.path={folder}", "data.conditions=[dose]",
                                  f"prepare.extra={tmp_path / 'out'}"))
    both = prepare(settings.section("data"), tmp_path / "both", settings=settings, workers=1)
    assert both.manifest.added["images"] == 4
    numbers, ends = both.conditions(np.arange(120, 124))[:, 0], both.manifest.conditions["dose"]
    assert (numbers + 1) / 2 * (ends[-1] - ends[0]) + ends[0] == pytest.approx(dose, abs=1e-3)


def test_impossible_numbers_are_refused(folder: Path, tmp_path: Path) -> None:
    made(folder, tmp_path / "data")
    settings = resolve(overrides=("model.kind=sngan", "model.width=8", "model.latent=8", "train.images=32"))
    run = train(tmp_path / "data", tmp_path / "run", settings=settings).path
    with pytest.raises(SettingsError, match=r"training images had 1\d\.\d+ to"):
        Sampler(run, at={"dose": 90.0})
    with pytest.raises(SettingsError, match=r"did you mean dose"):
        Sampler(run, at={"doze": 20.0})


@pytest.mark.parametrize("task", [task for task in kinds("tasks") if task != "synthesis"])
def test_tasks_that_would_ignore_numbers_refuse_them(task: str) -> None:
    settings = resolve(overrides=(f"task.kind={task}",))
    with pytest.raises(SettingsError, match=r"set data\.conditions=\[\]"):
        build_task(settings, ImageSpec(size=(16, 16), mask_classes=2, conditions=("age",)))


@pytest.mark.parametrize("kind", NOISE)
def test_every_network_takes_numbers(kind: str) -> None:
    torch.manual_seed(0)
    networks = build(settings_class("model", kind)(), ImageSpec(size=(16, 16), conditions=("age", "spacing")))
    latents, numbers = torch.randn(3, networks["generator"].latent), torch.rand(3, 2)
    images = networks["generator"](latents, None, numbers)
    assert images.shape == (3, 1, 16, 16)
    assert not torch.allclose(images, networks["generator"](latents, None, -numbers))
    logits = networks["discriminator"](images, None, numbers)
    assert logits.shape == (3,) and not torch.allclose(logits, networks["discriminator"](images, None, -numbers))
    logits.square().sum().backward()
    silent = [key for network in networks.values() for key, weight in network.named_parameters() if weight.grad is None]
    assert not silent


def test_positions_of_slices_and_ages_are_read(tmp_path: Path) -> None:
    settings = settings_class("data", "brain")(patients=2, slices=3, size=(16, 16), conditions=("position",))
    levels = [record.conditions["position"] for record in dataset("brain").records(settings, [])]
    assert levels == sorted(levels[:3]) + sorted(levels[3:]) and -6 < min(levels) < max(levels) < 56
    assert [age_in_years(text) for text in ("045Y", "006M", "", "old", "098Y")] == [45, 0.5, None, None, 90]
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).integers(1, 200, (12, 12, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 2, 5, 1])), tmp_path / "a.nii")
    rejected: list[Rejected] = []
    section = settings_class("data", "folder")(path=tmp_path, plane="axial", conditions=("position", "spacing"))
    found = [dict(record.conditions) for record in dataset("folder").records(section, rejected)]
    assert found == [{"position": k / 4, "spacing": 2.0} for k in range(5)] and not rejected


def test_a_run_without_numbers_is_as_before(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    settings = resolve(overrides=("model.kind=sngan", "model.width=8", "model.latent=8", "train.images=32"))
    run = train(make_prepared(), tmp_path / "run", settings=settings).path
    assert json.loads((run / "spec.json").read_text())["conditions"] == {}
    assert Sampler(run).numbers.of(range(3), 0).shape == (3, 0)
