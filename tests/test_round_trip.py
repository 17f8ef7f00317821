"""Values and geometry the whole way: source -> prepare -> a perfect generator -> generate -> read.

The generator here gives back what it was shown, so that only the intensity map and the writers are judged.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from radsynth import io
from radsynth.arrays import IntensityMap, Prepared
from radsynth.datasets import folder
from radsynth.image import RGB, Image, ImageSpec
from radsynth.io._geometry import placed
from radsynth.settings import Resolved
from radsynth.verbs._evaluating.synthetic import read_synthetic
from radsynth.verbs._other_images import other_images
from radsynth.verbs._writing import Drawn, Writing, usual_format, write_table
from radsynth.verbs.prepare import prepare

SIZE, SPACING = (6, 24, 16), (0.75, 0.75, 0.75)
LEANING = (1.0, 0.0, 0.0, 0.0, 0.96, 0.28, 0.0, -0.28, 0.96)
ORIGIN = io.Provenance(model="source", weights="", seed=0, index=0, window=(-160, 240))


def source(kind: str) -> Image:
    """Whole numbers over the whole range that the kind can have."""
    rng, affine = np.random.default_rng(0), placed(SIZE, SPACING, LEANING)
    shown: dict[str, Any] = {"spacing": SPACING, "affine": affine}
    if kind == "CT":
        values = rng.integers(-1024, 1501, (1, *SIZE)).astype(np.int16)
        return Image(pixels=values, modality="CT", units="HU", bits=12, **shown)
    values = rng.integers(0, 65536, (1, *SIZE)).astype(np.uint16)
    values.flat[:2] = 0, 65535
    if kind == "MR":
        return Image(pixels=values, modality="MR", bits=16, **shown)
    return Image(pixels=values[:, 0], modality="DX", bits=16, spacing=SPACING[1:])


def prepared_from(image: Image, format: str, tmp_path: Path) -> Prepared:
    """The source as files of a format, prepared at its own size with its whole range."""
    module = io.format_module(format)
    volume = image.pixels.ndim == 4
    ending = ".tiff" if format == "picture" and volume else module.SUFFIXES[0]
    (tmp_path / "in").mkdir()
    module.write(image, tmp_path / "in" / f"a{ending}", provenance=ORIGIN)
    found = folder.Settings(path=tmp_path / "in", plane="volume" if volume else "auto", modality=image.modality)
    options = {"size": list(image.space), "percentiles": [0.0, 100.0]}
    return prepare(found, tmp_path / "data", settings=Resolved(0, {"prepare": options}, {}), workers=1)


def generated(prepared: Prepared, format: str, out: Path) -> list[dict[str, Any]]:
    """The prepared images as if a network had made them, written by `generate`'s own code."""
    images = prepared.images(np.arange(len(prepared.rows)))
    facts = {"model": "perfect", "sha256": "ab" * 32}
    writing = Writing(spec=prepared.spec, intensity=prepared.intensity, facts=facts, seed=3, origin="what it was shown")
    (out / "images").mkdir(parents=True)
    chunks = iter([Drawn(images=images, labels=np.full(len(images), -1))])
    return [row for image in writing.all(chunks, out, format, 0, len(images)) for row in image]


@pytest.mark.parametrize("format", io.formats())
@pytest.mark.parametrize("kind", ["CT", "MR", "DX"])
def test_values_and_geometry_survive_the_whole_way(kind: str, format: str, tmp_path: Path) -> None:
    image = source(kind)
    prepared = prepared_from(image, format, tmp_path)
    intensity = prepared.intensity
    step = (intensity.high - intensity.low) / intensity.levels
    assert step <= 1, "sixteen bits and Hounsfield units have a level each, at least"
    rows = generated(prepared, format, tmp_path / "out")
    for listed in (False, True):  # as `evaluate` and `audit` read them back
        if listed:
            write_table(tmp_path / "out" / "samples.csv", rows)
        seen = read_synthetic(tmp_path / "out", prepared.spec, intensity)[np.arange(1)]
        assert np.abs(seen - prepared.images(np.arange(1))).max() <= 2 / 65535
    if format == "npz":  # one file in MedMNIST's layout, which holds values alone
        with np.load(tmp_path / "out" / rows[0]["file"], allow_pickle=False) as archive:
            assert np.abs(archive["train_images"][0].astype(np.float64) - image.pixels[0]).max() <= step / 2
        return
    files = [tmp_path / "out" / row["file"] for row in rows]
    found = io.read(files[0].parent if len(files) > 1 else files[0])
    [back] = found if isinstance(found, list) else [found]
    assert np.abs(back.pixels.astype(np.float64) - image.pixels).max() <= step / 2
    assert (back.modality, back.units, back.space) == (image.modality, image.units, image.space)
    assert back.bits == image.bits or (format != "dicom" and back.bits == 16)
    assert back.spacing == pytest.approx(image.spacing, rel=1e-5)
    if image.affine is not None:  # the same directions, about an origin of its own
        assert back.affine is not None and back.affine[:3, :3] == pytest.approx(image.affine[:3, :3], abs=1e-4)


