"""Explanations: attributions that add up, inversions that find known codes, runs without a discriminator."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import Tensor, nn

from radsynth.arrays import Prepared
from radsynth.checkpoints import save_checkpoint
from radsynth.errors import DataError, FolderError, SettingsError
from radsynth.files import temporary_of
from radsynth.image import ImageSpec
from radsynth.models import build
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve, settings_class
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._steering import explain_pictures
from radsynth.verbs._steering.attribution import completeness_gap, integrated_gradients, occlusion
from radsynth.verbs._steering.explain_words import sentences
from radsynth.verbs._steering.inversion import FEATURE_WEIGHT, invert, layer_features, starting_codes
from radsynth.verbs._steering.judge import Judge
from radsynth.verbs._steering.latents import LatentSpace
from radsynth.verbs.explain import explain, is_output
from radsynth.verbs.train import train


def sibling(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTROL = sibling("test_control")
LABELS = ("common", "rare")


@pytest.mark.parametrize("size", [(6, 5), (4, 6, 5)])
def test_integrated_gradients_of_known_functions(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    images, baseline, weights = torch.randn(3, 2, *size), torch.randn(2, *size), torch.randn(2, *size)

    def linear(x: Tensor) -> Tensor:
        return (x * weights).flatten(1).sum(1)

    def square(x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1)

    assert torch.allclose(integrated_gradients(linear, images, baseline, 4), (images - baseline) * weights, atol=1e-5)
    maps = integrated_gradients(square, images, baseline, 4)  # the midpoint rule is exact for a straight slope
    assert torch.allclose(maps, images.square() - baseline.square(), atol=1e-4)
    assert completeness_gap(square, images, baseline, maps).max() < 1e-3


def test_attributions_of_a_network_add_up_to_its_score() -> None:
    torch.manual_seed(0)
    network = build(settings_class("model", "sngan")(), ImageSpec(size=(16, 16)))["discriminator"].eval()
    images, baseline = torch.rand(3, 1, 16, 16) * 2 - 1, torch.rand(1, 16, 16) * 2 - 1
    judge = Judge(network, None)
    maps = integrated_gradients(judge, images, baseline, 128)
    assert (completeness_gap(judge, images, baseline, maps) < 0.02).all()
    shifted = completeness_gap(lambda x: judge(x) - 1000, images, baseline, maps)
    assert (shifted < 0.05).all(), "a score's zero has no meaning of its own"
    half = completeness_gap(judge, images, baseline, maps / 2)
    assert half.tolist() == pytest.approx([0.5] * 3, abs=0.02)
    coarse = integrated_gradients(judge, images, baseline, 1)
    gaps = [completeness_gap(judge, images, baseline, one).sum() for one in (maps, coarse)]
    assert gaps[0] < gaps[1], "more steps, smaller gap"


def test_occlusion_is_what_the_covered_pixels_add() -> None:
    torch.manual_seed(0)
    image, fill, weights = torch.randn(1, 1, 4, 6), torch.randn(1, 4, 6), torch.randn(1, 4, 6)

    def score(x: Tensor) -> Tensor:
        return (x * weights).flatten(1).sum(1)

    parts = ((image[0] - fill) * weights)[0]
    tiles = occlusion(score, image, fill, 2, 2)[0]  # windows that do not overlap
    assert torch.allclose(tiles[2:4, 4:6], parts[2:4, 4:6].sum().expand(2, 2), atol=1e-5)
    sliding = occlusion(score, image, fill, 2, 1)[0]
    assert sliding[0, 0] == pytest.approx(float(parts[:2, :2].sum()), abs=1e-5)
    wanted = (parts[:2, :2].sum() + parts[:2, 1:3].sum()) / 2
    assert sliding[0, 1] == pytest.approx(float(wanted), abs=1e-5)


def test_a_known_code_is_found_again() -> None:
    network = CONTROL.Linear()
    with torch.no_grad():
        network.first.weight *= 8  # strong images, or the prior, which draws codes to their mean, would count
    space = LatentSpace(network)
    codes = space.latents(range(900, 903), 0)
    targets = space.images(codes).detach()
    found = invert(space, targets, candidates=64, starts=2, steps=300, rate=0.2)
    assert (found.codes - codes).abs().max() < 0.05 and float((found.images - targets).square().mean()) < 1e-4
    assert (found.nearest - targets).square().mean() > 10 * (found.images - targets).square().mean()
    again = invert(space, targets, candidates=64, starts=2, steps=300, rate=0.2)
    assert torch.equal(found.codes, again.codes)


def test_the_nearest_of_many_images_is_found_without_keeping_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 volumes of 128 voxels a side are 4 GB, and every class of the images has as many."""
    space = LatentSpace(CONTROL.Linear())
    images, sizes = space.images, list[int]()
    monkeypatch.setattr(space, "images", lambda codes, *given: [sizes.append(len(codes)), images(codes, *given)][1])
    drawn = images(space.codes(space.latents(range(300), 5)))
    codes, nearest = starting_codes(space, drawn[[7, 299]] + 1e-3, None, 300, 3, 5)
    assert torch.allclose(nearest, drawn[[7, 299]], atol=1e-5) and codes.shape == (2, 3, space.length)
    assert torch.allclose(codes[:, 0], space.codes(space.latents(range(300), 5))[[7, 299]])
    assert max(sizes) <= 64


