"""nnU-Net and the Medical Segmentation Decathlon: imagesTr, labelsTr and dataset.json, which names the channels.

Isensee et al. 2021, Antonelli et al. 2022. nnU-Net numbers a case's channels, each a file of its own (case_0000.nii.gz,
case_0001.nii.gz); the Decathlon has them in the fourth dimension of one NIfTI file.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from radsynth.datasets import Record, Rejected
from radsynth.datasets._archives import find_folders, listed, opened
from radsynth.datasets._examination import Examination, header_of, kind_of
from radsynth.datasets._layout import PATIENT, PLAIN, Modality, compiled, patient_in, printable, stem, with_untold
from radsynth.datasets._volumes import Source, as_modality, cut_up, load_image
from radsynth.errors import DataError, RadsynthError, RejectedFile
from radsynth.image import Image
from radsynth.io import Header, NotAnImage, detect, format_module, nifti
from radsynth.progress import track
from radsynth.settings import settings as section

DESCRIPTION = "dataset.json"
IMAGES, TEST, MASKS = "imagesTr", "imagesTs", "labelsTr"
NUMBER = re.compile(r"_(?P<channel>\d{4})$")
LARGEST = 50_000_000
"""Bytes of a description that is read."""
LEVELS = 2
"""Folders between the root and the images, at most: that of an archive, and its own."""
ALL = -1
"""The channel of a file that has all of them."""
CODES = {"ct": "CT", "cbct": "CT", "pet": "PT", "us": "US", "xray": "DX"}
MAGNETIC = re.compile(r"(?i)^(mri?|t1|t2|pd|flair|adc|dwi|swi|bssfp|lge|cine)")


@section
class Settings:
    """A data set as nnU-Net or the Medical Segmentation Decathlon has it."""

    kind: Literal["nnunet"] = "nnunet"
    path: Path
    """The folder or archive with dataset.json and imagesTr; or, with `channels`, a folder of numbered files."""
    channels: tuple[str, ...] = ()
    """Names of the channels in their order; empty: as dataset.json says (channel_names, or modality in older ones)."""
    plane: Literal["auto", "axial", "coronal", "sagittal", "volume", "whole"] = "auto"
    """How volumes are used: as slices of a plane (auto: as they were scanned, else axial), or whole."""
    patient_pattern: str = PATIENT
    """Regular expression with a group (?P<patient>...), sought in the name of each case; else a case is a patient."""
    modality: Modality = ""
    """DICOM's code (CT, MR, ...) where neither the files nor the names of the channels say."""
    unmasked: Literal["reject", "keep"] = "reject"
    """Cases without a mask where others have one, such as those of imagesTs: leave them out, or keep them
    (task.kind=segment learns from both)."""
    minimum_foreground: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Slices at the ends of a volume that show less than this share of foreground are left out; 0 keeps all but
    those of a single value."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One file with all channels of a case."""

    source: Source
    channels: tuple[str, ...]

    def load(self) -> Image:
        """Its image under the channels' names; RejectedFile for other numbers of channels."""
        image = load_image(self.source)
        if len(image.pixels) != len(self.channels):
            raise RejectedFile(f"it has {len(image.pixels)} channels; {DESCRIPTION} has {', '.join(self.channels)}")
        return image if len(self.channels) == 1 else image.replace(channels=self.channels)


def matches(path: Path) -> bool:
    """A folder or an archive with dataset.json beside imagesTr, at most two folders down."""
    path = Path(path)
    if _roots(path):
        return True
    packed = [PurePosixPath(name) for name in listed(path)]
    return any(one.name == DESCRIPTION for one in packed) and any(one.parent.name == IMAGES for one in packed)


