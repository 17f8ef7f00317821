"""BraTS, brain tumours in MR, 2018 to 2024: a case's modalities as channels in a fixed order, its tumour as mask.

Files are named by year: Brats18_X_1_flair, BraTS20_Training_001_t1ce, BraTS2021_00000_t1, BraTS-GLI-00000-000-t1c. They
may lie in the archives that they come in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from radsynth.datasets import Record, Rejected
from radsynth.datasets._archives import listed, opened
from radsynth.datasets._regrid import SAME_PLACE, distance
from radsynth.datasets._volumes import Source, load_image, load_slice
from radsynth.errors import DataError, RejectedFile
from radsynth.image import Image, bits_of
from radsynth.io import Header, NotAnImage, format_module
from radsynth.progress import track
from radsynth.settings import settings as section

Modality = Literal["t1", "t1ce", "t2", "flair"]
MODALITIES: tuple[Modality, ...] = ("t1", "t1ce", "t2", "flair")
ENDINGS: dict[str, str] = {
    **{name: name for name in MODALITIES},
    **{"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"},  # as since 2023
    **{"seg": "seg", "gtv": "seg"},  # the target of radiotherapy in BraTS-MEN-RT
    **{"segm": "seg"},  # case 355 of 2020 has a name of its own: W39_1998.09.19_Segm.nii
}
FILE = re.compile(r".*[_-](?P<ending>[a-z0-9]+)\.nii(\.gz)?", re.IGNORECASE)
CASE = re.compile(
    r"(?P<patient>(brats\d{2}_\w+?)|(brats20\d{2}_\d+)|(brats-[a-z]+(-rt)?-\d+))([_-]\d{1,3})?", re.IGNORECASE
)
"""A case's folder. A last number of 2017 to 2019 (_1) and since 2023 (-000) is a visit of the same patient."""

NUMBERED = re.compile(r"brats20_(training|validation|testing)_\d+", re.IGNORECASE)
"""The cases of 2020, whose last number is the patient's."""

UNSEGMENTED = re.compile(r"validation|testing", re.IGNORECASE)
"""In the path of a case whose segmentation was never published."""

OLD_LABELS = (1, 2, 4)
"""Until 2021: necrosis, oedema, enhancing tumour. Since 2023 they are 1, 2, 3, and 4 is the cavity of an operation."""

GRADES = ("HGG", "LGG")
LEVELS = 4
"""Folders between the root and a case, at most."""


TUMOUR = {1: "necrosis", 2: "oedema", 3: "enhancing tumour", 4: "cavity of an operation"}
"""What the masks' values mean, whatever the year, but for two collections."""

CHILDREN, TARGET = re.compile(r"brats-peds?-", re.IGNORECASE), re.compile(r".*-rt-\d+", re.IGNORECASE)
"""Cases of BraTS-PED, whose values mean other things in 2024 than in 2023, and of radiotherapy, of one value."""


@section
class Settings:
    """BraTS 2018 to 2024 as distributed: brain tumours in four kinds of MR."""

    kind: Literal["brats"] = "brats"
    path: Path
    """The folder with the cases, or with HGG and LGG, which become labels."""
    what: Literal["slices", "volumes"] = "slices"
    """Axial slices, or whole volumes."""
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)] = MODALITIES
    """The channels; their order is always t1, t1ce, t2, flair. Cases that lack one are rejected."""
    unmasked: Literal["reject", "keep"] = "reject"
    """Cases without a segmentation where others have one: leave them out, or keep them
    (task.kind=segment learns from both)."""
    minimum_foreground: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Slices at the ends that show less than this share of head are left out; 0 keeps all but those of a single
    value."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One visit of one patient. files: a volume for each of `channels`; mask: the segmentation or ""."""

    files: tuple[str, ...]
    channels: tuple[str, ...]
    mask: str
    mask_values: tuple[int, ...]

    def load(self) -> Image:
        """All channels (c, slices, rows, columns) on one grid, with the mask. RejectedFile when they do not fit."""
        first: Image | None = None
        pixels: list[NDArray[np.generic]] = []
        filled = False
        for number, file in enumerate(self.files):
            masks = (self.mask,) if self.mask and not number else ()
            source = Source(format="nifti", files=(file,), modality="MR", masks=masks, mask_values=self.mask_values)
            try:
                image = load_image(source)
            except RejectedFile as error:
                raise RejectedFile(f"{Path(file).name}: {error}") from None
            first = first or image
            if image.space != first.space or len(image.pixels) != 1:
                raise RejectedFile(f"{Path(file).name} has the size {image.space}, others {first.space}")
            if (off := distance(image, first)) > SAME_PLACE:
                raise RejectedFile(f"{Path(file).name} lies {off:.2g} mm off the other modalities")
            pixels.append(image.pixels)
            filled = filled or image.filled
        assert first is not None
        bits = max(bits_of(array.dtype) for array in pixels)
        return first.replace(
            pixels=np.concatenate(pixels), modality="MR", units="stored", channels=self.channels, bits=bits,
            filled=filled,
        )


