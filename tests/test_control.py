"""Latent directions: against closed forms on a linear generator, and on every network that draws from noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import Tensor, nn

from radsynth.arrays import Prepared
from radsynth.errors import FolderError, SettingsError
from radsynth.image import ImageSpec
from radsynth.models import build
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve, settings_class
from radsynth.tasks import build as build_task
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._steering import control_pictures
from radsynth.verbs._steering import directions as directions_of
from radsynth.verbs._steering.attributes import Attribute, attributes
from radsynth.verbs._steering.contact_sheets import Shown
from radsynth.verbs._steering.control_words import sentences
from radsynth.verbs._steering.latents import LatentSpace
from radsynth.verbs._steering.steering import (
    class_directions,
    find_directions,
    measure_effects,
    study,
    truncation_sweep,
    walk,
)
from radsynth.verbs.control import control

LATENT, SIDE = 6, 8


class Linear(nn.Module):
    """Images that are linear in the latent: pixel = W z + b, so that every direction and slope is known."""

    latent = LATENT

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(classes, LATENT) if classes else None
        self.first = nn.Linear(LATENT, SIDE * SIDE)
        with torch.no_grad():
            self.first.weight.copy_(0.02 * torch.randn(SIDE * SIDE, LATENT, generator=generator))
            self.first.weight[:, 2] += 0.03  # this latent number is brightness, above all
            self.first.weight[: SIDE * SIDE // 2, 4] += 0.04  # and this the upper half
            self.first.bias.zero_()

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embedding is not None and labels is not None:
            latent = latent + self.embedding(labels)
        return self.first(latent).view(-1, 1, SIDE, SIDE)


def upper(images: np.ndarray) -> np.ndarray:
    return images[:, 0, : SIDE // 2].mean((1, 2), dtype=np.float64)


def lower(images: np.ndarray) -> np.ndarray:
    return images[:, 0, SIDE // 2 :].mean((1, 2), dtype=np.float64)


HALVES = tuple(Attribute(name=one.__name__, unit="", meaning="", measure=one) for one in (upper, lower))


def test_the_closed_form_is_the_first_layers_singular_vectors() -> None:
    space = LatentSpace(Linear())
    vectors, shares = directions_of.closed_form(space.weight, 3)
    _, s, vh = np.linalg.svd(space.weight)
    assert np.abs((vectors * vh[:3]).sum(1)) == pytest.approx(np.ones(3))
    assert shares == pytest.approx(s[:3] ** 2 / (s**2).sum())


def test_principal_directions_of_isotropic_codes_agree_with_the_closed_form() -> None:
    """Härkönen's method on a linear layer and normal codes is Shen and Zhou's, but for the sample's chance."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(30, 5)) * np.asarray([5, 3, 2, 1, 0.5])
    codes = rng.normal(size=(20000, 5))
    closed, _ = directions_of.closed_form(weight, 3)
    found, _ = directions_of.principal(codes, codes @ weight.T, 3)
    assert np.abs((closed * found).sum(1)).min() > 0.99


def test_an_attributes_direction_and_slope_are_the_known_ones() -> None:
    of = study(LatentSpace(Linear()), count=400, measured=HALVES)
    weight = of.space.weight
    for index, rows in enumerate((slice(0, 32), slice(32, 64))):
        known = weight[rows].mean(0)
        line = next(one for one in find_directions(of) if one.kind == "attribute" and one.name == HALVES[index].name)
        assert line.vector @ known / np.linalg.norm(known) > 0.999 and line.fit is not None and line.fit > 0.999
        measured = measure_effects(of, line, seed=1, label=None)
        effects = {one.attribute: one for one in measured.effects}
        slope = line.step * float(known @ line.vector)
        assert effects[HALVES[index].name].slope == pytest.approx(slope, rel=1e-3)
        assert effects[HALVES[index].name].low <= slope * 1.001 and effects[HALVES[index].name].consistent == 1
        other = HALVES[1 - index].name
        side = line.step * float(weight[slice(32, 64) if index == 0 else slice(0, 32)].mean(0) @ line.vector)
        assert effects[other].slope == pytest.approx(side, rel=1e-3), "side effects are measured too"


def test_effects_are_measured_on_other_images_than_directions_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    space, items = LatentSpace(Linear()), set[int]()
    latents = space.latents
    monkeypatch.setattr(space, "latents", lambda some, seed: [items.update(some), latents(some, seed)][1])
    of = study(space)
    line = find_directions(of)[0]
    learned = items.copy()
    items.clear()
    measure_effects(of, line, seed=0, label=None, count=8)
    assert len(learned) >= 1024 and len(items) == 8 and not learned & items


