"""CT series with DICOM segmentations and contours of them, as other programs write these: by highdicom, and by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from skimage.measure import find_contours

from radsynth import io
from radsynth.image import Image

TISSUE = Code("85756007", "SCT", "Tissue")
SPACE = (6, 24, 20)
Masks = Mapping[str, NDArray[np.bool_]]


def turned(degrees: float) -> NDArray[np.float64]:
    """An affine with steps of .8, .7 and 2 mm that is turned about the patient's long axis and then tilted a little."""
    a, b = np.radians([degrees, degrees / 3])
    about = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about @ tilt @ np.diag([0.8, 0.7, 2.0])
    affine[:3, 3] = (-20, 31, -7)
    return affine


def volume(degrees: float = 0, space: tuple[int, int, int] = SPACE) -> Image:
    """A CT volume in which the liver of `boxes` has 50, its tumour 100 and all else -500 HU."""
    shown = boxes(space)
    pixels = np.where(shown["Tumour"], 100, np.where(shown["Liver"], 50, -500)).astype(np.int16)
    return Image(pixels=pixels[None], modality="CT", units="HU", bits=12, spacing=(2.0, 0.7, 0.8),
                 affine=turned(degrees))


def scan(folder: Path, degrees: float = 0, patient: int = 1, space: tuple[int, int, int] = SPACE) -> list[Path]:
    """The same as a DICOM series."""
    provenance = io.Provenance(model="r3gan", weights="cd" * 32, seed=1, index=patient, window=(-160, 240))
    return io.write(volume(degrees, space), folder, provenance=provenance, format="dicom")


def boxes(space: tuple[int, int, int] = SPACE) -> dict[str, NDArray[np.bool_]]:
    """A liver that has a hole, and a tumour in it; some slices have none of both."""
    liver, tumour = np.zeros((2, *space), bool)
    liver[1:5, 4:20, 3:17] = True
    liver[2:4, 6:8, 5:9] = False
    tumour[2:4, 10:14, 9:13] = True
    return {"Liver": liver, "Tumour": tumour}


def truth(image: Image, liver: int = 1, tumour: int = 2) -> NDArray[np.uint8]:
    """The label map that belongs to a volume of `scan`, or to a slice of it, however it lies."""
    return np.select([image.pixels[0] > 75, image.pixels[0] > 0], [tumour, liver], 0).astype(np.uint8)


def segmentation(series: Sequence[Path], masks: Masks, target: Path, **more: Any) -> Path:
    """A SEG object by highdicom; masks: (slice, row, column) in the order of the files."""
    sources = [pydicom.dcmread(file) for file in series]
    described = [highdicom.seg.SegmentDescription(
        number, name, TISSUE, TISSUE, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL)
        for number, name in enumerate(masks, start=1)]
    kind = more.pop("kind", highdicom.seg.SegmentationTypeValues.BINARY)
    pixels = np.stack([mask.astype(np.uint8) for mask in masks.values()], axis=-1)
    made = highdicom.seg.Segmentation(
        sources, pixels, kind, described, generate_uid(), 2, generate_uid(), 1, "maker", "model", "1", "none", **more)
    target.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(target)
    return target


def outlines(masks: Masks) -> dict[str, list[tuple[int, NDArray[np.float64]]]]:
    """Contours round masks and their holes, by scikit-image: the slice and (n, 2) points (row, column) of each."""
    return {name: [(place, line) for place, part in enumerate(mask) for line in find_contours(part.astype(float), 0.5)]
            for name, mask in masks.items()}


def contours(series: Sequence[Path], drawn: Mapping[str, Sequence[tuple[int, NDArray[np.float64]]]], target: Path,
             ) -> Path:
    """An RTSTRUCT object; drawn: by name the contours, each the index of its file and (n, 2) points (row, column)."""
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in series]
    first = sources[0]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(target), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    dataset.PatientID, dataset.Modality = first.PatientID, "RTSTRUCT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = first.StudyInstanceUID, generate_uid()
    frame, study, referred = Dataset(), Dataset(), Dataset()
    referred.SeriesInstanceUID = first.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [referred]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, own) in enumerate(drawn.items(), start=1):
        told, lines = Dataset(), Dataset()
        told.ROINumber, told.ROIName = number, name
        lines.ReferencedROINumber, lines.ContourSequence = number, []
        for place, points in own:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [round(float(value), 6) for value in in_patient(sources[place], points).ravel()]
            lines.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(told)
        dataset.ROIContourSequence.append(lines)
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target, enforce_file_format=True)
    return target


def in_patient(source: Dataset, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) mm of (n, 2) points (row, column) of a slice, by PS3.3 C.7.6.2.1.1."""
    across, down = np.array(source.ImageOrientationPatient, float).reshape(2, 3)
    rows, columns = map(float, source.PixelSpacing)
    return np.array(source.ImagePositionPatient, float) + np.outer(points[:, 1] * columns, across) + np.outer(
        points[:, 0] * rows, down)
