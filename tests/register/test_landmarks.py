"""Landmarks from files: the formats, what is refused with file and line, and what `apply` measures by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
import pytest
from scipy import stats

from radsynth.errors import DataError, FolderError, Interrupted, RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.io import read, write
from radsynth.io._landmarks import read_landmarks
from radsynth.verbs._applying.placing import Placing
from radsynth.verbs._applying.targets import Targets, in_space, indices, over_pairs, partners
from radsynth.verbs._report.landmarks import lead
from radsynth.verbs._report.words import figure, interval
from radsynth.verbs.apply import apply
from radsynth.verbs.report import report
from tests.tables import lines, rows
from tests.written import FROM, LOSSES, writings

POINTS = {"tip": (-10.0, 20.5, 3.0), "base": (4.0, -6.0, 7.25)}
"""LPS mm."""


def csv_of(points: dict[str, tuple[float, ...]], sign: str = ",") -> str:
    body = [sign.join([*map(str, point), name]) for name, point in points.items()]
    return "\n".join([sign.join(("x", "y", "z", "label")), *body]) + "\n"


def fcsv_of(points: dict[str, tuple[float, ...]], system: str) -> str:
    head = (f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
            "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n")
    return head + "".join(f"{k},{x},{y},{z},0,0,0,1,1,1,0,{name},,\n"
                          for k, (name, (x, y, z)) in enumerate(points.items()))


def markups_of(points: dict[str, tuple[float, ...]], system: str = "LPS", **more: Any) -> str:
    listed = [{"id": str(k), "label": name, "position": list(point), "positionStatus": "defined"}
              for k, (name, point) in enumerate(points.items())]
    return json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": system, "coordinateUnits": "mm",
                                    "controlPoints": listed, **more}]})


RAS = {name: (-x, -y, z) for name, (x, y, z) in POINTS.items()}


@pytest.mark.parametrize(("name", "text"), [
    ("a.csv", csv_of(POINTS)), ("a.csv", "\ufeff" + csv_of(POINTS)), ("a.csv", csv_of(POINTS, ";").replace(".", ",")),
    ("a.csv", "x,y,z,t,label,comment\n-10,20.5,3,0,tip,\n\n4,-6,7.25,0,base,\n"),
    ("a.fcsv", fcsv_of(POINTS, "LPS")), ("a.fcsv", fcsv_of(RAS, "RAS")), ("a.fcsv", fcsv_of(RAS, "0")),
    ("a.mrk.json", markups_of(POINTS)), ("a.mrk.json", markups_of(RAS, "RAS")),
])
def test_every_format_gives_the_same_points(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_landmarks(tmp_path / name)
    assert found.names == tuple(POINTS) and np.array_equal(found.points, list(POINTS.values()))


@pytest.mark.parametrize(("name", "text", "message"), [
    ("a.csv", "i,j,z\n1,2,3\n", r"a\.csv, line 1: the header has to name the columns x,y,z .* it is 'i,j,z'$"),
    ("a.csv", "10,20,30\n1,2,3\n", r"i,j,k \(voxels .* it is '10,20,30'. A file of numbers alone .* what they are$"),
    ("a.csv", "1,2,3,4,5,6\n", r"A file of numbers .*, and of six columns which are of which image: make it two files"),
    ("a.csv", "i,j,k\n1,b,3\n", r"line 2: i, j and k have to be three finite numbers, voxels; there is 1, b, 3"),
    ("a.csv", "x,y,z,space\n1,2,3,RAS\n", r"line 1: .*may have label, name, t, comment; it is 'x,y,z,space'"),
    ("a.csv", "x,y,z\n1,2,3\n1,b,3\n", r"a\.csv, line 3: x, y and z have to be three finite numbers, mm; .* 1, b, 3"),
    ("a.csv", "x,y,z\n1,2\n", r"line 2: x, y and z"), ("a.csv", "x,y,z\n1,2,nan\n", r"line 2: x, y and z"),
    ("a.csv", "x,y,z\n1,2,3,4\n", r"line 2: it has 4 columns, the header names 3"),
    ("a.csv", "x,y,z,label\n1,2,3,tip\n4,5,6,tip\n", r"line 3: 'tip' is the name of line 2, too"),
    ("a.csv", "", r"line 1: the header"), ("a.csv", "x,y,z\n", r"a\.csv holds no landmarks"),
    ("a.fcsv", "x,y,z\n1,2,3\n", r"a\.fcsv, line 1: .*CoordinateSystem = LPS"),
    ("a.fcsv", fcsv_of(POINTS, "IJK"), r"CoordinateSystem = LPS"),
    ("a.mrk.json", "{\n\n", r"a\.mrk\.json, line 3: it is no JSON"), ("a.mrk.json", "[1]", r"no 'markups'"),
    ("a.mrk.json", markups_of(POINTS, coordinateUnits="voxel"), r"LPS and voxel; LPS or RAS and mm"),
    ("a.mrk.json", markups_of(POINTS).replace("defined", "undefined"), r"point 1: x, y and z .* nothing"),
    ("a.mrk.json", markups_of(POINTS, controlPoints=["tip"]), r"point 1: it is no point"),
    ("a.mrk.json", markups_of(POINTS, type="Line"), r"holds no landmarks"),
])
def test_what_is_no_landmark_is_told_with_its_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(RejectedFile, match=message):
        read_landmarks(tmp_path / name)


def partners_of(tmp_path: Path, fixed: str, moving: str) -> list[int]:
    for name, text in (("fixed.csv", fixed), ("moving.csv", moving)):
        (tmp_path / name).write_text(text)
    return partners(read_landmarks(tmp_path / "fixed.csv"), read_landmarks(tmp_path / "moving.csv"))


def test_landmarks_belong_together_by_name_or_else_by_order(tmp_path: Path) -> None:
    a, b, c = "x,y,z,label\n1,1,1,a\n2,2,2,b\n", "x,y,z,label\n2,2,2,b\n1,1,1,a\n", "x,y,z\n1,1,1\n2,2,2\n"
    assert partners_of(tmp_path, a, b) == [1, 0] and partners_of(tmp_path, a, c) == [0, 1]
    assert partners_of(tmp_path, a, a.replace("a\n", "F-1\n").replace("b\n", "F-2\n")) == [0, 1]
    with pytest.raises(RejectedFile, match=r"fixed\.csv, line 3 \(b\): there is no landmark of this name in moving"):
        partners_of(tmp_path, a, a.replace(",b", ",B"))
    with pytest.raises(RejectedFile, match=r"moving\.csv, line 4 \(c\): there is no landmark of this name in fixed"):
        partners_of(tmp_path, a, a + "3,3,3,c\n")
    with pytest.raises(RejectedFile, match=r"moving\.csv has 3 landmarks and fixed\.csv 2"):
        partners_of(tmp_path, c, c + "3,3,3\n")


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 1, 7)])
def test_voxels_are_counted_along_the_axes_of_the_file(shape: tuple[int, ...], tmp_path: Path) -> None:
    """As nibabel has them, whichever way its axes run: (i, j, k) is where the array has its only bright voxel."""
    values = np.zeros(shape, np.uint8)
    voxel = (4, 0, 2)
    values[voxel] = 200
    affine = np.array([[0, 0, -1.5, 20], [2.0, 0, 0, -9], [0, 3.0, 0, 4], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "image.nii.gz")
    image = read(tmp_path / "image.nii.gz")
    assert isinstance(image, Image)
    (tmp_path / "a.csv").write_text("i,j,k\n4,0,2\n")
    found = read_landmarks(tmp_path / "a.csv")
    assert tuple(indices(found, image, "image")[:, 0]) == np.unravel_index(image.pixels[0].argmax(), image.space)
    assert np.allclose(in_space(found, image, "image").points, (affine @ [*voxel, 1])[:3] * (-1, -1, 1))
    with pytest.raises(RejectedFile, match=r"a\.csv has indices of voxels, and image no axes of its own"):
        in_space(found, image.replace(laid=None), "image")


OBLIQUE = np.array([[0.0, -0.6, 2.4, 5.0], [1.0, 0, 0, -30.0], [0.0, 0.8, 1.8, -4.0], [0, 0, 0, 1]])
"""1 mm columns and rows, 3 mm slices, none of them along an axis of the patient."""


@pytest.mark.parametrize("space", [(8, 20, 16), (20, 16)])
def test_distances_are_mm_between_true_and_found_places(space: tuple[int, ...], tmp_path: Path) -> None:
    """A warp by half a pixel down and 2 to the right, of a moving image that is laid 3 pixels to the right at first."""
    image = Image(pixels=np.zeros((1, *space)), affine=OBLIQUE)
    places = np.array([[4.0, 9.0, 3.0], [10.0, 5.0, 1.0]]) * (1, 1, len(space) == 3)  # column, row, slice
    moved = places + np.array([5.0, 0.5, 0])
    for name, at, off in (("fixed", places, (0, 0, 0)), ("moving", moved, (0, 2.0, 0))):
        points = (np.column_stack([at + off, np.ones(2)]) @ OBLIQUE.T)[:, :3].tolist()
        (tmp_path / f"{name}.csv").write_text(csv_of(dict(zip("ab", map(tuple, points), strict=True))))
    targets = Targets(tmp_path / "fixed.csv", image, "fixed.nii.gz")
    true = targets.of(tmp_path / "moving.csv", image, "moving.nii.gz")
    warp = np.zeros((len(space), *space), np.float32)
    warp[-2], warp[-1] = 0.5, 2.0
    placing = Placing(matrix=np.eye(len(space)), offset=np.eye(len(space))[-1] * 3)
    found = targets.measure(true, image, placing, warp)
    assert found.after == pytest.approx([2.0, 2.0], abs=1e-4)
    assert found.before == pytest.approx([np.hypot(2, 2.5)] * 2, abs=1e-4)
    assert np.allclose(found.found, (np.column_stack([moved, np.ones(2)]) @ OBLIQUE.T)[:, :3], atol=1e-4)
    found.write(tmp_path / "out" / "table.csv")
    first, _ = lines(tmp_path / "out" / "table.csv")
    assert first["landmark"] == "a" and first["error"] == "2.000"


@pytest.fixture
def pair(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    """A run that has hardly learned (each pair is improved all the same), and discs three and two pixels apart in
    in/1, in/2 and fixed.nii.gz, with landmarks in them."""
    make_run(size=(16, 16), spacing=(2.0, 2.0), format="nifti")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 10, -20, 5
    rng, grid = np.random.default_rng(0), np.mgrid[:16, :16]
    for name, column in (("in/1", 8), ("in/2", 9), ("fixed", 6)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        disc = 200 * np.clip(5.5 - np.hypot(grid[0] - 8, grid[1] - column), 0, 1) + rng.uniform(0, 3, (16, 16))
        write(Image(pixels=disc[None].astype(np.uint8), spacing=(2.0, 2.0), affine=affine),
              tmp_path / f"{name}.nii.gz", provenance=FROM)
        points = {"left": (10 + 2.0 * column, -4.0, 5.0), "right": (10 + 2.0 * column - 6, -4.0, 5.0)}
        (tmp_path / f"{name}.csv").write_text(csv_of(points))
    return tmp_path


@pytest.mark.parametrize(("lost", "how"), [("images", "deleted"), ("fields", "empty"), ("labels", "cut"),
                                           ("landmarks", "cut")])
def test_every_file_of_a_result_that_is_no_longer_whole_is_made_again(
    lost: str, how: str, pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("1", "2"):
        (pair / "labels").mkdir(exist_ok=True)
        write(Image(pixels=(cast(Image, read(pair / "in" / f"{name}.nii.gz")).pixels > 9).astype(np.uint8)),
              pair / "labels" / f"{name}.nii.gz", provenance=FROM)

    def apply_to(out: Path) -> dict[Path, bytes]:
        apply(pair / "run", pair / "in", out, onto=pair / "fixed.nii.gz", labels=pair / "labels",
              landmarks=pair / "in", onto_landmarks=pair / "fixed.csv")
        return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    whole = apply_to(pair / "whole")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr("radsynth.verbs.apply.write_table", interrupted)
        apply_to(pair / "out")
    for folder, said in ((pair / ".out.part", ""), (pair / "out", "missing or were cut: its results are made again")):
        LOSSES[how](next((folder / lost).glob("000001*")))
        assert apply_to(pair / "out") == whole
        assert said in capsys.readouterr().err
    changed = writings(pair / "out")
    assert apply_to(pair / "out") == whole and writings(pair / "out") == changed


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_apply_measures_how_far_landmarks_lie_apart(pair: Path) -> None:
    (pair / "in" / "3.csv").write_text((pair / "in" / "2.csv").read_text())
    result = apply(pair / "run", pair / "in", pair / "out", onto=pair / "fixed.nii.gz", landmarks=pair / "in",
                   onto_landmarks=pair / "fixed.csv")
    assert [one.path for one in result.rejected] == ["3.csv"], "of no image; the others are used, and not skipped"
    table = {row["source"]: row for row in rows(pair / "out")}
    before = {name: float(row["target_error_before"]) for name, row in table.items()}
    after = {name: float(row["target_error"]) for name, row in table.items()}
    assert before == pytest.approx({"1.nii.gz": 4.0, "2.nii.gz": 6.0}, abs=0.01)
    assert after["1.nii.gz"] < 3 and after["2.nii.gz"] < 4.5, "discs are registered"
    each = lines(pair / "out" / table["2.nii.gz"]["landmarks"])
    assert [one["landmark"] for one in each] == ["left", "right"]
    assert np.mean([float(one["error"]) for one in each]) == pytest.approx(after["2.nii.gz"], abs=1e-3)
    found = result.target_error
    assert found["pairs"] == 2 and found["before_mm"]["value"] == pytest.approx(5, abs=0.01)
    assert found["after_mm"]["value"] == pytest.approx(np.mean(list(after.values())), abs=0.01)
    again = apply(pair / "run", pair / "in", pair / "out", onto=pair / "fixed.nii.gz", landmarks=pair / "in",
                  onto_landmarks=pair / "fixed.csv")
    assert again.target_error == result.target_error, "the same command again says the same"
    assert result.report == again.report == pair / "out" / "report.html"
    for name, column in (("in/1", 8), ("in/2", 9), ("fixed", 6)):
        file = nibabel.load(pair / f"{name}.nii.gz")
        points = np.array([[10 + 2.0 * column - off, -4.0, 5.0, 1] for off in (0, 6)]) * (-1, -1, 1, 1)
        voxels = np.linalg.solve(file.affine, points.T)[:3].T
        (pair / f"{name}.csv").write_text("i,j,k\n" + "".join(f"{i},{j},{k}\n" for i, j, k in voxels.tolist()))
    voxels = apply(pair / "run", pair / "in", pair / "voxels", onto=pair / "fixed.nii.gz", landmarks=pair / "in",
                   onto_landmarks=pair / "fixed.csv")
    assert voxels.target_error["after_mm"]["value"] == pytest.approx(found["after_mm"]["value"], abs=0.01)
    # Landmarks that the registration takes farther apart: those of the fixed disc, set where the moving one's are.
    moving = csv_of({"left": (26.0, -4.0, 5.0), "right": (20.0, -4.0, 5.0)})
    (pair / "wrong.csv").write_text(moving)
    apply(pair / "run", pair / "in" / "1.nii.gz", pair / "worse", onto=pair / "fixed.nii.gz",
          landmarks=pair / "wrong.csv", onto_landmarks=pair / "wrong.csv")
    assert "target_error" in rows(pair / "worse")[0]["flagged"]


def test_the_mean_over_pairs_has_an_interval_over_pairs() -> None:
    """That of Student's t, which half-samples estimate; two files of a result are one pair."""
    rng = np.random.default_rng(0)
    table = [{"index": k // 2, "target_error_before": f"{before:.4g}", "target_error": f"{before - gain:.4g}"}
             for k, (before, gain) in enumerate(np.repeat(np.column_stack(
                 [rng.uniform(4, 9, 12), rng.normal(2, 0.3, 12)]), 2, axis=0))]
    found = over_pairs(table)
    before = np.array([float(row["target_error_before"]) for row in table[::2]])
    gain = before - [float(row["target_error"]) for row in table[::2]]
    assert found["pairs"] == 12
    for name, values in (("before_mm", before), ("closer_mm", gain)):
        half = stats.t.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12)
        assert found[name]["value"] == pytest.approx(values.mean())
        assert found[name]["high"] - found[name]["value"] == pytest.approx(half, rel=0.15)
        assert found[name]["low"] == pytest.approx(2 * found[name]["value"] - found[name]["high"])
    assert over_pairs(table[:2])["after_mm"] == {"value": float(table[0]["target_error"])}, "one pair has no interval"
    few = over_pairs([{"index": 0, "target_error_before": 9, "target_error": 1},
                      {"index": 1, "target_error_before": 1, "target_error": 5}])
    assert few["after_mm"]["low"] == 0 > few["closer_mm"]["low"], "no distance is below 0; a pair may get worse"
    assert over_pairs([{"index": 0, "similarity": 1}]) == {}


