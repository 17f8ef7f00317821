"""DICOM files that lie, are broken, or want to run something."""

from __future__ import annotations

import os
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from radsynth import io
from radsynth.errors import RejectedFile
from radsynth.io import _decoding
from tests.io.dicom_files import PROVENANCE, edited, shipped
from tests.io.files import one


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "no_meta.dcm", "meta_missing_tsyntax.dcm", "badVR.dcm"])
def test_broken_files_are_rejected_with_the_reason(name: str) -> None:
    with pytest.raises(RejectedFile, match=r"\w+ \w+ \w+"):
        io.read(shipped(name))


@pytest.mark.parametrize(
    "name", ["rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm", "reportsi.dcm", "rtdose.dcm", "liver_1frame.dcm"]
)
def test_objects_without_pictures_are_told_from_broken_ones(name: str) -> None:
    with pytest.raises(io.NotAnImage, match=", not an image"):
        io.header(shipped(name))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("Rows", 65535, "limit"),
        ("NumberOfFrames", 100_000, "limit"),
        ("Rows", 0, "no pixels"),
        ("BitsStored", 77, "bits"),
    ],
)
def test_headers_that_claim_too_much_are_refused_at_once(field: str, value: int, reason: str, tmp_path: Path) -> None:
    def claim(dataset: Dataset) -> None:
        setattr(dataset, field, value)
        if value == 65535:
            dataset.Columns = value

    path = edited("CT_small.dcm", tmp_path / "a.dcm", claim)
    for look in (io.header, io.read):
        with pytest.raises(RejectedFile, match=reason):
            look(path)


def test_a_sequence_nested_300_deep_harms_nobody(tmp_path: Path) -> None:
    """Without lengths the parser has to follow it down and gives up; with lengths nobody looks into it."""
    depth = 300
    opened = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closed = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    content = shipped("CT_small.dcm").read_bytes()
    place = content.index(b"\x10\x00\x10\x00PN")  # before the patient's name
    path = tmp_path / "deep.dcm"
    path.write_bytes(content[:place] + opened * depth + closed * depth + content[place:])
    with pytest.raises(RejectedFile, match="deep"):
        io.read(path)