def matches(path: Path) -> bool:
    """A folder or an archive with a case in it, at most four folders down, that holds a modality as NIfTI."""
    path = Path(path)
    if path.is_dir() and next(_cases(path, first=True), None) is not None:
        return True
    parts = (PurePosixPath(name) for name in listed(path))
    return any(_is_case_name(part.parent.name) and FILE.fullmatch(part.name) for part in parts)


def records(settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    """Every slice or volume, by case. DataError when there is no case."""
    root = opened(Path(settings.path), rejected)
    folders = sorted({case.resolve(): case for case in _cases(root)}.values()) if root.is_dir() else []
    if not any(map(_files, folders)):
        raise DataError(
            f"{settings.path} is not BraTS: it needs folders such as BraTS2021_00000 or BraTS-GLI-00000-000 with nii "
            "or nii.gz."
        )
    return _records(root, folders, settings, rejected)


def example(folder: Path) -> Settings:
    """Three cases named as in 2018, one of low grade, and all with a tumour of three labels."""
    import nibabel

    rng = np.random.default_rng(0)
    for grade, name in (("HGG", "Brats18_2013_10_1"), ("HGG", "Brats18_TCIA01_131_1"), ("LGG", "Brats18_2013_0_1")):
        case = folder / grade / name
        case.mkdir(parents=True)
        affine = np.diag([-1.0, -1.0, 1.0, 1.0])
        for number, modality in enumerate(MODALITIES):
            volume = rng.integers(100 * number + 50, 100 * number + 100, (20, 24, 5)).astype(np.int16)
            volume[:4], volume[-4:] = 0, 0
            nibabel.save(nibabel.Nifti1Image(volume, affine), case / f"{name}_{modality}.nii.gz")
        tumour = np.zeros((20, 24, 5), np.uint8)
        tumour[6:10, 6:14, 2], tumour[7:9, 8:12, 2], tumour[8, 9:11, 2] = 2, 4, 1
        nibabel.save(nibabel.Nifti1Image(tumour, affine), case / f"{name}_seg.nii.gz")
    return Settings(path=folder)


def _cases(root: Path, *, first: bool = False, level: int = 0) -> Iterator[Path]:
    """Folders of cases below `root`, which may be one itself. `first`: of every folder only the first few are tried.

    Without `first` empty ones count, too: cases that were lost on their way.
    """
    if _is_case_name(root.name) and (_files(root) or not (first or any(root.iterdir()))):
        yield root
        return
    if level == LEVELS:
        return
    try:
        below = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
    except OSError:
        return
    for entry in below[: 5 if first else None]:
        yield from _cases(Path(entry), first=first, level=level + 1)


def _is_case_name(name: str) -> bool:
    return bool(CASE.fullmatch(name) or NUMBERED.fullmatch(name))


def _files(case: Path) -> dict[str, Path]:
    """What (t1, t1ce, t2, flair, seg) -> file. The plain ones win where a case holds several of a kind."""
    found: dict[str, Path] = {}
    for file in sorted(case.iterdir(), key=lambda file: (not file.name.startswith(case.name), file.name)):
        match = FILE.fullmatch(file.name)
        what = ENDINGS.get(match["ending"].lower()) if match else None
        if what and file.is_file():
            found.setdefault(what, file)
    return found


def _patient(case: str) -> str:
    match = CASE.fullmatch(case)
    return (case if NUMBERED.fullmatch(case) or match is None else match["patient"]).casefold()


def _records(root: Path, folders: list[Path], settings: Settings, rejected: list[Rejected]) -> Iterator[Record]:
    found = {folder: _files(folder) for folder in folders}
    segmented = settings.unmasked == "reject" and any("seg" in files for files in found.values())
    meant = _mask_names(folder.name for folder in folders)
    graded = all(_grade(folder, root) for folder in folders if not segmented or "seg" in found[folder])
    for folder in track(folders, len(folders), "reading headers", "cases"):
        name = folder.relative_to(root).as_posix() if folder != root else folder.name
        try:
            case, header = _case(found[folder], settings, segmented, name)
        except RejectedFile as error:
            rejected.append(Rejected(path=name, reason=str(error), skipped=isinstance(error, NotAnImage)))
            continue
        shared = partial(
            Record,
            patient=_patient(folder.name),
            label=_grade(folder, root) if graded else None,
            files=case.files,
            masks=(case.mask,) if case.mask else (),
            mask_names=meant,
            unmasked=settings.unmasked == "keep",
        )
        if settings.what == "volumes":
            yield shared(source=name, load=case.load, header=header)
            continue
        flat = replace(header, size=header.size[1:], spacing=header.spacing[1:] if header.spacing else None)
        for index in range(header.size[0]):
            load = partial(load_slice, case, 0, index, settings.minimum_foreground)
            yield shared(source=f"{name}#axial{index:04d}", volume=name, load=load, header=flat)


def _mask_names(cases: Iterable[str]) -> dict[int, str]:
    """What the values mean in the masks of all these cases; {} where they do not mean the same."""
    kinds = {(bool(CHILDREN.match(case)), bool(TARGET.match(case))) for case in cases}
    return TUMOUR if kinds == {(False, False)} else {1: "gross tumour volume"} if kinds == {(False, True)} else {}


def _grade(folder: Path, root: Path) -> str | None:
    return next((part for part in folder.relative_to(root).parts[:-1][::-1] if part in GRADES), None)


def _case(files: dict[str, Path], settings: Settings, segmented: bool, name: str) -> tuple[Case, Header]:
    """A case, whose path below the root is `name`, and the header of its volumes, which must agree in size.

    RejectedFile when something is missing, NotAnImage for a segmentation that was never published.
    """
    wanted = [modality for modality in MODALITIES if modality in settings.modalities]
    missing = [modality for modality in wanted if modality not in files]
    if missing:
        there = ", ".join(modality for modality in MODALITIES if modality in files)
        advice = f"; data.modalities=[{there}] takes what there is" if there else ""
        raise RejectedFile(f"it lacks {', '.join(missing)}; it has {', '.join(sorted(files)) or 'nothing'}{advice}")
    if segmented and "seg" not in files:
        fault = NotAnImage if UNSEGMENTED.search(name) else RejectedFile
        raise fault("it has no segmentation, as other cases have; data.unmasked=keep uses it")
    headers = []
    for modality in wanted:
        try:
            headers.append(format_module("nifti").header(files[modality]))
        except RejectedFile as error:
            raise RejectedFile(f"{files[modality].name}: {error}") from None
    sizes = {header.size for header in headers}
    if len(sizes) > 1 or len(headers[0].size) != 3 or any(header.channels != 1 for header in headers):
        raise RejectedFile(f"its modalities are not volumes of one size: {', '.join(map(str, sorted(sizes)))}")
    case = Case(
        files=tuple(str(files[modality]) for modality in wanted),
        channels=tuple(wanted),
        mask=str(files["seg"]) if "seg" in files else "",
        mask_values=() if "-" in PurePosixPath(name).name else OLD_LABELS,
    )
    header = replace(
        headers[0],
        format="nifti",
        channels=len(wanted),
        modality="MR",
        units="stored",
        bits=max(header.bits for header in headers),
    )
    return case, header
