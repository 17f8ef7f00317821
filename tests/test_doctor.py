"""The training doctor: each illness is provoked for real, is seen, is said, and ends better than without the doctor."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from radsynth.arrays import Prepared
from radsynth.checkpoints import all_finite, load_tensors
from radsynth.errors import TrainingError
from radsynth.models import dcgan
from radsynth.settings import resolve
from radsynth.tasks._redrawing import Redrawing
from radsynth.tasks._warm_start import PrincipalCodes
from radsynth.verbs._training import doctor as _doctor
from radsynth.verbs._training import examination, illnesses
from radsynth.verbs._training.compare import compare
from radsynth.verbs._training.loop import Loop
from radsynth.verbs.generate import sample
from radsynth.verbs.train import train
from tests.doctored import OFF, TINY, Make, distance, events, lines, measured, split_discs
from tests.trained import resumes


@pytest.fixture
def discs(make_prepared: Make) -> Callable[[int], Path]:
    return split_discs(make_prepared)


def test_a_huge_rate_is_rolled_back_and_halved_until_it_works(discs: Callable[[int], Path], tmp_path: Path) -> None:
    data, huge = discs(64), (*TINY, "train.images=1600", "train.rate=1.0")
    train(data, tmp_path / "with", settings=resolve(overrides=huge))
    train(data, tmp_path / "without", settings=resolve(overrides=(*huge, OFF)))
    said = events(tmp_path / "with")["rolled back"]
    assert "-fold within" in said and "learning rate at 0.0" in said
    assert "rolled back" not in events(tmp_path / "without")
    with_doctor, without = distance(data, tmp_path / "with"), distance(data, tmp_path / "without")
    assert with_doctor < 0.3 * without, (with_doctor, without)


def test_a_penalty_that_outweighs_all_is_told_to_be_lowered(discs: Callable[[int], Path], tmp_path: Path) -> None:
    heavy = (*TINY, "train.images=800", "task.penalty=r1", "task.penalty_weight=1e12")
    with pytest.raises(TrainingError, match=r"penalty has run away.*Lower train\.rate or task\.penalty_weight, and"):
        train(discs(64), tmp_path / "run", settings=resolve(overrides=heavy))


def test_codes_that_outweigh_all_are_told_to_be_lowered(discs: Callable[[int], Path], tmp_path: Path) -> None:
    heavy = ("task.kind=autoencode", "task.beta=1e12", "model.kind=vae", "model.latent=4", "model.width=8",
             "train.batch=8", "train.images=320")
    with pytest.raises(TrainingError, match=r"divergence has run away.*Lower train\.rate or task\.beta, and"):
        train(discs(64), tmp_path / "run", settings=resolve(overrides=heavy))


def test_a_hopeless_rate_is_given_up_with_the_reason(discs: Callable[[int], Path], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"Lower train\.rate"):
        train(discs(64), tmp_path / "run", settings=resolve(overrides=(*TINY, "train.images=800", "train.rate=1e30")))
    rollbacks = [line for line in lines(tmp_path / "run") if line.get("event") == "rolled back"]
    assert len(rollbacks) == _doctor.ROLLBACKS and "stopped" in events(tmp_path / "run")
    assert not (tmp_path / "run" / "generator.safetensors").exists()
    kept = list((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    assert kept and all(all_finite(load_tensors(path)[0]) for path in kept)


def test_weights_that_turn_into_nan_are_rolled_back(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, poisoned = Loop.take_step, []

    def poison_once(loop: Loop) -> dict[str, float]:
        if loop.step == 30 and not poisoned:
            poisoned.append(True)
            next(loop.networks["generator"].parameters()).data.fill_(math.nan)
        return step(loop)

    monkeypatch.setattr(Loop, "take_step", poison_once)
    settings = resolve(overrides=(*TINY, "train.images=640", "train.checkpoint_minutes=0.0001"))
    train(discs(64), tmp_path / "run", settings=settings)
    assert poisoned and "not finite" in events(tmp_path / "run")["rolled back"]
    assert all_finite(load_tensors(tmp_path / "run" / "generator.safetensors")[0])


def test_a_saturating_loss_under_a_strong_discriminator_is_seen_and_replaced(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 320)
    data = discs(64)
    strong = (*TINY, "train.images=4800", "train.rate=5e-4", "task.loss=minimax", "task.penalty=none",
              "task.discriminator_steps=2", "task.discriminator_rate=10")
    train(data, tmp_path / "with", settings=resolve(overrides=strong))
    train(data, tmp_path / "without", settings=resolve(overrides=(*strong, OFF)))
    assert "it saturates" in events(tmp_path / "with")["vanishing gradient"]
    assert set(events(tmp_path / "without")) == {"trained"}
    with_doctor, without = distance(data, tmp_path / "with"), distance(data, tmp_path / "without")
    assert with_doctor < 0.8 * without, (with_doctor, without)


def test_a_collapse_is_cured(discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A penalty that is far too heavy for the loss: nothing is said against drawing the same image for every latent."""
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 160)
    data = discs(64)
    heavy = (*TINY, "train.images=2400", "train.rate=2e-3", "task.loss=non_saturating", "task.penalty=wgan_gp",
             "task.penalty_weight=10", "task.penalty_weight_end=10")
    train(data, tmp_path / "with", settings=resolve(overrides=heavy))
    train(data, tmp_path / "without", settings=resolve(overrides=(*heavy, OFF)))
    said = events(tmp_path / "with")
    assert "redraws training images" in said["mode collapse"] and "not usable" not in said
    assert measured(tmp_path / "with")["doctor/variety"] > 0.5
    with_doctor, without = distance(data, tmp_path / "with"), distance(data, tmp_path / "without")
    assert with_doctor < 0.5 * without, (with_doctor, without)


