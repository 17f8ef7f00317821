"""Pictures: 16 bits, stacks, faults, masks."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from radsynth import io
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import RGB, Image
from radsynth.io import picture
from tests.io.files import PROVENANCE, RAMP, one, refused


def test_16_bits_are_kept(tmp_path: Path) -> None:
    deep = (RAMP * 130).astype(np.uint16)
    Pillow.fromarray(deep).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", deep)
    Pillow.fromarray(deep).save(tmp_path / "c.tif", compression="tiff_lzw")
    for name in ("a.png", "b.tif", "c.tif"):
        image = one(tmp_path / name)
        assert np.array_equal(image.pixels[0], deep) and image.bits == 16, name


@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_colour_png_keeps_both_bytes(interlaced: bool, tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK (extra itk) is not installed")
    deep = np.random.default_rng(0).integers(0, 65536, (3, 13, 9)).astype(np.uint16)
    io.write(Image(pixels=deep, bits=16, channels=RGB), tmp_path / "ours.png", provenance=PROVENANCE)
    values = itk.GetArrayFromImage(itk.ReadImage(str(tmp_path / "ours.png")))
    assert np.array_equal(np.moveaxis(values, -1, 0), deep), "another reader reads what we write"
    itk.WriteImage(itk.GetImageFromArray(np.moveaxis(deep, 0, -1), isVector=True), str(tmp_path / "theirs.png"))
    if interlaced:
        (tmp_path / "theirs.png").write_bytes(adam7(np.moveaxis(deep, 0, -1)))
    image = one(tmp_path / "theirs.png")
    assert np.array_equal(image.pixels, deep), "and we read what it writes"
    assert (image.bits, io.header(tmp_path / "theirs.png").bits, image.channels) == (16, 16, RGB)


def adam7(pixels: np.ndarray) -> bytes:
    """A 16-bit colour PNG in the seven passes of interlacing, without filters."""
    rows = []
    passes = (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
    for row, column, down, across in passes:
        part = pixels[row::down, column::across].astype(">u2")
        rows += [b"\0" + line.tobytes() for line in part if part.size]
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 1)
    body = zlib.compress(b"".join(rows))
    return picture.PNG + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_tiff_stacks_floats_and_white_is_zero(tmp_path: Path) -> None:
    stack = np.stack([RAMP, RAMP + 1, RAMP + 2])
    tifffile.imwrite(tmp_path / "a.tif", stack.astype(np.uint16), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", RAMP.astype(np.float32) / 7)
    tifffile.imwrite(tmp_path / "c.tif", RAMP.astype(np.uint8), photometric="miniswhite")
    assert one(tmp_path / "a.tif").pixels.shape == (1, 3, 20, 24)
    assert one(tmp_path / "b.tif").bits == 32 and one(tmp_path / "b.tif").pixels.dtype == np.float32
    assert np.array_equal(one(tmp_path / "c.tif").pixels[0], 255 - RAMP.astype(np.uint8))
    # As libtiff writes it, which Pillow decodes: it turns 8 bits by itself, and 16 bits not.
    Pillow.fromarray((RAMP % 251).astype(np.uint8)).save(tmp_path / "d.tif", compression="tiff_lzw", tiffinfo={262: 0})
    assert np.array_equal(one(tmp_path / "d.tif").pixels[0], RAMP % 251)
    Pillow.fromarray(RAMP.astype(np.uint16)).save(tmp_path / "e.tif", compression="tiff_lzw", tiffinfo={262: 0})
    assert np.array_equal(one(tmp_path / "e.tif").pixels[0], 65535 - RAMP)


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_and_masks_are_turned_as_their_exif_says(turn: int, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = turn
    grey, deep, colour = RAMP.astype(np.uint8), (RAMP * 130).astype(np.uint16), np.stack([RAMP % 251] * 3, -1)
    io.write(Image(pixels=np.stack([deep] * 3), bits=16, channels=RGB), tmp_path / "deep.png", provenance=PROVENANCE)
    plain = (tmp_path / "deep.png").read_bytes()
    (tmp_path / "d.png").write_bytes(plain[:33] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + plain[33:])
    Pillow.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    Pillow.fromarray(deep).save(tmp_path / "b.png", exif=exif)
    Pillow.fromarray(colour.astype(np.uint8)).save(tmp_path / "c.png", exif=exif)
    Pillow.fromarray(grey).save(tmp_path / "e.tif", tiffinfo=exif)
    Pillow.fromarray(grey).save(tmp_path / "f.tif", compression="tiff_lzw", tiffinfo=exif)
    tag = (0x0112, "H", 1, turn, True)
    tifffile.imwrite(tmp_path / "g.tif", np.stack([deep, deep + 1]), photometric="minisblack", extratags=[tag])
    tifffile.imwrite(tmp_path / "h.tif", colour.astype(np.uint8), photometric="rgb", extratags=[tag])
    wanted = {"a.png": grey, "b.png": deep, "c.png": colour[..., 0], "d.png": deep, "e.tif": grey, "f.tif": grey,
              "g.tif": deep, "h.tif": colour[..., 0]}
    for name, values in wanted.items():
        image = one(tmp_path / name)
        first = image.pixels[0] if len(image.space) == 2 else image.pixels[0, 0]
        assert np.array_equal(first, as_shown(values, turn)), name
        assert io.header(tmp_path / name).size == image.space, name
    Pillow.fromarray((RAMP % 3).astype(np.uint8)).save(tmp_path / "mask.png", exif=exif)
    assert np.array_equal(io.read_mask(tmp_path / "mask.png").pixels[0], as_shown(RAMP % 3, turn))


def as_shown(values: np.ndarray, turn: int) -> np.ndarray:
    """By the table of the TIFF standard: where row 0 and column 0 of what is stored are to be seen."""
    turned = values.T if turn in (5, 6, 7, 8) else values
    turned = turned[::-1] if turn in (3, 4, 7, 8) else turned  # row 0 (column 0 where changed) is at the bottom
    return turned[:, ::-1] if turn in (2, 3, 6, 7) else turned


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("exif", [b"II*\0 nonsense", b"", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0"])
@pytest.mark.filterwarnings("error")
def test_damaged_exif_costs_no_picture(name: str, exif: bytes, tmp_path: Path) -> None:
    Pillow.fromarray(RAMP.astype(np.uint8)).save(tmp_path / name, exif=b"Exif\0\0" + exif)
    assert io.header(tmp_path / name).size == one(tmp_path / name).space == RAMP.shape


def test_16_bit_colour_that_would_lose_its_low_bytes_is_refused(tmp_path: Path) -> None:
    path, deep = tmp_path / "a.tif", np.arange(4 * 4 * 3, dtype="<u2").reshape(4, 4, 3) * 999
    tifffile.imwrite(path, deep, photometric="rgb", metadata=None)
    codes = [256, *deep.tobytes(), 257]  # LZW that never refers back: 9 bits a code
    bits = "".join(f"{code:09b}" for code in codes).ljust(9 * len(codes) + 7, "0")
    packed = bytes(int(bits[k:k + 8], 2) for k in range(0, len(bits) - 7, 8))
    place = path.stat().st_size
    with path.open("ab") as file:
        file.write(packed)
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages.first.tags
        for name, value in (("Compression", 5), ("StripOffsets", place), ("StripByteCounts", len(packed))):
            tags[name].overwrite(value)
    assert np.asarray(Pillow.open(path)).dtype == np.uint8
    refused(path, "only 8 of its 16 bits")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    samples = {0: 1, 2: 3, 6: 4}[colour] * depth // 8
    body = zlib.compress(bytes((width * samples + 1) * height)) if width < 1000 else zlib.compress(bytes(10_000))
    return picture.PNG + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_transparency_channel_that_hides_nothing_is_left_out(mode: str, tmp_path: Path) -> None:
    plain = Pillow.fromarray(RAMP.astype(np.uint8)).convert(mode.removesuffix("A"))
    plain.save(tmp_path / "plain.png")
    plain.convert(mode).save(tmp_path / "clear.png")
    clear, wanted = one(tmp_path / "clear.png"), one(tmp_path / "plain.png")
    assert np.array_equal(clear.pixels, wanted.pixels) and clear.channels == wanted.channels and clear.bits == 8
    assert picture.header(tmp_path / "clear.png") == picture.header(tmp_path / "plain.png")


def test_picture_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(40_000, 40_000, 8, 0))
    refused(path, "limit|bomb")
    path.write_bytes(png(9_500, 9_500, 8, 0))
    refused(path, "limit")
    path.write_bytes(b"")
    refused(path, "empty")
    Pillow.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "b.gif")
    path.write_bytes((tmp_path / "b.gif").read_bytes())
    refused(path, "content is a GIF")
    for mode, reason in (("P", "palette"), ("1", "one bit")):
        Pillow.fromarray(RAMP.astype(np.uint8)).convert(mode).save(path)
        refused(path, reason)
    for mode in ("RGBA", "LA"):
        hidden = Pillow.fromarray(RAMP.astype(np.uint8)).convert(mode)
        hidden.putpixel((1, 1), (9,) * (len(mode) - 1) + (254,))
        hidden.save(path)
        with pytest.raises(RejectedFile, match="transparency channel hides some"):
            io.read(path)
    path.write_bytes(png(20, 20, 16, 6))
    refused(path, "16 bits and a transparency channel")
    Pillow.fromarray(RAMP.astype(np.uint8)).save(path, transparency=0)
    refused(path, "transparent")
    Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    refused(path, "truncated|cannot be read")
    Pillow.fromarray(RAMP.astype(np.uint8)).convert("CMYK").save(tmp_path / "c.jpg")
    refused(tmp_path / "c.jpg", "CMYK")


def test_masks_are_label_numbers(tmp_path: Path) -> None:
    labels = (RAMP % 3).astype(np.uint8)
    palette = Pillow.fromarray(labels)
    palette.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    palette.save(tmp_path / "palette.png")
    Pillow.fromarray(labels).save(tmp_path / "numbers.png")
    Pillow.fromarray((labels > 0).astype(np.uint8) * 255).save(tmp_path / "binary.png")
    Pillow.fromarray(labels > 0).save(tmp_path / "bit.png")
    for name, expected in (("palette", labels), ("numbers", labels), ("binary", labels > 0), ("bit", labels > 0)):
        assert np.array_equal(io.read_mask(tmp_path / f"{name}.png").pixels[0], expected), name
    Pillow.fromarray((RAMP * 130).astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(RejectedFile, match=r"not 0 to 62270\. If they number things, number those of each"):
        io.read_mask(tmp_path / "deep.png")


def test_pictures_are_not_written_where_values_would_change(tmp_path: Path) -> None:
    image = Image(pixels=RAMP[None].astype(np.uint8))
    for name in ("a.jpg", "a.jpeg"):
        with pytest.raises(DataError, match="JPEG"):
            io.write(image, tmp_path / name, provenance=PROVENANCE)
    with pytest.raises(SettingsError, match="endings are"):
        io.write(image, tmp_path / "a.bmp", provenance=PROVENANCE)
    with pytest.raises(SettingsError, match="the formats are"):
        io.write(image, tmp_path / "a.bmp", provenance=PROVENANCE, format="bmp")


@pytest.mark.parametrize(("low", "units", "signed"), [(-1024, "HU", True), (-7, "stored", True), (0, "stored", False)])
def test_a_tiff_has_the_numbers_themselves_also_below_0(low: int, units: str, signed: bool, tmp_path: Path) -> None:
    """They were stored from 0 up, which other programs took for the values."""
    values = (RAMP + low).astype(np.int16 if signed else np.uint16)
    io.write(Image(pixels=values[None], bits=16, units=units), tmp_path / "a.tif", provenance=PROVENANCE)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), values)
    assert np.array_equal(one(tmp_path / "a.tif").pixels[0], values)
