"""MetaImage and NRRD: headers that point elsewhere, faults, the missing extra."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from radsynth import io
from radsynth.errors import DataError, MissingExtra, RejectedFile
from radsynth.image import Image
from radsynth.io import Provenance, metaimage
from tests.io.files import PROVENANCE, one, refused


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
    refused(header_of(tmp_path / "a.mhd", ElementDataFile=target), "points to.* as one|missing")
    refused(header_of(tmp_path / "a.nrrd", data_file=target), "points to.* as one|missing")


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


@pytest.mark.parametrize(("key", "value", "reason"), [
    ("ElementSpacing", "0 0.5 2", "3 numbers other than 0"), ("ElementSpacing", "nan 1 1", "no numbers$"),
    ("ElementSpacing", "0,5 0,5 2,0", "points, not commas"), ("ElementSpacing", "1 1", "3 numbers"),
    ("ElementSpacing", "1 1 1 1", "3 numbers"), ("TransformMatrix", "0 0 0 0 0 0 0 0 0", "9 numbers that turn"),
    ("TransformMatrix", "1,0 0 0 0 1,0 0 0 0 1,0", "no numbers"), ("Offset", "1,5 0 0", "no numbers"),
    ("BinaryData", "False", "as text"),
])
def test_what_simpleitk_would_take_for_zero_is_told_in_words(key: str, value: str, reason: str, tmp_path: Path) -> None:
    metaimage.example(tmp_path)
    text = re.sub(f"(?m)^{key} = .*$", f"{key} = {value}", (tmp_path / "two.mhd").read_text())
    (tmp_path / "a.mhd").write_text(text)
    with pytest.raises(RejectedFile, match=reason):
        io.header(tmp_path / "a.mhd")


def test_pixels_are_never_read_from_elsewhere_in_the_file(tmp_path: Path) -> None:
    metaimage.example(tmp_path)
    pixels = np.arange(240, dtype="<i2").reshape(5, 8, 6)
    text, packed = (tmp_path / "two.mhd").read_text().replace("two.raw", "LOCAL"), zlib.compress(pixels.tobytes())
    first, rest = text.split("\n", 1)
    path, told = tmp_path / "a.mha", f"{first}\nCompressedData = True\nCompressedDataSize ="
    path.write_bytes(f"{told} {len(packed)}\n{rest}".encode() + packed)
    assert np.array_equal(one(path).pixels[0], pixels)
    path.write_bytes(f"{first}\nCompressedData = True\n{rest}".encode() + packed)  # SimpleITK gives what is in memory
    refused(path, "CompressedDataSize")
    path.write_bytes(f"{told} {len(packed) + 9}\n{rest}".encode() + packed)
    refused(path, f"cut short: {len(packed)} bytes of {len(packed) + 9}")
    path.write_bytes(f"{first}\nHeaderSize = 10\n{rest}".encode() + pixels.tobytes())
    refused(path, "HeaderSize")
    (tmp_path / "b.raw").write_bytes(bytes(10) + pixels.tobytes())
    header_of(tmp_path / "b.mhd", HeaderSize="10", ElementDataFile="b.raw")
    assert np.array_equal(one(tmp_path / "b.mhd").pixels[0], pixels)
    (tmp_path / "b.raw").write_bytes(pixels.tobytes())
    refused(tmp_path / "b.mhd", "cut short: 470 bytes of 480")


def test_what_simpleitk_says_is_its_reason_alone(tmp_path: Path) -> None:
    header_of(tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").write_bytes((tmp_path / "a.nrrd").read_bytes().replace(b"endian: little\n", b""))
    refused(tmp_path / "a.nrrd", r"^SimpleITK cannot read it: type \(short\) and encoding \(raw\) require endian info$")


def test_without_simpleitk_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path, *_] = metaimage.example(tmp_path)
    monkeypatch.setattr(metaimage.importlib.util, "find_spec", lambda name: None)
    assert io.header(path).size == (5, 8, 6)
    with pytest.raises(MissingExtra, match=r"radsynth\[itk\]"):
        io.read(path)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("m", 1000), ("\u00b5m", 1e-3), ("meters", 1000)])
def test_lengths_are_in_the_unit_of_the_header(unit: str, mm: float, tmp_path: Path) -> None:
    metaimage.example(tmp_path)
    two = (tmp_path / "two.mhd").read_text().replace("Offset = 0 0 0", f"DistanceUnits = {unit}\nOffset = 1 2 3")
    three = (tmp_path / "three.nrrd").read_bytes().replace(b"origin: (0,0,0)", (
        f'origin: (1,2,3)\nspace units: "{unit}" "{unit}" "{unit}"').encode())
    (tmp_path / "two.mhd").write_text(two)
    (tmp_path / "three.nrrd").write_bytes(three)
    (tmp_path / "four.nrrd").write_bytes(re.sub(rb"space[^\n]*\n", b"", three).replace(
        b"sizes:", f'spacings: 0.5 0.5 2\nunits: "{unit}" "{unit}" "{unit}"\nsizes:'.encode()))
    for name in ("two.mhd", "three.nrrd", "four.nrrd"):
        image = one(tmp_path / name)
        assert image.spacing == pytest.approx((2 * mm, 0.5 * mm, 0.5 * mm))
        assert io.header(tmp_path / name).spacing == pytest.approx(image.spacing)
        if name != "four.nrrd":  # which does not say where it lies
            assert image.affine is not None
            assert image.affine[:3, 3] == pytest.approx([mm, 2 * mm, 3 * mm])


def test_units_that_are_no_length_are_refused(tmp_path: Path) -> None:
    refused(header_of(tmp_path / "a.nrrd", space_units='"furlong" "furlong" "furlong"'), "furlong.* correct its header")
    refused(header_of(tmp_path / "a.nrrd", space_units='"mm" "mm" "s"'), "mm, cm, m and um are known")
    refused(header_of(tmp_path / "a.mhd", DistanceUnits="parsec"), "DistanceUnits are parsec")


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_channels_of_a_flat_nrrd_are_no_columns(channels: int, tmp_path: Path) -> None:
    """A picture of four channels was read as a volume that is four pixels wide."""
    pixels = np.arange(5 * 8 * channels, dtype=np.int16).reshape(5, 8, channels)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.nrrd"))
    refused(tmp_path / "a.nrrd", f"{channels} channels; 2 or 3 sizes, 1 or 3 channels are read")


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_contrasts_that_we_wrote_keep_their_names(ending: str, tmp_path: Path) -> None:
    for names in (("t1", "t2", "flair"), ("pet",)):
        made = Image(pixels=np.arange(len(names) * 60, dtype=np.int16).reshape(-1, 3, 4, 5), channels=names, bits=16,
                     spacing=(2.0, 1.0, 1.0))
        [path] = io.write(made, tmp_path / f"made{ending}", provenance=PROVENANCE)
        assert io.read(path).channels == names
        assert np.array_equal(io.read(path).pixels, made.pixels)


def test_axes_that_lean_are_noted(tmp_path: Path) -> None:
    for shear, told in ((0.01, 0), (0.3, 1)):
        leaning = header_of(tmp_path / "a.nrrd", space_directions=f"(0.5,0,0) (0,0.5,0) (0,{2 * shear},2)")
        metaimage.example(tmp_path)
        text = (tmp_path / "two.mhd").read_text()
        (tmp_path / "a.mhd").write_text(text.replace("0 1 0 0 0 1", f"0 1 0 0 {shear} 1"))
        for file in (leaning, tmp_path / "a.mhd"):
            notes = io.header(file).notes
            assert len(notes) == told and all(note.startswith("its axes lean by 16.7 degrees") for note in notes)


@pytest.mark.parametrize("kept", [0, 300, -40])
@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_a_file_that_a_full_disk_cuts_short_is_none(ending: str, kept: int, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """SimpleITK says nothing where the last bytes of a MetaImage, or all of a small one, are not taken by the disk."""
    itk = metaimage._itk()
    whole = itk.WriteImage

    def cut(made: object, path: str, useCompression: bool) -> None:
        whole(made, path, useCompression=useCompression)
        Path(path).write_bytes(Path(path).read_bytes()[:kept])

    noise = np.random.default_rng(0).integers(0, 60000, (1, 30, 30)).astype(np.uint16)
    image = Image(pixels=noise, modality="MR")
    of = Provenance(model="m", weights="0" * 64, seed=0, index=0, description="d")
    monkeypatch.setattr(itk, "WriteImage", cut)
    with pytest.raises(DataError, match=rf"full\.{ending} cannot be written: .*\(is the disk full\?\)"):
        io.write(image, tmp_path / f"full.{ending}", provenance=of)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    io.write(image, tmp_path / f"full.{ending}", provenance=of)
    assert np.array_equal(io.read(tmp_path / f"full.{ending}").pixels, noise)
