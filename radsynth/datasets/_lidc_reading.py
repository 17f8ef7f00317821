"""LIDC's XML files: what up to four radiologists marked in a CT series. Parsed without DTD, entities or schema.

Armato et al. 2011; the elements are described in the LIDC's LidcReadMessage schema (namespace http://www.nih.gov).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RejectedFile
from radsynth.io import NotAnImage

NAMESPACE = "{http://www.nih.gov}"
CHARACTERISTICS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
MAX_BYTES = 64 * 2**20
"""Of an XML file; the largest of LIDC has 5 MB."""

MAX_SIDE = 65_535
"""DICOM's largest number of rows or columns."""

Point = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Contour:
    """An outline on the image `uid`: (column, row) of the first pixels outside. inside=False cuts a hole."""

    uid: str
    points: tuple[Point, ...]
    inside: bool


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """What one reader drew of one nodule of 3 mm or more. ratings: characteristic -> 1 to 6, those that are given."""

    reader: int
    ratings: dict[str, int]
    contours: tuple[Contour, ...]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All marks in one series. readers: how many sessions there are, also those that marked nothing; path: the file."""

    path: str
    series: str
    readers: int
    nodules: tuple[Nodule, ...]


class _NoDoctype(ElementTree.TreeBuilder):
    """Stops at a DOCTYPE, before any entity in it is declared, in whatever encoding it is written."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise RejectedFile("it has a DOCTYPE, which could declare entities; LIDC's files have none")


def parse(path: Path) -> Reading:
    """The marks of a file. NotAnImage for XML of another kind; RejectedFile for one that is broken or not safe."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RejectedFile(f"it has {path.stat().st_size:,} bytes; the limit is {MAX_BYTES:,}")
        parser = ElementTree.XMLParser(target=_NoDoctype())
        parser.feed(path.read_bytes())
        root = parser.close()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, RejectedFile):
            raise
        raise RejectedFile(f"the XML cannot be read: {error}") from None
    if root.tag != f"{NAMESPACE}LidcReadMessage":
        raise NotAnImage("it is no XML of LIDC's CT readings")
    header = f"{NAMESPACE}ResponseHeader/{NAMESPACE}SeriesInstance"
    series = _text(root, f"{header}Uid") or _text(root, f"{header}UID")  # some files write it like this
    if not series:
        raise RejectedFile("it names no SeriesInstanceUid")
    sessions = root.findall(f"{NAMESPACE}readingSession")
    nodules = [
        _nodule(number, element)
        for number, session in enumerate(sessions)
        for element in session.findall(f"{NAMESPACE}unblindedReadNodule")
    ]
    drawn = tuple(nodule for nodule in nodules if any(len(contour.points) > 1 for contour in nodule.contours))
    return Reading(path=str(path), series=series, readers=len(sessions), nodules=drawn)


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _nodule(reader: int, element: ElementTree.Element) -> Nodule:
    ratings = {}
    for name in CHARACTERISTICS:
        given = _text(element, f"{NAMESPACE}characteristics/{NAMESPACE}{name}")
        if given and given != "0":
            ratings[name] = _integer(given, name, 1, 6)
    contours = tuple(
        Contour(
            uid=_text(roi, f"{NAMESPACE}imageSOP_UID"),
            inside=_text(roi, f"{NAMESPACE}inclusion").upper() != "FALSE",
            points=tuple(
                (
                    _integer(_text(edge, f"{NAMESPACE}xCoord"), "xCoord", 0, MAX_SIDE),
                    _integer(_text(edge, f"{NAMESPACE}yCoord"), "yCoord", 0, MAX_SIDE),
                )
                for edge in roi.findall(f"{NAMESPACE}edgeMap")
            ),
        )
        for roi in element.findall(f"{NAMESPACE}roi")
    )
    return Nodule(reader=reader, ratings=ratings, contours=contours)


def _integer(text: str, name: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise RejectedFile(f"its {name} is '{text[:40]}'; a whole number from {low} to {high} is read")
    return value


def same_nodules(nodules: tuple[Nodule, ...]) -> list[list[Nodule]]:
    """Drawings of one nodule together: those whose boxes overlap on an image, and what they share overlaps with."""
    boxes = [{contour.uid: _box(contour) for contour in one.contours if contour.inside} for one in nodules]
    group = list(range(len(nodules)))
    for first in range(len(nodules)):
        for second in range(first):
            shared = boxes[first].keys() & boxes[second].keys()
            if any(_overlap(boxes[first][uid], boxes[second][uid]) for uid in shared):
                old, new = group[first], group[second]
                group = [new if number == old else number for number in group]
    return [[one for one, own in zip(nodules, group, strict=True) if own == number] for number in dict.fromkeys(group)]


def _box(contour: Contour) -> tuple[int, int, int, int]:
    columns, rows = zip(*contour.points, strict=True) if contour.points else ((0,), (0,))
    return min(columns), min(rows), max(columns), max(rows)


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return all(one[axis] <= other[axis + 2] and other[axis] <= one[axis + 2] for axis in (0, 1))


def rating(group: list[Nodule], name: str) -> float | None:
    """The mean over the readers that gave one."""
    given = [nodule.ratings[name] for nodule in group if name in nodule.ratings]
    return math.fsum(given) / len(given) if given else None


Outlines = tuple[tuple[int, tuple[Contour, ...]], ...]
"""(reader, its contours on one image), for each drawing."""


def consensus(outlines: Outlines, size: tuple[int, int], readers: int) -> NDArray[np.uint8]:
    """(rows, columns): 1 where at least `readers` readers drew a nodule. RejectedFile for an outline outside."""
    drawn: dict[int, NDArray[np.bool_]] = {}
    for reader, contours in outlines:
        area = np.zeros(size, bool)
        for contour in sorted(contours, key=lambda contour: not contour.inside):
            filled = fill(contour.points, size)
            area = area | filled if contour.inside else area & ~filled
        drawn[reader] = drawn.get(reader, np.zeros(size, bool)) | area
    votes = np.zeros(size, np.int32)
    for area in drawn.values():
        votes += area
    return np.asarray(votes >= readers, dtype=np.uint8)


def fill(points: tuple[Point, ...], size: tuple[int, int]) -> NDArray[np.bool_]:
    """What an outline encloses, without the outline itself: its pixels are the first outside of the nodule."""
    from skimage.draw import polygon, polygon_perimeter

    columns, rows = np.array(points).reshape(-1, 2).T
    if len(points) and (columns.max() >= size[1] or rows.max() >= size[0]):
        raise RejectedFile(f"an outline in the XML leaves the picture of {size[0]} x {size[1]} pixels")
    area = np.zeros(size, bool)
    if len(points) > 2:
        area[polygon(rows, columns, size)] = True
        area[polygon_perimeter(rows, columns, size)] = False
    return area