def records(settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    """Every slice, volume or image, by case. DataError without a description of the channels, and without a case."""
    path = Path(settings.path)
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the folder or archive with {DESCRIPTION} and {IMAGES}.")
    whole = opened(path, rejected)
    roots = _roots(whole)
    if len(roots) > 1:
        names = ", ".join(root.name for root in roots)
        raise DataError(f"{path} holds {len(roots)} data sets ({names}): give the folder or archive of one of them.")
    root = roots[0] if roots else whole
    channels, labels = settings.channels or _channels(root, path), _labels(root)
    folders = [root / name for name in (IMAGES, TEST) if (root / name).is_dir()] or [root]
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()]
    cases = _cases([file for file in files if file.name != DESCRIPTION], len(channels))
    masks = {stem(file.name): file for file in sorted((root / MASKS).iterdir())} if (root / MASKS).is_dir() else {}
    if not cases:
        raise DataError(f"{path} holds no case: {IMAGES} needs files such as case_0000.nii.gz.")
    for folder in sorted(root.glob("images*/")):
        if folder.name not in (IMAGES, TEST):
            reason = f"a folder of which nothing is used: what lies in {IMAGES} and {MASKS} is"
            rejected.append(Rejected(path=printable(folder.name), reason=reason, skipped=True))
    return _records(root, cases, masks, channels, labels, settings, rejected)


def example(folder: Path) -> Settings:
    """Three cases of two channels, each a file, with masks."""
    import nibabel

    rng = np.random.default_rng(0)
    for name in (IMAGES, MASKS):
        (folder / name).mkdir()
    for number in range(3):
        for channel in range(2):
            values = rng.integers(50 + 100 * channel, 100 + 100 * channel, (20, 24, 5)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 3.0, 1.0])),
                         folder / IMAGES / f"case_{number:03d}_{channel:04d}.nii.gz")
        mask = np.zeros((20, 24, 5), np.uint8)
        mask[6:12, 6:14] = 1
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([-1.0, -1.0, 3.0, 1.0])),
                     folder / MASKS / f"case_{number:03d}.nii.gz")
    (folder / DESCRIPTION).write_text(json.dumps({
        "channel_names": {"0": "T1w", "1": "FLAIR"}, "labels": {"background": 0, "tumour": 1}, "numTraining": 3,
        "file_ending": ".nii.gz"}))
    return Settings(path=folder)


def _roots(path: Path) -> list[Path]:
    """The folders with a description and images: the path itself, or those in it or in its folders."""
    return [path] if _is_root(path) else find_folders(path, _is_root, LEVELS)


def _is_root(folder: Path) -> bool:
    return (folder / DESCRIPTION).is_file() and (folder / IMAGES).is_dir()


def _channels(root: Path, given: Path) -> tuple[str, ...]:
    """The channels' names as the description has them, in small letters. given: the data as messages call it"""
    path = given / DESCRIPTION
    try:
        told = _description(root / DESCRIPTION)
        names: Any = told.get("channel_names") or told.get("modality")
        listed_names = [str(names[key]) for key in sorted(names, key=int)]
        if not listed_names:
            raise ValueError("there is none")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{path} does not name the channels (\"channel_names\": {{\"0\": \"T1\", ...}}): {error}. "
                        "data.channels=[...] names them, data.kind=folder takes the files as single images.") from None
    plain = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "channel" for name in listed_names]
    plain = [PLAIN.get(name, name) for name in plain]
    several = len(set(plain)) < len(plain)
    return tuple(f"{name}_{number}" if several else name for number, name in enumerate(plain))


