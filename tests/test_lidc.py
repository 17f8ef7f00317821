"""LIDC-IDRI: outlines lie where readers drew them, readers agree or not, broken and hostile XML is refused."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from radsynth.datasets import Record, Rejected, recognise
from radsynth.datasets._lidc_reading import Contour, consensus, fill, parse
from radsynth.datasets.lidc import Settings, example, example_xml, records
from radsynth.errors import DataError, RejectedFile


def found(settings: Settings) -> tuple[list[Record], list[Rejected]]:
    rejected: list[Rejected] = []
    return list(records(settings, rejected)), rejected


def xml_of(folder: Path, number: int = 1) -> Path:
    return folder / f"LIDC-IDRI-000{number}" / "01-01-2000-1" / "3000566-1" / "069.xml"


def test_it_is_recognised_and_without_its_xml_says_what_is_missing(tmp_path: Path) -> None:
    example(tmp_path)
    assert recognise(tmp_path) == "lidc"
    for number in (1, 2, 3):
        xml_of(tmp_path, number).unlink()
    (tmp_path / "LIDC-IDRI-0001" / "LICENSE").write_text("CC BY 3.0")
    assert recognise(tmp_path) == "lidc"
    with pytest.raises(DataError, match=r"LIDC-XML-only.*data\.kind=folder"):
        found(Settings(path=tmp_path))


def test_pictures_made_of_it_are_a_plain_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"LIDC-IDRI-000{number}").mkdir()
        Pillow.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / f"LIDC-IDRI-000{number}/1.png")
    assert recognise(tmp_path) == "folder"


def test_images_that_the_readers_saw_and_that_are_not_here_are_told(tmp_path: Path) -> None:
    every, rejected = found(example(tmp_path))
    assert not rejected
    Path(every[0].files[0]).unlink()
    left, (line,) = found(Settings(path=tmp_path))
    assert len(left) == len(every) - 1 and line.path == "LIDC-IDRI-0001/01-01-2000-1/3000566-1" and not line.skipped
    assert line.reason.startswith("it lacks 1 of the 1 images on which a nodule was drawn")


def test_slices_have_values_label_patient_and_the_mask_of_two_readers(tmp_path: Path) -> None:
    every, rejected = found(example(tmp_path))
    assert not rejected and [record.label for record in every] == ["malignant", "benign", "uncertain"]
    assert [record.patient for record in every] == [f"LIDC-IDRI-000{number}" for number in (1, 2, 3)]
    image = every[0].load()
    dataset = pydicom.dcmread(every[0].files[0])
    np.testing.assert_array_equal(image.pixels[0], dataset.pixel_array.astype(int) + int(dataset.RescaleIntercept))
    # The outlines, columns 5 to 11 and 6 to 12 and rows 7 to 13, lie outside: insides are 6-10 and 7-11, rows 8-12.
    expected = np.zeros((24, 20), np.uint8)
    expected[8:13, 7:11] = 1
    assert image.mask is not None
    np.testing.assert_array_equal(image.mask, expected)


def test_a_slice_on_which_readers_share_no_pixel_shows_no_nodule(tmp_path: Path) -> None:
    """At the ends of a nodule outlines enclose a pixel or two, and each reader's may be another."""
    example(tmp_path)
    first, *sessions = re.split("(?=<readingSession>)", xml_of(tmp_path).read_text())
    for number, column in enumerate((8, 9)):
        around = ((column, 9), (column + 1, 10), (column, 11), (column - 1, 10))
        points = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in around)
        sessions[number] = re.sub("<edgeMap>.*</edgeMap>", points, sessions[number])
    xml_of(tmp_path).write_text(first + "".join(sessions))
    assert [record.label for record in found(Settings(path=tmp_path))[0]] == ["benign", "uncertain"]
    every, _ = found(Settings(path=tmp_path, slices="all"))
    assert [record.label for record in every[:3]] == ["none"] * 3
    alone = found(Settings(path=tmp_path, readers=1))[0][0]
    mask = alone.load().mask
    assert alone.label == "malignant" and mask is not None and [*map(list, np.argwhere(mask))] == [[10, 8], [10, 9]]


def test_one_reader_is_enough_when_asked_and_three_are_too_many(tmp_path: Path) -> None:
    example(tmp_path)
    every, _ = found(Settings(path=tmp_path, readers=1))
    mask = every[0].load().mask
    assert mask is not None and mask[8:13, 6:12].all() and mask.sum() == 30
    assert not found(Settings(path=tmp_path, readers=3))[0]


def test_all_slices_go_from_the_feet_to_the_head(tmp_path: Path) -> None:
    example(tmp_path)
    every, _ = found(Settings(path=tmp_path, slices="all"))
    assert len({record.volume for record in every}) == 3 and "" not in {record.volume for record in every}
    assert len(every) == 9 and [record.label for record in every[:3]] == ["none", "malignant", "none"]
    heights = [pydicom.dcmread(record.files[0]).ImagePositionPatient[2] for record in every[:3]]
    assert heights == sorted(heights)
    mask = every[0].load().mask
    assert mask is not None and not mask.any()
    assert {record.label for record in found(Settings(path=tmp_path, label="none"))[0]} == {None}