@pytest.mark.parametrize(("slope", "intercept"), [(0.0025, -1.5), (37.0, 0.0)])
def test_values_of_a_dicom_scale_survive(slope: float, intercept: float, tmp_path: Path) -> None:
    """Fractions (PET, Philips' MR) are not rounded to whole numbers, and what exceeds 16 bits does not wrap around."""
    values = np.random.default_rng(0).integers(0, 4096, (1, 24, 16)).astype(np.uint16)
    values.flat[:2] = 0, 4095
    plain = Image(pixels=values, modality="MR", bits=12, spacing=SPACING[1:])
    (tmp_path / "in").mkdir()
    (path,) = io.write(plain, tmp_path / "in" / "a.dcm", provenance=ORIGIN)
    dataset = pydicom.dcmread(path)
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.save_as(path)
    options = {"size": list(plain.space), "percentiles": [0.0, 100.0]}
    prepared = prepare(folder.Settings(path=tmp_path / "in"), tmp_path / "data",
                       settings=Resolved(0, {"prepare": options}, {}), workers=1)
    (row,) = generated(prepared, "dicom", tmp_path / "out")
    back = io.read(tmp_path / "out" / row["file"])
    assert isinstance(back, Image)
    step = max(slope * 4095 / 65535, slope / 2 if slope > 1 else 0)
    assert np.abs(back.pixels - (values * slope + intercept)).max() <= 1.5 * step


@pytest.mark.parametrize("format", ["nifti", "metaimage"])
def test_values_below_those_of_16_bits_do_not_wrap_around(format: str, tmp_path: Path) -> None:
    """Whole numbers of 16 bits under a whole scale, as NIfTI may have them."""
    stored = np.random.default_rng(0).integers(-20_000, 5_000, (12, 14, 10)).astype(np.int16)
    stored.flat[:2] = -20_000, 5_000
    scaled = nibabel.Nifti1Image(stored, np.diag([1.0, 1.0, 1.0, 1.0]))
    scaled.header.set_slope_inter(2, 0)
    (tmp_path / "in").mkdir()
    nibabel.save(scaled, tmp_path / "in" / "a.nii.gz")
    source = io.read(tmp_path / "in" / "a.nii.gz")
    assert isinstance(source, Image) and (source.pixels.min(), source.bits) == (-40_000, 16)
    options = {"size": list(source.space), "percentiles": [0.0, 100.0]}
    prepared = prepare(folder.Settings(path=tmp_path / "in", plane="volume"), tmp_path / "data",
                       settings=Resolved(0, {"prepare": options}, {}), workers=1)
    (row,) = generated(prepared, format, tmp_path / "out")
    back = io.read(tmp_path / "out" / row["file"])
    assert isinstance(back, Image) and (back.pixels.min(), back.pixels.max()) == (-40_000, 10_000)
    assert np.abs(back.pixels - source.pixels).max() <= 1


