"""Registered contrasts: layouts, names, other grids, missing ones; from an examination to a translated DICOM series."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

from radsynth.arrays import Prepared
from radsynth.datasets import Record, Rejected, at, contrasts, lidc, recognise
from radsynth.datasets._regrid import distance, onto
from radsynth.errors import DataError, FolderError, SettingsError
from radsynth.image import RGB, Image
from radsynth.io import Header, read, write
from radsynth.settings import resolve
from radsynth.verbs._inspecting.page import thumbnail
from radsynth.verbs._pairs.paired import evaluate_pairs
from radsynth.verbs.apply import apply
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from tests.written import FROM

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def volume(seed: int, space: tuple[int, ...] = (4, 20, 24), affine: Any = AFFINE, negative: bool = False) -> Image:
    """A blob on noise at a place of the patient that does not depend on the grid."""
    index = np.stack(np.meshgrid(*[np.arange(side) for side in space], indexing="ij"), -1)[..., ::-1]
    x, y, z = (index @ affine[:3, :3].T + affine[:3, 3]).transpose(3, 0, 1, 2)
    blob = 800 * np.exp(-((x - 12) ** 2 + (y - 5 - seed) ** 2 + (z - 5) ** 2) / 60)
    pixels = np.rint(900 - blob if negative else blob + 20).astype(np.uint16)
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0)[::-1].tolist())
    return Image(pixels=pixels[None], modality="MR", bits=12, spacing=spacing, affine=affine)


def found(folder: Path, **options: Any) -> tuple[list[Any], list[Rejected]]:
    rejected: list[Rejected] = []
    return list(contrasts.records(contrasts.Settings(path=folder, plane="whole", **options), rejected)), rejected


def test_the_patient_of_a_dicom_study_is_the_one_that_its_files_name(tmp_path: Path) -> None:
    """And not what its folder is called, unless a pattern of one's own says how to read it."""
    for study in ("case 1", "case 2"):
        for n, name in enumerate(("t1", "flair")):
            for path in write(volume(n), tmp_path / study / name, provenance=FROM, format="dicom"):
                dataset = pydicom.dcmread(path)
                dataset.PatientID, dataset.SeriesDescription = "one", name
                dataset.StudyInstanceUID = dataset.SeriesInstanceUID = f"1.2.{study[-1]}.{n}"
                dataset.SOPInstanceUID += f".{study[-1]}"
                dataset.save_as(path)
    for given, patients in (({}, ["one", "one"]), ({"patient_pattern": r"case (?P<patient>\d)"}, ["1", "2"])):
        records, rejected = found(tmp_path, contrasts=("t1", "flair"), **given)
        assert [record.patient for record in records] == patients and not rejected


@pytest.mark.parametrize("pattern", ["P{n}/t1.nii.gz P{n}/flair.nii.gz", "sub-0{n}_T1w.nii.gz sub-0{n}_FLAIR.nii.gz",
                                     "sub-0{n}/anat/sub-0{n}_T1w.nii.gz sub-0{n}/anat/sub-0{n}_FLAIR.nii.gz"])
def test_layouts_by_name_are_recognised(pattern: str, tmp_path: Path) -> None:
    for n in range(3):
        for k, name in enumerate(pattern.format(n=n).split()):
            write(volume(n, negative=bool(k)), tmp_path / name, provenance=FROM)
    assert recognise(tmp_path) == "contrasts"
    records, rejected = found(tmp_path)
    assert not rejected and len(records) == len({record.patient for record in records}) == 3
    image = records[0].load()
    assert image.channels == ("flair", "t1") and np.array_equal(image.pixels[1], volume(0).pixels[0])
    assert found(tmp_path, contrasts=("t1", "flair"))[0][0].load().channels == ("t1", "flair")
    assert not contrasts.matches(Path(records[0].files[0]))


