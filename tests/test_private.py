"""Differentially private training: clipping, noise, sampling, the account, what is refused, resume, what is hidden."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus.accountants import RDPAccountant  # type: ignore[import-untyped]  # it ships no types
from scipy.optimize import brentq
from scipy.stats import norm
from torch.nn.functional import softplus

from radsynth.arrays import Prepared
from radsynth.checkpoints import load_checkpoint, load_tensors, save_tensors
from radsynth.errors import FolderError, MissingExtra, OutOfMemory, SettingsError
from radsynth.image import ImageSpec
from radsynth.models import build as build_networks
from radsynth.models.dcgan import Discriminator
from radsynth.run_folder import RunFolder
from radsynth.settings import Resolved, read_preset, read_privacy, resolve
from radsynth.tasks import _differential, build
from radsynth.tasks._differential import Account, Draws, account, clipped_sum, never_less
from radsynth.tasks._private_start import SPREAD, _covariance, _directions, _sums, _told, release
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings as TrainSettings
from radsynth.verbs.generate import generate
from radsynth.verbs.train import train

Make = Callable[..., Path]
SMALL = ("task.kind=private", "task.discriminator_steps=2", "model.kind=dcgan", "model.width=4", "model.latent=8",
         "model.discriminator_norm=none", "train.batch=8", "train.images=64", "train.previews=1", "train.processes=1",
         "train.precision=32-true")


class Ones:
    """In place of random numbers, so that a sum shows the size of its noise."""

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.ones(shape)


def options(*more: str) -> Resolved:
    return resolve(overrides=(*SMALL, *more))


def make_loop(data: Path, folder: Path, *more: str) -> Loop:
    settings = options(*more)
    prepared = Prepared(data)
    task, model, augment = (settings.section(name) for name in ("task", "model", "augment"))
    train_settings = settings.section("train", TrainSettings)
    return Loop(build(task, model, augment, prepared.spec), train_settings, prepared, RunFolder(folder), seed=0)


def real_loss(logits: torch.Tensor) -> torch.Tensor:
    return softplus(-logits)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("norm", [1e-3, 0.05, 1e6])
def test_each_gradient_is_clipped_as_by_hand(classes: int, norm: float) -> None:
    torch.manual_seed(0)
    network = Discriminator(4, 16, 1, (16, 16), classes, "none")
    images = torch.randn(7, 1, 16, 16) * torch.tensor([0.1, 1, 3, 0.5, 10, 1, 2]).view(-1, 1, 1, 1)
    labels = torch.arange(7) % classes if classes else None
    found = clipped_sum(network, real_loss, images, labels, norm, chunk=3)
    wanted = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
    for k in range(7):
        network.zero_grad()
        loss = real_loss(network(images[k:k + 1], None if labels is None else labels[k:k + 1])).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
        size = math.sqrt(sum(float(value.double().square().sum()) for value in gradients.values()))
        for name, value in gradients.items():
            wanted[name] += value * min(1.0, norm / size)
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=2e-3, atol=norm * 1e-6), name


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 16)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("model", ["mlp", "dcgan", "r3gan", "sngan", "style"])
def test_every_network_gives_the_gradients_of_images_with_several_channels(model: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    settings = resolve({"model": {"kind": model, **({"discriminator_norm": "spectral"} if model == "dcgan" else {})}})
    spec = ImageSpec(size=size, channels=("red", "green", "blue"))
    network = build_networks(settings.section("model"), spec)["discriminator"].eval()
    image = torch.randn(1, 3, *size)
    found = clipped_sum(network, real_loss, image, None, 1e6, chunk=3)
    network.eval()
    real_loss(network(image)).sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    for name, weight in network.named_parameters():
        assert weight.grad is not None
        assert torch.allclose(found[name], weight.grad, rtol=2e-3, atol=1e-5), name


@pytest.mark.parametrize(("model", "words"), [("dcgan", "model.discriminator_norm=spectral"), ("progressive", "sngan")])
def test_a_network_that_keeps_more_than_weights_is_refused_with_what_can_be_done(model: str, words: str) -> None:
    settings = resolve(overrides=("task.kind=private", f"model.kind={model}"))
    with pytest.raises(SettingsError, match="keeps more than weights") as refused:
        build(*(settings.section(name) for name in ("task", "model", "augment")), ImageSpec(size=(16, 16)))
    assert str(refused.value).endswith(f"{words}.")


def test_one_image_moves_the_sum_by_at_most_the_norm_even_when_it_is_broken() -> None:
    torch.manual_seed(0)
    network = Discriminator(4, 16, 1, (16, 16), 0, "none")
    images = torch.randn(4, 1, 16, 16)
    without = clipped_sum(network, real_loss, images[:3], None, 0.01, chunk=8)
    for value in (1.0, 1e4, math.inf, math.nan):
        images[3] = value
        added = clipped_sum(network, real_loss, images, None, 0.01, chunk=8)
        moved = torch.cat([(added[name] - without[name]).flatten() for name in added]).norm()
        assert moved <= 0.01 * 1.001, value
    nobody = clipped_sum(network, real_loss, images[:0], None, 1.0, 8)
    assert all(float(value.abs().max()) == 0 for value in nobody.values())


def test_noise_has_its_scale_and_is_another_one_in_every_step_and_for_every_key() -> None:
    draws = Draws()

    def noise(draws: Draws, step: int) -> torch.Tensor:
        sums = {"a": torch.zeros(300, 300), "b": torch.zeros(10000)}
        draws.add_noise(sums, step, 2.5)
        return torch.cat([value.flatten() for value in sums.values()])

    values = [noise(draws, 0), noise(draws, 1), noise(Draws(), 0)]
    for value in values:  # 100,000 numbers: the standard error of their deviation is 0.0056, of their mean 0.008
        assert abs(float(value.std()) - 2.5) < 0.03 and abs(float(value.mean())) < 0.04
    for one, two in ((0, 1), (0, 2)):
        assert abs(float(torch.corrcoef(torch.stack([values[one], values[two]]))[0, 1])) < 0.02
    assert torch.equal(noise(Draws(draws.key), 0), values[0]), "the key decides"


def test_patients_are_drawn_each_on_their_own_with_one_image() -> None:
    groups = [np.asarray([k, 100 + k, 200 + k]) for k in range(100)]
    draws, counts, times = Draws(b"0123456789abcdef"), [], np.zeros(300)
    for step in range(2000):
        chosen = draws.patients(step, groups, 0.1)
        assert len(set(chosen % 100)) == len(chosen), "never two images of one patient"
        counts.append(len(chosen))
        times[chosen] += 1
    assert abs(np.mean(counts) - 10) < 0.3  # the standard error is 0.067
    assert abs(np.var(counts) - 9) < 1.2, "a binomial number of patients, not a fixed one"
    assert abs(times.reshape(3, 100).sum(1) / 2000 - 10 / 3).max() < 0.2, "every image of a patient alike"


@pytest.mark.parametrize(("noise", "share", "steps"), [(0.8, 0.05, 300), (1.3, 0.01, 4000), (3.0, 1.0, 20)])
def test_epsilon_is_that_of_opacus(noise: float, share: float, steps: int) -> None:
    accountant = RDPAccountant()
    for _ in range(steps):
        accountant.step(noise_multiplier=noise, sample_rate=share)
    ours = Account(noise, share, 1e-5)
    assert ours.epsilon(steps) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)
    assert 0 == ours.epsilon(0) < ours.epsilon(1) < ours.epsilon(steps) < ours.epsilon(2 * steps)
    assert Account(2 * noise, share, 1e-5).epsilon(steps) < ours.epsilon(steps)
    assert Account(0.0, share, 1e-5).epsilon(steps) == math.inf


def exact_epsilon(noises: list[float], delta: float) -> float:
    """Of Gaussian mechanisms one after the other: one with mu^2 = sum of 1 / noise^2 (Dong, Roth and Su 2022), whose
    delta is known exactly (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(sum(noise**-2 for noise in noises))
    return float(brentq(lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - delta, 0, 200))


@pytest.mark.parametrize("noises", [(1.0, 2.0), (3.0, 7.0), (0.8, 5.0)])
def test_the_start_and_the_turns_add_up(noises: tuple[float, ...]) -> None:
    accountant = RDPAccountant()
    accountant.history = [*((noise, 1.0, 1) for noise in noises), (1.4, 0.05, 300)]
    ours = Account(1.4, 0.05, 1e-5, noises)
    assert ours.epsilon(300) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)
    assert Account(1.4, 0.05, 1e-5).epsilon(300) < ours.epsilon(300)
    exact = exact_epsilon([*noises, *[9.0] * 4], 1e-5)  # with everybody in every turn there is a closed form
    bound = Account(9.0, 1.0, 1e-5, noises).epsilon(4)
    assert exact < bound < 1.2 * exact, "a bound, and not a loose one"


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_the_start_costs_its_share_of_the_budget(epsilon: float) -> None:
    found = account(epsilon, 1e-5, 0.05, 500, (0.1, 0.3))
    assert 0.97 * epsilon < found.epsilon(500) <= epsilon
    alone = account(epsilon, 1e-5, 1.0, 1).noise
    assert found.start == pytest.approx((alone / math.sqrt(0.1), alone / math.sqrt(0.3)), rel=1e-2)
    assert account(epsilon, 1e-5, 0.05, 500).noise < found.noise, "what the start takes, the turns must save"
    assert account(math.inf, 1e-5, 0.05, 500, (0.1, 0.3)).start == (0.0, 0.0)


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_the_noise_keeps_the_budget_and_wastes_little_of_it(epsilon: float) -> None:
    found = account(epsilon, 1e-5, 0.05, 500)
    assert 0.97 * epsilon < found.epsilon(500) <= epsilon


