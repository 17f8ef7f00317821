"""The blinded reader study: real images of held-out patients and synthetic ones, in random order, without any hint.

RUN/study/study.json   the key: which image is what
RUN/study/images/      PNG files of equal size and length, named at random
RUN/study/answers.sqlite   every rating, kept the moment it is given
RUN/study/results.json the numbers, written when a reader has finished, and at the start: what the report takes
"""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from radsynth.arrays import Prepared
from radsynth.errors import DataError, FolderError
from radsynth.files import is_free, whole_folder, write_atomically
from radsynth.metrics._readers import LEVELS, Reading, Share, fleiss_kappa, pooled, read
from radsynth.progress import Progress, tell, track
from radsynth.run_folder import RunFolder
from radsynth.settings import settings
from radsynth.verbs._grid import black_and_white, in_colour, shown_window
from radsynth.verbs._many_patients import in_turns
from radsynth.verbs.generate import load
from radsynth.web._png import SIDE, WIDE, layout, of_equal_length, picture

HELD_OUT = ("test", "validation")
FEWEST = 5
"""Real and synthetic images each, below which a study says nothing."""
READER = re.compile(r"(?!(?i:truth|-1)$)[A-Za-z0-9_-]{2,20}")
"""iMRMC calls the truth's lines "truth" or -1: no reader may."""
SOONEST = 0.5
"""Seconds after which an image can have been looked at. What comes sooner is the second half of a double click."""
SCALE = ("definitely real", "probably real", "perhaps real", "perhaps synthetic", "probably synthetic",
         "definitely synthetic")
SCHEMA = """CREATE TABLE IF NOT EXISTS answers (
    reader TEXT NOT NULL, item TEXT NOT NULL, rating INTEGER NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (reader, item));
CREATE TABLE IF NOT EXISTS shown (
    reader TEXT NOT NULL, item TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (reader, item))"""


@settings
class Settings:
    """The reader study that `serve` offers."""

    images: int = Field(default=40, ge=2 * FEWEST)
    """Images that each reader judges, half of them real (fewer when there are not enough held-out images)."""
    seed: NonNegativeInt = 0
    """Which images, and in which order for each reader, follow from it."""


