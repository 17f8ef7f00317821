"""Apply with a fixed image: the grid, the field as other programs read it, slices, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from radsynth.datasets import Record
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.io import read, write
from radsynth.settings import resolve
from radsynth.verbs._applying.beside import Beside
from radsynth.verbs._applying.fields import write_field, write_labels
from radsynth.verbs._applying.overlap import box, overlap
from radsynth.verbs._applying.placing import Placing, placings, sampled
from radsynth.verbs._applying.registrar import Registrar
from radsynth.verbs.apply import apply
from radsynth.verbs.generate import generate
from radsynth.verbs.train import train
from tests.register.examples import SMALL, Make
from tests.tables import rows
from tests.trained import made_grey
from tests.written import FROM


def disc(space: tuple[int, ...], at: tuple[float, ...], radius: float) -> np.ndarray[Any, Any]:
    places = np.stack(np.meshgrid(*[np.arange(side) for side in space], indexing="ij"))
    distance = np.sqrt(((places - np.asarray(at).reshape(-1, *[1] * len(space))) ** 2).sum(0))
    return np.asarray(200 * np.clip(radius - distance + 0.5, 0, 1), np.uint8)[None]


def affine_of(spacing: tuple[float, ...], corner: tuple[float, ...]) -> np.ndarray[Any, Any]:
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = corner
    return affine


def test_colour_is_made_grey_where_it_was_for_training(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run, place = make_run(), {"fixed": (8, 8), "moving": (7, 9)}
    for name, at in place.items():
        red = disc((16, 16), at, 4)
        write(Image(pixels=np.concatenate([red, red // 2, red // 4]), channels=("red", "green", "blue")),
              tmp_path / f"{name}.png", provenance=FROM)
    with pytest.raises(DataError, match="its channels are red, green, blue"):
        apply(run, tmp_path / "moving.png", tmp_path / "out", onto=tmp_path / "fixed.png")
    made_grey(run)
    made = apply(run, tmp_path / "moving.png", tmp_path / "out", onto=tmp_path / "fixed.png")
    warped = read(made.folder / rows(made.folder)[0]["file"])
    assert isinstance(warped, Image) and warped.channels == ("grey",)


def test_results_lie_on_the_fixed_grid_and_itk_applies_the_field_alike(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    run = make_run("train.rate=0.01", images=160, size=(12, 16, 16), spacing=(2.0, 2.0, 2.0), format="nifti",
                   bits=16)
    fixed = Image(pixels=disc((14, 22, 18), (7, 11, 9), 6), spacing=(2.0, 2.0, 2.0),
                  affine=affine_of((2.0, 2.0, 2.0), (5.0, -3.0, 8.0)), laid=((1, 2, 0), (True, False, True)))
    moving = Image(pixels=disc((20, 30, 26), (9, 14, 14), 6).astype(np.uint16) * 2, bits=16, spacing=(1.5, 1.5, 1.5),
                   affine=affine_of((1.5, 1.5, 1.5), (5.0, -3.0, 10.0)))
    labels = Image(pixels=(moving.pixels > 200).astype(np.uint8) * 3, spacing=moving.spacing, affine=moving.affine)
    for name, image in (("fixed", fixed), ("moving", moving), ("labels", labels)):
        write(image, tmp_path / f"{name}.nii.gz", provenance=FROM)
    out = tmp_path / "out"
    result = apply(run, tmp_path / "moving.nii.gz", out, onto=tmp_path / "fixed.nii.gz",
                   labels=tmp_path / "labels.nii.gz")
    assert result.count == 1
    (row,) = rows(out)
    assert row["source"] == "moving.nii.gz" and float(row["folding"]) == 0
    warped, carried = read(out / row["file"]), read(out / row["labels"])
    assert isinstance(warped, Image) and isinstance(carried, Image)
    assert warped.affine is not None and fixed.affine is not None
    assert warped.space == fixed.space and np.allclose(warped.affine, fixed.affine)
    assert set(np.unique(carried.pixels)) == {0, 3}
    assert warped.pixels.dtype == np.uint16 and warped.pixels.max() > 380, "units are those of the moving image"
    files = [nibabel.load(path) for path in (tmp_path / "fixed.nii.gz", out / row["file"], out / row["labels"],
                                             out / row["field"])]
    assert nibabel.aff2axcodes(files[0].affine) == ("I", "R", "P")
    for file in files:
        assert file.shape[:3] == files[0].shape and np.allclose(file.affine, files[0].affine), "one array on the other"
    # ITK: the field maps points of the fixed image to points of the moving one, in LPS mm.
    field = sitk.Cast(sitk.ReadImage(str(out / row["field"])), sitk.sitkVectorFloat64)
    one, other = (sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"), sitk.sitkFloat32) for name in ("moving", "fixed"))
    theirs = sitk.Resample(one, other, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0)
    difference = np.abs(sitk.GetArrayFromImage(theirs) - sitk.GetArrayFromImage(
        sitk.ReadImage(str(out / row["file"]), sitk.sitkFloat32)))
    assert np.quantile(difference, 0.99) < 4, "at the border of the moving image ITK stops a pixel earlier"
    assert apply(run, tmp_path / "moving.nii.gz", out, onto=tmp_path / "fixed.nii.gz",
                 labels=tmp_path / "labels.nii.gz").count == 1, "the same call again changes nothing"


def test_pictures_and_dicom_in_folders(make_run: Callable[..., Path], tmp_path: Path) -> None:
    import pydicom

    run = make_run("train.rate=0.01", images=80, size=(16, 16), modality="MR", spacing=(4.0, 4.0), format="dicom",
                   bits=12)
    for number in (1, 2, 3):
        image = Image(pixels=disc((64, 60), (30 + number, 30), 14).astype(np.uint16), modality="MR", bits=12,
                      spacing=(1.0, 1.0))
        write(image, tmp_path / ("fixed" if number == 3 else "in") / f"{number}.dcm",
                  provenance=replace(FROM, index=number))
    (tmp_path / "in" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM nothing")
    result = apply(run, tmp_path / "in", tmp_path / "out", onto=tmp_path / "fixed")
    assert result.count == 2 and [r.path for r in result.rejected if not r.skipped] == ["broken.dcm"]
    for row in rows(tmp_path / "out"):
        dataset = pydicom.dcmread(tmp_path / "out" / row["file"])
        assert (dataset.Rows, dataset.Columns, dataset.SyntheticData) == (64, 60, "YES")
        assert dataset.ImageType[0] == "DERIVED" and float(row["similarity"]) > 0
        fixed = pydicom.dcmread(tmp_path / "fixed" / "3.dcm")
        assert dataset.FrameOfReferenceUID == fixed.FrameOfReferenceUID, "it lies where the fixed image does"


def test_slices_of_volumes_are_registered_slice_by_slice_a_few_at_a_time(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("train.rate=0.01", "train.images=400", n=48, size=(16, 16), format="nifti")
    fixed = np.stack([disc((16, 16), (8, 8), 5)[0]] * 4)[None]
    moving = np.stack([disc((16, 16), (8, 8 + k % 2), 4)[0] for k in range(4)])[None]
    for name, pixels in (("fixed", fixed), ("moving", moving)):
        write(Image(pixels=pixels, spacing=(3.0, 1.0, 1.0)), tmp_path / f"{name}.nii.gz", provenance=FROM)
    apply(run, tmp_path / "moving.nii.gz", tmp_path / "out", onto=tmp_path / "fixed.nii.gz")
    (row,) = rows(tmp_path / "out")
    warped = read(tmp_path / "out" / row["file"])
    assert isinstance(warped, Image) and warped.space == (4, 16, 16)
    field = read_field(tmp_path / "out" / row["field"])
    assert field.shape == (16, 16, 4, 1, 3) and not field[..., 2].any() and np.abs(field[..., :2]).max() > 0.05
    before, after = (np.abs(a.astype(float) - fixed).mean() for a in (moving, warped.pixels))
    assert after < before
    monkeypatch.setattr("radsynth.verbs._applying.registrar.TOGETHER", 3)
    apply(run, tmp_path / "moving.nii.gz", tmp_path / "parts", onto=tmp_path / "fixed.nii.gz")
    assert np.allclose(read_field(tmp_path / "parts" / row["field"]), field, atol=1e-3)
    (again,) = rows(tmp_path / "parts")
    assert float(again["similarity"]) == pytest.approx(float(row["similarity"]), abs=1e-3)
    monkeypatch.setattr("radsynth.verbs._applying.registrar.LARGEST", 100)
    write(Image(pixels=fixed[:, 0]), tmp_path / "slice.png", provenance=FROM)
    with pytest.raises(DataError, match=r"million are registered at once: train on coarser ones \(prepare.size\)"):
        apply(run, tmp_path / "slice.png", tmp_path / "no", onto=tmp_path / "slice.png")


@pytest.mark.parametrize("space", [(40, 32), (3, 40, 32)])
def test_images_of_unknown_pixel_size_are_brought_to_the_trainings_as_prepare_did(
    space: tuple[int, ...], make_run: Callable[..., Path]
) -> None:
    registrar = Registrar(make_run("prepare.fit=pad"))
    fixed, moving = (Image(pixels=np.broadcast_to(disc((40, 32), (20, 16 + k), 9), (1, *space))) for k in (0, 2))
    registrar.fix(fixed, "fixed.png")
    assert registrar.fit.content == (*space[:-2], 16, 13)
    warped = registrar.convert(moving, "moving.png", None)
    assert warped.image.space == space and warped.displacement.shape == (len(space), *space)
    registrar.trained_on = replace(registrar.trained_on, fit="")  # an older run, which does not say it
    registrar.fix(fixed, "fixed.png")
    assert registrar.fit.is_identity


@pytest.mark.parametrize(("given", "message"), [
    ({}, "--onto FIXED"), ({"onto": "both"}, "holds 2 images"), ({"onto": "nothing"}, "nothing"),
    ({"onto": "large.png"}, "small.png has 16 x 16 pixels and large.png 24 x 20"),
    ({"onto": "small.png", "labels": "large.png"}, "large.png has 24x20 pixels and small.png 16x16, and their"),
    ({"onto": "small.png", "labels": "small.png", "input": "both"}, "small.png is one file, and there are 2 images"),
    ({"onto": "small.png", "target": "ct"}, "has no choice of targets"),
    ({"onto": "small.png", "resample": "yes"}, "brought to the training's pixel size anyway"),
    ({"onto": "small.png", "labels": "nowhere"}, "nowhere, given as --labels, does not exist"),
])
def test_what_cannot_be_registered_is_refused(
    given: dict[str, str], message: str, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run()
    for name, space in (("small.png", (16, 16)), ("large.png", (24, 20)), ("both/1.png", (16, 16)),
                        ("both/2.png", (16, 16))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(Image(pixels=disc(space, (8, 8), 5)), tmp_path / name, provenance=FROM)
    onto, labels = (tmp_path / given[key] if key in given else None for key in ("onto", "labels"))
    with pytest.raises((DataError, SettingsError), match=message):
        apply(run, tmp_path / given.get("input", "small.png"), tmp_path / "out", onto=onto, labels=labels,
              target=given.get("target"), resample="resample" in given)
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingsError, match="radsynth apply"):
        generate(run, tmp_path / "drawn", count=1)


def test_other_runs_take_no_fixed_image(make_prepared: Make, tmp_path: Path) -> None:
    settings = resolve(overrides=(*SMALL[1:5], "task.kind=restore", "train.images=8", "train.precision=32-true"))
    train(make_prepared(n=12), tmp_path / "run", settings=settings)
    with pytest.raises(SettingsError, match=r"task\.kind=register"):
        apply(tmp_path / "run", tmp_path, tmp_path / "out", onto=tmp_path)


def test_images_are_laid_on_each_other_by_position_and_by_their_middles() -> None:
    fixed = Image(pixels=np.zeros((1, 6, 8)), spacing=(2.0, 2.0))
    moving = Image(pixels=np.zeros((1, 11, 15)), spacing=(1.0, 1.0))
    (middle,) = placings(moving, fixed, "a", "b")
    assert np.allclose(middle.matrix @ [2.5, 3.5] + middle.offset, [5, 7])
    moving = moving.replace(affine=affine_of((1.0, 1.0, 1.0), (1.0, 2.0, 0.0)))
    header, _ = placings(moving, fixed.replace(affine=affine_of((2.0, 2.0, 2.0), (0.0, 0.0, 0.0))), "a", "b")
    assert np.allclose(header.matrix @ [1, 1] + header.offset, [0, 1])  # 2 mm down, 2 mm right: at (2, 2) mm
    values = np.arange(12.0).reshape(1, 3, 4)
    shifted = sampled(values, Placing(matrix=np.eye(2), offset=np.array([0.0, 1.0])), (3, 3))
    assert np.allclose(shifted, values[:, :, 1:])


def test_outside_lies_what_is_lowest_in_the_channel() -> None:
    values = np.stack([np.full((3, 4), -1000.0), np.full((3, 4), 7.0)])
    shifted = sampled(values, Placing(matrix=np.eye(2), offset=np.array([0.0, 9.0])), (3, 4))
    assert shifted[0].max() == -1000 and shifted[1].min() == 7


@pytest.mark.parametrize("order", [0, 1])
def test_a_border_that_moves_outwards_by_less_than_half_a_pixel_is_kept(order: int) -> None:
    """The outermost row was black wherever a warp went out by a hundredth of a pixel."""
    values = np.arange(5.0, 17.0).reshape(1, 3, 4)
    near, far = (sampled(values, Placing(matrix=np.eye(2), offset=np.array([-by, 0.0])), (3, 4), order=order)
                 for by in (0.01, 0.6))
    assert np.allclose(near[0, 0], values[0, 0]) and (far[0, 0] == (5.0 if order else 0.0)).all()


@pytest.mark.parametrize(("at", "share"), [((8, 8), 1.0), ((8, 14), 0.0), ((8, 11), 0.5)])
def test_images_that_hardly_lie_on_each_other_are_flagged(
    at: tuple[int, int], share: float, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run, space, steps = make_run(spacing=(2.0, 2.0)), (16, 32), (2.0, 2.0)
    write(Image(pixels=disc(space, (8, 8), 4), spacing=steps), tmp_path / "fixed.nii.gz", provenance=FROM)
    # The moving image shows a disc elsewhere, on a field of view that reaches far beyond that of the fixed one.
    moving = np.zeros((1, 32, 64), np.uint8)
    moving[:, 8:24, 16:48] = disc(space, (at[0], at[1] + (6 if share == 0 else 0)), 4)
    write(Image(pixels=moving, spacing=steps), tmp_path / "moving.nii.gz", provenance=FROM)
    made = apply(run, tmp_path / "moving.nii.gz", tmp_path / "out", onto=tmp_path / "fixed.nii.gz")
    (row,) = rows(made.folder)
    assert float(row["overlap"]) == pytest.approx(share, abs=0.2)
    assert ("overlap" in row["flagged"].split()) == (share == 0)


def test_an_image_of_something_else_is_flagged(make_run: Callable[..., Path], tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    """Folding and likeness say nothing of it: a warp finds edges anywhere."""
    run, given = make_run("train.rate=0.01", images=80, size=(24, 24)), tmp_path / "in"
    given.mkdir()
    write(Image(pixels=disc((24, 24), (12, 12), 6)), tmp_path / "fixed.png", provenance=FROM)
    other = np.indices((24, 24)).sum(0)[None] // 3 % 2 * 180
    for name, pixels in (("disc", disc((24, 24), (13, 12), 6)), ("stripes", other)):
        write(Image(pixels=(pixels + np.arange(24)).astype(np.uint8)), given / f"{name}.png", provenance=FROM)
    for held, expected in (("{}", [False, False]),
                           ('{"limits": {"disagreement": 50.0}, "limits_from_patients": 4}', [False, True])):
        (run / "results.json").write_text(held)
        capsys.readouterr()
        made = rows(apply(run, given, tmp_path / f"out{len(held)}", onto=tmp_path / "fixed.png").folder)
        assert ["disagreement" in row["flagged"].split() for row in made] == expected, "nobody knew what is usual"
        assert float(made[0]["disagreement"]) < 30 and float(made[1]["disagreement"]) > 80
        assert ("flags images of one usual patient in 5" in " ".join(capsys.readouterr().err.split())) == any(expected)


def test_what_lies_outside_of_the_fixed_image_counts_for_the_overlap() -> None:
    image = np.zeros((1, 20, 20), np.uint8)
    image[:, :, 5:15] = 100
    found = box(image, np.array([[0.0, 100.0]]))
    assert found is not None and found.tolist() == [[-0.5, 4.5], [19.5, 14.5]]
    for shift, share in ((0.0, 1.0), (18.0, 0.1), (25.0, 0.0)):
        placing = Placing(matrix=np.eye(2), offset=np.array([shift, 0.0]))
        assert overlap(found, found, placing) == pytest.approx(share)
    half = Placing(matrix=np.eye(2) / 2, offset=np.zeros(2))
    assert overlap(found, found * 2 + 0.5, half) == pytest.approx(0.95, abs=0.05), "of one size in mm"
    assert box(image * 0, np.array([[0.0, 100.0]])) is None and overlap(found, None, half) == 0


def test_images_that_lie_apart_are_laid_middle_on_middle(make_run: Callable[..., Path]) -> None:
    """What is not covered is of one value, though not black: it agrees with nothing."""
    registrar = Registrar(make_run("task.refinement=0"))
    fixed = Image(pixels=disc((16, 16), (8, 8), 5) // 2 + 7, spacing=(1.0, 1.0), affine=affine_of((1, 1, 1), (0, 0, 0)))
    registrar.fix(fixed, "fixed")
    moving = fixed.replace(affine=affine_of((1, 1, 1), (900, 900, 0)), window=(20, 90))
    found = registrar.convert(moving, "moving", None)
    assert np.allclose(found.placing.offset, 0), "by their positions no pixel lies on a pixel"
    assert found.image.window == (20, 90) and np.array_equal(found.image.affine, fixed.affine)


def test_a_contrast_that_an_examination_lacks_is_not_registered(make_run: Callable[..., Path]) -> None:
    registrar = Registrar(make_run("task.refinement=0", channels=("t1", "t2")))
    both = np.concatenate([disc((16, 16), (8, 8), 5)] * 2)
    registrar.fix(Image(pixels=both, channels=("t1", "t2")), "fixed")
    with pytest.raises(RejectedFile, match="its channels are t1; the run expects t1, t2"):
        registrar.convert(Image(pixels=both * np.uint8([[[1]], [[0]]]), channels=("t1", "t2")), "moving", None)


@pytest.mark.parametrize("space", [(7, 6), (5, 6, 4)])
def test_places_in_parts_are_those_of_the_whole(space: tuple[int, ...], monkeypatch: pytest.MonkeyPatch,
                                                tmp_path: Path) -> None:
    rng, d = np.random.default_rng(0), len(space)
    pixels, displacement = rng.normal(size=(2, *space)), rng.normal(size=(d, *space)).astype(np.float32)
    placing = Placing(matrix=np.eye(d) + 0.1 * rng.normal(size=(d, d)), offset=rng.normal(size=d))
    image = Image(pixels=pixels[:1].astype(np.float32), spacing=(2.0,) * d)
    found = []
    for part in (10**6, 1, 2 * math.prod(space[1:])):
        monkeypatch.setattr("radsynth.verbs._applying.placing.TOGETHER", part)
        write_field(tmp_path / f"{part}.nii.gz", displacement, placing, image, image)
        found.append((sampled(pixels, placing, space, displacement),
                      read_field(tmp_path / f"{part}.nii.gz")))
    whole, *others = found
    assert whole[0].std() > 0 and whole[1].std() > 0
    assert all(np.allclose(a, b, atol=1e-6) for other in others for a, b in zip(other, whole, strict=True))


def read_field(path: Path) -> np.ndarray[Any, Any]:
    opened: Any = nibabel.load(path)
    return np.asarray(opened.dataobj)


def test_fields_of_slices_lie_in_space(tmp_path: Path) -> None:
    affine = np.array([[0.0, 0, 1, 4], [2.0, 0, 0, 5], [0, -3.0, 0, 6], [0, 0, 0, 1]])  # a sagittal slice, head up
    displacement = np.zeros((2, 5, 4), np.float32)
    displacement[0], displacement[1] = 1, 0.5  # a row down, half a column to the right
    slice_ = Image(pixels=np.zeros((1, 5, 4)), affine=affine)
    stays = Placing(matrix=np.eye(2), offset=np.zeros(2))
    for moving in (slice_, slice_.replace(affine=None)):
        write_field(tmp_path / "field.nii.gz", displacement, stays, moving, slice_)
        found: Any = nibabel.load(tmp_path / "field.nii.gz")
        assert found.shape == (4, 5, 1, 1, 3) and np.allclose(found.dataobj[0, 0, 0, 0], [0, 1, -3])


@pytest.mark.parametrize(("space", "spacing", "corner"), [
    ((12, 14, 16), (2.0, 2.0, 2.0), (3.0, -5.0, 12.0)), ((24, 28, 32), (1.0, 1.0, 1.0), (4.5, -3.5, 7.5)),
])
def test_labels_on_another_grid_are_brought_onto_that_of_their_image(
    space: tuple[int, ...], spacing: tuple[float, ...], corner: tuple[float, ...], tmp_path: Path
) -> None:
    """Of the same size and a pixel or two aside, or of pixels half as large: as their header says."""
    moving = Image(pixels=disc((12, 14, 16), (6, 6, 8), 4), spacing=(2.0, 2.0, 2.0),
                   affine=affine_of((2.0, 2.0, 2.0), (5.0, -3.0, 8.0)))
    assert moving.affine is not None
    middle = moving.affine @ [8, 6, 6, 1]  # column, row, slice
    places = np.stack(np.meshgrid(*[np.arange(side) for side in space], indexing="ij"), -1)[..., ::-1]
    far = np.linalg.norm(places * spacing[0] + corner - middle[:3], axis=-1)
    labels = Image(pixels=3 * (far < 8).astype(np.uint8)[None], spacing=spacing, affine=affine_of(spacing, corner))
    write(labels, tmp_path / "labels.nii.gz", provenance=FROM)
    record = Record(source="in/moving.nii.gz", patient="", load=lambda: moving)
    found = Beside(labels=tmp_path / "labels.nii.gz").labels_of(record, moving)
    assert found is not None and found.shape == moving.space and set(np.unique(found)) == {0, 3}
    assert ((found == 3) == (moving.pixels[0] > 100)).mean() > 0.98
    nibabel.save(nibabel.Nifti1Image(np.ones(moving.space[::-1], np.uint8), np.eye(4)), tmp_path / "labels.nii.gz")
    with pytest.raises(RejectedFile, match=r"labels\.nii\.gz .* in/moving.nii.gz .* of its labels .* begin at 0"):
        Beside(labels=tmp_path / "labels.nii.gz").labels_of(record, moving)


def test_labels_lie_in_folders_as_their_images_do(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """Visits call their files alike: each has its own labels, and those at the top are of files of one name alone."""
    run = make_run()
    for place, value in (("in/a/x.png", 0), ("in/b/x.png", 0), ("in/y.png", 0), ("labels/a/x.png", 1),
                         ("labels/b/x.png", 2), ("labels/y.nii.gz", 3)):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((1, 16, 16), value, np.uint8) if value else disc((16, 16), (8, 8), 5)
        write(Image(pixels=pixels), tmp_path / place, provenance=FROM)
    apply(run, tmp_path / "in", tmp_path / "out", onto=tmp_path / "in" / "y.png", labels=tmp_path / "labels")
    carried = {row["source"]: nibabel.load(tmp_path / "out" / row["labels"]) for row in rows(tmp_path / "out")}
    assert {source: int(np.asarray(labels.dataobj).max()) for source, labels in carried.items()} == {
        "a/x.png": 1, "b/x.png": 2, "y.png": 3}


def test_labels_on_a_fixed_image_of_two_axes_have_two(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for flat, shape in ((True, (4, 3)), (False, (4, 3, 1))):
        write_labels(tmp_path / "a.nii.gz", labels, Image(pixels=labels[None], spacing=(2.0, 2.0), flat=flat))
        assert nibabel.load(tmp_path / "a.nii.gz").shape == shape
