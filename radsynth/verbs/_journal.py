"""What `apply` or `generate` has made so far, a line an image, so that the same command goes on after it was killed."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from radsynth.files import write_atomically

NAME = ".journal.jsonl"
Row = dict[str, object]


def begun(folder: Path, request: dict[str, object]) -> bool:
    """Whether an unfinished folder holds results of the same request."""
    lines = _lines(folder)
    return len(lines) > 1 and lines[0] == json.dumps(request, sort_keys=True)


def close(whole: Path) -> None:
    """Everything is made: remove the journal from the folder that is whole now. Not before: until then it says that
    something is kept."""
    with suppress(OSError):  # a folder that is shared for reading
        (whole / NAME).unlink(missing_ok=True)


class Journal:
    """The rows of samples.csv of every image that is whole in an unfinished folder, by the image's source or number."""

    def __init__(self, folder: Path, request: dict[str, object], by: str = "source") -> None:
        """Take up that of the same request, without what was half written, or begin one. by: the column that tells
        images apart."""
        self.path, self.by, self.rows = folder / NAME, by, dict[str, list[Row]]()
        self.taken, self.lowest = set[object](), 0
        if not begun(folder, request):
            self.path.write_text(json.dumps(request, sort_keys=True) + "\n", encoding="utf-8")
            return
        lines = _lines(folder)
        write_atomically(self.path, "".join(line + "\n" for line in lines))
        for line in lines[1:]:
            self._note(json.loads(line))
        for path in sorted(folder.rglob(".*")):
            if ".part" in path.name:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def made(self, source: str) -> list[Row]:
        """The rows of an image that is there already; empty for others."""
        return self.rows.get(source, [])

    def free(self) -> int:
        """The lowest number that no image has: one that was rejected before may be used now, and takes none's place."""
        while self.lowest in self.taken:
            self.lowest += 1
        return self.lowest

    def add(self, rows: list[Row]) -> list[Row]:
        """Note that the files of an image are all there; the same rows."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows) + "\n")
        self._note(rows)
        return rows

    def _note(self, rows: list[Row]) -> None:
        self.rows[str(rows[0][self.by])] = rows
        self.taken.add(rows[0]["index"])


def _lines(folder: Path) -> list[str]:
    """Whole lines: that which was being written when the process was killed has no end."""
    try:
        return (folder / NAME).read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError):
        return []
