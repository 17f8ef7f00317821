"""One contract for every format: read what others write, mark what is written, and give back what was put in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radsynth import io
from radsynth.datasets import folder
from radsynth.errors import DataError, RejectedFile
from radsynth.image import RGB, Image
from radsynth.io import nifti
from radsynth.io._synthetic import sentence
from radsynth.settings import resolve
from radsynth.verbs._report.scorecard import MARKS
from radsynth.verbs._report.words import format_name

FORMATS = io.formats()
PROVENANCE = io.Provenance(model="dcgan", weights="ab" * 32, seed=5, index=12)
WORDS = ("synthetic", "radsynth", "dcgan", "ab" * 32)
"""What every file must hold somewhere, whatever the case of its letters."""


def grid(size: tuple[int, ...]) -> np.ndarray:
    """An oblique grid: index (column, row, slice) -> LPS mm, rows 0.7, columns 0.8, slices 2.5 mm apart."""
    angle = np.radians(8)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.8, 0.7, 2.5]
    affine[:3, 3] = [-12.5, 40.25, -300]
    return affine


def images() -> dict[str, Image]:
    """Images of every kind that a generator may have to write, with values between the steps."""
    rng = np.random.default_rng(0)
    hounsfield = rng.normal(0, 500, (1, 4, 9, 7)).clip(-1024, 3000).astype(np.float32)
    magnitude = rng.uniform(0, 4000, (1, 4, 9, 7)).astype(np.float32)
    return {
        "ct": Image(pixels=hounsfield[:, 0], modality="CT", units="HU", bits=12, spacing=(0.7, 0.8)),
        "ct volume": Image(
            pixels=hounsfield, modality="CT", units="HU", bits=12, spacing=(2.5, 0.7, 0.8), affine=grid((4, 9, 7))
        ),
        "mr volume": Image(pixels=magnitude, modality="MR", bits=12, spacing=(2.5, 0.7, 0.8), affine=grid((4, 9, 7))),
        "mr floats": Image(pixels=magnitude[:, 0] / 5000, modality="MR", bits=32, spacing=(1.0, 1.0)),
        "radiograph": Image(pixels=rng.integers(0, 4096, (1, 9, 7)), modality="DX", bits=12, spacing=(0.2, 0.1)),
        "unplaced": Image(pixels=rng.integers(0, 256, (1, 9, 7)).astype(np.uint8)),
        "colour": Image(pixels=rng.integers(0, 256, (3, 9, 7)).astype(np.uint8), modality="US", channels=RGB),
        "deep colour": Image(pixels=rng.integers(0, 65536, (3, 9, 7)).astype(np.uint16), bits=16, channels=RGB),
        "negative": Image(pixels=rng.integers(-200, 300, (1, 9, 7)), modality="MR", bits=16, spacing=(1.0, 1.0)),
    }


def step(image: Image) -> float:
    """The quantisation step of the image as an integer file may hold it."""
    return float(np.ptp(image.pixels)) / 65535 if image.bits == 32 else 1.0


def ending(image: Image, format: str) -> str:
    return ".tiff" if format == "picture" and image.pixels.ndim == 4 else io.format_module(format).SUFFIXES[0]


def write(image: Image, format: str, target: Path) -> list[Path]:
    return io.format_module(format).write(image, target / f"image{ending(image, format)}", provenance=PROVENANCE)


@pytest.mark.parametrize("format", FORMATS)
def test_run_can_be_asked_for_it(format: str) -> None:
    assert resolve(overrides=(f"generate.format={format}",)).section("generate").format == format


@pytest.mark.parametrize("format", FORMATS)
def test_reports_call_it_by_its_name_and_say_how_its_files_are_marked(format: str) -> None:
    assert format_name(format) != format and MARKS[format]


@pytest.mark.parametrize("format", FORMATS)
def test_its_examples_are_found_and_read_as_their_headers_say(format: str, tmp_path: Path) -> None:
    for path in io.format_module(format).example(tmp_path):
        assert io.detect(path) == format
        header, image = io.header(path), io.read(path)
        assert isinstance(image, Image)
        assert (header.format, header.size, header.channels) == (format, image.space, len(image.channels))
        assert (header.bits, header.spacing) == (image.bits, image.spacing)
        assert image.pixels.dtype.isnative and image.pixels.min() < image.pixels.max()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", images())
def test_what_is_written_is_read_back(format: str, name: str, tmp_path: Path) -> None:
    image = images()[name]
    files = write(image, format, tmp_path)
    found = io.read(files[0] if len(files) == 1 else files[0].parent)
    [found] = found if isinstance(found, list) else [found]
    assert found.space == image.space
    assert np.abs(found.pixels.astype(np.float64) - image.pixels).max() <= step(image) * 0.5001
    assert (found.modality, found.units, found.channels) == (image.modality, image.units, image.channels)
    assert found.bits == image.bits or (image.bits == 32 and found.bits == 16)
    assert (found.spacing is None) == (image.spacing is None)
    if image.spacing is not None:
        assert found.spacing == pytest.approx(image.spacing, rel=1e-6)
    if image.affine is not None:
        assert found.affine == pytest.approx(image.affine, abs=1e-4)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["ct", "ct volume", "colour"])
def test_every_file_says_that_it_is_synthetic(format: str, name: str, tmp_path: Path) -> None:
    for path in write(images()[name], format, tmp_path):
        text = readable_text(path, format)
        assert [word for word in WORDS if word not in text] == [], path
        assert any("synthetic" in note for note in io.header(path).notes)


def test_a_nifti_header_breaks_its_sentence_between_words(tmp_path: Path) -> None:
    import nibabel

    made = replace(PROVENANCE, source="abc", model="a network with a long name")
    nifti.write(images()["ct volume"], tmp_path / "one.nii", provenance=made)
    found = bytes(nibabel.load(tmp_path / "one.nii").header["descrip"].item()).decode()
    assert found.endswith("...") and f"{found[:-3]} " in sentence(made) and len(found) < 80


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["ct", "ct volume", "unplaced"])
def test_label_maps_beside_images_are_read_back_as_their_masks(format: str, name: str, tmp_path: Path) -> None:
    """In `images` and `masks` under the same name, as `generate` writes them."""
    image = images()[name]
    values = np.digitize(image.pixels, np.quantile(image.pixels, [0.5, 0.8]))
    labels = image.replace(pixels=np.array([0, 1, 7], np.uint8)[values], bits=8, units="stored", channels=("mask",))
    files = write(image, format, tmp_path / "images")
    written = io.write_labels(labels, tmp_path / "masks" / f"image{ending(image, format)}", provenance=PROVENANCE,
                              format=format, names={1: "label 1", 7: "label 7"}, of=files)
    (record,) = folder.records(folder.Settings(path=tmp_path, plane="whole"), rejected := [])
    assert not rejected and record.masks == tuple(map(str, written))
    assert np.array_equal(record.load().mask, labels.pixels[0])


def readable_text(path: Path, format: str) -> str:
    """What a program that knows only the format, not radsynth, can show."""
    if format == "dicom":
        import pydicom

        return str(pydicom.dcmread(path)).lower()
    if format == "nifti":
        import nibabel

        header = nibabel.load(path).header
        return f"{header['descrip']} {header['aux_file']} {[e.get_content() for e in header.extensions]}".lower()
    if format == "npz":
        with np.load(path, allow_pickle=False) as archive:
            return str(archive["synthetic"]).lower()
    if format == "picture" and path.suffix == ".tiff":
        import tifffile

        with tifffile.TiffFile(path) as file:
            return str(file.pages.first.description).lower()
    if format == "picture":
        from PIL import Image as Pillow

        with Pillow.open(path) as picture:
            return str(picture.info).lower()
    return path.read_bytes()[:8000].decode("latin-1").lower()


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_image_gives_the_same_bytes_and_leaves_nothing_else(format: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = (write(images()["ct"], format, tmp_path / name) for name in "ab")
    if format != "npz":  # zip entries carry the time
        assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert sorted((tmp_path / "a").iterdir()) == sorted(first)


def test_a_folder_of_few_scans_is_a_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every format that says so, which no list names."""
    monkeypatch.setattr(io.format_module("npz"), "SCANS", True, raising=False)
    for patient in "ab":
        for visit in "12":
            (tmp_path / patient).mkdir(exist_ok=True)
            np.savez(tmp_path / patient / f"{visit}.npz", image=np.arange(480).reshape(6, 8, 10) % 200)
    records = folder.records(folder.Settings(path=tmp_path, plane="volume"), [])
    assert [(record.patient, record.label) for record in records] == [("a", None)] * 2 + [("b", None)] * 2


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_that_is_not_finite_is_not_written(format: str, tmp_path: Path) -> None:
    broken = Image(pixels=np.full((1, 4, 4), np.nan), modality="CT", units="HU", bits=16, spacing=(1.0, 1.0))
    with pytest.raises(DataError, match="finite"):
        write(broken, format, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_cut_short_it_is_rejected_and_never_half_read(format: str, tmp_path: Path) -> None:
    module = io.format_module(format)
    for path in module.example(tmp_path):
        content, whole = path.read_bytes(), module.read(path).pixels
        for share in (0, 0.02, 0.3, 0.6, 0.95):
            path.write_bytes(content[: int(len(content) * share)])
            try:
                found = module.read(path).pixels
            except RejectedFile as error:
                assert str(error)
            else:  # the pixels were whole, only the file's end is missing
                assert share == 0.95 and np.array_equal(found, whole), f"{path.name} cut at {share:.0%} was read"
        path.write_bytes(content)


@pytest.mark.parametrize("format", FORMATS)
def test_flipped_bytes_never_end_in_a_foreign_error(format: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for path in io.format_module(format).example(tmp_path):
        content = bytearray(path.read_bytes())
        for _ in range(25):
            damaged = bytearray(content)
            for place in rng.integers(0, min(len(content), 1500), 6):
                damaged[place] = int(rng.integers(0, 256))
            path.write_bytes(damaged)
            try:
                io.header(path)
                io.read(path)
            except RejectedFile as error:
                assert str(error)
        path.write_bytes(content)
