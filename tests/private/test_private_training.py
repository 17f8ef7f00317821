"""Private training as a whole: what a run says, shows and keeps, resume, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from opacus.accountants import RDPAccountant  # type: ignore[import-untyped]  # it ships no types

from radsynth.arrays import Prepared
from radsynth.checkpoints import load_checkpoint, load_tensors, save_tensors
from radsynth.errors import FolderError, MissingExtra, OutOfMemory, SettingsError
from radsynth.settings import resolve
from radsynth.shorthand import read_preset, read_privacy
from radsynth.tasks import _differential
from radsynth.tasks._differential import Draws, account, clipped_sum
from radsynth.verbs.generate import generate
from radsynth.verbs.train import train
from tests.private.examples import Make, make_loop, options, real_loss


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
    loop.samples.calibrate()
    loop.samples.preview()
    with pytest.raises(AssertionError, match="was read"):
        for _ in range(20):  # a turn may draw nobody
            loop.take_step()


def test_every_turn_has_the_noise_of_its_account_in_clipping_norms(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[tuple[int, float]] = []
    monkeypatch.setattr(Draws, "add_noise", lambda self, sums, step, scale: added.append((step, scale)))
    loop = make_loop(make_prepared(), tmp_path, "task.clip=0.5", "task.warm_start=0")
    for _ in range(3):
        loop.take_step()
    assert loop.private and loop.private.account and loop.private.account.noise > 0
    assert added == [(turn, pytest.approx(0.5 * loop.private.account.noise)) for turn in range(6)]


def test_spectral_normalisation_depends_on_no_patient(make_prepared: Make, tmp_path: Path) -> None:
    loop = make_loop(make_prepared(), tmp_path, "model.discriminator_norm=spectral")
    network = loop.networks["discriminator"]
    before = {name: value.clone() for name, value in network.named_buffers()}
    assert before
    clipped_sum(network, real_loss, torch.randn(5, 1, 16, 16), None, 1.0, 2)
    assert network.training and all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    loop.take_step()
    assert any(not torch.equal(value, before[name]) for name, value in network.named_buffers()), "generated ones do"


def test_images_of_one_patient_count_as_one(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    table = (data / "records.csv").read_text().splitlines()
    places = [place for place, line in enumerate(table) if line.startswith("train")]
    for place in places:  # eight patients with four images each
        fields = table[place].split(",")
        fields[2] = f"p{places.index(place) % 8}"
        table[place] = ",".join(fields)
    (data / "records.csv").write_text("\n".join(table) + "\n")
    with pytest.raises(SettingsError, match=r"more than there are training patients \(at most 8\)"):
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
    assert "accumulate" not in str(error.value) and "model.width" in str(error.value) and loop.gradients.parts == 1


def test_a_longer_budget_would_break_the_promise(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    train(data, tmp_path / "run", settings=options())
    with pytest.raises(FolderError, match="noise multiplier"):
        train(data, tmp_path / "run", settings=options("train.images=640"))


@pytest.mark.parametrize(("more", "words"), [
    (("train.images=0", "train.seconds=5"), "train.images"),
    (("model.discriminator_norm=batch",), "discriminator_norm=spectral"),
    (("augment.strength=0.3",), "augment.strength=0"),
    (("train.batch=64",), "set train.batch=16, half of them"),
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
