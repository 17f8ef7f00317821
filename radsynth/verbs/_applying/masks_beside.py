"""Says which files among the images were taken for masks by their names, and what that means for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from radsynth.datasets import Record, Rejected
from radsynth.datasets._layout import printable
from radsynth.progress import tell

NOTHING = ("by its name it is the mask of {}, so that no result is made of it: to have it used as an image, give it "
           "alone or under another name")
CARRIED = ("by its name it has the labels of {}, which are warped with it: to have it used as an image, give it alone "
           "or under another name; --labels names other labels")


def masks_beside(records: Sequence[Record], rejected: list[Rejected], *, carried: bool = False) -> None:
    """Add a skipped line to `rejected` for each file that was taken for a mask of one of the images, and say so.

    carried: masks are the labels of their images and are warped with them
    """
    owners = {mask: record for record in reversed(records) for mask in record.masks}
    reason = CARRIED if carried else NOTHING
    lines = [Rejected(path=_below(mask, record), skipped=True, reason=reason.format(record.source))
             for mask, record in sorted(owners.items())]
    if lines:
        others = len(lines) - 1
        more = f"; so {'is' if others == 1 else 'are'} {others:,} more, see rejected.csv" if others else ""
        tell(f"mind: {lines[0].path} is not taken for an image: {lines[0].reason}{more}")
    rejected += lines


def _below(mask: str, record: Record) -> str:
    """A mask's file as its image's record names it: below the root."""
    there = os.path.relpath(mask, os.path.dirname(record.files[0])) if record.files else os.path.basename(mask)
    folder = str(PurePosixPath(record.source).parent)
    return printable(Path(os.path.normpath(os.path.join(folder, there))).as_posix())
