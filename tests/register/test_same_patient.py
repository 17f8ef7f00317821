"""Pairs of one patient: which images are registered onto which, and what is measured and refused."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from radsynth.arrays import Prepared
from radsynth.errors import FolderError, SettingsError
from radsynth.settings import resolve
from radsynth.tasks import _partners
from radsynth.tasks._partners import Partners
from radsynth.verbs._pairs import itk_registration as itk
from radsynth.verbs._pairs.registration import evaluate_registration
from radsynth.verbs.prepare import prepare
from radsynth.verbs.report import report
from radsynth.verbs.train import train
from tests.register.examples import SMALL, Make

SLICES, PATIENTS = 4, 10


def write_hearts(folder: Path, phases: int = 2) -> None:
    """Volumes of 20 x 18 x SLICES voxels, a tube of which each slice is wider, narrower in later phases; with masks."""
    folder.mkdir()
    rows, columns, planes = np.indices((20, 18, SLICES))
    for patient in range(PATIENTS):
        radius = 3.0 + planes + 0.2 * patient
        for phase in range(phases if patient else 1):  # the first patient has one alone
            inside = np.hypot(rows - 9.5, columns - 8.5) < radius - 0.8 * phase
            noise = np.random.default_rng([patient, phase]).integers(0, 20, inside.shape)
            name = f"patient{patient:03d}_frame{phase:02d}"
            for end, values in (("", 150 * inside + noise), ("_seg", inside)):
                nibabel.save(nibabel.Nifti1Image(values.astype(np.uint8), np.diag([-2, -2, 8, 1])),
                             folder / f"{name}{end}.nii.gz")


def prepared_hearts(tmp_path: Path, *overrides: str, phases: int = 2) -> Prepared:
    write_hearts(tmp_path / "hearts", phases)
    return prepare(tmp_path / "hearts", tmp_path / "data", overrides=[
        "data.modality=MR", "prepare.train=0.5", "prepare.validation=0.2", *overrides])


def radii(prepared: Prepared, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """How wide the tube is in each slice: it tells heights apart."""
    return np.asarray(np.sqrt((prepared.masks(rows) == 1).sum((1, 2)) / np.pi))


def test_a_slice_meets_the_same_height_in_the_other_volume_of_its_patient(tmp_path: Path) -> None:
    prepared = prepared_hearts(tmp_path, "prepare.size=[20,18]")
    images = np.asarray([row.image for row in prepared.rows])
    assert np.bincount(images).tolist() == [SLICES] * (2 * PATIENTS - 1), "the slices of a volume are one image"
    rows = np.arange(len(prepared.rows))
    patients = prepared.patients(rows)
    alone = patients == np.argmin(np.bincount(patients))
    partners = Partners(prepared, rows, 1, same_patient=True)
    found = partners.of(rows, np.full(len(rows), 0.99, np.float32))
    assert (partners.suited(rows) == ~alone).all() and alone.sum() == SLICES
    assert (patients[found] == patients)[~alone].all() and (images[found] != images)[~alone].all()
    assert np.abs(radii(prepared, found) - radii(prepared, rows))[~alone].max() < 1, "heights differ by 1"
    assert (patients[found] != patients)[alone].all(), "the only image of its patient meets those of others"


def test_partners_are_of_other_patients_where_not_all_images_are_looked_among(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_partners, "POOL", 12)
    prepared = prepared_hearts(tmp_path, "prepare.size=[20,18]")
    rows = np.arange(len(prepared.rows))
    found = Partners(prepared, rows, 1).of(rows, np.zeros(len(rows), np.float32))
    assert len(set(found)) <= 12 and (prepared.patients(found) != prepared.patients(rows)).all()


@pytest.mark.parametrize("plane", ["axial", "whole"])
def test_pairs_of_one_patient_are_learned_and_measured(
    plane: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(itk, "methods", dict)
    size = "[20,18]" if plane == "axial" else "[4,20,18]"
    prepared = prepared_hearts(tmp_path, f"data.plane={plane}", f"prepare.size={size}", "prepare.fit=pad")
    settings = resolve(overrides=(*SMALL, "model.halvings=1", "train.images=16", "train.batch=4", "task.window=3",
                                  "task.same_patient=true", "task.refinement=0"))
    train(prepared.folder, tmp_path / "run", settings=settings)
    found = evaluate_registration(tmp_path / "run", prepared, out=tmp_path / "run", images=6, pairs=6)
    dice = found["pairs"]["numbers"][0]
    assert dice["name"] == "dice" and "another image of the patient" in dice["meaning"]
    before = next(line["value"] for line in dice["methods"] if line["method"] == "no registration")
    assert before > 0.7, "of one patient they overlap before, too"
    assert "pairs of images, both of one patient, of " in report(tmp_path / "run").read_text(encoding="utf-8")


def test_patients_with_one_image_each_are_refused(tmp_path: Path) -> None:
    prepared = prepared_hearts(tmp_path, "prepare.size=[20,18]", phases=1)
    settings = resolve(overrides=(*SMALL, "train.images=16", "task.same_patient=true"))
    with pytest.raises(SettingsError, match=r"no patient of the training has two images.*data\.patient_pattern"):
        train(prepared.folder, tmp_path / "run", settings=settings)


def test_a_folder_that_does_not_tell_slices_of_volumes_apart_is_refused(make_prepared: Make) -> None:
    folder = make_prepared(n=30)
    table = (folder / "records.csv").read_text()
    assert re.search(r",-1,1\.0$", table, re.MULTILINE), "these rows have no image's number"
    with pytest.raises(FolderError, match="older version"):
        Partners(Prepared(folder), np.arange(30), 1, same_patient=True)