def test_xml_in_a_folder_of_its_own(tmp_path: Path) -> None:
    example(tmp_path)
    (tmp_path / "tcia-lidc-xml" / "157").mkdir(parents=True)
    for number in (1, 2, 3):
        xml_of(tmp_path, number).rename(tmp_path / "tcia-lidc-xml" / "157" / f"15{number}.xml")
    assert recognise(tmp_path) == "lidc" and len(found(Settings(path=tmp_path))[0]) == 3


def test_one_patient_alone_and_patients_one_level_down(tmp_path: Path) -> None:
    example(tmp_path)
    one = tmp_path / "LIDC-IDRI-0002"
    assert recognise(one) == "lidc" and len(found(Settings(path=one))[0]) == 1
    (tmp_path / "manifest" / "LIDC-IDRI").mkdir(parents=True)
    one.rename(tmp_path / "manifest" / "LIDC-IDRI" / one.name)
    assert recognise(tmp_path / "manifest") == "lidc" and len(found(Settings(path=tmp_path / "manifest"))[0]) == 1


def test_parsed_values(tmp_path: Path) -> None:
    example(tmp_path)
    reading = parse(xml_of(tmp_path))
    assert reading.readers == 2 and [nodule.reader for nodule in reading.nodules] == [0, 1]
    assert reading.nodules[0].ratings == dict.fromkeys(reading.nodules[0].ratings, 5)
    assert len(reading.nodules[0].ratings) == 9 and len(reading.nodules[0].contours[0].points) == 24


def test_a_hole_is_cut_and_a_point_encloses_nothing(tmp_path: Path) -> None:
    example(tmp_path)
    text = xml_of(tmp_path).read_text().replace("TRUE", "FALSE", 1)
    xml_of(tmp_path).write_text(text)
    contour = parse(xml_of(tmp_path)).nodules[0].contours[0]
    assert not contour.inside
    assert not consensus(((0, (contour,)),), (24, 20), 1).any()
    assert not fill(((3, 3),), (24, 20)).any() and not fill((), (24, 20)).any()
    around, hole = (Contour(uid="1", points=((low, low), (low, high), (high, high), (high, low)), inside=inside)
                    for low, high, inside in ((2, 14, True), (5, 11, False)))
    for order in ((around, hole), (hole, around)):
        ring = consensus(((0, order),), (24, 20), 1)
        assert ring[3, 3] == ring[4, 8] == 1 and ring[8, 8] == 0 and ring.sum() == 11**2 - 5**2


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
EXTERNAL = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("extra", [BOMB, EXTERNAL, '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_entity_bomb_is_refused_in_any_encoding(tmp_path: Path, extra: str, encoding: str) -> None:
    example(tmp_path)
    text = example_xml("1.2.3", "1.2.3.4", 5).replace("<Lidc", f"{extra}<Lidc").replace("UTF-8", encoding)
    xml_of(tmp_path).write_text(text, encoding=encoding)
    start = time.monotonic()
    every, rejected = found(Settings(path=tmp_path))
    assert time.monotonic() - start < 5 and len(every) == 2
    reasons = {line.path: line.reason for line in rejected}
    assert "DOCTYPE" in reasons["LIDC-IDRI-0001/01-01-2000-1/3000566-1/069.xml"]
    assert "no XML" in reasons["LIDC-IDRI-0001/01-01-2000-1/3000566-1"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</LidcReadMessage>", "", "cannot be read"),
        ("<xCoord>5</xCoord>", "<xCoord>1e9</xCoord>", "xCoord is '1e9'"),
        ("<xCoord>5</xCoord>", "<xCoord>-1</xCoord>", "xCoord is '-1'"),
        ("<xCoord>5</xCoord>", "<xCoord>99999999</xCoord>", "xCoord"),
        ("<malignancy>5<", "<malignancy>50<", "malignancy is '50'"),
        ("<SeriesInstanceUid>", "<SeriesInstanceUid/><Other>", "cannot be read"),
        ('"UTF-8"', '"no-such"', "cannot be read"),
    ],
)
def test_broken_xml_is_a_line_of_the_table(tmp_path: Path, old: str, new: str, words: str) -> None:
    example(tmp_path)
    text = xml_of(tmp_path).read_text()
    assert old in text
    xml_of(tmp_path).write_text(text.replace(old, new))
    every, rejected = found(Settings(path=tmp_path))
    assert len(every) == 2 and len(rejected) == 2 and words in rejected[0].reason


def test_other_xml_and_radiographs_are_skipped(tmp_path: Path) -> None:
    example(tmp_path)
    (xml_of(tmp_path).parent / "071.xml").write_text('<IdriReadMessage xmlns="http://www.nih.gov/idri"/>')
    (xml_of(tmp_path).parent / "notes.txt").write_text("text")
    (xml_of(tmp_path).parent / "again.xml").write_bytes(xml_of(tmp_path).read_bytes())
    every, rejected = found(Settings(path=tmp_path))
    assert len(every) == 3 and len(rejected) == 3 and all(line.skipped for line in rejected)


def test_an_outline_outside_of_its_picture_rejects_the_slice(tmp_path: Path) -> None:
    example(tmp_path)
    xml_of(tmp_path).write_text(xml_of(tmp_path).read_text().replace("<xCoord>5</xCoord>", "<xCoord>600</xCoord>"))
    every, _ = found(Settings(path=tmp_path))
    with pytest.raises(RejectedFile, match="leaves the picture"):
        every[0].load()
    with pytest.raises(DataError, match="is not LIDC-IDRI"):
        found(Settings(path=tmp_path / "nowhere"))
