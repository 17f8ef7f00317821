"""The same command again: nothing twice, on from where it stopped, no name taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.datasets import dataset, embedded, kinds
from radsynth.errors import FolderError, Interrupted, RejectedFile
from radsynth.image import Image
from radsynth.io import read, write
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.inputs import input_records
from radsynth.verbs._journal import Journal
from radsynth.verbs.apply import apply
from tests.apply.examples import disc
from tests.tables import rows
from tests.written import FROM


def failing(monkeypatch: pytest.MonkeyPatch, faults: dict[int, BaseException]) -> list[int]:
    """Images end in these errors, by the number of the call; the calls until now."""
    convert, calls = Applier.convert, list[int]()

    def converted(self: Applier, image: Image) -> Any:
        calls.append(1)
        if len(calls) in faults:
            raise faults[len(calls)]
        return convert(self, image)

    monkeypatch.setattr(Applier, "convert", converted)
    return calls


def four_pictures(folder: Path) -> Path:
    folder.mkdir()
    for k in range(4):
        image = Image(pixels=disc((16, 16), seed=k), modality="MR")
        write(image, folder / f"{k}.png", provenance=replace(FROM, index=k))
    return folder


def test_folders_of_every_layout_are_read(tmp_path: Path) -> None:
    for kind in sorted(set(kinds()) - set(embedded())):
        (tmp_path / kind).mkdir()
        given = dataset(kind).example(tmp_path / kind)
        channels = given.modalities if kind == "brats" else ("t1", "flair")
        found, _ = input_records(given.path, "", {"kind": kind, "contrasts": channels, "inputs": channels})
        image = next(found).load()
        assert len(image.pixels) == (len(channels) if kind in ("brats", "contrasts", "nnunet") else 1), kind


def test_the_same_call_again_changes_nothing_and_another_is_refused(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run, given = make_run("task.kind=restore"), tmp_path / "in.png"
    write(Image(pixels=disc((20, 20))), given, provenance=FROM)
    first = apply(run, given, tmp_path / "out")
    before = (tmp_path / "out" / "samples.csv").stat().st_mtime_ns
    again = apply(run, given, tmp_path / "out")
    assert again == first and (again.count, again.flagged, again.unchecked) == (1, None, ("modality",))
    assert (tmp_path / "out" / "samples.csv").stat().st_mtime_ns == before
    for more, told in (({"format": "npz"}, r"results \(format none there, npz now\)"),
                       ({"resample": True}, r"results \(resample none there, True now\)")):
        with pytest.raises(FolderError, match=told):
            apply(run, given, tmp_path / "out", **more)
    resampled = apply(run, given, tmp_path / "resampled", resample=True)
    assert resampled == apply(run, given, tmp_path / "resampled", resample=True)
    with pytest.raises(FolderError, match="resample True there, none now"):
        apply(run, given, tmp_path / "resampled")
    with pytest.raises(FolderError, match="results would be among them the next time"):
        apply(run, tmp_path, tmp_path / "more" / "results")
    (tmp_path / "other").mkdir()
    write(Image(pixels=disc((20, 20)) // 2), tmp_path / "other" / "in.png", provenance=FROM)
    with pytest.raises(FolderError, match=r"\(of other files, or"):  # another patient's file of the same name
        apply(run, tmp_path / "other" / "in.png", tmp_path / "out")
    (tmp_path / "out" / "apply.json").write_text("[]")
    with pytest.raises(FolderError, match="holds something else"):
        apply(run, given, tmp_path / "out")


def test_a_place_that_can_take_no_results_is_refused_before_an_image_is_looked_at(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, given = make_run("task.kind=restore"), four_pictures(tmp_path / "in")
    monkeypatch.setattr("radsynth.verbs.apply.input_records", lambda *_, **__: pytest.fail("headers were read"))
    (tmp_path / "file").touch()
    for out, says in ((tmp_path / "file" / "out", "file is a file"), (given / "out", "results would be among them"),
                      (tmp_path, "holds something else"), (tmp_path / "file", "holds something else")):
        with pytest.raises(FolderError, match=says):
            apply(run, given, out)


@pytest.mark.parametrize("ending", [".png", ".dcm"])
def test_the_same_command_goes_on_after_it_was_interrupted(
    ending: str, make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (16, 16) if ending == ".png" else (4, 16, 16)
    run, given = make_run("task.kind=restore", "task.what=rician", size=size, modality="MR"), tmp_path / "in"
    given.mkdir()
    for k in range(5):
        image = Image(pixels=disc(size, seed=k), modality="MR", spacing=None if ending == ".png" else (1.0, 1.0, 1.0))
        write(image, given / f"{k}{ending}", provenance=replace(FROM, index=k))
    whole = apply(run, given, tmp_path / "whole")
    calls = failing(monkeypatch, {4: KeyboardInterrupt()})
    with pytest.raises(Interrupted, match="kept: the same command goes on"):
        apply(run, given, tmp_path / "out")
    partial = tmp_path / ".out.part"
    (half := partial / "images" / ".99.part.000003").mkdir()
    (half / "0001.dcm").touch()
    with (partial / ".journal.jsonl").open("a") as file:
        file.write('[{"file": "images/cut')
    again = apply(run, given, tmp_path / "out")
    assert len(calls) == 6, "three are not made again"
    assert replace(again, folder=whole.folder) == whole
    files = [{path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*")
              if path.is_file()} for name in ("out", "whole")]
    assert files[0] == files[1]
    (tmp_path / "out" / ".journal.jsonl").touch()  # which a command leaves that is killed in its last moment
    assert replace(apply(run, given, tmp_path / "out"), folder=whole.folder) == whole
    assert not list((tmp_path / "out").glob(".*"))
    calls.clear()
    with pytest.raises(Interrupted, match="kept: the same command goes on"):
        apply(run, given, tmp_path / "other")
    with pytest.raises(FolderError, match=r"not finished \(format none there, npz now\)\. Repeat that one to finish"):
        apply(run, given, tmp_path / "other", format="npz")
    assert apply(run, given, tmp_path / "other").count == 5
    assert len(calls) == 6


def test_results_are_judged_by_one_measure_each_of_them(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while the run was not yet measured, and gone on with after: half of the rows said "unknown" for ever."""
    run, given = make_run("task.kind=restore", "task.what=rician", modality="MR"), four_pictures(tmp_path / "in")
    failing(monkeypatch, {3: KeyboardInterrupt()})
    with pytest.raises(Interrupted, match="kept: the same command goes on"):
        apply(run, given, tmp_path / "out")
    (run / "results.json").write_text('{"limits": {"edges": -1}}')
    assert apply(run, given, tmp_path / "out").flagged == 4
    assert [row["flagged"] for row in rows(tmp_path / "out")] == ["edges"] * 4


