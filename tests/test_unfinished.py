"""Folders that a command began and did not finish: no other one takes away what is made, and nothing is left over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from radsynth.arrays import Prepared
from radsynth.errors import FolderError, Interrupted
from radsynth.files import whole_folder
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.verbs import audit as auditing
from radsynth.verbs import export as exporting
from radsynth.verbs import generate as _generate
from radsynth.verbs import run as running
from radsynth.verbs._auditing.attacks import Attack
from radsynth.verbs._export_graphs import Graph
from radsynth.verbs._journal import Journal, Row
from radsynth.verbs.apply import apply
from radsynth.verbs.export import export
from radsynth.verbs.generate import generate
from radsynth.verbs.train import train
from tests.apply import examples
from tests.apply.test_again import four_pictures
from tests.tables import rows
from tests.trained import options
from tests.written import LOSSES, writings

Make = Callable[..., Path]


@pytest.fixture
def trained(make_prepared: Make, tmp_path: Path) -> Path:
    return train(make_prepared(), tmp_path / "run", settings=options("train.images=16")).path


def stopped(at: int, work: Callable[[], object]) -> None:
    """Ctrl-C when so many images are made."""
    add = Journal.add

    def added(journal: Journal, made: list[Row]) -> list[Row]:
        result = add(journal, made)
        if len(journal.rows) == at:
            raise KeyboardInterrupt
        return result

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Journal, "add", added)
        work()


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", ["png", "npz"])
def test_what_another_request_has_begun_is_not_taken_away(format: str, trained: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / ".out.part"
    stopped(5, lambda: generate(trained, out, count=9, seed=3))
    before = files(partial)
    told = r"\.out\.part holds what another command has begun and not finished \(.*seed 3 there, 1 now\)\. Repeat that"
    with pytest.raises(FolderError, match=told):
        generate(trained, out, count=9, seed=1, format=format)
    with pytest.raises(FolderError, match=r"count 9 there, 4 now"):  # five are made
        generate(trained, out, count=4, seed=3)
    with pytest.raises(FolderError, match=r"has begun and not finished"):
        export(trained, out)
    assert files(partial) == before and not out.exists()
    made = writings(partial / "images")
    whole = generate(trained, tmp_path / "whole", count=12, seed=3).folder
    assert generate(trained, out, count=12, seed=3).count == 12, "the same ones, and more"
    assert files(out) == files(whole) and not partial.exists()
    assert len(made) == 5 and made.items() <= writings(out / "images").items()


def test_images_that_were_removed_meanwhile_are_made_again(trained: Path, tmp_path: Path) -> None:
    """What was unfinished went on from the fifth image, as if those before were still there."""
    out = generate(trained, tmp_path / "out", count=4).folder
    stopped(3, lambda: generate(trained, out, count=10))
    (out / "images" / "000002.png").unlink()
    whole = generate(trained, tmp_path / "whole", count=10).folder
    generate(trained, out, count=10)
    assert files(out) == files(whole)


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_an_image_of_an_unfinished_folder_that_is_no_longer_whole_is_made_again(
    lose: Callable[[Path], object], trained: Path, tmp_path: Path
) -> None:
    """The table listed it, and the folder did not hold it."""
    out, whole = tmp_path / "out", generate(trained, tmp_path / "whole", count=9).folder
    stopped(6, lambda: generate(trained, out, count=9))
    lose(tmp_path / ".out.part" / "images" / "000002.png")
    generate(trained, out, count=9)
    assert files(out) == files(whole)


def test_an_error_before_the_work_leaves_an_unfinished_folder_as_it_is(tmp_path: Path) -> None:
    (partial := tmp_path / ".out.part").mkdir()
    (partial / "made").touch()

    def refuses(folder: Path) -> bool:
        raise FolderError("another's")

    with pytest.raises(FolderError, match="another's"), whole_folder(tmp_path / "out", keep=refuses):
        pass
    assert (partial / "made").exists()


@pytest.mark.parametrize("busy", [False, True])
def test_unfinished_images_of_former_weights_are_kept_with_these(busy: bool, tmp_path: Path) -> None:
    folder, images = RunFolder(tmp_path), tmp_path / "synthetic"
    former = folder.save_weights({"weight": torch.ones(3)}, {"images": 80})[:16]
    with whole_folder(images, keep=lambda partial: True) as partial:
        (partial / "0.png").touch()
        if busy:  # 'generate' is making them still, and ends after the new weights are there
            folder.set_aside()
        (partial / "generate.json").write_text(json.dumps({"weights": former + 48 * "0"}))
    if not busy:
        images.rename(partial)
        folder.set_aside()
    folder.save_weights({"weight": torch.zeros(3)}, {"images": 160})
    folder.set_images_aside()
    kept = tmp_path / "earlier" / former / ("synthetic" if busy else "synthetic-unfinished")
    assert (kept / "0.png").exists() and not images.exists() and not partial.exists()


def test_run_makes_its_images_where_those_of_former_weights_came_late(make_prepared: Make, tmp_path: Path) -> None:
    """It ended with an error, after hours of training: another command was making images when these weights came."""
    data, few = make_prepared(), "generate.count=3"
    out = train(data, tmp_path / "run", settings=options(few)).path
    late = generate(out, tmp_path / "late", count=3).folder
    train(data, out, settings=options(few, "train.images=320"))
    late.rename(out / "synthetic")
    assert running._generate(options(few), Prepared(data), out).count == 3
    assert RunFolder(out).made(out / "synthetic")
    (earlier,) = out.glob("earlier/*/synthetic")
    assert len(rows(earlier)) == 3 and not RunFolder(out).made(earlier)


def test_results_that_nothing_had_judged_are_flagged_by_the_same_command_when_it_can_be(
    make_prepared: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = resolve(overrides=(*examples.SMALL, "task.kind=restore", "task.what=rician"))
    run = train(make_prepared(n=24, modality="MR"), tmp_path / "run", settings=settings).path
    given, out = four_pictures(tmp_path / "in"), tmp_path / "out"
    assert apply(run, given, out).flagged is None
    before = files(out / "images")
    assert apply(run, given, out).flagged is None, "as long as nothing is measured"
    (run / "results.json").write_text('{"limits": {"edges": -1}}')
    stopped(2, lambda: apply(run, given, out))
    assert {row["flagged"] for row in rows(out)} == {"unknown"} and files(out / "images") == before
    capsys.readouterr()
    assert apply(run, given, out).flagged == 4
    assert "before " in capsys.readouterr().err
    assert {row["flagged"] for row in rows(out)} == {"edges"} and files(out / "images") == before
    changed = (out / "samples.csv").stat().st_mtime_ns
    assert apply(run, given, out).flagged == 4 and (out / "samples.csv").stat().st_mtime_ns == changed
    assert not list(tmp_path.glob(".out*")) and not list(out.glob(".*"))


def test_what_was_measured_of_former_weights_is_not_written_beside_new_ones(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A longer training of the same folder ended while the audit was at work."""
    (trained / "data").symlink_to(tmp_path / "data")
    generate(trained, trained / "synthetic", count=16)

    def meanwhile(folder: RunFolder, *_: object, **__: object) -> list[Attack]:
        folder.set_aside()
        folder.save_weights({"weight": torch.zeros(3)}, {"images": 160})
        return []

    monkeypatch.setattr(auditing, "attacks", meanwhile)
    with pytest.raises(FolderError, match=r"trained further in the meantime: .* is not written\. Repeat the command"):
        auditing.audit(trained)
    assert not (trained / "audit.json").exists() and not (trained / "pictures").exists()
    trained.rename(tmp_path / "moved")
    with pytest.raises(FolderError, match="run is not a run folder: it does not exist"):
        RunFolder(trained).check_weights("former")


def test_a_bundle_of_two_states_of_the_weights_is_not_made(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A longer training of the same folder ended while the graph was made of the former weights."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    def meanwhile(graph: Graph, path: Path) -> None:
        path.touch()
        RunFolder(trained).save_weights({"weight": torch.zeros(3)}, {"images": 160})

    monkeypatch.setattr(exporting, "_to_onnx", meanwhile)
    monkeypatch.setattr(exporting, "_check", lambda *_: {})
    with pytest.raises(FolderError, match="trained further in the meantime"):
        export(trained, tmp_path / "bundle")
    assert not list(tmp_path.glob("*bundle*"))


def test_a_folder_that_cannot_be_made_is_told_before_copies_are_looked_for(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_generate, "filtered", lambda sampler: pytest.fail("training images were compared"))
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"file/out cannot be written: .*file is a file"):
        generate(trained, tmp_path / "file" / "out", count=2, copy_filter=True)
