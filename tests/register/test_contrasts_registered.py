"""Registration of one contrast onto another: which images are taken for which, and what could not be checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from radsynth.datasets import contrasts
from radsynth.errors import DataError
from radsynth.settings import resolve
from radsynth.verbs.apply import apply
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from tests.register.examples import SMALL
from tests.tables import rows


def test_another_contrast_is_not_taken_for_the_one_that_is_registered(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    given = {"kind": "contrasts", "path": str(contrasts.example(tmp_path / "in").path), "contrasts": ["t1", "flair"]}
    settings = resolve({"data": given}, overrides=(*SMALL, "prepare.size=[16,16]", "train.images=8", "task.moving=t1",
                                                   "task.fixed=flair"))
    train(prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1).folder, tmp_path / "run",
          settings=settings)
    t1, flair = (tmp_path / "in" / "P0" / f"{name}.nii.gz" for name in ("t1", "flair"))
    with pytest.raises(DataError, match=r"flair\.nii\.gz: by its name or series it is flair; the run expects t1"):
        apply(tmp_path / "run", flair, tmp_path / "no", onto=flair)
    with pytest.raises(DataError, match=r"put onto, holds no image .*: by its name or series it is t1; the run expects "
                                        "flair"):
        apply(tmp_path / "run", t1, tmp_path / "no", onto=t1)
    assert apply(tmp_path / "run", t1, tmp_path / "one", onto=flair).unchecked == ("modality",)
    shutil.copy(flair, tmp_path / "scan.nii.gz")
    made = apply(tmp_path / "run", t1, tmp_path / "other", onto=tmp_path / "scan.nii.gz")
    assert made.unchecked == ("contrast", "modality") and rows(made.folder)[0]["unchecked"] == "contrast modality"
    apply(tmp_path / "run", tmp_path / "in", tmp_path / "all", onto=flair)
    assert [row["source"] for row in rows(tmp_path / "all")] == [f"P{k}/t1.nii.gz" for k in range(3)]
