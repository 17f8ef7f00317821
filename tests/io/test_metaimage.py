"""MetaImage and NRRD: headers that point elsewhere, faults, the missing extra."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from radsynth import io
from radsynth.errors import MissingExtra
from radsynth.io import metaimage
from tests.io.files import refused


def header_of(path: Path, **changes: str) -> Path:
    """The example's header with some lines changed."""
    metaimage.example(path.parent)
    name = "two.mhd" if path.suffix == ".mhd" else "three.nrrd"
    lines = (path.parent / name).read_bytes().split(b"\n")
    separator = b" = " if path.suffix == ".mhd" else b": "
    for key, value in changes.items():
        start = key.replace("_", " ").encode() + separator
        kept = [line for line in lines if not line.startswith(start)]
        lines = [kept[0], start + value.encode(), *kept[1:]] if path.suffix == ".nrrd" else [
            *kept[:-2], *([start + value.encode()] if key != "ElementDataFile" else []), kept[-2],
            *([start + value.encode()] if key == "ElementDataFile" else []), *kept[-1:],
        ]  # fmt: skip
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../x.raw", "a/b.raw", "LIST", "slice%03d.raw 1 9 1", "..", "missing.raw"]
)
def test_headers_that_point_elsewhere_are_refused_without_opening(target: str, tmp_path: Path) -> None:
    refused(header_of(tmp_path / "a.mhd", ElementDataFile=target), "points to|missing")
    refused(header_of(tmp_path / "a.nrrd", data_file=target), "points to|missing")


def test_a_link_as_data_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.raw").symlink_to("/etc/passwd")
    refused(header_of(tmp_path / "a.mhd", ElementDataFile="link.raw"), "link")


def test_metaimage_faults(tmp_path: Path) -> None:
    metaimage.example(tmp_path)
    (tmp_path / "two.raw").write_bytes((tmp_path / "two.raw").read_bytes()[:100])
    refused(tmp_path / "two.mhd", "100 bytes of 480")
    refused(header_of(tmp_path / "a.mhd", DimSize="30000 30000 30000"), "limit")
    refused(header_of(tmp_path / "a.mhd", ElementType="MET_STRING"), "MET_STRING")
    refused(header_of(tmp_path / "a.nrrd", sizes="30000 30000 30000"), "limit")
    refused(header_of(tmp_path / "a.nrrd", encoding="bzip2"), "bzip2")
    (tmp_path / "c.raw").write_bytes(zlib.compress(bytes(5 * 2**20)))
    refused(header_of(tmp_path / "a.mhd", CompressedData="True", ElementDataFile="c.raw"), "more than the 480 bytes")
    (tmp_path / "d.raw").write_bytes(gzip.compress(bytes(100)))
    refused(header_of(tmp_path / "a.mhd", CompressedData="True", ElementDataFile="d.raw"), "100 bytes of 480")


def test_without_simpleitk_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path, *_] = metaimage.example(tmp_path)
    monkeypatch.setattr(metaimage.importlib.util, "find_spec", lambda name: None)
    assert io.header(path).size == (5, 8, 6)
    with pytest.raises(MissingExtra, match=r"radsynth\[itk\]"):
        io.read(path)
