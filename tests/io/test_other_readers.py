"""What radsynth writes, read by programs that know nothing of it: the same values at the same places.

dcm2niix, dcentvfy, SimpleITK and nibabel are asked where they are installed (Orthanc in tests/pacs). Each voxel is
compared through its patient coordinates, so that a reader's own order of axes does not matter.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radsynth import io
from radsynth.image import RGB, Image
from radsynth.io._geometry import LPS_OF_RAS, common_directions, directions_of, placed

PROVENANCE = io.Provenance(model="mlp", weights="ab" * 32, seed=3, index=4, window=(-160, 240))
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
LEANING = tuple(
    np.array([[np.cos(0.2), np.sin(0.2), 0], [-np.sin(0.2), np.cos(0.2), 0], [0, 0, 1.0]]).ravel().tolist()
)


def volume(modality: str = "CT", directions: tuple[float, ...] = AXIAL) -> Image:
    rng = np.random.default_rng(0)
    low, high = (-1000, 2000) if modality == "CT" else (0, 4000)
    size, spacing = (6, 14, 12), (2.5, 0.7, 0.8)
    return Image(
        pixels=rng.integers(low, high, (1, *size)).astype(np.int16), modality=modality, bits=12, spacing=spacing,
        units="HU" if modality == "CT" else "stored", affine=placed(size, spacing, directions),
    )  # fmt: skip


def same(image: Image, values: np.ndarray, to_lps: np.ndarray) -> None:
    """values: (i, j, k) as another reader has them; to_lps: (i, j, k) -> LPS mm."""
    assert image.affine is not None
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in values.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    places = np.c_[indices, np.ones(len(indices))] @ to_lps.T
    ours = places @ np.linalg.inv(image.affine).T
    near = np.rint(ours[:, :3]).astype(int)
    assert np.abs(ours[:, :3] - near).max() < 0.01, "the grids differ"
    assert np.array_equal(image.pixels[0][near[:, 2], near[:, 1], near[:, 0]], values.ravel())
    assert values.size == image.pixels.size


@pytest.mark.parametrize("directions", [AXIAL, LEANING])
@pytest.mark.parametrize("modality", ["CT", "MR", "OT"])
def test_simpleitk_reads_the_series(modality: str, directions: tuple[float, ...], tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK (extra itk) is not installed")
    image = volume(modality, directions)
    io.write(image, tmp_path / "s", provenance=PROVENANCE, format="dicom")
    reader = itk.ImageSeriesReader()
    [series] = reader.GetGDCMSeriesIDs(str(tmp_path / "s"))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s"), series))
    check_itk(image, reader.Execute())


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("directions", [AXIAL, LEANING])
def test_simpleitk_reads_files(name: str, directions: tuple[float, ...], tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK (extra itk) is not installed")
    image = volume("CT", directions)
    io.write(image, tmp_path / name, provenance=PROVENANCE)
    check_itk(image, itk.ReadImage(str(tmp_path / name)))


def check_itk(image: Image, found: object) -> None:
    import SimpleITK as itk

    affine = np.eye(4)
    affine[:3, :3] = np.array(found.GetDirection()).reshape(3, 3) * found.GetSpacing()  # type: ignore[attr-defined]
    affine[:3, 3] = found.GetOrigin()  # type: ignore[attr-defined]
    same(image, itk.GetArrayFromImage(found).transpose(2, 1, 0), affine)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@pytest.mark.parametrize("directions", [AXIAL, LEANING])
@pytest.mark.parametrize("modality", ["CT", "MR", "OT"])
def test_dcm2niix_reads_the_series(modality: str, directions: tuple[float, ...], tmp_path: Path) -> None:
    image = volume(modality, directions)
    io.write(image, tmp_path / "s", provenance=PROVENANCE, format="dicom")
    found = converted(tmp_path / "s", tmp_path / "out")
    same(image, np.asarray(found.dataobj), LPS_OF_RAS @ found.affine)


@pytest.mark.parametrize("directions", [AXIAL, LEANING])
def test_nibabel_reads_nifti(directions: tuple[float, ...], tmp_path: Path) -> None:
    image = volume("CT", directions)
    io.write(image, tmp_path / "a.nii.gz", provenance=PROVENANCE)
    found = nibabel.load(tmp_path / "a.nii.gz")
    same(image, np.asarray(found.dataobj), LPS_OF_RAS @ found.affine)
    assert (found.header["cal_min"], found.header["cal_max"]) == (-160, 240)


def single(kind: str) -> Image:
    """A 2-D image of every storage class for pictures without a place in the patient."""
    rng = np.random.default_rng(0)
    deep, spacing = rng.integers(0, 4096, (1, 14, 12)).astype(np.uint16), (0.2, 0.1)
    return {
        "DX": Image(pixels=deep, modality="DX", bits=12, spacing=spacing),
        "CR": Image(pixels=deep, modality="CR", bits=12, spacing=spacing),
        "SC": Image(pixels=deep * 16, modality="OT", bits=16, spacing=spacing),
        "SC 8 bits": Image(pixels=(deep % 256).astype(np.uint8), modality="OT", bits=8),
        "SC colour": Image(pixels=rng.integers(0, 256, (3, 14, 12)).astype(np.uint8), modality="US", channels=RGB),
    }[kind]


SINGLE = ["DX", "CR", "SC", "SC 8 bits", "SC colour"]


@pytest.mark.parametrize("kind", SINGLE)
def test_simpleitk_reads_radiographs_and_captures(kind: str, tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK (extra itk) is not installed")
    image = single(kind)
    io.write(image, tmp_path / "a.dcm", provenance=PROVENANCE)
    found = itk.ReadImage(str(tmp_path / "a.dcm"))
    values = itk.GetArrayFromImage(found)[0]
    assert np.array_equal(np.moveaxis(values, -1, 0) if values.ndim == 3 else values[None], image.pixels)
    assert found.GetSpacing()[:2] == pytest.approx(image.spacing[::-1] if image.spacing else (1.0, 1.0))


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@pytest.mark.parametrize("kind", SINGLE)
def test_dcm2niix_reads_radiographs_and_captures(kind: str, tmp_path: Path) -> None:
    image = single(kind)
    io.write(image, tmp_path / "in" / "a.dcm", provenance=PROVENANCE)
    found = converted(tmp_path / "in", tmp_path / "out")
    values = np.asarray(found.dataobj)[:, ::-1, 0].T  # it turns rows to step to the front
    planes = [values] if values.dtype.fields is None else [values[name] for name in "RGB"]
    assert np.array_equal(np.stack(planes), image.pixels)
    assert found.header.get_zooms()[:2] == pytest.approx(image.spacing[::-1] if image.spacing else (1.0, 1.0))


def converted(folder: Path, out: Path) -> nibabel.Nifti1Image:
    """The one image that dcm2niix makes of a folder."""
    out.mkdir()
    command = ["dcm2niix", "-z", "n", "-f", "a", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    [path] = out.glob("*.nii")
    return nibabel.load(path)


@pytest.mark.skipif(shutil.which("dcentvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_series_agrees_with_itself(modality: str, tmp_path: Path) -> None:
    files = io.write(volume(modality), tmp_path / "s", provenance=PROVENANCE, format="dicom")
    said = subprocess.run(["dcentvfy", *map(str, files)], capture_output=True, text=True, timeout=60)
    assert "Error" not in said.stderr + said.stdout, said.stderr


@pytest.mark.parametrize("across", [0, 1, 2])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.dcm"])
def test_slices_of_every_plane_come_back_as_they_were_hung(name: str, across: int, tmp_path: Path) -> None:
    planes = {0: AXIAL, 1: (1.0, 0, 0, 0, 0, -1.0, 0, 1.0, 0), 2: (0, 1.0, 0, 0, 0, -1.0, 1.0, 0, 0)}
    pixels = np.random.default_rng(0).integers(0, 4000, (1, 9, 7)).astype(np.uint16)
    affine = placed((9, 7), (1.5, 0.5), planes[across])
    image = Image(pixels=pixels, modality="MR", bits=12, spacing=(1.5, 0.5), affine=affine)
    io.write(image, tmp_path / name, provenance=PROVENANCE)
    found = io.read(tmp_path / name)
    assert isinstance(found, Image) and io.header(tmp_path / name).size == (9, 7)
    assert np.array_equal(found.pixels, pixels) and found.spacing == pytest.approx((1.5, 0.5))
    assert found.affine is not None and found.window == pytest.approx((-160, 240))
    place = [0, 1, 3]  # a single slice of DICOM does not say to which side the next one would lie
    assert found.affine[:, place] == pytest.approx(affine[:, place], abs=1e-4)


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("space", [(9, 7), (4, 9, 7)])
def test_channels_of_nifti_are_vectors(channels: int, space: tuple[int, ...], tmp_path: Path) -> None:
    names = tuple(f"echo {number}" for number in range(channels))
    pixels = np.random.default_rng(0).integers(0, 4000, (channels, *space)).astype(np.uint16)
    image = Image(pixels=pixels, modality="MR", bits=12, spacing=(1.0,) * len(space), channels=names)
    io.write(image, tmp_path / "a.nii.gz", provenance=PROVENANCE)
    found, header = io.read(tmp_path / "a.nii.gz"), io.header(tmp_path / "a.nii.gz")
    assert isinstance(found, Image) and np.array_equal(found.pixels, pixels) and found.channels == names
    assert (header.size, header.channels) == (space, channels)
    assert nibabel.load(tmp_path / "a.nii.gz").shape[3:] == (1, channels)


def test_directions_of_a_data_set() -> None:
    lean = directions_of(placed((9, 7), (1.0, 1.0), LEANING))
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0)
    assert common_directions([lean, lean]) == lean
    assert common_directions([AXIAL, lean]) == AXIAL, "only leaning: the axes next to them"
    assert common_directions([AXIAL, coronal]) is None and common_directions([AXIAL, None]) is None