def test_the_page_says_from_which_disagreement_on_an_image_is_flagged(pair: Path) -> None:
    given = {"onto": pair / "fixed.nii.gz", "landmarks": pair / "in", "onto_landmarks": pair / "fixed.csv"}
    (pair / "run" / "results.json").write_text(json.dumps({"limits": {"disagreement": 0.01},
                                                           "limits_from_patients": 30}))
    result = apply(pair / "run", pair / "in", pair / "out", **given)
    assert result.report is not None and result.flagged == 2
    text = result.report.read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "flagged: disagreement" in text and "by more than 0.010 %: 100 % less the correlation" in text
    assert "By chance this flags at most one usual image in 20." in text
    result.report.unlink()
    assert report(pair / "out").read_text(encoding="utf-8").replace("\u00a0", " ") == text
    (pair / "run" / "results.json").unlink()
    unknown = apply(pair / "run", pair / "in", pair / "unknown", **given)
    assert unknown.report is not None and "flagged for disagreement" not in unknown.report.read_text(encoding="utf-8")


def test_a_page_shows_every_image_before_and_after_and_the_means(pair: Path) -> None:
    (pair / "in" / "1.csv").write_text((pair / "in" / "1.csv").read_text().replace("left", "<b>left"))
    (pair / "fixed.csv").write_text((pair / "fixed.csv").read_text().replace("left", "<b>left"))
    (pair / "in" / "2.csv").write_text((pair / "in" / "2.csv").read_text().replace("left", "<b>left"))
    given = {"onto": pair / "fixed.nii.gz", "landmarks": pair / "in", "onto_landmarks": pair / "fixed.csv"}
    result = apply(pair / "run", pair / "in", pair / "out", **given)
    assert result.report is not None
    page = result.report.read_text(encoding="utf-8").replace("\u00a0", " ")
    mean = result.target_error["after_mm"]
    assert "How far off are 2 images put onto fixed.nii.gz?" in page and "1.nii.gz" in page and "2.nii.gz" in page
    assert "4.00 mm" in page and "6.00 mm" in page, "before"
    assert figure(mean["value"], "mm").replace("\u00a0", " ") in page, "the mean after"
    assert interval(mean["low"], mean["high"], "mm").replace("\u00a0", " ") in page
    assert "&lt;b&gt;left" in page and "<b>left" not in page
    one = apply(pair / "run", pair / "in" / "1.nii.gz", pair / "one", **given | {"landmarks": pair / "in" / "1.csv"})
    assert one.report is not None and "A single pair has no interval" in one.report.read_text()
    bare = apply(pair / "run", pair / "in", pair / "bare", onto=pair / "fixed.nii.gz")
    assert bare.report is None and not (pair / "bare" / "report.html").exists()
    result.report.unlink()
    assert report(pair / "out") == result.report and result.report.read_text(encoding="utf-8").replace(
        "\u00a0", " ") == page, "from the folder alone"
    with pytest.raises(FolderError, match=r"bare holds results of 'radsynth apply' without landmarks"):
        report(pair / "bare")
    table = pair / "out" / "samples.csv"
    for damage in ("", table.read_text().replace("landmarks/000001.csv", "landmarks/7.csv")):
        table.write_text(damage)
        with pytest.raises(FolderError, match=r"out cannot be read or is damaged.*Apply the run again"):
            report(pair / "out")


