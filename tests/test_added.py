"""Images that `prepare.extra` added are learned from, and are no real images to whatever measures or audits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError, SettingsError
from radsynth.verbs._auditing.copy_filter import CopyFilter
from radsynth.verbs._usefulness.sources import real
from radsynth.verbs.audit import Settings as AuditSettings
from radsynth.verbs.audit import audit
from radsynth.verbs.evaluate import Settings, evaluate_prepared
from radsynth.verbs.generate import generate
from radsynth.verbs.prepare import prepare
from radsynth.verbs.run import run
from radsynth.verbs.train import train
from tests.phantoms import phantoms
from tests.tables import lines, save

Make = Callable[..., Path]


def pictures(folder: Path, names: Iterable[str], seed: int) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for name in names:
        PIL.Image.fromarray(generator.integers(0, 255, (16, 16), np.uint8)).save(folder / f"{name}.png")
    return folder


def added_to(folder: Path, rows: Iterable[int], kind: str) -> Prepared:
    """The prepared folder, with some of its training images as if `prepare.extra` had brought them."""
    rows = set(rows)
    table = lines(folder / "records.csv")
    for number in rows:
        assert table[number]["split"] == "train"
        table[number]["added"] = kind
    save(folder / "records.csv", table)
    document = json.loads((folder / "manifest.json").read_text())
    count = sum(bool(line["added"]) for line in table)
    document["added"] = {"images": count, "patients": count}
    (folder / "manifest.json").write_text(json.dumps(document))
    return Prepared(folder)


@pytest.mark.parametrize(("generated", "kind"), [(True, "synthetic"), (False, "other")])
def test_prepare_tells_what_generate_made_from_what_may_show_somebody(
    tmp_path: Path, generated: bool, kind: str
) -> None:
    source = pictures(tmp_path / "scans", [f"patient{k}" for k in range(20)], 0)
    more = pictures(tmp_path / "more", ("a", "b", "c"), 1)
    if generated:
        (more / "generate.json").write_text("{}")
    found = prepare(source, tmp_path / "out", overrides=("prepare.size=[16,16]", f"prepare.extra={more}"), workers=1)
    rows = found.indices("train")
    assert [found.rows[k].added for k in rows].count(kind) == 3 and len(rows) == len(found.own("train")) + 3
    assert len(found.showing("train")) == len(rows) - 3 * generated
    assert len(found.own("validation", "test")) == 20 - len(found.own("train"))


@pytest.mark.parametrize("format", ["png", "dicom"])
def test_generated_images_of_one_class_or_of_any_format_are_of_their_class(
        format: str, make_prepared: Make, tmp_path: Path) -> None:
    """One sub-folder is no class of a folder of scans, nor are those of DICOM: so the rare class could not be added."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, seed in (("healthy", 0), ("lesion", 1)):
        pictures(scans / name, [f"{name}{k}" for k in range(12)], seed)
    data = prepare(scans, tmp_path / "first", overrides=("prepare.size=[16,16]",), workers=1)
    train(tmp_path / "first", tmp_path / "run", overrides=(
        "model.kind=mlp", "train.images=8", "train.batch=4"))
    generate(tmp_path / "run", tmp_path / "ill", count=3, label="lesion", format=format)
    found = prepare(scans, tmp_path / "second", overrides=("prepare.size=[16,16]", f"prepare.extra={tmp_path / 'ill'}"),
                    workers=1)
    assert [row.label for row in found.rows if row.added] == [1] * 3, "healthy, lesion"
    assert len(found.rows) == len(data.rows) + 3