@pytest.mark.parametrize(("size", "channels"), [((16, 20), 2), ((16, 20), 4), ((4, 16, 20), 3), ((4, 16, 3), 1)])
def test_several_contrasts_are_written_and_read_back(size: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    """DICOM examinations of several contrasts, which DICOM images cannot hold, come out as NIfTI."""
    names = tuple(f"contrast {k}" for k in range(channels))
    spec = ImageSpec(channels=names, size=size, bits=16, format="dicom", modality="MR", spacing=(1.0,) * len(size))
    made = np.random.default_rng(0).uniform(-1, 1, (3, channels, *size)).astype(np.float32)
    intensity = IntensityMap(method="percentiles", low=0, high=1000, levels=65535)
    writing = Writing(spec=spec, intensity=intensity, facts={"model": "none", "sha256": "ab"}, seed=0, origin="noise")
    assert usual_format(spec) == ("dicom" if channels == 1 else "nifti")
    assert usual_format(dataclasses.replace(spec, channels=RGB)) == "dicom"
    for format in (usual_format(spec), "npz"):
        (tmp_path / format).mkdir()
        written = writing.all(iter([Drawn(images=made, labels=np.full(3, -1))]), tmp_path / format, format, 0, 3)
        write_table(tmp_path / format / "samples.csv", [row for image in written for row in image])
        back = read_synthetic(tmp_path / format, spec, intensity)[np.arange(3)]
        assert back.shape == made.shape and np.abs(back - made).max() < 0.002


@pytest.mark.parametrize("format", ["nifti", "npz"])
def test_channels_of_different_ranges_come_back_in_their_own(format: str, tmp_path: Path) -> None:
    """CT and PET, whose values have nothing to do with each other: PET was written from -1000 to 80."""
    spec = ImageSpec(channels=("ct", "pet"), size=(16, 20), bits=32, format="nifti")
    intensity = IntensityMap(method="percentiles", low=-1000, high=80, levels=65535, ranges=((-1000, 80), (0, 9)))
    made = np.random.default_rng(0).uniform(-1, 1, (3, 2, 16, 20)).astype(np.float32)
    writing = Writing(spec=spec, intensity=intensity, facts={"model": "none", "sha256": "ab"}, seed=0, origin="noise")
    rows = [row for image in writing.all(iter([Drawn(images=made, labels=np.full(3, -1))]), tmp_path, format, 0, 3)
            for row in image]
    if format == "nifti":
        file = nibabel.load(tmp_path / str(rows[0]["file"]))
        values = np.asarray(file.dataobj).reshape(-1, 2)
        assert not file.header["cal_max"], "one window cannot show both"
    else:
        values = np.load(tmp_path / "synthetic.npz")["train_images"].reshape(-1, 2)
    assert values[:, 0].min() < -900 and 70 < values[:, 0].max() <= 80
    assert 0 <= values[:, 1].min() < 0.1 and 8.9 < values[:, 1].max() <= 9
    write_table(tmp_path / "samples.csv", rows)
    assert np.abs(read_synthetic(tmp_path, spec, intensity)[np.arange(3)] - made).max() < 1e-4
    with other_images(tmp_path, spec, intensity, {}) as (_, found):
        assert np.abs(found - made).max() < 1e-4


def test_a_channel_of_far_smaller_values_comes_back(tmp_path: Path) -> None:
    """T2 and ADC in mm2/s, all of whose values were one step of a grey scale that holds both."""
    spec = ImageSpec(channels=("t2", "adc"), size=(16, 20), bits=32, format="nifti")
    intensity = IntensityMap(method="percentiles", low=0, high=1200, levels=65535, ranges=((0, 1200), (0, 0.003)))
    made = np.random.default_rng(0).uniform(-1, 1, (3, 2, 16, 20)).astype(np.float32)
    writing = Writing(spec=spec, intensity=intensity, facts={"model": "none", "sha256": "ab"}, seed=0, origin="noise")
    write_table(tmp_path / "samples.csv", [
        row for image in writing.all(iter([Drawn(images=made, labels=np.full(3, -1))]), tmp_path, "nifti", 0, 3)
        for row in image])
    with other_images(tmp_path, spec, intensity, {}) as (_, found):
        assert np.abs(found - made).max() < 1e-4


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7), (5, 1, 7), (5, 6, 1)], ids=str)
@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PSL", "AIR", "SPR"])
def test_what_is_made_of_a_nifti_file_lies_as_it_does(codes: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    affine = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(np.eye(4)),
                                            nibabel.orientations.axcodes2ornt(codes)), shape)
    affine[:3] *= 1.5
    values = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "given.nii.gz")
    image = io.format_module("nifti").read(tmp_path / "given.nii.gz")
    io.write(image, tmp_path / "made.nii.gz", provenance=ORIGIN)
    made = nibabel.load(tmp_path / "made.nii.gz")
    assert np.array_equal(np.asarray(made.dataobj), values) and np.allclose(made.affine, affine)
    if 1 not in shape:
        pytest.importorskip("SimpleITK")
        [path] = io.write(image, tmp_path / "made.mha", provenance=ORIGIN)
        again = io.format_module("metaimage").read(path)
        assert again.laid == image.laid and np.allclose(again.affine, image.affine)
        assert np.array_equal(again.pixels, image.pixels)


def test_a_sagittal_series_stays_sagittal(tmp_path: Path) -> None:
    image = source("MR").replace(pixels=np.arange(4 * 5 * 6, dtype=np.uint16).reshape(1, 4, 5, 6), mask=None,
                                 spacing=(1.0, 1.0, 4.0), affine=np.diag([4.0, 1.0, 1.0, 1.0]),
                                 laid=((2, 0, 1), (False, False, True)))
    files = io.write(image, tmp_path / "made", provenance=ORIGIN, format="dicom")
    sets = [pydicom.dcmread(path) for path in files]
    assert len(sets) == 6 and {tuple(one.ImageOrientationPatient) for one in sets} == {(0, 1, 0, 0, 0, -1)}
    assert [float(one.ImagePositionPatient[0]) for one in sets] == [0, 4, 8, 12, 16, 20]
    for number, one in enumerate(sets):
        assert list(one.PixelSpacing) == [1, 1] and one.SliceThickness == one.SpacingBetweenSlices == 4
        assert np.array_equal(one.pixel_array * float(one.get("RescaleSlope", 1)), image.pixels[0, ::-1, :, number])
    [back] = io.read(tmp_path / "made")
    assert np.array_equal(back.pixels, image.pixels) and np.allclose(back.affine, image.affine)