def test_a_path_stays_when_settings_say_that_it_is_of_another_kind_than_it_looks(tmp_path: Path) -> None:
    write(volume(0), tmp_path / "a" / "one.nii.gz", provenance=FROM)
    assert recognise(tmp_path) == "folder"
    file, words = {"data": {"kind": "lidc"}}, ("data.kind=contrasts", "data.contrasts=[a=one,b=two]")
    for documents in ([], [file]):
        settings = resolve(*at(tmp_path, documents, words), overrides=words, sections=("data",)).section("data")
        assert isinstance(settings, contrasts.Settings) and settings.path == tmp_path
        assert settings.contrasts == ("a=one", "b=two")
    assert isinstance(resolve(*at(tmp_path, [file], ()), sections=("data",)).section("data"), lidc.Settings)
    with pytest.raises(SettingsError, match=r"(?s)data.kindd.*prepare.size"):
        words = ("data.kindd=1", "prepare.size=2")
        resolve(*at(tmp_path, [], words), overrides=words, sections=("data", "prepare"))


def test_a_run_knows_how_its_data_was_prepared_but_not_where_it_lay(tmp_path: Path) -> None:
    for n in range(3):
        for k, name in enumerate(("one", "two")):
            write(volume(n, negative=bool(k)), tmp_path / "given" / f"P{n}" / f"{name}.nii.gz", provenance=FROM)
    words = ("data.kind=contrasts", "data.contrasts=[a=one,b=two]", "data.plane=coronal", "prepare.size=[8,24]")
    settings = resolve(*at(tmp_path / "given", [], words), overrides=words, sections=("data", "prepare"))
    data = prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1)
    train(data.folder, tmp_path / "run", settings=resolve(overrides=(
        "task.kind=translate", "task.inputs=[a]", "task.outputs=[b]", "model.width=8", "train.images=16",
        "train.batch=8", "train.previews=0")))
    kept = (tmp_path / "run" / "settings.yaml").read_text(encoding="utf-8")
    assert "plane: coronal" in kept and "a=one" in kept
    assert str(tmp_path) not in kept + (data.folder / "manifest.json").read_text(encoding="utf-8")
    assert apply(tmp_path / "run", tmp_path / "given", tmp_path / "out", resample=True).count == 3


def test_another_grid_is_brought_onto_the_first_and_an_unknown_place_names_both_files(tmp_path: Path) -> None:
    other = np.array([[0.8, 0, 0, -2], [0, 1.25, 0, -3], [0, 0, 2.0, -2], [0, 0, 0, 1]])
    write(volume(0), tmp_path / "a" / "t1.nii.gz", provenance=FROM)
    write(volume(0, (8, 26, 40), other, negative=True), tmp_path / "a" / "t2.nii.gz", provenance=FROM)
    records, _ = found(tmp_path, contrasts=("t1", "t2"))
    image = records[0].load()
    inner = (slice(None), slice(2, -2), slice(2, -2))
    difference = np.abs(image.pixels[1].astype(float) - volume(0, negative=True).pixels[0])[inner]
    assert difference.mean() < 12 and difference.max() < 60, "1.5 and 7 percent of the range"
    np.save(tmp_path / "a" / "t2.npy", volume(0, (8, 26, 40)).pixels[0])
    (tmp_path / "a" / "t2.nii.gz").unlink()
    with pytest.raises(DataError, match=r"a/t2.npy has 8x26x40 pixels and a/t1.nii.gz 4x20x24"):
        found(tmp_path, contrasts=("t1", "t2"))[0][0].load()
    (tmp_path / "a" / "t2.npy").unlink()
    far = other.copy()
    far[:3, 3] = 500
    write(volume(0, (8, 26, 40), other).replace(affine=far), tmp_path / "a" / "t2.nii.gz", provenance=FROM)
    with pytest.raises(DataError, match=r"a/t2.nii.gz lies beside a/t1.nii.gz"):
        found(tmp_path, contrasts=("t1", "t2"))[0][0].load()