def test_the_loss_is_that_of_the_best_start_at_three_sizes_and_in_features(monkeypatch: pytest.MonkeyPatch) -> None:
    space = LatentSpace(CONTROL.Linear())
    targets = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    found = invert(space, targets, features=lambda images, labels: [2 * images[..., 0]], candidates=16, starts=3,
                   steps=3)
    gap = found.images - targets
    wanted = gap[..., 0].square().flatten(1).mean(1) / targets[..., 0].square().flatten(1).mean(1) * FEATURE_WEIGHT
    for size in (1, 2, 4):
        wanted = wanted + nn.functional.avg_pool2d(gap, size).square().flatten(1).mean(1)
    torch.testing.assert_close(found.loss, wanted)
    assert (found.spread > 0).all()
    monkeypatch.setattr("radsynth.verbs._steering.inversion.PRIOR_WEIGHT", 100.0)
    kept = invert(space, targets, candidates=16, starts=1, steps=300)
    assert kept.codes.abs().max() < 0.2, "the prior draws codes to where codes are drawn"


def test_what_the_generator_cannot_make_stays_an_error() -> None:
    space = LatentSpace(CONTROL.Linear())
    weight = torch.from_numpy(space.weight).float()
    basis = torch.linalg.qr(weight)[0]
    foreign = torch.randn(64, generator=torch.Generator().manual_seed(1))
    foreign = foreign - basis @ (basis.T @ foreign)
    target = (0.2 * foreign / foreign.norm()).view(1, 1, 8, 8)
    found = invert(space, target, candidates=32, starts=2, steps=100, rate=0.2)
    assert float((found.images - target).square().sum()) >= 0.99 * float(target.square().sum())


@pytest.mark.parametrize(("own", "gap", "area", "said", "unsaid"), [
    (0.01, 0.01, 0.9, ("has not learned", "what a radiologist"), ("search itself", "Integrated", "hardly at all")),
    (0.09, 0.30, 0.5, ("search itself", "miss up to 30 %", "hardly at all"), ("has not learned", "radiologist")),
])
def test_what_was_found_is_said(own: float, gap: float, area: float, said: tuple[str, ...], unsaid: tuple[str, ...],
                                ) -> None:
    """Real images are redrawn to 10 %, synthetic ones to `own`; the first has no maps."""
    numbers = {"ssim": 0.5, "nearest_absolute_error": 0.2, "mean_image_absolute_error": 0.3, "label_assumed": False}
    images = [{**numbers, "kind": kind, "absolute_error": error, "score": score, "completeness_gap": missed}
              for kind, error, score, missed in (("held-out", 0.1, None, None), ("synthetic", own, 0.001, gap))]
    words = " ".join(sentences({"images": images, "discriminator": {
        "there": True, "auc_held_out_against_synthetic": area, "images": 20}}))
    assert all(one in words for one in said) and not any(one in words for one in unsaid), words
    assert "differ by 10.0 % of the range" in words and f"redrawn to {100 * own:.1f} %" in words


@pytest.mark.parametrize(("kind", "called"), [("held-out", "real"), ("given", "given")])
def test_images_that_were_given_are_not_said_to_be_real(kind: str, called: str) -> None:
    """They may be synthetic themselves."""
    numbers = {name: 0.1 for name in ("ssim", "nearest_absolute_error", "mean_image_absolute_error", "absolute_error")}
    images = [{**numbers, "kind": one, "label_assumed": False, "completeness_gap": None} for one in (kind, "synthetic")]
    words = sentences({"images": images, "discriminator": {"there": False, "reason": "None is there."}})[0]
    assert f"the 1 {called} images differ" in words and ("real" in words) == (called == "real")


