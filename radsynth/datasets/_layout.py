"""What folder and file names say: classes, official splits, patients. Pure functions of names."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from radsynth.errors import SettingsError
from radsynth.io import HIGHEST_LABEL

if TYPE_CHECKING:
    from radsynth.io import Header

PATIENT = r"(?i)(?<![a-z])(?P<patient>sub-[0-9a-z]+|(?:patient|subject|person|case)[-_ ]?\d+)"
"""How paths name patients, where nobody says otherwise."""

KNOWN = re.compile(r"(?i)(?<![a-z0-9])(?P<patient>\d{3}_S_\d{4,5}|OAS[12]_\d{4}|OAS3\d{4}|IXI\d{3}"
                   r"|TCGA[-_]\w\w[-_]\w{4}|p\d{8}|(?<![^/])000[0-3]\d{4}(?=_\d{3}\.(?:png|jpe?g))"
                   r"|(?:(?<=CNV-)|(?<=DME-)|(?<=DRUSEN-)|(?<=NORMAL-))\d+(?=-\d+\.jpe?g)"
                   r"|(?:video|clip)[-_ ]?\d+)(?![0-9])")
"""How ADNI, OASIS, IXI, TCGA, MIMIC-CXR, ChestX-ray14 (00000013_026.png; a date has no three zeros in front) and the
retinas of OCT2017 (CNV-1016042-3.jpeg) name theirs, and films, whose frames are one patient's: sought where PATIENT is,
and finds none."""

MODALITIES = {"MRI": "MR", "PET": "PT", "XRAY": "DX", "X-RAY": "DX"}
"""DICOM's codes of what people call otherwise."""

UNTOLD = ("data.patient_pattern finds no patient in its name: it counts as a patient of its own, or of its folder, "
          "unless a table says whose it is, and one patient may be in training and test")
"""What is said of images in whose name a pattern of the user's own finds nothing, and whose header says nothing."""

MASK_FOLDERS = {
    "mask",
    "masks",
    "label",
    "labels",
    "labelstr",
    "labelsts",
    "maskstr",
    "masksts",
    "seg",
    "segs",
    "segmentation",
    "segmentations",
    "gt",
    "groundtruth",
    "ground_truth",
    "annotation",
    "annotations",
    "instances",
}
IMAGE_FOLDERS = {"image", "images", "img", "imgs", "imagestr", "imagests"}
PORTION = re.compile(r"(.*[_ -])?(images?|imgs?|part|batch|chunk|subset|disk)[_ -]?\d+", re.IGNORECASE)
"""Folders into which a large collection is divided (images_001, HAM10000_images_part_1): they mean nothing."""

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
MAX_CLASSES = 100
MAX_VOLUMES_OF_A_PATIENT = 20

SESSION = re.compile(r"(?i)(ses|session|visit|timepoint|tp|baseline|follow[-_ ]?up|fu|month|week|year|day|pre|post)"
                     r"([-_ ]?\d*)|(19|20)\d{2}[-_.]?\d{2}[-_.]?\d{2}")
"""Folders that are called like a visit or a date: of the patient whose folder they lie in."""

PLAIN = {"t1w": "t1", "t2w": "t2", "pdw": "pd", "mri": "mr"}
"""Other names of contrasts."""


def printable(name: str) -> str:
    """A name that can be written anywhere: bytes that are no text and signs that steer a terminal become escapes."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(repr(sign)[1:-1] if unicodedata.category(sign) == "Cc" else sign for sign in text)


def with_untold(header: Header, patient: str | None, pattern: str) -> Header:
    """The header, with UNTOLD in its notes where a pattern of the user's own has found no patient."""
    return header if patient or pattern in (PATIENT, "") else replace(header, notes=(*header.notes, UNTOLD))


def _code(text: str) -> str:
    """DICOM's code for a modality, as files have it: in capitals. ValueError for what is none."""
    code = MODALITIES.get(text.upper(), text.upper())
    if not re.fullmatch("[A-Z0-9_]{0,16}", code):
        raise ValueError("it is no DICOM code of a modality, such as CT, MR, DX")
    return code


Modality = Annotated[str, AfterValidator(_code)]
"""The type of the setting data.modality."""


def compiled(text: str, name: str) -> re.Pattern[str] | None:
    """The regular expression of the setting data.`name`, None for an empty one; SettingsError for none."""
    try:
        pattern = re.compile(text) if text else None
    except re.error as error:
        raise SettingsError(f"data.{name} is no regular expression: {error} in {text!r}") from None
    if pattern and name == "patient_pattern" and "patient" not in pattern.groupindex:
        raise SettingsError(f"data.{name} needs a group (?P<patient>...), as in {PATIENT!r}; given was {text!r}")
    return pattern


def patient_in(text: str, pattern: re.Pattern[str] | None) -> str:
    """The patient that a name tells, in small letters; "" where it tells none."""
    match = pattern.search(text) if pattern else None
    if pattern and not match and pattern.pattern == PATIENT:
        match = KNOWN.search(text)
    return (match.groupdict().get("patient") or "").strip().casefold() if match else ""


