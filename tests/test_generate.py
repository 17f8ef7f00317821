"""Generation: image k by (seed, k) alone, classes, formats, tables, and folders that are whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from radsynth.errors import FolderError, Interrupted, SettingsError
from radsynth.image import ImageSpec
from radsynth.io import read, write
from radsynth.models import build as build_networks
from radsynth.models import takes
from radsynth.run_folder import RunFolder
from radsynth.settings import kinds, resolve
from radsynth.verbs import generate as generating
from radsynth.verbs._journal import Journal
from radsynth.verbs._sampler import Sampler
from radsynth.verbs._steering.latents import LatentSpace
from radsynth.verbs._writing import Row, folder_name
from radsynth.verbs.generate import generate, sample
from radsynth.verbs.train import train
from tests.tables import rows
from tests.written import LOSSES, writings

LABELS = ("common", "rare/one")


@pytest.fixture
def trained(make_prepared: Callable[..., Path], tmp_path: Path) -> Path:
    overrides = ("model.kind=dcgan", "model.width=8", "model.discriminator_norm=none", "train.batch=8",
                 "train.images=64", "train.previews=0")
    train(make_prepared(labels=LABELS), tmp_path / "run", settings=resolve(overrides=overrides))
    return tmp_path / "run"


def test_image_k_depends_on_seed_and_k_alone(trained: Path) -> None:
    images, labels = sample(trained, 40, seed=3)
    fewer, fewer_labels = sample(trained, 5, seed=3)
    assert np.array_equal(images[:5], fewer) and np.array_equal(labels[:5], fewer_labels)
    (later, _), = [chunk for chunk in Sampler(trained).images(37, 3, seed=3)]
    assert np.array_equal(images[37:], later)
    assert not np.array_equal(sample(trained, 5, seed=4)[0], fewer)
    assert set(labels) == {0, 1}, "classes are drawn as in the training data"


def test_a_data_set_is_written_with_its_table(trained: Path, tmp_path: Path) -> None:
    made = generate(trained, tmp_path / "out", count=18, seed=3)
    table = rows(tmp_path / "out")
    assert made.count == len(table) == 18 and made.format == "picture"
    images, labels = sample(trained, 18, seed=3)
    for k, row in enumerate(table):
        assert row["index"] == str(k) and row["seed"] == "3" and row["label"] == LABELS[labels[k]]
        found = read(tmp_path / "out" / row["file"])
        assert not isinstance(found, list)
        assert np.array_equal(found.pixels, np.rint((images[k] + 1) * 127.5).astype(np.uint8))
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_arrays_hold_what_files_hold_of_a_network_that_does_not_limit_its_images(
    make_prepared: Callable[..., Path], tmp_path: Path
) -> None:
    overrides = ("model.kind=r3gan", "model.width=8", "train.batch=8", "train.images=8", "train.rate=0.1")
    train(make_prepared(), tmp_path / "run", settings=resolve(overrides=overrides))
    sampler = Sampler(tmp_path / "run")
    made = sampler.made(range(8), np.zeros(8, np.int64), 0).detach()
    assert made.abs().max() > 1, "it does limit them: nothing is tested"
    assert np.allclose(sample(tmp_path / "run", 8)[0], made.clamp(-1, 1).numpy(), atol=1e-4)


@pytest.mark.parametrize("format", ["dicom", "nifti", "picture", "npz"])
def test_every_format_is_written_on_request(format: str, trained: Path, tmp_path: Path) -> None:
    generate(trained, tmp_path / "out", count=3, format=format, label="rare/one")
    table = rows(tmp_path / "out")
    assert [row["label"] for row in table] == ["rare/one"] * 3
    for row in table:
        file = tmp_path / "out" / row["file"]
        assert file.is_file() and file.resolve().is_relative_to((tmp_path / "out").resolve())
    if format == "npz":
        with np.load(file, allow_pickle=False) as content:
            assert content["train_images"].shape == (3, 16, 16) and content["train_labels"].tolist() == [[1]] * 3
            assert json.loads(str(content["synthetic"]))["synthetic"] is True
    else:
        found = read(file)
        assert (found[0] if isinstance(found, list) else found).space[-2:] == (16, 16)


def test_the_same_request_is_left_as_it_is_and_another_is_refused(trained: Path, tmp_path: Path) -> None:
    generate(trained, tmp_path / "out", count=3)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    generate(trained, tmp_path / "out", count=3)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(FolderError, match=r"other images of a generator \(count 3 there, 2 now\)"):
        generate(trained, tmp_path / "out", count=2)
    with pytest.raises(FolderError, match=r"other images of a generator \(count 3 there, 4 now; seed 0 there, 1 now\)"):
        generate(trained, tmp_path / "out", count=4, seed=1)
    (tmp_path / "out" / "generate.json").unlink()
    with pytest.raises(FolderError, match="something else"):
        generate(trained, tmp_path / "out", count=3)


def test_the_model_card_that_a_stop_left_unwritten_comes_with_the_same_command(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(run: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("radsynth.verbs.generate.write_model_card", stopped)
        generate(trained, tmp_path / "out", count=3)
    assert (tmp_path / "out" / "generate.json").exists() and not (trained / "README.md").exists()
    generate(trained, tmp_path / "out", count=3)
    assert (trained / "README.md").exists() and (trained / "CLAIM.md").exists()


def test_floating_point_as_png_keeps_one_scale(trained: Path, tmp_path: Path) -> None:
    spec = json.loads((trained / "spec.json").read_text())
    spec["spec"]["bits"] = 32
    (trained / "spec.json").write_text(json.dumps(spec))
    generate(trained, tmp_path / "real", count=4, format="nifti")
    generate(trained, tmp_path / "png", count=4, format="png")
    low, high = spec["intensity"]["low"], spec["intensity"]["high"]
    for row in rows(tmp_path / "png"):
        assert row["file"].endswith(".png")
        stored = np.asarray(Pillow.open(tmp_path / "png" / row["file"]), dtype=np.float64)
        meant = read(tmp_path / "real" / row["file"].replace(".png", ".nii.gz")).pixels[0]
        assert np.abs(stored / 65535 * (high - low) + low - meant).max() < (high - low) / 65000


def test_an_interrupted_generation_leaves_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("radsynth.verbs._writing.write", full)
    with pytest.raises(FolderError, match="No space left on device"):
        generate(trained, tmp_path / "out", count=3)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("format", ["dicom", "png"])
def test_a_full_disk_costs_no_image_that_is_whole(
    format: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).stem == "000005":
            raise OSError(28, "No space left on device")
        replaced(source, target)

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(FolderError, match=r"No space left on device\. What is finished is kept"):
        generate(trained, tmp_path / "out", count=9, format=format)
    monkeypatch.undo()
    before = writings(tmp_path / ".out.part" / "images")
    assert len(before) == 5
    made = writings(generate(trained, tmp_path / "out", count=9, format=format).folder / "images")
    assert len(made) == 9 and before.items() <= made.items(), "they were not made again"


@pytest.mark.parametrize("made_before", [0, 5, 16, 20])
def test_a_killed_generation_is_gone_on_with(
    made_before: int, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """No error that anybody catches: what is there stays, as after kill -9."""

    def killed(image: Any, path: Path, **how: Any) -> list[Path]:
        if int(path.stem) == made_before:
            path.with_name(f".{path.name}.1.part").write_text("half")
            raise Killed
        written.append(path)
        return write(image, path, **how)

    written: list[Path] = []
    whole = generate(trained, tmp_path / "whole", count=24, seed=3)
    with monkeypatch.context() as patch:
        patch.setattr("radsynth.verbs._writing.write", killed)
        patch.setattr("radsynth.files.shutil.rmtree", lambda *args, **kwargs: None)
        with pytest.raises(Killed):
            generate(trained, tmp_path / "out", count=24, seed=3)
    assert len(written) == made_before and not (tmp_path / "out").exists()
    written.clear()
    monkeypatch.setattr("radsynth.verbs._writing.write",
                        lambda image, path, **how: [written.append(path), write(image, path, **how)][1])
    generate(trained, tmp_path / "out", count=24, seed=3)
    assert len(written) == 24 - made_before
    files = {name: sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file())
             for name in ("whole", "out")}
    assert files["whole"] == files["out"] and whole.count == 24
    for file in files["whole"]:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "out" / file).read_bytes(), file


@pytest.mark.parametrize("format", ["png", "dicom", "npz"])
def test_more_of_the_same_images_join_those_that_are_there(format: str, trained: Path, tmp_path: Path) -> None:
    whole = generate(trained, tmp_path / "whole", count=19, seed=3, format=format).folder
    out = generate(trained, tmp_path / "out", count=5, seed=3, format=format).folder
    before = writings(out / "images")
    lost = next(path for path in sorted(before) if path.stem == "000003") if before else None
    if lost:
        (out / "images" / lost).unlink()
    assert generate(trained, out, count=19, seed=3, format=format).count == 19
    for path in filter(Path.is_file, whole.rglob("*")):
        assert path.read_bytes() == (out / path.relative_to(whole)).read_bytes(), path
    kept = before.items() & writings(out / "images").items()
    assert {path.stem for path, _ in kept} == ({"000000", "000001", "000002"} if lost else set())
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("format", ["png", "npz"])
def test_the_same_command_makes_lost_images_again(format: str, lose: Callable[[Path], object], trained: Path,
                                                  tmp_path: Path) -> None:
    out = generate(trained, tmp_path / "out", count=5, seed=3, format=format).folder
    files = writings(out)
    generate(trained, out, count=5, seed=3, format=format)
    assert files == writings(out), "all is there"
    lost = out / next(path for path in sorted(files) if path.stem == ("synthetic" if format == "npz" else "000003"))
    content = lost.read_bytes()
    lose(lost)
    assert generate(trained, out, count=5, seed=3, format=format).count == 5
    assert lost.read_bytes() == content and files.keys() == writings(out).keys()


def test_a_failure_among_more_images_leaves_those_that_are_there(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = generate(trained, tmp_path / "out", count=5).folder
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def broken(image: Any, path: Path, **how: Any) -> list[Path]:
        if path.stem == "000008":
            raise ValueError
        return write(image, path, **how)

    monkeypatch.setattr("radsynth.verbs._writing.write", broken)
    with pytest.raises(ValueError):
        generate(trained, out, count=12)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("held", "move", "nth"), [(0, "rename", 1), (3, "replace", 2)])
def test_what_is_made_is_kept_when_it_is_stopped_while_it_is_put_in_place(
    held: int, move: str, nth: int, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal was gone before, and with it all that was made."""
    out, partial, moves, real = tmp_path / "out", tmp_path / ".out.part", list[Path](), getattr(Path, move)
    whole = generate(trained, tmp_path / "whole", count=5, format="png").folder
    if held:
        generate(trained, out, count=held, format="png")

    def stopped(path: Path, target: Path) -> Any:
        if Path(target).is_relative_to(out):
            moves.append(path)
        if len(moves) == nth:
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(Path, move, stopped)
        generate(trained, out, count=5, format="png")
    assert len(moves) == nth and partial.exists()
    monkeypatch.setattr(Sampler, "drawn", lambda *_, **asked: iter(()))  # nothing is made again
    assert generate(trained, out, count=5, format="png").count == 5
    assert not partial.exists()
    files = [{path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
             for folder in (out, whole)]
    assert files[0] == files[1]


def test_what_is_made_is_kept_when_its_place_was_taken_meanwhile(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `run`, which was given the same folder, say."""
    out, finish = tmp_path / "out", generating.write_dataset_card

    def taken(folder: Path, run: Path) -> None:
        (out / "data").mkdir(parents=True)
        finish(folder, run)

    with monkeypatch.context() as patched, pytest.raises(FolderError, match=r"not empty\. What is finished is kept"):
        patched.setattr(generating, "write_dataset_card", taken)
        generate(trained, out, count=5, format="png")
    (out / "data").rmdir()
    monkeypatch.setattr(Sampler, "drawn", lambda *_, **asked: iter(()))  # nothing is made again
    assert generate(trained, out, count=5, format="png").count == 5
    assert not list(out.glob(".*"))


def test_one_file_of_all_images_is_made_anew_after_a_kill(trained: Path, tmp_path: Path) -> None:
    """Its journal is written when the file is there: its rows say nothing of what a process that goes on would draw."""
    whole = generate(trained, tmp_path / "whole", count=9, seed=3, format="npz")
    partial = tmp_path / ".out.part"
    partial.mkdir()
    request = json.loads((whole.folder / "generate.json").read_text())
    row: Row = {"file": "synthetic.npz", "index": 0, "seed": 3, "label": "common"}
    Journal(partial, request, tmp_path / "out", by="index").add([row])
    made = generate(trained, tmp_path / "out", count=9, seed=3, format="npz")
    assert len(rows(made.folder)) == 9
    with np.load(whole.folder / "synthetic.npz") as first, np.load(made.folder / "synthetic.npz") as second:
        np.testing.assert_array_equal(first["train_images"], second["train_images"])


def test_a_class_of_held_out_patients_alone_was_not_learned_and_is_refused(make_prepared: Callable[..., Path],
                                                                           tmp_path: Path) -> None:
    """A run that paints masks looked among no training image for one, which ended in a traceback."""
    data = make_prepared(labels=("common", "rare", "unseen"), mask_classes=2, mask_values=(0, 1))
    table = (data / "records.csv").read_text().splitlines()
    (data / "records.csv").write_text("\n".join(line.replace("train,2,", "train,0,") for line in table) + "\n")
    masks = np.ones((48, 16, 16), np.uint8)
    np.save(data / "shards" / "00000.masks.npy", masks)
    overrides = ("task.kind=semantic", "model.width=8", "model.widest=8", "model.hidden=8", "model.latent=4",
                 "model.discriminator_width=8", "train.batch=8", "train.images=8", "train.previews=0")
    train(data, tmp_path / "run", settings=resolve(overrides=overrides))
    with pytest.raises(SettingsError, match=r"'unseen' has no training image, so it was not learned; there are: co"):
        generate(tmp_path / "run", tmp_path / "out", count=3, label="unseen", data=data)
    assert len(rows(generate(tmp_path / "run", tmp_path / "out", count=3, label="rare", data=data).folder)) == 3


def test_what_cannot_be_asked_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="common, rare/one"):
        generate(trained, tmp_path / "out", count=3, label="rar")
    generate(trained, tmp_path / "common", count=3, label="common")
    with pytest.raises(SettingsError, match=r"'comon' is no class of this run \(did you mean common\?\)"):
        generate(trained, tmp_path / "common", count=3, label="comon")
    with pytest.raises(SettingsError, match="truncation"):
        generate(trained, tmp_path / "out", count=3, truncation=0)
    with pytest.raises(SettingsError, match="at least one"):
        generate(trained, tmp_path / "out", count=0)
    with pytest.raises(FolderError, match="not a run folder"):
        generate(tmp_path / "nothing", tmp_path / "out", count=3)
    RunFolder(trained).weights.with_suffix(".json").unlink()
    with pytest.raises(FolderError, match="no trained generator yet"):
        generate(trained, tmp_path / "out", count=3)


def test_truncation_makes_images_more_alike(trained: Path) -> None:
    spread = [sample(trained, 32, truncation=t, label="common")[0].std(0).mean() for t in (1.0, 0.3)]
    assert spread[1] < 0.7 * spread[0]


@pytest.mark.parametrize("given", [{}, {"labels": ("a", "b")}, {"conditions": ("age",)}], ids=["plain", "class", "age"])
@pytest.mark.parametrize("kind", kinds("models"))
def test_truncation_reaches_every_network_that_draws(kind: str, given: dict[str, Any]) -> None:
    """Also those that normalise their noise, of which shorter noise would make the same images."""
    model = resolve(overrides=(f"model.kind={kind}",)).section("model")
    if takes(model) not in ("noise", "code") or (takes(model) == "code" and "conditions" in given):
        pytest.skip("it draws nothing from noise and numbers")
    torch.manual_seed(0)
    spec = ImageSpec(size=(16, 16), **given)
    network = build_networks(model, spec, codes=takes(model) == "code")["generator"].eval()
    space = LatentSpace(network, len(spec.labels))
    told = (torch.ones(12, dtype=torch.long) if spec.labels else None,
            *((torch.full((12, 1), 0.5),) if spec.conditions else ()))
    noise = space.latents(range(12), 0)
    with torch.no_grad():
        whole = network(noise, *told)
        assert torch.allclose(space.truncated(noise, 1.0, *told), whole, atol=1e-5)
        assert space.truncated(noise, 0.02, *told).std(0).mean() < 0.6 * whole.std(0).mean()


def test_damaged_weights_are_never_sampled(trained: Path, tmp_path: Path) -> None:
    weights = RunFolder(trained).weights
    content = bytearray(weights.read_bytes())
    content[-5] ^= 4
    weights.write_bytes(content)
    with pytest.raises(FolderError, match="SHA-256"):
        generate(trained, tmp_path / "out", count=3)


def test_a_long_class_name_is_a_shorter_folder_of_its_own() -> None:
    """Free text of a table, which file systems refuse as a name after hours of training."""
    names = {folder_name("ä" * 300 + end) for end in "ab"}
    assert len(names) == 2 and all(len(name.encode()) < 255 for name in names)
    assert folder_name("rare/one") == "rare_one"