def test_a_discriminator_that_looks_at_the_batch_judges_one_at_a_time() -> None:
    torch.manual_seed(0)
    spec = ImageSpec(size=(16, 16))
    images = torch.rand(4, 1, 16, 16) * 2 - 1
    for kind, mixes in (("style", True), ("sngan", False)):
        network = build(settings_class("model", kind)(), spec)["discriminator"].eval()
        judge = Judge(network, None)
        with torch.no_grad():
            together, alone = judge(images), torch.cat([judge(image[None]) for image in images])
        assert judge.mixes is mixes and torch.allclose(together, alone, atol=1e-5)


def test_features_come_from_every_convolution() -> None:
    network = build(settings_class("model", "sngan")(), ImageSpec(size=(16, 16)))["discriminator"].eval()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layer_features(network)(torch.zeros(2, 1, 16, 16), None)) == len(convolutions) > 1
    perceptron = build(settings_class("model", "mlp")(), ImageSpec(size=(16, 16)))["discriminator"].eval()
    assert [one.shape[1] for one in layer_features(perceptron)(torch.zeros(2, 1, 16, 16), None)] == [512, 256]


@pytest.fixture
def data(make_prepared: Callable[..., Path]) -> Path:
    return make_prepared(90, labels=LABELS)


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Path:
    path: Path = CONTROL.untrained_run(data, tmp_path / "run", "model.width=8")
    networks = Sampler(path).task.networks()
    state = {"networks": {name: network.state_dict() for name, network in networks.items()}}
    save_checkpoint(RunFolder(path).checkpoints, 10, state, {})
    return path


def fast(run: Path, images: tuple[Path, ...] = (), data: Path | None = None, label: str | None = None) -> dict:
    return explain(run, images, data=data, label=label, starts=1, steps=4)


def test_held_out_images_are_explained(run: Path, data: Path) -> None:
    found = fast(run, data=data)
    assert json.loads((run / "explain" / "explain.json").read_text()) == json.loads(json.dumps(found))
    assert [line["kind"] for line in found["images"]] == ["held-out"] * 6 + ["synthetic"] * 4
    assert {line["label"] for line in found["images"][:6]} == set(LABELS)
    assert found["discriminator"]["images"] == 30 and 0 <= found["discriminator"]["auc_held_out_against_synthetic"] <= 1
    assert found["pictures"] == ["inversion.png", "counterfactuals.png", "attribution.png"]
    with np.load(run / "explain" / "explain.npz", allow_pickle=False) as arrays:
        assert arrays["gradients"].shape == (10, 1, 16, 16) and arrays["counterfactuals"].shape == (10, 2, 1, 16, 16)
        own = arrays["counterfactuals"][0][LABELS.index(found["images"][0]["label"])]
        assert np.allclose(own, arrays["redrawn"][0], atol=1e-4), "of its own class, an image stays as it is"
        assert len(arrays["codes"]) == 10


def test_too_few_held_out_images_are_not_called_none() -> None:
    found = {"there": True, "auc_held_out_against_synthetic": None, "images": 0}
    line = {"kind": "held-out", "label_assumed": False, "completeness_gap": None, "absolute_error": 0.1, "ssim": 0.9,
            "nearest_absolute_error": 0.2, "mean_image_absolute_error": 0.3}
    images = [line, line | {"kind": "synthetic"}]
    few, none = (sentences({"images": images, "discriminator": found | more})[-1] for more in ({"held_out": 12}, {}))
    assert few.endswith("12 held-out images are too few to say.") and none.endswith("no held-out images are at hand.")


