"""The main job repeated: what was measured stays while nothing changed that it depends on, and only then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import radsynth.verbs._measured as measured_module
import radsynth.verbs.run as module
from radsynth.verbs.run import run

SMALL = ("model.kind=dcgan", "model.width=8", "model.latent=8", "train.batch=8", "train.images=64", "train.previews=0",
         "generate.count=60", "evaluate.images=50", "evaluate.repetitions=10", "evaluate.classes=false")
RESTORE = ("task.kind=restore", "model.width=8", "train.batch=8", "train.images=32", "train.previews=0",
           "evaluate.images=50", "evaluate.repetitions=10", "evaluate.anatomy=0.5")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder, draw = tmp_path / "scans", np.random.default_rng(0)
    folder.mkdir()
    for k in range(60):
        values = np.zeros((32, 32), np.uint8)
        values[8:24, 6 + k % 8:22] = draw.integers(60, 255, (16, 16 - k % 8), np.uint8)
        Pillow.fromarray(values).save(folder / f"p{k:02}.png")
    return folder


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[], int]]:
    """How often the function of this name was called since the last question."""
    def counting(name: str) -> Callable[[], int]:
        called, verb = [], getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **more: (called.append(name), verb(*args, **more))[1])

        def since() -> int:
            times = len(called)
            called.clear()
            return times
        return since
    return counting


def test_of_many_images_no_more_are_drawn_again_than_are_compared(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, draw = list[int](), module.draw
    monkeypatch.setattr(module, "MOST_IMAGES", 50)
    monkeypatch.setattr(module, "draw", lambda out, count, **more: (drawn.append(count), draw(out, count, **more))[1])
    found = run(pictures, tmp_path / "run", overrides=SMALL)
    assert drawn == [50] and found.results["context"]["synthetic_images"] == 60


def test_synthetic_images_are_measured_again_only_where_something_changed(
    pictures: Path, count: Callable[[str], Callable[[], int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    times, out = count("evaluate_prepared"), tmp_path / "run"

    def repeat(*more: str) -> int:
        found = run(pictures, out, overrides=[*SMALL, *more])
        assert found.results == json.loads((out / "results.json").read_text()) and found.report.exists()
        return times()

    assert repeat() == 1
    before = (out / "results.json").read_bytes()
    assert repeat() == 0 and (out / "results.json").read_bytes() == before
    assert str(tmp_path).encode() not in before, "results travel"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (out / f".results.json.{gone.pid}.140.part" / "pictures").mkdir(parents=True)
    assert repeat() == 0 and not list(out.glob("*.part")), "of a killed measurement, which may show patients"
    assert repeat("evaluate.repetitions=11") == 1 and repeat("evaluate.repetitions=11") == 0
    (out / "pictures" / "synthetic.npy").unlink()
    assert repeat("evaluate.repetitions=11") == 1, "the report needs it"
    for damage in ("", "[]", "{}", '{"measured_from": {"of": null}}'):
        (out / "results.json").write_text(damage)
        assert measured_module._held(out) is None
    assert repeat() == 1
    records = out / "data" / "records.csv"
    records.write_text(records.read_text().replace("validation", "test"))
    assert repeat() == 1, "other patients are held out"
    with monkeypatch.context() as later:
        later.setattr(measured_module, "version_of", lambda name: "9.9")
        assert repeat() == 1, "another version may measure otherwise"
    assert repeat() == 1
    assert repeat("train.images=96") == 1 and repeat("train.images=96") == 0, "other weights"


def test_pairs_are_measured_again_only_where_something_changed(
    pictures: Path, count: Callable[[str], Callable[[], int]], tmp_path: Path,
) -> None:
    times, out = count("evaluate_pairs"), tmp_path / "run"
    assert [(run(pictures, out, overrides=RESTORE), times())[1] for _ in range(2)] == [1, 0]
    noted = json.loads((out / "results.json").read_text())["measured_from"]["of"]
    told = json.loads((out / "anatomy" / "given" / "generator.json").read_text())
    assert noted["anatomy"]["given"] == told["sha256"], "limits and numbers rest on it"
    assert [(run(pictures, out, overrides=[*RESTORE, "evaluate.seed=3"]), times())[1] for _ in range(2)] == [1, 0]


def test_limits_of_an_older_version_are_set_anew(
    pictures: Path, count: Callable[[str], Callable[[], int]], tmp_path: Path,
) -> None:
    times, out = count("evaluate_pairs"), tmp_path / "run"
    limits = run(pictures, out, overrides=RESTORE).results["limits"]
    document = json.loads((out / "results.json").read_text())
    document["limits_from"] = document.pop("limits_from_patients")
    document["limits"] = {name: 0.0 for name in limits}
    (out / "results.json").write_text(json.dumps(document))
    assert times() == 1
    assert run(pictures, out, overrides=RESTORE).results["limits"] == limits and times() == 1


def test_label_maps_that_an_older_version_measured_are_measured_anew(tmp_path: Path) -> None:
    def held(**more: object) -> bool:
        document = {"measured_from": {"of": {"weights": ""}, "pictures": []}, "pairs": {"task": "segment"}, **more}
        (tmp_path / "results.json").write_text(json.dumps(document))
        return measured_module._held(tmp_path) is not None

    assert not held() and held(expected_labels=[]), "it did not look at the labels of the training masks"
    register = {"pairs": {"task": "register"}}
    assert not held(**register) and held(**register, limits_from_patients=0), "it set no limits for registrations"


@pytest.mark.parametrize("kind", ["restore", "segment"])
def test_a_report_without_real_pictures_shows_nothing_that_was_made_of_patients_images(
    kind: str, pictures: Path, count: Callable[[str], Callable[[], int]], tmp_path: Path,
) -> None:
    times, out = count("evaluate_pairs"), tmp_path / "run"
    if kind == "segment":
        (pictures / "masks").mkdir()
        for path in list(pictures.glob("*.png")):
            Pillow.fromarray((np.asarray(Pillow.open(path)) > 0).astype(np.uint8)).save(pictures / "masks" / path.name)
    words = [*RESTORE, "train.previews=1", f"task.kind={kind}"]
    page = run(pictures, out, overrides=words).report.read_text()
    assert "This page shows real images" in page and "the same training images at several moments" in page
    assert "random numbers" not in page and "scorecard" not in page.split("</style>")[1], "there is none"
    assert "show whom these show" in page and "no patients' images" not in page
    times()
    page = run(pictures, out, overrides=[*words, "evaluate.real_pictures=false"]).report.read_text()
    assert not list((out / "pictures").glob("*.npy")) and "<img" not in page and "shows real images" not in page
    assert kind == "segment" or ("Rank correlation of each check with the mean absolute error" in page and times() == 1)
    np.save(out / "pictures" / "pairs.npy", np.zeros((1, 3, 8, 8), np.uint8))  # an older version kept them
    (out / "features").mkdir(exist_ok=True)
    (out / "features" / f"{'0a' * 32}.npz").touch()
    run(pictures, out, overrides=[*words, "evaluate.real_pictures=false"])
    assert not list((out / "pictures").glob("*.npy")) and times() == 0 and not (out / "features").exists()
