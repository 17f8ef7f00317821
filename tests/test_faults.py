"""The fault table for files and for the PACS: what may come in, and the test that shows what becomes of it.

Each row names its tests; whole folders of good and bad files then go through the commands as a user types them.
"""

from __future__ import annotations

import ast
import csv
import gzip
import os
import shutil
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from radsynth import cli, io
from radsynth.arrays import Prepared
from radsynth.datasets import Rejected, folder
from radsynth.errors import DataError, FolderError, RejectedFile
from radsynth.image import Image
from radsynth.io import _decoding
from radsynth.settings import Resolved
from radsynth.verbs.prepare import prepare
from tests.io.dicom_files import shipped

HERE = "test_faults.py"
FAULTS: dict[str, str] = {
    "DICOM cut short, without file header, without transfer syntax, with a wrong VR: rejected with the reason":
        "io/test_dicom_hostile.py::test_broken_files_are_rejected_with_the_reason",
    "DICOM without pictures (plan, report, ECG, dose, segmentation, DICOMDIR): skipped and counted":
        "io/test_dicom_hostile.py::test_objects_without_pictures_are_told_from_broken_ones "
        "folder/test_volumes.py::test_copies_of_an_instance_and_strange_objects_are_counted "
        f"{HERE}::test_a_directory_of_a_medium_opens_nothing",
    "MR as RLE, JPEG 2000, JPEG-LS, big endian, implicit, deflated: the same pixels":
        "io/test_dicom_pixels.py::test_every_way_to_store_the_same_mr_gives_the_same_pixels "
        f"{HERE}::test_a_deflated_mr_has_the_same_pixels",
    "JPEG Lossless and 12-bit JPEG: the message names the extra; with it, read":
        "io/test_dicom_pixels.py::test_a_missing_decoder_is_named_and_with_it_the_file_is_read "
        "folder/test_unusable.py::test_a_missing_extra_costs_the_file_not_the_run",
    "CT in Hounsfield units; MONOCHROME1 inverted exactly once":
        "io/test_dicom_pixels.py::test_ct_is_in_hounsfield_units "
        "io/test_dicom_pixels.py::test_monochrome1_is_inverted_exactly_once",
    "colour, palette and 30 frames: one policy, frames expanded":
        "io/test_dicom_pixels.py::test_colour_has_one_policy_and_frames_are_expanded "
        "folder/test_volumes.py::test_frames_are_images_of_one_patient",
    "a sequence nested 300 deep, 65535 x 65535 pixels, 100,000 frames, a deflated bomb: rejected, little memory":
        "io/test_dicom_hostile.py::test_a_sequence_nested_300_deep_harms_nobody "
        "io/test_dicom_hostile.py::test_headers_that_claim_too_much_are_refused_at_once "
        "io/test_dicom_hostile.py::test_a_deflated_bomb_is_refused_before_it_is_kept",
    "decoders that crash, panic or hang: one file is lost, the process and the run live":
        "io/test_dicom_hostile.py::test_mutated_pixels_cost_one_file_and_never_the_process "
        "io/test_dicom_hostile.py::test_a_decoder_that_dies_or_hangs_is_replaced "
        f"{HERE}::test_a_decoder_that_dies_costs_one_file_of_any_format "
        f"{HERE}::test_a_decoder_has_little_memory_and_may_not_write",
    "a program in the preamble (MZ): flagged, never written on":
        "io/test_dicom_hostile.py::test_a_program_in_the_preamble_is_flagged_and_never_written_on",
    "a series with a missing, doubled or shuffled slice, two orientations, a localizer, a tilted gantry":
        "io/test_dicom_series.py::test_a_series_is_sorted_by_position_whatever_its_names_say "
        "io/test_dicom_series.py::test_missing_doubled_and_sheared_slices_are_told "
        "io/test_dicom_series.py::test_two_orientations_and_a_localizer_are_split "
        "folder/test_volumes.py::test_an_incomplete_series_is_rejected_or_used_slice_by_slice "
        "folder/test_volumes.py::test_mixed_orientations_are_split",
    "the same instance twice, identical pixels under two patients, one patient written two ways or in two splits":
        "io/test_dicom_series.py::test_the_same_instance_twice_is_used_once "
        "io/test_dicom_series.py::test_patients_are_the_same_whatever_blanks_and_case "
        "prepare/test_rejected.py::test_copies_are_found_within_and_between_patients "
        "prepare/test_split.py::test_an_official_split_is_kept",
    "a header that points to /etc/passwd, ../x, a link, a missing or a short file: refused without opening":
        "io/test_metaimage.py::test_headers_that_point_elsewhere_are_refused_without_opening "
        "io/test_metaimage.py::test_a_link_as_data_file_is_refused "
        "io/test_metaimage.py::test_metaimage_faults",
    "NIfTI cut short, 30000^3, scale or voxels NaN, 4-D, constant, without affine":
        "io/test_nifti.py::test_nifti_faults "
        "io/test_nifti.py::test_nifti_oddities_are_noted_and_read "
        "folder/test_unusable.py::test_constant_images_are_rejected "
        f"{HERE}::test_whole_folders_lose_only_what_is_bad",
    "NumPy with objects, a header that claims 160 GB, a bomb: refused before allocation":
        f"io/test_numpy.py::test_numpy_faults {HERE}::test_lies_about_sizes_cost_no_memory",
    "PNG bomb, 16 bits, cut short, zero bytes, GIF named .png, RGBA, palette":
        "io/test_pictures.py::test_picture_faults "
        "io/test_pictures.py::test_16_bits_are_kept "
        "io/test_pictures.py::test_16_bit_colour_png_keeps_both_bytes",
    "archives with ../, links, absolute paths, a ratio of 1:1000: refused":
        "folder/test_archives.py::test_archives_that_climb_out_are_refused "
        "folder/test_archives.py::test_archives_with_links_are_refused "
        "folder/test_archives.py::test_archive_bombs_are_refused "
        "folder/test_archives.py::test_a_damaged_archive_is_one_clear_error "
        "test_dataset_archives.py::test_an_archive_that_climbs_out_is_refused",
    "mixed sizes and spacings: resampled by the plan; mixed modalities: an error that names the groups":
        f"{HERE}::test_sizes_may_be_mixed_and_modalities_may_not "
        "prepare/test_rejected.py::test_data_that_cannot_be_used_as_a_whole_is_one_clear_error",
    "unicode and newlines in names, broken links, loops, unreadable and empty folders":
        "folder/test_unusable.py::test_strange_names_links_and_loops_survive "
        f"{HERE}::test_a_folder_that_may_not_be_opened_is_a_line "
        "folder/test_unusable.py::test_nothing_usable_is_one_clear_error",
    "any of them beside good files: exit code 0, a line each, the rest is used; 2 with --strict or when none is left":
        f"{HERE}::test_whole_folders_lose_only_what_is_bad",
    "an output folder is whole or plainly marked as unfinished; a full disk leaves no half file":
        f"{HERE}::test_whole_folders_lose_only_what_is_bad "
        "io/test_any_format.py::test_a_full_disk_leaves_no_half_file "
        "prepare/test_restart.py::test_a_full_disk_is_a_clear_error_and_no_half_shard "
        "prepare/test_restart.py::test_kill_9_leaves_nothing_running_and_the_same_command_finishes "
        "test_generate.py::test_an_interrupted_generation_leaves_nothing",
    "PACS down, 401, wrong AE title, one instance refused, dies in between, pushed twice":
        "pacs/test_pull_push.py::test_a_pacs_that_is_down_is_one_clear_error "
        "pacs/test_orthanc.py::test_dates_and_wrong_passwords "
        "pacs/test_orthanc.py::test_push_by_c_store_and_wrong_titles "
        "pacs/test_pull_push.py::test_a_busy_pacs_is_asked_again_and_one_refused_instance_costs_itself_alone "
        "pacs/test_orthanc.py::test_a_pacs_that_stops_in_between_is_gone_on_with "
        "pacs/test_orthanc.py::test_push_and_pull_twice_by_dicomweb",
    "push of what is not marked as synthetic: refused":
        "pacs/test_pull_push.py::test_push_refuses_what_is_not_marked "
        "pacs/test_pull_push.py::test_a_file_that_loses_its_mark_on_the_way_is_not_sent",
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_test(fault: str) -> None:
    for name in FAULTS[fault].split():
        module, _, wanted = name.partition("::")
        tree = ast.parse((Path(__file__).parent / module).read_text(encoding="utf-8"))
        [function] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == wanted]
        marks = {ast.unparse(mark).partition("(")[0] for mark in function.decorator_list}
        assert not marks & {"pytest.mark.skip", "pytest.mark.xfail", "pytest.mark.slow"}, name


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_directory_of_a_medium_opens_nothing(tmp_path: Path) -> None:
    shutil.copy(shipped("DICOMDIR"), tmp_path / "DICOMDIR")
    dataset = pydicom.dcmread(tmp_path / "DICOMDIR")
    dataset.DirectoryRecordSequence[-1].ReferencedFileID = ["..", "..", "etc", "passwd"]
    dataset.save_as(tmp_path / "DICOMDIR")
    with pytest.raises(io.NotAnImage, match=r"directory of a medium \(DICOMDIR\), not an image: give the folder"):
        io.header(tmp_path / "DICOMDIR")


