"""Training: golden trace, resume, interruption, kill, damage, full disk, values that stop being finite."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.checkpoints import load_checkpoint, load_tensors, save_checkpoint
from radsynth.errors import FolderError, SettingsError, TrainingError
from radsynth.run_folder import TRAINING, RunFolder
from radsynth.settings import resolve
from radsynth.tasks import build
from radsynth.verbs._given import given
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings
from radsynth.verbs.run import run as main_job
from radsynth.verbs.show import show
from radsynth.verbs.train import train
from tests.trained import SMALL, events, options, same, stopped

SCRIPT = """
import sys
from pathlib import Path
from typing import Any
from radsynth.settings import resolve
from radsynth.verbs.train import train
train(Path(sys.argv[1]), Path(sys.argv[2]), settings=resolve(overrides=sys.argv[3:]))
"""
Make = Callable[..., Path]


def test_training_learns_and_leaves_a_whole_run(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared(labels=("small", "large"))
    run = train(data, tmp_path / "run", settings=options("evaluate.inception=/home/somebody/weights.pth"))
    assert run.trained and events(run.path) == ["trained"]
    assert "inception: (not kept)" in (run.path / "settings.yaml").read_text(), "exports and reports show these"
    for name in ("settings.yaml", "versions.json", "spec.json", "log.jsonl", "generator.safetensors"):
        assert (run.path / name).stat().st_size > 0
    assert list(run.previews.glob("*.png")) and list((run.path / "tensorboard").iterdir())
    assert not list(run.path.rglob("*.part"))
    again = train(data, tmp_path / "run", settings=options())
    assert again.trained and events(run.path) == ["trained"], "a trained run is left as it is"


def test_the_same_command_gives_the_same_weights_and_another_seed_others(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    for name, more in (("a", ()), ("b", ()), ("c", ("seed=1",))):
        train(data, tmp_path / name, settings=options(*more))
    assert same(tmp_path / "a", tmp_path / "b") and not same(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("more", [
    ("train.balance=1",), ("augment.strength=1", "task.penalty=finite_r1_r2"),
    ("train.accumulate=2", "task.loss=relativistic"), ("train.batch_end=12",),
    ("task.warm_start=0.45", "task.penalty=r1_r2"), ("task.discriminator_steps=2", "task.penalty=wgan_gp"),
])
def test_a_longer_budget_goes_on_exactly_where_a_stopped_run_was(
    more: tuple[str, ...], make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared(labels=("small", "large"))
    train(data, tmp_path / "whole", settings=options(*more))
    with stopped(7):
        train(data, tmp_path / "cut", settings=options(*more))
    assert not RunFolder(tmp_path / "cut").trained
    train(data, tmp_path / "cut", settings=options(*more))
    assert events(tmp_path / "cut") == ["interrupted", "resumed", "trained"]
    assert same(tmp_path / "whole", tmp_path / "cut")


def test_a_stopped_run_that_is_given_a_spent_budget_ends_there_and_does_not_go_on(
    make_prepared: Make, tmp_path: Path
) -> None:
    data = make_prepared()
    with stopped(7):
        train(data, tmp_path, settings=options())
    train(data, tmp_path, settings=options("train.images=1"))
    assert events(tmp_path) == ["interrupted", "trained"]
    assert load_tensors(tmp_path / "generator.safetensors")[1]["images"] > 1


def test_a_stopped_run_has_the_previews_of_one_that_was_not(make_prepared: Make, tmp_path: Path) -> None:
    data, settings = make_prepared(), options("train.previews=5")  # one after every fourth step

    def previews(run: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (run / "previews").iterdir()}

    train(data, tmp_path / "whole", settings=settings)
    with stopped(3):  # in the fourth
        train(data, tmp_path / "cut", settings=settings)
    assert [*previews(tmp_path / "cut")] == ["000000032.png"]
    # A kill would have left those made after the last checkpoint; by the clock the next ones come at other images.
    (tmp_path / "cut" / "previews" / "000000047.png").touch()
    train(data, tmp_path / "cut", settings=settings)
    assert len(previews(tmp_path / "whole")) == 5 and previews(tmp_path / "whole") == previews(tmp_path / "cut")


@pytest.mark.parametrize("more", [("model.kind=mlp", "task.warm_start=0.25"), ("model.kind=progressive",)])
def test_a_larger_budget_brings_back_nothing_that_is_past(more: tuple[str, ...], make_prepared: Make,
                                                          tmp_path: Path) -> None:
    prepared = Prepared(make_prepared())

    def loop(images: int) -> Loop:
        settings = resolve(overrides=(*more, "train.batch=8", f"train.images={images}"))
        task = build(settings, prepared.spec)
        return Loop(task, settings.section("train", Settings), prepared, RunFolder(tmp_path / "run"), 0)

    first = loop(32)
    while not first.finished:
        first.take_step()
    longer = loop(100_000)
    longer.restore(first.state())
    logged = longer.take_step()
    assert longer.progress < 0.001 and "discriminator/loss" in logged, "no warm start again"
    for part in longer.growing:
        assert float(part.progress) == 1, "networks stay as large as they are"  # type: ignore[attr-defined]
    stopped_again = loop(100_000)
    stopped_again.restore(longer.state())
    assert stopped_again.stage == 1


def test_batches_grow_at_their_share_of_the_budget(make_prepared: Make, tmp_path: Path) -> None:
    settings, prepared = options("train.batch_end=32", "train.grow_at=0.2"), Prepared(make_prepared())
    task = build(settings, prepared.spec)
    loop = Loop(task, settings.section("train", Settings), prepared, RunFolder(tmp_path / "run"), 0)
    seen = [loop.images]
    while not loop.finished:
        loop.take_step()
        seen.append(loop.images)
    assert seen == [0, 8, 16, 24, 32, 64, 96, 128, 160] and loop.item == 160, "each image once in its place"


def test_batches_wait_for_their_images_and_are_augmented_when_grown(make_prepared: Make, tmp_path: Path) -> None:
    settings = options("train.batch_end=32", "train.grow_at=0.2", "train.grow_images=48", "train.augment_end=0.5")
    prepared = Prepared(make_prepared())
    task = build(settings, prepared.spec)
    loop = Loop(task, settings.section("train", Settings), prepared, RunFolder(tmp_path / "run"), 0)
    sizes, strengths = [], []
    while loop.images < 96:
        before = loop.images
        strengths.append(loop.batch().care.augment)
        loop.take_step()
        sizes.append(loop.images - before)
    assert sizes == [8] * 6 + [32] * 2 and strengths == [0] * 6 + [0.5] * 2
    assert loop.doctor is not None
    loop.doctor._prescribe(augment=0.7)
    assert loop.care.augment == 0.7, "what the doctor prescribes is not lowered"


def test_sigkill_while_saving_keeps_the_last_good_checkpoint(make_prepared: Make, tmp_path: Path) -> None:
    data, run = make_prepared(), tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(data), str(run), *SMALL, "train.images=100000000",
               "train.checkpoint_minutes=0.0002"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((run / "checkpoints").glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    found = load_checkpoint(run / "checkpoints")
    assert found is not None and found[0]["images"] > 0
    # The same settings but for the budget go on from there.
    end = found[0]["images"] + 40
    (run / "checkpoints" / "000000001.safetensors").touch()  # as a kill between the two files of a checkpoint leaves it
    more = ("train.checkpoint_minutes=0.0002", f"train.images={end}")
    train(data, run, settings=resolve(overrides=(*SMALL, *more)))
    assert "resumed" in events(run) and load_tensors(run / "generator.safetensors")[1]["images"] == end
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert len(left) == 4 and "000000001.safetensors" not in left, "two checkpoints of two files, and nothing else"


def test_damaged_weights_come_back_from_the_checkpoint(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    run = train(data, tmp_path / "run", settings=options())
    whole = run.weights.read_bytes()
    run.weights.write_bytes(whole[:-5])
    with pytest.raises(FolderError, match=r"Remove it and generator\.json, and repeat"):
        train(data, tmp_path / "run", settings=options())
    run.weights.unlink()
    run.weights.with_suffix(".json").unlink()
    train(data, tmp_path / "run", settings=options())
    assert run.weights.read_bytes() == whole


def test_a_damaged_checkpoint_is_passed_over(
    make_prepared: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = make_prepared(), tmp_path / "run"
    train(data, run, settings=options("train.checkpoint_minutes=0.00001"))
    newest = max((run / "checkpoints").glob("*.safetensors"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    (run / "generator.json").unlink()
    capsys.readouterr()
    train(data, run, settings=options("train.checkpoint_minutes=0.00001"))
    assert "damaged checkpoint" in events(run)
    told = capsys.readouterr().err
    assert "is damaged: its SHA-256" in told and "Training went on after" in told
    (run / "generator.json").unlink()
    pickle, nothing = b"\x80\x04cos\n.", b""
    for path, content in zip(sorted((run / "checkpoints").glob("*.safetensors")), (pickle, nothing), strict=True):
        path.write_bytes(content)
    with pytest.raises(FolderError, match="No checkpoint can be used"):
        train(data, run, settings=options("train.checkpoint_minutes=0.00001"))


def test_the_last_checkpoint_is_that_of_the_most_images(tmp_path: Path) -> None:
    for images in (999_999_998, 999_999_999, 1_000_000_000, 1_000_000_001):
        save_checkpoint(tmp_path, images, {"images": torch.tensor(images)}, {})
    assert sorted(file.stem for file in tmp_path.glob("*.json")) == ["1000000000", "1000000001"]
    found = load_checkpoint(tmp_path)
    assert found and int(found[0]["images"]) == 1_000_000_001


def test_a_damaged_checkpoint_does_not_stand_in_for_the_one_before(tmp_path: Path) -> None:
    for images in (10, 20, 30):
        save_checkpoint(tmp_path, images, {"images": torch.tensor(images)}, {})
    (tmp_path / "000000030.safetensors").write_bytes(b"")
    save_checkpoint(tmp_path, 25, {"images": torch.tensor(25)}, {})  # training went on from 20
    assert sorted(file.stem for file in tmp_path.glob("*.json")) == ["000000020", "000000025"]


def test_a_full_disk_is_said_and_nothing_half_written_stays(make_prepared: Make, tmp_path: Path) -> None:
    """The file-size limit of a child process stands for the disk: a checkpoint does not fit."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))\n" \
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    command = [sys.executable, "-c", limit + SCRIPT, str(make_prepared()), str(tmp_path / "run"), *SMALL,
               "model.width=32", "train.images=80"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and "could not be written" in done.stderr and "Free some space" in done.stderr
    assert not list((tmp_path / "run").rglob("*.part")) and not RunFolder(tmp_path / "run").trained
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(FolderError, match=r"log\.jsonl could not be written: .* goes on from the last checkpoint"):
        RunFolder(tmp_path).log({"step": 1})


def test_values_that_are_not_finite_stop_training_and_spare_the_checkpoint(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_prepared()
    with pytest.raises(TrainingError, match="loss is not finite"):
        train(data, tmp_path / "loss", settings=options("train.rate=1e30", "train.images=4000"))
    assert events(tmp_path / "loss")[-1] == "stopped" and not RunFolder(tmp_path / "loss").trained
    step = Loop.take_step

    def spoilt(self: Loop) -> dict[str, float]:
        terms = step(self)
        if self.images > 16:
            self.weights["generator"][0].data.fill_(torch.nan)
        return terms

    monkeypatch.setattr(Loop, "take_step", spoilt)
    with pytest.raises(TrainingError, match="weights are not finite after"):
        train(data, tmp_path / "run", settings=options("train.checkpoint_minutes=0.00001"))
    found = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert found and int(found[0]["images"]) == 16, "the last good one"
    assert all(torch.isfinite(one).all() for one in found[0]["networks"]["generator"].values())


def test_other_settings_or_data_in_the_same_folder_are_refused(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    train(data, tmp_path / "run", settings=options())
    with pytest.raises(FolderError, match=r"train\.rate: 0\.001 then, 0\.01 now.*train\.start=.* begins with what was"):
        train(data, tmp_path / "run", settings=options("train.rate=0.01"))
    for word in ("model.width=4", "task.kind=private"):  # a start that would be refused there is not advised
        with pytest.raises(FolderError, match=r"Repeat it with the same ones, or choose a new run folder\.$") as told:
            train(data, tmp_path / "run", settings=options(word, *["augment.strength=0"] * word.endswith("private")))
        assert str(told.value).count("task.") == word.startswith("task."), "two kinds have no settings to compare"
    with pytest.raises(FolderError, match="seed"):
        train(data, tmp_path / "run", settings=options("seed=4"))
    train(data, tmp_path / "run", settings=options("train.accumulate=2"))  # nothing learned depends on it
    (tmp_path / "run" / "settings.yaml").write_text("")
    with pytest.raises(FolderError, match=r"settings\.yaml is damaged, it has no task, model, augment, train"):
        train(data, tmp_path / "run", settings=options())
    (tmp_path / "run" / "plan.json").write_text('[{"setting": "train.ra')
    with pytest.raises(FolderError, match=r"plan\.json cannot be read or is damaged. Remove it"):
        main_job(tmp_path, tmp_path / "run", overrides=["data.kind=folder", "train.images=8"])


def test_more_training_sets_aside_what_belongs_to_the_former_weights(make_prepared: Make, tmp_path: Path) -> None:
    data, run = make_prepared(), tmp_path / "run"
    former = train(data, run, settings=options("train.images=80")).load_weights()[1]["sha256"]
    (run / "synthetic").mkdir()
    (run / "audit.json").write_text("{}")
    train(data, run, settings=options("train.images=80", "train.seconds=1000"))
    assert (run / "audit.json").exists(), "the weights are the same"
    train(data, run, settings=options("train.images=160"))
    kept = {path.name for path in (run / "earlier" / former[:16]).iterdir()}
    assert kept == {"synthetic", "audit.json", "generator.json", "generator.safetensors"}
    assert not (run / "synthetic").exists() and not (run / "audit.json").exists()
    assert RunFolder(run).load_weights()[1]["sha256"] != former and "set aside" in events(run)
    later = RunFolder(run).load_weights()[1]["sha256"][:16]
    for place in (run / "earlier" / later / "synthetic", run / "synthetic"):  # as if these weights had come back
        place.mkdir(parents=True)
        (place / "samples.csv").write_text("file")
    train(data, run, settings=options("train.images=240"))
    assert all((run / "earlier" / name / "synthetic" / "samples.csv").exists() for name in (later, f"{later}-2"))


def test_a_run_begun_before_a_setting_existed_goes_on_with_the_default(make_prepared: Make, tmp_path: Path) -> None:
    folder = make_prepared()
    run = train(folder, tmp_path / "run", settings=options())
    written = run.path / "settings.yaml"
    lines = written.read_text().splitlines(keepends=True)
    older = [line for line in lines if "beta2:" not in line and "anchor:" not in line]
    assert len(lines) - len(older) == 2
    written.write_text("".join(older))
    with pytest.raises(FolderError, match=r"train\.beta2: 0\.99 then, 0\.9 now"):
        train(folder, run.path, settings=options("train.beta2=0.9"))
    train(folder, run.path, settings=options("train.images=128"))
    assert "beta2:" in written.read_text()


def test_two_trainings_of_one_run_are_refused(make_prepared: Make, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").lock(), pytest.raises(FolderError, match="another process"):
        train(make_prepared(), tmp_path / "run", settings=options())


@pytest.mark.parametrize(("more", "message"), [
    (("train.images=0",), "needs a budget"),
    (("train.accumulate=3",), "must divide"),
    (("train.accumulate=4", "train.batch_end=18"), "train.batch_end=18"),
    (("model.discriminator_norm=batch", "task.penalty=r1"), "batch normalisation"),
    (("task.loss=wasserstein", "task.penalty=none"), "Lipschitz"),
    (("task.kind=restore",), "model.kind=dcgan takes noise"),
])
def test_impossible_settings_are_refused_before_anything_is_written(
    more: tuple[str, ...], message: str, make_prepared: Make, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        train(make_prepared(), tmp_path / "run", settings=options(*more))
    assert not RunFolder(tmp_path / "run").begun


def test_an_event_says_once_after_how_many_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    folder.event("resumed", 2416, "Training went on after 2,416 images.")
    folder.event("less memory", 2416, "Memory ran out.")
    assert capsys.readouterr().err.splitlines() == [
        "Training went on after 2,416 images.", "Memory ran out (2,416 images)."]


def test_the_state_of_a_run_is_told(make_prepared: Make, tmp_path: Path) -> None:
    run, data = tmp_path / "run", make_prepared()
    with stopped(7):
        train(data, run, settings=options())
    found = show(str(run))
    assert isinstance(found, dict) and found["state"].startswith("stopped; the same command goes on: 64 images")
    network = train(data, run, settings=options()).load_weights()[0]
    found = show(str(run))
    assert isinstance(found, dict) and found["state"].startswith("trained with 160 images") and not found["events"]
    weights = sum(value.numel() for name, value in network.items() if "running" not in name and "batches" not in name)
    assert found["parameters"]["generator"] == f"{weights:,}" and found["network"] == "dcgan"
    (run / "generator.json").unlink()
    found = show(str(run))
    assert isinstance(found, dict) and found["state"].startswith("stopped; the same command goes on: 160 images")
    RunFolder(run).event("stopped", 160, "generator/loss has run away.", silent=True)
    found = show(str(run))
    assert isinstance(found, dict) and found["state"].startswith("ended by an error, which the last event names: 160")
    with RunFolder(run).lock():
        found = show(str(run))
    assert isinstance(found, dict) and found["state"].startswith("training now")
    with pytest.raises(FolderError, match="not a run folder"):
        show(str(tmp_path))


def test_words_in_place_of_settings_mean_what_the_command_line_means(make_prepared: Make, tmp_path: Path) -> None:
    data, words = make_prepared(), [*SMALL, "train.batch=4"]
    run = train(data, tmp_path / "words", overrides=words, budget="40img", seed=3)
    settings = given(TRAINING, words, budget="40img", seed=3, with_recipe=True)
    assert run.load_weights()[1]["sha256"] == train(data, tmp_path / "settings", settings=settings).load_weights()[1][
        "sha256"]
    with pytest.raises(SettingsError, match=r"did you mean train\.batch"):
        train(data, tmp_path / "other", overrides=["train.bach=4"])
