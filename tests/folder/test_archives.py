"""Archives are read like folders, and the hostile ones are refused."""

from __future__ import annotations

import io as streams
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from radsynth.datasets import recognise
from radsynth.errors import DataError
from tests.folder.examples import found, picture, reasons


def zipped(path: Path, *names: str, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def test_archives_are_read_like_folders(tmp_path: Path) -> None:
    picture(tmp_path / "in/a/1.png")
    picture(tmp_path / "in/b/2.png", 1)
    for form in ("zip", "tar", "gztar"):
        archive = Path(shutil.make_archive(str(tmp_path / f"data-{form}"), form, tmp_path / "in"))
        assert recognise(archive) == "folder"
        records, _ = found(archive)
        assert [(record.source, record.label) for record in records] == [("a/1.png", "a"), ("b/2.png", "b")]
        assert records[1].load().space == (12, 10)
        assert found(archive)[0][0].files == records[0].files, "unpacked once"


def test_folders_of_an_archive_may_be_named_as_windows_does(tmp_path: Path) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data\\", b"")
        archive.writestr("data\\a.png", content)
    assert [record.source for record in found(tmp_path / "a.zip")[0]] == ["data/a.png"]


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil.png", "..\\evil.png"])
def test_archives_that_climb_out_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="outside the folder"):
        found(zipped(tmp_path / "a.zip", "good.png", name))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, streams.BytesIO(b"x"))
    with pytest.raises(DataError, match="outside the folder"):
        found(tmp_path / "a.tar")
    assert not list(tmp_path.parent.glob("evil*"))


def test_archives_with_links_are_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link.png")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "link")
    for name in ("a.zip", "a.tar"):
        with pytest.raises(DataError, match="link or a device"):
            found(tmp_path / name)


def test_archive_bombs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bomb"):
        found(zipped(tmp_path / "a.zip", "a.png", content=bytes(10**7)))
    (tmp_path / "zeros.png").write_bytes(bytes(10**7))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "zeros.png", "zeros.png")
    with pytest.raises(DataError, match="bomb"):
        found(tmp_path / "a.tar.gz")


def test_a_damaged_archive_is_one_clear_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "a.png", content=os.urandom(5000))
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        found(path)


def test_an_archive_among_images_is_skipped_and_told_from_what_only_looks_like_one(tmp_path: Path) -> None:
    picture(tmp_path / "in/a.png")
    (tmp_path / "in/more").mkdir()
    zipped(tmp_path / "in/more/b.zip", "b.png")
    zipped(tmp_path / "in/letter.docx", "word/document.xml")
    records, rejected = found(tmp_path / "in")
    assert len(records) == 1 and all(line.skipped for line in rejected)
    assert "unpack it" in reasons(rejected)["more/b.zip"] and "no format" in reasons(rejected)["letter.docx"]