def test_a_deflated_mr_has_the_same_pixels(tmp_path: Path) -> None:
    dataset: Dataset = pydicom.dcmread(shipped("MR_small.dcm"))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "a.dcm")
    one, other = io.read(shipped("MR_small.dcm")), io.read(tmp_path / "a.dcm")
    assert isinstance(one, Image) and isinstance(other, Image) and np.array_equal(one.pixels, other.pixels)


ASK = _decoding.Child.ask


def dies(self: _decoding.Child, request: dict[str, object], seconds: float) -> object:
    self.process.kill()
    return ASK(self, request, seconds)


@pytest.mark.parametrize("format", ["dicom", "metaimage", "picture"])
def test_a_decoder_that_dies_costs_one_file_of_any_format(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is killed while it decodes; what is asked for next is decoded by another."""
    paths = [shipped("MR_small_RLE.dcm")] if format == "dicom" else io.format_module(format).example(tmp_path)
    for path in paths[::4]:  # of the pictures a PNG and a TIFF
        whole = io.read(path)
        with monkeypatch.context() as patch:
            patch.setattr(_decoding.Child, "ask", dies)
            with pytest.raises(RejectedFile, match=r"the decoder crashed \(signal 9\)"):
                io.read(path)
        again = io.read(path)
        assert isinstance(whole, Image) and isinstance(again, Image) and np.array_equal(whole.pixels, again.pixels)


def test_a_decoder_has_little_memory_and_may_not_write(tmp_path: Path) -> None:
    [path] = [file for file in io.format_module("picture").example(tmp_path) if file.name == "grey.png"]
    io.read(path)
    assert _decoding._child is not None
    limits = Path(f"/proc/{_decoding._child.process.pid}/limits")
    if not limits.exists():
        pytest.skip("only Linux tells the limits of a process")
    lines = {line[:26].strip(): line[26:].split() for line in limits.read_text().splitlines()[1:]}
    assert int(lines["Max address space"][0]) <= 6 * 2**30
    assert lines["Max file size"][0] == "0" and lines["Max core file size"][0] == "0"


def lies(target: Path) -> dict[str, Path]:
    """Small files that claim to be huge."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", (60_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0]))
    (target / "bomb.png").write_bytes(start + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b""))
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (200000, 100000), }".ljust(117) + "\n"
    header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    (target / "claim.npy").write_bytes(header + bytes(1000))
    with zipfile.ZipFile(target / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", header.replace(b"(200000, 100000)", b"(  2500,   2500)") + bytes(50_000_000))
    nifti(target / "claim.nii", np.zeros((2, 2, 2), np.int16))
    content = bytearray((target / "claim.nii").read_bytes())
    content[42:48] = (30_000).to_bytes(2, "little") * 3
    (target / "claim.nii").write_bytes(content)
    lines = ("ObjectType = Image", "NDims = 3", "DimSize = 900 900 900", "ElementType = MET_DOUBLE",
             "ElementDataFile = LOCAL")
    (target / "claim.mha").write_bytes("\n".join(lines).encode() + b"\n\0\0")
    return {path.name: path for path in target.iterdir()}


def nifti(path: Path, data: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return path


def test_lies_about_sizes_cost_no_memory(tmp_path: Path) -> None:
    for name, path in lies(tmp_path).items():
        tracemalloc.start()
        with pytest.raises(RejectedFile, match=r"limit|bomb|claims"):
            io.header(path)
            io.read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20e6, name


def test_a_folder_that_may_not_be_opened_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pillow.fromarray(np.arange(99, dtype=np.uint8).reshape(9, 11)).save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuses(path: Path) -> object:  # root may open everything, so the system's answer is played
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuses)
    rejected: list[Rejected] = []
    assert len(list(folder.records(folder.Settings(path=tmp_path), rejected))) == 1
    assert [(line.path, line.reason) for line in rejected] == [
        ("closed/", "the folder cannot be opened: Permission denied")
    ]


def test_sizes_may_be_mixed_and_modalities_may_not(tmp_path: Path) -> None:
    for number, (side, step) in enumerate(((24, 1.0), (48, 0.5), (30, 0.8))):
        origin = io.Provenance(model="mlp", weights="", seed=0, index=number)
        pixels = np.random.default_rng(number).integers(0, 4000, (1, side, side)).astype(np.uint16)
        image = Image(pixels=pixels, modality="MR", bits=12, spacing=(step, step))
        io.write(image, tmp_path / "in" / f"{number}.dcm", provenance=origin)
    settings = Resolved(0, {"prepare": {"size": [24, 24]}}, {})
    made = prepare(folder.Settings(path=tmp_path / "in"), tmp_path / "out", settings=settings, workers=1)
    assert len(made.rows) == 3 and made.spec.spacing == pytest.approx((1.0, 1.0))
    ct = Image(pixels=pixels, modality="CT", units="HU", bits=12, spacing=(1.0, 1.0))
    io.write(ct, tmp_path / "in" / "ct.dcm", provenance=io.Provenance(model="mlp", weights="", seed=1, index=9))
    with pytest.raises(DataError, match="mixes 2 groups") as error:
        prepare(folder.Settings(path=tmp_path / "in"), tmp_path / "mixed", settings=settings, workers=1)
    assert "3 images: 2-D, MR" in str(error.value) and "1 image: 2-D, CT" in str(error.value)
    assert "data.series=PART" in str(error.value), "files of a PACS are called IM000001"


def good_and_bad_dicom(good: Path, bad: Path) -> set[str]:
    """Three MR series; broken files, some of which look well until they are decoded, and two that are no images."""
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 4000, (1, 4, 24, 20)).astype(np.uint16)
        image = Image(pixels=pixels, modality="MR", bits=12, spacing=(2.0, 1.0, 1.0))
        origin = io.Provenance(model="mlp", weights="", seed=number, index=number)
        io.write(image, good / f"{number}", provenance=origin, format="dicom")
    for name in ("no_meta.dcm", "badVR.dcm", "MR_truncated.dcm", "rtplan.dcm", "DICOMDIR"):
        shutil.copy(shipped(name), bad / name)
    dataset = pydicom.dcmread(shipped("MR_small_RLE.dcm"))
    dataset.SOPInstanceUID = dataset.SeriesInstanceUID = "1.2.3"  # else it would be a copy of MR_truncated
    dataset.save_as(bad / "mutated.dcm")
    content = bytearray((bad / "mutated.dcm").read_bytes())
    start = content.index(b"\xe0\x7f\x10\x00") + 12
    content[start : start + 400] = bytes(400)
    (bad / "mutated.dcm").write_bytes(content)
    (bad / "empty.dcm").write_bytes(b"")
    return {"no_meta.dcm", "MR_truncated.dcm", "mutated.dcm", "empty.dcm"}


