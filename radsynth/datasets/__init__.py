"""Data sets: one way of finding images, patients, labels and masks on disk each. A module offers:

Settings                                         its settings, `kind` first; `path` where it is on disk: without,
                                                 it is embedded data, which needs no files
records(settings, rejected: list[Rejected]) -> Iterator[Record]
                                                 in a fixed order, without decoding pixels. What is found to be unusable
                                                 on the way is appended to `rejected`; DataError when the source as a
                                                 whole cannot be used (missing, empty, refused archive)
example(folder) -> Settings                      writes three tiny cases in the true layout, for the contract test
matches(path) -> bool                            does this path look like this data set?
VIRTUAL = True                                   its patients are made up; else they are real ones

Who reports what: `records` reports faults that can be seen without pixels (broken header, incomplete series, mask
without image) in `rejected`, complete once the iterator is exhausted. `Record.load` raises RejectedFile for faults that
only decoding shows; the caller adds `Rejected(path=record.source, reason=str(error))`. It raises EmptySlice, a kind of
RejectedFile, for a slice of background at the edge of a volume: leave it out, count it, but write no line about it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, cast

from radsynth.errors import DataError, RejectedFile, SettingsError, in_command
from radsynth.files import own_folder
from radsynth.image import Image
from radsynth.io import Header
from radsynth.settings import kinds as plug_ins
from radsynth.settings import resolve


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image of one patient and how to load it.

    source: a name for messages, relative to the data's root; never travels beyond `prepare`
    patient: as the source names it; only a salted hash of it travels beyond `prepare`
    split: "train", "validation", "test" where the data set has an official split, else None
    load: a picklable call without arguments that decodes the image, and its mask if there is one
    header: what is known without decoding; None where nothing is
    files: the files behind it (a series has many, the slices of a volume share theirs), () when it comes from no file
    masks: the files that its mask comes from
    mask_names: what label values of its mask mean, as far as the data set says; the same for every record
    unmasked: it is wanted even if it has no mask where others have one
    conditions: numbers to learn the image with, by name; the same names for every record
    corner: the first pixel of the patch of what `load` gives that is meant, None for the whole; set by `prepare`
    volume: of a slice the volume that it was cut from, as `source` names it, "" for what is whole
    image: a number that the patches of one image share, -1 for no patch; drawn: share of its patches that are wanted
    added: "" for the data set's own; for what was added to its training images "synthetic" if `generate` made it, else
    "other": it may show somebody; set by `prepare`
    """

    source: str
    patient: str
    label: str | None = None
    split: str | None = None
    load: Callable[[], Image]
    header: Header | None = None
    files: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    mask_names: Mapping[int, str] = field(default_factory=dict)
    unmasked: bool = False
    conditions: Mapping[str, float] = field(default_factory=dict)
    volume: str = ""
    corner: tuple[int, ...] | None = None
    image: int = -1
    drawn: float = 1.0
    added: str = ""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A line of the rejected-files table.

    path: relative to the data's root, always printable
    skipped: it is no image at all (a report, a text file, a second copy): counted, but nothing is wrong with the data
    """

    path: str
    reason: str
    skipped: bool = False


class EmptySlice(RejectedFile):
    """A slice at the edge of a volume that shows only background: left out on purpose."""


class Dataset(Protocol):
    """What a module of this folder offers."""

    Settings: type[Any]

    def records(self, settings: Any, rejected: list[Rejected]) -> Iterator[Record]:
        """The records in a fixed order."""

    def example(self, folder: Path) -> Any:
        """Three tiny cases in the true layout, and the settings that find them."""

    def matches(self, path: Path) -> bool:
        """Does this path look like this data set?"""


def kinds() -> tuple[str, ...]:
    """Every kind of data set: the modules of this folder."""
    return plug_ins("datasets")


def dataset(kind: str) -> Dataset:
    """The module of one kind."""
    assert kind in kinds(), kind
    return cast(Dataset, importlib.import_module(f"{__name__}.{kind}"))


def embedded() -> tuple[str, ...]:
    """The kinds that need no files."""
    return tuple(kind for kind in kinds() if not any(one.name == "path" for one in fields(dataset(kind).Settings)))


def recognise(path: Path) -> str:
    """The kind of data set that `path` looks like. `folder` is asked last, because it takes almost anything.

    DataError when there is nothing at `path`, no kind reads it, or it is a folder that radsynth made for itself.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Give a folder, an image, an archive (zip, tar) or a MedMNIST npz file."
        )
    _refuse_own(path)
    for kind in sorted(kinds(), key=lambda name: (name == "folder", name)):
        if dataset(kind).matches(path):
            return kind
    raise DataError(
        f"{path} is nothing that radsynth reads. Give a folder, an image (DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, "
        "TIFF, npy, npz), an archive (zip, tar) or a MedMNIST npz file."
    )


def _refuse_own(path: Path) -> None:
    """DataError for a run or prepared folder: what lies in it would be taken for a collection of images."""
    own = own_folder({entry.name for entry in path.iterdir()}) if path.is_dir() else ""
    if own == "run":
        raise DataError(f"{path} is a run folder, not a folder of images. A run goes on with the command that began it "
                        f"(DATA and --out {in_command(path)}); images that it made are in {path / 'synthetic'}.")
    if own == "explanation":
        raise DataError(f"{path} holds pictures that 'radsynth control' or 'radsynth explain' drew, no images to learn "
                        "from.")
    if own:
        raise DataError(f"{path} is a prepared folder, not a folder of images: 'radsynth train {in_command(path)} RUN' "
                        "learns from it.")


def at(path: Path, documents: Sequence[Any], overrides: Sequence[str]) -> list[Any]:
    """Settings documents with data at `path`, of the kind that it looks like, which they and `overrides` may correct.

    The path was given, whatever the kind: it comes last and with the kind that wins, so that no new kind replaces it.
    A name of embedded data ("brain") counts as a path where there is no file of that name.
    """
    if str(path) in embedded() and not path.exists():
        return [{"data": {"kind": str(path)}}, *documents]
    kind = recognise(path)
    guessed = [{"data": {"kind": kind}}, *documents]
    with contextlib.suppress(SettingsError):  # whoever resolves the result hears of all problems at once
        kind = resolve(*guessed, overrides=overrides, sections=()).kind("data")
    return [*guessed, {"data": {"kind": kind, "path": str(path)}}]
