"""Starting from a trained run: its weights, its directions, other numbers of classes, frozen layers, resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.checkpoints import load_checkpoint, load_tensors
from radsynth.errors import FolderError, SettingsError
from radsynth.image import ImageSpec
from radsynth.models import build as build_networks
from radsynth.run_folder import RunFolder
from radsynth.settings import Resolved, resolve
from radsynth.tasks import Task, build
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings
from radsynth.verbs._training.start import Start, fit, lower_layers, read_start
from radsynth.verbs.train import train
from tests.trained import resumes

RECIPE = ("task.anchor=10", "task.warm_start=0.1", "train.batch=8", "train.previews=0", "train.precision=32-true")
TINY = ("model.latent=8", "model.width=8", *RECIPE)
Make = Callable[..., Path]


def options(*more: str) -> Resolved:
    return resolve(overrides=(*RECIPE, "train.images=160", *more))


@pytest.fixture
def source(make_prepared: Make, tmp_path: Path) -> Path:
    run = tmp_path / "source"
    train(make_prepared(name="public"), run, settings=resolve(overrides=(*TINY, "train.images=160")))
    return run


def started(data: Path, source: Path, folder: Path, *more: str) -> Loop:
    settings, prepared = resolve(overrides=(*TINY, "train.images=160", f"train.start={source}", *more)), Prepared(data)
    task = build(settings, prepared.spec)
    start = read_start(str(source))
    return Loop(task, settings.section("train", Settings), prepared, RunFolder(folder), 0, start=start)


def test_it_begins_with_the_weights_and_directions_of_the_run_and_without_a_warm_start(
    source: Path, make_prepared: Make, tmp_path: Path
) -> None:
    loop, state = started(make_prepared(n=30), source, tmp_path / "run"), load_checkpoint(source / "checkpoints")
    assert state is not None
    given = load_tensors(source / "generator.safetensors")[0]
    own = loop.networks["generator"].state_dict()
    assert [name for name, value in own.items() if not torch.equal(value, given[name])] == []
    theirs = state[0]["networks"]["discriminator"]
    own = loop.networks["discriminator"].state_dict()
    assert [name for name, value in own.items() if not torch.equal(value, theirs[name])] == []
    assert torch.equal(loop.state()["studied"]["directions"], state[0]["studied"]["directions"])
    assert [turn.nets for turn in loop.turns] == [("discriminator",), ("generator",)]


def test_classes_that_the_source_had_not_begin_as_its_mean(source: Path, make_prepared: Make, tmp_path: Path) -> None:
    loop = started(make_prepared(labels=("small", "large")), source, tmp_path / "run")
    mean, given = loop.networks["generator"].mean, load_tensors(source / "generator.safetensors")[0]["mean"]
    assert mean.shape[0] == 2 and torch.equal(mean[0], given[0]) and torch.equal(mean[1], given[0])
    assert all(torch.isfinite(torch.tensor(list(loop.take_step().values()))))


def test_frozen_layers_stay_and_the_others_move(source: Path, make_prepared: Make, tmp_path: Path) -> None:
    loop = started(make_prepared(), source, tmp_path / "run", "train.freeze=2", "train.rate=0.01")
    before = {name: weight.clone() for name, weight in loop.networks["discriminator"].named_parameters()}
    for _ in range(4):
        loop.take_step()
    moved = {name for name, weight in loop.networks["discriminator"].named_parameters()
             if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if not name.startswith(("layers.0.", "layers.2."))} and moved


def test_the_run_says_where_it_started_without_a_path_and_resumes_bit_exactly(
    source: Path, make_prepared: Make, tmp_path: Path
) -> None:
    data, settings = make_prepared(), options(f"train.start={source}", "train.freeze=1")
    assert resumes(data, tmp_path, settings, step=7)
    written = (tmp_path / "whole" / "settings.yaml").read_text()
    assert str(source) not in written and "start: run " in written and "width: 8" in written
    said = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in said if "event" in line] == ["started", "interrupted", "resumed", "trained"]


def test_words_alone_take_the_network_from_the_start_and_the_recipe_that_goes_with_it(
    make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared()
    train(data, tmp_path / "source", overrides=("model.kind=r3gan", "model.latent=8", "model.width=8"), budget="32img")
    train(data, tmp_path / "run", overrides=(f"train.start={tmp_path / 'source'}",), budget="32img")
    then, now = (resolve(path=tmp_path / name / "settings.yaml") for name in ("source", "run"))
    assert now.section("model") == then.section("model") and now.section("task") == then.section("task")
    assert now.section("task").loss == "relativistic" and now.section("train").rate == then.section("train").rate


def test_a_translation_that_starts_from_one_keeps_the_width_of_its_discriminator(
    make_prepared: Make, tmp_path: Path
) -> None:
    data, words = make_prepared(channels=("t1", "flair")), ("task.kind=translate", "train.batch=8", "train.previews=0")
    train(data, tmp_path / "source", overrides=(*words, "model.width=4", "model.discriminator_width=4"), budget="8img")
    train(data, tmp_path / "run", overrides=(*words, f"train.start={tmp_path / 'source'}"), budget="8img")
    network = resolve(path=tmp_path / "run" / "settings.yaml").section("model")
    assert (network.width, network.discriminator_width) == (4, 4), "not the recipe's"


def test_the_run_is_read_once_and_again_when_it_was_trained_on(
    source: Path, make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr("radsynth.verbs._training.start.load_checkpoint",
                        lambda folder: read.append(folder) or load_checkpoint(folder))
    data = make_prepared()
    train(data, tmp_path / "run", overrides=(f"train.start={source}", "train.batch=8"), budget="16img")
    assert read == [source / "checkpoints"], "the recipe, the checks and the training ask for it"
    before = read_start(str(source))
    train(tmp_path / "public", source, settings=resolve(overrides=(*TINY, "train.images=176")))
    after = read_start(str(source))
    assert len(read) == 2 and before.name != after.name


def test_what_does_not_fit_is_refused(source: Path, make_prepared: Make, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="neither a trained run nor a base"):
        train(make_prepared(name="a"), tmp_path / "run", settings=options("train.start=nowhere"))
    with pytest.raises(SettingsError, match=r"makes images of 16x16, and these are 32x32: .*prepare\.size=\[16, 16\]"):
        train(make_prepared(name="b", size=(32, 32)), tmp_path / "run", settings=options(f"train.start={source}"))
    with pytest.raises(SettingsError, match="of another shape"):
        wider = options(f"train.start={source}", "model.width=16")
        train(make_prepared(name="d"), tmp_path / "run", settings=wider)
    with pytest.raises(SettingsError, match="keeps layers"):
        train(make_prepared(name="c"), tmp_path / "run", settings=options("train.freeze=1"))
    with pytest.raises(SettingsError, match=r"train\.freeze=30 keeps all \d+ layers of the discriminator"):
        train(make_prepared(name="e"), tmp_path / "run", settings=options(f"train.start={source}", "train.freeze=30"))
    assert not (tmp_path / "run").exists()


def test_nothing_is_frozen_where_there_is_no_discriminator(make_prepared: Make, tmp_path: Path) -> None:
    vae = ("task.kind=autoencode", "model.latent=4", "model.width=8", "train.batch=8", "train.images=16")
    train(make_prepared(), tmp_path / "vae", settings=resolve(overrides=vae))
    settings = resolve(overrides=(*vae, f"train.start={tmp_path / 'vae'}", "train.freeze=1"))
    with pytest.raises(SettingsError, match=r"of a discriminator, and none is trained here: set train\.freeze=0"):
        train(tmp_path / "data", tmp_path / "run", settings=settings)


def test_a_run_of_another_task_is_refused() -> None:
    """Its last layer has an output a tissue, and is not taken for classes whose mean would be a beginning."""
    def task(kind: str) -> Task:
        words = resolve(overrides=(f"task.kind={kind}", "model.kind=unet", "model.width=8"))
        spec = ImageSpec(size=(16, 16), mask_classes=4)
        return build(words, spec)

    spec, wanted = ImageSpec(size=(16, 16)), task("restore")
    weights = {"generator": task("segment").networks()["generator"].state_dict()}
    source = Start(name="run", spec=spec, model={}, studied={}, weights=weights)
    with pytest.raises(SettingsError, match=r"of another shape.*task\.kind"):
        source.give(wanted, wanted.networks(), spec)


@pytest.mark.parametrize("kind", ["dcgan", "mlp", "progressive", "r3gan", "sngan", "style"])
def test_the_lowest_layer_is_a_part_of_every_discriminator(kind: str) -> None:
    model = resolve(overrides=(f"model.kind={kind}",)).section("model")
    network = build_networks(model, ImageSpec(size=(16, 16), labels=("one", "two")))["discriminator"]
    lowest = {id(weight) for weight in lower_layers(network, 1)}
    names = [name for name, weight in network.named_parameters() if id(weight) in lowest]
    assert 0 < len(names) <= 2, names  # a weight and a bias


@pytest.mark.parametrize("conditions", [(), ("age",)], ids=["alone", "told numbers"])
@pytest.mark.parametrize("kind", ["dcgan", "dcgan, spectral", "mlp", "progressive", "r3gan", "sngan", "style"])
def test_every_network_starts_from_one_without_classes(kind: str, conditions: tuple[str, ...]) -> None:
    kind, _, norm = kind.partition(", ")
    normed = (f"model.discriminator_norm={norm}",) if norm else ()
    model = resolve(overrides=(f"model.kind={kind}", *normed)).section("model")
    source, wanted = (build_networks(model, ImageSpec(size=(16, 16), labels=labels, conditions=conditions))
                      for labels in ((), ("one", "two")))
    for name, network in wanted.items():
        fit(network, source[name].state_dict(), name, others=True)
        plain = {key: value for key, value in source[name].state_dict().items() if network.state_dict()[key].shape
                 == value.shape}
        assert plain and all(torch.equal(network.state_dict()[key], value) for key, value in plain.items())