def test_a_deflated_bomb_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    def plain(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    path = edited("CT_small.dcm", tmp_path / "bomb.dcm", plain)
    content = path.read_bytes()
    length = 132 + 12 + int(pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength)
    packer = zlib.compressobj(wbits=-15)
    body = b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()
    path.write_bytes(content[:length] + body)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(RejectedFile, match="bomb"):
        io.header(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_program_in_the_preamble_is_flagged_and_never_written_on(tmp_path: Path) -> None:
    path = tmp_path / "MZ.dcm"
    path.write_bytes(b"MZ\x90" + shipped("CT_small.dcm").read_bytes()[3:])
    assert "MZ" in io.header(path).notes[0]
    [written] = io.write(one(path), tmp_path / "out.dcm", provenance=PROVENANCE)
    assert written.read_bytes()[:128] == bytes(128)


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"])
def test_mutated_pixels_cost_one_file_and_never_the_process(name: str, tmp_path: Path) -> None:
    """GDCM dies of some of these, pylibjpeg panics at others; the next good file is read all the same."""
    content, rng, path = shipped(name).read_bytes(), np.random.default_rng(0), tmp_path / "mutated.dcm"
    whole = one(shipped(name)).pixels
    start = content.index(b"\xe0\x7f\x10\x00")
    rejected = 0
    for _ in range(100 if "gdcm" in name else 40):
        mutated = bytearray(content)
        for place in rng.integers(start + 12, len(content), 8):
            mutated[place] = int(rng.integers(0, 256))
        path.write_bytes(mutated)
        try:
            io.read(path)
        except RejectedFile as error:
            rejected += bool(str(error))
    assert rejected > 5
    assert np.array_equal(one(shipped(name)).pixels, whole)


def test_a_decoder_that_dies_or_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    good = shipped("MR_small_RLE.dcm")
    io.read(good)
    child = _decoding._child
    assert child is not None
    io.read(good)
    assert _decoding._child is child, "one child serves many files"
    monkeypatch.setattr(_decoding, "TIME_LIMIT", 0.3)
    os.kill(child.process.pid, 19)  # SIGSTOP: it hangs
    start = time.monotonic()
    with pytest.raises(RejectedFile, match="stopped after"):
        io.read(good)
    assert time.monotonic() - start < 5
    monkeypatch.setattr(_decoding, "TIME_LIMIT", 60.0)
    assert one(good).space == (64, 64)
    assert _decoding._child is not child
    _decoding._child.process.kill()  # type: ignore[union-attr]  # it was just used
    time.sleep(0.1)
    assert one(good).space == (64, 64)


def test_decimal_commas_are_read_as_points_and_noted(tmp_path: Path) -> None:
    content, path = shipped("CT_small.dcm").read_bytes(), tmp_path / "a.dcm"
    # Pixel Spacing, Slice Thickness, Image Position, Rescale Intercept: as decimal strings of the same lengths
    for tag in (b"\x28\x00\x30\x00DS", b"\x18\x00\x50\x00DS", b"\x20\x00\x32\x00DS", b"\x28\x00\x52\x10DS"):
        at = content.index(tag) + 8
        length = int.from_bytes(content[at - 2:at], "little")
        values = content[at:at + length].replace(b".", b",").replace(b"-1024 ", b"-1024,")
        content = content[:at] + values + content[at + length:]
    path.write_bytes(content)
    expected, image = one(shipped("CT_small.dcm")), one(path)
    assert expected.affine is not None and image.affine is not None and np.allclose(image.affine, expected.affine)
    assert (image.spacing, image.thickness) == (expected.spacing, 5.0)
    assert np.array_equal(image.pixels, expected.pixels), "also the intercept, without which air is no air"
    (note,) = io.header(path).notes
    assert note.startswith("decimal commas in PixelSpacing, SliceThickness, ImagePositionPatient, RescaleIntercept,")
    assert not io.header(shipped("CT_small.dcm")).notes


@pytest.mark.parametrize(("name", "values", "assumed"), [
    ("PixelSpacing", b"abc\\def ", "the size of its pixels counts as unknown"),
    ("PixelSpacing", b"0\\0 ", "the size of its pixels counts as unknown"),
    ("PixelSpacing", b"-0.8\\-0.7 ", "the size of its pixels counts as unknown"),
    ("PixelSpacing", b"0.8 ", "the size of its pixels counts as unknown"),
    ("SliceThickness", b"-3", "counts as unknown"),
    ("SpacingBetweenSlices", b"thin", "counts as unknown"),
    ("ImagePositionPatient", b"1\\nan\\2 ", "stands alone"),
    ("ImageOrientationPatient", b"1\\0\\0\\1\\0\\0 ", "stands alone"),
    ("ImageOrientationPatient", b"1\\0\\0\\x\\0\\0 ", "stands alone"),
])
def test_what_cannot_tell_a_size_or_place_is_noted(tmp_path: Path, name: str, values: bytes, assumed: str) -> None:
    (note,) = io.header(edited("CT_small.dcm", tmp_path / "a.dcm", lambda it: put(it, name, values))).notes
    assert note.startswith(f"{name} is not ") and assumed in note


def test_a_missing_size_or_an_empty_one_is_no_fault(tmp_path: Path) -> None:
    for name in ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"):
        assert not io.header(edited("CT_small.dcm", tmp_path / "a.dcm", lambda it, name=name: put(it, name, b""))).notes
    bare = edited("CT_small.dcm", tmp_path / "b.dcm", lambda it: delattr(it, "PixelSpacing"))
    assert (io.header(bare).spacing, io.header(bare).notes) == (None, ())


def test_the_note_says_which_other_size_is_taken(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        put(dataset, "PixelSpacing", b"0\\0 ")
        dataset.ImagerPixelSpacing = [0.2, 0.3]

    found = io.header(edited("CT_small.dcm", tmp_path / "a.dcm", edit))
    assert found.spacing == (0.2, 0.3)
    assert found.notes == ("PixelSpacing is not two numbers above 0: ImagerPixelSpacing is taken",)


def put(dataset: Dataset, name: str, values: bytes) -> None:
    """An element with bytes that pydicom would not write by itself."""
    tag = Tag(name)
    dataset._dict[tag] = RawDataElement(tag, "DS", len(values), values, 0, False, True)


@pytest.mark.parametrize("values", [b"nan ", b"ab", b"1\\2 "])
@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept"])
def test_values_whose_scale_nobody_knows_are_rejected(tmp_path: Path, name: str, values: bytes) -> None:
    """CT of an intercept that cannot be read was called HU, 1024 off."""
    path = edited("CT_small.dcm", tmp_path / "a.dcm", lambda it: put(it, name, values))
    for looks in (io.header, io.read):
        with pytest.raises(RejectedFile, match=f"its {name} is not one number"):
            looks(path)


def test_ct_without_an_intercept_is_not_in_hounsfield_units(tmp_path: Path) -> None:
    path = edited("CT_small.dcm", tmp_path / "a.dcm", lambda it: put(it, "RescaleIntercept", b""))
    assert (io.header(path).units, one(path).units) == ("stored", "stored")


def test_bits_that_may_lie_elsewhere_are_noted(tmp_path: Path) -> None:
    path = edited("CT_small.dcm", tmp_path / "a.dcm", lambda it: setattr(it, "HighBit", 11))
    (note,) = io.header(path).notes
    assert note.startswith("its HighBit is 11, where 16 bits stored make it 15")


@pytest.mark.parametrize(("name", "kind", "bits"), [("FloatPixelData", "<f4", 32), ("DoubleFloatPixelData", "<f8", 64)])
def test_floating_point_pixels_are_called_so(tmp_path: Path, name: str, kind: str, bits: int) -> None:
    def edit(dataset: Dataset) -> None:
        setattr(dataset, name, dataset.pixel_array.astype(kind).tobytes())
        dataset.BitsAllocated = bits
        for other in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(dataset, other)

    path = edited("MR_small.dcm", tmp_path / "a.dcm", edit)
    for reading in (io.header, io.read):
        with pytest.raises(RejectedFile, match="floating-point numbers"):
            reading(path)
