"""DICOM: pydicom's own test files, built series, and files that lie."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from radsynth import io
from radsynth.errors import DataError, MissingExtra, RejectedFile
from radsynth.image import Image
from radsynth.io import _decoding, _dicom_pixels, _dicom_single
from radsynth.io._dicom_frames import instances
from radsynth.io._dicom_header import instance
from radsynth.io._dicom_series import arrange, read_series
from radsynth.verbs.push import push

PROVENANCE = io.Provenance(model="r3gan", weights="cd" * 32, seed=1, index=2, window=(-160, 240))


def shipped(name: str) -> Path:
    path = get_testdata_file(name)
    assert path is not None, name
    return Path(str(path))


def one(path: Path) -> Image:
    image = io.read(path)
    assert isinstance(image, Image)
    return image


Edit = Callable[[Dataset], None]


def edited(name: str, target: Path, edit: Edit) -> Path:
    """A copy of one of pydicom's files with something changed."""
    dataset = pydicom.dcmread(shipped(name))
    edit(dataset)
    dataset.save_as(target)
    return target


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


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "no_meta.dcm", "meta_missing_tsyntax.dcm", "badVR.dcm"])
def test_broken_files_are_rejected_with_the_reason(name: str) -> None:
    with pytest.raises(RejectedFile, match=r"\w+ \w+ \w+"):
        io.read(shipped(name))


@pytest.mark.parametrize(
    "name", ["rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm", "reportsi.dcm", "rtdose.dcm", "liver_1frame.dcm"]
)
def test_objects_without_pictures_are_told_from_broken_ones(name: str) -> None:
    with pytest.raises(io.NotAnImage):
        io.header(shipped(name))


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
    assert (palette.pixels.shape, palette.bits) == ((3, 350, 800), 16)
    frames = io.read(shipped("examples_ybr_color.dcm"))
    assert isinstance(frames, list) and len(frames) == 30
    assert {frame.pixels.shape for frame in frames} == {(3, 240, 320)}
    assert not np.array_equal(frames[0].pixels, frames[29].pixels)


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