def test_a_freed_direction_has_no_side_effect() -> None:
    of = study(LatentSpace(Linear()), count=400, measured=HALVES)
    line = next(one for one in find_directions(of) if one.kind == "attribute alone" and one.name.startswith("upper"))
    effects = {one.attribute: one for one in measure_effects(of, line, seed=1, label=None).effects}
    assert abs(effects["lower"].relative) < 0.01 < effects["upper"].relative


def test_noise_has_no_direction() -> None:
    rng = np.random.default_rng(0)
    _, fit = directions_of.regress(rng.normal(size=(300, 20)), rng.normal(size=300))
    assert fit < 0.05
    assert directions_of.regress(rng.normal(size=(30, 4)), np.ones(30))[1] == 0


def test_class_means_are_taken_out_before_a_direction_is_sought() -> None:
    """The classes differ along the first number and in the value; within a class the second number rules."""
    rng = np.random.default_rng(0)
    groups = np.arange(400) % 2
    codes = rng.normal(size=(400, 3))
    codes[:, 0] += 5 * groups
    values = codes[:, 1] + 20 * groups
    vector, fit = directions_of.regress(codes, values, groups)
    assert vector[1] > 0.999 and fit > 0.99


def test_classes_lie_where_their_embeddings_are() -> None:
    network = Linear(classes=3)
    assert network.embedding is not None
    found = class_directions(LatentSpace(network, 3), 1)
    table = network.embedding.weight.detach().double().numpy()
    for line, other in zip(found, (0, 2), strict=True):
        assert line.name == str(other)
        assert line.vector * line.step == pytest.approx(table[other] - table[1], abs=1e-5)


