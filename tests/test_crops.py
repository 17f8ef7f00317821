"""Runs that learned from crops: whole images are checked crop by crop, with limits of whole held-out images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from radsynth.arrays import Prepared
from radsynth.image import Image
from radsynth.io import write
from radsynth.settings import resolve
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.crops import by_crops, crops_of, of_image
from radsynth.verbs._applying.doubts import MEAN, Doubts
from radsynth.verbs._applying.limits import flags, limits, limits_from, read_limits
from radsynth.verbs._pairs.paired import evaluate_pairs
from radsynth.verbs.apply import apply
from radsynth.verbs.prepare import prepare
from radsynth.verbs.report import report
from radsynth.verbs.train import train
from tests.written import FROM

SIDE, CROP, IMAGES = 96, 16, 60
BRIGHT = 0.9
"""Network values above this are lesions."""
SETTINGS = ("task.kind=restore", "task.what=rician", "task.noise=[0.01,0.02]", "model.width=8", "model.halvings=1",
            "train.images=160", "train.batch=16", "train.previews=1", "train.precision=32-true", "train.rate=0.003")


def images(number: int, seed: int) -> NDArray[np.uint16]:
    """Soft texture, each with a lesion of 3 x 3 pixels."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        one = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 3) * 1500 + 400
        row, column = rng.integers(8, SIDE - 8, 2)
        one[row:row + 3, column:column + 3] = 1000
        made.append(np.clip(one, 0, 900 + 100 * (one == 1000)))
    return np.stack(made).astype(np.uint16)


