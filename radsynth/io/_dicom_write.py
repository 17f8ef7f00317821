"""Synthetic DICOM: CT, MR, DX, CR single-frame storage; Secondary Capture for unknown geometry and for colours.

Every file says that it is synthetic (SyntheticData, Contributing Equipment, Image Type, texts). Nothing of a source
(names, dates, identifiers) is copied, but the frame of reference (PS3.3 C.7.4.1) of an image to what is derived from it
at its place: identifiers follow from (weights, seed, index) and the pixels, since images of several classes or
truncations have the same numbers.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import CannotHold, DataError
from radsynth.image import GREY, RGB, Image
from radsynth.io import Provenance
from radsynth.io._geometry import cut, cut_affine, default_affine
from radsynth.io._synthetic import Stored, not_written, sentence, store, write_whole

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MANUFACTURER = "radsynth"
NO_TEXT = r"[^ -\[\]-~]"
"""What a text in DICOM's default characters cannot hold, and the backslash, which parts values."""


def write_image(image: Image, path: Path, provenance: Provenance) -> list[Path]:
    """One file for a 2-D image; for a volume the folder `path` (without its ending) of one file a slice, head last, or
    back or left where the slices of the image's own file lie in another plane.

    DataError for a volume of unknown spacing, and for channels that are neither grey nor RGB.
    """
    if len(image.pixels) not in (1, 3):
        raise CannotHold(
            f"{path.name}: DICOM is written with one or three channels, not {len(image.pixels)}. Choose NIfTI or NPZ"
        )
    if len(image.pixels) == 3 and image.channels != RGB:
        raise CannotHold(f"{path.name}: DICOM would show the contrasts {', '.join(image.channels)} as colours. Choose "
                         "NIfTI or NPZ")
    if image.pixels.ndim == 4 and image.spacing is None:
        raise CannotHold(
            f"{path.name}: a volume of unknown spacing cannot be a DICOM series. Choose NIfTI, TIFF or NPZ"
        )
    stored, provenance = store(image), _with_window(image, provenance)
    if len(image.pixels) == 3 and stored.bits not in (8, 16):
        stored = Stored(values=stored.values, slope=stored.slope, intercept=stored.intercept, bits=16)
    if image.pixels.ndim == 3:
        dataset = _dataset(image, stored, provenance, content_of(stored), None)
        return write_whole(path, lambda temporary: dataset.save_as(temporary, enforce_file_format=True))
    return _write_series(image, stored, path.with_suffix(""), provenance)


def _write_series(image: Image, stored: Stored, folder: Path, provenance: Provenance) -> list[Path]:
    """All slices in a temporary folder, renamed when it is whole."""
    content = content_of(stored)
    temporary = folder.with_name(f".{os.getpid()}.part.{folder.name}")
    names = [f"{number:04d}.dcm" for number in range(1, image.space[image.through] + 1)]
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for index, name in enumerate(names):
            _dataset(image, stored, provenance, content, index).save_as(temporary / name, enforce_file_format=True)
        if folder.exists():
            if any(file.name not in names for file in folder.iterdir()):
                raise DataError(f"{folder} exists and holds other files; a series is not mixed with them")
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except OSError as error:
        raise not_written(folder, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [folder / name for name in names]


def _with_window(image: Image, provenance: Provenance) -> Provenance:
    """With the window of the pixels where none is told, found once for all slices of a volume."""
    if provenance.window:
        return provenance
    low, high = (float(value) for value in np.percentile(image.pixels, (0.5, 99.5)))
    return replace(provenance, window=(low, high))


def content_of(stored: Stored) -> str:
    """A hash of all pixels: a PACS takes two images of one identifier for one, and keeps the first alone."""
    return hashlib.sha256(np.ascontiguousarray(stored.values).data).hexdigest()


def identifier(provenance: Provenance, content: str, role: str) -> str:
    """2.25 and a UUID of what the image is made from and of what it shows: the same image gets the same identifiers."""
    parts = (
        provenance.model,
        provenance.weights,
        str(provenance.seed),
        str(provenance.index),
        content,
        role,
        *([provenance.source] if provenance.source else []),
    )
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(parts)).int}"


def slices_of(image: Image, provenance: Provenance) -> list[Any]:
    """The data sets of a 2-D image, or of a volume's slices in the order of their files."""
    stored, provenance = store(image), _with_window(image, provenance)
    content = content_of(stored)
    indices: list[int | None] = [None] if image.pixels.ndim == 3 else [*range(image.space[image.through])]
    return [_dataset(image, stored, provenance, content, index) for index in indices]