@pytest.mark.parametrize("pattern", ["P{n}/{name}.nii.gz", "sub-0{n}_{name}.nii.gz"])
def test_masks_lie_beside_contrasts_and_on_their_grid(pattern: str, tmp_path: Path) -> None:
    other = np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    for n in range(3):
        write(volume(n), tmp_path / pattern.format(n=n, name="t1"), provenance=FROM)
        write(volume(n, negative=True), tmp_path / pattern.format(n=n, name="t2"), provenance=FROM)
        fine = volume(n, (4, 40, 48), other) if n == 1 else volume(n)
        labels = np.where(fine.pixels > 400, 7, 0).astype(np.uint8)
        if n < 2:  # the last patient has none
            write(fine.replace(pixels=labels, modality="OT", bits=8), tmp_path / pattern.format(n=n, name="seg"),
                  provenance=FROM)
    lonely = volume(9).replace(pixels=labels, modality="OT", bits=8)
    write(lonely, tmp_path / pattern.format(n=9, name="seg"), provenance=FROM)
    records, rejected = found(tmp_path, contrasts=("t1", "t2"))
    assert [line.reason for line in rejected] == ["a mask without contrasts of its name"] and len(records) == 3
    assert [len(record.masks) for record in records] == [1, 1, 0]
    for record, n in zip(records, range(2), strict=False):
        mask = record.load().mask
        assert mask is not None and set(np.unique(mask)) == {0, 7} and mask.shape == (4, 20, 24)
        assert ((mask == 7) == (volume(n).pixels[0] > 400)).mean() > 0.98
    words = ("data.contrasts=[t1,t2]", "data.kind=contrasts")
    settings = resolve(*at(tmp_path, [], words), overrides=words, sections=("data", "prepare"))
    prepared = prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1)
    assert prepared.spec.mask_values == (0, 7) and prepared.spec.channels == ("t1", "t2") and len(prepared.rows) == 8
    words = (*words, "data.unmasked=keep")
    settings = resolve(*at(tmp_path, [], words), overrides=words, sections=("data", "prepare"))
    assert len(prepare(settings.section("data"), tmp_path / "all", settings=settings, workers=1).rows) == 12


def test_what_is_left_out_is_told_with_the_contrasts_that_are_looked_for(tmp_path: Path) -> None:
    for name in ("t1", "t2", "flair"):
        write(volume(0), tmp_path / "P0" / f"{name}.nii.gz", provenance=FROM)
    records, rejected = found(tmp_path, contrasts=("t1", "t2"))
    assert len(records) == 1
    assert [line.reason for line in rejected] == ["it is none of the contrasts t1, t2"] and rejected[0].skipped


def test_missing_contrasts_are_blank_or_refused(tmp_path: Path) -> None:
    for n in range(3):
        write(volume(n), tmp_path / f"P{n}" / "t1.nii.gz", provenance=FROM)
        if n:
            write(volume(n, negative=True), tmp_path / f"P{n}" / "t2.nii.gz", provenance=FROM)
    records, rejected = found(tmp_path)
    assert len(records) == 3 and not rejected and np.ptp(records[0].load().pixels[1]) == 0
    records, rejected = found(tmp_path, missing="reject")
    assert len(records) == 2 and rejected[0].reason == "its examination lacks t2" and rejected[0].path == "P0/t1.nii.gz"
    with pytest.raises(DataError, match="names found: t1"):
        found(tmp_path / "P0")
    with pytest.raises(DataError, match=r"none of the contrasts flair, pd: the name of a file .*\[flair=REG"):
        found(tmp_path, contrasts=("flair", "pd"))
    with pytest.raises(SettingsError, match="no regular expression"):
        found(tmp_path, contrasts=("t1=(", "t2"))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_a_missing_contrast_of_ct_is_air_whatever_its_files_can_hold(dtype: Any, tmp_path: Path) -> None:
    for name in ("P0/a.nii.gz", "P0/b.nii.gz", "P1/a.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = (volume(0).pixels[0] // 8).astype(dtype)
        nibabel.save(nibabel.Nifti1Image(pixels, AFFINE), tmp_path / name)
    records, rejected = found(tmp_path, contrasts=("a=^a", "b=^b"), modality="CT")
    assert not rejected
    assert {record.header.units for record in records if record.header} == {"HU"}
    both, one = (record.load() for record in records)
    assert both.units == one.units == "HU" and both.pixels.dtype == dtype and both.pixels.min() >= 0
    assert np.array_equal(one.pixels[0], both.pixels[0]) and np.all(one.pixels[1] == -32768)


def test_results_say_which_of_the_given_contrasts_was_missing(tmp_path: Path) -> None:
    for n in range(3):
        for name in ("t1", "t2", "flair")[:3 if n else 2]:
            write(volume(n), tmp_path / "in" / f"P{n}" / f"{name}.nii.gz", provenance=FROM)
    given = {"kind": "contrasts", "path": str(tmp_path / "in"), "contrasts": ["t1", "t2", "flair"]}
    settings = resolve({"data": given}, overrides=["prepare.size=[16,16]"], sections=("data", "prepare"))
    data = prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1)
    run = trained(tmp_path, data, "data.contrasts=[t1,t2,flair]", "task.inputs=[t1,flair]", "task.outputs=[t2]",
                  "task.missing=0.5")
    apply(run, tmp_path / "in", tmp_path / "out", resample=True)
    with (tmp_path / "out" / "samples.csv").open(encoding="utf-8", newline="") as file:
        assert [row["missing"] for row in csv.DictReader(file)] == ["flair", "", ""]


