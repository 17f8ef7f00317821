"""DICOM files that radsynth writes: marked, standard, and with nothing of a source in them."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from radsynth import io
from radsynth.errors import DataError
from radsynth.image import Image
from radsynth.verbs.push import push
from tests.io.dicom_files import PROVENANCE, series, shipped
from tests.io.files import one


def test_nothing_of_a_source_is_in_what_is_written(tmp_path: Path) -> None:
    source = pydicom.dcmread(shipped("CT_small.dcm"))
    [path] = io.write(one(shipped("CT_small.dcm")), tmp_path / "a.dcm", provenance=PROVENANCE)
    written = pydicom.dcmread(path)
    uids = {str(e.value) for e in source.iterall() if e.VR == "UI"} - {source.SOPClassUID}
    assert not uids & {str(e.value) for e in written.iterall() if e.VR == "UI"}
    assert written.DeidentificationMethod == "Synthetic image: not acquired from a patient", "a copy does show one"
    assert "not acquired from a patient" in written.ImageComments and "no patient" not in str(written)
    assert written.PatientName == "SYNTHETIC^2" and written.PatientID.startswith("SYNTHETIC-")
    assert not written.StudyDate and not [e for e in written.iterall() if e.VR in ("DA", "TM", "DT") and e.value]


def test_what_is_derived_of_an_image_promises_nothing_of_its_patient(tmp_path: Path) -> None:
    """A denoised image shows the patient, and the text that was drawn into the pixels."""
    derived = replace(PROVENANCE, source="ef" * 32)
    [path] = io.write(one(shipped("CT_small.dcm")), tmp_path / "a.dcm", provenance=derived)
    written = pydicom.dcmread(path)
    assert written.SyntheticData == "YES" and "IN PART" in written.SeriesDescription
    assert written.PatientIdentityRemoved == "NO" and "BurnedInAnnotation" not in written
    assert "DeidentificationMethod" not in written and "may show the patient" in written.ImageComments
    with pytest.raises(DataError, match="derived from an image and may show its patient"):
        push(tmp_path, "https://pacs.example/dicom-web")


def test_contrasts_made_of_one_image_are_two_series_of_one_patient(tmp_path: Path) -> None:
    """A viewer lays them side by side and on each other, and its list of series says which is which."""
    derived, image = replace(PROVENANCE, source="ef" * 32), one(shipped("MR_small.dcm"))
    written = [pydicom.dcmread(io.write(image.replace(pixels=image.pixels // step, channels=(name,)),
                                        tmp_path / f"{step}.dcm", provenance=derived)[0])
               for name, step in (("flair", 1), ("t2", 1), ("t1\\\xe4" + 90 * "x", 2))]
    for field in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({str(dataset[field].value) for dataset in written}) == 1, field
    for field in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({str(dataset[field].value) for dataset in written}) == 3, field
    told = [dataset.SeriesDescription for dataset in written]
    assert told[:2] == [f"SYNTHETIC IN PART: {name}, made by radsynth" for name in ("flair", "t2")]
    assert told[2] == f"SYNTHETIC IN PART: t1  {22 * 'x'}, made by radsynth" and len(told[2]) <= 64


def test_only_what_is_derived_from_an_image_at_its_place_shares_its_frame_of_reference(tmp_path: Path) -> None:
    image, derived = one(shipped("MR_small.dcm")), replace(PROVENANCE, source="ef" * 32)
    own = pydicom.dcmread(shipped("MR_small.dcm")).FrameOfReferenceUID

    def written(some: Image, provenance: io.Provenance) -> str:
        dataset = pydicom.dcmread(io.write(some, tmp_path / "a.dcm", provenance=provenance)[0])
        return str(dataset.FrameOfReferenceUID)

    assert image.frame == own == written(image, derived)
    assert own not in (written(image, PROVENANCE), written(image.replace(affine=None), derived))
    dataset = pydicom.dcmread(shipped("MR_small.dcm"))
    for odd in ("", "1.2.x", "1.02.3", "1" + 40 * ".2"):
        with warnings.catch_warnings(action="ignore"):
            dataset["FrameOfReferenceUID"]._value = odd
            dataset.save_as(tmp_path / "odd.dcm")
        assert one(tmp_path / "odd.dcm").frame == ""


def test_two_images_of_one_seed_and_number_are_two_patients(tmp_path: Path) -> None:
    """Of two classes or truncations: a PACS that had the one would never be sent the other."""
    image = one(shipped("CT_small.dcm"))
    written = [pydicom.dcmread(io.write(some, tmp_path / name / "000000.dcm", provenance=PROVENANCE)[0])
               for name, some in (("healthy", image), ("ill", image.replace(pixels=image.pixels + 1)),
                                  ("again", image))]
    for field in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        healthy, ill, again = (str(dataset[field].value) for dataset in written)
        assert healthy == again != ill, field


def test_the_mark_and_the_pixels_are_as_the_standard_wants_them(tmp_path: Path) -> None:
    files = series(tmp_path)
    sets = [pydicom.dcmread(path) for path in files]
    first = sets[0]
    assert first.SyntheticData == "YES" and first.PatientIdentityRemoved == "YES" and first.BurnedInAnnotation == "NO"
    [equipment] = first.ContributingEquipmentSequence
    [purpose] = equipment.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
    assert list(first.ImageType[:2]) == ["DERIVED", "SECONDARY"] and "cd" * 32 in first.DerivationDescription
    assert "113100" not in str(first) and first.PhotometricInterpretation == "MONOCHROME2"
    assert (first.RescaleIntercept, first.RescaleSlope, first.PixelRepresentation) == (-1024, 1, 0)
    assert (first.WindowCenter, first.WindowWidth) == (40, 400)
    for field in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({str(dataset[field].value) for dataset in sets}) == 1
    assert len({dataset.SOPInstanceUID for dataset in sets}) == len(sets)
    assert np.diff([float(dataset.ImagePositionPatient[2]) for dataset in sets]) == pytest.approx(2)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize(("modality", "bits"), [
    ("CT", 12), ("CT", 8), ("CT", 32), ("MR", 12), ("MR", 8), ("DX", 12), ("DX", 8), ("DX", 32), ("CR", 12), ("US", 12),
])
def test_an_independent_checker_finds_no_error(modality: str, bits: int, tmp_path: Path) -> None:
    pixels = np.arange(120).reshape(1, 12, 10)
    image = Image(
        pixels=pixels / 7 if bits == 32 else pixels, modality=modality,
        units="HU" if modality == "CT" and bits > 8 else "stored", bits=bits, spacing=(0.5, 0.5),
    )  # fmt: skip
    [path] = io.write(image, tmp_path / "a.dcm", provenance=PROVENANCE)
    lines = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr.splitlines()
    errors = [line for line in lines if line.startswith("Error") and "(0x0008,0x001c)" not in line]  # newer than 2022
    assert not errors and any("0x001c" in line for line in lines)
    assert pydicom.dcmread(path).get("SliceThickness") is None, "nobody knows it"