def image(pixels: NDArray[np.uint16]) -> Image:
    return Image(pixels=pixels[None], bits=16, modality="MR", spacing=(1.0, 1.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crops")
    for number, pixels in enumerate(images(IMAGES, 0)):
        write(image(pixels), root / "in" / f"p{number}" / "slice.nii.gz", provenance=FROM)
    preparing = ("prepare.fit=patches", f"prepare.size=[{CROP},{CROP}]", "prepare.intensity=bits", "prepare.train=0.4",
                 "prepare.validation=0")
    given = resolve({"data": {"kind": "folder", "path": str(root / "in")}}, overrides=(*preparing, *SETTINGS),
                    sections=("data", "prepare", "task", "model"))
    prepare(given.section("data"), root / "data", settings=given, workers=1)
    train(root / "data", root / "run", settings=given)
    evaluate_pairs(root / "run", Prepared(root / "data"), out=root / "run", images=50)
    return root / "run"


def test_limits_are_of_whole_images(run: Path) -> None:
    document = json.loads((run / "results.json").read_text())
    data = Prepared(run.parent / "data")
    test = data.indices("test")
    whole = len({data.rows[i].image for i in test})
    assert len(test) == whole * 36 and document["limits_from_patients"] == whole == 36
    assert document["doubts"]["limits_from_patients"] == document["pairs"]["patients"], "the report's own are of crops"
    page = report(run).read_text()
    assert "images of one usual patient in 37" in page and "These are crops" in page
    trained, tested = len(data.indices("train")), document["pairs"]["images"]
    assert f"{trained:,} MR crops of" in page and f"{tested} crops of images of" in page, "no images were counted"
    assert "The numbers below are of all crops" in page and f"Of {tested} crops" in page


def test_whole_images_are_flagged_as_often_as_is_said_and_where_a_lesion_is_lost(run: Path) -> None:
    """The lesion is a thousandth of its image: no percentile of all pixels would tell."""
    applier = Applier(run)
    usual = read_limits(run, crops=True)[0]
    assert {"edges", "uncertainty"} <= set(usual)

    def flagged() -> dict[str, float]:
        found = []
        for number, pixels in enumerate(images(30, 1)):
            noise = np.random.default_rng(number).normal(0, 15, (2, SIDE, SIDE))
            noisy = np.hypot(pixels + noise[0], noise[1]).clip(0, 1023).astype(np.uint16)
            doubts = applier.convert(image(noisy))[1]
            found.append(flags({name: float(values[0]) for name, values in doubts.items()}, usual))
        return {name: float(np.mean([name in one.split() for one in found])) for name in usual}

    assert max(flagged().values()) <= 0.2
    network_of = applier.network_of

    def healed(stack: NDArray[np.float32], target: str) -> NDArray[np.float32]:
        made = network_of(stack, target)
        return np.where(made > BRIGHT, np.float32(0), made)

    applier.network_of = healed  # type: ignore[method-assign]
    assert flagged()["edges"] > 0.9


def test_how_often_usual_images_are_flagged_is_told_and_not_by_an_older_version(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    write(image(images(1, 2)[0]), tmp_path / "one.nii.gz", provenance=FROM)
    apply(run, tmp_path / "one.nii.gz", tmp_path / "out")
    assert "mind: by chance, each check flags images of one usual patient in 37," in capsys.readouterr().err
    older = tmp_path / "older"
    shutil.copytree(run, older)
    document = json.loads((run / "results.json").read_text())
    for part in (document, document["doubts"]):  # what an older version wrote, which counted images
        part["limits_from"] = part.pop("limits_from_patients")
    (older / "results.json").write_text(json.dumps(document))
    apply(older, tmp_path / "one.nii.gz", tmp_path / "older out")
    assert "an unknown share of usual images, because an older version" in capsys.readouterr().err
    rows = [(tmp_path / name / "samples.csv").read_text() for name in ("out", "older out")]
    assert rows[0] == rows[1] and "unknown" not in rows[0], "limits hold as they are"
    assert report(older).read_text().count("an unknown share of usual images") == 2, "of crops and of whole images"


def test_limits_of_crops_of_an_older_version_say_nothing_of_whole_images(run: Path, tmp_path: Path) -> None:
    document = json.loads((run / "results.json").read_text())
    del document["limits_by_crops"]
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert read_limits(tmp_path)[0] and not read_limits(tmp_path, crops=True)[0]


def test_an_older_prepared_folder_sets_no_limits(run: Path) -> None:
    """It does not say which crops belong together."""
    data = Prepared(run.parent / "data")
    with (data.folder / "records.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    older = run.parent / "older"
    older.mkdir()
    (older / "shards").symlink_to(data.folder / "shards")
    (older / "manifest.json").write_bytes((data.folder / "manifest.json").read_bytes())
    with (older / "records.csv").open("w", newline="") as file:
        names = [name for name in lines[0] if name not in ("image", "drawn")]
        table = csv.DictWriter(file, names, extrasaction="ignore")
        table.writeheader()
        table.writerows(lines)
    document = evaluate_pairs(run, Prepared(older), images=9)
    assert document["limits"] == {} and document["pairs"]["images"] == 9


def test_crops_are_those_of_prepare_without_those_that_show_nothing() -> None:
    one = np.zeros((2, 40, 70), np.float32)
    one[0, :20, :40] = np.random.default_rng(0).normal(size=(20, 40))
    found = crops_of(one, (20, 32))
    assert found.shape[1:] == (2, 20, 32) and len(found) == 2
    assert (found[0] == one[:, :20, :32]).all() and len(crops_of(np.zeros_like(one), (20, 32))) == 4


def test_an_image_has_the_largest_number_of_its_crops_and_their_mean_of_the_mean() -> None:
    crops: Doubts = {"edges": np.array([1.0, 5.0]), MEAN: np.array([1.0, 5.0]), "anatomy": np.array([np.nan, 2.0]),
                     "inconsistency": np.array([np.nan, np.nan])}
    found = of_image(crops)
    assert (found["edges"], found[MEAN], found["anatomy"]) == (5, 3, 2) and np.isnan(found["inconsistency"])
    whole = by_crops(np.arange(2 * 16, dtype=np.float32).reshape(2, 1, 4, 4), (2, 2),
                     lambda given: {"edges": given.max(axis=(1, 2, 3))})
    assert whole["edges"].tolist() == [15, 31]


def test_where_few_crops_of_an_image_were_looked_at_a_whole_one_is_flagged_more_often() -> None:
    """A quarter of each of 199 images: as 49 whole ones, and the largest number is the limit."""
    found: Doubts = {"edges": np.arange(199.0)}
    each = np.arange(199)
    assert limits(found, each) == {"edges": 197} and limits_from(found, each) == 199
    assert limits(found, each, 0.25) == {"edges": 198} and limits_from(found, each, 0.25) == 49
    assert limits(found, each, 0.004) == {} and limits_from(found, each, 0.004) == 0