def test_what_lacks_the_truth_or_the_given_is_neither_learned_nor_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(9):
        write(volume(n), tmp_path / "in" / f"P{n}" / "t1.nii.gz", provenance=FROM)
        if n % 3:
            write(volume(n, negative=True), tmp_path / "in" / f"P{n}" / "t2.nii.gz", provenance=FROM)
    document = {"data": {"kind": "contrasts", "path": str(tmp_path / "in"), "contrasts": ["t1", "t2"]}}
    given = resolve(document, overrides=["prepare.size=[16,16]", "prepare.fit=patches", "prepare.train=0.4",
                                         "prepare.validation=0"], sections=("data", "prepare"))
    data = prepare(given.section("data"), tmp_path / "data", settings=given, workers=1)
    rows = data.indices("test")
    there = int((data.images(rows)[:, 1].reshape(len(rows), -1).max(1) > -1).sum())
    run = trained(tmp_path, data)
    assert 0 < there < len(rows) and evaluate_pairs(run, data)["pairs"]["images"] == there
    back = trained(tmp_path / "back", data, "task.inputs=[t2]")
    assert evaluate_pairs(back, data)["pairs"]["images"] == there, "apply refuses what lacks T2"
    indices = Prepared.indices
    monkeypatch.setattr(Prepared, "indices", lambda self, split: indices(self, split)[:1 if split == "train" else None])
    (refused,) = evaluate_pairs(run, data)["refused"]
    assert "all of t1, t2, which is too few" in refused["reason"], "nothing to fit the other methods on"


def translator_of_virtual_patients(folder: Path, contrasts: str, sides: str) -> None:
    given = resolve(overrides=["data.kind=brain", "data.patients=6", "data.slices=2", f"data.contrasts=[{contrasts}]",
                               "prepare.size=[16,16]"], sections=("data", "prepare"))
    data = prepare(given.section("data"), folder / "data", settings=given, workers=1)
    train(data.folder, folder / "run", settings=resolve(overrides=[
        "task.kind=translate", sides, "train.images=8", "train.batch=8", "model.width=4",
        "model.discriminator_width=4", "train.previews=0"]))


def test_a_run_of_virtual_patients_takes_examinations_and_one_file_is_not_enough(tmp_path: Path) -> None:
    translator_of_virtual_patients(tmp_path, "t1,t2,flair", "task.outputs=[flair]")
    for name in ("t1", "t2"):
        write(volume(0), tmp_path / "in" / "P0" / f"{name}.nii.gz", provenance=FROM)
    assert apply(tmp_path / "run", tmp_path / "in", tmp_path / "out", resample=True).count == 1
    with pytest.raises(DataError, match=r"expects t1, t2\. Give a folder that holds a file of each"):
        apply(tmp_path / "run", tmp_path / "in" / "P0" / "t1.nii.gz", tmp_path / "no", resample=True)