@pytest.mark.parametrize("kind", ["sngan", "dcgan", "mlp", "r3gan", "progressive", "style", "vae"])
@pytest.mark.parametrize(("labels", "conditions"), [((), ()), (("a", "b", "c"), ()), ((), ("age", "dose"))])
def test_codes_give_the_images_of_every_network(kind: str, labels: tuple[str, ...], conditions: tuple[str, ...],
                                                ) -> None:
    if conditions and kind == "vae":
        pytest.skip("autoencode learns no numbers")
    torch.manual_seed(0)
    spec = ImageSpec(size=(16, 16), labels=labels, conditions=conditions)
    network = build(settings_class("model", kind)(), spec, codes=kind == "vae")["generator"]
    for layer in network.modules():  # as after training: batch normalisation with statistics of its own
        if isinstance(layer, nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    space = LatentSpace(network, len(labels))
    latents, classes = space.latents(range(5), 3), space.classes_of(5)
    numbers = (torch.rand(5, len(conditions)),) if conditions else ()
    with torch.no_grad():
        direct = space.network(latents, classes, *numbers)
    made = space.images(space.codes(latents, classes, *numbers), classes)
    assert torch.allclose(made, direct, atol=1e-5)
    assert space.mapped == (kind == "style")
    assert space.weight.shape[1] == space.length == space.latent
    assert (space.radius is not None) == (kind in ("sngan", "r3gan", "progressive"))
    codes = space.codes(latents, classes).requires_grad_()
    space.images(codes, classes).sum().backward()
    assert codes.grad is not None and codes.grad.abs().sum() > 0


def test_the_way_between_codes_is_a_great_circle() -> None:
    space = LatentSpace(Linear())
    first, last = torch.tensor([3.0, 0, 0, 0, 0, 0]), torch.tensor([0, 3.0, 0, 0, 0, 0])
    way = space.between(first, last, 5)
    angles = torch.rad2deg(torch.atan2(way[:, 1], way[:, 0]))
    assert torch.allclose(angles, torch.tensor([0, 22.5, 45, 67.5, 90]), atol=1e-3)
    assert torch.allclose(way.norm(dim=1), torch.full((5,), 3.0), atol=1e-5)
    assert torch.allclose(space.between(first, 2 * first, 3), torch.stack([first, 1.5 * first, 2 * first]))


def test_truncation_goes_from_one_image_to_all_of_them() -> None:
    of = study(LatentSpace(Linear()), count=256)
    images, numbers = truncation_sweep(of, truncations=(0.0, 0.5, 1.0))
    assert np.ptp(images[:, 0], axis=0).max() < 1e-6 and np.ptp(images[:, 2], axis=0).max() > 0.05
    assert [line["variety"] for line in numbers] == pytest.approx([0, 0.5, 1], abs=1e-3)


def test_attributes_are_what_they_say() -> None:
    images = np.full((4, 1, 10, 10), -1, np.float32)
    images[1, 0, :, 2:8] = 0.5  # symmetric, 60 % of the image
    images[2, 0, :, :5] = 0.5
    images[3, 0, ::2] = 1
    found = {one.name: one.measure(images) for one in attributes(images[1:])}
    assert found["brightness"] == pytest.approx([0, 45, 37.5, 50])
    assert found["foreground area"] == pytest.approx([0, 60, 50, 50])
    assert found["symmetry"][1:] == pytest.approx([1, -1, 1])
    assert found["texture"].argmax() == 3 and found["contrast"][0] == 0


def test_a_network_without_linear_layer_is_refused() -> None:
    network = nn.Conv2d(3, 3, 1)
    network.latent = 7  # type: ignore[assignment]  # a number where torch expects a module
    with pytest.raises(SettingsError, match="no linear layer"):
        LatentSpace(network)


LABELS = ("next to common", "rare")


@pytest.fixture
def run(make_prepared: Callable[..., Path], tmp_path: Path) -> Path:
    return untrained_run(make_prepared(labels=LABELS), tmp_path / "run", "model.width=8")


def untrained_run(data: Path, path: Path, *overrides: str) -> Path:
    """A run folder with random weights: what it holds is all that these verbs need."""
    settings = resolve(overrides=overrides, sections=("task", "model", "augment", "train"))
    prepared, folder = Prepared(data), RunFolder(path)
    torch.manual_seed(0)
    task = build_task(settings, prepared.spec)
    folder.begin(settings.to_yaml(), prepared.manifest, {name: 16 for name in prepared.spec.labels})
    facts = {"model": settings.kind("model"), "task": settings.kind("task")}
    folder.save_weights(task.networks()[task.keeps].state_dict(), facts)
    return path


def test_items_are_those_of_generate(run: Path) -> None:
    sampler = Sampler(run)
    ((images, labels),) = list(sampler.images(0, 6, seed=4))
    space = LatentSpace.of_run(sampler, run)
    classes = torch.from_numpy(labels)
    made = space.images(space.codes(space.latents(range(6), 4), classes), classes)
    assert np.allclose(made.detach().numpy(), images, atol=1e-5)


def test_a_whole_study_writes_pictures_and_numbers(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radsynth.verbs._steering.steering.SAMPLED", 64)
    monkeypatch.setattr("radsynth.verbs._steering.steering.MEASURED", 8)
    found = control(run, label="rare")
    assert json.loads((run / "control" / "control.json").read_text()) == json.loads(json.dumps(found))
    kinds = {line["kind"] for line in found["directions"]}
    assert {"closed form", "principal", "attribute", "class"} <= kinds
    assert [line["name"] for line in found["directions"] if line["kind"] == "class"] == ["rare to next to common"]
    for name in found["pictures"]:
        with Picture.open(run / "control" / name) as picture:
            assert "not acquired from a patient" in picture.info["Description"] and picture.width > 400
    with np.load(run / "control" / "directions.npz", allow_pickle=False) as arrays:
        assert np.allclose(np.linalg.norm(arrays["vectors"], axis=1), 1)
        assert len(arrays["names"]) == len(arrays["steps"]) == len(found["directions"])


def test_ct_is_shown_in_its_window(make_prepared: Callable[..., Path], tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radsynth.verbs._steering.steering.SAMPLED", 64)
    monkeypatch.setattr("radsynth.verbs._steering.steering.MEASURED", 8)
    data = make_prepared(units="HU", modality="CT", window=(64.0, 128.0))  # of 0 to 255
    run = untrained_run(data, tmp_path / "run", "model.width=8")
    sheets: list[tuple[tuple[float, float], str]] = []
    monkeypatch.setattr("radsynth.verbs._steering.control_pictures.save_sheet",
                        lambda rows, path, shown, caption, **_: sheets.append((shown.ends, caption)))
    control(run)
    assert len(sheets) > 2
    for ends, caption in sheets:
        assert ends == pytest.approx((2 * 64 / 255 - 1, 2 * 128 / 255 - 1))
        assert "Black: 64 HU, white: 128 HU" in caption


def test_masks_that_are_drawn_with_images_are_no_part_of_them(
    make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    """Attributes are those of the image: the labels' channels, -1 or 1, would be taken for grey values."""
    run = untrained_run(make_prepared(mask_classes=3), tmp_path / "run", "task.masks=true", "model.width=8")
    sampler = Sampler(run)
    of = study(LatentSpace.of_run(sampler, run), count=64)
    drawn = np.concatenate([images for images, _ in sampler.images(0, 64, seed=0)])
    assert of.images.shape == drawn.shape == (64, 1, 16, 16) and np.allclose(of.images, drawn, atol=1e-5)


def test_a_walk_begins_at_its_image(run: Path) -> None:
    space = LatentSpace.of_run(Sampler(run), run)
    of = study(space, count=64)
    line = find_directions(of)[0]
    labels = space.classes_of(2)
    codes = space.codes(space.latents(range(2), 0), labels)
    images = walk(space, codes, labels, line, (0.0, 3.0))
    assert images.shape == (2, 2, 1, 16, 16)
    assert np.allclose(images[:, 0], space.images(codes, labels).detach().clamp(-1, 1), atol=1e-5)
    assert not np.allclose(images[:, 1], images[:, 0], atol=1e-3)
    assert space.move(codes, line.vector, 5.0).norm(dim=1).numpy() == pytest.approx(space.radius, rel=1e-4)


def test_what_cannot_be_steered_is_refused(run: Path, tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    with pytest.raises(SettingsError, match="common, rare"):
        control(run, label="none")
    with pytest.raises(FolderError):
        control(tmp_path / "nothing")
    restore = untrained_run(make_prepared(name="plain"), tmp_path / "restore", "task.kind=restore")
    with pytest.raises(SettingsError, match="does not draw images from noise"):
        control(restore)


def test_classes_without_training_images_are_left_alone(run: Path) -> None:
    text = (run / "spec.json").read_text()
    (run / "spec.json").write_text(text.replace('common": 16', 'common": 0'))
    with pytest.raises(SettingsError, match="'next to common' has no training image, so it was not learned"):
        control(run, label="next to common")
    space = LatentSpace.of_run(Sampler(run), run)
    assert set(study(space, count=8).groups.tolist()) == {1} and space.begin(None) == 1
    assert not class_directions(space, 1)


def test_of_many_classes_each_is_drawn_several_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 classes: of 1,024 codes, two images of one class were sought where there was none."""
    space = LatentSpace(Linear(classes=300), classes=300)
    of = study(space)
    assert of.groups is not None and np.bincount(of.groups, minlength=300).min() == 8
    sheets: list[list[np.ndarray]] = []
    monkeypatch.setattr(control_pictures, "save_sheet", lambda rows, *given, **more: sheets.append(rows))
    spec = ImageSpec(size=(SIDE, SIDE), labels=tuple(map(str, range(300))))
    swept, variety = truncation_sweep(of)
    assert [line["variety"] for line in variety if line["truncation"] == 1] == [pytest.approx(1)]
    control_pictures.save_sheets(tmp_path, of, [], swept, variety, spec, Shown(ends=(-1, 1), words=""), 0, None)
    _, ways = sheets
    assert all(np.abs(row[0] - row[-1]).max() > 1e-3 for row in ways), "from one image to another"
    one = study(space, label=299, count=64)
    control_pictures.save_sheets(tmp_path, one, [], swept, variety, spec, Shown(ends=(-1, 1), words=""), 0, 299)


def test_an_attribute_is_said_to_be_controlled_only_where_its_direction_surely_works() -> None:
    def line(kind: str, name: str, own: float, low: float, other: float) -> dict[str, object]:
        effects = [{"attribute": attribute, "slope": slope, "low": least, "high": slope + 1, "relative": slope,
                    "consistent": 0.9} for attribute, slope, least in (("contrast", own, low), ("symmetry", other, 0))]
        return {"kind": kind, "name": name, "effects": effects}

    def said(*lines: dict[str, object]) -> str:
        return sentences({"attributes": [{"name": "contrast", "unit": "%"}], "directions": list(lines)})[0]

    strong = line("attribute", "contrast", 2, 1, 1.9)
    clean = line("attribute alone", "contrast, others kept", 1, 0.5, 0)
    assert "one step along 'contrast, others kept' changes it by +1 (+0.5 to +2) %" in said(strong, clean)
    assert "no side effect reaches" in said(strong, clean) and "on symmetry (+1.9 deviations)" in said(strong)
    for useless in (line("attribute", "contrast", 2, -0.1, 0), line("attribute", "contrast", 0.1, 0.05, 0),
                    line("closed form", "contrast", 2, 1, 0)):
        assert said(useless) == "Contrast could not be controlled: no direction raises it by 0.2 deviations a step."


@pytest.mark.parametrize(("contrast", "symmetry", "told"), [
    (0.12, -0.04, "changes, in standard deviations: contrast by +0.1."),  # and symmetry by -0.0
    (0.04, 0.0, "changes no attribute by 0.05 deviations.")])
def test_a_way_to_a_class_tells_no_change_that_rounds_to_none(contrast: float, symmetry: float, told: str) -> None:
    effects = [{"attribute": "contrast", "relative": contrast}, {"attribute": "symmetry", "relative": symmetry}]
    way = {"name": "healthy to lesion", "kind": "class", "effects": effects}
    assert sentences({"attributes": [], "directions": [way]}) == [f"The way from class healthy to lesion {told}"]
