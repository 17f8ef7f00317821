"""What `apply` or `generate` has made so far, a line an image, so that the same command goes on after it was killed."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from radsynth.errors import FolderError
from radsynth.files import write_atomically
from radsynth.verbs._made_before import SIZE, differences, is_whole, size_of
from radsynth.verbs._writing import Row

NAME = ".journal.jsonl"
JUDGED = "judged"
"""The part of a request that says by what results are judged."""


def begun(folder: Path, request: dict[str, object]) -> bool:
    """Whether an unfinished folder holds results that the same request goes on from. FolderError where they are of
    another one, and would be lost.

    Of images that are counted there may be fewer than are asked for now. Results that were judged by other limits are
    no loss: the same ones are made again, to be judged by those that `run` has measured meanwhile.
    """
    entries = _entries(folder)
    if len(entries) < 2:
        return False
    held, *images = entries
    now = json.loads(json.dumps(request))  # as it is read back
    last = max(rows[0]["index"] for rows in images)
    same = {JUDGED: now.get(JUDGED), **({"count": now["count"]} if last < now.get("count", 0) else {})}
    if differ := differences({**held, **same}, {JUDGED: None, **now}):
        raise FolderError(f"{folder} holds what another command has begun and not finished ({differ}). Repeat that one "
                          "to finish it, choose another output folder, or remove that hidden folder first.")
    return bool(held.get(JUDGED) == now.get(JUDGED))


def close(whole: Path) -> None:
    """Everything is made: remove the journal from the folder that is whole now. Not before: until then it says that
    something is kept."""
    with suppress(OSError):  # a folder that is shared for reading
        (whole / NAME).unlink(missing_ok=True)


class Journal:
    """The rows of samples.csv of every image that is whole in an unfinished folder, by the image's source or number."""

    def __init__(self, folder: Path, request: dict[str, object], out: Path, by: str = "source") -> None:
        """Take up that of the same request, without what was half written or is no longer whole, or begin one.

        out: what the folder becomes, where files lie already if a command was killed while it moved them into it
        by: the column that tells images apart
        """
        self.path, self.by, self.rows = folder / NAME, by, dict[str, list[Row]]()
        self.taken, self.lowest = set[object](), 0
        if not begun(folder, request):
            self.path.write_text(json.dumps(request) + "\n", encoding="utf-8")
            return
        images = [rows for rows in _entries(folder)[1:] if all(is_whole(row, folder, out) for row in rows)]
        write_atomically(self.path, "".join(json.dumps(entry) + "\n" for entry in (request, *images)))
        for rows in images:
            self._note(rows)
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
        """Note that the files of an image are all there; the rows with their size."""
        rows = [{**row, SIZE: size_of(row, self.path.parent)} for row in rows]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows) + "\n")
        self._note(rows)
        return rows

    def _note(self, rows: list[Row]) -> None:
        self.rows[str(rows[0][self.by])] = rows
        self.taken.add(rows[0]["index"])


def _entries(folder: Path) -> list[Any]:
    """The request, and the rows of image after image. The line that was being written when the process was killed is
    cut, and a disk that lost its power may have lost more."""
    found = []
    with suppress(OSError, ValueError):
        for line in (folder / NAME).read_text(encoding="utf-8").split("\n")[:-1]:
            found.append(json.loads(line))
    return found