def _dataset(image: Image, stored: Stored, provenance: Provenance, content: str, index: int | None) -> Any:
    """One whole data set: a 2-D image, or slice `index` of a volume."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    grey, kind = len(image.pixels) == 1, _kind(image, stored)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.preamble = b"\0" * 128
    dataset.SOPClassUID = CLASSES.get(kind, SECONDARY_CAPTURE)
    named = "" if image.channels == GREY else "/".join(image.channels)
    dataset.SOPInstanceUID = identifier(provenance, content, f"slice {index or 0} {named}".strip())
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = image.modality
    dataset.InstanceNumber = 1 if index is None else index + 1
    mark_synthetic(dataset, provenance, kind, named if grey else "")
    dataset.SeriesInstanceUID = identifier(provenance, content, f"series {named}".strip())
    # What is made of one image is one patient's, in one study and one place, however many contrasts it is.
    owner = provenance.source or content
    _study(dataset, provenance, owner)
    if kind != "DX":  # DX has its own
        dataset.Laterality = ""
    _geometry(dataset, image, index, kind, provenance)
    if "ImagePositionPatient" in dataset:
        # A viewer lays on each other only what is in one frame of reference: the result and the image it was made of.
        shared = image.frame if provenance.source and image.affine is not None else ""
        dataset.FrameOfReferenceUID = shared or identifier(provenance, owner, "frame of reference")
        dataset.PositionReferenceIndicator = ""
    _pixels(dataset, image, stored, index, kind, provenance)
    {"CT": _ct, "MR": _mr, "DX": _radiograph, "CR": _computed_radiograph, "SC": _secondary}[kind](dataset)
    return dataset


def _kind(image: Image, stored: Stored) -> str:
    """The modality whose class of DICOM holds it, else SC, secondary capture: CT has 12 bits at least, DX no scale."""
    allowed = {"CT": stored.bits >= 12, "DX": stored.slope == 1}.get(image.modality, image.modality in CLASSES)
    return image.modality if allowed and len(image.pixels) == 1 and image.spacing is not None else "SC"


def _code(value: str, scheme: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def mark_synthetic(dataset: Any, provenance: Provenance, kind: str, contrast: str) -> None:
    """contrast: the name of what is shown, "" for grey values without one."""
    from pydicom.dataset import Dataset

    version = metadata.version("radsynth")
    dataset.SyntheticData = "YES"
    derived = "PRIMARY" if kind == "SEG" else "SECONDARY"
    dataset.ImageType = ["DERIVED", derived, *({"CT": ["AXIAL"], "MR": ["OTHER"], "DX": [""]}.get(kind, []))]
    how = "Synthetic in part: derived from another image" if provenance.source else "Synthetic: generated"
    dataset.DerivationDescription = (
        f"{how} by radsynth {version}, network {provenance.model}, weights SHA-256 "
        f"{provenance.weights or 'none'}, seed {provenance.seed}, image {provenance.index}"
    )[:1024]
    shown = f": {re.sub(NO_TEXT, ' ', contrast)[:26]}" if contrast else ""
    dataset.SeriesDescription = f"SYNTHETIC{' IN PART' if provenance.source else ''}{shown}, made by radsynth"
    dataset.ImageComments = sentence(provenance)[:10240]
    equipment = Dataset()
    equipment.Manufacturer = MANUFACTURER
    equipment.ManufacturerModelName = provenance.model[:64]
    equipment.SoftwareVersions = version
    equipment.ContributionDescription = sentence(provenance)[:1024]
    equipment.PurposeOfReferenceCodeSequence = [_code("109100", "DCM", "Synthesizing Equipment")]
    dataset.ContributingEquipmentSequence = [equipment]
    if provenance.source:  # its pixels may show the patient, and text that was in the source's: nothing is promised
        dataset.PatientIdentityRemoved = "NO"
        return
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Synthetic image: not acquired from a patient"
    dataset.BurnedInAnnotation = "NO"


def _study(dataset: Any, provenance: Provenance, owner: str) -> None:
    """owner: a hash of whom the image shows: of the image that it was derived from, else of its own pixels."""
    identity = f"SYNTHETIC-{provenance.weights[:8] or 'none'}-{provenance.seed}-{provenance.index}-{owner[:8]}"
    dataset.PatientName = f"SYNTHETIC^{provenance.index}"
    dataset.PatientID = identity[:64]
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyInstanceUID = identifier(provenance, owner, "study")
    dataset.StudyID = dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = (
        dataset.ReferringPhysicianName
    ) = ""
    dataset.SeriesNumber = 1
    dataset.BodyPartExamined = provenance.body_part
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = provenance.model[:64]
    dataset.SoftwareVersions = metadata.version("radsynth")


def _geometry(dataset: Any, image: Image, index: int | None, kind: str, provenance: Provenance) -> None:
    """Plane and spacing. CT and MR of unknown place are laid on an axial grid about the origin."""
    if image.spacing is None:
        return
    steps = image.spacing if index is None else np.delete(image.spacing, image.through).tolist()
    rows, columns = steps
    dataset.PixelSpacing = [_decimal(rows), _decimal(columns)]
    if kind in ("DX", "CR"):
        dataset.ImagerPixelSpacing = dataset.PixelSpacing
    if kind in ("DX", "CR") or (kind == "SC" and index is None and image.affine is None):
        return
    affine = default_affine(image.space, image.spacing) if image.affine is None else image.affine
    if index is not None:
        affine = cut_affine(affine, image.space, image.through, index)
    across, down = affine[:3, 0] / columns, affine[:3, 1] / rows
    step = float(np.linalg.norm(affine[:3, 2]))
    dataset.ImagePositionPatient = [_decimal(value) for value in affine[:3, 3]]
    dataset.ImageOrientationPatient = [_decimal(value) for value in (*across, *down)]
    # Nobody knows how thick a slice drawn from noise would be; DICOM lets it be empty (type 2). What is made of a slice
    # shows as much as that slice, whose neighbours may overlap it or leave a gap (PS3.3 C.7.6.2.1.1).
    known = index is not None or provenance.source
    dataset.SliceThickness = _decimal(step if image.thickness is None else image.thickness) if known else ""
    if index is not None:
        dataset.SpacingBetweenSlices = _decimal(step)


def _decimal(value: float) -> Any:
    """A decimal string of at most 16 characters, as exact as these allow."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value) + 0.0, auto_format=True)