@pytest.mark.parametrize(("low", "high", "tone", "words"), [
    (0.5, 3.0, "good", "2.00 mm closer, which is more than chance"), (-1, 5, "note", "which may be chance"),
    (-3, -1, "warning", "2.00 mm farther apart, which is more than chance")])
def test_the_page_says_closer_only_where_the_interval_does(low: float, high: float, tone: str, words: str) -> None:
    told = {"before_mm": {"value": 6.0}, "after_mm": {"value": 4.0},
            "closer_mm": {"value": -2.0 if high < 0 else 2.0, "low": low, "high": high}}
    found = lead(told)
    assert found["tone"] == tone and words in found["text"].replace("\u00a0", " ")


def test_landmarks_of_one_image_that_are_wrong_leave_the_others(pair: Path) -> None:
    (pair / "in" / "2.csv").write_text("x,y,z,label\n28,-4,5,left\n22,-400,5,right\n")
    given = {"onto": pair / "fixed.nii.gz", "landmarks": pair / "in", "onto_landmarks": pair / "fixed.csv"}
    result = apply(pair / "run", pair / "in", pair / "out", **given)
    assert result.count == 1 and [one.path for one in result.rejected] == ["2.nii.gz"], "once, with the reason"
    assert next(one.reason for one in result.rejected if not one.skipped) == (
        "2.csv, line 3 (right): the point (22.0, -400.0, 5.0) lies outside of 2.nii.gz, which reaches over "
        "x 9.0 to 41.0, y -21.0 to 11.0, z 4.0 to 6.0 (mm towards left, back and head)")
    (pair / "in" / "2.csv").unlink()
    result = apply(pair / "run", pair / "in", pair / "fewer", **given)
    assert "there is no file 2.mrk.json or 2.fcsv or 2.csv" in str([one.reason for one in result.rejected])
    with pytest.raises(DataError, match=r"landmarks of fixed\.nii\.gz in .*in/1\.fcsv cannot be used: 1\.fcsv"):
        (pair / "in" / "1.fcsv").write_text("nothing")
        apply(pair / "run", pair / "in", pair / "no", **{**given, "onto_landmarks": pair / "in" / "1.fcsv"})