def good_and_bad_nifti(good: Path, bad: Path) -> set[str]:
    volumes = np.random.default_rng(0).integers(0, 999, (4, 20, 24, 6)).astype(np.int16)
    for number in range(3):
        nifti(good / f"patient{number}.nii.gz", volumes[number])
    whole = nifti(bad / "cut.nii", volumes[3]).read_bytes()
    (bad / "cut.nii").unlink()
    packed = gzip.compress(whole)
    (bad / "cut.nii.gz").write_bytes(packed[: int(len(packed) * 0.6)])
    nifti(bad / "nan.nii", np.full((20, 24, 6), np.nan, np.float32))
    nifti(bad / "time.nii", np.zeros((20, 24, 6, 5), np.int16))
    nifti(bad / "constant.nii", np.full((20, 24, 6), 7, np.int16))
    text = "NDims = 2\nDimSize = 4 4\nElementType = MET_SHORT\nElementDataFile = ../x.raw\n"
    (bad / "elsewhere.mhd").write_text(text)
    return {"cut.nii.gz", "nan.nii", "time.nii", "constant.nii", "elsewhere.mhd"}


def good_and_bad_pictures(good: Path, bad: Path) -> set[str]:
    values = [np.random.default_rng(number).integers(0, 255, (24, 20), np.uint8) for number in range(4)]
    for number in range(3):
        Pillow.fromarray(values[number]).save(good / f"{number}.png")
    huge = set(lies(bad))
    Pillow.fromarray(values[3]).save(bad / "cut.png")
    (bad / "cut.png").write_bytes((bad / "cut.png").read_bytes()[:200])
    clear = Pillow.fromarray(values[3])
    clear.putalpha(128)
    clear.save(bad / "clear.png")
    Pillow.fromarray(values[3]).save(bad / "gif.png", format="GIF")
    np.savez(bad / "objects.npz", image=np.array([{"a": 1}], dtype=object))
    (bad / "gone.png").symlink_to(bad / "nowhere.png")
    (bad / "notes.txt").write_text("skipped")
    return huge | {"cut.png", "clear.png", "gif.png", "objects.npz", "gone.png"}


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["radsynth", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def table(path: Path) -> list[str]:
    """The names in a table of rejected files, without those that are no images."""
    with path.open(encoding="utf-8", newline="") as file:
        return sorted(Path(line["path"]).name for line in csv.DictReader(file) if line["skipped"] == "no")


@pytest.mark.parametrize("fill", [good_and_bad_dicom, good_and_bad_nifti, good_and_bad_pictures])
def test_whole_folders_lose_only_what_is_bad(
    fill: Callable[[Path, Path], set[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    good, bad = tmp_path / "in" / "good", tmp_path / "in" / "bad"
    good.mkdir(parents=True)
    bad.mkdir()
    expected = sorted(fill(good, bad))
    before = sorted((tmp_path / "in").rglob("*"))
    words = ("data.labels=none", "prepare.size=[24,24]")
    assert typed(monkeypatch, "inspect", tmp_path / "in", "data.labels=none", "--out", tmp_path / "look") == 0
    assert table(tmp_path / "look" / "rejected.csv") == expected
    assert typed(monkeypatch, "inspect", tmp_path / "in", "data.labels=none", "--strict") == 2
    assert typed(monkeypatch, "prepare", tmp_path / "in", tmp_path / "out", *words) == 0
    made = Prepared(tmp_path / "out")
    assert table(tmp_path / "out" / "rejected.csv") == expected and made.manifest.rejected == len(expected)
    assert sum(made.manifest.patients.values()) == 3
    assert typed(monkeypatch, "prepare", tmp_path / "in", tmp_path / "strict", *words, "--strict") == 2
    with pytest.raises(FolderError, match="not a complete prepared folder"):
        Prepared(tmp_path / "strict")
    shutil.rmtree(good)
    capfd.readouterr()
    assert typed(monkeypatch, "prepare", tmp_path / "in", tmp_path / "none", *words) == 2
    said = capfd.readouterr().err
    assert "no image that can be used" in said and "Traceback" not in said
    assert sorted((tmp_path / "in").rglob("*")) == [path for path in before if good not in (path, *path.parents)]
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "look", "out", "strict", "none"}