def test_a_collapse_is_seen_and_the_best_weights_are_delivered(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From half of the run on the generator is made deaf to its latent: every sample is the same."""
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 160)
    data, step = discs(64), Loop.take_step

    def deafen(loop: Loop) -> dict[str, float]:
        if loop.progress > 0.4:
            loop.networks["generator"].get_parameter("project.weight").data.zero_()
        return step(loop)

    monkeypatch.setattr(Loop, "take_step", deafen)
    train(data, tmp_path / "run", settings=resolve(overrides=(*TINY, "train.images=4800", "train.rate=4e-3")))
    said = events(tmp_path / "run")
    assert "Samples differ by only" in said["mode collapse"] and "redraws training images" in said["mode collapse"]
    assert "best weights kept" in said
    state = load_tensors(tmp_path / "run" / "generator.safetensors")[0]
    assert state["project.weight"].abs().sum() > 0
    images = torch.from_numpy(sample(tmp_path / "run", 20)[0])
    assert compare(images, images + 0)[0] == pytest.approx(1) and torch.pdist(images.flatten(1)).min() > 0


def test_a_collapsed_class_is_cured(make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the generator adds to the latents of one class is made so large that they drown in it."""
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 160)
    step = Loop.take_step

    def drown(loop: Loop) -> dict[str, float]:
        if loop.step == 60:
            of_large = loop.networks["generator"].get_parameter("condition.embedding.weight").data[1]
            of_large.copy_(5 * of_large.sign())
        return step(loop)

    monkeypatch.setattr(Loop, "take_step", drown)
    data, settings = make_prepared(96, labels=("small", "large")), (*TINY, "train.images=2560", "train.rate=2e-3")
    train(data, tmp_path / "with", settings=resolve(overrides=settings))
    train(data, tmp_path / "without", settings=resolve(overrides=(*settings, OFF)))
    said = [line["text"] for line in lines(tmp_path / "with") if line.get("event") == "mode collapse"]
    assert any("Samples of class large" in text for text in said), said
    assert "not usable" not in events(tmp_path / "with")
    prepared = Prepared(data)
    test = prepared.indices("test")
    large = torch.from_numpy(prepared.images(test[prepared.labels(test) == 1]))
    made = {name: torch.from_numpy(sample(tmp_path / name, 60, label="large")[0]) for name in ("with", "without")}
    (varies, near), (alike, far) = (compare(made[name], large) for name in ("with", "without"))
    assert varies > 0.3 > 0.1 > alike and near < 0.5 * far, (varies, near, alike, far)


def test_a_collapse_of_one_class_is_seen_while_all_together_vary(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From half of the run on the generator is deaf to the latents of one class alone."""
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 160)
    step, forward, deaf = Loop.take_step, dcgan.Generator.forward, [False]

    def deafen(loop: Loop) -> dict[str, float]:
        deaf[0] = loop.progress > 0.4
        return step(loop)

    def draw(self: dcgan.Generator, latent: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return forward(self, torch.where(deaf[0] & (labels[:, None] == 1), 0.0, latent), labels)

    monkeypatch.setattr(Loop, "take_step", deafen)
    monkeypatch.setattr(dcgan.Generator, "forward", draw)
    data = make_prepared(96, labels=("small", "large"))
    train(data, tmp_path / "run", settings=resolve(overrides=(*TINY, "train.images=3200", "train.rate=4e-3")))
    said = events(tmp_path / "run")
    assert said["mode collapse"].startswith("Samples of class large differ by only 0.0")
    assert said["not usable"].startswith("Samples of class large are all alike"), "nothing can help the deaf"
    last = measured(tmp_path / "run")
    assert last["doctor/variety"] < 0.05
    images, labels = (torch.from_numpy(part) for part in sample(tmp_path / "run", 60)[:2])
    assert compare(images, images[labels == 0])[0] > 0.3, "all together vary"


def test_what_was_remembered_before_classes_were_counted_can_be_taken_up() -> None:
    doctor = object.__new__(_doctor.Doctor)
    older = {"rate": 0.5, "varied": True, "alike": 2, "collapses": 1}
    doctor.restore({"signs": older, "care": {"augment": 0.1}, "pulses": {}, "losses": {}, "best": {}}, progress=1.0)
    assert (doctor.signs.rate, doctor.signs.varied, doctor.signs.alike, doctor.measured) == (0.5, {}, {}, {})
    saved = {**doctor.state(), "measured": {"doctor/rate": 0.5}}
    doctor.restore(saved, progress=1.0)
    assert doctor.measured == {"doctor/rate": 0.5}, "logged until the next examination"


def test_texts_say_which_images_samples_are_compared_with(discs: Callable[[int], Path], make_prepared: Make) -> None:
    compared = [examination.Examiner(None, Prepared(data), 0).compared for data in (discs(40), make_prepared(60))]
    assert compared == ["held-out", "training"], "of fewer than eight nothing can be said"


@pytest.mark.parametrize("near", [0.1, 0.4])
def test_only_what_was_good_after_the_start_counts_as_the_best(
    near: float, discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm start's blurred images are near to real ones at 16 pixels; leaving them is no reason to end the run."""
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 160)
    reached, take_step = [0.0], Loop.take_step

    def follow(loop: Loop) -> dict[str, float]:
        reached[0] = loop.progress
        return take_step(loop)

    monkeypatch.setattr(Loop, "take_step", follow)
    monkeypatch.setattr(examination, "compare", lambda made, real: (1.0, 0.01 if reached[0] < near else 0.3))
    train(discs(64), tmp_path / "run", settings=resolve(overrides=(*TINY, "train.images=4800")))
    assert ("stopped early" in events(tmp_path / "run")) == (near > illnesses.SETTLED)