def test_landmarks_need_both_sides_and_a_place_in_space(pair: Path) -> None:
    with pytest.raises(SettingsError, match=r"both sides are needed: --landmarks of INPUT and --onto-landmarks"):
        apply(pair / "run", pair / "in", pair / "no", onto=pair / "fixed.nii.gz", landmarks=pair / "in")
    with pytest.raises(DataError, match=r"nowhere, given as --onto-landmarks, does not exist"):
        apply(pair / "run", pair / "in", pair / "no", onto=pair / "fixed.nii.gz", landmarks=pair / "in",
              onto_landmarks=pair / "nowhere")
    with pytest.raises(SettingsError, match=r"fixed\.csv is one file, and there are 2 images"):
        apply(pair / "run", pair / "in", pair / "no", onto=pair / "fixed.nii.gz", landmarks=pair / "fixed.csv",
              onto_landmarks=pair / "fixed.csv")
    write(Image(pixels=np.arange(256, dtype=np.uint8).reshape(1, 16, 16)), pair / "fixed.png", provenance=FROM)
    with pytest.raises(DataError, match=r"fixed\.png does not say where in space it lies"):
        apply(pair / "run", pair / "in", pair / "no", onto=pair / "fixed.png", landmarks=pair / "in",
              onto_landmarks=pair / "fixed.csv")