@pytest.mark.parametrize(("codes", "made"), [(("PSL", "PSL"), "PSL"), (("RAS", "RAS"), "RAS"), (("PSL", "RAS"), "LPS")])
def test_volumes_are_written_along_the_axes_of_those_they_were_learned_from(
    codes: tuple[str, str], made: str, tmp_path: Path
) -> None:
    """Where these differ, along the writer's own."""
    (tmp_path / "in").mkdir()
    for number, code in enumerate(codes):
        shape = (8, 10, 12) if code == "PSL" else (12, 8, 10)  # the same body
        affine = nibabel.orientations.inv_ornt_aff(
            nibabel.orientations.ornt_transform(nibabel.io_orientation(np.eye(4)),
                                                nibabel.orientations.axcodes2ornt(code)), shape)
        values = np.random.default_rng(number).integers(0, 200, shape).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "in" / f"p{number}.nii.gz")
    found = folder.Settings(path=tmp_path / "in", plane="volume", modality="MR")
    prepared = prepare(found, tmp_path / "data", settings=Resolved(
        0, {"prepare": {"size": [10, 8, 12]}}, {}), workers=1)
    for format in ("nifti", "dicom"):
        rows = generated(Prepared(tmp_path / "data"), format, tmp_path / format)
        files = [tmp_path / format / row["file"] for row in rows]
        if format == "nifti":
            assert ["".join(nibabel.aff2axcodes(nibabel.load(path).affine)) for path in files] == [made, made]
        else:  # slices across the body's left to right, or from feet to head
            across = {abs(float(np.cross(*np.reshape(pydicom.dcmread(path).ImageOrientationPatient, (2, 3)))[0]))
                      for path in files}
            assert across == {float(made == "PSL")}
    assert prepared.spec == Prepared(tmp_path / "data").spec


@pytest.mark.parametrize("low", [0, -100])
@pytest.mark.parametrize("format", ["nifti", "metaimage"])
def test_signed_numbers_stay_signed(format: str, low: int, tmp_path: Path) -> None:
    """int16 is what scanners' volumes come in, negative values or none, and what programs beside expect."""
    itk = pytest.importorskip("SimpleITK")
    values = np.random.default_rng(0).integers(low, 1500, (12, 14, 10)).astype(np.int16)
    for number, bottom in enumerate((low, 0)):  # of one set: the second has no negative value
        volume = itk.GetImageFromArray(np.maximum(values, bottom))
        (tmp_path / "in").mkdir(exist_ok=True)
        itk.WriteImage(volume, str(tmp_path / "in" / f"case{number}{io.format_module(format).SUFFIXES[0]}"))
    options = {"size": [12, 14, 10], "percentiles": [0.0, 100.0]}
    prepared = prepare(folder.Settings(path=tmp_path / "in", plane="volume"), tmp_path / "data",
                       settings=Resolved(0, {"prepare": options}, {}), workers=1)
    for row in generated(prepared, format, tmp_path / "out"):
        made = itk.ReadImage(str(tmp_path / "out" / row["file"]))
        assert made.GetPixelID() == itk.sitkInt16, "as it is stored, without a scale"
        back = io.read(tmp_path / "out" / row["file"])
        assert isinstance(back, Image) and back.pixels.dtype == np.int16 and back.bits == 16
        if format == "nifti":
            assert nibabel.load(tmp_path / "out" / row["file"]).get_data_dtype() == np.int16


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", [(24, 16), (24, 16, 1), (24, 1, 16), (1, 24, 16)])
def test_slices_come_back_along_the_axes_of_their_files(shape: tuple[int, ...], known: bool, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 30_000, shape).astype(np.int16)
    values.flat[:2] = 0, 30_000
    given = nibabel.Nifti1Image(values, np.diag([0.5, 0.5, 0.5, 1]) if known else None)
    if not known:
        given.header.set_zooms((0.5,) * len(shape))
        given.header.set_xyzt_units("mm")
    (tmp_path / "in").mkdir()
    nibabel.save(given, tmp_path / "in" / "a.nii.gz")
    prepared = prepare(tmp_path / "in", tmp_path / "data", workers=1, overrides=["prepare.percentiles=[0.0,100.0]"])
    generated(prepared, "nifti", tmp_path / "out")
    made = nibabel.load(next((tmp_path / "out" / "images").iterdir()))
    assert made.shape == shape
    assert [step for step, side in zip(made.header.get_zooms(), shape, strict=True) if side > 1] == [0.5, 0.5]
    assert np.abs(np.asarray(made.dataobj) - values).max() <= 1
