"""What is odd about the images that a run is applied to, and no reason to reject them: a column of samples.csv."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from radsynth.datasets import Record
from radsynth.image import Image
from radsynth.progress import tell
from radsynth.verbs._rejected import harmless

COLUMN = "notes"
FILLED = "NaN around what is shown: read as background, which is 0, or the lowest value where there are values below 0"
ACROSS = "its slice lies in another plane than those of the training: its result means little"
BETWEEN = "; "


def notes_of(record: Record, image: Image, *others: tuple[Record, Image], across: bool = False) -> str:
    """The notes on an image, and those on `others` that its result is made with, which bring their name.

    across: see `TrainedOn.across`
    """
    found = [*_notes(record, image), *([ACROSS] if across else ())]
    found += [f"{other.source}: {note}" for other, shown in others for note in _notes(other, shown)]
    return harmless(BETWEEN.join(found))


def _notes(record: Record, image: Image) -> tuple[str, ...]:
    return (*(record.header.notes if record.header else ()), *((FILLED,) if image.filled else ()))


def tell_of(rows: Sequence[Mapping[str, object]]) -> None:
    """Say what is noted, by the rows of samples.csv, and of how many images."""
    told = {str(row["source"]): str(row.get(COLUMN) or "") for row in rows}
    for note, count in Counter(note for notes in told.values() for note in notes.split(BETWEEN) if note).items():
        tell(f"mind: {count:,} x {note}")
