"""What lies in a folder and cannot be used: strange names, own runs, constant images, nothing at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from radsynth.errors import DataError, RejectedFile
from tests.folder.examples import found, picture, reasons


def test_runs_that_lie_below_their_data_are_left_out(tmp_path: Path) -> None:
    for number, name in enumerate(("a/0.png", "b/1.png", "runs/new/previews/0.png", "runs/old/synthetic/images/0.png",
                                   "prepared/shards/0.png", "more/images/0.png", "explained/inversion.png")):
        picture(tmp_path / name, number)
    picture(tmp_path / "unfinished/shards/0.png", 9)
    for name in ("runs/new/plan.json", "runs/new/inspection.json", "runs/old/spec.json", "runs/old/settings.yaml",
                 "prepared/manifest.json", "unfinished/begun.json", "explained/explain.json"):
        (tmp_path / name).write_text("{}")
    records, rejected = found(tmp_path, labels="none")
    assert [record.source for record in records] == ["a/0.png", "b/1.png", "more/images/0.png"]
    assert sorted(reasons(rejected)) == ["explained", "prepared", "runs/new", "runs/old", "unfinished"]
    assert all(line.skipped for line in rejected)


def test_what_a_killed_command_has_left_is_left_out(tmp_path: Path) -> None:
    """Of `radsynth generate RUN scans/made`, and of an explanation of these scans."""
    for number, name in enumerate(("0.png", "p.part/1.png", ".made.part/images/000000.png",
                                   ".explain.json.7.ab.9.part/inversion.png")):
        picture(tmp_path / name, number)
    records, rejected = found(tmp_path, labels="none")
    assert [record.source for record in records] == ["0.png", "p.part/1.png"]
    assert sorted(reasons(rejected)) == [".explain.json.7.ab.9.part", ".made.part"]
    assert all(line.skipped for line in rejected)


def test_what_radsynth_writes_beside_images_is_not_counted(tmp_path: Path) -> None:
    picture(tmp_path / "made/images/0.png")
    picture(tmp_path / "check/0.png", 1)
    for name in ("generate.json", "samples.csv", "README.md", "CLAIM.md", "notes.txt"):
        (tmp_path / "made" / name).touch()
    for name in ("inspection.json", "inspect.html", "rejected.csv", "README.md"):
        (tmp_path / "check" / name).touch()
    (tmp_path / "pull.csv").touch()
    records, rejected = found(tmp_path, labels="none")
    assert len(records) == 2 and sorted(reasons(rejected)) == ["check/README.md", "made/notes.txt"]


def test_constant_images_are_rejected(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((9, 9), 7, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(RejectedFile, match="all its pixels have the value 7"):
        found(tmp_path)[0][0].load()


def test_strange_names_links_and_loops_survive(tmp_path: Path) -> None:
    picture(tmp_path / "ünï\ncode/bild 1.png")
    picture(tmp_path / os.fsdecode(b"\xff\xfe.png"), 1)
    (tmp_path / "\x1b[31mred.png").write_bytes(b"none")  # would colour all that the terminal shows after it
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    records, rejected = found(tmp_path, labels="none")
    assert len(records) == 2 and r"ünï\ncode/bild 1.png" in {record.source for record in records}
    for record in records:
        assert record.load().space == (12, 10)
        record.source.encode("utf-8")
    assert "links back" in reasons(rejected)["loop"] and r"\x1b[31mred.png" in reasons(rejected)
    assert "not a regular file" in reasons(rejected)["gone.png"] == reasons(rejected)["pipe.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_a_line(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "closed").mkdir(mode=0)
    assert "cannot be opened" in reasons(found(tmp_path)[1])["closed/"]


def test_nothing_usable_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        found(tmp_path / "nowhere")
    with pytest.raises(DataError, match="it is empty"):
        found(tmp_path)
    (tmp_path / "a.png").write_bytes(b"GIF89a...")
    with pytest.raises(DataError, match=r"a\.png: its name ends in \.png, but its content is a GIF"):
        found(tmp_path)
    picture(tmp_path / "only" / "labels" / "a.png")
    with pytest.raises(DataError, match=r"1 file was looked at.* labels/a\.png: a mask without an image of its name"):
        found(tmp_path / "only")


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_implicit.dcm"])
def test_dicom_without_the_head_of_a_file_is_told(name: str, tmp_path: Path) -> None:
    """It was of no format at all, or not what its ending says; nothing said what to do."""
    whole = Path(str(pydicom.data.get_testdata_file(name))).read_bytes()
    head = 144 + int.from_bytes(whole[140:144], "little")
    for target in ("IM0001", "b.dcm"):
        (tmp_path / target).write_bytes(whole[head:])
    picture(tmp_path / "c.png")
    rejected = found(tmp_path)[1]
    assert {line.path for line in rejected if "dcmconv" in line.reason and not line.skipped} == {"IM0001", "b.dcm"}


def test_a_missing_extra_costs_the_file_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from radsynth.io import _dicom_pixels

    shutil.copy(str(pydicom.data.get_testdata_file("SC_rgb_jpeg_gdcm.dcm")), tmp_path / "a.dcm")
    monkeypatch.setattr(_dicom_pixels, "has_gdcm", lambda: False)
    with pytest.raises(RejectedFile, match=r"radsynth\[gdcm\]"):
        found(tmp_path)[0][0].load()


def test_images_in_formats_that_are_not_read_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file1000000.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    nibabel.save(nibabel.AnalyzeImage(np.zeros((4, 5, 6), np.int16), np.eye(4)), tmp_path / "OAS1_0001.img")
    Pillow.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "cor_110.gif")
    for number in range(3):
        (tmp_path / f"0_{number}.txt").write_text("BMI: 23 of this patient")
    with pytest.raises(DataError, match=r"7 files were looked at\. For example 0_0\.txt: it is of no format that "
                                        r"radsynth reads; OAS1_0001\.hdr: .*; cor_110.gif: it is a GIF"):
        found(tmp_path)  # each reason once
    picture(tmp_path / "a.png")
    rejected = found(tmp_path)[1]
    told = reasons(rejected)
    assert "as npy, npz or NIfTI" in told["file1000000.h5"] and "save it as PNG or TIFF" in told["cor_110.gif"]
    assert "Analyze 7.5" in told["OAS1_0001.hdr"] and "which side is left" in told["OAS1_0001.hdr"]
    assert all(line.skipped for line in rejected), "they may lie beside what is used, as OASIS-1's previews do"