def test_results_lie_on_the_grid_of_what_was_given_though_the_truth_lies_beside_it(tmp_path: Path) -> None:
    translator_of_virtual_patients(tmp_path, "flair,t1", "task.inputs=[t1]")
    fine = volume(0)
    write(fine, tmp_path / "in" / "P0" / "t1.nii.gz", provenance=FROM)
    coarse = np.diag([2.0, 2.0, 3.0, 1.0])
    write(volume(0, (4, 10, 12), coarse), tmp_path / "in" / "P0" / "flair.nii.gz", provenance=FROM)
    apply(tmp_path / "run", tmp_path / "in", tmp_path / "out", resample=True)
    with (tmp_path / "out" / "samples.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    made = read(tmp_path / "out" / row["file"])
    assert row["source"] == "P0/t1.nii.gz" and made.space == fine.space and np.allclose(made.affine, fine.affine)


def trained(folder: Path, data: Prepared, *overrides: str) -> Path:
    settings = resolve({"data": {"kind": "contrasts", "path": "x", "contrasts": ["t1=T1pre", "flair=FLAIR"]}},
                       overrides=["task.kind=translate", "train.images=64", "train.batch=8", "model.width=4",
                                  "model.discriminator_width=4", "train.previews=0", "train.precision=32-true",
                                  *overrides])
    train(data.folder, folder / "run", settings=settings)
    return folder / "run"


def test_visits_share_their_patient(tmp_path: Path) -> None:
    contrasts.example(tmp_path)
    for number, visit in enumerate(("visit1", "visit2")):
        (tmp_path / "P9" / visit).mkdir(parents=True)
        for file in (tmp_path / f"P{number}").iterdir():
            shutil.copy(file, tmp_path / "P9" / visit)
    records = list(contrasts.records(contrasts.Settings(path=tmp_path, plane="volume"), []))
    assert [record.patient for record in records] == ["P0", "P1", "P2", "P9", "P9"]


def test_labels_end_where_their_image_ends() -> None:
    """Not with the lowest label, which may be one that fills the whole image."""
    small, large = (Image(pixels=np.full((1, side, side, side), side == 4, np.uint8), affine=np.diag([2.0, 2, 2, 1]))
                    for side in (4, 6))
    assert onto(small, large, "mask", "image", labels=True).pixels.sum() == 4**3


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("off", [1e-6, -1e-6, 0.4])
def test_outermost_pixels_reach_half_a_step_beyond_their_middles(off: float, labels: bool) -> None:
    """Places of two headers differ in their last digits, which cost a whole slice at the end of an image."""
    place = np.diag([2.0, 2, 2, 1])
    fine = Image(pixels=np.full((1, 4, 8, 8), 9, np.uint8), affine=place @ np.diag([0.5, 0.5, 1, 1]))
    fine.pixels[0, 0, 0, 0] = 1
    coarse = Image(pixels=np.zeros((1, 4, 4, 4), np.uint8), affine=place.copy())
    coarse.affine[:3, 3] = (off, 0, off)  # type: ignore[index]
    assert (onto(fine, coarse, "mask", "image", labels=labels).pixels > 4).sum() >= 63


def test_images_that_share_two_corners_alone_are_not_on_one_grid() -> None:
    """Turned about the line between the first and the last pixel, which stay where they are."""
    cube = Image(pixels=np.zeros((1, 5, 5, 5), np.uint8), spacing=(1, 1, 1), affine=np.eye(4))
    turned = cube.replace(affine=np.eye(4)[[1, 2, 0, 3]])
    assert distance(cube, cube) == 0 and distance(cube, turned) == 4


@pytest.mark.parametrize(("name", "series", "found"), [
    ("P1/t2.nii.gz", None, "t2"), ("x_T1w.nii.gz", None, "t1"), ("scan.nii.gz", None, None),
    ("x_dwi.nii.gz", None, None),
    ("0001.dcm", "T2 TSE tra", "t2"), ("t2.dcm", "localizer", None), ("0001.dcm", "T1 and T2", None),
    ("0001.dcm", "tirm dark", "flair"), ("t2.dcm", None, None),
])
def test_a_file_says_which_contrast_it_is(name: str, series: str | None, found: str | None) -> None:
    header = Header(format="dicom" if name.endswith(".dcm") else "nifti", size=(4, 4), series=series)
    assert contrasts.called(name, header, ("t1", "t2", "flair=dark")) == found


def test_another_contrast_of_the_training_is_not_taken_for_the_given_one(tmp_path: Path) -> None:
    """A T2 volume went through a network for T1 without a word, if it was given alone."""
    (tmp_path / "in").mkdir()
    given = {"kind": "contrasts", "path": str(contrasts.example(tmp_path / "in").path), "contrasts": ["t1", "flair"]}
    settings = resolve({"data": given},
                       overrides=["prepare.size=[16,16]"], sections=("data", "prepare"))
    run = trained(tmp_path, prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1))
    one = tmp_path / "in" / "P0"
    with pytest.raises(DataError, match=r"flair\.nii\.gz: by its name or series it is flair; the run expects t1"):
        apply(run, one / "flair.nii.gz", tmp_path / "no")
    assert apply(run, one / "t1.nii.gz", tmp_path / "out", resample=True).unchecked == ("contrast", "modality")
    shutil.copy(one / "t1.nii.gz", tmp_path / "T1pre.nii.gz")  # as the run's settings call it
    assert apply(run, tmp_path / "T1pre.nii.gz", tmp_path / "named", resample=True).unchecked == ("modality",)
    (tmp_path / "other").mkdir()
    shutil.copy(one / "flair.nii.gz", tmp_path / "other")
    shutil.copy(one / "t1.nii.gz", tmp_path / "other" / "t2.nii.gz")
    with pytest.raises(DataError, match=r"holds none of the contrasts t1.* It holds flair, t2\. .* --contrast 't1=REG"):
        apply(run, tmp_path / "other", tmp_path / "no")
    found = apply(run, tmp_path / "other", tmp_path / "told", resample=True, contrasts=["t1=^t2$"])
    assert found.count == 1 and found.unchecked == ("modality",)
    again = apply(run, tmp_path / "other", tmp_path / "told", resample=True, contrasts=["t1=^t2$"])
    assert again.count == 1
    with pytest.raises(FolderError, match=r"holds other results \(contrasts \['t1=.* there, \['t1=t2'\] now"):
        apply(run, tmp_path / "other", tmp_path / "told", resample=True, contrasts=["t1=t2"])
    for wrong in ("t1", "T1w=x", "=x"):
        with pytest.raises(SettingsError, match=rf"--contrast {wrong}: give a contrast .*\(t1, flair\) and a regular"):
            apply(run, tmp_path / "other", tmp_path / "no", contrasts=[wrong])
    with pytest.raises(SettingsError, match="no regular expression"):
        apply(run, tmp_path / "other", tmp_path / "no", contrasts=["t1=("])


