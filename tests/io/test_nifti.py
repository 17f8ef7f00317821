"""NIfTI: axes, units, faults, oddities."""

from __future__ import annotations

import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radsynth import io
from tests.io.dicom_files import PROVENANCE
from tests.io.files import one, refused


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


@pytest.mark.parametrize("affine", [None, np.diag([-2.0, 2, 3, 1]), np.diag([2.0, -2, 3, 1])])
def test_a_file_of_two_axes_is_written_as_one(tmp_path: Path, affine: np.ndarray | None) -> None:
    data = np.random.default_rng(0).integers(0, 99, (4, 5)).astype(np.int16)
    image = one(nifti(tmp_path / "a.nii.gz", data, affine))
    assert image.space == (5, 4) and image.flat and not one(nifti(tmp_path / "b.nii", data[..., None], affine)).flat
    path, = io.write(image, tmp_path / "c.nii.gz", provenance=PROVENANCE)
    assert np.array_equal(np.asarray(nibabel.load(path).dataobj), data)
    assert np.array_equal(one(path).pixels, image.pixels)


def test_nifti_faults(tmp_path: Path) -> None:
    data = np.arange(10 * 11 * 12, dtype=np.int16).reshape(10, 11, 12)
    path = nifti(tmp_path / "a.nii.gz", data, np.eye(4))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    refused(path, "cannot be read")
    refused(patched(nifti(tmp_path / "b.nii", data, np.eye(4)), 42, "<3h", 30000, 30000, 30000), "limit")
    refused(nifti(tmp_path / "c.nii", np.zeros((4, 4, 4, 5), np.int16), np.eye(4)), "4 dimensions")
    broken = data.astype(np.float32)
    broken[3, 3, 3:5] = np.nan
    refused(nifti(tmp_path / "d.nii", broken, np.eye(4)), r"2 of its 1,320 pixels are NaN .* in the midst of others")
    refused(patched(nifti(tmp_path / "f.nii", data, np.eye(4)), 108, "<f", 1e30), "puts the pixels at byte")
    flat = nifti(tmp_path / "g.nii", data, np.eye(4))  # the second row of its matrix is empty
    refused(patched(flat, 296, "<4f", 0, 0, 0, 0), "orientation")


@pytest.mark.parametrize(("saved", "found", "right"), [
    ("a.nii", "a.nii.gz", "it is no gzip file, .* rename it to a.nii$"), ("a.nii", "a", "rename it to a.nii$"),
    ("a.nii.gz", "a.nii", "it is a gzip file, .* rename it to a.nii.gz$"), ("a.nii.gz", "a", "rename it to a.nii.gz$")])
def test_a_name_that_says_otherwise_is_told(saved: str, found: str, right: str, tmp_path: Path) -> None:
    """Browsers unpack what they fetch and keep its name."""
    path = nifti(tmp_path / saved, np.arange(10 * 11 * 12, dtype=np.int16).reshape(10, 11, 12), np.eye(4))
    refused(path.rename(tmp_path / found), right)


def test_a_gzip_file_with_a_wrong_bit_is_refused(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, (20, 21, 22)).astype(np.int16)
    whole = nifti(tmp_path / "a.nii.gz", voxels, np.eye(4)).read_bytes()
    for place in range(1000, len(whole) - 8, len(whole) // 12):
        (tmp_path / "a.nii.gz").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1:])
        refused(tmp_path / "a.nii.gz", "checksum of the gzip file|cannot be read")
    (tmp_path / "a.nii.gz").write_bytes(whole[:-4])
    refused(tmp_path / "a.nii.gz", "cannot be read")
    (tmp_path / "a.nii.gz").write_bytes(whole + b"what an editor added")
    assert one(tmp_path / "a.nii.gz").pixels.sum() == voxels.sum()


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


def test_a_header_that_calls_two_sides_left_is_noted(tmp_path: Path) -> None:
    data, right, left = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), np.eye(4), np.diag([-1.0, 1, 1, 1])
    for name, sform, qform, code in (("a", right, left, 1), ("b", right, right, 1), ("c", right, left, 0)):
        image = nibabel.Nifti1Image(data, None)
        image.set_sform(sform, 1)
        image.set_qform(qform, code)
        nibabel.save(image, tmp_path / f"{name}.nii")
    notes = [io.header(tmp_path / f"{name}.nii").notes for name in "abc"]
    assert len(notes[0]) == 1 and "RAS by its sform and to LAS by its qform" in notes[0][0] and not notes[1] + notes[2]
    assert np.array_equal(one(tmp_path / "a.nii").pixels, one(tmp_path / "b.nii").pixels)


def test_a_header_with_two_sizes_of_voxels_is_noted(tmp_path: Path) -> None:
    ramp, steps = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), np.diag([1.0, 1, 2, 1])
    other = patched(nifti(tmp_path / "a.nii", ramp, steps), 88, "<f", 4)
    notes = io.header(other).notes
    assert len(notes) == 1 and "1 x 1 x 2 by its sform and 1 x 1 x 4 by its pixdim" in notes[0]
    assert one(other).spacing == (2, 1, 1)
    alike = patched(nifti(tmp_path / "b.nii", ramp, steps), 88, "<f", 2.001)
    flat = patched(nifti(tmp_path / "c.nii", ramp[:, :, :1], steps), 88, "<f", 0)
    assert not io.header(alike).notes + io.header(flat).notes
    tilted = np.array([[1.0, 0, 0, 0], [0, 1, 0.8, 0], [0, 0, 2, 0], [0, 0, 0, 1]])  # 2 mm apart, 2.15 along the lean
    notes = io.header(patched(nifti(tmp_path / "d.nii", ramp, tilted), 88, "<f", 2)).notes
    assert len(notes) == 1 and "lean by" in notes[0]


def test_a_pair_of_files_is_one_volume(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)  # fewer bytes than a header has
    nibabel.save(nibabel.Nifti1Pair(data, np.eye(4)), tmp_path / "a.hdr")
    assert io.header(tmp_path / "a.hdr").beside == (str(tmp_path / "a.img"),)
    assert one(tmp_path / "a.hdr").pixels.max() == data.max()
    (tmp_path / "a.img").write_bytes(b"short")
    refused(tmp_path / "a.hdr", "it is cut short: 5 bytes of")
    (tmp_path / "a.img").unlink()
    refused(tmp_path / "a.hdr", "there is no file a.img beside it")


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


def test_axes_that_lean_are_noted(tmp_path: Path) -> None:
    affine = np.diag([-2.0, -2, 3, 1])
    for shear, told in ((0.02, 0), (0.8, 1)):
        affine[1, 2] = shear
        nibabel.save(nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), affine), tmp_path / "a.nii")
        notes = io.header(tmp_path / "a.nii").notes
        assert len(notes) == told and all(note.startswith("its axes lean by 14.9 degrees") for note in notes)
