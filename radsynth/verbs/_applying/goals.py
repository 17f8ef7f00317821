"""The images that others are registered onto: one for all, or for each that of its patient."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from radsynth.datasets import Record, Rejected
from radsynth.datasets._layout import stem
from radsynth.errors import DataError, RejectedFile


class Goals:
    """The images behind a path. alone: the only one, None where there are several"""

    def __init__(self, path: Path, records: Iterator[Record], rejected: list[Rejected]) -> None:
        """DataError where none can be used. rejected: what `records` could not take, filled while they are read"""
        self.path, self.records = path, list(records)
        if not self.records:
            reasons = [line.reason for line in rejected if not line.skipped]
            raise DataError(f"{path}, which images are to be put onto, holds no image that can be used"
                            f"{': ' + reasons[0] if reasons else ''}.")
        self.alone = self.records[0] if len(self.records) == 1 else None

    def of(self, moving: Record) -> Record:
        """The image that a moving one is put onto: of several that of its patient beside itself, of several of these
        that of its name in its folder. RejectedFile where there is none."""
        if self.alone:
            return self.alone
        own = [one for one in self.records if one.patient == moving.patient and not _is(one, moving)]
        found = own if len(own) == 1 else [one for one in own if _name(one) == _name(moving)]
        if len(found) == 1:
            return found[0]
        have = (f"{len(own)} images of its patient ({own[0].source}, {own[1].source}) and none of its name" if own else
                f"{len(self.records)} images, and none of its patient")
        raise RejectedFile(f"{self.path}, which images are to be put onto, holds {have}: give a single image, or for "
                           "each patient one, or for each image one of its name")


def _name(record: Record) -> str:
    """Where an image lies below its folder, without its ending."""
    path = PurePosixPath(record.source)
    return str(path.with_name(stem(path.name)))


def _is(one: Record, other: Record) -> bool:
    """Whether both are one image of the same files, which were found in folders of other names."""
    longer, shorter = sorted((f"/{one.source}", f"/{other.source}"), key=len, reverse=True)
    return longer.endswith(shorter) and _real(one) == _real(other)


def _real(record: Record) -> set[str]:
    return {os.path.realpath(file) for file in record.files}
