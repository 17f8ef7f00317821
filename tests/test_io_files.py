"""NIfTI, MetaImage, NRRD, pictures and NumPy files that lie, and what each format does not promise."""

from __future__ import annotations

import gzip
import io as streams
import struct
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom.filewriter
import pytest
import tifffile
from PIL import Image as Pillow
from pydicom.valuerep import VR

from radsynth import io
from radsynth.errors import DataError, MissingExtra, RejectedFile, SettingsError
from radsynth.image import RGB, Image
from radsynth.io import metaimage, picture

PROVENANCE = io.Provenance(model="mlp", weights="", seed=0, index=0)
RAMP = np.arange(20 * 24).reshape(20, 24)


def one(path: Path) -> Image:
    image = io.read(path)
    assert isinstance(image, Image)
    return image


def refused(path: Path, reason: str) -> None:
    """Both ways in refuse it, or the header is honest and the pixels are not."""
    with pytest.raises(RejectedFile, match=reason):
        io.header(path)
        io.read(path)


# NIfTI


def nifti(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def patched(path: Path, place: int, form: str, *values: float) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, place, *values)
    path.write_bytes(content)
    return path


def test_ras_becomes_head_back_left(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16)
    affine = np.array([[2.0, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])  # right, front, head
    image = one(nifti(tmp_path / "a.nii.gz", data, affine))
    assert image.space == (6, 5, 4) and image.spacing == pytest.approx((4, 3, 2))
    assert image.pixels[0, 2, 1, 0] == data[3, 3, 2]  # the left-most, second from the front
    assert image.affine is not None and image.affine @ [0, 0, 0, 1] == pytest.approx([-(-10 + 6), -(-20 + 12), 30, 1])


def test_axes_in_any_order_end_in_the_same_volume(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.uint8)
    affine = np.diag([2.0, 3, 4, 1])
    first = nibabel.Nifti1Image(data, affine)
    expected = one(nifti(tmp_path / "a.nii", data, affine))
    for code in ("LPS", "SAR", "PIR", "ILA"):
        turned = first.as_reoriented(
            nibabel.orientations.ornt_transform(
                nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(code)
            )
        )
        nibabel.save(turned, tmp_path / "b.nii")
        found = one(tmp_path / "b.nii")
        assert np.array_equal(found.pixels, expected.pixels), code
        assert found.affine == pytest.approx(expected.affine) and found.spacing == pytest.approx(expected.spacing)


def test_nifti_faults(tmp_path: Path) -> None:
    data = np.arange(10 * 11 * 12, dtype=np.int16).reshape(10, 11, 12)
    path = nifti(tmp_path / "a.nii.gz", data, np.eye(4))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    refused(path, "cannot be read")
    refused(patched(nifti(tmp_path / "b.nii", data, np.eye(4)), 42, "<3h", 30000, 30000, 30000), "limit")
    refused(nifti(tmp_path / "c.nii", np.zeros((4, 4, 4, 5), np.int16), np.eye(4)), "4 dimensions")
    broken = data.astype(np.float32)
    broken[0, 0, :2] = np.nan
    refused(nifti(tmp_path / "d.nii", broken, np.eye(4)), "2 of its 1,320 voxels are not finite")
    refused(patched(nifti(tmp_path / "f.nii", data, np.eye(4)), 108, "<f", 1e30), "puts the pixels at byte")
    flat = nifti(tmp_path / "g.nii", data, np.eye(4))  # the second row of its matrix is empty
    refused(patched(flat, 296, "<4f", 0, 0, 0, 0), "orientation")


def test_nifti_oddities_are_noted_and_read(tmp_path: Path) -> None:
    data = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    for slope in (np.nan, np.inf):
        path = patched(nifti(tmp_path / "a.nii", data, np.eye(4)), 112, "<f", slope)
        assert "not a number" in io.header(path).notes[0] and one(path).pixels.max() == data.max()
    unplaced = nifti(tmp_path / "b.nii", data)
    assert "no orientation" in io.header(unplaced).notes[0]
    assert one(unplaced).affine is None and one(unplaced).spacing is None
    scaled = patched(patched(nifti(tmp_path / "c.nii", data, np.eye(4)), 112, "<f", 2), 116, "<f", -5)
    assert one(scaled).pixels.max() == data.max() * 2 - 5 and one(scaled).pixels.dtype == np.int16


def test_a_ct_is_recognised_by_its_values(tmp_path: Path) -> None:
    body = np.full((20, 20, 20), -1000, np.int16)
    body[5:15, 5:15, 5:15] = 40
    assert one(nifti(tmp_path / "a.nii", body, np.eye(4))).modality == "CT"
    assert one(nifti(tmp_path / "b.nii", body + 1000, np.eye(4))).modality == "OT"


def test_nifti_lengths_are_in_the_unit_of_the_header(tmp_path: Path) -> None:
    """As ITK reads them."""
    for unit, spacing in (("mm", (3, 2, 1)), ("meter", (3000, 2000, 1000)), ("micron", (3e-3, 2e-3, 1e-3))):
        for affine in (np.diag([1, 2, 3, 1.0]), None):
            nifti = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
            if affine is None:
                nifti.header.set_zooms((1, 2, 3))
            nifti.header.set_xyzt_units(unit)
            nibabel.save(nifti, tmp_path / "a.nii")
            assert one(tmp_path / "a.nii").spacing == pytest.approx(spacing)
            assert io.header(tmp_path / "a.nii").spacing == pytest.approx(spacing)


# MetaImage and NRRD


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


# Pictures


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
    for mode, reason in (("RGBA", "transparency"), ("LA", "transparency"), ("P", "palette"), ("1", "one bit")):
        Pillow.fromarray(RAMP.astype(np.uint8)).convert(mode).save(path)
        refused(path, reason)
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
    with pytest.raises(RejectedFile, match="0 to 255"):
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


# NumPy


def npy_header(shape: str, kind: str = "<f8") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def test_one_channel_at_the_end_of_a_numpy_array_is_no_axis_of_space(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP[..., None])
    assert io.header(tmp_path / "a.npy").size == (20, 24) and np.array_equal(one(tmp_path / "a.npy").pixels[0], RAMP)


def test_masks_beyond_8_bits_are_refused_not_wrapped(tmp_path: Path) -> None:
    for wrong in (300, -1):
        np.savez(tmp_path / "a.npz", image=RAMP, mask=np.full(RAMP.shape, wrong, np.int16))
        refused(tmp_path / "a.npz", "labels are 0 to 255")


def test_numpy_faults(tmp_path: Path) -> None:
    objects = tmp_path / "objects.npz"
    np.savez(objects, image=np.array([{"a": 1}], dtype=object))
    refused(objects, "Python objects")
    huge = tmp_path / "huge.npy"
    huge.write_bytes(npy_header("(200000, 100000)") + bytes(1000))
    refused(huge, r"claims 160,000,000,000 bytes")
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("image.npy", "w") as file:
        file.write(npy_header("(120, 1000, 1000)", "<u2"))
        for _ in range(240):
            file.write(bytes(10**6))
    assert bomb.stat().st_size < 10**6
    refused(bomb, "grows .* bomb")
    np.savez(tmp_path / "two.npz", a=RAMP, b=RAMP)
    refused(tmp_path / "two.npz", "2 arrays")
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    refused(tmp_path / "text.npy", "type")
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    refused(tmp_path / "nan.npy", "finite")
    (tmp_path / "no.npz").write_bytes(b"PK\x03\x04 no archive")
    refused(tmp_path / "no.npz", "NumPy")


def test_formats_are_found_by_content(tmp_path: Path) -> None:
    buffer = streams.BytesIO()
    Pillow.fromarray(RAMP.astype(np.uint8)).save(buffer, format="PNG")
    (tmp_path / "scan").write_bytes(buffer.getvalue())
    assert io.detect(tmp_path / "scan") == "picture"
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(io.NotAnImage):
        io.detect(tmp_path / "notes.txt")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RejectedFile, match="broken link"):
        io.detect(tmp_path / "gone")


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Pillow.Image, "save", full)
    with pytest.raises(DataError, match=r"a\.png cannot be written: No space left"):
        io.write(Image(pixels=RAMP[None].astype(np.uint8)), tmp_path / "a.png", provenance=PROVENANCE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("space", [(4, 5), (2, 4, 5)], ids=["slice", "series"])
def test_a_full_disk_is_said_without_pydicoms_traceback(
    space: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(pydicom.filewriter.writers, VR.OW, (full, None))  # type: ignore[arg-type]  # never returns
    image = Image(pixels=np.zeros((1, *space), np.uint16), spacing=(1.0,) * len(space), modality="MR")
    with pytest.raises(DataError) as refused:
        io.write(image, tmp_path / "a.dcm", provenance=PROVENANCE)
    assert str(refused.value).endswith(" cannot be written: No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("given", "meant"), [("png", "picture"), ("dcm", "dicom"), ("nii.gz", "nifti")])
def test_an_ending_given_as_a_format_is_put_right(given: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"no format '{given}' \(did you mean {meant}\?\); the formats are dicom"):
        io.format_module(given)