def told_patient(text: str, given: str, pattern: re.Pattern[str] | None) -> str:
    """The patient that a pattern of the user's own finds, which counts more than what a file says: software that
    removes names gives all patients one identifier. "" without one; given: the setting, pattern: the same, compiled."""
    return patient_in(text, pattern) if given != PATIENT else ""


def mask_names(given: Sequence[str]) -> dict[int, str]:
    """Label value -> what it means, of the setting data.mask_names; SettingsError for what is no such pair."""
    pairs = [text.partition("=") for text in given]
    for value, _, name in pairs:
        if not value.strip().isdecimal() or int(value) > HIGHEST_LABEL or not name.strip():
            raise SettingsError(f"data.mask_names: '{value}={name}' is not understood. It takes label values from 0 to "
                                f"{HIGHEST_LABEL} and what they mean, as in [1=liver, 2=tumour].")
    return {int(value): name.strip() for value, _, name in pairs}


def stem(name: str) -> str:
    """A file's name without its endings (.nii.gz counts as one)."""
    lower = name.lower()
    return name[:-7] if lower.endswith(".nii.gz") else PurePosixPath(name).stem


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the folders above a file say of it. patient: the folder, where there are too many to be classes."""

    label: str | None = None
    split: str | None = None
    patient: str | None = None


def places(paths: list[str], pattern: re.Pattern[str] | None, *, classes: bool) -> dict[str, Place]:
    """Label and official split of each path, from its folders below the one that all have in common.

    train/val/test on the first level are an official split. The next level is the class when `classes`, and when there
    are 2 to 100 such folders, none of which names a patient; of more than 100 each is a patient.
    """
    folders = {path: _telling_folders(path) for path in paths}
    _strip_common(folders)
    first = {parts[0].lower() for parts in folders.values() if parts}
    splits: dict[str, str | None] = dict.fromkeys(paths)
    if (
        len({SPLIT_FOLDERS[name] for name in first & set(SPLIT_FOLDERS)}) > 1
        and all(folders.values())
        and (first <= set(SPLIT_FOLDERS))
    ):
        for path, parts in folders.items():
            splits[path] = SPLIT_FOLDERS[parts[0].lower()]
            folders[path] = parts[1:]
        _strip_common(folders)
    names = Counter(parts[0] for parts in folders.values() if parts)
    named = any(patient_in(name, pattern) for name in names) or any(
        parts[1].startswith(parts[0]) and patient_in(parts[1], pattern)  # p10/p10000032 of MIMIC-CXR
        for parts in folders.values() if len(parts) > 1)
    labelled = classes and 2 <= len(names) <= MAX_CLASSES and not named
    many = classes and len(names) > MAX_CLASSES and not named
    return {
        path: Place(label=parts[0] if labelled and parts else None, split=splits[path],
                    patient=parts[0] if many and parts else None)
        for path, parts in folders.items()
    }


def _telling_folders(path: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(path).parts[:-1]
                 if part.lower() not in MASK_FOLDERS | IMAGE_FOLDERS and not PORTION.fullmatch(part))


def _strip_common(folders: dict[str, tuple[str, ...]]) -> None:
    while folders and all(folders.values()) and len({parts[0] for parts in folders.values()}) == 1:
        for path, parts in folders.items():
            folders[path] = parts[1:]


def of_patient(folder: str) -> str:
    """The folder of a patient above those of visits: P1 for P1/visit2; a visit at the top is no patient's."""
    parts = PurePosixPath(folder).parts
    while len(parts) > 1 and SESSION.fullmatch(parts[-1]):
        parts = parts[:-1]
    return "/".join(parts) or "."


def patients(paths: list[str], pattern: re.Pattern[str] | None, *, volumes: set[str],
             places: Mapping[str, Place] | None = None) -> dict[str, str]:
    """The patient of each file: what `pattern` finds in its path; of `volumes` the folder of few; else the file.

    places: what is known of files: the folder of a class, or of an official split, is no patient's
    """
    found = {}
    folders = {path: of_patient(str(PurePosixPath(path).parent)) for path in paths}
    several = len({folders[path] for path in volumes}) > 1
    volumes = {path for path in volumes if not _is_nobodys(folders[path], (places or {}).get(path, Place()))}
    holds = Counter(folders[path] for path in volumes)
    grouped = (
        several
        and max(holds.values(), default=0) <= MAX_VOLUMES_OF_A_PATIENT
        and not any(part.lower() in IMAGE_FOLDERS for folder in holds for part in PurePosixPath(folder).parts)
    )
    for path in paths:
        parent = folders[path]
        if told := patient_in(path, pattern):
            found[path] = told
        else:
            found[path] = parent if grouped and path in volumes and parent != "." else path
    return found


def _is_nobodys(folder: str, place: Place) -> bool:
    """Whether a file's folder is that of its class or split itself, and not a patient's below that."""
    parts, label = PurePosixPath(folder.casefold()).parts, place.label and place.label.casefold()
    of_split = place.split is not None and parts[-1:] and SPLIT_FOLDERS.get(parts[-1]) == place.split
    return bool(of_split or (label and parts[-1:] == (label,) and parts.count(label) == 1))