@pytest.mark.parametrize(("epsilon", "words"), [(9.9901, "10.00"), (9.99, "9.99"), (0.0, "0.00"), (math.inf, "inf")])
def test_a_bound_is_never_told_as_less(epsilon: float, words: str) -> None:
    assert f"{never_less(epsilon):.2f}" == words


def test_a_run_says_its_bound_before_during_and_after(
    make_prepared: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(make_prepared(labels=("small", "large")), tmp_path / "run", settings=options())
    facts = run.load_weights()[1]["privacy"]
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    said = [line["text"] for line in lines if line.get("event") == "privacy"]
    spent = [line["discriminator/epsilon"] for line in lines if "discriminator/epsilon" in line]
    assert "epsilon 9.9" in said[0] or "epsilon 10.0" in said[0]
    assert said[0] in capsys.readouterr().err
    assert facts["turns"] == 16 and facts["patients"] == 32 and facts["sampling"] == 8 / 32
    assert spent == sorted(spent) and spent[-1] == pytest.approx(facts["epsilon"], rel=1e-5) and facts["epsilon"] <= 10
    accountant = RDPAccountant()
    once = [float(noise) for noise in facts["start_noise_multipliers"].split()]
    accountant.history = [*((noise, 1.0, 1) for noise in once),
                          (facts["noise_multiplier"], facts["sampling"], facts["turns"])]
    assert len(once) == 2
    assert facts["epsilon"] == pytest.approx(accountant.get_epsilon(facts["delta"]))
    logged = {name for line in lines for name in line if name.startswith("discriminator/")}
    assert logged == {"discriminator/fake", "discriminator/epsilon"}, "nothing that patients' logits decide"
    with pytest.raises(SettingsError, match="copy"):
        generate(run.path, tmp_path / "out", count=4, copy_filter=True)


def test_nothing_but_the_task_looks_at_training_images(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(make_prepared(labels=("small", "large")), tmp_path, "train.doctor=true")
    assert loop.doctor is None

    def forbidden(*_: Any) -> None:
        raise AssertionError("training data was read")

    monkeypatch.setattr(Prepared, "stored", forbidden)
    monkeypatch.setattr(Prepared, "labels", forbidden)
    assert not loop.batch().images.numel() and loop.batch().labels is None
    loop.calibrate()
    loop.preview()
    with pytest.raises(AssertionError, match="was read"):
        for _ in range(20):  # a turn may draw nobody
            loop.take_step()


def groups_of(prepared: Prepared, size: int = 1) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    rows = prepared.indices("train")
    return [rows[k:k + size] for k in range(0, len(rows), size)]


@pytest.mark.parametrize("images", [1, 4])
def test_one_patient_moves_what_is_told_by_at_most_its_bound(
    images: int, make_prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared(make_prepared(labels=("small", "large")))
    groups = groups_of(prepared, images)
    extreme = np.sign(np.random.default_rng(0).normal(size=(len(prepared.rows), 1, 16, 16))).astype(np.float32)
    monkeypatch.setattr(Prepared, "images", lambda self, rows: extreme[rows])
    whole, fewer = (_sums(prepared, some, (16, 16))[0] for some in (groups, groups[1:]))
    moved = float((whole - fewer).norm())
    assert moved <= 16 * 1.0001 and (images > 1 or moved > 15.9), "all images of a patient together, over all classes"
    means = torch.zeros(2, 1, 8, 8)
    for told in (torch.eye(2), torch.ones(2, 1)):  # a covariance for each class, and one for both
        whole, fewer = (_covariance(prepared, some, means, (8, 8), told) for some in (groups, groups[1:]))
        moved = float((whole - fewer).norm())
        assert moved <= SPREAD**2 * 64 * 1.0001 and (images > 1 or moved > SPREAD**2 * 63)


def test_the_start_is_the_mean_and_the_principal_directions_of_the_classes(make_prepared: Make) -> None:
    prepared = Prepared(make_prepared(labels=("small", "large")))
    groups, latent = groups_of(prepared), 40
    found = release(prepared, groups, latent, (0.0, 0.0), np.random.default_rng(0))
    rows = prepared.indices("train")
    images, labels = torch.from_numpy(prepared.images(rows)), prepared.labels(rows)
    of_class = torch.stack([images[labels == k].mean(0) for k in (0, 1)])
    assert torch.allclose(found.means, of_class, atol=1e-5)
    rest = (images - of_class[labels]).flatten(1)
    rest *= (SPREAD * 16 / rest.norm(dim=1, keepdim=True)).clamp(max=1)
    assert found.coarse == (16, 16)
    for k in (0, 1):
        of_one = rest[labels == k]
        covariance = of_one.T @ of_one / len(of_one)
        assert torch.allclose(found.directions[k].T @ found.directions[k], covariance, atol=1e-3)
    made = found.pictures(torch.randn(4000, latent), torch.zeros(4000, dtype=torch.int64), (16, 16))
    assert float((made.mean(0) - of_class[0]).abs().max()) < 0.1


def test_the_start_has_the_noise_of_its_account(make_prepared: Make) -> None:
    prepared = Prepared(make_prepared())
    groups = groups_of(prepared)
    quiet = release(prepared, groups, 8, (0.0, 0.0), np.random.default_rng(0)).means
    noisy = release(prepared, groups, 8, (0.03, 0.0), Ones()).means  # type: ignore[arg-type]  # stands for a generator
    inside = quiet.abs() < 0.9  # where the noise does not leave the range
    assert torch.allclose((noisy - quiet)[inside], torch.tensor(0.03 * 16 / len(groups)), atol=1e-4)


def test_classes_with_few_patients_share_a_covariance() -> None:
    assert _told(torch.tensor([3000.0, 900.0, 2000.0, 10.0]), 1.0).tolist() == [
        [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert _told(torch.tensor([3000.0, 900.0]), 0.0).tolist() == [[1, 0], [0, 1]], "without noise each has its own"
    assert _told(torch.tensor([30.0, 90.0]), 1.0).tolist() == [[1], [1]]


def test_directions_stand_above_the_noise_and_lose_it() -> None:
    generator = torch.Generator().manual_seed(0)
    d, s = 256, 0.1
    planted = torch.linalg.qr(torch.randn(d, 2, generator=generator))[0]
    noise = torch.randn(d, d, generator=generator) * s
    edge = s * math.sqrt(2 * d)
    assert float(torch.linalg.eigvalsh((noise + noise.T) / 2).max()) == pytest.approx(edge, rel=0.05)
    covariance = planted @ torch.diag(torch.tensor([20.0, 8.0])) @ planted.T + (noise + noise.T) / 2
    _, nothing = _directions((noise + noise.T) / 2, s, (16, 16), 1, 8)
    assert not nothing.any(), "noise alone has no directions"
    coarse, found = _directions(covariance, s, (16, 16), 1, 8)
    assert coarse == (16, 16)
    sizes = found.square().sum(1)
    assert sizes[:2].tolist() == pytest.approx([8.0, 20.0], rel=0.1) and not sizes[2:].any()
    smooth = torch.nn.functional.interpolate(torch.randn(1, 1, 4, 4, generator=generator), (16, 16)).flatten()
    covariance = 1.5 * torch.outer(smooth, smooth) / smooth.square().sum() + (noise + noise.T) / 2
    coarse, found = _directions(covariance, s, (16, 16), 1, 8)
    assert coarse in ((8, 8), (4, 4)) and found.any(), "seen only where the noise is averaged away"


def test_spectral_normalisation_depends_on_no_patient(make_prepared: Make, tmp_path: Path) -> None:
    loop = make_loop(make_prepared(), tmp_path, "model.discriminator_norm=spectral")
    network = loop.networks["discriminator"]
    before = {name: value.clone() for name, value in network.named_buffers()}
    assert before
    clipped_sum(network, real_loss, torch.randn(5, 1, 16, 16), None, 1.0, 2)
    assert network.training and all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    loop.take_step()
    assert any(not torch.equal(value, before[name]) for name, value in network.named_buffers()), "generated ones do"


def test_the_warm_start_shows_no_patient_to_the_discriminator(make_prepared: Make, tmp_path: Path) -> None:
    loop = make_loop(make_prepared(), tmp_path, "task.warm_start=0.25")
    assert loop.private is not None
    names = [sorted(loop.take_step()) for _ in range(3)]
    assert names[:2] == [["generator/start"]] * 2 and "discriminator/epsilon" in names[2]
    assert loop.private.spent()["turns"] == 2


def test_images_of_one_patient_count_as_one(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    table = (data / "records.csv").read_text().splitlines()
    places = [place for place, line in enumerate(table) if line.startswith("train")]
    for place in places:  # eight patients with four images each
        fields = table[place].split(",")
        fields[2] = f"p{places.index(place) % 8}"
        table[place] = ",".join(fields)
    (data / "records.csv").write_text("\n".join(table) + "\n")
    with pytest.raises(SettingsError, match="more than the 8 training patients"):
        make_loop(data, tmp_path, "train.batch=9")
    loop = make_loop(data, tmp_path, "train.batch=4")
    assert loop.private is not None and loop.private.spent()["patients"] == 8


def test_resume_goes_on_exactly_with_its_draws_and_its_account(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    whole = make_loop(data, tmp_path)
    for _ in range(3):
        whole.take_step()
    save_tensors(tmp_path / "state.safetensors", whole.state(), {})
    resumed = make_loop(data, tmp_path)
    resumed.restore(load_tensors(tmp_path / "state.safetensors")[0])
    for loop in (whole, resumed):
        for _ in range(3):
            loop.take_step()
    assert whole.private and resumed.private and whole.private.spent() == resumed.private.spent()
    for name in whole.networks:
        for one, two in zip(whole.networks[name].parameters(), resumed.networks[name].parameters(), strict=True):
            assert torch.equal(one, two)
    other = make_loop(data, tmp_path)
    for _ in range(6):
        other.take_step()
    first, second = (next(loop.networks["discriminator"].parameters()) for loop in (whole, other))
    assert not torch.equal(first, second), "the seed, which is published, does not tell the noise"


def test_memory_for_patients_is_not_saved_by_parts(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    loop = make_loop(make_prepared(), tmp_path, "task.warm_start=0")
    monkeypatch.setattr("radsynth.tasks.private.clipped_sum", greedy)
    with pytest.raises(OutOfMemory) as error:
        loop.take_step()
    assert "accumulate" not in str(error.value) and "model.width" in str(error.value) and loop.accumulate == 1


def test_a_longer_budget_would_break_the_promise(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    train(data, tmp_path / "run", settings=options())
    with pytest.raises(FolderError, match="noise multiplier"):
        train(data, tmp_path / "run", settings=options("train.images=640"))


@pytest.mark.parametrize(("more", "words"), [
    (("train.images=0", "train.seconds=5"), "train.images"),
    (("model.discriminator_norm=batch",), "discriminator_norm=spectral"),
    (("augment.strength=0.3",), "augment.strength=0"),
    (("train.batch=64",), "lower it"),
    (("train.processes=2",), "train.processes=1"),
    (("task.delta=0.1",), "task.delta"),
    (("task.epsilon=1000",), "at most 100"),
    (("task.loss=relativistic",), "hinge"),
    (("task.penalty=r1",), "no such setting"),
])
def test_what_cannot_be_private_is_refused_before_training(
    more: tuple[str, ...], words: str, make_prepared: Make, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=words):
        train(make_prepared(), tmp_path / "run", settings=options(*more))
    assert not (tmp_path / "run").exists()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_differential, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"radsynth\[dp\]"):
        account(3.21, 1e-5, 0.05, 7)


def test_the_short_flag_is_the_preset() -> None:
    assert read_privacy("dp") == read_preset("dp")
    assert resolve(read_privacy("dp")).kind("task") == "private"
    with pytest.raises(SettingsError, match="only dp"):
        read_privacy("none")


def test_what_the_flag_chooses_trains_and_keeps_nothing_of_the_images_but_weights(
    make_prepared: Make, tmp_path: Path
) -> None:
    more = ("task.discriminator_steps=1", "train.batch=8", "train.images=16", "train.previews=0")
    run = train(make_prepared(n=300), tmp_path / "run", settings=resolve(read_privacy("dp"), overrides=more))
    networks = load_checkpoint(run.checkpoints)[0]["networks"]  # type: ignore[index]  # there is one
    greys = [value for state in networks.values() for name, value in state.items() if "greys." in name]
    assert greys and not any(value.any() for value in greys)
