"""nnU-Net's and the Decathlon's layout: numbered channels, four-dimensional files, masks, patients, test images."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from radsynth.datasets import Record, Rejected, recognise
from radsynth.datasets.nnunet import Settings, example, records
from radsynth.errors import DataError, RejectedFile
from radsynth.io import nifti
from radsynth.verbs.inspect import inspect


def found(path: Path, **settings: Any) -> tuple[list[Record], list[Rejected]]:
    rejected: list[Rejected] = []
    return list(records(Settings(path=path, **settings), rejected)), rejected


def test_numbered_files_are_channels_with_their_names_and_masks(tmp_path: Path) -> None:
    example(tmp_path)
    assert recognise(tmp_path) == "nnunet"
    volumes, rejected = found(tmp_path, plane="volume")
    assert len(volumes) == 3 and not rejected and len({record.patient for record in volumes}) == 3
    image = volumes[0].load()
    assert image.channels == ("t1", "flair") and image.modality == "MR" and image.mask is not None
    assert image.mask.sum() == 6 * 8 * 5 and volumes[0].mask_names == {0: "background", 1: "tumour"}
    for number, channel in enumerate(image.pixels):
        file = tmp_path / "imagesTr" / f"case_000_{number:04d}.nii.gz"
        np.testing.assert_array_equal(channel, nifti.read(file).pixels[0])
    slices, _ = found(tmp_path)
    assert len(slices) == 15 and slices[0].header is not None and slices[0].header.channels == 2
    np.testing.assert_array_equal(slices[7].load().pixels, volumes[1].load().pixels[:, 2])


def test_what_lies_beside_the_numbered_files_costs_no_case(tmp_path: Path) -> None:
    """With unmasked=keep every channel was a case of its own, without its mask."""
    example(tmp_path)
    (tmp_path / "imagesTr" / ".DS_Store").write_bytes(b"x")
    volumes, rejected = found(tmp_path, plane="volume", unmasked="keep")
    assert len(volumes) == 3 and all(volume.masks for volume in volumes)
    assert [line.path for line in rejected] == ["imagesTr/.DS_Store"] and rejected[0].skipped
    assert [line.skipped for line in found(tmp_path)[1]] == [True], "what is no image lacks no mask"


def test_the_decathlons_fourth_dimension_holds_channels(tmp_path: Path) -> None:
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    values = rng.integers(0, 500, (20, 24, 6, 4)).astype(np.int16)
    place = np.diag([2.0, 2, 2, 1])
    for name in ("imagesTr/BRATS_001", "imagesTr/BRATS_002", "imagesTs/BRATS_003"):
        nibabel.save(nibabel.Nifti1Image(values, place), tmp_path / f"{name}.nii.gz")
    for name in ("BRATS_001", "BRATS_002"):
        nibabel.save(nibabel.Nifti1Image((values[..., 0] > 250).astype(np.uint8), place),
                     tmp_path / "labelsTr" / f"{name}.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(
        {"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}, "labels": {"0": "background", "1": "x"}}))
    volumes, rejected = found(tmp_path, plane="volume")
    assert [line.path for line in rejected] == ["imagesTs/BRATS_003.nii.gz"] and rejected[0].skipped
    image = volumes[0].load()
    assert image.channels == ("flair", "t1", "t1gd", "t2") and image.modality == "MR" and image.spacing == (2, 2, 2)
    for number in range(4):
        alone = tmp_path / f"{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values[..., number], place), alone)
        np.testing.assert_array_equal(image.pixels[number], nifti.read(alone).pixels[0])
    np.testing.assert_array_equal(image.mask, image.pixels[0] > 250)
    assert volumes[0].mask_names == {0: "background", 1: "x"}
    assert len(found(tmp_path, plane="volume", unmasked="keep")[0]) == 3
    with pytest.raises(RejectedFile, match="Split time points"):
        nifti.read(tmp_path / "imagesTr/BRATS_001.nii.gz")


def test_one_channel_as_the_decathlon_packs_it(tmp_path: Path) -> None:
    task = tmp_path / "Task09_Spleen"
    (task / "imagesTr").mkdir(parents=True)
    values = np.random.default_rng(0).integers(-1000, 500, (20, 24, 6)).astype(np.int16)
    for number in (2, 3):
        nibabel.save(nibabel.Nifti1Image(values + number, np.eye(4)), task / "imagesTr" / f"spleen_{number}.nii.gz")
    (task / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}}))
    with tarfile.open(tmp_path / "Task09_Spleen.tar", "w") as archive:
        archive.add(task, "Task09_Spleen")
    (tmp_path / "packed").mkdir()
    shutil.copy(tmp_path / "Task09_Spleen.tar", tmp_path / "packed")
    for path in (tmp_path / "Task09_Spleen.tar", task, tmp_path / "packed"):
        assert recognise(path) == "nnunet"
        volumes, _ = found(path, plane="volume")
        assert len(volumes) == 2 and volumes[0].header is not None
        assert (volumes[0].header.modality, volumes[0].header.units) == ("CT", "HU")
        assert volumes[0].load().units == "HU" and volumes[0].load().channels == ("grey",)


def test_several_data_sets_and_other_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    example(tmp_path / "one")
    assert recognise(tmp_path) == "nnunet" and not found(tmp_path)[1]
    shutil.copytree(tmp_path / "one/imagesTr", tmp_path / "one/imagesVa")  # as AMOS has it
    (line,) = found(tmp_path)[1]
    assert (line.path, line.skipped) == ("imagesVa", True) and "nothing is used" in line.reason
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with pytest.raises(DataError, match=r"holds 2 data sets \(one, two\): give"):
        found(tmp_path)


def test_cases_of_one_patient_and_cases_that_lack_a_channel(tmp_path: Path) -> None:
    example(tmp_path)
    for file in [*tmp_path.glob("imagesTr/*"), *tmp_path.glob("labelsTr/*")]:
        number = int(file.name[5:8])
        file.rename(file.with_name(f"patient{number // 2:03d}_frame{number}{file.name[8:]}"))
    (tmp_path / "imagesTr" / "patient001_frame2_0001.nii.gz").unlink()
    volumes, rejected = found(tmp_path, plane="volume")
    assert [record.patient for record in volumes] == ["patient000"] * 2
    assert [line.reason for line in rejected] == ["its case lacks flair"]


def test_learn2regs_masks_have_numbers_and_its_pairs_are_asked_about(tmp_path: Path) -> None:
    """OASIS_0001_0000 in labelsTr was no mask of OASIS_0001_0000; two scans of a patient counted as two without a
    word."""
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}}))
    rng = np.random.default_rng(0)
    for folder, top in (("imagesTr", 500), ("labelsTr", 3)):
        (tmp_path / folder).mkdir()
        for patient in range(4):
            values = rng.integers(0, top, (20, 24, 6)).astype(np.uint16)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / folder / f"L_{patient:04d}_0000.nii.gz")
    volumes, rejected = found(tmp_path, plane="volume")
    assert len(volumes) == 4 and not rejected and all(volume.masks for volume in volumes)
    told = "in the last part alone"
    assert told not in inspect(Settings(path=tmp_path)).text()
    for folder in ("imagesTr", "labelsTr"):
        for patient in range(4):
            first = tmp_path / folder / f"L_{patient:04d}_0000.nii.gz"
            shutil.copy(first, first.with_name(f"L_{patient:04d}_0001.nii.gz"))
    assert told in inspect(Settings(path=tmp_path)).text()
    named = inspect(Settings(path=tmp_path, patient_pattern=r"(?P<patient>L_\d+)_"))
    assert told not in named.text() and named.n_patients == 4
    each = inspect(Settings(path=tmp_path, patient_pattern=r"(?P<patient>L_\d+_\d+)"))
    assert told not in each.text() and each.n_patients == 8


def test_channels_of_one_name_are_numbered(tmp_path: Path) -> None:
    example(tmp_path)
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "channel_names": {"0": "T1", "1": "T1w"}}))
    assert found(tmp_path, plane="volume")[0][0].load().channels == ("t1_0", "t1_1")


@pytest.mark.parametrize("text", [
    "{", "[1]", "{}", '{"channel_names": {"a": "b"}}', '{"channel_names": 3}', '{"modality": {}}'])
def test_a_description_that_does_not_name_the_channels(text: str, tmp_path: Path) -> None:
    example(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match="does not name the channels"):
        found(tmp_path)
    assert len(found(tmp_path, channels=("a", "b"), plane="volume")[0]) == 3
