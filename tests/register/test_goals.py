"""Apply with several fixed images: each moving one is put onto that of its patient, of several that of its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radsynth.datasets import Record
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.io import read, write
from radsynth.verbs._applying.goals import Goals
from radsynth.verbs.apply import apply
from radsynth.verbs.report import report
from tests.register.test_landmarks import csv_of
from tests.tables import lines, rows
from tests.written import FROM

PLACES = {"P1": 6, "P2": 9}
"""Column of the disc in each patient's fixed image; it was two pixels away before."""


@pytest.fixture
def visits(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    """A run that has hardly learned, and before/P1/, before/P2/, after/P1/, after/P2/ with an image and landmarks."""
    make_run(size=(16, 16), spacing=(2.0, 2.0), format="nifti")
    for visit, off, name in (("before", 2, "sub-{}_t1"), ("after", 0, "sub-{}_later")):
        for patient, column in PLACES.items():
            put(tmp_path / visit / patient, name.format(patient), column + off)
    return tmp_path


def put(folder: Path, name: str, column: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    grid, noise = np.mgrid[:16, :16], np.random.default_rng(column).uniform(0, 3, (16, 16))
    disc = 200 * np.clip(5.5 - np.hypot(grid[0] - 8, grid[1] - column), 0, 1) + noise
    write(Image(pixels=disc[None].astype(np.uint8), spacing=(2.0, 2.0), affine=affine), folder / f"{name}.nii.gz",
          provenance=FROM)
    (folder / f"{name}.csv").write_text(csv_of({"middle": (2.0 * column, 16.0, 0.0)}))


def nothing() -> Image:
    raise AssertionError("nobody asks for it")


def middle(path: Path) -> float:
    """Column of the disc."""
    image = read(path)
    assert isinstance(image, Image)
    bright = image.pixels[0] > 100
    return float(np.nonzero(bright)[1].mean())


def test_each_image_is_put_onto_that_of_its_patient(visits: Path) -> None:
    made = apply(visits / "run", visits / "before", visits / "out", onto=visits / "after", landmarks=visits / "before",
                 onto_landmarks=visits / "after")
    table = rows(visits / "out")
    assert [row["onto"] for row in table] == [f"{patient}/sub-{patient}_later.nii.gz" for patient in PLACES]
    for row, column in zip(table, PLACES.values(), strict=True):
        assert abs(middle(visits / "out" / row["file"]) - column) < 0.7, "it was two pixels away"
        assert float(row["target_error_before"]) == pytest.approx(4, abs=0.01) and float(row["target_error"]) < 2
    page = (made.folder / "report.html").read_text(encoding="utf-8")
    assert "sub-P1_t1.nii.gz onto P1/sub-P1_later.nii.gz" in page and "other such pairs" in page
    assert "the same fixed one" not in page and report(made.folder).read_text(encoding="utf-8") == page


def test_of_several_of_a_patient_the_name_decides_and_nothing_is_put_onto_itself(visits: Path) -> None:
    put(visits / "after" / "P1", "sub-P1_t1", 7)
    table = rows(apply(visits / "run", visits / "before", visits / "named", onto=visits / "after").folder)
    assert [row["onto"] for row in table] == ["P1/sub-P1_t1.nii.gz", "P2/sub-P2_later.nii.gz"]
    both, link = visits / "after" / "P1", visits / "link"
    link.symlink_to(both)
    for number, (onto, below) in enumerate(((both, ""), (link, ""), (visits / "after", "P1/"))):
        table = rows(apply(visits / "run", both, visits / f"both{number}", onto=onto).folder)
        assert {row["source"]: row["onto"] for row in table} == {
            "sub-P1_t1.nii.gz": f"{below}sub-P1_later.nii.gz", "sub-P1_later.nii.gz": f"{below}sub-P1_t1.nii.gz"}


def test_an_image_without_a_fixed_one_is_rejected_and_the_others_are_made(visits: Path) -> None:
    (visits / "after" / "P2" / "sub-P2_later.nii.gz").rename(visits / "after" / "P1" / "sub-P1_last.nii.gz")
    put(visits / "before" / "P3", "sub-P3_t1", 8)
    put(visits / "after" / "P3", "sub-P3_later", 7)
    broken = visits / "after" / "P4" / "sub-P4_later.nii.gz"
    put(visits / "before" / "P4", "sub-P4_t1", 8)
    put(broken.parent, "sub-P4_later", 8)
    broken.write_bytes(broken.read_bytes()[:300])
    made = apply(visits / "run", visits / "before", visits / "out", onto=visits / "after")
    assert [row["onto"] for row in rows(made.folder)] == ["P3/sub-P3_later.nii.gz"]
    told = {line["path"]: line["reason"] for line in lines(made.folder / "rejected.csv")}
    assert "holds 2 images of its patient (P1/sub-P1_last.nii.gz, P1/" in told["P1/sub-P1_t1.nii.gz"]
    assert "holds 3 images, and none of its patient:" in told["P2/sub-P2_t1.nii.gz"]
    assert "P4/sub-P4_t1.nii.gz" in told, "its fixed image is cut"


def test_a_name_alone_makes_no_pair_of_two_patients(tmp_path: Path) -> None:
    """Flat folders of DICOM: files of one name are whosever their headers say."""
    own = [Record(source=f"IM{number}", patient=of, load=nothing) for number, of in enumerate(("A", "B"))]
    goals = Goals(tmp_path, iter(own), [])
    assert goals.of(Record(source="IM1", patient="A", load=nothing)) is own[0]
    with pytest.raises(RejectedFile, match="none of its patient"):
        goals.of(Record(source="IM1", patient="C", load=nothing))


def test_files_of_one_fixed_image_are_refused_for_several(visits: Path) -> None:
    with pytest.raises(SettingsError, match=r"--onto-landmarks .* is one file, and there are 2 images"):
        apply(visits / "run", visits / "before", visits / "out", onto=visits / "after", landmarks=visits / "before",
              onto_landmarks=visits / "after" / "P1" / "sub-P1_later.csv")
    with pytest.raises(DataError, match="no image could be used"):
        (visits / "other").mkdir()
        put(visits / "other", "elsewhere", 6)
        apply(visits / "run", visits / "other", visits / "out", onto=visits / "after")
