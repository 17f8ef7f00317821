"""Label maps as DICOM's segmentation objects (SEG): a bit a pixel for each label and slice in which it is.

highdicom knows the standard's rules for them. Identifiers, marks and texts are those of our other DICOM files, and no
time is told, so that the same label map is the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.errors import CannotHold
from radsynth.image import GREY, Image
from radsynth.io import Provenance
from radsynth.io._dicom_parsing import quietly
from radsynth.io._dicom_write import MANUFACTURER, content_of, identifier, mark_synthetic, slices_of
from radsynth.io._geometry import cut
from radsynth.io._synthetic import store, write_whole

NO_TIME = {"ContentDate": "19000101", "ContentTime": "000000"}
"""What has to be told, and is no time of anything."""


def write_labels(labels: Image, path: Path, *, provenance: Provenance, names: Mapping[int, str],
                 of: Sequence[Path] = ()) -> list[Path]:
    """One file for a label map (1, *space), of a volume too.

    names: of all label values but 0, of which each is a segment, in their order (of GTV|tumour the first)
    of: the DICOM files that the same provenance made of the image that it belongs to, to which it refers; without, it
    refers to none
    CannotHold without a place, or where the image's files are no slices of it.
    """
    from pydicom import dcmread

    if labels.affine is None and not of:
        raise CannotHold(f"{path.name}: a DICOM segmentation needs a place, which nobody knows. Choose NIfTI or PNG")
    grid = labels.replace(pixels=np.zeros_like(labels.pixels), channels=GREY)
    sources = [dcmread(file) for file in of] or slices_of(grid, provenance)
    pixels, through = labels.pixels, labels.through
    flat = [pixels[0]] if pixels.ndim == 3 else [
        cut(pixels, through, index)[0] for index in range(labels.space[through])]
    if len(sources) != len(flat):
        raise CannotHold(f"{path.name}: {len(flat)} slices of a mask are not those of {len(sources)} DICOM files")
    for source in sources:
        if not source.get("SliceThickness") and "PixelSpacing" in source:
            source.SliceThickness = source.PixelSpacing[0]  # has to be told, and nobody knows it: as if of cubes
    with quietly():
        dataset = _segmentation(sources, np.stack(flat), names, provenance, content_of(store(labels)), bool(of))
    return write_whole(path, lambda temporary: dataset.save_as(temporary, enforce_file_format=True))


def _segmentation(sources: list[Any], labels: np.ndarray, names: Mapping[int, str], provenance: Provenance,
                  content: str, referring: bool) -> Any:
    """labels: (slice, row, column) in the order of the sources."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
    from pydicom.sr.coding import Code

    version, tissue = metadata.version("radsynth"), Code("85756007", "SCT", "Tissue")
    how = AlgorithmIdentificationSequence(f"{MANUFACTURER} {provenance.model}"[:64],
                                          Code("123110", "DCM", "Artificial Intelligence"), version)
    shown = [name.partition("|")[0][:64] for name in names.values()]
    described = [SegmentDescription(number, name, tissue, tissue, SegmentAlgorithmTypeValues.AUTOMATIC, how)
                 for number, name in enumerate(shown, start=1)]
    bits = np.stack([labels == value for value in names], axis=-1).astype(np.uint8)
    dataset = Segmentation(
        sources, bits, SegmentationTypeValues.BINARY, described, identifier(provenance, content, "series labels"), 2,
        identifier(provenance, content, "labels"), 1, MANUFACTURER, provenance.model[:64], version, "none",
        omit_empty_frames=bool(bits.any()), content_label="LABELS")
    mark_synthetic(dataset, provenance, "SEG", "labels")
    dataset.SpecificCharacterSet = "ISO_IR 192"  # Unicode: names of labels may be in any language
    if "PatientOrientation" in sources[0]:  # of pictures without a place
        dataset.PatientOrientation = sources[0].PatientOrientation
    organization = identifier(provenance, content, "dimensions")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        del dataset[name]
    for name, value in NO_TIME.items():
        setattr(dataset, name, value)
    if not referring:
        _without_references(dataset)
    return dataset


def _without_references(dataset: Any) -> None:
    """Nothing of a source travels, and the data sets that lent the grid are no files."""
    for name in ("ReferencedSeriesSequence", "SourceImageSequence"):
        if name in dataset:
            del dataset[name]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.DerivationImageSequence = []