def _labels(root: Path) -> dict[int, str]:
    """What label values mean: {"tumour": 1} as nnU-Net writes it, {"1": "tumour"} as the Decathlon does. Regions of
    several values have no name of their own."""
    try:
        told = _description(root / DESCRIPTION).get("labels") or {}
        pairs = [(name, value) if isinstance(value, int) else (value, name) for name, value in told.items()]
        return {int(value): str(name) for name, value in pairs if not isinstance(name, list | dict)}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _description(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _cases(files: list[Path], channels: int) -> dict[tuple[str, str], dict[int, Path]]:
    """(folder, case) -> channel -> file; `ALL` -> file where files have no numbers."""
    found: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
    matched = [(file, NUMBER.search(stem(file.name))) for file in files]
    # Others may lie beside them (.DS_Store, a readme), and a case's own name may end like a channel's number.
    fits = [match is not None and int(match["channel"]) < max(channels, 1) for _, match in matched]
    numbered = 2 * sum(fits) > len(fits)
    for (file, match), fit in zip(matched, fits, strict=True):
        name = stem(file.name)
        case, number = (name[:match.start()], int(match["channel"])) if numbered and match and fit else (name, ALL)
        found[file.parent.name, case].setdefault(number, file)
    return dict(found)


def _modality(channels: tuple[str, ...], told: str) -> str:
    """DICOM's code that all channels have by their names, else what was told, else unknown ("")."""
    codes = {CODES.get(name, "MR" if MAGNETIC.match(name) else "") for name in channels}
    return told or (codes.pop() if len(codes) == 1 else "")


def _records(root: Path, cases: dict[tuple[str, str], dict[int, Path]], masks: dict[str, Path],
             channels: tuple[str, ...], labels: dict[int, str], settings: Settings, rejected: list[Rejected],
             ) -> Iterator[Record]:
    modality, pattern = _modality(channels, settings.modality), compiled(settings.patient_pattern, "patient_pattern")
    for (folder, name), files in track(sorted(cases.items()), len(cases), "reading headers", "cases"):
        shown = printable(min(files.values()).relative_to(root).as_posix())
        mask = masks.get(name, masks.get(f"{name}_0000")) if folder != TEST else None  # Learn2Reg numbers masks, too
        try:
            if masks and mask is None and settings.unmasked == "reject":
                detect(min(files.values()))  # what is no image lacks no mask
                fault, what = ((NotAnImage, "a test image without a mask") if folder == TEST
                               else (RejectedFile, "it has no mask"))
                raise fault(f"{what}, as others have; data.unmasked=keep uses it")
            case, header = _case(root, files, mask, channels, modality)
        except RadsynthError as error:
            rejected.append(Rejected(path=shown, reason=str(error), skipped=isinstance(error, NotAnImage)))
            continue
        patient = patient_in(name, pattern)
        header = with_untold(header, patient, settings.patient_pattern)
        shared = partial(Record, patient=patient or name.casefold(),
                         files=tuple(str(file) for _, file in sorted(files.items())),
                         masks=(str(mask),) if mask else (), mask_names=labels,
                         unmasked=settings.unmasked == "keep")
        yield from cut_up(case, shown, header, settings, None, shared)


def _case(root: Path, files: dict[int, Path], mask: Path | None, channels: tuple[str, ...], modality: str,
          ) -> tuple[Examination | Stack, Header]:
    """A case and the header of its first channel. RejectedFile for channels that are not there."""
    masks = (str(mask),) if mask else ()
    first = files[min(files)]
    kind = detect(first)
    if ALL in files:
        stacked = kind == "nifti" and len(channels) > 1
        source = Source(format=kind, files=(str(first),), masks=masks, modality=modality, stacked=stacked)
        header = nifti.header(first, fourth="channels") if stacked else format_module(kind).header(first)
        if header.channels != len(channels):
            raise RejectedFile(f"it has {header.channels} channels; {DESCRIPTION} has {', '.join(channels)}")
        header = as_modality(header, modality)
        case: Examination | Stack = Stack(source=source, channels=channels)
    else:
        lacking = [name for number, name in enumerate(channels) if number not in files]
        if lacking:
            raise RejectedFile(f"its case lacks {', '.join(lacking)}")
        sources = tuple(Source(format=detect(files[number]), files=(str(files[number]),),
                               modality=modality or _modality((name,), "")) for number, name in enumerate(channels))
        headers = [format_module(source.format).header(Path(source.files[0])) for source in sources]
        names = tuple(printable(files[number].relative_to(root).as_posix()) for number in range(len(channels)))
        kinds = tuple(kind_of(one, source.modality) for one, source in zip(headers, sources, strict=True))
        header = header_of(headers, headers[0], kinds)
        case = Examination(sources=sources, names=names, channels=channels, first=0,
                           mask=masks[0] if masks else "", kinds=header.kinds)
    return case, header
