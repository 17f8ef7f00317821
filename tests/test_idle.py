"""Settings that were changed in vain are told; those that do something, defaults and recipes are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from radsynth import cli
from radsynth.image import ImageSpec
from radsynth.run_folder import TRAINING
from radsynth.settings import kinds
from radsynth.tasks import build
from radsynth.verbs._given import given
from radsynth.verbs._in_vain import in_vain, unused_by_run
from radsynth.verbs._training.idle import idle, tell_of_idle
from radsynth.verbs.prepare import prepare
from radsynth.verbs.run import run
from radsynth.verbs.train import train

PAIRS = ImageSpec(size=(16, 16), channels=("t1", "flair"), mask_classes=2)
CLASSES = ImageSpec(size=(16, 16), channels=("t1", "flair"), labels=("a", "b"), mask_classes=2)
NO_JUDGE = ("task.kind=translate", "task.adversarial=0")


def told(words: tuple[str, ...], spec: ImageSpec = PAIRS) -> list[str]:
    settings = given(TRAINING, words, with_recipe=True)
    task = build(settings, spec)
    return idle(settings, task, spec)


@pytest.mark.parametrize(("words", "message"), [
    (("task.penalty_weight=10",), "task.penalty_weight=10.0 does nothing here: there is no penalty"),
    (("task.penalty_every=4",), "there is no penalty"),
    (("task.penalty=r1", "task.penalty_step=0.1"), "task.penalty_step=0.1 does nothing here: task.penalty=r1 takes"),
    (("task.penalty=r1", "task.penalty_weight=0"), "task.penalty=\"r1\" does nothing here: the penalty has no weight"),
    (("task.warm_start=0", "task.warm_start_rate=3"), "there is no warm start"),
    (("train.grow_at=1", "train.batch_end=64"), "train.batch_end=64 does nothing here: batches never grow"),
    (("train.images=500", "train.grow_images=500", "train.augment_end=0.5"), "train.augment_end=0.5 does nothing here"),
    (("train.rate_end=1", "train.fall=0.5"), "train.fall=0.5 does nothing here: the learning rate does not fall"),
    (("model.kind=mlp", "train.batch_end=32"), "batches only grow, and train.batch is 64"),
    (("train.grow_at=0.2",), "batches do not grow"), (("train.grow_images=9",), "batches do not grow"),
    (("train.balance=1",), "the images have no classes"),
    (("train.fall=0", "train.rate_end=0.5"), "the learning rate does not fall"),
    (("train.doctor=false", "augment.shift=0.2"), "nothing is augmented (augment.strength=0)"),
    (("train.doctor=false", "task.consistency=2"), "task.consistency=2.0 does nothing here: nothing is augmented"),
    (("task.kind=semantic", "task.styles=principal", "task.recovery=1"), "it is for styles that are learned"),
    (("task.kind=semantic", "train.doctor=false", "augment.shift=0.2"), "nothing is augmented (augment.strength=0)"),
    ((*NO_JUDGE, "augment.strength=0.5"), "augment.strength=0.5 does nothing here: no discriminator is trained"),
    ((*NO_JUDGE, "train.augment_end=0.5"), "no discriminator is trained"),
    ((*NO_JUDGE, "model.discriminator_width=8"), "no discriminator is trained"),
    (("task.kind=register", "task.adversarial=0.1", "augment.strength=0.5"), "task.kind=register takes no"),
    (("task.kind=private", "augment.shift=0.2"), "task.kind=private takes no augmentation"),
    (("task.kind=private", "task.start=0", "task.anchor=5"), "no mean images are told"),
    (("task.kind=private", "train.balance=1"), "the images have no classes"),
    (("task.kind=restore", "task.noise=[0.1, 0.2]"), "task.noise=[0.1, 0.2] does nothing here: it is for task.what="),
    ((*NO_JUDGE, "task.loss=hinge"), "task.loss=\"hinge\" does nothing here: no discriminator is trained"),
    (("task.kind=translate", "task.absolute=0", "task.balance=1"), "the absolute difference has no weight"),
    (("task.kind=segment", "task.entropy=0", "task.balance=1"), "there is no cross-entropy"),
    (("task.kind=segment", "task.masked=0.2"), "every image in training has a mask (task.adversarial=0)"),
    (("task.kind=segment", "task.tissues_of=flair"), "masks are learned, not classes of intensity"),
    (("task.kind=register", "task.similarity=none", "task.refinement=9"), "nothing is left to compare a pair by"),
    (("task.kind=register", "task.moving=t1", "task.fixed=flair", "task.refinement=9"), "the channels differ"),
    (("task.kind=register", "task.similarity=none", "task.window=5"), "no local correlation is taken"),
])
def test_a_setting_that_does_nothing_is_told_with_the_reason(words: tuple[str, ...], message: str) -> None:
    line, = told(words)
    assert message in line


@pytest.mark.parametrize(("words", "message"), [
    (("task.kind=translate", "task.rare=0.5"), "task.rare=0.5 does nothing here: the images have no masks"),
    (("task.kind=translate", "task.balance=1"), "the images have no masks"),
    (("task.kind=register", "task.labels=5"), "the images have no masks"),
])
def test_what_needs_masks_is_told_where_there_are_none(words: tuple[str, ...], message: str) -> None:
    line, = told(words, replace(CLASSES, mask_classes=0))
    assert message in line and told(words, CLASSES) == []


def test_images_with_masks_are_not_drawn_again_where_all_have_one() -> None:
    words = ("task.kind=segment", "task.adversarial=0.01", "task.masked=0.2")
    assert "task.masked=0.2 does nothing here: every image has a mask" in told(words, CLASSES)[0]
    assert told(words, replace(CLASSES, partly_masked=True)) == []


def test_a_start_from_other_weights_has_no_warm_start() -> None:
    line, = told(("train.start=brain_64", "task.warm_start=0.2"))
    assert "task.warm_start=0.2 does nothing here: training starts from weights" in line


def test_patients_are_not_drawn_by_their_class() -> None:
    assert "with the same chance" in told(("task.kind=private", "train.balance=1"), CLASSES)[0]


@pytest.mark.parametrize("words", [
    ("task.penalty=finite_r1", "task.penalty_step=0.1", "task.penalty_weight=10"), ("task.warm_start_rate=3",),
    ("train.batch_end=64", "train.grow_at=0.2"), ("train.augment_end=0.5", "train.grow_at=0.2"), ("train.balance=1",),
    ("augment.shift=0.2",), ("train.doctor=false", "augment.strength=0.5", "augment.shift=0.2"),
    ("task.consistency=2",), ("train.doctor=false", "augment.strength=0.5", "task.consistency=2"),
    ("task.kind=translate", "augment.strength=0.5", "model.discriminator_width=8"),
    ("model.kind=progressive", "task.penalty_every=2"), ("task.kind=restore", "task.factor=3"),
    ("task.kind=register", "task.similarity=squared", "task.window=5"),  # of the refinement
    ("task.kind=segment", "task.adversarial=0.01", "task.loss=hinge"),
])
def test_a_setting_that_does_something_is_not(words: tuple[str, ...]) -> None:
    assert told(words, CLASSES) == []


@pytest.mark.parametrize("words", [(f"model.kind={kind}",) for kind in ("sngan", "dcgan", "progressive", "style")]
                         + [("model.kind=style", "task.penalty=none")]
                         + [(f"task.kind={kind}",) for kind in kinds("tasks")])
def test_nothing_is_told_of_what_nobody_asked_for(words: tuple[str, ...]) -> None:
    assert told(words, CLASSES) == []


def of_run(words: tuple[str, ...], spec: ImageSpec = PAIRS, **usual: dict[str, object]) -> list[str]:
    settings = given((*TRAINING, "evaluate", "generate"), words, with_recipe=True)
    task = build(settings, spec)
    return in_vain(settings, unused_by_run(task, spec), usual)


@pytest.mark.parametrize(("words", "message"), [
    (("task.kind=translate", "generate.count=9"), "generate.count=9 does nothing here: this task makes images from"),
    (("task.kind=segment", "generate.format=nifti"), "'radsynth apply' does so"),
    (("task.kind=translate", "evaluate.pairs=3"), "does nothing here: what this task makes from images is"),
    (("evaluate.anatomy=0.5",), "it is for tasks from image to image"),
    (("task.kind=semantic", "evaluate.anatomy=0"), "it is for tasks from image to image"),
    (("task.kind=register", "evaluate.anatomy=0"), "it is for tasks that make images"),
    (("evaluate.shrink=true",), "it is for 'radsynth evaluate'"),
])
def test_what_run_never_reads_is_told(words: tuple[str, ...], message: str) -> None:
    line, = of_run(words)
    assert message in line


def test_inception_is_not_for_volumes() -> None:
    line, = of_run(words := ("evaluate.inception=weights.pth",), replace(PAIRS, size=(8, 16, 16)))
    assert 'evaluate.inception="weights.pth" does nothing here: it is for 2-D images' in line and of_run(words) == []


def test_what_run_reads_and_what_a_preset_says_is_not_told() -> None:
    assert of_run(("generate.count=9", "generate.copy_filter=true", "evaluate.pairs=3", "evaluate.classes=false")) == []
    assert of_run(("task.kind=translate", "evaluate.anatomy=0.5", "evaluate.images=99")) == []
    assert of_run(("task.kind=translate", "generate.count=500"), generate={"count": 500}) == []
    unpaired = ("task.kind=cycle", "evaluate.anatomy=0.5")
    assert of_run(unpaired, CLASSES) == [] and "no pairs" in of_run(unpaired, replace(CLASSES, mask_classes=0))[0]


def test_prepare_says_which_mapping_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(8):
        (tmp_path / "scans").mkdir(exist_ok=True)
        Pillow.fromarray(np.arange(n, n + 256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / f"scans/patient{n}.png")
    prepare(tmp_path / "scans", tmp_path / "out", overrides=["prepare.window=[0, 100]", "prepare.patches=4"])
    said = capsys.readouterr().err
    assert "prepare.window=[0.0, 100.0] does nothing here: values are mapped by bits (prepare.intensity=window" in said
    assert "prepare.patches=4 does nothing here: no patches are cut" in said
    words = ["prepare.window=[0, 100]", "prepare.intensity=window", "prepare.fit=patches", "prepare.patches=4",
             "prepare.size=[8, 8]"]
    prepare(tmp_path / "scans", tmp_path / "other", overrides=words)
    assert "does nothing here" not in capsys.readouterr().err


def test_prepare_says_what_the_split_the_masks_and_the_added_images_of_the_data_leave_undone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    for n in range(8):
        file = tmp_path / "scans" / ("train" if n < 6 else "test") / f"patient{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.arange(n, n + 256, dtype=np.uint8).reshape(16, 16)).save(file)
    words = ["prepare.train=0.5", "prepare.split_seed=3", "prepare.masks=all", f"prepare.extra={tmp_path / 'scans'}"]
    prepare(tmp_path / "scans", tmp_path / "out", overrides=words)
    said = capsys.readouterr().err
    assert "prepare.train=0.5 does nothing here: the data brings its own split" in said
    assert "prepare.split_seed=3 does nothing here" in said and "prepare.validation" not in said
    assert "prepare.masks=\"all\" does nothing here: no masks are kept" in said
    assert "does nothing here: none of its images could be used" in said
    prepare(tmp_path / "scans", tmp_path / "other", overrides=[*words[:2], "prepare.official=false"])
    assert "does nothing here" not in capsys.readouterr().err


def test_evaluate_says_what_it_never_reads(tmp_path: Path) -> None:
    words = ["evaluate", str(tmp_path / "real"), str(tmp_path / "made"), "evaluate.anatomy=0.5", "evaluate.shrink=true"]
    said = CliRunner().invoke(cli.app, words).stderr
    assert "mind: evaluate.anatomy=0.5 does nothing here: it is for 'radsynth run'" in said and "shrink" not in said
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "manifest.json").write_text("{}")
    said = CliRunner().invoke(cli.app, words).stderr
    assert "mind: evaluate.shrink=true does nothing here: the real images are prepared" in said


def test_run_and_train_say_it_once(make_prepared: Callable[..., Path], tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    rng, words = np.random.default_rng(0), ("model.kind=mlp", "task.penalty_weight=10", "train.previews=0")
    for n in range(12):
        (tmp_path / "scans").mkdir(exist_ok=True)
        Pillow.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(tmp_path / "scans" / f"patient{n}.png")
    train(make_prepared(), tmp_path / "trained", overrides=words, budget="64img")
    run(tmp_path / "scans", tmp_path / "run", overrides=(*words, "generate.count=4"), budget="64img")
    said = [line for line in capsys.readouterr().err.splitlines() if "does nothing here" in line]
    assert len(said) == 2 and set(said) == {
        "mind: task.penalty_weight=10.0 does nothing here: there is no penalty (task.penalty=none)."}


def test_a_budget_of_one_step_is_told_before_training(
    make_prepared: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    data, said = make_prepared(), []
    for name, batch in (("one", 64), ("more", 20)):
        train(data, tmp_path / name, overrides=("model.kind=mlp", f"train.batch={batch}"), budget="40img")
        said.append([line for line in capsys.readouterr().err.splitlines() if "in one step" in line])
    line, = said[0]
    assert line.startswith("mind: the budget of 40 images is spent in one step (train.batch=64)") and not said[1]


@pytest.mark.parametrize(("words", "named"), [
    (("task.kind=restore", "task.what=pairs"), "task.clean=flair"),
    (("task.kind=restore", "task.what=pairs"), "task.given=flair"),
    (("task.kind=translate",), "task.inputs=[flair]"),
])
def test_channels_that_are_taken_by_their_order_are_told(
    words: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str],
) -> None:
    said = []
    for more in ((), (named,)):
        settings = given(TRAINING, (*words, *more), with_recipe=True)
        task = build(settings, PAIRS)
        tell_of_idle(settings, task, PAIRS)
        said.append(capsys.readouterr().err)
    assert "mind: flair will be made from t1, because the channels come in this order; task." in said[0]
    assert not said[1]


def test_processes_that_share_cores_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("radsynth.device.cores", lambda: 2)
    for processes in (64, 2):
        settings = given(TRAINING, (f"train.processes={processes}",), with_recipe=True)
        task = build(settings, PAIRS)
        tell_of_idle(settings, task, PAIRS)
    said = [line for line in capsys.readouterr().err.splitlines() if "cores" in line]
    assert len(said) == 1 and said[0].startswith("mind: train.processes=64 is more than the 2 cores")