class Study:
    """A study that has been made, opened for reading and for answers."""

    def __init__(self, folder: Path) -> None:
        """FolderError when there is none, or when it is damaged."""
        self.folder = Path(folder)
        try:
            self._key = (self.folder / "study.json").read_bytes()
            document = json.loads(self._key)
            self.items: dict[str, bool] = {one["item"]: one["synthetic"] for one in document["items"]}
            self.seed: int = document["seed"]
            self.about: dict[str, Any] = {key: document[key] for key in ("weights", "real", "modality", "virtual")}
            self.about["window"] = document.get("window")  # older studies show the whole range
            self.about["layout"] = document.get("layout", "")
        except (OSError, ValueError, KeyError, TypeError):
            raise FolderError(f"{self.folder} holds no study.json that can be read, which says what each image of a "
                              "reader study is. Put it back from a copy, or move the folder away, with the readers' "
                              "answers in it, and serve again.") from None
        with self._database() as database:
            database.executescript(SCHEMA)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are on disk when the block ends; other processes wait for it for 30 seconds.

        FolderError when that fails: the disk is full, the file is damaged, the run was moved away or has another study.
        """
        self._check_own()
        path = self.folder / "answers.sqlite"
        try:
            with closing(sqlite3.connect(path, timeout=30)) as database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=FULL")
                with database:
                    yield database
        except sqlite3.Error as error:
            raise FolderError(
                f"The readers' answers in {path} cannot be read or written: {error}. What was kept stays; nothing more "
                "is kept until whoever serves this run has put the file or its disk right."
            ) from None

    def _check_own(self) -> None:
        """FolderError where another study has taken the place of this one: its readers' answers are of other images."""
        try:
            found = (self.folder / "study.json").read_bytes()
        except OSError:  # whether the answers are still there, the database says
            return
        if found != self._key:
            raise FolderError(f"{self.folder} holds another study than when this server was started. Nothing more is "
                              "kept until whoever serves this run has stopped the server and served the run again.")

    def order(self, reader: str) -> list[str]:
        """All items in this reader's own order."""
        names = sorted(self.items)
        seed = [self.seed, *reader.encode()]
        return [names[k] for k in np.random.default_rng(seed).permutation(len(names))]

    def next(self, reader: str) -> tuple[str | None, int]:
        """The next item that the reader has not judged (None at the end), and how many are judged."""
        with self._database() as database:
            rows = database.execute("SELECT item FROM answers WHERE reader = ?", (reader,)).fetchall()
            judged = {str(row[0]) for row in rows}
            item = next((one for one in self.order(reader) if one not in judged), None)
            if item:
                database.execute("INSERT OR IGNORE INTO shown VALUES (?, ?, ?)", (reader, item, time.time()))
        return item, len(judged)

    def judged(self, code: str) -> tuple[str, int]:
        """The reader who has this code, small and capital letters alike, as first written, and how many are judged."""
        with self._database() as database:
            found = database.execute("SELECT reader, COUNT(*) FROM answers WHERE reader = ? COLLATE NOCASE "
                                     "GROUP BY reader ORDER BY reader = ? DESC", (code, code)).fetchone()
        return found or (code, 0)

    def answer(self, reader: str, item: str, rating: int) -> None:
        """Keep a rating of an image that the reader was shown and can have looked at (`SOONEST`).

        The first one counts: a second click or a page sent again changes nothing.
        """
        assert item in self.items and 1 <= rating <= LEVELS
        with self._database() as database:
            row = database.execute("SELECT at FROM shown WHERE reader = ? AND item = ?", (reader, item)).fetchone()
            now = time.time()
            if row is None or 0 <= now - row[0] < SOONEST:
                return
            database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)",
                             (reader, item, rating, max(now - row[0], 0.0), now))
            judged, = database.execute("SELECT COUNT(*) FROM answers WHERE reader = ?", (reader,)).fetchone()
        if judged == len(self.items):
            self.keep_results()

    def keep_results(self) -> None:
        """Write results.json once a reader has finished."""
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")  # of two who finish at once, the one who counted less must not be last
            found = self.results()
            if found["readers"]:
                write_atomically(self.folder / "results.json", json.dumps(found, indent=1))

    def answers(self) -> list[tuple[str, str, int, float]]:
        """Reader, item, rating, seconds of every answer."""
        with self._database() as database:
            return database.execute("SELECT reader, item, rating, seconds FROM answers ORDER BY reader, at").fetchall()

    def image(self, item: str) -> bytes:
        """The PNG file of an item that exists. FolderError when it is no longer there."""
        assert item in self.items
        try:
            return (self.folder / "images" / f"{item}.png").read_bytes()
        except OSError as error:
            raise FolderError(f"{self.folder} has lost an image of its study: {error.strerror}.") from None

    def results(self) -> dict[str, Any]:
        """Readers who have finished, each with the numbers, then all together. None where there are too few."""
        items = sorted(self.items)
        synthetic = np.array([self.items[item] for item in items])
        finished, unfinished = self._ratings(items)
        readings = [read(reader, ratings, synthetic) for reader, ratings in finished.items()]
        found: dict[str, Any] = {**self.about, "images": len(items), "synthetic": int(synthetic.sum()),
                                 "scale": list(SCALE), "unfinished": unfinished,
                                 "readers": [asdict(reading) for reading in readings]}
        if readings:
            ratings = np.stack(list(finished.values()))
            accuracy, area = pooled(ratings, synthetic, self.seed)
            kappa = fleiss_kappa(ratings > LEVELS // 2)
            found |= {"accuracy": asdict(accuracy), "area": asdict(area),
                      "kappa": None if kappa != kappa else kappa, "words": _words(readings, accuracy, area)}
        return found

    def _ratings(self, items: list[str]) -> tuple[dict[str, NDArray[np.int64]], dict[str, int]]:
        """Ratings in the order of `items` of readers who judged all, and how many the others judged."""
        given: dict[str, dict[str, int]] = {}
        for reader, item, rating, _ in self.answers():
            given.setdefault(reader, {})[item] = rating
        finished = {reader: np.array([ratings[item] for item in items], np.int64)
                    for reader, ratings in given.items() if len(ratings) == len(items)}
        return finished, {reader: len(ratings) for reader, ratings in given.items() if reader not in finished}

    def table(self) -> str:
        """All answers as CSV in the form that the FDA's iMRMC reads, the truth first."""
        buffer = io.StringIO()
        table = csv.writer(buffer)
        table.writerow(("readerID", "caseID", "modalityID", "score"))
        table.writerows(("truth", item, "truth", int(synthetic)) for item, synthetic in sorted(self.items.items()))
        table.writerows((reader, item, "radsynth", rating) for reader, item, rating, _ in self.answers())
        return buffer.getvalue()


def _words(readings: list[Reading], accuracy: Share, area: Share) -> str:
    who = "One reader" if len(readings) == 1 else f"{len(readings)} readers"
    low, value, high = (f"{100 * share:.0f}" for share in (accuracy.low, accuracy.value, accuracy.high))
    said = f"{who} called {value} % of the images rightly ({low} to {high}); "
    if accuracy.low <= 0.5 <= accuracy.high and area.low > 0.5:
        return said + ("that is not clearly different from guessing (50 %). But synthetic images were rated "
                       f"more synthetic than real ones (area under the ROC curve {area.value:.2f}, {area.low:.2f} to "
                       f"{area.high:.2f}): they can be told apart.")
    if accuracy.low <= 0.5 <= accuracy.high and area.high < 0.5:
        return said + ("that is not clearly different from guessing (50 %). But synthetic images were rated more real "
                       f"than real ones (area under the ROC curve {area.value:.2f}, {area.low:.2f} to "
                       f"{area.high:.2f}): they look different, if not synthetic.")
    if accuracy.low <= 0.5 <= accuracy.high:
        return said + ("that is not clearly different from guessing (50 %). It is no proof that the images cannot be "
                       "told apart: more readers or more images may still do it.")
    if accuracy.high < 0.5:
        return said + "that is worse than guessing (50 %): synthetic images were taken for the real ones."
    return said + "that is better than guessing (50 %): the synthetic images can be told apart."


def make_study(run: Path, options: Settings) -> Study:
    """The study in RUN/study, made when it is not there. DataError with too few held-out images.

    One image a patient is taken as long as there are patients, and synthetic images have the real ones' classes.
    """
    folder = Path(run) / "study"
    if not is_free(folder):
        study = Study(folder)
        study.keep_results()  # which a process did not that was killed, or found the disk full, at the last answer
        if options != Settings() and (options.images // 2 * 2, options.seed) != (len(study.items), study.seed):
            tell(f"mind: the reader study of {run} is made, of {len(study.items)} images with study.seed={study.seed}, "
                 f"and stays as it is. For another one move {folder} away, with the answers in it.")
        return study
    if not (Path(run) / "data").is_dir():
        raise FolderError(f"A study shows real images that training never saw beside synthetic ones, and {run}/data, "
                          "where they are, is not there. Put the prepared folder of the training back.")
    prepared = Prepared(Path(run) / "data")
    description = RunFolder(run).description()
    if prepared.manifest.data_hash != description["data_hash"]:
        raise FolderError(f"{run}/data is not what the run was trained on, so its held-out patients are unknown. Put "
                          "the prepared folder of the training back.")
    chosen = _held_out(prepared, options)
    tell(f"making the reader study, once: {2 * len(chosen)} images in {folder}")
    real = prepared.images(chosen)
    made = _as_many(Path(run), prepared.labels(chosen), prepared.spec.labels, options.seed)
    window = shown_window(prepared.spec)
    ends = black_and_white(window, prepared.intensity)
    side = WIDE if layout(prepared.spec) else SIDE
    files = of_equal_length([picture(image, side, ends, spacing=prepared.spec.spacing,
                                     colour=in_colour(prepared.spec.channels))
                             for image in track(np.concatenate([real, made]), label="making pictures", unit="images")])
    items = [{"item": secrets.token_hex(8), "synthetic": k >= len(real)} for k in range(len(files))]
    document = {"version": 1, "seed": options.seed, "weights": RunFolder(run).load_weights()[1]["sha256"],
                "real": " and ".join(sorted({prepared.rows[k].split for k in chosen}, reverse=True)),
                "modality": prepared.spec.modality, "virtual": prepared.spec.virtual, "window": window,
                "layout": layout(prepared.spec),
                "items": sorted(items, key=lambda one: str(one["item"]))}
    with whole_folder(folder) as partial:
        (partial / "images").mkdir()
        for one, content in zip(items, files, strict=True):
            write_atomically(partial / "images" / f"{one['item']}.png", content)
        write_atomically(partial / "study.json", json.dumps(document, indent=1))
    return Study(folder)


def _held_out(prepared: Prepared, options: Settings) -> NDArray[np.int64]:
    """Rows of held-out images, test patients before validation patients, as many patients as possible."""
    rng, chosen, wanted = np.random.default_rng(options.seed), [], options.images // 2
    for split in HELD_OUT:
        rows = rng.permutation(prepared.indices(split))
        chosen += rows[in_turns(prepared.patients(rows))].tolist()
    if len(chosen) < FEWEST:
        raise DataError(f"A reader study needs at least {FEWEST} images of held-out patients; there are {len(chosen)}. "
                        "Prepare more patients, or raise the shares of test and validation.")
    return np.array(chosen[:wanted], np.int64)


def _as_many(run: Path, labels: NDArray[np.int64], names: tuple[str, ...], seed: int) -> NDArray[np.float32]:
    """One synthetic image for each real one, of the same class where there are classes and it was learned.

    Each has a number of its own: of one number images of two classes are alike, which would give them away.
    """
    sampler, first, made = load(run), 0, list[NDArray[np.float32]]()
    with Progress(len(labels), "drawing", "images") as progress:
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            wanted = names[label] if len(names) > 1 and label >= 0 and names[label] in sampler.learned else None
            for images, _ in sampler.images(first, int(count), seed=seed, label=wanted):
                made.append(images)
                progress.update(sum(map(len, made)))
            first += int(count)
    return np.concatenate(made)
