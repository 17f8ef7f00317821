"""DICOM: single images, plain and enhanced multi-frame files, and (by `_dicom_series`) series of slices.

Compressed pixels are decoded in a child process; MONOCHROME1 is inverted once; Rescale is applied, CT is in HU.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io import Header, Provenance, _dicom_labels
from radsynth.io._dicom_frames import frames, is_enhanced
from radsynth.io._dicom_header import describe
from radsynth.io._dicom_parsing import parse
from radsynth.io._dicom_pixels import stored_frame, to_image
from radsynth.io._dicom_series import Series, arrange, frames_of, volume
from radsynth.io._dicom_write import write_image

SUFFIXES = (".dcm", ".dicom", ".ima")


def sniff(path: Path, head: bytes) -> bool:
    """The letters DICM behind the 128 bytes of preamble."""
    return head[128:132] == b"DICM"


def header(path: Path) -> Header:
    """Size, spacing, modality and patient of a file; NotAnImage for reports, plans and alike.

    An enhanced multi-frame file has the size of its first volume, and as many `frames` as it holds volumes.
    """
    path = Path(path)
    dataset = parse(path)
    if not is_enhanced(dataset):
        return describe(path, dataset).header
    volumes = _volumes(arrange(frames(path, dataset))[0])
    return replace(volumes[0].header, frames=len(volumes))


def read(path: Path, frame: int = 0) -> Image:
    """One frame, (1 or 3, rows, columns), or one volume of an enhanced file, (1, slices, rows, columns).

    In real values: HU for CT, brighter is larger.
    """
    path = Path(path)
    dataset = parse(path, pixels=True)
    if is_enhanced(dataset):
        members = frames(path, dataset)
        chosen = _volumes(arrange(members)[0])[frame]
        found = frames_of(dataset, {member.frame: member for member in members}, chosen.frames)
        return volume([found[number] for number in chosen.frames])
    member = describe(path, dataset)
    return to_image(dataset, member, stored_frame(dataset, member, frame))


def _volumes(found: list[Series]) -> list[Series]:
    for series in found:
        if series.fault:
            raise RejectedFile(series.fault)
    return found


def write(image: Image, path: Path, *, provenance: Provenance) -> list[Path]:
    """A 2-D image as one file; a volume as a folder of one consistent series. See `_dicom_write`."""
    return write_image(image, Path(path), provenance)


write_labels = _dicom_labels.write_labels


def example(folder: Path) -> list[Path]:
    """A CT slice, an MR slice and a radiograph as radsynth writes them, with the mark of its own."""
    ramp = np.arange(24 * 20).reshape(1, 24, 20)
    origin = Provenance(model="example", weights="", seed=0, index=0)
    images = {
        "ct.dcm": Image(pixels=ramp - 1000, modality="CT", units="HU", bits=12, spacing=(0.7, 0.8)),
        "mr.dcm": Image(pixels=ramp, modality="MR", bits=12, spacing=(1.0, 1.0)),
        "dx.dcm": Image(pixels=ramp * 8, modality="DX", bits=12, spacing=(0.2, 0.2)),
    }
    return [file for name, image in images.items() for file in write(image, folder / name, provenance=origin)]
