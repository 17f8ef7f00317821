"""What holds for every format: found by content, whole or not there, named as users name it."""

from __future__ import annotations

import io as streams
import resource
from pathlib import Path

import numpy as np
import pydicom.filewriter
import pytest
from PIL import Image as Pillow
from pydicom.valuerep import VR

from radsynth import io
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image
from tests.io.files import PROVENANCE, RAMP


def test_formats_are_found_by_content(tmp_path: Path) -> None:
    buffer = streams.BytesIO()
    Pillow.fromarray(RAMP.astype(np.uint8)).save(buffer, format="PNG")
    (tmp_path / "scan").write_bytes(buffer.getvalue())
    assert io.detect(tmp_path / "scan") == "picture"
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(io.NotAnImage):
        io.detect(tmp_path / "notes.txt")
    (tmp_path / "._scan.png").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    with pytest.raises(io.NotAnImage, match="macOS"):
        io.detect(tmp_path / "._scan.png")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RejectedFile, match="broken link"):
        io.detect(tmp_path / "gone")
    with pytest.raises(RejectedFile, match="there is no file of this name"):
        io.read(tmp_path / "nowhere")


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Pillow.Image, "save", full)
    with pytest.raises(DataError, match=r"a\.png cannot be written: No space left"):
        io.write(Image(pixels=RAMP[None].astype(np.uint8)), tmp_path / "a.png", provenance=PROVENANCE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.dcm", "a.nii.gz", "a.mha", "a.nrrd", "a.tiff", "a.npz"])
def test_what_the_system_refuses_is_said_in_every_format(name: str, tmp_path: Path) -> None:
    if name in ("a.mha", "a.nrrd"):
        pytest.importorskip("SimpleITK")
    pixels = np.random.default_rng(0).integers(0, 4000, (1, 5, 64, 64), np.uint16)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DataError, match=r"a(\..*)? cannot be written: (File too large|.*is the disk full)"):
            io.write(Image(pixels=pixels, modality="MR", bits=12, spacing=(1.0,) * 3), tmp_path / name,
                     provenance=PROVENANCE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
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