def test_ct_is_shown_in_its_window(make_prepared: Callable[..., Path], tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences are coloured on the same scale, or they would be faint."""
    data = make_prepared(60, units="HU", modality="CT", window=(64.0, 128.0))  # of 0 to 255
    run: Path = CONTROL.untrained_run(data, tmp_path / "ct", "model.width=8")
    seen: list[tuple[float, float]] = []
    limits: list[float] = []
    real, coloured = explain_pictures.display, explain_pictures.signed
    monkeypatch.setattr(explain_pictures, "display", lambda images, ends, **colour: (
        seen.append(ends) or real(images, ends, **colour)))
    monkeypatch.setattr(explain_pictures, "signed",
                        lambda values, limit: limits.append(limit) or coloured(values, limit))
    fast(run, data=data)
    assert seen and all(ends == pytest.approx((2 * 64 / 255 - 1, 2 * 128 / 255 - 1)) for ends in seen)
    assert limits and all(limit == pytest.approx(64 / 255) for limit in limits)


def test_given_files_are_explained_and_their_class_is_guessed(run: Path, tmp_path: Path, data: Path) -> None:
    prepared = Prepared(data)
    stored = prepared.stored(prepared.indices("test")[:2])[:, 0]
    for index, image in enumerate(stored):
        Picture.fromarray(image).save(tmp_path / f"scan{index}.png")
    found = fast(run, (tmp_path / "scan0.png", tmp_path / "scan1.png"))
    assert [line["name"] for line in found["images"][:2]] == ["scan0.png", "scan1.png"]
    assert found["images"][0]["label_assumed"] and "guessed" in " ".join(found["words"])
    named = fast(run, (tmp_path / "scan0.png",), label="rare")
    assert named["images"][0]["label"] == "rare" and not named["images"][0]["label_assumed"]


def test_a_run_without_discriminator_says_so(data: Path, tmp_path: Path) -> None:
    bare = CONTROL.untrained_run(data, tmp_path / "bare", "model.width=8")
    found = fast(bare, data=data)
    assert not found["discriminator"]["there"] and "no checkpoint" in " ".join(found["words"])
    assert found["pictures"] == ["inversion.png", "counterfactuals.png"] and found["images"][0]["score"] is None
    coder = CONTROL.untrained_run(data, tmp_path / "coder", "task.kind=autoencode", "model.kind=vae", "model.width=8")
    assert "no discriminator" in fast(coder, data=data)["discriminator"]["reason"]


def test_what_cannot_be_explained_is_refused(run: Path, tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="Give images to explain"):
        fast(run)
    with pytest.raises(DataError, match="does not exist"):
        fast(run, (tmp_path / "nothing.png",))
    with pytest.raises(SettingsError, match="common, rare"):
        fast(run, label="none")
    other = make_prepared(30, labels=LABELS, name="other")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "data_hash": "another"}))
    with pytest.raises(FolderError, match=r"is not the data.*--data"):
        fast(run, data=other)


def test_classes_without_training_images_are_no_part_of_it(run: Path, data: Path) -> None:
    text = (run / "spec.json").read_text()
    (run / "spec.json").write_text(text.replace('"common": 16', '"common": 0'))
    with pytest.raises(SettingsError, match="'common' has no training image, so it was not learned; there are: rare"):
        fast(run, data=data, label="common")
    found = fast(run, data=data)
    assert {line["label"] for line in found["images"]} == {"rare"}
    assert all(line["changes"] == ["rare"] for line in found["images"])


def test_a_class_without_held_out_images_is_named(run: Path, data: Path) -> None:
    table = data / "records.csv"
    lines = table.read_text().splitlines()
    split, label = (lines[0].split(",").index(name) for name in ("split", "label"))
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        row[split] = "train" if row[label] == "1" else row[split]
    table.write_text("\n".join([lines[0], *map(",".join, rows)]) + "\n")
    with pytest.raises(DataError, match=r"has no held-out images of rare\. Give images"):
        fast(run, data=data, label="rare")


def test_a_run_that_draws_masks_too_is_refused(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    data = make_prepared(24, mask_classes=2)
    images = np.load(data / "shards" / "00000.images.npy")[:, 0]
    np.save(data / "shards" / "00000.masks.npy", (images > 0).astype(np.uint8))
    train(data, tmp_path / "run", settings=resolve(overrides=("task.masks=true", "train.batch=4", "train.images=4")))
    with pytest.raises(SettingsError, match=r"without task\.masks"):
        fast(tmp_path / "run")


def test_the_last_path_is_the_output_if_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "before").mkdir()
    (tmp_path / "scans" / "a.png").write_bytes(b"")
    (tmp_path / "before" / "explain.json").write_text("{}")
    left = temporary_of(tmp_path / "killed" / "explain.json")  # by one of kill -9, while it wrote
    left.mkdir(parents=True)
    (left / "inversion.png").write_bytes(b"")
    names = ("scans", "before", "killed", "new", "scans/a.png", "missing.png")
    assert [name for name in names if is_output(tmp_path / name)] == ["before", "killed", "new"]