def test_an_image_that_can_be_used_later_takes_no_others_name(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that is installed, or a disk that is mounted, between two calls."""
    run, given = make_run("task.kind=restore", "task.what=rician", modality="MR"), four_pictures(tmp_path / "in")
    whole = {row["source"]: row["file"] for row in rows(apply(run, given, tmp_path / "whole").folder)}
    failing(monkeypatch, {1: RejectedFile("it needs a decoder"), 4: KeyboardInterrupt()})
    with pytest.raises(Interrupted, match="kept: the same command goes on"):
        apply(run, given, tmp_path / "out")
    again = {row["source"]: row["file"] for row in rows(apply(run, given, tmp_path / "out").folder)}
    assert len(set(again.values())) == 4 == len(whole)
    for source, file in again.items():
        ours, theirs = (read(tmp_path / name) for name in (f"out/{file}", f"whole/{whole[source]}"))
        assert isinstance(ours, Image) and isinstance(theirs, Image)
        assert np.array_equal(ours.pixels, theirs.pixels), source


def test_a_line_that_was_cut_spoils_no_other(tmp_path: Path) -> None:
    def row(name: str, index: int) -> dict[str, object]:
        (tmp_path / name).write_text("image")
        return {"file": name, "source": name, "index": index}

    first = Journal(tmp_path, {"seed": 1}, tmp_path).add([row("a", 0)])
    with (tmp_path / ".journal.jsonl").open("a") as file:
        file.write('[{"sour')
    second = Journal(tmp_path, {"seed": 1}, tmp_path).add([row("b", 1)])
    assert Journal(tmp_path, {"seed": 1}, tmp_path).rows == {"a": first, "b": second}
    with pytest.raises(FolderError, match="seed 1 there, 2 now"):
        Journal(tmp_path, {"seed": 2}, tmp_path)
