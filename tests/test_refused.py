"""What cannot work is refused by `run` when it has looked at the data, before anything is written."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from radsynth import course
from radsynth.errors import DataError, FolderError, SettingsError, in_command
from radsynth.settings import Resolved, kinds, resolve
from radsynth.verbs import run as module
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare
from radsynth.verbs.run import run
from radsynth.verbs.train import train

RUN = Path("out")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Colour pictures of 12 patients; those of the first four have masks beside them in the folder `masked`."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for n in range(12):
        for folder in ("plain", "masked/images"):
            path = tmp_path / folder / f"patient{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(rng.integers(0, 255, (24, 20, 3), np.uint8)).save(path)
    for n in range(4):
        path = tmp_path / "masked" / "masks" / f"patient{n}.png"
        path.parent.mkdir(exist_ok=True)
        Pillow.fromarray(np.pad(np.full((10, 9), 2, np.uint8), ((7, 7), (6, 5)))).save(path)
    return tmp_path / "plain"


@pytest.mark.parametrize("holds", ["the images to learn from", "prepared data", "synthetic images"])
def test_a_run_takes_no_folder_of_something_else(holds: str, data: Path) -> None:
    out = data if holds == "the images to learn from" else prepare(data, RUN).folder
    if holds == "synthetic images":
        (RUN / "manifest.json").rename(RUN / "generate.json")
    before = sorted(out.rglob("*"))
    with pytest.raises(FolderError, match=f"holds {holds}: a run needs a folder of its own. Choose another"):
        run(data, out, budget="64img")
    if holds == "prepared data":
        with pytest.raises(FolderError, match="needs a folder of its own"):
            train(out, out, budget="64img")
    assert sorted(out.rglob("*")) == before


@pytest.mark.parametrize(("words", "message"), [
    (("model.kind=dcgan", "model.discriminator_norm=batch", "task.penalty=r1"), "Set model.discriminator_norm=none"),
    (("model.kind=dcgan", "prepare.size=[6, 6]"), "cannot make images of 6x6.*or, for images from noise, model.kind="),
    (("data.columns=[label=Diagnosis]",), "names columns of a table, and none is used .data.labels=auto."),
    (("model.kind=unet",), "this task's network must take noise.*such as task.kind=translate"),
    (("model.kind=vae",), "vae is a network of task.kind=autoencode"),
    (("model.kind=spade",), "spade is a network of task.kind=semantic"),
    (("prepare.size=[16, 16, 16]",), "has 3 numbers, but the data is 2-D"),
    (("task.kind=translate", "task.inputs=[t1]"), "'t1' is no channel of these images; they have red, green, blue"),
    (("task.kind=translate", "prepare.channels=grey"), "at least two registered channels.*data.kind=contrasts"),
    (("task.kind=cycle",), "needs images of two classes.*data.labels=folders"),
    (("task.kind=segment",), "learns from masks, and this data has none"),
    (("task.kind=restore", "task.axes=slices"), "needs volumes"),
    (("task.kind=register", "prepare.fit=patches"), "crops of two patients show different places.*prepare.fit=pad"),
    (("train.accumulate=3",), "must divide train.batch=16"),
    (("train.freeze=2", "train.start=''"), "give train.start"),
    (("train.start=brain_64", "prepare.size=[32, 32]"), "makes images of 64x64, and these are 32x32"),
    (("task.kind=private", "augment.strength=0.2"), "takes no augmentation"),
    (("task.kind=private", "augment.strength=0"), "needs a budget in images"),
    (("task.kind=private", "augment.strength=0", "train.images=64", "train.start=brain_64"), "starts from chance"),
    (("generate.format=dixom",), "generate.format: given \"dixom\", allowed: empty, dicom,"),
    (("generate.truncation=0",), "generate.truncation: given 0, allowed: a number, above 0"),
    (("prepare.extra=nowhere",), "prepare.extra=nowhere does not exist: name a folder of images"),
    (("prepare.extra=masked", "task.kind=segment"), "learns from masks, and this data has none"),
    (("prepare.train=0.9", "prepare.validation=0.3"), "is 1.2; at most 1"),
])
def test_it_is_refused_before_anything_is_written(words: tuple[str, ...], message: str, data: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        run(data, RUN, overrides=words)
    assert not RUN.exists()


def test_what_settings_name_and_cannot_be_used_is_told_before_the_data_is_looked_at(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "look_at", lambda *_: pytest.fail("it was looked at"))
    for word in ("evaluate.inception=nowhere.pth", "train.start=nowhere"):
        with pytest.raises(FolderError, match="nowhere"):
            run(data, RUN, overrides=[word])


@pytest.mark.parametrize(("contrasts", "format", "message"), [
    ("t1, flair", "dicom", "generate.format=dicom: .*one or three channels, not 2. Choose NIfTI or NPZ"),
    ("t1, t2, flair", "dicom", "generate.format=dicom: .*the contrasts t1, t2, flair as colours. Choose NIfTI or NPZ"),
    ("t1, flair", "npz", None),
])
def test_a_format_that_cannot_hold_the_images_is_told_before_they_are_learned(
    contrasts: str, format: str, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "prepare", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    words = ["data.patients=4", "data.slices=2", f"data.contrasts=[{contrasts}]", f"generate.format={format}"]
    with pytest.raises(SettingsError if message else KeyboardInterrupt, match=message):
        run(out=RUN, overrides=words)


def test_extra_images_are_looked_at_before_anything_is_prepared(data: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    colour = tmp_path / "more" / "colour.png"
    Pillow.fromarray(np.arange(1440).astype(np.uint8).reshape(24, 20, 3)).save(colour)
    found = inspect(data, settings=given(data, "prepare.extra=more"))
    assert (found.n_images, found.added) == (12, 1) and "1 image for training alone (prepare.extra)" in found.text()
    colour.unlink()
    Pillow.fromarray(np.arange(480, dtype=np.uint16).reshape(24, 20)).save(tmp_path / "more" / "grey.png")
    with pytest.raises(DataError, match="mixes 2 groups"):
        prepare(data, tmp_path / "prepared", overrides=["prepare.extra=more"])
    assert "mixes 2 groups" in inspect(data, settings=given(data, "prepare.extra=more")).mixed
    (tmp_path / "more" / "grey.png").write_text("no picture")
    with pytest.raises(DataError, match=r"more holds no image that can be used.*no picture file"):
        run(data, RUN, overrides=["prepare.extra=more"])


@pytest.mark.parametrize(("words", "message"), [
    (("train.batch=32",), r"train.batch=32 is more than .* \(at most 12\).* set train.batch=6, half of them"),
    (("train.batch=4", "generate.copy_filter=true"), "the copy filter would look at its training images"),
    (("train.batch=4", "model.kind=dcgan", "augment.strength=0"), "keeps more than weights in its discriminator"),
])
def test_differential_privacy_is_refused_where_it_cannot_be(words: tuple[str, ...], message: str, data: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        run(data, RUN, overrides=words, privacy="dp")
    assert not RUN.exists()


def test_a_copy_filter_without_enough_held_out_images_is_refused_before_training(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(DataError, match=r"To find copies at .* held-out images are needed"):
        run(data, RUN, overrides=["generate.copy_filter=true"])


@pytest.mark.parametrize(("words", "batch"), [((), 4), (("prepare.train=0.5",), 3), (("train.batch=5",), 5)])
@pytest.mark.parametrize("how", ["privacy", "preset"])
def test_differential_privacy_draws_half_of_few_patients(
    how: str, words: tuple[str, ...], batch: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Resolved] = []

    def stop(*_: Any, settings: Resolved, **__: Any) -> None:
        taken.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare", stop)
    for _ in range(2):  # going on takes what was taken at first
        with pytest.raises(KeyboardInterrupt):
            run(data, RUN, overrides=words, **{how: "dp"})
    assert [settings.given("train")["batch"] for settings in taken] == [batch, batch]
    reasons = [line["reason"] for line in json.loads((RUN / "plan.json").read_text())
               if line["setting"] == "train.batch"]
    assert len(reasons) == 1 and ("Half of the patients" in reasons[0]) == ("train.batch=5" not in words)


def test_what_was_begun_is_looked_at_by_what_was_found_then(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare", stop)
    with pytest.raises(KeyboardInterrupt):  # the check lets through what works
        run(data, RUN)
    monkeypatch.setattr(module, "look_at", stop)
    with pytest.raises(SettingsError, match=r"give train\.start"):
        run(data, RUN, overrides=["train.freeze=2"])
    assert {path.name for path in RUN.glob("[!.]*")} == {"plan.json", "inspection.json"}


def test_what_inspect_would_warn_of_is_told_at_the_beginning(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for n, path in enumerate(sorted(data.iterdir())):
        (data / f"{n:05d}").mkdir()
        path.rename(data / f"{n:05d}" / "view.png")
    monkeypatch.setattr(module, "prepare", stop)
    with pytest.raises(KeyboardInterrupt):
        run(data, RUN)
    assert "mind: 12 classes were found, and no patients" in capsys.readouterr().err


def test_a_plan_is_made_anew_for_another_network_until_training_begins(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(*words: str) -> dict[str, Any]:
        with pytest.raises(KeyboardInterrupt):
            run(data, RUN, overrides=words)
        return {choice["setting"]: choice["value"] for choice in json.loads((RUN / "plan.json").read_text())}

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prepare", stop)
    assert planned()["model.kind"] == planned("train.seconds=9")["model.kind"] == "sngan"
    assert planned("model.kind=r3gan")["task.loss"] == "relativistic"
    monkeypatch.setattr(course, "_tried", lambda *_: True)
    assert planned()["train.batch_end"] == 64 and "train.batch_end" not in planned("train.batch=128")
    assert planned("model.kind=r3gan")["model.kind"] == "r3gan"
    (RUN / "spec.json").write_text("{}")  # which training writes when it begins
    assert planned()["model.kind"] == "r3gan"


def test_it_takes_no_time(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def timed(*arguments: Any) -> None:
        begun = time.process_time()  # a busy machine takes none of it away
        refuse(*arguments)
        taken.append(time.process_time() - begun)
        raise KeyboardInterrupt

    refuse = module._refuse_impossible
    monkeypatch.setattr(module, "_refuse_impossible", timed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(data, RUN)
    assert min(taken) < 0.3


@pytest.mark.parametrize("words", [
    (), ("prepare.channels=grey",), ("data.unmasked=keep",), ("prepare.masks=off",),
    ("data.unmasked=keep", "prepare.masks=instances"), ("data.only=patient[0-3]",), ("prepare.fit=patches",),
])
def test_what_is_expected_is_what_is_prepared(words: tuple[str, ...], tmp_path: Path) -> None:
    settings = given(tmp_path / "masked", *words)
    expected = inspect(tmp_path / "masked", settings=settings).spec
    made = prepare(settings.section("data"), tmp_path / "prepared", settings=settings, workers=1).spec
    assert expected
    for name in ("channels", "labels", "mask_classes", "mask_values", "partly_masked", "modality", "units", "bits"):
        assert getattr(expected, name) == getattr(made, name), name


@pytest.mark.parametrize(("files", "says"), [
    (("spec.json", "settings.yaml"), r"is a run folder.* goes on with the command that began it"),
    (("manifest.json", "shards/00000.images.npy"), r"is a prepared folder.* 'radsynth train \"my own\" RUN'"),
    (("explain.json",), r"pictures that 'radsynth control' or 'radsynth explain' drew"),
])
def test_folders_that_radsynth_made_for_itself_are_no_images(files: tuple[str, ...], says: str, data: Path) -> None:
    for name in files:
        (Path("my own") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("my own") / name).touch()
    shutil.copy(data / "patient0.png", "my own")
    for verb in (run, inspect):
        with pytest.raises(DataError, match=says):
            verb(Path("my own"))


@pytest.mark.parametrize(("path", "shown"), [
    ("a/b", "a/b"), ("a b", '"a b"'), ("it's", '"it\'s"'), ('a "b" $c', "'a \"b\" $c'"),
])
def test_a_path_in_a_command_is_one_word_of_the_shell(path: str, shown: str) -> None:
    assert in_command(Path(path)) == shown and shlex.split(f"radsynth {shown}") == ["radsynth", path]


def test_a_name_that_is_not_written_in_utf_8_is_told_in_words() -> None:
    with pytest.raises(SettingsError, match=r"data: .*not written in UTF-8. Rename .* link to it"):
        given(Path("M\udcfcller"))


def given(path: Path, *words: str) -> Resolved:
    return resolve({"data": {"kind": "folder", "path": str(path)}}, overrides=words, sections=("data", "prepare"))


class Reached(Exception):
    """Nothing was refused before the data is prepared."""


@pytest.mark.parametrize("task", [kind for kind in kinds("radsynth.tasks") if kind != "private"])
def test_the_embedded_cohort_is_refused_to_no_task(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan gives it the contrasts that some tasks need."""
    def reached(*args: Any, **how: Any) -> None:
        raise Reached

    monkeypatch.setattr(module, "prepare", reached)
    with pytest.raises(Reached):
        run(None, RUN, overrides=[f"task.kind={task}", "data.patients=12", "data.slices=2"])