def _pixels(dataset: Any, image: Image, stored: Stored, index: int | None, kind: str, provenance: Provenance) -> None:
    values: NDArray[Any] = stored.values if index is None else cut(stored.values, image.through, index)
    grey = len(values) == 1
    deep = not (stored.bits == 8 and (not grey or kind == "SC"))  # CT and MR allow 16 allocated bits only
    dataset.SamplesPerPixel = len(values)
    dataset.PhotometricInterpretation = "MONOCHROME2" if grey else "RGB"
    dataset.Rows, dataset.Columns = values.shape[1:]
    dataset.BitsAllocated = 16 if deep else 8
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = stored.bits, stored.bits - 1, 0
    dataset.LossyImageCompression = "00" if image.lossy is None else "01"  # once 01, never 00 again: PS3.3 C.7.6.1.1.5
    if image.lossy:
        dataset.LossyImageCompressionRatio = [_decimal(ratio) for ratio in image.lossy]
    ordered = values[0] if grey else np.moveaxis(values, 0, -1)
    content = np.ascontiguousarray(ordered.astype("<u2" if deep else "u1")).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW" if deep else "OB"
    if not grey:
        dataset.PlanarConfiguration = 0
        return
    if kind in ("CT", "DX", "CR") or stored.slope != 1 or stored.intercept != 0:
        dataset.RescaleIntercept, dataset.RescaleSlope = _decimal(stored.intercept), _decimal(stored.slope)
        dataset.RescaleType = "HU" if image.units == "HU" else "US"
    assert provenance.window is not None, "_with_window has given it one"
    low, high = provenance.window
    dataset.WindowCenter, dataset.WindowWidth = _decimal((low + high) / 2), _decimal(max(high - low, 1.0))
    dataset.WindowCenterWidthExplanation = "radsynth"


def _ct(dataset: Any) -> None:
    dataset.KVP = dataset.AcquisitionNumber = dataset.PatientPosition = ""


def _mr(dataset: Any) -> None:
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "RM", "NONE", ""
    dataset.MRAcquisitionType = dataset.EchoTime = dataset.EchoTrainLength = dataset.RepetitionTime = ""
    dataset.PatientPosition = ""


def _radiograph(dataset: Any) -> None:
    dataset.PresentationIntentType, dataset.PresentationLUTShape = "FOR PRESENTATION", "IDENTITY"
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
    dataset.ImageLaterality, dataset.PositionerType, dataset.DetectorType = "U", "NONE", "DIRECT"
    dataset.PatientOrientation = [
        "L",
        "F",
    ]  # required; how a frontal view is hung: columns to the left, rows to the feet
    dataset.AcquisitionNumber = ""
    dataset.AnatomicRegionSequence = [_code("38266002", "SCT", "Entire body")]
    dataset.AcquisitionContextSequence = []


def _computed_radiograph(dataset: Any) -> None:
    dataset.ViewPosition = dataset.PatientOrientation = ""


def _secondary(dataset: Any) -> None:
    dataset.ConversionType = "SYN"
    dataset.PatientOrientation = ""