def test_a_dicom_study_becomes_channels_and_a_translated_series(shared_data: Path, tmp_path: Path) -> None:
    """One patient only, so nothing is measured: geometry, names and marks are what counts."""
    study = shared_data / "brain_dicom" / "Study3"
    settings = resolve({"data": {"kind": "contrasts", "path": str(study), "contrasts": ["t1=T1pre", "flair=FLAIR"]}},
                       overrides=["prepare.size=[64,64]", "prepare.fit=patches", "prepare.patches=4"],
                       sections=("data", "prepare"))
    data = prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1)
    assert data.spec.channels == ("t1", "flair") and data.spec.spacing == (0.6875, 0.6875)
    run = trained(tmp_path, data)
    only = tmp_path / "given"
    shutil.copytree(next(study.glob("*T1pre*")), only / "T1pre")
    apply(run, only, tmp_path / "out")
    with (tmp_path / "out" / "samples.csv").open(encoding="utf-8", newline="") as file:
        files = [tmp_path / "out" / row["file"] for row in csv.DictReader(file)]
    made, source = read(files[0].parent), read(only / "T1pre")
    made, source = (one[0] if isinstance(one, list) else one for one in (made, source))
    assert isinstance(made, Image) and isinstance(source, Image) and made.space == source.space == (22, 320, 280)
    assert made.affine is not None and np.allclose(made.affine, source.affine, atol=1e-3)
    if shutil.which("dciodvfy"):
        for file in files:
            said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False).stderr
            errors = [line for line in said.splitlines() if line.startswith("Error")]
            assert all("(0x0008,0x001c)" in line for line in errors), said  # Synthetic Data, newer than this checker
    assert json.loads((tmp_path / "out" / "apply.json").read_text())["count"] == 1


def test_of_several_contrasts_one_is_shown_and_named() -> None:
    """As red, green and blue three of them would be a picture that nobody can read."""
    pixels = np.stack([np.full((8, 8), k) for k in (0, 128, 255)]).astype(np.uint8)
    pixels[:, 0] = np.arange(8)
    record = Record(source="a", load=lambda: Image(pixels=pixels), label="healthy", patient="p")
    for channels, mode, caption in ((("t1", "t2", "flair"), "L", "a (healthy, t1)"), (RGB, "RGB", "a (healthy)")):
        found = thumbnail(record, Image(pixels=pixels, channels=channels))
        assert Picture.open(BytesIO(found.png)).mode == mode and found.caption == caption
