"""Label maps as DICOM segmentations: read back as they were, marked, the same file again, valid, and of nobody."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from radsynth import io
from radsynth.errors import CannotHold
from radsynth.image import Image
from radsynth.io._dicom_structures import labels_on, structures
from tests.structures import scan, truth, volume

NAMES = {1: "Liver", 7: "label 7"}
VALUES = {"liver": 1, "label 7": 7}
FROM = io.Provenance(model="unet", weights="ab" * 32, seed=3, index=4, source="cd" * 32)


def labelled(folder: Path, degrees: float = 0) -> tuple[Image, Image]:
    """A scan as it is read, and its label map."""
    scan(folder / "CT", degrees)
    (image,) = io.read(folder / "CT")  # type: ignore[misc]
    return image, image.replace(pixels=truth(image, tumour=7)[None], channels=("mask",), units="stored", bits=8)


@pytest.mark.parametrize("degrees", [0, 100])
def test_a_label_map_is_read_back_as_it_was(degrees: float, tmp_path: Path) -> None:
    image, labels = labelled(tmp_path, degrees)
    files = io.write_labels(labels, tmp_path / "seg.dcm", provenance=FROM, format="dicom", names=NAMES)
    back, regridded = labels_on(files, VALUES, image)
    assert not regridded and np.array_equal(back, labels.pixels[0]) and set(np.unique(back)) == {0, 1, 7}
    empty = labels.replace(pixels=np.zeros_like(labels.pixels))
    files = io.write_labels(empty, tmp_path / "empty.dcm", provenance=FROM, format="dicom", names=NAMES)
    assert not labels_on(files, VALUES, image)[0].any()


@pytest.mark.parametrize("referring", [True, False])
def test_names_may_be_in_any_language(referring: bool, tmp_path: Path) -> None:
    """Two that were written as ?? would be one label."""
    image, labels = labelled(tmp_path)
    names = {1: "Größe", 7: "肝臓"}
    of = sorted((tmp_path / "CT").iterdir()) if referring else []
    files = io.write_labels(labels, tmp_path / "seg.dcm", provenance=FROM, format="dicom", names=names, of=of)
    assert structures(files[0]).names == {1: "Größe", 2: "肝臓"}
    assert np.array_equal(labels_on(files, {"grösse": 1, "肝臓": 7}, image)[0], labels.pixels[0])


def test_it_says_that_it_is_synthetic_and_nothing_of_the_source(tmp_path: Path) -> None:
    image, labels = labelled(tmp_path)
    (file,) = io.write_labels(labels, tmp_path / "seg.dcm", provenance=FROM, format="dicom", names=NAMES)
    dataset, source = pydicom.dcmread(file), pydicom.dcmread(tmp_path / "CT" / "0001.dcm")
    assert dataset.SyntheticData == "YES" and dataset.Modality == "SEG" and "SYNTHETIC" in dataset.SeriesDescription
    assert dataset.FrameOfReferenceUID == image.frame == source.FrameOfReferenceUID
    own = structures(file)
    assert not own.series and set(own.names.values()) == set(NAMES.values())
    words = repr(dataset)
    assert not any(str(source[name].value) in words for name in (
        "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    (again,) = io.write_labels(labels, tmp_path / "again.dcm", provenance=FROM, format="dicom", names=NAMES)
    assert again.read_bytes() == file.read_bytes()


def test_of_a_synthetic_image_it_refers_to_its_files(tmp_path: Path) -> None:
    files, image = scan(tmp_path / "CT", 100), volume(100)
    labels = image.replace(pixels=truth(image, tumour=7)[None], channels=("mask",))
    (file,) = io.write_labels(labels, tmp_path / "seg.dcm", provenance=FROM, format="dicom", names=NAMES, of=files)
    source = pydicom.dcmread(files[0])
    own = structures(file)
    assert own.series == {source.SeriesInstanceUID} and own.patient == source.PatientID.casefold()
    (back,) = io.read(tmp_path / "CT")  # type: ignore[misc]
    assert np.array_equal(labels_on([file], VALUES, back)[0], truth(back, tumour=7))
    with pytest.raises(CannotHold, match="6 slices of a mask are not those of 5"):
        io.write_labels(labels, file, provenance=FROM, format="dicom", names=NAMES, of=files[1:])


@pytest.mark.parametrize("modality", ["DX", "OT", "MR"])
def test_pictures_have_segmentations_too_where_they_are_files(modality: str, tmp_path: Path) -> None:
    picture = Image(pixels=np.arange(24 * 20, dtype=np.uint16).reshape(1, 24, 20), modality=modality, spacing=(.2, .2))
    files = io.write(picture, tmp_path / "image.dcm", provenance=FROM, format="dicom")
    labels = picture.replace(pixels=(picture.pixels > 300).astype(np.uint8) * 7, channels=("mask",))
    written = io.write_labels(labels, tmp_path / "seg.dcm", provenance=FROM, format="dicom", names=NAMES, of=files)
    image = io.read(files[0])
    assert isinstance(image, Image) and np.array_equal(labels_on(written, VALUES, image)[0], labels.pixels[0])
    if shutil.which("dciodvfy"):
        _is_valid(written[0])
    with pytest.raises(CannotHold, match="needs a place"):
        io.write_labels(labels, tmp_path / "seg.dcm", provenance=FROM, format="dicom", names=NAMES)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("referring", [True, False])
def test_dciodvfy_finds_no_error(referring: bool, tmp_path: Path) -> None:
    _, labels = labelled(tmp_path)
    of = sorted((tmp_path / "CT").iterdir()) if referring else []
    (file,) = io.write_labels(labels, tmp_path / "seg.dcm", provenance=FROM, format="dicom", names=NAMES, of=of)
    _is_valid(file)


def _is_valid(file: Path) -> None:
    said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False).stderr
    errors = [line for line in said.splitlines() if line.startswith("Error") and "(0x0008,0x001c)" not in line]
    assert not errors and "Segmentation" in said
