"""Apply: what a result is written as, and what a format cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from radsynth.errors import DataError
from radsynth.image import Image
from radsynth.io import write
from radsynth.verbs.apply import apply
from tests.apply.examples import disc
from tests.tables import rows
from tests.written import FROM


def test_a_header_beside_its_pixels_becomes_one_file(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """.mhd and .nhdr are read and not written; one of them ended `apply` for all images."""
    itk = pytest.importorskip("SimpleITK")
    run, given = make_run("task.kind=restore", "task.what=rician"), tmp_path / "in"
    given.mkdir()
    for name, seed in (("A.MHD", 1), ("b.nhdr", 2), ("c.nrrd", 3)):
        itk.WriteImage(itk.GetImageFromArray(np.repeat(disc((16, 16), seed), 3, axis=0)), str(given / name))
    result = apply(run, given, tmp_path / "out")
    assert [r.path for r in result.rejected if not r.skipped] == []
    assert [row["file"] for row in rows(tmp_path / "out")] == [
        "images/000000.mha", "images/000001.nrrd", "images/000002.nrrd"]


@pytest.mark.parametrize(("shape", "placed"), [((18, 20), True), ((18, 20), False), ((18, 20, 1), False),
                                               ((18, 1, 20), True), ((18, 20, 2), True)])
def test_a_nifti_has_its_axes_again(make_run: Callable[..., Path], tmp_path: Path, shape: tuple[int, ...],
                                    placed: bool) -> None:
    import nibabel

    values = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    affine = np.diag([-2.0, 2, 3, 1]) if placed else None
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii.gz")
    apply(make_run("task.kind=restore", "task.what=rician"), tmp_path / "a.nii.gz", tmp_path / "out")
    made = nibabel.load(tmp_path / "out" / rows(tmp_path / "out")[0]["file"])
    assert made.shape == shape
    if placed:
        assert np.allclose(made.affine, affine)


def test_what_a_format_cannot_hold_is_a_rejected_file(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run, given = make_run("task.kind=restore", "task.what=rician"), tmp_path / "in"
    given.mkdir()
    write(Image(pixels=np.repeat(disc((16, 16))[:, None], 3, axis=1)), given / "a.tiff", provenance=FROM)
    with pytest.raises(DataError, match=r"a.tiff: its result is not written: PNG holds single images. Choose TIFF"):
        apply(run, given, tmp_path / "out", format="png")
    (given / "0.png").touch()
    write(Image(pixels=np.repeat(disc((16, 16))[:, None], 4, axis=1)), given / "c.tiff", provenance=FROM)
    with pytest.raises(DataError, match=r"used.\n  a.tiff and 1 more: its result .*\n  0.png: the file is empty"):
        apply(run, given, tmp_path / "out", format="png")  # the commonest reason first, not that of the first file
    write(Image(pixels=disc((16, 16))), given / "b.png", provenance=FROM)
    result = apply(run, given, tmp_path / "out", format="png")
    assert sorted(r.path for r in result.rejected) == ["0.png", "a.tiff", "c.tiff"]
    assert [(row["file"], row["source"]) for row in rows(tmp_path / "out")] == [("images/000000.png", "b.png")]


def test_a_mask_that_does_not_fit_costs_no_image(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """Masks beside images are known as such, and read by registration alone, which moves them."""
    run, given = make_run("task.kind=restore", "task.what=rician"), tmp_path / "in"
    given.mkdir()
    write(Image(pixels=disc((16, 16))), given / "a.png", provenance=FROM)
    write(Image(pixels=disc((9, 12))), given / "a_mask.png", provenance=FROM)
    result = apply(run, given, tmp_path / "out")
    assert result.count == 1 and not [line for line in result.rejected if not line.skipped]


@pytest.mark.parametrize("size", [(24, 16), (8, 12, 10)])
def test_a_series_that_is_no_volume_is_done_slice_by_slice_where_training_took_such(
    size: tuple[int, ...], make_run: Callable[..., Path], tmp_path: Path
) -> None:
    words = "task.kind=restore", "task.what=rician", "data.kind=folder", "data.path=there", "data.incomplete=slices"
    run = make_run(*words, modality="MR", spacing=(1.0,) * len(size), size=size, bits=12)
    files = write(Image(pixels=disc((6, 24, 16)).astype(np.uint16), modality="MR", bits=12, spacing=(2.0, 1.0, 1.0)),
                  tmp_path / "in" / "scan", provenance=FROM, format="dicom")
    files[2].unlink()
    if len(size) == 3:  # which takes volumes alone
        with pytest.raises(DataError, match=r"scan/0001\.dcm: a series of 5 files: about 1 of its slices is missing"):
            apply(run, tmp_path / "in", tmp_path / "out")
        return
    applied = apply(run, tmp_path / "in", tmp_path / "out")
    assert (applied.count, applied.rejected) == (5, ())
    for row in rows(tmp_path / "out"):
        given, made = (pydicom.dcmread(file) for file in (
            tmp_path / "in" / "scan" / row["source"].partition("#")[2], tmp_path / "out" / row["file"]))
        assert made.ImagePositionPatient == given.ImagePositionPatient
        assert np.corrcoef(made.pixel_array.ravel(), given.pixel_array.ravel())[0, 1] > 0.9