def test_images_that_cannot_be_added_are_named_before_files_that_are_none(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, seed in (("healthy", 0), ("lesion", 1)):
        pictures(scans / name, [f"{name}{k}" for k in range(12)], seed)
    more = pictures(tmp_path / "more", ("a", "b"), 2)
    (more / "CLAIM.md").write_text("a text")
    with pytest.raises(DataError, match=r"a\.png: it has no class\.$"):
        prepare(scans, tmp_path / "out", overrides=("prepare.size=[16,16]", f"prepare.extra={more}"), workers=1)


def test_folders_that_do_not_tell_added_images_apart_are_refused(make_prepared: Make) -> None:
    folder = make_prepared()
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**document, "added": {"images": 4, "patients": 4}}))
    assert len(Prepared(folder).indices("train")) == 32, "it can be learned from"
    with pytest.raises(FolderError, match=r"older version.*Prepare the same data again"):
        Prepared(folder).own("train")


def test_floor_and_usefulness_are_of_the_datas_own_images(make_prepared: Make) -> None:
    folder = make_prepared(60, labels=("a", "b"))
    training = Prepared(folder).indices("train")
    document = evaluate_prepared(Prepared(folder), phantoms(20, 1, (16, 16)), settings=Settings(repetitions=10))
    assert document["context"]["training_images"] == 40
    prepared = added_to(folder, training[20:], "other")
    document = evaluate_prepared(prepared, phantoms(20, 1, (16, 16)), settings=Settings(repetitions=10))
    assert document["context"]["training_images"] == 20
    assert any(text.startswith("The 20 training images that prepare.extra added") for text in
               document["context"]["warnings"])
    used = real(prepared, "train", "classification")
    assert np.array_equal(used.examples.images[np.arange(len(used.examples))], prepared.images(training[:20]))


def test_copies_are_looked_for_among_images_that_may_show_somebody(make_prepared: Make, tmp_path: Path) -> None:
    """A copy of an added image that `generate` made shows nobody; of any other it may."""
    folder = make_prepared(420, (16, 16), name="run/data")
    np.save(folder / "shards" / "00000.images.npy", np.rint((phantoms(420, 0, (16, 16)) + 1) * 127.5).astype(np.uint8))
    (folder.parent / "settings.yaml").write_text("task: {}\nmodel: {kind: sngan}\naugment: {}\ntrain: {}\n")
    training = Prepared(folder).indices("train")
    added_to(folder, training[200:240], "other")
    prepared = added_to(folder, training[240:], "synthetic")
    made = tmp_path / "made"
    made.mkdir()
    copied = np.concatenate([training[200:225], training[240:265]])
    np.savez_compressed(made / "synthetic.npz", train_images=prepared.stored(copied)[:, 0],
                        train_labels=np.zeros((50, 1)))
    found = audit(folder.parent, made, settings=AuditSettings(images=200, pairs=0, real_pictures=False))
    assert found.copies is not None and 25 <= found.copies.count <= 27, found.verdict
    context = json.loads(found.audit.read_text())["context"]
    assert (context["training_images"], context["members"]) == (240, 140)
    assert "40 synthetic images that prepare.extra added to the training were not searched" in found.limits[-2]
    assert "40 other images that prepare.extra added were searched" in found.limits[-1]
    filtered = CopyFilter(folder, "data").copies(prepared.images(copied))
    assert filtered[:25].all() and filtered[25:].mean() < 0.2


def test_the_private_task_refuses_added_images_before_anything_is_prepared(make_prepared: Make, tmp_path: Path) -> None:
    pytest.importorskip("opacus")
    source = pictures(tmp_path / "scans", [f"patient{k}" for k in range(40)], 0)
    more = pictures(tmp_path / "more", ("a", "b", "c"), 1)
    with pytest.raises(SettingsError, match=r"task.kind=private with prepare.extra"):
        run(source, tmp_path / "run", privacy="dp", budget="64img",
            overrides=(f"prepare.extra={more}", "prepare.size=[16,16]", "train.batch=8"))
    assert not (tmp_path / "run" / "data").exists()
    prepare(source, tmp_path / "out", overrides=("prepare.size=[16,16]", f"prepare.extra={more}"), workers=1)
    with pytest.raises(SettingsError, match=r"task.kind=private with prepare.extra"):
        train(tmp_path / "out", tmp_path / "trained", preset="dp", overrides=("train.batch=8", "train.images=64"))
