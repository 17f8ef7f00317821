"""Apply: formats, geometry and values come back, whatever the size; volumes by slices and as a whole."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radsynth.arrays import IntensityMap
from radsynth.errors import DataError
from radsynth.image import Image
from radsynth.io import read, write
from radsynth.io._geometry import as_laid
from radsynth.settings import resolve
from radsynth.verbs._applying.applier import Applier, finer_affine
from radsynth.verbs._applying.limits import flagged_slices
from radsynth.verbs._applying.segmenter import Segmenter
from radsynth.verbs._applying.slices import cut, join
from radsynth.verbs._applying.values import ranges_of
from radsynth.verbs.apply import apply
from radsynth.verbs.train import train
from tests.apply.examples import AFFINE, SMALL, Make, disc
from tests.tables import rows
from tests.trained import made_grey
from tests.written import FROM


def test_pictures_of_any_size_come_back_in_their_format(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run, given = make_run("task.kind=restore", "task.what=rician"), tmp_path / "in"
    for name, space in (("large.png", (70, 45)), ("small.png", (9, 12)), ("sub/deep.tiff", (16, 16))):
        (given / name).parent.mkdir(parents=True, exist_ok=True)
        write(Image(pixels=disc(space)), given / name, provenance=FROM)
    (given / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but nothing more")
    write(Image(pixels=disc((16, 16))), given / "sub" / "deep_mask.tiff", provenance=FROM)  # others have none
    result = apply(run, given, tmp_path / "out")
    assert result.count == 3 and [r.path for r in result.rejected if not r.skipped] == ["broken.png"]
    assert "broken.png" in (tmp_path / "out" / "rejected.csv").read_text()
    sizes = {}
    for row in rows(tmp_path / "out"):
        image = read(tmp_path / "out" / row["file"])
        assert isinstance(image, Image) and image.pixels.dtype == np.uint8
        assert Path(row["file"]).suffix == Path(row["source"]).suffix
        sizes[row["source"]] = image.space
    assert sizes == {"large.png": (70, 45), "small.png": (9, 12), "sub/deep.tiff": (16, 16)}
    assert not list(tmp_path.rglob("*.part*"))


def test_grey_that_is_stored_as_colour_is_taken_as_grey(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("task.kind=restore", "task.what=rician")
    for folder, channels in (("grey", 1), ("colour", 3)):
        names = ("grey",) if channels == 1 else ("red", "green", "blue")
        write(Image(pixels=np.repeat(disc((16, 16)), channels, axis=0), channels=names), tmp_path / folder / "a.png",
              provenance=FROM)
    shown = Image(pixels=np.stack([disc((16, 16), seed)[0] for seed in range(3)]), channels=("red", "green", "blue"))
    write(shown, tmp_path / "colour" / "b.png", provenance=FROM)
    made = {name: apply(run, tmp_path / name, tmp_path / f"{name} out") for name in ("grey", "colour")}
    assert made["colour"].count == 1
    grey, colour = (read(tmp_path / f"{name} out" / rows(tmp_path / f"{name} out")[0]["file"]) for name in made)
    np.testing.assert_array_equal(grey.pixels, colour.pixels)
    with pytest.raises(DataError, match=r"its channels are red, green, blue; the run expects grey\. Save it in grey"):
        apply(run, tmp_path / "colour" / "b.png", tmp_path / "no")
    write(shown.replace(pixels=shown.pixels * np.array([1, 0, 0], np.uint8).reshape(3, 1, 1)), tmp_path / "r.png",
          provenance=FROM)
    with pytest.raises(DataError, match=r"its channels are red, green, blue"):
        apply(run, tmp_path / "r.png", tmp_path / "no")
    made_grey(run)  # as in training
    write(shown.grey(), tmp_path / "b.png", provenance=FROM)
    same = [read(apply(run, tmp_path / folder / "b.png", tmp_path / f"b{k}").folder / "images" / "000000.png")
            for k, folder in enumerate(("", "colour"))]
    np.testing.assert_array_equal(same[0].pixels, same[1].pixels)


def test_slices_are_cut_across_the_coarsest_axis(make_run: Callable[..., Path]) -> None:
    """Unless slices across the first alone have the spacing of the training."""
    applier = Applier(make_run("task.kind=restore", "task.what=rician", spacing=(2.0, 2.0)))

    def axis(*steps: float) -> int | None:
        return applier.axis(Image(pixels=np.zeros((1, 4, 4, 4), np.uint8), spacing=steps))

    assert [axis(5, 2, 2), axis(2, 5, 2), axis(2, 2, 5), axis(5, 5, 9)] == [0, 1, 2, 2]
    assert axis(2.2, 2, 2.4) == 0, "as fine in all directions: axial"
    applier.spec = replace(applier.spec, spacing=(5.0, 2.0))
    assert [axis(2, 5, 2), axis(2, 2, 5)] == [0, 2]


@pytest.mark.parametrize("flips", [(True, False, False), (False, True, True)])
def test_slices_are_counted_as_they_lie_in_the_file(flips: tuple[bool, bool, bool], make_run: Callable[..., Path],
                                                    ) -> None:
    applier = Applier(make_run("task.kind=restore", "task.what=rician"))
    levels = np.broadcast_to(np.arange(5, dtype=np.uint8)[:, None, None], (5, 16, 16))
    image = Image(pixels=levels[None], laid=((1, 2, 0), flips))
    assert image.laid is not None
    array = as_laid(levels.transpose(2, 1, 0), np.eye(4), image.laid)[0]
    (along,) = (axis for axis in range(3) if array.shape[axis] == 5)
    first, last = (int(array.take(place, along).max()) for place in (0, -1))
    assert applier.turned(image, "nifti") == (first > last) and not applier.turned(image, "dicom")


@pytest.mark.parametrize("ending", [".nii.gz", ".dcm"])
def test_a_volume_through_a_network_of_slices_keeps_its_place(
    ending: str, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run("task.kind=restore", "task.factor=2", modality="MR", spacing=(1.0, 1.0), bits=12, format="nifti")
    volume = Image(pixels=disc((6, 24, 18)).astype(np.uint16), modality="MR", bits=12, spacing=(3.0, 2.0, 2.0),
                   affine=AFFINE)
    write(volume, tmp_path / f"scan{ending}", provenance=FROM)
    source = tmp_path / ("scan" if ending == ".dcm" else f"scan{ending}")
    apply(run, source, tmp_path / "out")
    first = tmp_path / "out" / rows(tmp_path / "out")[0]["file"]
    made, original = read(first.parent if ending == ".dcm" else first), read(source)
    made, original = (one[0] if isinstance(one, list) else one for one in (made, original))
    assert isinstance(made, Image) and isinstance(original, Image)
    assert made.space == tuple(n * f for n, f in zip(original.space, (1, 2, 2), strict=True))
    assert made.affine is not None and original.affine is not None and made.spacing is not None
    ends = np.array([[-0.5, -0.5, -0.5, 1], [n - 0.5 for n in original.space[::-1]] + [1]]).T
    fine_ends = np.array([[-0.5, -0.5, -0.5, 1], [n - 0.5 for n in made.space[::-1]] + [1]]).T
    assert np.allclose(original.affine @ ends, made.affine @ fine_ends, atol=1e-3), "the field of view must not move"
    coarse = made.pixels.reshape(1, 6, original.space[1], 2, original.space[2], 2).mean((3, 5))
    assert np.abs(coarse - original.pixels).mean() < 0.1 * original.pixels.mean(), "nor must what is shown in it"


def test_a_volume_that_is_finer_between_slices_than_within_is_cut_where_it_fits(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run("task.kind=restore", "task.factor=2", spacing=(1.0, 1.0))
    write(Image(pixels=disc((6, 24, 18)), spacing=(1.0, 2.0, 2.0)), tmp_path / "in.nii.gz", provenance=FROM)
    apply(run, tmp_path / "in.nii.gz", tmp_path / "out")
    made = read(tmp_path / "out" / rows(tmp_path / "out")[0]["file"])
    assert isinstance(made, Image) and made.space == (6, 48, 36) and made.spacing == (1.0, 1.0, 1.0)


def test_dicom_results_say_that_they_are_derived_and_carry_no_identity(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    import pydicom

    run = make_run("task.kind=restore", "task.what=rician", modality="MR", format="dicom", bits=12)
    for number in (1, 2):
        image = Image(pixels=disc((24, 18), number).astype(np.uint16), modality="MR", bits=12, spacing=(1.0, 1.0))
        write(image, tmp_path / "in" / f"{number}.dcm", provenance=replace(FROM, index=number, window=(20.0, 60.0)))
    apply(run, tmp_path / "in", tmp_path / "out")
    apply(run, tmp_path / "in" / "2.dcm", tmp_path / "alone")
    found = [pydicom.dcmread(tmp_path / "out" / row["file"]) for row in rows(tmp_path / "out")]
    alone = pydicom.dcmread(tmp_path / "alone" / rows(tmp_path / "alone")[0]["file"])
    assert len({*(str(d.SOPInstanceUID) for d in found), str(alone.SOPInstanceUID)}) == 3
    for instance in found:
        assert instance.SyntheticData == "YES" and instance.ImageType[0] == "DERIVED"
        assert "DERIVED image" in instance.ImageComments and "not acquired from" not in str(instance)
        assert (instance.WindowCenter, instance.WindowWidth) == (40, 40), "it opens as the image that it was made of"
    sources = [pydicom.dcmread(tmp_path / "in" / row["source"]) for row in rows(tmp_path / "out")]
    assert [d.FrameOfReferenceUID for d in found] == [d.FrameOfReferenceUID for d in sources], "it lies where that does"
    for field in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
        assert not {str(d[field].value) for d in found} & {str(d[field].value) for d in sources}, field


@pytest.mark.parametrize(("words", "spacing", "thickness"), [
    (("task.factor=2",), (2.0, 2.0, 2.0), 5.0), (("task.what=rician",), (2.0, 1.0, 1.0), 5.0),
    (("task.axes=slices",), (2.0, 1.0, 1.0), 1.0)])
def test_slices_that_overlap_stay_as_thick_as_they_were(
    words: tuple[str, ...], spacing: tuple[float, ...], thickness: float, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    import pydicom

    size = (8, 12, 10) if "task.axes=slices" in words else (24, 16)
    run = make_run("task.kind=restore", *words, modality="MR", spacing=(1.0,) * len(size), size=size, bits=12)
    files = write(Image(pixels=disc((6, 12, 10)).astype(np.uint16), modality="MR", bits=12, spacing=spacing),
                  tmp_path / "in" / "scan", provenance=FROM, format="dicom")
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.SliceThickness = 5
        dataset.save_as(file)
    apply(run, tmp_path / "in", tmp_path / "out")
    made = [pydicom.dcmread(tmp_path / "out" / row["file"]) for row in rows(tmp_path / "out")]
    step = spacing[0] / (len(made) / len(files))
    assert {one.SpacingBetweenSlices for one in made} == {step} and {one.SliceThickness for one in made} == {thickness}
    alone = tmp_path / "alone.dcm"
    pydicom.dcmread(files[0]).save_as(alone)
    if len(size) == 2:
        apply(run, alone, tmp_path / "one")
        assert pydicom.dcmread(tmp_path / "one" / rows(tmp_path / "one")[0]["file"]).SliceThickness == thickness


@pytest.mark.parametrize(("ratio", "kept"), [(12.5, 12.5), ([4, 8], [4, 8]), (None, None)])
def test_what_was_compressed_with_loss_says_so_in_what_is_made_of_it(
    ratio: float | list[float] | None, kept: float | list[float] | None, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    import pydicom

    run = make_run("task.kind=restore", "task.what=rician", modality="MR", bits=12)
    files = write(Image(pixels=disc((4, 12, 10)).astype(np.uint16), modality="MR", bits=12, spacing=(2.0, 1.0, 1.0)),
                  tmp_path / "in" / "scan", provenance=FROM, format="dicom")
    apply(run, tmp_path / "in", tmp_path / "whole")
    assert {pydicom.dcmread(tmp_path / "whole" / row["file"]).LossyImageCompression
            for row in rows(tmp_path / "whole")} == {"00"}
    dataset = pydicom.dcmread(files[2])
    dataset.LossyImageCompression = "01"
    if ratio is not None:
        dataset.LossyImageCompressionRatio = ratio
    dataset.save_as(files[2])
    apply(run, tmp_path / "in", tmp_path / "lossy")
    for row in rows(tmp_path / "lossy"):
        made = pydicom.dcmread(tmp_path / "lossy" / row["file"])
        assert made.LossyImageCompression == "01" and made.get("LossyImageCompressionRatio") == kept


def test_a_volume_through_a_network_of_volumes(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("task.kind=restore", "task.axes=slices", size=(8, 12, 10))
    write(Image(pixels=disc((5, 13, 11)), spacing=(4.0, 1.0, 1.0)), tmp_path / "in.nii.gz", provenance=FROM)
    apply(run, tmp_path / "in.nii.gz", tmp_path / "out")
    made = read(tmp_path / "out" / rows(tmp_path / "out")[0]["file"])
    assert isinstance(made, Image) and made.space == (10, 13, 11) and made.spacing == (2.0, 1.0, 1.0)
    with pytest.raises(DataError, match="single image"):
        write(Image(pixels=disc((13, 11))), tmp_path / "flat.png", provenance=FROM)
        apply(run, tmp_path / "flat.png", tmp_path / "flat")


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_thick_slices_become_thin_by_a_network_of_coronal_slices(
    factor: int, make_prepared: Make, tmp_path: Path
) -> None:
    settings = resolve({"data": {"kind": "folder", "path": "x", "plane": "coronal"}}, overrides=(
        *SMALL, "task.kind=restore", "task.axes=rows", f"task.factor={factor}"))
    train(make_prepared(n=24, size=(24, 16), spacing=(1.0, 1.0)), tmp_path / "run", settings=settings)
    thick = Image(pixels=disc((9, 13, 21)), spacing=(float(factor), 2.5, 1.0), affine=np.diag([1, 2.5, factor, 1.0]))
    write(thick, tmp_path / "in.nii.gz", provenance=FROM)
    apply(tmp_path / "run", tmp_path / "in.nii.gz", tmp_path / "out")
    made = read(tmp_path / "out" / rows(tmp_path / "out")[0]["file"])
    assert isinstance(made, Image) and made.space == (9 * factor, 13, 21) and made.spacing == (1.0, 2.5, 1.0)
    assert made.affine is not None and np.allclose(made.affine, finer_affine(np.diag([1, 2.5, factor, 1.0]),
                                                                             (factor, 1, 1)), atol=1e-4)
    back = made.pixels.reshape(1, 9, factor, 13, 21).mean(2, dtype=np.float64)
    assert np.abs(back - thick.pixels).mean() < 12, "what is shown has not moved: noise of the phantom is 20"
    with pytest.raises(DataError, match=f"its spacing is {factor + 1} x 1 mm; the run makes 1 x 1 mm of {factor} x 1 "
                       "mm, and --resample brings an image to that and"):
        write(thick.replace(spacing=(factor + 1.0, 2.5, 1.0), affine=None), tmp_path / "other.nii.gz", provenance=FROM)
        apply(tmp_path / "run", tmp_path / "other.nii.gz", tmp_path / "no")


def test_translation_takes_channels_by_name_and_writes_a_file_for_each(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run("task.kind=translate", channels=("t1", "t2", "flair"))
    grey = Image(pixels=disc((20, 20)), spacing=(1.0, 1.0))
    write(grey, tmp_path / "in.nii.gz", provenance=FROM)
    apply(run, tmp_path / "in.nii.gz", tmp_path / "out")
    assert [Path(row["file"]).name for row in rows(tmp_path / "out")] == ["000000_t2.nii.gz", "000000_flair.nii.gz"]
    both = grey.replace(pixels=np.concatenate([grey.pixels] * 2), channels=("t1", "pd"))
    write(both, tmp_path / "two.npz", provenance=FROM)
    apply(run, tmp_path / "two.npz", tmp_path / "named")
    made = read(tmp_path / "named" / rows(tmp_path / "named")[0]["file"])
    assert isinstance(made, Image) and made.channels == ("t2", "flair")
    write(both.replace(channels=("t2", "pd")), tmp_path / "other.npz", provenance=FROM)
    with pytest.raises(DataError, match="its channels are t2, pd; the run expects t1"):
        apply(run, tmp_path / "other.npz", tmp_path / "wrong")


def test_values_outside_of_the_range_survive_a_restoration(make_run: Callable[..., Path], tmp_path: Path) -> None:
    applier = Applier(make_run("task.kind=restore", "task.what=rician", bits=16))
    pixels = disc((16, 16)).astype(np.int32)
    pixels[0, 3, 3], pixels[0, 4, 4] = 5000, -300  # the run maps 0 to 255
    made = applier.convert(Image(pixels=pixels, bits=16))[0].pixels
    assert abs(int(made[0, 3, 3]) - 5000) < 60 and abs(int(made[0, 4, 4]) + 300) < 60


def test_percentiles_are_taken_of_each_channel() -> None:
    values = np.stack([np.linspace(0, 100, 10001), np.linspace(-50, 50, 10001)])
    percent = IntensityMap(method="percentiles", low=0, high=1, levels=255)
    assert np.allclose(ranges_of(values, percent, (1, 99)), [[1, 99], [-49, 49]], atol=0.05)
    window = IntensityMap(method="window", low=-1024, high=3071, levels=65535)
    assert ranges_of(values, window, (1, 99)).tolist() == [[-1024, 3071]] * 2


def test_cutting_and_joining_are_inverse_and_refining_keeps_the_field() -> None:
    volume = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    for axis in (None, 0, 1, 2):
        assert np.array_equal(join(cut(volume, axis), axis), volume)
    fine = finer_affine(AFFINE, (3, 2, 1))
    corner = np.array([-0.5, -0.5, -0.5, 1])
    assert np.allclose(fine @ corner, AFFINE @ corner) and np.allclose(fine[:3, 2], AFFINE[:3, 2] / 3)


@pytest.mark.parametrize(("what", "finer"), [("task.what=rician", 1), ("task.factor=3", 3)])
def test_other_spacing_is_resampled_when_asked_and_comes_back_on_its_own_grid(
    what: str, finer: int, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run("task.kind=restore", what, spacing=(1.0, 1.0))
    wave = np.fromfunction(lambda z, y, x: 100 + 80 * np.sin(y / 9 + z) * np.cos(x / 7), (18, 50, 41))
    place = np.array([[1.3, 0, 0, -10], [0, 0.6, 0, 7], [0, 0, 3.0, 30], [0, 0, 0, 1]])
    volume = Image(pixels=wave.astype(np.uint8)[None], spacing=(3.0, 0.6, 1.3), affine=place)
    write(volume, tmp_path / "in.nii.gz", provenance=FROM)
    with pytest.raises(DataError, match="--resample"):
        apply(run, tmp_path / "in.nii.gz", tmp_path / "refused")
    apply(run, tmp_path / "in.nii.gz", tmp_path / "out", resample=True)
    made = read(tmp_path / "out" / rows(tmp_path / "out")[0]["file"])
    assert isinstance(made, Image) and made.space == (18, 50 * finer, 41 * finer) and made.affine is not None
    assert np.allclose(made.affine, finer_affine(place, (1, finer, finer)), atol=1e-4)
    back = made.pixels.reshape(1, 18, 50, finer, 41, finer).mean((3, 5), dtype=np.float64)
    assert np.abs(back - volume.pixels)[:, :, 3:-3, 3:-3].mean() < 6, "one part in forty of the range"


@pytest.mark.parametrize(("what", "seen"), [("task.what=rician", (16, 13)), ("task.factor=2", (8, 6))])
def test_images_of_unknown_pixel_size_are_brought_to_the_trainings_as_prepare_did(
    what: str, seen: tuple[int, int], make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run, finer = make_run("task.kind=restore", what, "prepare.fit=pad"), 16 // seen[0]
    image = Image(pixels=disc((40, 32)))
    write(image, tmp_path / "in.png", provenance=FROM)
    with pytest.raises(DataError, match=rf"40 x 32 pixels, whose size in mm .* {seen[0]} x {seen[0]}: --resample"):
        apply(run, tmp_path / "in.png", tmp_path / "refused")
    applier = Applier(run, resample=True)
    assert applier.view(image).content == seen
    made, _ = applier.convert(image)
    assert made.space == (40 * finer, 32 * finer) and made.spacing is None
    applier.resample = False
    applier.check(Image(pixels=disc((seen[0], 5))))
    applier.trained_on = replace(applier.trained_on, fit="patches")
    applier.check(image)  # crops are learned at the images' own resolution


@pytest.mark.parametrize("words", [("task.kind=restore", "task.what=rician"), ("task.kind=restore", "task.factor=2"),
                                   ("task.kind=segment", "task.tissues=3")])
def test_what_is_smaller_than_in_training_is_looked_at_in_its_frame_as_held_out_images_are(
    words: tuple[str, ...], make_run: Callable[..., Path]
) -> None:
    """Checks are shares of all pixels: without the frame most small images were flagged by limits of framed ones."""
    applier = (Segmenter if "task.kind=segment" in words else Applier)(make_run(*words))
    finer = applier.task.finer[0]
    frame, sides = 16 // finer, (16 // finer - 1, 5)
    lead = (frame - 5) // 2
    whole = np.zeros((1, frame, frame), np.uint8)
    whole[:, :-1, lead:lead + 5] = disc(sides)
    small, wide = (applier.convert(Image(pixels=pixels)) for pixels in (disc(sides), whole))
    assert small[0].space == (sides[0] * finer, 5 * finer)
    assert np.array_equal(small[0].pixels, wide[0].pixels[:, :sides[0] * finer, lead * finer:(lead + 5) * finer])
    for name, values in wide[1].items():
        assert np.array_equal(small[1][name], values, equal_nan=True), name


def test_a_volume_in_parts_is_the_same_as_slice_by_slice(make_run: Callable[..., Path],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    applier = Applier(make_run("task.kind=restore", "task.factor=2"))
    volume = Image(pixels=disc((7, 18, 20)))
    whole, doubtful = applier.convert(volume)
    monkeypatch.setattr("radsynth.verbs._applying.applier.TOGETHER", 2)
    parts, again = applier.convert(volume)
    assert np.array_equal(whole.pixels, parts.pixels)
    assert all(doubtful[name].shape == (7,) for name in doubtful)
    assert all(np.allclose(doubtful[name], again[name], rtol=1e-5, equal_nan=True) for name in doubtful)


def test_the_doubtful_slices_of_a_volume_are_named() -> None:
    found = {"edges": np.array([1.0, 9, 9, 1, 1, 1]), "anatomy": np.array([0.0, 0, 0, 7, 0, 7])}
    assert flagged_slices(found, {"edges": 5.0, "anatomy": 3.0}) == "1-3 5"
    assert flagged_slices(found, {"edges": 10.0}) == "" == flagged_slices(found, {})
    assert flagged_slices({"edges": np.array([9.0])}, {"edges": 5.0}) == "", "an image has no slices"


def test_masks_beside_images_are_told_and_listed(make_run: Callable[..., Path], tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """A scan that happens to be called like the mask of another one does not vanish without a word."""
    run, given = make_run("task.kind=restore", "task.what=rician"), tmp_path / "in"
    for name in ("sub/a.png", "sub/a_seg.png", "masks/b.png", "images/b.png"):
        write(Image(pixels=disc((16, 16))), given / name, provenance=FROM)
    result = apply(run, given, tmp_path / "out")
    said, listed = capsys.readouterr().err, {line.path: line for line in result.rejected}
    assert result.count == 2 and set(listed) == {"sub/a_seg.png", "masks/b.png"}
    assert listed["sub/a_seg.png"].skipped and "the mask of sub/a.png" in listed["sub/a_seg.png"].reason
    assert "is not taken for an image" in said and "give it alone or under another name; so is 1 more" in said
    with (tmp_path / "out" / "rejected.csv").open(encoding="utf-8", newline="") as file:
        assert {line["path"]: line["skipped"] for line in csv.DictReader(file)} == dict.fromkeys(listed, "yes")
    assert apply(run, given / "sub" / "a_seg.png", tmp_path / "alone").count == 1


def test_labels_that_a_registration_carries_along_are_told(make_run: Callable[..., Path], tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    run, given = make_run("task.kind=register", "task.refinement=0"), tmp_path / "in"
    for name in ("a.png", "a_seg.png"):
        write(Image(pixels=disc((16, 16))), given / name, provenance=FROM)
    result = apply(run, given, tmp_path / "out", onto=given / "a.png")
    assert result.count == 1 and rows(tmp_path / "out")[0]["labels"]
    assert "a_seg.png is not taken for an image: by its name it has the labels of a.png" in capsys.readouterr().err