def test_the_doctor_resumes_bit_exactly(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 64)
    monkeypatch.setattr(illnesses, "OVERFIT", -9.0)  # always too much: augmentation rises at every examination
    monkeypatch.setattr(illnesses, "SILENT", 99)  # and is not ended
    monkeypatch.setattr(illnesses, "ALIKE", 9.0)  # always too much alike: training images are redrawn
    data, settings = discs(40), resolve(overrides=(*TINY, "train.images=640"))
    assert resumes(data, tmp_path, settings, step=22)
    strengths = [measured(tmp_path / name)["doctor/augmentation"] for name in ("whole", "cut")]
    assert strengths[0] == strengths[1] > 0.5
    assert measured(tmp_path / "cut")["doctor/redraw"] == _doctor.REDRAW_MOST


def test_a_longer_budget_is_watched_from_its_first_step(
    discs: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_doctor, "IMAGES_BETWEEN", 64)
    looked, examine = [], _doctor.Doctor.examine

    def noted(doctor: _doctor.Doctor, loop: Loop) -> None:
        looked.append(loop.images)
        examine(doctor, loop)

    monkeypatch.setattr(_doctor.Doctor, "examine", noted)
    data = discs(40)
    for images in (320, 640):
        train(data, tmp_path / "run", settings=resolve(overrides=(*TINY, f"train.images={images}")))
    assert looked == [*range(64, 641, 64)]


def test_a_loss_that_lets_nothing_through_is_no_error() -> None:
    assert illnesses.gradient_left(illnesses.Signs(generated=-2000.0, certainty=1.0)) < 1e-300
    assert illnesses.gradient_left(illnesses.Signs(generated=-2.0, certainty=1.0)) == pytest.approx(0.1192, rel=1e-3)


def test_a_healthy_run_is_left_alone(discs: Callable[[int], Path], tmp_path: Path) -> None:
    """The doctor's measurements draw on no random number of training and leave every weight as it was."""
    data, settings = discs(64), (*TINY, "train.images=320")
    for name, more in (("with", ()), ("without", (OFF,))):
        train(data, tmp_path / name, settings=resolve(overrides=(*settings, *more)))
    first, second = (load_tensors(tmp_path / name / "generator.safetensors")[0] for name in ("with", "without"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert set(events(tmp_path / "with")) == {"trained"}


def test_compare_knows_equal_collapsed_and_distant_samples() -> None:
    draw = torch.Generator().manual_seed(0)
    real, same = torch.randn(80, 1, 12, 12, generator=draw), torch.randn(80, 1, 12, 12, generator=draw)
    variety, near = compare(same, real)
    assert variety == pytest.approx(1, abs=0.05) and abs(near) < 0.02
    collapsed, _ = compare(same[:1].expand(80, -1, -1, -1), real)
    assert collapsed < 0.01
    assert compare(same + 3, real)[1] > 1 > 0.05 > near


@pytest.mark.parametrize("real", [torch.zeros(1, 1, 12, 12), torch.zeros(9, 1, 12, 12)], ids=["one", "all alike"])
def test_where_real_images_do_not_vary_no_variety_is_missed(real: Tensor) -> None:
    near = 0.01 * torch.randn(80, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    assert compare(near, real) == (1.0, pytest.approx(0.5, abs=0.5))
    assert compare(near[:1].expand(80, -1, -1, -1), real)[0] == 1


def test_a_single_training_image_can_be_redrawn(make_prepared: Make) -> None:
    data = Prepared(make_prepared(n=2))
    assert len(data.indices("train")) == 1
    spreads = Redrawing.relative(PrincipalCodes(data, 8, seed=0), data, 0).spreads
    assert spreads is not None and torch.isfinite(spreads).all()
