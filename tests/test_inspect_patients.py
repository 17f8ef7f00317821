"""inspect: whose images they are, where nothing or not enough says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image as Pillow
from pydicom.data import get_testdata_file

from radsynth.datasets import folder
from radsynth.settings import resolve
from radsynth.verbs.inspect import inspect
from tests.folder.examples import picture


def test_one_patient_of_many_files_is_asked_about(tmp_path: Path) -> None:
    shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "a.dcm")
    assert "data.patient_pattern finds them in the paths" in inspect(tmp_path).text()
    Pillow.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(tmp_path / "b.png")
    assert "data.patient_pattern" not in inspect(tmp_path).text()


def test_folders_of_classes_that_may_pass_for_patients_are_asked_about(tmp_path: Path) -> None:
    for name in ("one/a", "one/b", "two/c", "two/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.arange(480, dtype=np.int16).reshape(10, 12, 4), np.eye(4)),
                     tmp_path / f"{name}.nii.gz")
    (tmp_path / "labels.csv").write_text("file,label\na,ill\nb,ill\nc,well\nd,well\n", encoding="utf-8")
    found = inspect(tmp_path)
    assert found.n_patients == 2 and "data.patient_pattern='(?P<patient>[^/]+)$'" in found.text()
    given = resolve(overrides=["data.kind=folder", f"data.path={tmp_path}", "data.patient_pattern=(?P<patient>[^/]+)$"])
    found = inspect(tmp_path, settings=given)
    assert found.n_patients == 4 and "data.patient_pattern" not in found.text()


def test_folders_that_may_be_patients_are_asked_about(tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / f"Doe_{number % 12}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Pillow.fromarray(np.random.default_rng(number).integers(0, 255, (16, 16), np.uint8)).save(path)
    said = inspect(tmp_path).text()
    assert "12 classes were found, and no patients" in said
    words = ["data.kind=folder", f"data.path={tmp_path}", *said[said.index("data.labels="):].split("\n")[0].split(" ")]
    words[-1] = words[-1].replace("'", "")
    found = inspect(tmp_path, settings=resolve(overrides=words))
    assert (found.n_patients, found.labels) == (12, {}) and "classes were found" not in found.text()


def test_many_classes_of_one_file_are_no_folders(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (44, 8, 8), dtype=np.uint8)  # OrganMNIST has eleven
    labels = np.arange(44).reshape(-1, 1) % 11
    parts = {"train": slice(22), "test": slice(22, 44)}
    np.savez(tmp_path / "organmnist.npz", **{f"{name}_{what}": array[part] for name, part in parts.items()
                                             for what, array in (("images", images), ("labels", labels))})
    assert "nothing is wrong" in inspect(tmp_path / "organmnist.npz").text()


def test_patients_in_two_official_splits_are_said_before(tmp_path: Path) -> None:
    names = ("train/patient1_a", "train/patient2_a", "test/patient1_b", "test/patient2_b", "test/patient3")
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        values = np.random.default_rng(number).integers(10, 200, (16, 16), np.uint8)
        Pillow.fromarray(values).save(tmp_path / f"{name}.png")
    found = inspect(tmp_path)
    assert "prepare and run will refuse this. 2 patients are in two official splits" in found.text()
    assert not found.planned
    words = ["data.kind=folder", f"data.path={tmp_path}", "prepare.official=false"]
    assert inspect(tmp_path, settings=resolve(overrides=words)).planned


def test_names_of_several_images_of_a_patient_are_told(tmp_path: Path) -> None:
    """Four views of a patient counted as four patients, in training and test, without a word."""
    for patient in range(6):
        for view in ("L_CC", "R_CC", "L_MLO", "R_MLO"):
            picture(tmp_path / "views" / f"P{patient:03}_{view}.png", 10 * patient + len(view) + ord(view[0]))
        picture(tmp_path / "numbers" / f"2024_{patient:03}.png", patient)
    told = inspect(tmp_path / "views").text()
    assert "! 24 x its name differs from that of others in the last part alone" in told
    assert "P000" not in told.split("radsynth run would choose")[0].split("!", 1)[1]
    pattern = folder.Settings(path=tmp_path / "views", patient_pattern="(?P<patient>[^/_]+)_")
    named = inspect(pattern)
    assert named == inspect(tmp_path / "views", overrides=["data.patient_pattern=(?P<patient>[^/_]+)_"])
    assert named.n_patients == 6 and "last part alone" not in named.text()
    assert "last part alone" not in inspect(tmp_path / "numbers").text()
    each = ["data.patient_pattern=(?P<patient>P[^/]+)[.]"]  # an answer, too: each is a patient of its own
    assert "last part alone" not in inspect(tmp_path / "views", overrides=each).text()
    files = sorted((tmp_path / "views").iterdir())
    rows = ["file,patient", *(f"{file.name},{file.stem}" for file in files)]
    (tmp_path / "views" / "labels.csv").write_text("\n".join(rows))
    assert "last part alone" not in inspect(tmp_path / "views").text()
