"""DICOM pixels: every way to store them, Hounsfield units, inversion, colour, padding, missing decoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from radsynth import io
from radsynth.errors import MissingExtra, RejectedFile
from radsynth.io import _dicom_pixels, _dicom_single
from radsynth.io._dicom_frames import instances
from radsynth.io._dicom_series import read_series
from tests.io.dicom_files import Edit, edited, shipped
from tests.io.files import one


@pytest.mark.parametrize(
    "name",
    ["RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian", "implicit", "padded", "expb"],
)
def test_every_way_to_store_the_same_mr_gives_the_same_pixels(name: str) -> None:
    plain, other = one(shipped("MR_small.dcm")), one(shipped(f"MR_small_{name}.dcm"))
    assert np.array_equal(plain.pixels, other.pixels)
    assert (other.modality, other.units, other.spacing) == ("MR", "stored", (0.3125, 0.3125))


def test_deflated_is_read() -> None:
    assert one(shipped("image_dfl.dcm")).space == (512, 512)


def test_ct_is_in_hounsfield_units() -> None:
    raw = pydicom.dcmread(shipped("CT_small.dcm")).pixel_array
    image = one(shipped("CT_small.dcm"))
    assert np.array_equal(image.pixels[0], raw - 1024)
    assert (image.modality, image.units, image.bits) == ("CT", "HU", 16)
    assert image.affine is not None and image.affine[:3, 3] == pytest.approx([-158.135803, -179.035797, -75.699997])


def test_monochrome1_is_inverted_exactly_once(tmp_path: Path) -> None:
    def invert(dataset: Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    path = edited("CT_small.dcm", tmp_path / "a.dcm", invert)
    raw = pydicom.dcmread(path).pixel_array.astype(int)
    assert np.array_equal(one(path).pixels[0], (-1 - raw) - 1024)  # 16 bits signed: the ends swap
    unsigned = edited("examples_overlay.dcm", tmp_path / "b.dcm", invert)  # 12 bits unsigned
    assert np.array_equal(one(unsigned).pixels[0], 4095 - pydicom.dcmread(unsigned).pixel_array.astype(int))


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm.dcm", "JPGExtended.dcm"])
def test_a_missing_decoder_is_named_and_with_it_the_file_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if _dicom_pixels.has_gdcm():
        assert one(shipped(name)).pixels.max() > 200
    monkeypatch.setattr(_dicom_pixels, "has_gdcm", lambda: False)
    with pytest.raises(MissingExtra, match=r"radsynth\[gdcm\]"):
        io.read(shipped(name))


def test_colour_has_one_policy_and_frames_are_expanded() -> None:
    rgb, palette = one(shipped("examples_rgb_color.dcm")), one(shipped("examples_palette.dcm"))
    assert (rgb.pixels.shape, rgb.bits, rgb.channels) == ((3, 240, 320), 8, ("red", "green", "blue"))
    assert (palette.pixels.shape, palette.pixels.dtype, palette.bits) == ((3, 350, 800), np.uint8, 8)
    stored = pydicom.dcmread(shipped("examples_palette.dcm"))
    colours = pydicom.pixels.apply_color_lut(pydicom.pixels.pixel_array(stored), stored)
    assert colours.max() > 255 and np.array_equal(palette.pixels, np.moveaxis(colours // 256, -1, 0)), "16 bits as 8"
    frames = io.read(shipped("examples_ybr_color.dcm"))
    assert isinstance(frames, list) and len(frames) == 30
    assert {frame.pixels.shape for frame in frames} == {(3, 240, 320)}
    assert not np.array_equal(frames[0].pixels, frames[29].pixels)


def unused_bits(dataset: Dataset) -> None:
    """12 of 16 bits, with an overlay in those above, as old scanners wrote it."""
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelData = (pydicom.pixels.pixel_array(dataset).astype("<i2") | 0x5000).tobytes()


def short_of_pixels(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-2]


@pytest.mark.parametrize(
    ("name", "edit"),
    [("MR_small.dcm", None), ("MR_small_implicit.dcm", None), ("MR_small_padded.dcm", None), ("CT_small.dcm", None),
     ("CT_small.dcm", unused_bits), ("examples_overlay.dcm", None), ("MR_small_RLE.dcm", None),
     ("MR_small_jp2klossless.dcm", None), ("MR_small_jpeg_ls_lossless.dcm", None), ("J2K_pixelrep_mismatch.dcm", None)],
)  # fmt: skip
def test_pixels_are_the_same_without_a_second_parsing(name: str, edit: Edit | None, tmp_path: Path) -> None:
    path = edited(name, tmp_path / "a.dcm", edit) if edit else shipped(name)
    (found,) = instances(path)
    assert found.single is not None
    quick, usual = _dicom_single.read(found, found.single), one(path)
    assert quick.pixels.dtype == usual.pixels.dtype and np.array_equal(quick.pixels, usual.pixels)
    assert (quick.window, quick.spacing, quick.units, quick.bits) == (
        usual.window, usual.spacing, usual.units, usual.bits)  # fmt: skip
    np.testing.assert_array_equal(quick.affine, usual.affine)


@pytest.mark.parametrize(
    "name", ["MR_small_bigendian.dcm", "MR_small_expb.dcm", "examples_palette.dcm", "examples_rgb_color.dcm",
             "image_dfl.dcm", "SC_rgb_jpeg_gdcm.dcm"],
)  # fmt: skip
def test_other_pixels_are_parsed_again(name: str, tmp_path: Path) -> None:
    def with_table(dataset: Dataset) -> None:
        dataset.ModalityLUTSequence = [Dataset()]

    assert instances(shipped(name))[0].single is None
    assert instances(edited("CT_small.dcm", tmp_path / "table.dcm", with_table))[0].single is None


def test_a_slice_that_lacks_pixels_is_rejected(tmp_path: Path) -> None:
    """What the file itself lacks is seen before its series is put together, and costs this slice alone."""
    [found] = instances(edited("CT_small.dcm", tmp_path / "short.dcm", short_of_pixels))
    assert found.single is not None
    with pytest.raises(RejectedFile, match="bytes are there"):
        _dicom_single.read(found, found.single)
    (tmp_path / "cut.dcm").write_bytes(shipped("CT_small.dcm").read_bytes()[:-1000])
    with pytest.raises(RejectedFile, match=r"its pixels are cut short: .* bytes are there"):
        instances(tmp_path / "cut.dcm")


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
                                  "examples_rgb_color.dcm", "examples_ybr_color.dcm", "MR_small_bigendian.dcm"])
def test_a_file_that_ends_within_its_pixels_is_seen_by_its_header(name: str, tmp_path: Path) -> None:
    content, part = shipped(name).read_bytes(), tmp_path / "part.dcm"
    assert instances(shipped(name))
    for length in (len(content) - 300, len(content) * 2 // 3):
        part.write_bytes(content[:length])
        with pytest.raises(RejectedFile, match="pixels are cut short"):
            instances(part)


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"]
)
def test_padding_is_as_dark_as_the_darkest_of_the_rest(name: str, tmp_path: Path) -> None:
    """Else a few pixels of -32768 around a turned image would be most of its range."""

    def pad(dataset: Dataset) -> None:
        kind = dataset.file_meta.TransferSyntaxUID
        if kind.is_compressed:
            dataset.add_new("PixelPaddingValue", "SS", int(pydicom.pixels.pixel_array(dataset).max()))
            return
        values = pydicom.pixels.pixel_array(dataset).astype("<i2" if kind.is_little_endian else ">i2")
        values[:8] = -32768
        dataset.PixelData = values.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", -32768)

    plain, path = one(shipped(name)).pixels[0], edited(name, tmp_path / "a.dcm", pad)
    for image in (one(path), read_series((str(path),))):
        padded = image.pixels[0]
        if "RLE" in name:
            assert padded.max() < plain.max() and (padded[plain == plain.max()] == plain.min()).all()
        else:
            assert np.array_equal(padded[8:], plain[8:]) and (padded[:8] == plain[8:].min()).all()
