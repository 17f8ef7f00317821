"""Images and volumes before they become records, and DICOM files gathered into them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from radsynth.datasets import Rejected
from radsynth.datasets._layout import printable
from radsynth.datasets._volumes import Source
from radsynth.errors import RejectedFile
from radsynth.io import Header, NotAnImage
from radsynth.progress import track

if TYPE_CHECKING:
    from radsynth.io._dicom_header import Instance

SHOWN = 5
"""Files that a message names at most."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image or volume. name: its path below the root; fault, planar, turned, uid, reference: as in `Series`.

    slices: the header of each file, of a series
    """

    name: str
    source: Source
    header: Header
    slices: tuple[Header, ...] = ()
    fault: str | None = None
    planar: int | None = None
    turned: bool = False
    uid: str = ""
    reference: str = ""


def series(root: Path, names: list[str], modality: str, rejected: list[Rejected],
           wanted: Callable[[Header, str], bool] = lambda header, name: True) -> tuple[list[Item], list[str]]:
    """The series that DICOM files below `root` make, and the files that hold segmentations or contours; what is neither
    is appended to `rejected`.

    modality: of files that say none; wanted: whether a file with this header and name is to be used
    """
    if not names:
        return [], []
    rejected[:] = _with_empty(root, names, rejected)
    from radsynth.io._dicom_frames import instances
    from radsynth.io._dicom_header import HoldsStructures
    from radsynth.io._dicom_series import arrange, told_apart

    found, structures, names_of = [], list[str](), {str(root / name): name for name in names}
    for path, name in track(names_of.items(), len(names_of), "reading DICOM headers", "files"):
        try:
            found += instances(Path(path))
        except HoldsStructures:
            structures.append(name)
        except RejectedFile as error:
            rejected.append(Rejected(path=printable(name), reason=str(error), skipped=isinstance(error, NotAnImage)))
    gathered, copies = arrange(_chosen(told_apart(found), names_of, wanted))
    rejected += [Rejected(path=printable(names_of[path]), skipped=True, reason=(
        f"it is a second copy (same SOP Instance UID) of {printable(names_of[first])}")) for path, first in copies]
    items = [Item(name=min(names_of[file] for file in member.files), header=member.header, slices=member.slices,
                  fault=member.fault and member.fault + _to_fetch([names_of[file] for file in member.files], rejected),
                  planar=member.planar, turned=member.turned, uid=member.uid, reference=member.reference,
                  source=Source(format="dicom", files=member.files, modality=modality,
                                frames=() if set(member.frames) == {None} else member.frames))
             for member in gathered]
    return items, structures


def _chosen(found: Sequence[Instance], names: Mapping[str, str], wanted: Callable[[Header, str], bool]
            ) -> list[Instance]:
    """Those that are wanted; a file may hold several kinds, as echoes, and is asked for once for each."""
    kinds = {(one.path, one.header.series): one.header for one in found}
    kept = {kind for kind, header in kinds.items() if wanted(header, names[kind[0]])}
    return [one for one in found if (one.path, one.header.series) in kept]


def in_parts(source: Source) -> str:
    """What a source of several slices is made of, in words."""
    return f"a volume of {len(source.files)} frames" if source.frames else f"a series of {len(source.files)} files"


def _with_empty(root: Path, names: Sequence[str], rejected: Sequence[Rejected]) -> list[Rejected]:
    """The same lines, but that files of no byte are faults where they are called as the DICOM files beside them are.

    Such files have no ending that would promise an image. One of no byte is a slice that was lost on its way, where its
    name differs in numbers alone (IM000003, 1.2.840.3); DONE and alike beside them are as they ought to be.
    """
    called = {_numberless(printable(name)) for name in names}
    return [replace(line, reason="the file is empty (0 bytes), and is called as the DICOM files beside it are",
                    skipped=False)
            if line.skipped and _numberless(line.path) in called and _is_empty(root / line.path) else line
            for line in rejected]


def _numberless(name: str) -> tuple[str, str]:
    """A file's folder, and its name with its numbers alike."""
    folder, own = os.path.split(name)
    return folder, re.sub(r"\d+", "0", own)


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:  # it has gone, or its path is not what is printed
        return False


def _to_fetch(files: Sequence[str], rejected: Sequence[Rejected]) -> str:
    """What to say of files that cannot be read and lie where those of a series that lacks some do; "" if none, or where
    one file holds the whole series."""
    if len(set(files)) == 1:
        return ""
    folders = {os.path.dirname(printable(file)) for file in files}
    beside = [os.path.basename(line.path) for line in rejected
              if not line.skipped and os.path.dirname(line.path) in folders]
    more = f" and {len(beside) - SHOWN} more" if len(beside) > SHOWN else ""
    return f"; fetch {', '.join(beside[:SHOWN])}{more} again, which cannot be read beside them" if beside else ""