def series(folder: Path, count: int = 6) -> list[Path]:
    """A CT volume of `count` slices, 2 mm apart, each with its own values."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = (np.arange(count)[:, None, None] * 50 + np.arange(12 * 10).reshape(12, 10)).astype(np.int16)[None]
    image = Image(pixels=pixels, modality="CT", units="HU", bits=12, spacing=(2.0, 0.7, 0.8))
    return io.write(image, folder / "series", provenance=PROVENANCE, format="dicom")


def change(path: Path, **fields: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def fault(files: list[Path]) -> str | None:
    [found], _ = arrange(instance(path) for path in files)
    return found.fault


def test_a_series_is_sorted_by_position_whatever_its_names_say(tmp_path: Path) -> None:
    files = series(tmp_path)
    expected = read_series(tuple(map(str, files)))
    order = [3, 0, 5, 1, 4, 2]
    for number, path in enumerate(files):
        path.rename(path.with_name(f"{order[number]}.ima"))
        change(path.with_name(f"{order[number]}.ima"), InstanceNumber=order[number])
    [volume] = io.read(tmp_path / "series")  # type: ignore[misc]  # a folder gives a list
    assert np.array_equal(volume.pixels, expected.pixels) and volume.space == (6, 12, 10)
    assert volume.pixels[0, :, 0, 0].tolist() == [0, 50, 100, 150, 200, 250]
    assert volume.spacing == pytest.approx((2.0, 0.7, 0.8)) and np.array_equal(volume.affine, expected.affine)


def test_a_sagittal_series_is_turned_towards_head_back_left(tmp_path: Path) -> None:
    files = series(tmp_path)
    for number, path in enumerate(files):  # columns to the back, rows to the feet, slices to the right
        change(path, ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=[-2.0 * number, 5, 7])
    [found], _ = arrange(instance(path) for path in files)
    volume = read_series(found.files)
    assert found.header.size == volume.space == (12, 10, 6) and found.planar == 2
    assert volume.spacing == pytest.approx((0.7, 0.8, 2.0)) and found.header.spacing == pytest.approx(volume.spacing)
    assert volume.affine is not None and (np.diag(volume.affine)[:3] > 0).all()
    slices, rows, columns = 1, 3, 4
    place = volume.affine @ [columns, rows, slices, 1]
    number, row, column = round(-place[0] / 2), round((7 - place[2]) / 0.7), round((place[1] - 5) / 0.8)
    assert volume.pixels[0, slices, rows, columns] == number * 50 + row * 10 + column


def test_missing_doubled_and_sheared_slices_are_told(tmp_path: Path) -> None:
    files = series(tmp_path)
    assert fault(files) is None
    assert "missing" in (fault(files[:2] + files[3:]) or "")
    shutil.copy(files[1], tmp_path / "again.dcm")
    change(tmp_path / "again.dcm", SOPInstanceUID=generate_uid())
    assert "at the place of another" in (fault([*files, tmp_path / "again.dcm"]) or "")
    for number, path in enumerate(files):
        change(path, ImagePositionPatient=[0, 0.5 * number, 2 * number])
    assert "tilted by 14.0 degrees" in (fault(files) or "")
    with pytest.raises(RejectedFile, match="tilted"):
        read_series(tuple(map(str, files)))


def test_two_orientations_and_a_localizer_are_split(tmp_path: Path) -> None:
    files = series(tmp_path)
    for path in files[3:]:
        change(path, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    change(files[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found, copies = arrange(instance(path) for path in files)
    assert sorted(len(member.files) for member in found) == [1, 2, 3] and not copies


def test_the_same_instance_twice_is_used_once(tmp_path: Path) -> None:
    files = series(tmp_path)
    shutil.copy(files[2], tmp_path / "copy.dcm")
    [found], copies = arrange(instance(path) for path in [*files, tmp_path / "copy.dcm"])
    assert len(found.files) == 6 and found.fault is None
    assert [(Path(path).name, "second copy" in reason) for path, reason in copies] == [("copy.dcm", True)]


def test_patients_with_the_same_uids_are_not_mixed(tmp_path: Path) -> None:
    """Software that removes names gives many patients one series, or even one instance."""
    first, second = series(tmp_path / "a", 3), series(tmp_path / "b", 3)
    for one_of, other in zip(first, second, strict=True):
        shutil.copy(one_of, other)
        change(other, PatientID="another")
    volumes, copies = arrange(instance(path) for path in [*first, *second])
    assert [len(volume.files) for volume in volumes] == [3, 3] and not copies
    assert len({volume.header.patient for volume in volumes}) == 2 and not any(volume.fault for volume in volumes)


def test_patients_are_the_same_whatever_blanks_and_case(tmp_path: Path) -> None:
    files = series(tmp_path)
    change(files[0], PatientID="Smith-7 ")
    change(files[1], PatientID="SMITH-7")
    assert io.header(files[0]).patient == io.header(files[1]).patient == "smith-7"


def test_nothing_of_a_source_is_in_what_is_written(tmp_path: Path) -> None:
    source = pydicom.dcmread(shipped("CT_small.dcm"))
    [path] = io.write(one(shipped("CT_small.dcm")), tmp_path / "a.dcm", provenance=PROVENANCE)
    written = pydicom.dcmread(path)
    uids = {str(e.value) for e in source.iterall() if e.VR == "UI"} - {source.SOPClassUID}
    assert not uids & {str(e.value) for e in written.iterall() if e.VR == "UI"}
    assert written.PatientName == "SYNTHETIC^2" and written.PatientID.startswith("SYNTHETIC-")
    assert not written.StudyDate and not [e for e in written.iterall() if e.VR in ("DA", "TM", "DT") and e.value]


def test_what_is_derived_of_an_image_promises_nothing_of_its_patient(tmp_path: Path) -> None:
    """A denoised image shows the patient, and the text that was drawn into the pixels."""
    derived = replace(PROVENANCE, source="ef" * 32)
    [path] = io.write(one(shipped("CT_small.dcm")), tmp_path / "a.dcm", provenance=derived)
    written = pydicom.dcmread(path)
    assert written.SyntheticData == "YES" and "IN PART" in written.SeriesDescription
    assert written.PatientIdentityRemoved == "NO" and "BurnedInAnnotation" not in written
    assert "DeidentificationMethod" not in written and "may show the patient" in written.ImageComments
    with pytest.raises(DataError, match="derived from an image and may show its patient"):
        push(tmp_path, "https://pacs.example/dicom-web")


def test_two_images_of_one_seed_and_number_are_two_patients(tmp_path: Path) -> None:
    """Of two classes or truncations: a PACS that had the one would never be sent the other."""
    image = one(shipped("CT_small.dcm"))
    written = [pydicom.dcmread(io.write(some, tmp_path / name / "000000.dcm", provenance=PROVENANCE)[0])
               for name, some in (("healthy", image), ("ill", image.replace(pixels=image.pixels + 1)),
                                  ("again", image))]
    for field in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        healthy, ill, again = (str(dataset[field].value) for dataset in written)
        assert healthy == again != ill, field


def test_the_mark_and_the_pixels_are_as_the_standard_wants_them(tmp_path: Path) -> None:
    files = series(tmp_path)
    sets = [pydicom.dcmread(path) for path in files]
    first = sets[0]
    assert first.SyntheticData == "YES" and first.PatientIdentityRemoved == "YES" and first.BurnedInAnnotation == "NO"
    [equipment] = first.ContributingEquipmentSequence
    [purpose] = equipment.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
    assert list(first.ImageType[:2]) == ["DERIVED", "SECONDARY"] and "cd" * 32 in first.DerivationDescription
    assert "113100" not in str(first) and first.PhotometricInterpretation == "MONOCHROME2"
    assert (first.RescaleIntercept, first.RescaleSlope, first.PixelRepresentation) == (-1024, 1, 0)
    assert (first.WindowCenter, first.WindowWidth) == (40, 400)
    for field in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({str(dataset[field].value) for dataset in sets}) == 1
    assert len({dataset.SOPInstanceUID for dataset in sets}) == len(sets)
    assert np.diff([float(dataset.ImagePositionPatient[2]) for dataset in sets]) == pytest.approx(2)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("modality", ["CT", "MR", "DX", "CR", "US"])
def test_an_independent_checker_finds_no_error(modality: str, tmp_path: Path) -> None:
    image = Image(
        pixels=np.arange(120).reshape(1, 12, 10), modality=modality, units="HU" if modality == "CT" else "stored",
        bits=12, spacing=(0.5, 0.5),
    )  # fmt: skip
    [path] = io.write(image, tmp_path / "a.dcm", provenance=PROVENANCE)
    lines = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr.splitlines()
    errors = [line for line in lines if line.startswith("Error") and "(0x0008,0x001c)" not in line]  # newer than 2022
    assert not errors and any("0x001c" in line for line in lines)
    assert modality not in ("CT", "MR") or pydicom.dcmread(path).SliceThickness is None, "nobody knows it"


def test_real_series(shared_data: Path) -> None:
    volumes = io.read(shared_data / "brain_dicom")
    assert isinstance(volumes, list) and [volume.space for volume in volumes] == [(22, 320, 280)] * 4
    assert all(volume.spacing == pytest.approx((6.5, 0.6875, 0.6875), rel=1e-3) for volume in volumes)


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
    short = edited("CT_small.dcm", tmp_path / "short.dcm", short_of_pixels)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(shipped("CT_small.dcm").read_bytes()[:-1000])
    for path in (short, cut):
        found = instances(path)[0]
        assert found.single is not None
        with pytest.raises(RejectedFile, match="bytes are there"):
            _dicom_single.read(found, found.single)


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
